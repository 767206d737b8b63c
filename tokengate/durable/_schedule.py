"""A schedule: a durable operation, its arguments, and when it is submitted."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, get_args

import attrs
import msgspec

from actors import NotDurable
from tokengate._exceptions import BadPolicy
from tokengate.control._units import seconds_in
from tokengate.durable._calls import name_of
from tokengate.durable._codec import Codec
from tokengate.durable._schedule_times import Catchup, Overlap, Times, check_cron, instant_of
from tokengate.operations._operation import operation_in, operation_named

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def _zone(value: Any, times: Times) -> str:
    try:
        _ = attrs.evolve(times, timezone=value).zone
    except (LookupError, ValueError, TypeError, OSError):
        remedy = "use a name such as 'Europe/Berlin'; if the system has no zones, install the package tzdata"
        raise ValueError(remedy) from None
    return str(value)


def seconds_of(value: Any, _times: object = None) -> float:
    """Return seconds, given as a number or as text, or raise `ValueError`."""
    seconds = seconds_in(value) if isinstance(value, str) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        raise ValueError("use a number of seconds, or text such as '15m'")
    return float(seconds)


def _period(value: Any, _times: Times) -> int:
    if (seconds := seconds_of(value)) < 1 or seconds != int(seconds):
        raise ValueError("use whole seconds, 1 or more: the clock is looked at each second")
    return int(seconds)


def _moment(value: Any, times: Times) -> float:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(moment, datetime):
        raise ValueError("use a date and a time")
    return instant_of(moment.replace(fold=0), times.zone) if moment.tzinfo is None else moment.timestamp()


def _one_of(values: Any) -> Callable[[Any, Times], str]:
    def check(value: Any, _times: Times) -> str:
        if value not in get_args(values):
            raise ValueError(f"use one of {', '.join(get_args(values))}")
        return value  # type: ignore[no-any-return]

    return check


_CHECKS: Final[Mapping[str, Callable[[Any, Times], Any]]] = {
    "timezone": _zone, "cron": lambda value, _: check_cron(value), "every": _period, "at": _moment,
    "catchup": _one_of(Catchup), "overlap": _one_of(Overlap), "jitter": seconds_of,
}  # fmt: skip


class Schedule:
    """Submits a durable operation by the clock: `Journal(directory, schedules=[Schedule("nightly", report, ...)])`.

    Each firing is one token, whether the gate is closed or killed meanwhile, or the clock is set. Its tags are
    `schedule` and `due`, its key is `schedule/NAME@DUE`. One of `cron`, `every` and `at` is needed.

    Args:
        name: letters, digits, `.`, `_` and `-`; unique in its gate.
        operation: a durable one; or its name, `module:qualified name`, which need not be imported yet.
        args, kwargs: arguments of the call.
        cron: five fields, by the clock of the timezone: `30 2 * * *`. A time that spring skips comes right after; one
            that autumn repeats comes once. If minute or hour begins with `*`, real time counts.
        every: whole seconds from one due time to the next, or text such as `15m`.
        at: the only due time; without a zone, by the timezone. One that has passed already is left out.
        timezone: such as `Europe/Berlin`.
        catchup: what becomes of firings that were missed, since the gate was closed, the schedule paused or the clock
            set: the `latest` one begins, `none`, or `all` (the newest 100).
        overlap: what becomes of a firing while the one before has not ended: it is left out and counted (`skip`), waits
            in the place of another one that does (`queue`), or begins (`allow`).
        jitter: seconds, or text, by which a firing may come later than it is due, but not after the next one.

    Raises:
        ValueError: an argument has a value that cannot work.
        NotDurable: the operation is not durable, or its arguments cannot be kept.
    """

    def __init__(
        self,
        name: str,
        operation: Callable[..., Any] | str,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] = _NOTHING,
        *,
        cron: str | None = None,
        every: float | str | None = None,
        at: datetime | str | None = None,
        timezone: str = "UTC",
        catchup: Catchup = "latest",
        overlap: Overlap = "skip",
        jitter: float | str = 0.0,
    ) -> None:
        given: dict[str, Any] = {"timezone": timezone, "cron": cron, "every": every, "at": at}
        given |= {"catchup": catchup, "overlap": overlap, "jitter": jitter}
        if not isinstance(name, str) or not re.fullmatch(r"[\w.-]{1,100}", name):
            raise BadPolicy("a schedule", "name", name, "use 1 to 100 letters, digits, '.', '_' and '-'")
        place = f"schedule '{name}'"
        if sum(value is not None for value in (cron, every, at)) != 1:
            raise BadPolicy(place, "cron, every, at", (cron, every, at), "give one of them")
        self.name, self.times = name, Times()
        for field, value in given.items():
            try:
                if value is not None:
                    self.times = attrs.evolve(self.times, **{field: _CHECKS[field](value, self.times)})
            except (ValueError, OverflowError) as error:
                raise BadPolicy(place, field, value, str(error)) from None
        found = operation_named(operation) if isinstance(operation, str) else operation_in(operation)
        arguments = [list(args), dict(kwargs)]
        self.priority: int | None = getattr(found, "priority", None)
        self.tags: dict[str, str] = dict(getattr(found, "tags", {}))
        if found is not None:
            self.operation = name_of(found)
            if not found._spec.properties.durable:
                raise NotDurable(f"'{self.operation}' of {place} is not durable; write @token(durable=True)")
            if found._key is not None or found._spec.consent:
                raise BadPolicy(place, "operation", operation, "use one that needs no consent, and without a key")
        elif isinstance(operation, str) and re.fullmatch(r"[\w.]+:[\w.]+", operation):
            self.operation = operation  # its tokens are parked until it is known
        else:
            raise BadPolicy(place, "operation", operation, "use a durable operation, or 'module:qualified name'")
        if found is not None and not isinstance(operation, str):
            self.arguments = Codec(self.operation, found._function).encode(tuple(args), dict(kwargs))
            return
        self.arguments = msgspec.json.encode(arguments)  # as texts stand for dates in a file
        try:
            _ = found is None or Codec(self.operation, found._function).decode(self.arguments)
        except msgspec.ValidationError as error:
            raise BadPolicy(place, "args", arguments, f"they do not fit '{self.operation}': {error}") from None

    @property
    def spec(self) -> str:
        """What it does and when, as JSON: a schedule with another text has been edited."""
        what = (self.operation, self.arguments.decode(), self.priority, self.tags)
        return msgspec.json.encode([*what, attrs.asdict(self.times)]).decode()

    def __repr__(self) -> str:
        return f"<Schedule '{self.name}' {self.operation} {self.times}>"
