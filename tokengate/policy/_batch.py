"""Batches: when one is sent, what its function takes and returns. It is called with one, and run with a list."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter
from typing import Any

from tokengate._exceptions import BadPolicy, BatchMismatch
from tokengate.policy import _values
from tokengate.policy._policy import Batch


class Filling:
    """How full a batch is, and when it is sent.

    Args:
        batch: its limits.
        now: when its first token comes, in seconds of the clock.

    Attributes:
        batch: its limits.
        due_at: when it is sent, likewise; `-inf`: at once.
        is_full: whether no further token fits, of whatever cost.
    """

    __slots__ = ("_used", "batch", "due_at", "is_full")

    def __init__(self, batch: Batch, now: float) -> None:
        self.batch, self._used = batch, 0.0
        self.due_at = now + batch.wait if batch.wait else -math.inf
        self.is_full = False

    def takes(self, cost: float) -> bool:
        """Tell whether a token with this cost fits; the first one always does."""
        return not self._used or (not self.is_full and self._used + cost <= self.batch.size)

    def add(self, cost: float, now: float, deadline: float | None) -> None:
        """Note a token, and the time of its deadline: half of what is left of it is for the run."""
        self._used += cost
        if self._used >= self.batch.size:
            self.close()
        elif deadline is not None:
            self.due_at = min(self.due_at, now + (deadline - now) / 2)

    def close(self) -> None:
        """Have it sent as it is: the next token does not fit."""
        self.due_at, self.is_full = -math.inf, True


def argument_of(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return the argument of a call of an operation with this name.

    Raises:
        TypeError: it has none, or several.
    """
    count = len(args) + len(kwargs)
    if count != 1:
        raise TypeError(f"{name}() takes exactly one argument, one of those of its batch; it was given {count}")
    return args[0] if args else next(iter(kwargs.values()))


def cost_of(batch: Batch, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
    """Return how much of the size of a batch a call takes; runs the user's function, whose errors come out.

    Raises:
        BadPolicy: it is no number of at least 0.
    """
    if batch.cost is None:
        return 1.0
    return _values.number("Batch", "cost", batch.cost(*args, **kwargs), least=0)


def results_of(name: str, value: Any, count: int) -> list[Any]:
    """Return the results of a batch.

    Args:
        name: of the operation, for errors.
        value: what its function has returned: so many results, or exception objects in their place.
        count: how many tokens the batch has.

    Raises:
        BatchMismatch: it is no series of values, or there are more or fewer.
    """
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise BatchMismatch(f"{name}() was given a list of {count}, and returned a {type(value).__name__}", count, None)
    results = list(value)
    if len(results) != count:
        raise BatchMismatch(f"{name}() was given a list of {count}, and returned {len(results)}", count, len(results))
    return results


def check_function(name: str, function: Callable[..., Any], batch: Batch, *, generator: bool) -> None:
    """Raise `BadPolicy` unless a function can be run with a list."""
    place, remedy = f"operation '{name}'", "the function of a batch takes exactly one parameter, a list"
    if generator:
        raise BadPolicy(place, "policy.batch", batch, "use a function that returns a list, and no generator function")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise BadPolicy(place, "policy.batch", batch, remedy) from None
    if [one.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD) for one in parameters] != [True]:
        raise BadPolicy(place, "policy.batch", batch, remedy)


def call_alone(name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a function of batches with one, in a list of its own, and return or raise its result."""
    return _single(name, function([argument_of(name, args, kwargs)]))


async def await_alone(name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Do so with a coroutine function."""
    return _single(name, await function([argument_of(name, args, kwargs)]))


def _single(name: str, value: Any) -> Any:
    (result,) = results_of(name, value, 1)
    if isinstance(result, BaseException):
        raise result
    return result
