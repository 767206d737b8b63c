"""The life of an actor's instance: generators that start, visit, stop and crash one at its place.

The parts that run user code (`__init__`, `on_start`, `on_stop`, `on_failure`) are generators: they yield the code to
run and are sent its result and its exception. So the same code serves CPU threads, which call what is yielded, trio
tasks, which await it, and drains of child processes, which send for it. When an instance is sealed in between, its
generator is dropped, and a drainer that was dismissed meanwhile changes nothing any more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, TypeAlias

from actors._exceptions import ActorDead, StartFailed, TokenInterrupt
from actors._exit_reason import ExitReason, safe_repr
from actors.mailboxes._mailbox import Drainer
from actors.mailboxes._signals import Start, Visit
from actors.places._actor_place import ActorPlace, Status
from actors.places._notice import cancel_all
from actors.places._watch import tell_all
from actors.steps._step import without_runtime_frames

if TYPE_CHECKING:
    from actors.places._actor import BaseActor
    from actors.tokens._token import Token

_logger = logging.getLogger("tokengate.actors")

_RUNNING, _STARTING, _STOPPING, _VACANT = Status.RUNNING, Status.STARTING, Status.STOPPING, Status.VACANT

# Yields code to run; is sent (its value, None) or (None, its error).
Life: TypeAlias = Generator[Callable[[], Any], tuple[Any, BaseException | None], None]


def run(life: Life, drainer: Drainer, path: str) -> None:
    """Run the user code of one phase of an instance's life on the calling thread.

    Args:
        life: the phase.
        drainer: the drainer that runs it.
        path: of its place, for errors.
    """
    try:
        call = next(life)
        while True:
            value = error = None
            try:
                value = call()
                if iscoroutine(value):
                    value.close()
                    raise TypeError(f"a hook of actor '{path}' is async; a cpu actor cannot await it")
            except BaseException as raised:
                error = without_runtime_frames(raised)
            if not drainer.at_work:
                return
            call = life.send((value, error))
    except StopIteration:
        pass


def interrupt_of(start: Start) -> BaseException | None:
    """Return the cause of a failed start if it is meant for the calling code: Ctrl-C, or a request to end its token."""
    cause = None if start.reply._error is None else start.reply._error.__cause__
    return cause if isinstance(cause, KeyboardInterrupt | TokenInterrupt) else None


def visit(place: ActorPlace, signal: Visit) -> None:
    """Call the function of a visit with the instance; its exception is an answer to the visitor."""
    if not signal.claim():
        return
    instance = place.instance
    value: Any = None
    error: BaseException | None = None
    if instance is None or place.status is not _RUNNING:
        error = ActorDead(f"actor '{place.path}' has no instance just now; it is {place.status}")
    else:
        try:
            value = signal.function(instance)
        except BaseException as raised:
            error = raised
    signal.reply._set(value, error)


def start(place: ActorPlace, signal: Start, drainer: Drainer) -> Life:
    """Make an instance and start it."""
    if not _begin_start(place, signal):
        return
    instance, error = yield lambda: place.actor_class._make_instance(place)
    if error is None:
        place.instance = instance
        _, error = yield lambda: instance.on_start()  # noqa: PLW0108  # even the look-up is user code
    _end_start(place, signal, drainer, error)


def start_plain(place: ActorPlace, signal: Start, drainer: Drainer) -> None:
    """Do as `start` does, for an instance that runs no code of its own until it gets a token."""
    if not _begin_start(place, signal):
        return
    error: BaseException | None = None
    try:
        instance = place.actor_class._make_instance(place)
        if drainer.at_work:
            place.instance = instance
    except BaseException as raised:  # its class is abstract, or a signal handler has raised
        error = without_runtime_frames(raised)
    _end_start(place, signal, drainer, error)


def _begin_start(place: ActorPlace, signal: Start) -> bool:
    """Enter the status `starting`; if that cannot be, answer the start and return False."""
    if signal.reply._done:
        return False  # it was ended before it began
    with place.lock:
        status = place.status
        if status is _VACANT and not place.system.closed:
            place.status = _STARTING
            place.ending = None
    if place.system.closed:
        signal.reply._set(error=place._too_late())
        return False
    if status is not _VACANT:
        signal.reply._set(error=StartFailed(f"actor '{place.path}' is {status}; it cannot be started"))
        return False
    return True


def _end_start(place: ActorPlace, signal: Start, drainer: Drainer, error: BaseException | None) -> None:
    """Enter the status `running`, or `vacant` after an error; report and answer the start."""
    failure: BaseException | None = None
    if error is not None:
        cause = str(error) if isinstance(error, StartFailed) else safe_repr(error)
        failure = StartFailed(f"actor '{place.path}' ({place.actor_class.__name__}) did not start: {cause}")
        failure.__cause__ = error
    with place.lock:
        if not drainer.at_work:
            return
        if failure is None:
            place.mailbox.resume()  # first: a start that is interrupted while the status is `running` is complete
            place.starts += 1
            place.status = _RUNNING
            attached = None
        else:
            attached = place._release_instance()
            place.status = _VACANT
    if attached:
        cancel_all(attached)
    if failure is None and place.system.on_actor_started is not None:
        place.system.tell(place.system.on_actor_started, place.ref)
    signal.over(failure)
    if place._start is signal:
        place._start = None
    signal.reply._set(place.ref, failure)


def stop(place: ActorPlace, drainer: Drainer) -> Life:
    """End the instance in order."""
    return _end(place, place.stop_reason, drainer)


def crash(place: ActorPlace, error: BaseException, drainer: Drainer, token: Token[Any] | None = None) -> Life:
    """End the instance because its code raised, in a token or outside of any."""
    _logger.error("Unhandled exception in %s:", place.ref, exc_info=error)
    return _end(place, ExitReason("error", error), drainer, token)


def _end(place: ActorPlace, reason: ExitReason, drainer: Drainer, token: Token[Any] | None = None) -> Life:
    with place.lock:
        if not drainer.at_work:
            return
        place.note_last(token)
        instance = place.instance
        place.ending = reason
        was_running = place.status is _RUNNING
        if was_running:
            place.status = _STOPPING
            place.mailbox.suspend()
    del token  # its result may be large, and the hook may take its time
    if place.owner is None:  # it will not be started again, so, as in pykka, it is dead before its last hook runs
        place.mailbox.close(keep=True)
        place.system.leave_pykka_registry(place)
    if instance is not None:
        _, hook_error = yield lambda: _last_hook(instance, reason.error)
        if hook_error is not None:
            _logger.error("Unhandled exception in %s:", place.ref, exc_info=hook_error)
    with place.lock:
        if not drainer.at_work:
            return
        attached = place._release_instance()
        place.draining = False
        if not place.closed:
            place.status = _VACANT
        # If no other instance can follow, the place is closed right away: watches hear of one end, and not of two.
        for_good = place.ends_for_good(reason)
        watches = place._watches_to_tell() if was_running and not for_good else []
    cancel_all(attached)
    if was_running:
        place.system.tell(place.system.on_actor_ended, place.ref, reason)
    tell_all(watches, place, reason, closed=False)
    if for_good:
        place.close(reason)
    if place.owner is not None and (was_running or place.administrative):
        place.owner(place, reason, place.administrative)
    place._answer_stops(reason)


def _last_hook(instance: BaseActor, error: BaseException | None) -> Any:
    """Call the hook for the end of an instance: `on_failure` with an error, else `on_stop`."""
    if error is None:
        return instance.on_stop()
    return instance.on_failure(type(error), error, error.__traceback__)
