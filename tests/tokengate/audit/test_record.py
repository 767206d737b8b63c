"""An entry becomes one line of JSON, whatever is in it."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

import pytest
from audit_logs import CLIENT, intent

from tokengate.audit._record import MAX_LINE, Entry, encode, ranges


def encoded(entry: Entry) -> dict[str, Any]:
    text = encode(entry, 1.5, 2.5)
    assert text.isascii()
    assert len(text) <= MAX_LINE
    assert not any(byte < 0x20 or byte == 0x7F for byte in text)
    found: dict[str, Any] = json.loads(text)
    return found


def test_what_is_empty_or_none_is_left_out() -> None:
    """Zero is neither."""
    assert encoded(Entry(kind="opened")) == {"at": 1.5, "mono": 2.5, "kind": "opened"}
    assert encoded(Entry(kind="applied", proposal=0))["proposal"] == 0


def test_a_caller_is_four_fields() -> None:
    """Principal, owner, way in, and pid of the client."""
    found = encoded(intent(7))

    assert [found[name] for name in ("principal", "owner", "via", "peer")] == ["uid:1000", 1000, "socket", 4711]
    assert found["targets"] == {"count": 1, "ids": "7"}


@pytest.mark.parametrize(
    "reason",
    [
        "a\nb\r\n",
        "\x1b[2J\x07\x7f\x9b",
        "\x7f",
        "\ud800 alone",
        "\u2028\u202e",
        "caf\u00e9 \U0001f525",
        '"},"mac":"',
        "\x00",
    ],
)
def test_a_reason_has_no_line_break_and_no_control_in_the_line_and_is_read_back_the_same(reason: str) -> None:
    """Case 18: newlines, escapes, surrogates, direction marks, quotes."""
    assert encoded(intent(reason=reason))["reason"] == reason


def test_a_reason_of_ten_megabytes_is_cut() -> None:
    """Case 18; the line says how long it was."""
    reason = encoded(intent(reason="\U0001f525" * 10_000_000))["reason"]

    assert reason == "\U0001f525" * 500 + "... (10000000 characters)"


def test_ten_thousand_targets_are_ranges_in_a_line_of_64_kib() -> None:
    """The count and the digest are those of all ids; of what is too long, the first parts are there."""
    ids = random.sample(range(1_000_000), 10_000)
    words = {str(one): "\U0001f525" * 500 for one in range(10_000)}

    found = encoded(intent(targets=ids, before=words, after=words, exceptions=words, selector="s" * 10**6))

    assert found["targets"]["count"] == 10_000
    assert found["targets"]["digest"] == hashlib.sha256(",".join(map(str, sorted(ids))).encode()).hexdigest()
    assert found["cut"] == len(found["before"]) == 0
    assert encoded(intent(targets=range(1, 10_001)))["targets"]["ids"] == "1-10000"


def test_before_after_and_exceptions_are_those_of_the_first_thousand() -> None:
    """If they are short."""
    found = encoded(intent(exceptions={str(one): "ended" for one in range(2_000)}))

    assert list(found["exceptions"]) == [str(one) for one in range(1_000)]


class Hostile(str):
    """A text that runs code when it is looked at."""

    def __len__(self) -> int:
        raise AssertionError("user code ran")

    __getitem__ = __str__ = __eq__ = __hash__ = __len__  # type: ignore[assignment]


def test_objects_of_other_classes_are_named_and_their_code_does_not_run() -> None:
    """Nor are there numbers that JSON cannot have."""
    args = {"a": object(), "b": float("nan"), "c": 2**70, "d": [Hostile("x")], "e": [[[[[1]]]]], 5: None}

    found = encoded(intent(args=args))["args"]

    assert found == {
        "a": "<object>", "b": "nan", "c": str(2**70), "d": ["<Hostile>"], "e": [[["[[1]]"]]], "5": None,
    }  # fmt: skip


def test_numbers_are_ranges() -> None:
    """Single ones are not."""
    assert ranges([1, 2, 3, 7, 9, 10]) == ["1-3", "7", "9-10"]
    assert ranges([]) == []


def test_a_record_has_about_600_bytes() -> None:
    """With its seq, prev and mac, which are 170."""
    assert len(encode(Entry(kind="intent", caller=CLIENT, verb="terminate", targets=range(3)), 1.8e9, 1e6)) < 430
