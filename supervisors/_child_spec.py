"""What a supervisor has to know of a child."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

import attrs

from actors import BaseActor
from supervisors._exceptions import BadSpec

Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
Shutdown: TypeAlias = float | Literal["infinity", "kill"]

WORKER_SHUTDOWN = 5.0


@attrs.frozen
class ChildSpec:
    """A child of a supervisor: its name, what to start, and what to do when it ends.

    Attributes:
        id: its name under the supervisor; the last part of its path.
        start: the actor class (a `CpuActor`, an `IoActor`, a `Supervisor`).
        args: positional arguments of the class.
        kwargs: keyword arguments of the class.
        restart: `permanent` (after every end), `transient` (after an abnormal end), `temporary` (never).
        shutdown: seconds it gets to stop in, `infinity`, or `kill`; None takes 5.0, and `infinity` for a
            supervisor.

    Raises:
        BadSpec: a value that cannot work; the message names the child and the field.
    """

    id: str
    start: type[BaseActor]
    args: tuple[Any, ...] = attrs.field(default=(), kw_only=True)
    kwargs: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)
    restart: Restart = attrs.field(default="permanent", kw_only=True)
    shutdown: Shutdown | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id or "/" in self.id:
            raise BadSpec(f"child {self.id!r}: id must be a name without '/'")
        if not (isinstance(self.start, type) and issubclass(self.start, BaseActor)):
            raise BadSpec(f"child '{self.id}': start is {self.start!r}; it must be a CpuActor or IoActor class")
        if not isinstance(self.args, tuple):
            raise BadSpec(f"child '{self.id}': args is {self.args!r}; it must be a tuple")
        if not isinstance(self.kwargs, Mapping):
            raise BadSpec(f"child '{self.id}': kwargs is {self.kwargs!r}; it must be a mapping")
        if self.restart not in get_args(Restart):
            raise BadSpec(f"child '{self.id}': restart is {self.restart!r}; choose one of {get_args(Restart)}")
        if self.shutdown not in (None, "infinity", "kill") and not (
            isinstance(self.shutdown, int | float) and 0 <= self.shutdown < math.inf
        ):
            raise BadSpec(
                f"child '{self.id}': shutdown is {self.shutdown!r}; give seconds (at least 0), 'infinity' or 'kill'"
            )
