"""What a supervisor has to know of a child."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, cast, get_args

import attrs
import pykka

from actors import BaseActor
from actors.lowlevel import TaskActor, cpu_actor_class
from supervisors._exceptions import BadSpec
from supervisors._strategy import Restart

Shutdown: TypeAlias = float | Literal["infinity", "kill"]

WORKER_SHUTDOWN = 5.0

_RESTARTS: Final = get_args(Restart)

# The common ones first: an abstract class looks at each object by a Python function.
_MAPPINGS: Final = (dict, MappingProxyType, Mapping)


@attrs.frozen
class ChildSpec:
    """A child of a supervisor: its name, what to start, and what to do when it ends.

    Attributes:
        id: its name under the supervisor; the last part of its path.
        start: a `CpuActor`, an `IoActor`, an `AsyncioActor` or a supervisor class; an async function (trio), which
            runs as a task of the io loop; or an actor class that was written for pykka, which gets a thread of its own.
        args: positional arguments of the class or function.
        kwargs: keyword arguments of it.
        restart: `permanent` (after every end), `transient` (after an abnormal end), `temporary` (never).
        shutdown: seconds it gets to stop in, `infinity`, or `kill`; None takes 5.0, and `infinity` for a
            supervisor.
        significant: whether its end by itself, when it is not restarted, counts for the `auto_shutdown` of its
            supervisor.

    Raises:
        BadSpec: a value that cannot work; the message names the child and the field.
    """

    id: str
    start: type[pykka.Actor] | Callable[..., Awaitable[Any]]
    args: tuple[Any, ...] = attrs.field(default=(), kw_only=True)
    kwargs: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)
    restart: Restart = attrs.field(default="permanent", kw_only=True)
    shutdown: Shutdown | None = attrs.field(default=None, kw_only=True)
    significant: bool = attrs.field(default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id or "/" in self.id:
            raise BadSpec(f"child {self.id!r}: id must be a name without '/'")
        if not (is_subclass(self.start, pykka.Actor) or _is_async(self.start)):
            raise BadSpec(
                f"child '{self.id}': start is {self.start!r}; it must be an actor class, or an async function (trio)"
            )
        if not isinstance(self.args, tuple):
            raise BadSpec(f"child '{self.id}': args is {self.args!r}; it must be a tuple")
        if not isinstance(self.kwargs, _MAPPINGS):
            raise BadSpec(f"child '{self.id}': kwargs is {self.kwargs!r}; it must be a mapping")
        if self.restart not in _RESTARTS:
            raise BadSpec(f"child '{self.id}': restart is {self.restart!r}; choose one of {_RESTARTS}")
        if self.shutdown not in (None, "infinity", "kill") and not (
            isinstance(self.shutdown, int | float) and 0 <= self.shutdown < math.inf
        ):
            raise BadSpec(
                f"child '{self.id}': shutdown is {self.shutdown!r}; give seconds (at least 0), 'infinity' or 'kill'"
            )
        if not isinstance(self.significant, bool):
            raise BadSpec(f"child '{self.id}': significant is {self.significant!r}; it must be True or False")
        if self.significant and self.restart == "permanent":
            raise BadSpec(
                f"child '{self.id}': significant is True, but a permanent child never ends for good; "
                "make it transient or temporary"
            )

    @property
    def actor(self) -> tuple[type[BaseActor], tuple[Any, ...], Mapping[str, Any]]:
        """The class whose instances the child's place has, with their arguments."""
        start = self.start
        if not isinstance(start, type):
            return TaskActor, (start, self.args, self.kwargs), {}
        if is_subclass(start, BaseActor):
            return start, self.args, self.kwargs  # pyright: ignore[reportReturnType]  # a cast would cost a call
        return cpu_actor_class(cast("type[pykka.Actor]", start)), self.args, self.kwargs


def is_subclass(start: object, base: type) -> bool:
    """Return whether a value is a class with this base, without a call of its metaclass, which may be a user's."""
    return isinstance(start, type) and type.__subclasscheck__(base, start)


def _is_async(start: object) -> bool:
    while isinstance(start, partial):
        start = start.func
    return not isinstance(start, type) and (
        inspect.iscoroutinefunction(start) or inspect.iscoroutinefunction(getattr(type(start), "__call__", None))  # noqa: B004
    )
