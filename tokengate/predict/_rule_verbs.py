"""Verbs of rules: the messages of control that do and undo each, and the values that it changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

import attrs

from actors import Token
from actors.lowlevel import ActorPlace, Place
from tokengate.control import messages as m
from tokengate.control._units import bytes_in, seconds_in
from tokengate.control.inspection._policies import breaker_rows
from tokengate.control.inspection._processes import limits_of
from tokengate.control.messages import Change
from tokengate.policy._selected import OPERATOR
from tokengate.predict import _arguments as read
from tokengate.predict._arguments import Reader, Values


@attrs.frozen
class Target:
    """What a verb is done to: a token, or what many of them share. It does not keep the token.

    Attributes:
        name: such as `token 7`, the path of an actor, `process 4711`, or the terms of a throttle.
        id: of the token that it was decided for.
        place: of the token.
        terms: those of the rule that a throttle is for.
        worker: pid of the process to recycle, if it serves several actors or operations; else None.
    """

    name: str
    id: int
    place: Place
    terms: str = ""
    worker: int | None = None

    @property
    def token(self) -> Token[Any] | None:
        """The token; None once it has ended."""
        return self.place.system.live.get(self.id)

    @property
    def breaker(self) -> str:
        """What a message about its breaker names."""
        return self.place.path if isinstance(self.place, ActorPlace) else self.place.path.rpartition("/")[2]


_Said: TypeAlias = dict[str, Any]
"""The reason, as messages take it."""


@attrs.frozen(kw_only=True)
class Verb:
    """A verb that a rule may have.

    Attributes:
        of: what it is done to.
        read: its arguments.
        do: returns the message that does it, from the arguments, the target, what the message has in the place of the
            token, and the reason.
        values: returns the values of a token that it changes, from the arguments and the token.
        values_there: those of a place, or of a throttle, from the target.
        undo: returns the message that restores values, from the target, those before, and those that were set.
        undone: what undoing does, as text.
        is_free: whether it needs no budget: it ends nothing and holds nothing up for good.
        is_ending: whether a rule does it by itself only if it is `unattended`, and `process:interventions` has the
            right.
        is_state: whether an operator may have set already what it would set.
    """

    of: Literal["token", "place", "throttle", "process"] = "token"
    read: Reader = read.nothing
    do: Callable[[Any, Target, Any, _Said], Change[Any]]
    values: Callable[[Any, Token[Any]], Values] = lambda _args, _token: {}
    values_there: Callable[[Target], Values] = lambda _target: {}
    undo: Callable[[Target, Values, Values], Change[Any]] | None = None
    undone: str
    is_free: bool = False
    is_ending: bool = False
    is_state: bool = False


# --- Values that verbs change -----------------------------------------------------------------------------------------


def _expected(_args: Values, token: Token[Any]) -> Values:
    forecast: Any = token._extras.forecast
    return {"run": None, "memory": None} if forecast is None else {"run": forecast.run, "memory": forecast.memory}


def _paused(_args: Values, token: Token[Any]) -> Values:
    hold = token._extras.hold
    return {"paused": hold is not None and bool(hold.word) and hold.paused_by}


def _where(_args: Values, token: Token[Any]) -> Values:
    return {"actor": token.actor, "affinity": token.affinity, "begun": token.started_at is not None}


def _throttle(target: Target) -> Values:
    policies: Any = target.place.system.policies
    found = () if policies is None else policies.selected.all()
    said = [one.limits[OPERATOR][0] for one in found if one.name == target.terms and one.is_of_operator]
    return {"rate": said[0].rate, "concurrency": said[0].concurrency} if said else {}


def _breaker(target: Target) -> Values:
    governor: Any = target.place.governor
    if governor is None:
        return {}
    rows = breaker_rows(governor, None)
    return {row.key: f"{row.state} by {governor.breakers_by}" if row.held else "auto" for row in rows}


# --- What undoes them -------------------------------------------------------------------------------------------------


def _unlimit(target: Target, before: Values, set_: Values) -> Change[Any]:
    changed = {name for name in (*before, *set_) if before.get(name) != set_.get(name)}
    return m.Limit((target.id,), **{name: before.get(name, "none") for name in changed})


def _retag_back(target: Target, before: Values, _set: Values) -> Change[Any]:
    changed = {name: value for name, value in before.items() if value is not None}
    return m.Retag((target.id,), changed, tuple(name for name in before if name not in changed))


def _reroute_back(target: Target, before: Values, _set: Values) -> Change[Any]:
    if before["actor"].startswith("operations/"):
        return m.Reroute((target.id,), affinity=before["affinity"])
    return m.Reroute((target.id,), actor=before["actor"])


def _estimate_back(target: Target, before: Values, _set: Values) -> Change[Any]:
    said = {name: "none" if value is None else value for name, value in before.items()}
    return m.Estimate((target.id,), run=said["run"], memory=said["memory"])


# --- The table --------------------------------------------------------------------------------------------------------

VERBS: Final[Mapping[str, Verb]] = {
    "renice": Verb(
        read=read.priority,
        do=lambda args, _target, select, said: m.Renice(select, args["priority"], **said),
        values=lambda _args, token: {"priority": token.priority},
        undo=lambda target, before, _set: m.Renice((target.id,), before["priority"]),
        undone="its priority becomes what it was",
        is_free=True,
    ),
    "retag": Verb(
        read=read.tags,
        do=lambda args, _target, select, said: m.Retag(select, args["set"], **said),
        values=lambda args, token: {name: token.tags.get(name) for name in args["set"]},
        undo=_retag_back,
        undone="its tags become what they were",
        is_free=True,
    ),
    "estimate": Verb(
        read=read.named("estimate run=10m", run=seconds_in, memory=bytes_in),
        do=lambda args, _target, select, said: m.Estimate(select, **args, **said),
        values=_expected,
        undo=_estimate_back,
        undone="its expected run and memory become what they were",
        is_free=True,
    ),
    "limit": Verb(
        read=read.named(
            "limit memory=2GiB", memory=bytes_in, address_space=bytes_in, cpu_time=seconds_in, wall_time=seconds_in
        ),
        do=lambda args, _target, select, said: m.Limit(select, **args, **said),
        values=lambda _args, token: dict(limits_of(token)),
        undo=_unlimit,
        undone="its limits become what they were",
    ),
    "throttle": Verb(
        of="throttle",
        read=read.named("throttle rate=5/s", rate=read.rate, concurrency=read.concurrency),
        do=lambda args, target, _select, said: m.SetThrottle(target.terms, **args, **said),
        values_there=_throttle,
        undo=lambda target, _before, _set: m.Lift(target.terms),
        undone="the throttle is lifted",
        is_state=True,
    ),
    "reroute": Verb(
        read=read.place,
        do=lambda args, _target, select, said: m.Reroute(select, **args, **said),
        values=_where,
        undo=_reroute_back,
        undone="it goes back, unless it has begun",
    ),
    "pause": Verb(
        do=lambda _args, _target, select, said: m.Pause(select, **said),
        values=_paused,
        undo=lambda target, _before, _set: m.Resume((target.id,)),
        undone="it is resumed",
        is_state=True,
    ),
    "suspend": Verb(
        of="place",
        do=lambda _args, target, _select, said: m.Suspend(target.place.path, **said),
        values_there=lambda target: {"suspended": target.place.suspended_by or False},
        undo=lambda target, _before, _set: m.Unsuspend(target.place.path),
        undone="the actor is unsuspended",
        is_state=True,
    ),
    "breaker": Verb(
        of="place",
        read=read.opening,
        do=lambda _args, target, _select, said: m.OpenBreaker(target.breaker, **said),
        values_there=_breaker,
        undo=lambda target, _before, _set: m.AutoBreaker(target.breaker),
        undone="the breaker decides by itself again",
        is_state=True,
    ),
    "recycle": Verb(
        of="process",
        do=lambda _args, target, _select, said: m.Recycle(target.place.path, worker=target.worker, wait=0.0, **said),
        undone="nothing needs undoing: another process serves in its place",
    ),
    "preempt": Verb(
        read=read.named(to=read.path, memory=bytes_in),
        do=lambda args, _target, select, said: m.Preempt(select, **args, **said),
        undone="it cannot be undone: another attempt has begun from the start",
    ),
    "terminate": Verb(
        read=read.named(mode=read.mode),
        do=lambda args, _target, select, said: m.Terminate(select, **args, **said),
        undone="it cannot be undone: the token has ended",
        is_ending=True,
    ),
    "compensate": Verb(
        do=lambda _args, _target, select, said: m.Compensate(select, **said),
        undone="it cannot be undone: what was rolled back stays so",
        is_ending=True,
    ),
}
"""{name: the verb}, the most careful first."""
