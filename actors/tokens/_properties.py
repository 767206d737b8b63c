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
        interruptible: whether running code of the tokens may be interrupted.
        durable: the methods of an actor whose messages are durable tokens; `*`: all, and all calls of an operation.
    """

    guard: Guard = "none"
    show: Shown = frozenset()
    idempotent: bool = False
    interruptible: bool = True
    durable: Shown = frozenset()


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
        idempotent: True or False.
        durable: True or False, or a collection of names of methods.
        interruptible: as it is.

    Raises:
        ValueError: a value cannot work.
    """
    if guard not in _GUARDS:
        raise ValueError(f"guard of '{owner}' is {guard!r}; choose one of {_GUARDS}")
    if not isinstance(idempotent, bool):
        raise ValueError(f"idempotent of '{owner}' is {idempotent!r}; it must be True or False")
    exact = _GUARDS[_GUARDS.index(guard)]  # and no text of a subclass, whose `==` would run on the system loop
    return _shared(exact, _shown(owner, show), idempotent, interruptible, _durable(owner, durable))


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


def _durable(owner: str, durable: object) -> Shown:
    if isinstance(durable, bool):
        return "*" if durable else frozenset()
    if isinstance(durable, str) or not isinstance(durable, Collection) or not all(type(one) is str for one in durable):
        raise ValueError(
            f"durable of '{owner}' is {durable!r}; it must be True, or hold names of methods, such as ('add',)"
        )
    return frozenset(durable)
