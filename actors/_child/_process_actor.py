"""`ProcessActor` as user code in a child has it: the base of the instance that the child holds."""

from __future__ import annotations

import abc
from types import TracebackType
from typing import Any, ClassVar

from ._current_worker import current_worker
from ._pickling import exchange
from ._proxies import Ref


class Timer:
    """A message that an actor sends to itself later; it ends with the instance."""

    def __init__(self, id: int) -> None:
        self._id = id

    def cancel(self) -> bool:
        """Send nothing any more; tell whether that kept a message from coming."""
        return bool(current_worker.ask("cancel_timer", self._id))


class Watch:
    """The watch of another actor; it ends with the instance."""

    def __init__(self, id: int) -> None:
        self._id = id

    def cancel(self) -> bool:
        """End the watch; tell whether it was on."""
        return bool(current_worker.ask("unwatch", self._id))


class _Base(abc.ABC):  # noqa: B024  # as the base is that may take its place, see `actors/_in_child.py`
    """Has what `ProcessActor` needs of a base."""


@exchange
class ProcessActor(_Base):
    """Base of actors whose instance is in a child process; its hooks are pykka's."""

    expected: ClassVar[tuple[type[BaseException], ...]] = ()
    """Exceptions of its methods that are answers to the caller, not a crash."""

    _path: str
    _urn: str = ""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        """Accept anything; it is no error to leave it out."""

    def on_start(self) -> None:
        """Run before the first message."""

    def on_stop(self) -> None:
        """Run after the last message, when the actor is ended in order."""

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Run when a method has raised, before the instance ends."""

    def on_receive(self, message: Any) -> Any:
        """Handle a message; what it returns is the answer."""

    @property
    def actor_urn(self) -> str:
        """A name that is unique everywhere; it stays the same across restarts."""
        return self._urn

    @property
    def actor_ref(self) -> Ref:
        """The ref of the actor itself."""
        return Ref(self._path, type(self).__name__)

    def stop(self) -> None:
        """End by itself, after all that is in the mailbox; a permanent child is then restarted."""
        current_worker.ask("self_stop")

    def send_after(self, seconds: float, message: Any) -> Timer:
        """Send a message to oneself once, in `seconds`; the timer dies with this instance."""
        return Timer(current_worker.ask("send_after", seconds, message))

    def send_every(self, seconds: float, message: Any) -> Timer:
        """Send a message to oneself every `seconds`; while one is still queued, a tick is skipped."""
        return Timer(current_worker.ask("send_every", seconds, message))

    def receive_timeout(self, seconds: float | None) -> None:
        """Have a `ReceiveTimeout` sent to `on_receive` whenever nothing has come for `seconds`; None ends it."""
        current_worker.ask("receive_timeout", seconds)

    def watch(self, ref: Ref) -> Watch:
        """Get a `Down` in `on_receive` at each end of an instance of another actor.

        Raises:
            TypeError: it is no ref.
        """
        if not isinstance(ref, Ref):
            raise TypeError(f"actor '{self._path}' can watch an actor's ref; {ref!r} is none")
        return Watch(current_worker.ask("watch", ref.path))

    def __reduce__(self) -> Any:
        raise TypeError(f"the instance of actor '{self._path}' cannot leave its process: send its actor_ref")

    def __str__(self) -> str:
        return str(self.actor_ref)
