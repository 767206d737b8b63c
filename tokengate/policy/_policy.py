"""The parts of a policy, as users write them: frozen data, checked when it is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, overload

import attrs

from tokengate._exceptions import BadPolicy
from tokengate.policy import _values
from tokengate.policy._values import Errors, Key, Over

OVERS: Final[tuple[Over, ...]] = ("wait", "reject", "lower", "warn")


def _optional_seconds(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        _values.seconds(type(instance).__name__, attribute.name, value)


def _optional_key(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        _values.key(type(instance).__name__, attribute.name, value)


def _retry_on(value: Any) -> Errors:
    return _values.error_classes("Retry", "on", value)


def _breaker_on(value: Any) -> Errors | None:
    return None if value is None else _values.error_classes("Breaker", "on", value)


def _rate(value: Any) -> float | None:
    return None if value is None else _values.per_second("Throttle", "rate", value)


def _period(value: Any) -> float:
    return _values.period("Budget", "per", value)


@attrs.frozen
class Retry:
    """Further attempts after an error.

    Attributes:
        on: the errors after which to try again: those that the code raises.
        attempts: how many there are at most, the first one included.
        wait: seconds. The delay after attempt n is drawn evenly from 0 to `min(max_wait, wait * 2 ** (n - 1))`; or a
            function of the error, which returns the delay in seconds, or None for no further attempt.
        max_wait: the longest delay, in seconds.

    Raises:
        BadPolicy: a value cannot work.
    """

    on: Errors = attrs.field(converter=_retry_on)
    attempts: int = attrs.field(default=3, kw_only=True)
    wait: float | Callable[[BaseException], float | None] = attrs.field(default=0.1, kw_only=True)
    max_wait: float = attrs.field(default=30.0, kw_only=True)

    def __attrs_post_init__(self) -> None:
        _values.whole("Retry", "attempts", self.attempts, 1)
        if not callable(self.wait):
            _values.number("Retry", "wait", self.wait, least=0)
        _values.number("Retry", "max_wait", self.max_wait, least=0)


@attrs.frozen(kw_only=True)
class Breaker:
    """A stop of new attempts while too many fail.

    Attributes:
        on: the errors that are bad; None: those of the policy's `Retry`, else all.
        failure_rate: the share of bad attempts at which it opens, above 0 and at most 1.
        slow: seconds; an attempt that ran longer is bad. None: none is.
        window: seconds for which an attempt counts after its end.
        minimum: attempts that must count before it opens.
        open_for: seconds until it lets attempts probe; doubled after a bad probe, up to 8 times.
        key: what has a state of its own: each value of a tag or parameter. None: the operation has one.

    Raises:
        BadPolicy: a value cannot work.
    """

    on: Errors | None = attrs.field(default=None, converter=_breaker_on)
    failure_rate: float = 0.5
    slow: float | None = attrs.field(default=None, validator=_optional_seconds)
    window: float = 30.0
    minimum: int = 20
    open_for: float = 30.0
    key: Key | None = attrs.field(default=None, validator=_optional_key)

    def __attrs_post_init__(self) -> None:
        _values.number("Breaker", "failure_rate", self.failure_rate, above=0, most=1)
        _values.seconds("Breaker", "window", self.window)
        _values.whole("Breaker", "minimum", self.minimum, 1)
        _values.seconds("Breaker", "open_for", self.open_for)


@attrs.frozen(kw_only=True)
class Throttle:
    """A limit of how many attempts begin in a time, or run at once.

    Attributes:
        rate: attempts that may begin in a second; or a text: `100/s`, `5/m`, `1000/h`.
        burst: attempts that may begin at once after a rest; None: a tenth of a second's worth, at least 1.
        concurrency: attempts that may run at once; or `"adaptive"`: as many as the durations allow, which needs `slow`.
        slow: seconds; an attempt that ran longer lowers an adaptive limit.
        key: what has a limit of its own: each value of a tag or parameter. None: all share one.
        over: what happens to a token that could not begin at once: it waits, is refused (`reject`), gets a priority
            lower by one (`lower`), or an event is published (`warn`).

    Raises:
        BadPolicy: a value cannot work, or there is no limit.
    """

    rate: float | None = attrs.field(default=None, converter=_rate)
    burst: int | None = None
    concurrency: int | Literal["adaptive"] | None = None
    slow: float | None = attrs.field(default=None, validator=_optional_seconds)
    key: Key | None = attrs.field(default=None, validator=_optional_key)
    over: Over = "wait"

    def __attrs_post_init__(self) -> None:
        if self.rate is None and self.concurrency is None:
            raise BadPolicy("Throttle", "rate", None, "set a rate, a concurrency, or both")
        if self.burst is not None:
            _values.whole("Throttle", "burst", self.burst, 1)
            if self.rate is None:
                raise BadPolicy("Throttle", "burst", self.burst, "set the rate that it belongs to")
        if self.concurrency == "adaptive":
            if self.slow is None:
                raise BadPolicy("Throttle", "slow", None, "set the seconds above which an attempt is slow")
        elif self.concurrency is not None:
            if isinstance(self.concurrency, str):
                raise BadPolicy("Throttle", "concurrency", self.concurrency, "use a whole number, or 'adaptive'")
            _values.whole("Throttle", "concurrency", self.concurrency, 1)
        if self.slow is not None and self.concurrency != "adaptive":
            raise BadPolicy("Throttle", "slow", self.slow, "it is for concurrency='adaptive'")
        _values.one_of("Throttle", "over", self.over, OVERS)

    @property
    def burst_size(self) -> int:
        """Attempts that may begin at once after a rest."""
        return self.burst or max(1, int((self.rate or 0.0) / 10))


@attrs.frozen
class Budget:
    """A limit of what attempts cost, where the cost is known late.

    Attributes:
        name: of what is spent, such as `usd`; all budgets of a gate with one name, limit and key share their figures.
        limit: what may be spent in a period.
        per: the period: seconds, or a text such as `1d`; it begins at the first use.
        key: what has a budget of its own: each value of a tag or parameter. None: all share one.
        estimate: what an attempt reserves when it begins: a number up to the limit, or a function of the arguments.

    Raises:
        BadPolicy: a value cannot work.
    """

    name: str
    limit: float
    per: float = attrs.field(default=math.inf, kw_only=True, converter=_period)
    key: Key | None = attrs.field(default=None, kw_only=True, validator=_optional_key)
    estimate: float | Callable[..., float] = attrs.field(default=0.0, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise BadPolicy("Budget", "name", self.name, "use a text, such as 'usd'")
        _values.number("Budget", "limit", self.limit, least=0)
        if not callable(self.estimate):
            _values.number("Budget", "estimate", self.estimate, least=0, most=self.limit)
            _values.finite("Budget", "estimate", self.estimate)


@attrs.frozen(kw_only=True)
class Batch:
    """Tokens that one call of the function serves: it is given a list, and returns a list.

    Attributes:
        size: tokens (or their costs together) of a call at most.
        wait: seconds after its first token after which a batch is sent; 0: it takes what is queued.
        by: tokens with different values of this tag or parameter are never in one batch.
        cost: a function of the arguments: how much of `size` a token takes. None: 1.

    Raises:
        BadPolicy: a value cannot work.
    """

    size: int
    wait: float = 0.0
    by: Key | None = attrs.field(default=None, validator=_optional_key)
    cost: Callable[..., float] | None = None

    def __attrs_post_init__(self) -> None:
        _values.whole("Batch", "size", self.size, 1)
        _values.number("Batch", "wait", self.wait, least=0)
        if self.cost is not None and not callable(self.cost):
            raise BadPolicy("Batch", "cost", self.cost, "use a function of the arguments")


def _throttles(value: Any) -> tuple[Throttle, ...]:
    throttles = (value,) if isinstance(value, Throttle) else () if value is None else value
    if isinstance(throttles, Iterable):
        throttles = tuple(throttles)
        if all(isinstance(one, Throttle) for one in throttles):
            return throttles
    raise BadPolicy("Policy", "throttle", value, "use a Throttle, or several in a tuple")


def _instance(expected: type) -> Callable[[object, attrs.Attribute[Any], object], None]:
    def check(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value is not None and not isinstance(value, expected):
            raise BadPolicy("Policy", attribute.name, value, f"use a {expected.__name__}")

    return check


@attrs.frozen(kw_only=True)
class _Parts:
    """The parts of a policy; apart from it, since type checkers are to look at its `__new__`."""

    queue_timeout: float | None = attrs.field(default=None, validator=_optional_seconds)
    timeout: float | None = attrs.field(default=None, validator=_optional_seconds)
    deadline: float | None = attrs.field(default=None, validator=_optional_seconds)
    retry: Retry | None = attrs.field(default=None, validator=_instance(Retry))
    breaker: Breaker | None = attrs.field(default=None, validator=_instance(Breaker))
    throttle: tuple[Throttle, ...] = attrs.field(default=(), converter=_throttles)
    budget: Budget | None = attrs.field(default=None, validator=_instance(Budget))
    fair: Key | None = attrs.field(default=None, validator=_optional_key)
    fallback: Callable[..., Any] | None = None
    batch: Batch | None = attrs.field(default=None, validator=_instance(Batch))

    @property
    def has_times(self) -> bool:
        """Whether there is a limit of time."""
        return not self.queue_timeout is self.timeout is self.deadline is None

    def __attrs_post_init__(self) -> None:
        if self.fallback is not None and not callable(self.fallback):
            raise BadPolicy("Policy", "fallback", self.fallback, "use a function of the error and the arguments")


class Policy(_Parts):
    """What the tokens of an operation or of an actor are held to. Times are in seconds; None sets no limit.

    Attributes:
        queue_timeout: how long an attempt may wait to begin.
        timeout: how long one attempt may run.
        deadline: how long all may take together, from the making of the token.
        retry: further attempts after an error.
        breaker: a stop of new attempts while too many fail.
        throttle: limits of rates and of concurrency; one or several.
        budget: a limit of costs.
        fair: tokens of one priority take turns by this tag or parameter.
        fallback: a function of the error and the arguments, whose result replaces that of a token that was refused or
            has failed.
        batch: one call serves many tokens.

    Raises:
        BadPolicy: a value cannot work.
    """

    __slots__ = ()

    if TYPE_CHECKING:  # a policy with a batch changes the type of the operation: it is called with one

        @overload
        def __new__(
            cls,
            *,
            queue_timeout: float | None = None,
            timeout: float | None = None,
            deadline: float | None = None,
            retry: Retry | None = None,
            breaker: Breaker | None = None,
            throttle: Throttle | Iterable[Throttle] | None = None,
            budget: Budget | None = None,
            fair: Key | None = None,
            fallback: Callable[..., Any] | None = None,
            batch: None = None,
        ) -> Policy: ...
        @overload
        def __new__(
            cls,
            *,
            queue_timeout: float | None = None,
            timeout: float | None = None,
            deadline: float | None = None,
            retry: Retry | None = None,
            breaker: Breaker | None = None,
            throttle: Throttle | Iterable[Throttle] | None = None,
            budget: Budget | None = None,
            fair: Key | None = None,
            fallback: Callable[..., Any] | None = None,
            batch: Batch,
        ) -> BatchPolicy: ...
        def __new__(cls, **parts: Any) -> Any: ...


class BatchPolicy(Policy):
    """What type checkers take a policy with a batch for; there is no object of this class."""

    __slots__ = ()

    _batch: Batch  # makes it another class to them


OF_CALLS: Final = ("queue_timeout", "timeout", "deadline", "retry", "fallback")
"""Parts of a policy that a single call may have; the others have states, which belong to the operation."""


def parts_of(policy: Policy) -> dict[str, Any]:
    """Return {name: value} of the parts of a policy that are set."""
    values = ((field.name, getattr(policy, field.name)) for field in attrs.fields(Policy))
    return {name: value for name, value in values if value not in (None, ())}


def with_parts(policy: Policy | None, other: Policy) -> Policy:
    """Return a policy with the parts that are set in another one in the place of its own."""
    return other if policy is None else attrs.evolve(policy, **parts_of(other))
