"""Stop one child: ask, wait as long as its spec allows, then kill."""

from __future__ import annotations

import math

import trio

from actors import KILLED, SHUTDOWN, ExitReason
from actors.lowlevel import ActorPlace
from supervisors._child import Child
from supervisors._child_spec import WORKER_SHUTDOWN, Shutdown


async def stop_place(place: ActorPlace, shutdown: Shutdown | None, *, supervisor: bool) -> tuple[ExitReason, int]:
    """Stop what is at a place after its current step; its queue stays.

    Args:
        place: where the child is.
        shutdown: as in `ChildSpec`.
        supervisor: whether the child is one, which has no limit unless its spec sets one.

    Returns:
        `shutdown` if it stopped in time, `killed` if it had to be sealed; and how many threads were left behind.
    """
    if shutdown != "kill":
        seconds = shutdown_seconds(shutdown, supervisor=supervisor)
        with trio.CancelScope(deadline=trio.current_time() + seconds):
            # On this thread, unless the place is watched: callbacks of watchers are user code.
            here = not place.watched
            await place.stop(SHUTDOWN, drain=False, administrative=False, here=here).wait()
            return SHUTDOWN, 0
    return KILLED, kill(place, "it did not stop in time" if shutdown != "kill" else "its supervisor killed it")


def kill(place: ActorPlace, why: str) -> int:
    """Seal what is at a place and at all places below it, and return how many threads were left behind."""
    with place.lock:  # a child that joins it now is either below it, or sees this
        place.ending = KILLED  # before those below it end, with it
    threads = 0
    for child in place.system.below(place):
        runs = child.instance is not None
        threads += kill(child, why)
        if runs and isinstance(child.keeper, Child):
            child.keeper.has_ended(KILLED)
        child.orphaned = True  # for the next instance of what is killed here, unless it was closed just now
    return threads + place.terminate_running(why)


def shutdown_seconds(shutdown: Shutdown | None, *, supervisor: bool) -> float:
    """Return how long a child may take to stop, in seconds."""
    if shutdown is None:
        return math.inf if supervisor else WORKER_SHUTDOWN
    return math.inf if isinstance(shutdown, str) else float(shutdown)
