"""Recycle processes: replace those of an operation, or that of a process actor, as soon as they are idle."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

import trio

from actors import ActorSystem, Reply, TokenGateError
from actors.lowlevel import ActorPlace, Place, ProcessDrain, Worker
from tokengate.control._admission import admission
from tokengate.control._exceptions import NotSteerable
from tokengate.control._safe_text import plain
from tokengate.control.messages import ActorOutcome

_logger = logging.getLogger("tokengate.control")

# Seconds between two looks whether something is idle, or has ended.
_LOOK: Final = 0.005


def drain_of(place: Place) -> ProcessDrain:
    """Return the drain of a place whose tokens run in child processes.

    Raises:
        NotSteerable: they run elsewhere.
    """
    drain = place.drain
    if not isinstance(drain, ProcessDrain):
        raise NotSteerable(f"tokens of '{place.path}' run with affinity {place.affinity}; only 'process' has processes")
    return drain


async def recycle_workers(system: ActorSystem, place: Place, pid: int | None, wait: float) -> ActorOutcome:
    """Have processes replaced that run tokens of an operation, each when it is idle.

    Args:
        system: the system.
        place: of the operation.
        pid: of the only one; None for all that run its tokens, and the idle ones.
        wait: seconds to wait for their end.

    Raises:
        NotSteerable: the operation runs elsewhere, or the process is an actor's.
    """
    drain, host = drain_of(place), system.processes
    if pid is None:
        workers = [*drain.workers(), *host.pool.used()]
    else:
        workers = [worker for worker in list(host.pool.workers) if worker.pid == pid]
        for worker in workers:
            _check_holder(worker, place)
    workers = [worker for worker in workers if not (worker.dead or worker.doomed)]
    if not workers:
        why = "no process has run its tokens" if pid is None else f"no process {pid} runs tokens of operations"
        return ActorOutcome(place.path, "unchanged", why)
    host.replace(workers)
    with trio.move_on_after(wait):
        await _until_gone(workers)
    left = _left(workers)
    if not left:
        pids = ", ".join(str(worker.pid) for worker in workers)
        return ActorOutcome(place.path, "done", f"process {pids} has ended; another one begins when it is needed")
    busy = "; ".join(map(_at_work, left[:3])) + ("; ..." if len(left) > 3 else "")
    return ActorOutcome(place.path, "pending", f"{busy}; it is replaced after that, and is given nothing new")


def _check_holder(worker: Worker, place: Place) -> None:
    """Raise an error if a worker is an actor's, or runs tokens of an operation that the caller may not change."""
    holder = worker.holder
    if holder is None or holder.place is place:
        return
    if holder.own:
        raise NotSteerable(f"process {worker.pid} is that of actor '{holder.place.path}'; recycle that")
    admission().reach(holder.place)


def _left(workers: Sequence[Worker]) -> list[Worker]:
    return [worker for worker in workers if not worker.dead]


async def _until_gone(workers: Sequence[Worker]) -> None:
    while _left(workers):
        await trio.sleep(_LOOK)


def _at_work(worker: Worker) -> str:
    running = [one for one in list(worker.inflight.values()) if one.started_at is not None]
    names = ", ".join(f"token {token.id} ({plain(token.operation)})" for token in running[:1])
    return f"process {worker.pid} runs {names}" if names else f"process {worker.pid} is about to end"


async def _until_idle(place: ActorPlace, starts: int) -> None:
    """Wait until no token runs at a place, which takes none any more, or another instance has been started there.

    One that is being started again, after a crash, say, is waited for.
    """
    while place.starts == starts and not (place.closed or place.without_instance()):
        if place.status == "running" and not (place.mailbox.active or place.drain.running()):
            return
        await trio.sleep(_LOOK)


class Renewals:
    """The process actors that get another process as soon as they are idle.

    Args:
        system: the system.
    """

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._waiting: dict[ActorPlace, Reply[ActorOutcome]] = {}  # set to what has become of it

    async def recycle(self, place: ActorPlace, above: ActorPlace, pid: int | None, wait: float) -> ActorOutcome:
        """Have the instance of a process actor started in another process, when it runs no token.

        Args:
            place: of the actor.
            above: of its supervisor.
            pid: of its process; None: whatever that is.
            wait: seconds to wait for the new instance.

        Raises:
            NotSteerable: it does not run in a process.
            StartFailed: it did not start again.
        """
        workers = drain_of(place).workers()
        if not workers or pid not in (None, workers[0].pid):
            why = "it has no process just now" if not workers else f"its process is {workers[0].pid}"
            return ActorOutcome(place.path, "unchanged", why)
        renewal = self._waiting.get(place)
        if renewal is None:
            renewal = self._waiting[place] = Reply()
            work = partial(self._renew, place, above, renewal)
            self._system.system_host.start_task(work, f"another process of {place.path}")
        with trio.move_on_after(wait):
            await Reply.wait(renewal)
        if renewal.done():
            return renewal.result()
        running = ", ".join(f"token {token.id} ({plain(token.operation)})" for token in place.drain.running())
        busy = f"it runs {running}" if running else f"it is {place.status}"
        return ActorOutcome(place.path, "pending", f"{busy}; its process is replaced after that")

    async def _renew(self, place: ActorPlace, above: ActorPlace, renewal: Reply[ActorOutcome]) -> None:
        starts, error = place.starts, None
        place.mailbox.suspend()  # it takes no further token before the one that it runs has ended
        try:
            await _until_idle(place, starts)
            if place.starts == starts and not place.without_instance() and not place.closed:
                await above.ref.proxy().renew_child(place.ref)
        except TokenGateError as raised:
            _logger.warning("actor '%s' could not be started in another process: %s", place.path, raised)
            error = raised
        finally:
            place.mailbox.resume()
            del self._waiting[place]
            again = place.starts > starts
            note = f"its instance is number {place.starts}" if again else "it has ended meanwhile, or declined to start"
            renewal._set(ActorOutcome(place.path, "done" if again else "unchanged", note), error)
