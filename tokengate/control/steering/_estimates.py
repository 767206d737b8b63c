"""Estimates of operators: what a token will need at most, set for a token in the place of what is predicted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from actors import Token
from actors.lowlevel import DurableToken, Predictor
from tokengate.control._exceptions import BadRequest
from tokengate.control._units import in_bytes, in_seconds
from tokengate.control.messages import KEEP, Estimate, Outcome
from tokengate.control.steering._limits import amount_in
from tokengate.control.steering._outcomes import outcome

_UNITS: Final = {"run": "seconds", "memory": "bytes"}


def changes_of(message: Estimate) -> dict[str, float | None]:
    """Return {`run` or `memory`: its new value in seconds or bytes}, None for what is predicted.

    Raises:
        BadRequest: neither is given, or one has a value that cannot work.
    """
    given = {name: value for name in _UNITS if (value := getattr(message, name)) != KEEP}
    if not given:
        raise BadRequest("estimate needs run, memory or both, such as run=10m memory=2GiB; none undoes one")
    return {name: amount_in(name, value, _UNITS[name], "what is predicted") for name, value in given.items()}


def estimate(predictor: Predictor, token: Token[Any], *, changes: Mapping[str, float | None]) -> Outcome:
    """Set the p95 of a token that has not ended, until its end.

    Args:
        predictor: of the gate.
        token: the token.
        changes: see `changes_of`.
    """
    before = predictor.estimate(token, changes)
    if not before:
        return outcome(token, "unchanged", "it has this estimate already")
    if isinstance(token, DurableToken) and token.record is not None and token.record.is_on_disk:
        token.record.keep(token)
    return outcome(token, "estimated", "; ".join(_change(name, before[name], changes[name]) for name in before))


def _change(name: str, before: float | None, after: float | None) -> str:
    old, new = (_in_words(name, value) for value in (before, after))
    return f"{name} {new}, was {old}"


def _in_words(name: str, value: float | None) -> str:
    if value is None:
        return "as predicted"
    return in_bytes(value) if _UNITS[name] == "bytes" else in_seconds(value)
