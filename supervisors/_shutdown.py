"""Stop one child: ask, wait as long as its spec allows, then kill."""

from __future__ import annotations

import math

import trio

from actors import KILLED, SHUTDOWN, ActorPlace, ExitReason, Status
from supervisors._child_spec import WORKER_SHUTDOWN, Shutdown


async def stop_place(place: ActorPlace, shutdown: Shutdown | None, *, supervisor: bool) -> ExitReason:
    """Stop what is at a place after its current step; its queue stays.

    Args:
        place: where the child is.
        shutdown: as in `ChildSpec`.
        supervisor: whether the child is one, and so has no limit unless it is told.

    Returns:
        `shutdown` if it stopped in time, `killed` if it had to be sealed.
    """
    if place.status in (Status.VACANT, Status.CLOSED):
        return SHUTDOWN
    if shutdown != "kill":
        seconds = shutdown_seconds(shutdown, supervisor=supervisor)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + seconds):
            await place.stop(SHUTDOWN, drain=False, administrative=False).wait()
            return SHUTDOWN
    place.terminate_running("it did not stop in time" if shutdown != "kill" else "its supervisor killed it")
    return KILLED


def shutdown_seconds(shutdown: Shutdown | None, *, supervisor: bool) -> float:
    """Return how long a child may take to stop, in seconds."""
    if shutdown is None:
        return math.inf if supervisor else WORKER_SHUTDOWN
    return math.inf if isinstance(shutdown, str) else float(shutdown)
