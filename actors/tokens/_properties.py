"""The properties of a place, which its operation or actor class declares for all of its tokens."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, get_args

import attrs

Guard: TypeAlias = Literal["none", "force", "approval", "never"]
Shown: TypeAlias = frozenset[str] | Literal["*"]

_GUARDS: Final = get_args(Guard)

INSTEAD: Final[Mapping[str, str]] = MappingProxyType(
    {
        "protected": "guard='force' in the place of protected=True",
        "controllable": "guard='never' in the place of controllable=False",
        "show_arguments": "show='*', or the names of what is shown, in the place of show_arguments=True",
        "redact": "show, with the names of what is shown, in the place of redact",
    }
)
"""{name that is no property: what to write}."""


@attrs.frozen
class Properties:
    """The properties of a place.

    Attributes:
        guard: what an operator needs in order to end or pause a token, or to lower its limits: nothing, `force`, or
            another operator's approval; with `never`, no verb changes it.
        show: names of the arguments and attributes whose values are shown; `*` for all.
        idempotent: whether it does no harm to run a token twice.
        idempotent_methods: the methods of an actor for whose messages that holds, if it does not for all.
        interruptible: whether running code of the tokens may be interrupted.
        durable: the methods of an actor whose messages are durable tokens; `*`: all, and all calls of an operation.
    """

    guard: Guard = "none"
    show: Shown = frozenset()
    idempotent: bool = False
    interruptible: bool = True
    durable: Shown = frozenset()
    idempotent_methods: frozenset[str] = frozenset()


def checked_properties(
    owner: str,
    guard: object,
    show: object,
    idempotent: object,
    durable: object = False,
    *,
    interruptible: bool = True,
) -> Properties:
    """Return the properties with these values.

    Args:
        owner: name of the operation or actor class.
        guard: one of `Guard`.
        show: a collection of names, or `*`.
        idempotent: True or False, or a collection of names of methods of an actor.
        durable: the same.
        interruptible: as it is.

    Raises:
        ValueError: a value cannot work.
    """
    if guard not in _GUARDS:
        raise ValueError(f"guard of '{owner}' is {guard!r}; choose one of {_GUARDS}")
    methods = _methods(owner, "idempotent", idempotent)
    some = frozenset() if methods == "*" else methods
    exact = _GUARDS[_GUARDS.index(guard)]  # and no text of a subclass, whose `==` would run on the system loop
    kept = _methods(owner, "durable", durable)
    return _shared(exact, _shown(owner, show), methods == "*", interruptible, kept, some)


# One object for all places whose properties are equal.
_shared: Final = lru_cache(maxsize=256)(Properties)


def _shown(owner: str, show: object) -> Shown:
    if isinstance(show, str) and show == "*":
        return "*"
    if isinstance(show, str) or not isinstance(show, Collection) or not all(isinstance(name, str) for name in show):
        raise ValueError(
            f"show of '{owner}' is {show!r}; it must hold names of arguments and attributes, such as ('size',), "
            "or be '*' for all"
        )
    return frozenset(map(str.__str__, show))  # exactly `str`: to compare them runs no code of a subclass


def _methods(owner: str, what: str, methods: object) -> Shown:
    """Return a property that holds for all tokens, or for the messages of some methods of an actor."""
    if isinstance(methods, bool):
        return "*" if methods else frozenset()
    if isinstance(methods, str) or not isinstance(methods, Collection) or not all(type(one) is str for one in methods):
        raise ValueError(
            f"{what} of '{owner}' is {methods!r}; it must be True or False; that of an actor may hold names of its "
            "methods, such as ('add',)"
        )
    return frozenset(methods)
