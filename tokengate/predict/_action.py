"""Actions: the verb of a rule, as the messages of control that do and undo it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import attrs

from actors import Token
from actors.lowlevel import AFFINITIES, ActorPlace, Place, place_of, process_drain
from tokengate.control import messages as m
from tokengate.control._units import bytes_in, seconds_in
from tokengate.control.inspection._policies import breaker_rows
from tokengate.control.inspection._processes import limits_of
from tokengate.control.inspection._selector import nearly
from tokengate.control.messages import Change
from tokengate.policy._selected import OPERATOR

Values: TypeAlias = Mapping[str, Any]

VERBS: Final = (
    "renice", "retag", "estimate", "limit", "throttle", "reroute", "pause", "suspend", "breaker", "recycle", "preempt",
    "terminate", "compensate",
)  # fmt: skip
"""The verbs that a rule may have, the most careful first."""

FREE: Final = ("renice", "retag", "estimate")
"""Those that need no budget: they end nothing and hold nothing up for good."""

RECYCLE: Final = "recycle"
"""The verb that is done as soon as nothing runs there, so that it touches no token."""

ENDING: Final = ("terminate", "compensate")
"""Those that a rule does by itself only if it is `unattended`, and `process:interventions` has the right."""


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


@attrs.frozen
class Action:
    """A verb with its arguments.

    Attributes:
        verb: one of `VERBS`.
        text: as it was written.
        args: {name of an argument: its value}.
    """

    verb: str
    text: str
    args: Values

    @property
    def rank(self) -> int:
        """How careful it is; the most careful has 0."""
        return VERBS.index(self.verb)

    def target(self, token: Token[Any], terms: str) -> Target:
        """Return what it is done to for a token, where a rule has these terms about places and tags."""
        place = place_of(token)
        if self.verb == "throttle":
            return Target(terms, token.id, place, terms)
        if self.verb in ("suspend", "breaker"):
            return Target(place.path, token.id, place)
        if self.verb == "recycle":
            drain = process_drain(token)
            worker = None if drain is None or drain.own else drain.worker_of(token)
            if worker is None:
                return Target(place.path, token.id, place)
            return Target(f"process {worker.pid}", token.id, place, worker=worker.pid)
        return Target(f"token {token.id}", token.id, place)

    def message(self, target: Target, select: Any, reason: str) -> Change[Any]:
        """Return the message that does it.

        Args:
            target: what it is done to.
            select: what the message has in the place of the token: its id, or a selector.
            reason: for the record.
        """
        return _DO[self.verb](self.args, target, select, {"reason": reason})

    def values(self, target: Target) -> Values:
        """Return the values that it changes, as they are now; none of a token that has ended."""
        if self.verb in _OF_TOKENS:
            token = target.token
            return {} if token is None else self.values_of(token)
        read = _OF_PLACE.get(self.verb)
        return {} if read is None else read(target)

    def values_of(self, token: Token[Any]) -> Values:
        """Return the values of a token that it changes, as they are now."""
        if self.verb == "retag":
            return {name: token.tags.get(name) for name in self.args["set"]}
        read = _OF_TOKEN.get(self.verb)
        return {} if read is None else read(token)

    @property
    def to(self) -> str | None:
        """The name of the actor to which it sends tokens; None: it sends them to none."""
        to = self.args.get("actor", self.args.get("to"))
        return None if to in AFFINITIES else to

    @property
    def intended(self) -> Values:
        """The values that it sets, of the verbs whose effect on a durable token outlives the process."""
        if self.verb == "renice":
            return {"priority": self.args["priority"]}
        return self.args["set"] if self.verb == "retag" else {}

    def is_taken(self, before: Values) -> bool:
        """Tell whether an operator has set there what it would set, by the values before."""
        return self.verb in _TAKEN and any(value not in (None, "auto", False) for value in before.values())

    def undo(self, target: Target, before: Values, set_: Values) -> Change[Any] | None:
        """Return the message that restores the values before; None: it cannot be undone, or need not be."""
        undo = _UNDO.get(self.verb)
        return None if undo is None else undo(target, before, set_)

    @property
    def is_of_token(self) -> bool:
        """Whether it is done to single tokens."""
        return self.verb in _OF_TOKENS

    @property
    def can_be_undone(self) -> bool:
        """Whether something is left to undo once it is done."""
        return self.verb in _UNDO

    @property
    def undone_by(self) -> str:
        """What undoing it does, as text."""
        return _UNDONE[self.verb]


_TAKEN: Final = ("throttle", "pause", "suspend", "breaker")

_OF_TOKENS: Final = (
    "renice", "retag", "estimate", "limit", "reroute", "pause", "preempt", "terminate", "compensate",
)  # fmt: skip


# --- The text -----------------------------------------------------------------------------------------------------


def action_of(text: object) -> Action:
    """Parse a verb with its arguments.

    Raises:
        ValueError: it cannot be read; the text is the remedy.
    """
    try:
        words = shlex.split(text) if isinstance(text, str) else []
    except ValueError as error:
        raise ValueError(f"{error}; write it as on the command line, such as 'renice -1'") from None
    if not words or words[0] not in VERBS:
        raise ValueError(f"write one verb with its arguments, such as 'renice -1'; it is one of {', '.join(VERBS)}")
    verb, given = words[0], words[1:]
    args = _READ[verb](verb, given)
    return Action(verb, " ".join(words), args)


def doubts(text: str) -> list[str]:
    """Return what may be a slip in a verb that can be read, with the remedy: an actor named nearly like an affinity."""
    to = action_of(text).to
    near = "" if to is None else nearly(to, AFFINITIES)
    return [f"'{to}' is taken for an actor; write {near} if that affinity is meant"] if near else []


def _named(verb: str, given: list[str], **readers: Callable[[str], Any]) -> dict[str, Any]:
    """Read arguments `NAME=VALUE`, also with dashes before the name.

    Raises:
        ValueError: one cannot be read.
    """
    found: dict[str, Any] = {}
    for one in given:
        name, equals, value = one.lstrip("-").partition("=")
        name = name.replace("-", "_")
        if not equals or name not in readers:
            raise ValueError(
                f"'{one}' is no argument of {verb}; write {' or '.join(f'{each}=...' for each in readers)}"
            )
        found[name] = _value(verb, name, value, readers[name])
    return found


def _value(verb: str, name: str, value: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"{name} of {verb} is {value!r}: {error}") from None


def _some(found: dict[str, Any], verb: str, example: str) -> dict[str, Any]:
    if not found:
        raise ValueError(f"{verb} needs an argument, such as '{example}'")
    return found


def _read_renice(verb: str, given: list[str]) -> Values:
    if len(given) != 1:
        raise ValueError("renice needs one priority, such as 'renice -1'")
    return {"priority": _value(verb, "priority", given[0].removeprefix("priority="), _priority)}


def _read_retag(_verb: str, given: list[str]) -> Values:
    tags = {name: value for name, equals, value in (one.partition("=") for one in given) if equals and name}
    if not given or len(tags) != len(given):
        raise ValueError("retag needs tags, such as 'retag speed=slow'")
    return {"set": tags}


def _read_limit(verb: str, given: list[str]) -> Values:
    sizes = {"memory": bytes_in, "address_space": bytes_in, "cpu_time": seconds_in, "wall_time": seconds_in}
    return _some(_named(verb, given, **sizes), verb, "limit memory=2GiB")


def _read_throttle(verb: str, given: list[str]) -> Values:
    return _some(_named(verb, given, rate=_rate, concurrency=_whole), verb, "throttle rate=5/s")


def _rate(text: str) -> float | str:
    number, slash, per = text.partition("/")
    if float(number) <= 0 or (slash and per not in ("s", "m", "h", "d")):
        raise ValueError("write tokens per second, such as 5/s or 100/m")
    return text if slash else float(number)


def _priority(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("write a whole number, such as -1") from None


def _whole(text: str) -> int:
    if int(text) < 1:
        raise ValueError("write a whole number of at least 1")
    return int(text)


def _read_reroute(_verb: str, given: list[str]) -> Values:
    if len(given) != 1:
        raise ValueError(f"reroute needs one of {', '.join(AFFINITIES)}, or the path of an actor")
    return _place(given[0].removeprefix("to="))


def _place(to: str) -> dict[str, Any]:
    return {"affinity" if to in AFFINITIES else "actor": _path(to)}


def _path(to: str) -> str:
    if not is_path(to):
        raise ValueError(f"'{to}' is no place; write one of {', '.join(AFFINITIES)}, or the path of an actor")
    return to


def is_path(text: str) -> bool:
    """Tell whether a place can have this path, or these last parts of it."""
    return all(text.removeprefix("/").split("/"))


def _read_preempt(verb: str, given: list[str]) -> Values:
    return _named(verb, given, to=_path, memory=bytes_in)


def _read_estimate(verb: str, given: list[str]) -> Values:
    return _some(_named(verb, given, run=seconds_in, memory=bytes_in), verb, "estimate run=10m")


def _read_breaker(_verb: str, given: list[str]) -> Values:
    if given != ["open"]:
        raise ValueError("write 'breaker open'")
    return {}


def _read_terminate(verb: str, given: list[str]) -> Values:
    return _named(verb, given, mode=_mode)


def _mode(text: str) -> str:
    if text not in ("cancel", "interrupt", "kill"):
        raise ValueError("write cancel, interrupt or kill")
    return text


def _read_nothing(verb: str, given: list[str]) -> Values:
    if given:
        raise ValueError(f"{verb} takes no arguments here, and '{given[0]}' is one")
    return {}


_READ: Final[Mapping[str, Callable[[str, list[str]], Values]]] = {
    "renice": _read_renice,
    "retag": _read_retag,
    "estimate": _read_estimate,
    "limit": _read_limit,
    "throttle": _read_throttle,
    "reroute": _read_reroute,
    "pause": _read_nothing,
    "suspend": _read_nothing,
    "breaker": _read_breaker,
    "recycle": _read_nothing,
    "preempt": _read_preempt,
    "terminate": _read_terminate,
    "compensate": _read_nothing,
}

# --- What does it, and what undoes it ---------------------------------------------------------------------------------

_Do: TypeAlias = Callable[[Any, Target, Any, dict[str, Any]], Change[Any]]

_DO: Final[Mapping[str, _Do]] = {
    "renice": lambda args, _target, select, said: m.Renice(select, args["priority"], **said),
    "retag": lambda args, _target, select, said: m.Retag(select, args["set"], **said),
    "estimate": lambda args, _target, select, said: m.Estimate(select, **args, **said),
    "limit": lambda args, _target, select, said: m.Limit(select, **args, **said),
    "throttle": lambda args, target, _select, said: m.SetThrottle(target.terms, **args, **said),
    "reroute": lambda args, _target, select, said: m.Reroute(select, **args, **said),
    "pause": lambda _args, _target, select, said: m.Pause(select, **said),
    "suspend": lambda _args, target, _select, said: m.Suspend(target.place.path, **said),
    "breaker": lambda _args, target, _select, said: m.OpenBreaker(_operation(target), **said),
    "recycle": lambda _args, target, _select, said: m.Recycle(
        target.place.path, worker=target.worker, wait=0.0, **said
    ),
    "preempt": lambda args, _target, select, said: m.Preempt(select, **args, **said),
    "terminate": lambda args, _target, select, said: m.Terminate(select, **args, **said),
    "compensate": lambda _args, _target, select, said: m.Compensate(select, **said),
}


def _operation(target: Target) -> str:
    place = target.place
    return place.path if isinstance(place, ActorPlace) else place.path.rpartition("/")[2]


def _estimates(token: Token[Any]) -> Values:
    forecast: Any = token._extras.forecast
    return {"run": None, "memory": None} if forecast is None else {"run": forecast.run, "memory": forecast.memory}


def _paused(token: Token[Any]) -> Values:
    hold = token._extras.hold
    return {"paused": hold is not None and bool(hold.word) and hold.paused_by}


def _where(token: Token[Any]) -> Values:
    return {"actor": token.actor, "affinity": token.affinity, "begun": token.started_at is not None}


_OF_TOKEN: Final[Mapping[str, Callable[[Token[Any]], Values]]] = {
    "renice": lambda token: {"priority": token.priority},
    "estimate": _estimates,
    "limit": lambda token: dict(limits_of(token)),
    "reroute": _where,
    "pause": _paused,
}
"""{verb: returns the values of a token that it changes}."""


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


_OF_PLACE: Final[Mapping[str, Callable[[Target], Values]]] = {
    "throttle": _throttle,
    "suspend": lambda target: {"suspended": target.place.suspended_by or False},
    "breaker": _breaker,
}
"""{verb: returns the values of a place, or of a throttle, that it changes}."""

_Undo: TypeAlias = Callable[[Target, Values, Values], Change[Any]]


def _undo_limit(target: Target, before: Values, set_: Values) -> Change[Any]:
    changed = {name for name in (*before, *set_) if before.get(name) != set_.get(name)}
    return m.Limit((target.id,), **{name: before.get(name, "none") for name in changed})


def _undo_retag(target: Target, before: Values, _set: Values) -> Change[Any]:
    changed = {name: value for name, value in before.items() if value is not None}
    return m.Retag((target.id,), changed, tuple(name for name in before if name not in changed))


def _undo_reroute(target: Target, before: Values, _set: Values) -> Change[Any]:
    if before["actor"].startswith("operations/"):
        return m.Reroute((target.id,), affinity=before["affinity"])
    return m.Reroute((target.id,), actor=before["actor"])


def _undo_estimate(target: Target, before: Values, _set: Values) -> Change[Any]:
    said = {name: "none" if value is None else value for name, value in before.items()}
    return m.Estimate((target.id,), run=said["run"], memory=said["memory"])


_UNDO: Final[Mapping[str, _Undo]] = {
    "renice": lambda target, before, _set: m.Renice((target.id,), before["priority"]),
    "retag": _undo_retag,
    "estimate": _undo_estimate,
    "limit": _undo_limit,
    "throttle": lambda target, _before, _set: m.Lift(target.terms),
    "reroute": _undo_reroute,
    "pause": lambda target, _before, _set: m.Resume((target.id,)),
    "suspend": lambda target, _before, _set: m.Unsuspend(target.place.path),
    "breaker": lambda target, _before, _set: m.AutoBreaker(_operation(target)),
}

_UNDONE: Final[Mapping[str, str]] = {
    "renice": "its priority becomes what it was",
    "retag": "its tags become what they were",
    "estimate": "its expected run and memory become what they were",
    "limit": "its limits become what they were",
    "throttle": "the throttle is lifted",
    "reroute": "it goes back, unless it has begun",
    "pause": "it is resumed",
    "suspend": "the actor is unsuspended",
    "breaker": "the breaker decides by itself again",
    "recycle": "nothing needs undoing: another process serves in its place",
    "preempt": "it cannot be undone: another attempt has begun from the start",
    "terminate": "it cannot be undone: the token has ended",
    "compensate": "it cannot be undone: what was rolled back stays so",
}
