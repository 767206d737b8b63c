"""Limits of live tokens in child processes, which can be changed while the tokens run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import attrs

from actors import Limits, Token
from actors.lowlevel import UNITS, process_drain
from tokengate.control._exceptions import BadRequest
from tokengate.control._safe_text import value_in_words
from tokengate.control._units import bytes_in, in_bytes, in_seconds, seconds_in
from tokengate.control.messages import KEEP, NO_LIMIT, Limit, Outcome
from tokengate.control.steering._outcomes import ended, outcome

_MOST: Final = 2**62  # bytes or seconds; the most that the system accepts


def changes_of(message: Limit) -> dict[str, float | None]:
    """Return {name of a limit: its new value}, None for no limit.

    Raises:
        BadRequest: no limit is given, or one has a value that cannot work.
    """
    changes: dict[str, float | None] = {}
    for name in UNITS:
        value = getattr(message, name)
        if value != KEEP:
            changes[name] = limit_in(name, value)
    if not changes:
        raise BadRequest(f"limit needs a limit to set: {', '.join(UNITS)}")
    return changes


def limit_in(name: str, value: float | str) -> float | None:
    """Parse the value of a limit, a number or text; None is no limit.

    Raises:
        BadRequest: the value cannot work; the message says which ones can.
    """
    return amount_in(name, value, UNITS[name], "no limit")


def amount_in(name: str, value: float | str, unit: str, none: str) -> float | None:
    """Parse a number of seconds or bytes, or text.

    Args:
        name: of the argument.
        value: the number, or the text.
        unit: `seconds` or `bytes`.
        none: what None stands for.

    Raises:
        BadRequest: the value cannot work; the message says which ones can.
    """
    in_size = unit == "bytes"
    if isinstance(value, str) and value.strip().lower() == NO_LIMIT:
        return None
    try:
        number = (bytes_in(value) if in_size else seconds_in(value)) if isinstance(value, str) else value
    except ValueError as error:
        raise BadRequest(f"{name}: {error}, or '{NO_LIMIT}' for {none}") from None
    if not 0 < number <= _MOST or (in_size and number != int(number)):
        kind = "a whole number of bytes" if in_size else "a number of seconds"
        raise BadRequest(f"{name} is {value_in_words(value)}; it must be {kind} above 0, or '{NO_LIMIT}' for {none}")
    return int(number) if in_size else number


def lowers(token: Token[Any], changes: Mapping[str, float | None]) -> bool:
    """Tell whether new limits are lower than those of a token, so that they may end it."""
    drain = process_drain(token)
    if drain is None:
        return False
    before = drain.limits_of(token)
    return _is_lower(attrs.evolve(before, **changes), before)  # type: ignore[arg-type]


def limit(token: Token[Any], changes: Mapping[str, float | None]) -> Outcome:
    """Change limits of a token that has not ended.

    Args:
        token: the token.
        changes: {name of a limit: its new value}, None for no limit.
    """
    drain = process_drain(token)
    if drain is None:
        return outcome(
            token, "refused", f"its affinity is {token.affinity}, and only tokens in child processes have limits"
        )
    before = drain.limits_of(token)
    after = attrs.evolve(before, **changes)  # type: ignore[arg-type]
    if after == before:
        return outcome(token, "unchanged", "it has these limits already")
    try:
        drain.set_limits(token, after)
    except OSError as error:
        return outcome(token, "refused", f"the system does not allow it: {error.strerror}")
    if token.done():
        return ended(token)
    return outcome(token, "limited", "; ".join(_change(name, before, after) for name in UNITS if name in changes))


def _is_lower(after: Limits, before: Limits) -> bool:
    return any(_least(after, name) < _least(before, name) for name in UNITS)


def _least(limits: Limits, name: str) -> float:
    value: float | None = getattr(limits, name)
    return math.inf if value is None else value


def _change(name: str, before: Limits, after: Limits) -> str:
    old, new = (in_words(name, getattr(limits, name)) for limits in (before, after))
    return f"{name} {new}" + (", as before" if old == new else f", was {old}")


def in_words(name: str, value: float | None) -> str:
    """Return the value of a limit as text."""
    if value is None:
        return "no limit"
    return in_bytes(value) if UNITS[name] == "bytes" else in_seconds(value)
