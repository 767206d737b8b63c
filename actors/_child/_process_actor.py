"""The counterpart of `ProcessActor` in a child: the base class of the instance there."""

from __future__ import annotations

import abc
from types import TracebackType
from typing import Any, ClassVar

from ._current_worker import current_worker
from ._pickling import exchange
from ._proxies import Ref


class Timer:
    """A timer that sends a message to the actor; it ends with the instance."""

    def __init__(self, id: int) -> None:
        self._id = id

    def cancel(self) -> bool:
        """Cancel the timer; tell whether it would have sent a message."""
        return bool(current_worker.ask("cancel_timer", self._id))


class Watch:
    """A watch of another actor; it ends with the instance."""

    def __init__(self, id: int) -> None:
        self._id = id

    def cancel(self) -> bool:
        """Cancel the watch; tell whether it was active."""
        return bool(current_worker.ask("unwatch", self._id))


class _Base(abc.ABC):  # noqa: B024  # `actors/_in_child.py` may replace it by the runtime's class, which is one
    """The base of `ProcessActor`."""


@exchange
class ProcessActor(_Base):
    """Base class of actors with an instance in a child process; it has pykka's hooks."""

    expected: ClassVar[tuple[type[BaseException], ...]] = ()
    """Exceptions that its methods may raise for the caller, and that do not crash the actor."""

    _path: str
    _urn: str = ""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        """Accept any arguments; subclasses need not call it."""

    def on_start(self) -> None:
        """Run before the first message."""

    def on_stop(self) -> None:
        """Run after the last message, when the actor is stopped."""

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Run when a method has raised an unexpected exception, before the instance ends."""

    def on_receive(self, message: Any) -> Any:
        """Handle a message, and return the answer."""

    @property
    def actor_urn(self) -> str:
        """A globally unique name; it stays the same across restarts."""
        return self._urn

    @property
    def actor_ref(self) -> Ref:
        """The ref of the actor itself."""
        return Ref(self._path, type(self).__name__)

    def stop(self) -> None:
        """Stop after all that is in the mailbox; a permanent child is restarted then."""
        current_worker.ask("self_stop")

    def send_after(self, seconds: float, message: Any) -> Timer:
        """Send a message to this actor once, in `seconds`; the timer ends with this instance."""
        return Timer(current_worker.ask("send_after", seconds, message))

    def send_every(self, seconds: float, message: Any) -> Timer:
        """Send a message to this actor every `seconds`; a tick is skipped while the one before is still queued."""
        return Timer(current_worker.ask("send_every", seconds, message))

    def receive_timeout(self, seconds: float | None) -> None:
        """Get a `ReceiveTimeout` in `on_receive` whenever no message has come for `seconds`; None ends that."""
        current_worker.ask("receive_timeout", seconds)

    def watch(self, ref: Ref) -> Watch:
        """Get a `Down` in `on_receive` each time an instance of another actor ends.

        Raises:
            TypeError: `ref` is no ref.
        """
        if not isinstance(ref, Ref):
            raise TypeError(f"actor '{self._path}' can watch an ActorRef, got {ref!r}")
        return Watch(current_worker.ask("watch", ref.path))

    def saved(self, default: Any, *, type: Any = Any) -> Any:
        """Return the state that an actor at this path has saved, in this process or an earlier one; else `default`."""
        found = current_worker.ask("saved", type)
        return found[0] if found else default

    def save(self, value: Any) -> None:
        """Save the state of the actor: with the end of the message, in one commit; in a hook, in one of its own."""
        current_worker.ask("save", value)

    def __reduce__(self) -> Any:
        raise TypeError(f"the instance of actor '{self._path}' cannot be sent to another process: send its actor_ref")

    def __str__(self) -> str:
        return str(self.actor_ref)
