"""What tokens and places are held to: rows, and what holds a token back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import FunctionType
from typing import Any, Final

from actors import Token
from actors.lowlevel import Place, Rule, place_of, system_of
from tokengate.control import messages as m
from tokengate.control._admission import Admission, restricted
from tokengate.control._safe_text import class_name, plain
from tokengate.policy._consent import WaitingCall
from tokengate.policy._file import NONE, TIMES
from tokengate.policy._flags import Flag
from tokengate.policy._governed import Governed
from tokengate.policy._governor import PlaceGovernor
from tokengate.policy._rules import BudgetRule, ThrottleRule
from tokengate.policy._sources import CODE, values_of

_OF_TOKENS: Final = ("queue_timeout", "timeout", "deadline")  # a token has those of when it was made


def held_by(token: Token[Any], held: str, now: float) -> tuple[str, float | None]:
    """Return what holds a token, as text, and the seconds until that ends, if they are known.

    Args:
        token: the token.
        held: how it is held; one of `HELD`, or empty.
        now: seconds of the system's clock.
    """
    policy, run = token._extras.policy, token._run
    here = restricted()
    if held == "joined" and run is not None:
        if here is not None and not here.sees(run):
            return "", None
        return f"token {run.id}, which runs for it", None
    call = None if policy is None else policy.call
    if held == "consent" and isinstance(call, WaitingCall):
        return "" if call.number is None else f"proposal {call.number}", None
    if held == "delayed" and token.due_at is not None:
        retry = policy._rules.retry if isinstance(policy, Governed) else None
        most = "" if retry is None else f" of {retry.attempts}"
        return f"attempt {token.attempt}{most}", max(0.0, token.due_at - now)
    if held != "throttled":
        return "", None
    found = system_of(place_of(token)).throttles.keeper(token, now)
    if found is None:
        return "", None
    rule, due = found
    if due <= now:
        return "its turn", None
    return _words(token, rule, now, here), None if due == math.inf else due - now


def _words(token: Token[Any], rule: Rule, now: float, here: Admission | None) -> str:
    """Return what a rule limits: `operation charge: concurrency 5 of tenant 'acme'`."""
    where = f"operation {plain(token.operation)}"
    throttle = _selector_of(token, rule, now) if isinstance(rule, ThrottleRule) else ""
    seen = here is None or (here.covers(throttle) if throttle else here.sees_place(place_of(token)))
    if not seen:
        return "a limit that is for others, too"
    if isinstance(rule, ThrottleRule):
        where = f"throttle {throttle}" if throttle else where
        own, state = rule.state.throttle, rule.state
        limits = [] if own.rate is None else [f"rate {_per_time(own.rate)}"]
        if state.limit < math.inf:
            limits.append(f"concurrency {state.limit:g}")
        return f"{where}: {', '.join(limits)}{_of(own.key, rule.key)}"
    if isinstance(rule, BudgetRule):
        budget = rule.state.budget
        return f"{where}: budget {budget.name} of {budget.limit:g}{_of(budget.key, rule.state._key)}"
    return where


def _selector_of(token: Token[Any], rule: ThrottleRule, now: float) -> str:
    """Return the selector of the throttle that a rule is of; empty if it is of the policy."""
    governor = place_of(token).governor
    if not isinstance(governor, PlaceGovernor):
        return ""
    with governor.lock:
        shared = governor.shared_for(token)
        return next((one.name for one in shared if one.rule_of(token, governor, now) is rule), "")


def _per_time(rate: float) -> str:
    """Return a rate as text: `5/m`."""
    unit, seconds = ("s", 1) if rate >= 1 else ("m", 60) if rate * 60 >= 1 else ("h", 3_600)
    return f"{rate * seconds:g}/{unit}"


def _of(name: object, key: str | int | None) -> str:
    """Return whose limit it is, as text."""
    if key is None:
        return ""
    return f" of {name if isinstance(name, str) else 'key'} {key!r}"


def attempts_of(token: Token[Any]) -> Iterable[str]:
    """Yield the attempts of a token that have ended, as text."""
    for attempt in token.attempts:
        error = attempt.error
        how = "completed" if error is None else class_name(type(error))
        ran = "" if attempt.started_at is None else f" after {attempt.ended_at - attempt.started_at:.3g} s"
        yield f"{attempt.number}: {how}{ran}"


def held_to(token: Token[Any]) -> Iterable[tuple[str, str]]:
    """Yield the fields of the policy of a token, with their values, and the sources that are not the code."""
    policy = token._extras.policy
    if isinstance(policy, Governed):
        settings = policy.governor.settings
        for name, value, source in values_of(policy._rules, settings):
            shown = _shown(name, getattr(policy.policy, name) if name in _OF_TOKENS else value)
            yield name, shown if source == CODE else f"{shown} ({source})"


def rows_of(governor: object) -> Iterable[m.PolicyRow]:
    """Yield a row for each value that a place is held to."""
    if isinstance(governor, PlaceGovernor):
        for field, value, source in values_of(governor.policy, governor.settings):
            yield m.PolicyRow(governor.name, field, _shown(field, value), source)


def _shown(field: str, value: Any) -> str:
    """Return a value of a policy as `policy set` takes it, without running user code."""
    seconds = type(value) in (int, float) and value < math.inf and TIMES.fullmatch(field.rpartition(".")[2])
    return f"{value:g}s" if seconds else _text(value)


def _text(value: Any) -> str:
    kind = type(value)
    if value is None:
        return NONE
    if kind is tuple:
        return ", ".join(map(_text, value))
    if issubclass(kind, Mapping):
        return "; ".join(f"{plain(name)}: {_text(one)}" for name, one in value.items())
    if kind is float:
        return f"{value:g}"
    if kind is int or kind is str:
        return str(value)
    if issubclass(kind, type):  # of an error
        module = plain(type.__getattribute__(value, "__module__"))
        return class_name(value) if module == "builtins" else f"{module}.{class_name(value)}"
    return f"function {plain(value.__qualname__)}" if kind is FunctionType else class_name(kind)


def _key(key: str | int | None) -> str:
    return "" if key is None else str(key)


def breakers_of(place: Place) -> PlaceGovernor | None:
    """Return the governor of a place that has breakers; None if it has none."""
    governor = place.governor
    return governor if isinstance(governor, PlaceGovernor) and governor.policy.breaker is not None else None


def breaker_rows(governor: PlaceGovernor, key: str | None) -> Iterable[m.BreakerRow]:
    """Yield the row of each breaker of a place, or of the one with this key."""
    with governor.lock:
        now = governor.clock()
        found = governor.states("breaker", key) if governor.policy.breaker is not None else []
        for of, state in found:
            state.look(now)
            after = None if state.held else state.retry_after(now)
            (counted, bad), shown = state.counts(now), state.state.replace("_", " ")
            figures = (counted, bad, state.running, after, governor.no_key("breaker"))
            yield m.BreakerRow(governor.name, _key(of), shown, state.held, *figures)


def budget_rows(governor: PlaceGovernor, key: str | None) -> Iterable[m.BudgetRow]:
    """Yield the row of each budget of a place, or of the one with this key."""
    with governor.lock:
        for of, rule in governor.states("budget", key) if governor.policy.budget is not None else ():
            state, budget = rule.state, rule.state.budget
            per = None if math.isinf(budget.per) else budget.per
            figures = (state.reserved, state.spent, len(rule.waiting), governor.no_key("budget"))
            yield m.BudgetRow(governor.name, budget.name, _key(of), budget.limit, per, *figures)


def flag_row(flag: Flag) -> m.FlagRow:
    """Return the row of a flag."""
    row = flag.row
    return m.FlagRow(row.select, row.mode, row.percent, row.by or "", flag.source, dict(flag.would))
