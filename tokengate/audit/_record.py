"""What is recorded, and its JSON: ASCII, without line breaks and controls, at most 64 KiB."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final, Protocol

import attrs
import msgspec

from tokengate.control._safe_text import name_in_words, value_in_words

MAX_LINE: Final = 64 * 1024  # bytes of a line, with its seq, prev and mac
_ROOM: Final = MAX_LINE - 512  # what is left by these
_MAX_TEXT: Final = 500  # characters of one text
_MAX_DEPTH: Final = 4  # of containers in each other
_MOST: Final = (1_000, 100, 10, 0)  # items of a container: the first of these with which the line is short enough


class Caller(Protocol):
    """The caller of a verb, as its way in knows it."""

    @property
    def principal(self) -> str: ...
    @property
    def owner(self) -> int | None: ...
    @property
    def via(self) -> str: ...
    @property
    def peer(self) -> int | None: ...


def _copied(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return dict(values)


@attrs.frozen(kw_only=True)
class Entry:
    """What is recorded; what is None or empty is left out. It must not change until it is on disk.

    The log's own kinds are `opened`, `closed`, `caught_up` (what was written when the last process was killed),
    `tampered`, `retired` (segments that are too old), `unavailable`.

    Attributes:
        request: id of the request, unique in the gate.
        args: arguments of the verb; never values of arguments of tokens.
        targets: ids of tokens.
        of: of an outcome, the seq of its intent.
        before: {id or name: what it was}; `after` alike.
        outcome: {word: how many}.
        exceptions: {id: its word}, of those that ended otherwise than most.
    """

    kind: str
    request: str = ""
    caller: Caller | None = None
    verb: str = ""
    of: int | None = None
    args: Mapping[str, Any] = attrs.field(factory=dict, converter=_copied)
    selector: str = ""
    targets: Sequence[int] = ()
    paths: tuple[str, ...] = ()
    reason: str = ""
    proposal: int | None = None
    break_glass: str = ""
    before: Mapping[str, Any] = attrs.field(factory=dict, converter=_copied)
    after: Mapping[str, Any] = attrs.field(factory=dict, converter=_copied)
    outcome: Mapping[str, Any] = attrs.field(factory=dict, converter=_copied)
    exceptions: Mapping[str, Any] = attrs.field(factory=dict, converter=_copied)


def encode(entry: Entry, at: float, mono: float) -> bytes:
    """Return the JSON object of an entry. Texts and containers that are too long are cut, and `cut` says to what.

    Args:
        entry: what is recorded.
        at: when, in seconds since 1970.
        mono: when, in seconds of the monotonic clock.
    """
    text = b""
    for most in _MOST:
        fields: dict[str, object] = {"at": round(at, 6), "mono": round(mono, 6), "kind": entry.kind}
        for name in _OF_CALLER if entry.caller is not None else ():
            if (value := getattr(entry.caller, name)) is not None:
                fields[name] = value
        for name in _NAMES:
            if (value := getattr(entry, name)) or value == 0:
                fields[name] = _safe(value, most)
        if entry.targets:
            fields["targets"] = _targets(sorted(entry.targets), most)
        if most < _MOST[0]:
            fields["cut"] = most
        text = _json(fields)
        if len(text) <= _ROOM:
            break
    return text


def ranges(numbers: Sequence[int]) -> list[str]:
    """Return sorted numbers as ranges: `["1-3", "7"]`."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return [f"{first}-{last}" if first < last else str(first) for first, last in found]


def _targets(ids: Sequence[int], most: int) -> dict[str, object]:
    found: dict[str, object] = {"count": len(ids), "ids": ",".join(ranges(ids)[:most])}
    if len(ids) > 1:
        found["digest"] = hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()
    return found


def _safe(value: Any, most: int, depth: int = _MAX_DEPTH) -> object:
    """Return a value as JSON can have it; of an object of another class, only the name of that."""
    kind = type(value)
    if kind is str:
        return value if len(value) <= _MAX_TEXT else f"{value[:_MAX_TEXT]}... ({len(value)} characters)"
    if value is None or kind is bool or (kind is int and value.bit_length() < 64):
        return value
    if kind is float and math.isfinite(value):
        return value
    if depth and kind is dict:
        items = islice(value.items(), most)
        return {str(_safe(name_in_words(key), most)): _safe(one, most, depth - 1) for key, one in items}
    if depth and kind in (list, tuple):
        return [_safe(one, most, depth - 1) for one in islice(value, most)]
    return value_in_words(value)


def _json(fields: Mapping[str, object]) -> bytes:
    try:
        text = msgspec.json.encode(fields)
        if text.isascii() and b"\x7f" not in text:
            return text
    except UnicodeEncodeError:  # a surrogate
        pass
    return json.dumps(fields, separators=(",", ":")).replace("\x7f", "\\u007f").encode()


_OF_CALLER: Final = ("principal", "owner", "via", "peer")
_NAMES: Final = tuple(field.name for field in attrs.fields(Entry) if field.name not in ("kind", "caller", "targets"))
