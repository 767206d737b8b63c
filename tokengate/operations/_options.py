"""Checks of the options of `@token`, and of the functions that it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from datetime import datetime
from inspect import CO_VARARGS, CO_VARKEYWORDS
from types import CodeType
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from actors import Limits, NotDurable, Overflow
from actors.lowlevel import AFFINITIES, INSTEAD, LOOP_AFFINITIES, Properties, checked_properties
from tokengate._exceptions import BadOperation, BadPolicy
from tokengate.operations._functions import is_async_generator_function
from tokengate.policy._policy import OF_CALLS, Policy, parts_of

Affinity: TypeAlias = Literal["io", "asyncio", "cpu", "process"]

FeatureSource: TypeAlias = Callable[..., Mapping[str, float]] | Literal["auto"] | None
"""A function of the arguments that returns {name: number}; `auto` takes the parameters; None computes none."""


durable_names: Final[list[str]] = []
"""Names of all durable operations, in the order in which they were decorated."""


def check_function(name: str, function: object) -> None:
    """Raise `BadOperation` unless this can be an operation."""
    if isinstance(function, type):
        raise BadOperation(f"@token goes on functions; make the class '{name}' an actor instead")
    if not callable(function):
        raise BadOperation(f"@token goes on functions and other callables; {function!r} is none")
    if is_async_generator_function(function):
        raise BadOperation(f"'{name}' is an async generator function; it has no single result")


def check_priority(name: str, priority: object) -> int:
    """Return the priority if it is an int, or raise `ValueError`."""
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise ValueError(f"priority of '{name}' is {priority!r}; it must be an int")
    return priority


def check_tags(name: str, tags: object) -> Mapping[str, str]:
    """Return the tags if they map strings to strings, or raise `ValueError`."""
    if not isinstance(tags, Mapping) or not all(isinstance(part, str) for item in tags.items() for part in item):
        raise ValueError(f"tags of '{name}' is {tags!r}; it must map strings to strings")
    # Exactly `str`: selectors of operators compare them, and must not run code of a subclass.
    return {str.__str__(name): str.__str__(value) for name, value in tags.items()}


def check_affinity(name: str, affinity: str, coroutine: bool) -> None:
    """Raise `BadOperation` unless a function can have this affinity."""
    if affinity not in AFFINITIES:
        raise BadOperation(f"affinity of '{name}' is {affinity!r}; choose one of {AFFINITIES}")
    if coroutine and affinity not in LOOP_AFFINITIES:
        raise BadOperation(f"'{name}' is a coroutine function; its affinity can only be 'io' (trio) or 'asyncio'")


def check_properties(
    name: str, function: object, guard: object, show: object, idempotent: object, durable: object
) -> Properties:
    """Return the properties of an operation, or raise `ValueError`, also if `show` names no parameter of the function.

    Any name is valid if the function takes `**kwargs`, or if the callable has no code to check.
    """
    for what, value in (("idempotent", idempotent), ("durable", durable)):
        if not isinstance(value, bool):
            raise ValueError(f"{what} of '{name}' is {value!r}; it must be True or False")
    properties = checked_properties(name, guard, show, idempotent, durable)
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        return properties
    variadic = bool(code.co_flags & CO_VARARGS) + bool(code.co_flags & CO_VARKEYWORDS)
    parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + variadic]
    unknown = properties.show - set(parameters) if properties.show != "*" else ()
    if unknown and not code.co_flags & CO_VARKEYWORDS:
        known = ", ".join(parameters) or "none"
        raise ValueError(f"show of '{name}' has {min(unknown)!r}, which is no parameter of it; choose from: {known}")
    return properties


def check_durable(name: str, function: object, policy: Policy | None, consent: object) -> None:
    """Note a durable operation; raise an error unless later processes find it by its name, and run each call alone."""
    module, qualified = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module in ("__main__", "__mp_main__"):
        raise NotDurable(f"'{name}' is in the program itself, __main__; move it to a module that the program imports")
    if not isinstance(module, str) or not qualified or "<" in qualified:
        raise NotDurable(
            f"'{name}' cannot be durable: a later process finds it by its module and name only, and "
            f"{qualified or repr(function)} has none; define it with 'def' at the top of a module"
        )
    if policy is not None and policy.batch is not None:
        raise BadOperation(
            f"'{name}' has a batch, which several calls share, and each durable call is kept by itself; "
            "take the batch away, or have a durable operation call this one"
        )
    if consent is not None:
        raise BadOperation(
            f"'{name}' needs consent to each call, which waits for that in memory, and a durable call is on disk when "
            "submit returns; give consent to an operation that calls this one"
        )
    durable_names.append(f"{module}:{qualified}")


def check_policy(policy: object) -> Policy | None:
    """Return a policy, or raise `BadPolicy` if it is none."""
    if policy is None or isinstance(policy, Policy):
        return policy
    raise BadPolicy("@token", "policy", policy, "use a Policy")


def check_consent(name: str, consent: object, policy: Policy | None) -> None:
    """Raise `ValueError` for other values of `consent`, or `BadOperation` if there is a batch."""
    if consent not in (None, "approval"):
        raise ValueError(f"consent of '{name}' is {consent!r}; it must be 'approval' or None")
    if consent is not None and policy is not None and policy.batch is not None:
        raise BadOperation(
            f"'{name}' has a batch, which several calls share, and each call needs consent of its own; "
            "give consent to an operation that calls it"
        )


def check_key(name: str, key: object) -> str | int:
    """Return a key as a plain text or int, or raise `ValueError`."""
    if isinstance(key, str):
        return str.__str__(key)  # no method of a class derived from it is called later
    if isinstance(key, int) and not isinstance(key, bool):
        return int.__int__(key)
    raise ValueError(f"key of '{name}' is {key!r}; it must be a text or an int that names the work")


def check_call_policy(name: str, policy: object) -> Policy:
    """Return a policy for single calls, or raise `BadPolicy` if it has parts whose states belong to the operation."""
    if not isinstance(policy, Policy):
        raise BadPolicy(f"with_options of '{name}'", "policy", policy, "use a Policy")
    for part, value in parts_of(policy).items():
        if part not in OF_CALLS:
            remedy = (
                f"it belongs to the operation: write it at @token(policy=...); here {', '.join(OF_CALLS)} can be set"
            )
            raise BadPolicy(f"with_options of '{name}'", f"policy.{part}", value, remedy)
    return policy


def check_features(name: str, features: object) -> FeatureSource:
    """Return what computes features if it can be that, or raise `ValueError`."""
    if features is None or features == "auto" or callable(features):
        return cast("FeatureSource", features)
    raise ValueError(
        f"features of '{name}' is {features!r}; it must be a function of the same arguments that returns "
        "{name: number}, or None"
    )


def check_no_others(others: Mapping[str, object]) -> None:
    """Raise `TypeError` if there are options that `@token` does not have."""
    if others:
        option = min(others)
        raise TypeError(f"@token has no option '{option}'; write {INSTEAD.get(option, 'one that help(token) lists')}")


def check_process_options(limits: object, context: Iterable[ContextVar[Any]]) -> tuple[ContextVar[Any], ...]:
    """Return the context variables that cross to a process, or raise `ValueError`, also for other `limits`."""
    if not isinstance(limits, Limits):
        raise ValueError(f"limits is {limits!r}; it must be Limits(memory=..., cpu_time=..., ...)")
    variables = (context,) if isinstance(context, ContextVar) else tuple(context)
    for variable in variables:
        if not isinstance(variable, ContextVar):
            raise ValueError(f"context has {variable!r}; it must hold ContextVars")
    return variables


def check_options(name: str, affinity: Affinity, limits: Limits, context: tuple[ContextVar[Any], ...]) -> None:
    """Raise `BadOperation` if an operation has options that are for another affinity."""
    if affinity == "process":
        return
    for option, given in (("limits", bool(limits)), ("context", bool(context))):
        if given:
            raise BadOperation(f"'{name}' has {option}, which are for affinity 'process'; its own is '{affinity}'")


def check_queue(name: str, concurrency: object, capacity: object, overflow: object) -> None:
    """Raise `ValueError` unless these can be the bounds of an operation and what happens to tokens beyond them."""
    for option, value in (("concurrency", concurrency), ("capacity", capacity)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{option} of '{name}' is {value!r}; it must be an int of at least 1")
    if overflow not in get_args(Overflow):
        raise ValueError(f"overflow of '{name}' is {overflow!r}; choose one of {get_args(Overflow)}")


def check_seconds(name: str, seconds: object) -> float:
    """Return the seconds by which a call is put off, or raise `ValueError`."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        raise ValueError(f"a call of '{name}' was to begin after {seconds!r} seconds; it must be a number, at least 0")
    return float(seconds)


def check_moment(name: str, moment: object) -> datetime:
    """Return the moment at which a call is to begin, or raise `ValueError`."""
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise ValueError(
            f"a call of '{name}' was to begin at {moment!r}; it must be a datetime with a timezone, "
            "such as datetime.now(UTC) + timedelta(hours=1)"
        )
    return moment
