"""Actors with their code and state in a child process of their own."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar

from actors import _in_child
from actors._exceptions import LimitExceeded, NotPicklable, WorkerError
from actors.places._actor import BaseActor
from actors.processes._actor_drain import ActorDrain
from actors.processes._limits import NO_LIMITS, Limits
from actors.processes.pickling import _carrier

if TYPE_CHECKING:
    from actors.concurrency._future import Reply
    from actors.places._actor_place import ActorPlace
    from actors.places._drain import Drain
    from actors.tokens._token import Token


class ProcessActor(BaseActor):
    """A pykka actor with its instance in a child process of its own.

    Its code has its own interpreter lock, can be suspended at any point, and can be killed. Arguments, messages and
    answers are pickled; the class is pickled by value, so that it can be defined anywhere. The process ends with the
    instance, and the death of the process is a crash of the instance.
    """

    affinity: ClassVar[str] = "process"

    limits: ClassVar[Limits] = NO_LIMITS
    """Resources of the process that each of its tokens may use."""

    context: ClassVar[tuple[ContextVar[Any], ...]] = ()
    """The context variables that are sent to the process with each message."""

    cpu_affinity: ClassVar[tuple[int, ...] | None] = None
    """Numbers of the cores that its process may run on; None leaves that to the system."""

    nice: ClassVar[int | None] = None
    """Niceness of its process, from -20 to 19; None is that of the gate's process."""

    @classmethod
    def _make_drain(cls, place: ActorPlace) -> Drain:
        return ActorDrain(place, cls.limits, cls.context, nice=cls.nice, cpu_affinity=cls.cpu_affinity)

    @classmethod
    def _make_instance(cls, place: ActorPlace) -> BaseActor:
        return _StandIn(place)

    @classmethod
    def _crashes(cls, token: Token[Any], error: BaseException) -> bool:
        if isinstance(error, WorkerError | NotPicklable | LimitExceeded) and error.expected:
            return False
        return super()._crashes(token, error)


_carrier.bases[ProcessActor] = "ProcessActor"
if _in_child.child is not None:
    _carrier.bases[_in_child.child.ProcessActor] = "ProcessActor"


class _StandIn(BaseActor):
    """The instance in the gate's process: it passes hooks on to the child, and owns the timers and watches."""

    affinity = "process"

    def __init__(self, place: ActorPlace) -> None:
        self._place = place

    @classmethod
    def _make_drain(cls, place: ActorPlace) -> Drain:
        raise NotImplementedError("a stand-in is at the place of another class")

    @property
    def _drain(self) -> ActorDrain:
        drain = self._place.drain
        assert isinstance(drain, ActorDrain)
        return drain

    def on_start(self) -> Reply[Any]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._drain.make_instance()

    def on_stop(self) -> Reply[Any]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._drain.end_instance(None)

    def on_failure(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        self, _type: Any, value: Any, _traceback: Any
    ) -> Reply[Any]:
        return self._drain.end_instance(value)
