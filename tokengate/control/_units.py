"""Sizes and times as text, such as `2GiB`, `500 MB` and `5m`: parse and format them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

_SIZES: Final[Mapping[str, int]] = {
    "": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "KB": 10**3, "MB": 10**6, "GB": 10**9,
    "TB": 10**12,
}  # fmt: skip
_SECONDS: Final[Mapping[str, Decimal]] = {
    "": Decimal(1), "ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600),
    "d": Decimal(86400),
}  # fmt: skip

_AMOUNT: Final = re.compile(r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([A-Za-z]*)\s*")


def bytes_in(text: str) -> int:
    """Parse a size, in bytes.

    Raises:
        ValueError: the text is not a size; the message has examples.
    """
    units = {unit.lower(): Decimal(size) for unit, size in _SIZES.items()}
    return round(_amount(text, units, "a size; write 2GiB, 500MB"))


def seconds_in(text: str) -> float:
    """Parse a time, in seconds.

    Raises:
        ValueError: the text is not a time; the message has examples.
    """
    return float(_amount(text, _SECONDS, "a time; write 30, 30s, 5m or 1h"))


def _amount(text: str, units: Mapping[str, Decimal], wanted: str) -> Decimal:
    found = _AMOUNT.fullmatch(text)
    unit = None if found is None else units.get(found[2].lower())
    if found is None or unit is None:
        raise ValueError(f"{text[:40]!r} is not {wanted}")
    return Decimal(found[1]) * unit


def in_bytes(size: float) -> str:
    """Return a size as text, exactly, in the largest unit in which it is short."""
    for unit in ("TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB", "KB"):
        tenths, rest = divmod(int(size) * 10, _SIZES[unit])
        if not rest and 10 <= tenths < 100_000:
            return f"{tenths / 10:g} {unit}"
    return f"{int(size)} B"


def in_seconds(seconds: float) -> str:
    """Return a time as text."""
    return f"{seconds:.15g} s"
