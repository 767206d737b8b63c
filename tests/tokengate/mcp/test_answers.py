"""Answers: bounded, and with nothing hidden in them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import patient
from tiers import in_ci

from tokengate.mcp._answers import MOST, newest, page, said, visible

texts = st.text(max_size=3_000)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(texts, inner, max_size=30),
    max_leaves=60,
)


@in_ci
@patient
@given(values)
def test_an_answer_has_a_maximum_size_and_is_json(value: Any) -> None:
    """Whatever is in it."""
    text = said([value] * 40)

    assert len(text.encode()) <= MOST
    json.loads(text)


@patient
@given(texts)
def test_no_character_that_is_not_shown_gets_through(text: str) -> None:
    """But for ends of lines and tabs, which JSON escapes."""
    assert all(one.isprintable() or one in "\n\t" for one in visible(text))
    assert visible(text) == text or not text.isprintable()


@pytest.mark.parametrize("hidden", ["\x1b[31m", "\u202e", "\u200b", "\U000e0041", "\ud800", "\x00", "\u2028"])
def test_hidden_characters_are_shown_as_escapes(hidden: str) -> None:
    """Colours of terminals, directions, spaces without width, tags, lone surrogates."""
    text = said({f"k{hidden}": f"v{hidden}"})

    assert hidden[0] not in text
    assert json.loads(text) == {f"k{ascii(hidden)[1:-1]}": f"v{ascii(hidden)[1:-1]}"}


def test_what_is_left_out_is_counted() -> None:
    """Items, characters, fields."""
    found = json.loads(said({"items": ["x" * 90] * 2_000, "text": "y" * 60_000, "none": None}))

    kept = len(found["items"]) - 1
    assert found["items"][-1] == f"... {2_000 - kept} more"
    shown, _, more = found["text"].partition(" ... ")
    assert more == f"{60_000 - len(shown)} more characters"
    assert "none" not in found


@patient
@given(st.lists(st.integers(0, 3_000), max_size=60), st.integers(1, 60))
def test_pages_have_each_row_once(sizes: list[int], limit: int) -> None:
    """Whoever follows `next_offset` sees all rows, in their order."""
    rows = [{"n": number, "text": "é" * size} for number, size in enumerate(sizes)]

    seen, offset = [], 0
    while offset is not None:
        text = page(rows[offset : offset + limit], offset, len(rows))
        found = json.loads(text)
        assert len(text.encode()) <= MOST
        assert (found["offset"], found["matching"]) == (offset, len(rows))
        seen += [row["n"] for row in found["rows"]]
        offset = found.get("next_offset")

    assert [*range(len(rows))] == seen


def test_of_rows_without_an_offset_the_newest_are_kept() -> None:
    """And how many older ones are left out is said."""
    found = json.loads(newest([{"n": number, "text": "x" * 900} for number in range(100)]))

    kept = [row["n"] for row in found["rows"]]
    assert [*range(100 - len(kept), 100)] == kept
    assert 100 - len(kept) == found["older_left_out"] > 0
