"""Answers as JSON of at most 20 KB, in which text of programs is data and shows all of its characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from tokengate.control._safe_text import printable

MOST: Final = 20_000
"""Bytes of an answer, at most."""

_ROOM: Final = MOST - 500  # for rows; the rest is for what stands beside them
_ITEMS: Final = (1_000, 300, 100, 30, 10, 3, 1)  # of a list in an answer: as many as there is room for


def visible(text: str) -> str:
    """Return a text with escapes for characters that are not shown, but for line ends."""
    return printable(text, "\n\t")


def builtins_of(answer: object) -> Any:
    """Return what JSON is made of, for an answer of a gate."""
    return msgspec.to_builtins(answer, str_keys=True, enc_hook=str)


def said(value: object, room: int = MOST) -> str:
    """Return a value as JSON of at most `room` bytes: without what is empty, and with counts of what is left out."""
    for items in _ITEMS:
        text = msgspec.json.encode(_cut(value, items)).decode()
        if len(text.encode()) <= room:
            return text
    return msgspec.json.encode({"left_out": f"this has more than {room} bytes; ask for less"}).decode()


def _cut(value: Any, items: int) -> Any:
    """Return a value with so many items in each list, and texts in proportion."""
    if isinstance(value, str):
        text, length = visible(value), 20 * items + 100
        return text if len(text) <= length else f"{text[:length]} ... {len(text) - length} more characters"
    if isinstance(value, dict):
        shown = [(key, one) for key, one in value.items() if one is not None and one not in ("", [], {}, ())]
        found = {_cut(key, items): _cut(one, items) for key, one in shown[:items]}
        return found if len(shown) <= items else {**found, "...": f"{len(shown) - items} more"}
    if isinstance(value, (list, tuple)):
        made = [_cut(one, items) for one in value[:items]]
        return made if len(value) <= items else [*made, f"... {len(value) - items} more"]
    return round(value, 6) if isinstance(value, float) else value


def page(rows: Sequence[object], offset: int, matching: int) -> str:
    """Return rows of a list, as many as there is room for, and the offset of the next ones.

    Args:
        rows: the first of them is row `offset` of the list.
        offset: rows before them.
        matching: rows of the whole list.
    """
    shown = _fitting(rows)
    end = offset + len(shown)
    more = f',"next_offset":{end}' if end < matching and shown else ""
    return f'{{"rows":[{",".join(shown)}],"offset":{offset},"matching":{matching}{more}}}'


def newest(rows: Sequence[object]) -> str:
    """Return rows that have no offset, the newest last; if there is no room for all, the newest ones."""
    shown = _fitting(rows[::-1])[::-1]
    older = len(rows) - len(shown)
    more = f',"older_left_out":{older},"hint":"a narrower select, or until, shows them"' if older else ""
    return f'{{"rows":[{",".join(shown)}]{more}}}'


def _fitting(rows: Sequence[object]) -> list[str]:
    shown: list[str] = []
    left = _ROOM
    for row in rows:
        text = said(row, _ROOM)
        left -= len(text.encode()) + 1
        if left < 0:
            break
        shown.append(text)
    return shown
