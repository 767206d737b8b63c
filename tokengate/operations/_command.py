"""`@command`: marks the methods of actors that operators may call."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, Literal, TypeAlias, TypeVar, overload

from actors.lowlevel import mark

F = TypeVar("F", bound=Callable[..., Any])

Consent: TypeAlias = Literal["none", "approval"]


@overload
def command(method: F, /) -> F: ...
@overload
def command(*, consent: Consent = "none") -> Callable[[F], F]: ...
def command(method: Any = None, /, *, consent: Consent = "none") -> Any:
    """Let operators call a method of an actor: `tokengate call inventory restock tea 5`.

    Its annotations check the arguments, which come as JSON values. A method that overrides it needs a mark of its own.

    Args:
        method: a plain method, a coroutine method or a generator method of an actor's class.
        consent: `"approval"` if each call needs another person's approval.

    Raises:
        TypeError: it is no such method, its name is private, or there is no such consent.
    """
    if consent not in ("none", "approval"):
        raise TypeError(f'consent of @command is {consent!r}; it must be "none" or "approval"')
    if method is None:
        return lambda method: command(method) if consent == "none" else _marked(method, consent)
    return _marked(method, consent)


def _marked(method: Any, consent: Consent) -> Any:
    if type(method) is not FunctionType:
        raise TypeError(f"@command is for methods that are written with def, and this is a {type(method).__name__}")
    if method.__name__.startswith("_"):
        raise TypeError(f"'{method.__qualname__}' is private; rename it, since operators call a command by its name")
    mark(method, consent)
    return method
