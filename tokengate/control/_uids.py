"""Uids of durable tokens, and the numbers that stand for them: the run of the journal, and an id in the 40 low bits."""

from __future__ import annotations

import re
from typing import Final

LARGEST: Final = (1 << 63) - 1
"""The largest number of a uid, which is that of an integer in SQLite."""

_ID: Final = (1 << 40) - 1
_UID: Final = re.compile(r"([1-9][0-9]{0,6})\.([0-9]{1,13})")


def uid_of(run: int, id: int) -> int:
    """Return the number of the uid of a token that a run of the journal has made."""
    return run << 40 | id


def parts_of(number: int) -> tuple[int, int]:
    """Return the run of a number, and the id there; the run of a mere id is 0."""
    return number >> 40, number & _ID


def is_uid(number: int) -> bool:
    """Tell whether a number is that of a uid, and no mere id, which is smaller."""
    return _ID < number <= LARGEST


def text_of(number: int) -> str:
    """Return a uid as text, such as `17.4242`."""
    run, id = parts_of(number)
    return f"{run}.{id}"


def uid_in(text: str) -> int | None:
    """Return the number of the uid that a text is; None: it is none."""
    found = _UID.fullmatch(text)
    if found is None or is_uid(int(found[2])):
        return None
    number = uid_of(int(found[1]), int(found[2]))
    return number if is_uid(number) else None


def number_of(uid: str) -> int:
    """Return the number of a uid.

    Raises:
        ValueError: it is none.
    """
    number = uid_in(uid)
    if number is None:
        raise ValueError(f"uid is {uid!r}; it must be a run and an id, such as '17.4242'")
    return number
