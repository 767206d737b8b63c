"""Counterparts of the runtime's names for user code in a child."""

from __future__ import annotations

import importlib
import time
from contextvars import ContextVar
from typing import Any, Final, cast

from . import _exceptions
from ._current_worker import current_worker
from ._pickling import exchange, exchange_found
from ._proxies import Ref, RemoteToken
from ._secret import Secret

for _name in _exceptions.__all__:
    exchange(getattr(_exceptions, _name))
exchange(Secret)

_MISSING: Final = object()
_variables: Final[dict[tuple[str, str, str], ContextVar[Any]]] = {}


@exchange
def checkpoint() -> None:
    """Let the running token be paused or ended here, in a long plain function.

    Raises:
        TokenInterrupt: the running token is to end; do not catch it.
    """
    if current_worker.own_checkpoint is not None:
        current_worker.own_checkpoint()
    if current_worker.yield_points is not None:
        current_worker.yield_points.checkpoint()


@exchange
def current_token() -> RemoteToken | None:
    """Return the token that runs this code, or None outside of any.

    The gate is asked once in each call. If user code has opened a gate in this process, the tokens of that come first.
    """
    if current_worker.own_token is not None and (own := current_worker.own_token()) is not None:
        return cast("RemoteToken", own)
    points = current_worker.yield_points
    if points is None or not points.in_call():
        return None
    token: RemoteToken | None
    number, token = current_worker.last_token
    if number != points.number:
        facts = current_worker.ask("current")
        token = None if facts is None else CurrentToken(facts)
        current_worker.last_token = points.number, token
    return token


class CurrentToken(RemoteToken):
    """The running token, with its properties.

    Attributes:
        operation: name of the operation.
        actor: path of the place that runs it.
        priority: higher goes first.
        tags: labels that selectors match.
        parent: id of the token that has made it, or None.
        attempt: 1 for the first run.
        affinity: `process`.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        super().__init__(facts["id"])
        self.operation: str = facts["operation"]
        self.actor: str = facts["actor"]
        self.priority: int = facts["priority"]
        self.tags: dict[str, str] = dict(facts["tags"])
        self.parent: int | None = facts["parent"]
        self.attempt: int = facts["attempt"]
        self.affinity: str = facts["affinity"]
        left: float | None = facts["seconds_left"]
        self._due = None if left is None else time.monotonic() + left

    def _seconds_left(self) -> float | None:
        """Return the seconds until its deadline, as that was when the code first asked for its token."""
        return None if self._due is None else max(0.0, self._due - time.monotonic())

    def _spend(self, cost: float) -> None:
        current_worker.ask("spend", cost)


exchange_found(CurrentToken, "found_token", lambda token: token.id, RemoteToken)


@exchange
class ExitReason:
    """How an instance of an actor ended; equal to another one with the same kind and error."""

    def __init__(self, kind: str, error: BaseException | None = None) -> None:
        self.kind = kind
        self.error = error

    @property
    def orderly(self) -> bool:
        """Whether a transient child with this end is not restarted."""
        return self.kind in ("normal", "shutdown")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExitReason) and (self.kind, self.error) == (other.kind, other.error)

    def __hash__(self) -> int:
        return hash((self.kind, self.error))

    def __reduce__(self) -> tuple[Any, ...]:
        return ExitReason, (self.kind, self.error)

    def __str__(self) -> str:
        if self.error is None:
            return self.kind
        try:
            return f"error({self.error!r})"
        except BaseException:
            return f"error(<{type(self.error).__name__} whose repr raised>)"

    def __repr__(self) -> str:
        return f"<ExitReason {self}>"


@exchange
class Down:
    """Message of a watch: an instance of the watched actor has ended, or there is none.

    Attributes:
        ref: the watched actor.
        path: its path.
        reason: why the instance has ended.
        closed: whether the actor has ended for good, and this is the last message.
    """

    def __init__(self, ref: Ref, path: str, reason: ExitReason, closed: bool) -> None:
        self.ref = ref
        self.path = path
        self.reason = reason
        self.closed = closed

    def _key(self) -> tuple[Any, ...]:
        return self.ref, self.path, self.reason, self.closed

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Down) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        return Down, self._key()

    def __repr__(self) -> str:
        return f"Down(ref={self.ref!r}, path={self.path!r}, reason={self.reason!r}, closed={self.closed!r})"


@exchange
class ReceiveTimeout:
    """Message to an actor: no other message has come for `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReceiveTimeout) and self.seconds == other.seconds

    def __hash__(self) -> int:
        return hash(self.seconds)

    def __reduce__(self) -> tuple[Any, ...]:
        return ReceiveTimeout, (self.seconds,)

    def __repr__(self) -> str:
        return f"ReceiveTimeout(seconds={self.seconds!r})"


@exchange
class Limits:
    """Limits of one token in a child process; only the gate enforces them."""

    def __init__(
        self,
        memory: int | None = None,
        address_space: int | None = None,
        cpu_time: float | None = None,
        wall_time: float | None = None,
    ) -> None:
        self.memory = memory
        self.address_space = address_space
        self.cpu_time = cpu_time
        self.wall_time = wall_time

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Limits) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))

    def __reduce__(self) -> tuple[Any, ...]:
        return Limits, (self.memory, self.address_space, self.cpu_time, self.wall_time)

    def __repr__(self) -> str:
        return f"Limits({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


def context_variable(module: str, attribute: str, name: str, *default: Any) -> ContextVar[Any]:
    """Return a context variable of the user: the one in a module, or a new one, which is created once.

    Args:
        module: that has it; empty if none has.
        attribute: its name in the module.
        name: its own name.
        default: its default, if it has one.
    """
    if module:
        found = getattr(importlib.import_module(module), attribute, None)
        if isinstance(found, ContextVar):
            return found
    key = (module, attribute, name)
    variable = _variables.get(key)
    if variable is None:
        variable = ContextVar(name, default=default[0]) if default else ContextVar(name)
        _variables[key] = variable
    return variable
