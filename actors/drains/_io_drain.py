"""The drain that runs a place's tokens in tasks of a trio loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any, Final, cast

import trio
from trio.lowlevel import checkpoint_if_cancelled

from actors._exceptions import ActorDead, TokenRejected
from actors.concurrency._loop_host import LoopHost
from actors.drains._io_worker import IoWorker, Runner
from actors.mailboxes._mailbox import Drainer
from actors.mailboxes._signals import Signal, Start, Stop
from actors.steps._step import share_turn
from actors.tokens._token import Token, _current

if TYPE_CHECKING:
    from actors.places._place import Place

_NO_HANDLERS: Final[frozenset[str]] = frozenset()


def _cancel_on_loop(token: Token[Any]) -> None:
    """Cancel what runs a token, if something does, on its loop; not another attempt than the one that was meant."""
    is_meant = not token._done and token._extras.cancel_requested
    runner = cast("IoDrain", token._place.drain).runner_of(token) if is_meant else None
    if runner is None or runner.crashed:
        return
    if runner.host.on_loop():
        runner.cancel_current()
    else:  # it has come to another loop in the meantime
        runner.host.call_soon(MethodType(_cancel_on_loop, token))


class IoDrain:
    """Keeps a task for each drainer that the mailbox asks for; idle ones are parked for reuse.

    `waiting` finds what runs a token in constant time, however many others run.
    """

    __slots__ = (
        "_waiting_handlers",
        "closed",
        "host",
        "parked",
        "place",
        "runs_on_arrival",
        "throughput",
        "throughput_deadline",
        "waiting",
        "workers",
    )

    listen_for: Callable[[Token[Any], float | None], None] | None = None

    def __init__(self, place: Place, host: LoopHost, throughput: int = 64, throughput_deadline: float = 0.005) -> None:
        self.place = place
        self.host = host
        self.throughput = throughput
        self.throughput_deadline = throughput_deadline
        self.workers: set[IoWorker] = set()
        self.parked: dict[IoWorker, None] = {}  # the latest one is reused first
        self.waiting: dict[Token[Any], Runner] = {}  # {token that awaits something: what runs it}
        self.closed = False
        self._waiting_handlers = _NO_HANDLERS  # operations of tokens whose handlers may wait
        self.runs_on_arrival = not place.properties.durable  # until a handler has waited

    def new_drainer(self) -> IoWorker:
        try:
            worker, _ = self.parked.popitem()
        except KeyError:
            worker = self._new_worker()
        worker.called = True
        return worker

    def _new_worker(self) -> IoWorker:
        worker = IoWorker(self, self.host, self.parked)
        self.workers.add(worker)
        return worker

    def host_of(self, token: Token[Any]) -> LoopHost:  # noqa: ARG002
        """Return the host of the loop in which a token runs, or is to run."""
        return self.host

    def wake(self, worker: IoWorker) -> None:
        if worker.host.on_loop():
            worker.come()
        else:
            worker.host.later(worker.arrive)

    def recover(self, drainers: Iterable[Drainer]) -> None:
        for worker in drainers:
            if isinstance(worker, IoWorker) and worker.called and worker.arrive not in worker.host.queued:
                self.wake(worker)

    @trio.lowlevel.enable_ki_protection  # Ctrl-C is meant for the caller, never for the actor
    async def call_here(self, token: Token[Any]) -> bool:
        try:
            if not self._may_run_here(token) or not self.run_here(token):
                return False
            if token.finished_at is not None:
                await checkpoint_if_cancelled()
                if self._must_give_way(token):
                    await trio.lowlevel.cancel_shielded_checkpoint()
            return True
        finally:
            del token  # as in `IoWorker._begin`

    def _must_give_way(self, token: Token[Any]) -> bool:
        """Count a token that has ended in its caller's task; tell whether other tasks are to run now."""
        started_at, finished_at, host = token.started_at, token.finished_at, self.host
        if started_at is not None and finished_at is not None:
            host.tokens_here += 1
            host.seconds_here += finished_at - started_at
        if host.tokens_here < self.throughput and host.seconds_here < self.throughput_deadline:
            return False
        host.tokens_here, host.seconds_here = 0, 0.0
        return True

    def _may_run_here(self, token: Token[Any]) -> bool:
        """Tell whether it is worth trying to run a token in its caller's task."""
        place = self.place
        mailbox = place.mailbox
        if mailbox.active >= mailbox.concurrency or place.governor is not None:
            return False
        if token.operation in self._waiting_handlers or not self.host.in_task():
            return False
        caller, system = _current.get(), place.system
        if caller is not None and caller._extras.hold is not None:
            return False  # an operator steers the caller, which waits between its steps
        try:
            if system.guarded:
                system.check_intake(token)
        except (ActorDead, TokenRejected):
            return False
        return True

    def run_here(self, token: Token[Any], taker: IoWorker | None = None) -> bool:
        """Run a token outside of its worker's task, which runs what is left of it; return whether it was the next.

        Args:
            token: the token, which is put into the mailbox and taken.
            taker: the worker that has taken it already, since it came from another thread.
        """
        mailbox = self.place.mailbox
        worker = taker or self.new_drainer()
        worker.called = False  # it is woken only if something is left for its own task
        try:
            if taker is not None:
                now, caller = self.place.system.clock(), None
            else:
                now, caller = token.created_at, _current.get()
                worker.at_work = False
                if not mailbox.enter_with(worker, token):
                    return False
            worker.current = token
            if worker.at_work:
                worker.rest = worker.begin_here(token, now, caller)
            else:  # the place was ended just now
                self.place.give_back(token)
            return True
        finally:
            if worker.rest is not None:
                worker.come()
                if token._extras.cancel_requested and not worker.crashed:
                    worker.cancel_current()
            else:
                worker.current = None
                worker.lot[worker] = None
                mailbox.dismiss(worker)
                if self.closed:
                    worker.leave()
            del token  # as in `IoWorker._begin`

    def note_waiting(self, token: Token[Any]) -> None:
        """Note that the handler of a token may wait: from now on its tokens run in the tasks of workers."""
        self._waiting_handlers |= {token.operation}
        self.runs_on_arrival = False

    def control_arrived(self, signal: Signal, /) -> None:
        if isinstance(signal, Stop) and not signal.drain:
            self.host.call_soon(self._look)

    def _look(self) -> None:
        """End the steps of the running tokens if the actor is to stop now."""
        if any(isinstance(signal, Stop) and not signal.drain for signal in self.place.mailbox.signals()):
            for worker in list(self.workers):
                if not isinstance(worker.current, Stop):
                    worker.cancel_current()

    def handle_here(self, signal: Signal, _here: bool, plain: bool, /) -> bool:
        """Start an instance on the calling thread, if it is the loop's, or no code of the actor runs."""
        if not (isinstance(signal, Start) and (plain or self.host.on_loop())):
            return False
        worker = self._new_worker()
        worker.current = signal
        if not self.place.mailbox.enter_idle(worker):
            self.workers.discard(worker)
            return False
        worker.start_here(signal, plain)
        return True

    def dismiss_lost(self) -> bool:
        lost = [one for one in list(self.workers) if one.is_here]
        for worker in lost:
            worker.leave_here()
        return bool(lost)

    def cancel(self, token: Token[Any]) -> None:
        # One small object per call, since very many may be pending, and each object adds to the garbage collector's
        # work.
        self.host_of(token).call_soon(MethodType(_cancel_on_loop, token))

    def hold_changed(self, token: Token[Any]) -> None:
        def look() -> None:
            """Park the token if it is held: on the loop this runs between two steps of it."""
            hold, runner = token._extras.hold, self.runner_of(token)
            if hold is None or runner is None:
                return
            if runner.host.on_loop():
                hold.note_step()
                share_turn(hold)
            else:  # it has come to another loop in the meantime
                runner.host.call_soon(look)

        self.host_of(token).call_soon(look)

    def runner_of(self, token: Token[Any]) -> Runner | None:
        """Return what runs a token; for a token that awaits nothing, by a search."""
        runner = self.waiting.get(token)
        if runner is not None:
            return runner
        return next((worker for worker in list(self.workers) if worker.current is token), None)

    def rest_of(self, token: Token[Any]) -> object:
        """Return what is awaited for a token that waits, or None."""
        runner = self.runner_of(token)
        return None if runner is None else runner.rest

    def arrest(self, token: Token[Any]) -> bool:  # noqa: ARG002
        """Return True: tasks cannot be stopped, so the token is ended by force."""
        return True

    def running(self) -> list[Token[Any]]:
        return [item for worker in list(self.workers) if isinstance(item := worker.current, Token)]

    def has_taken(self, token: Token[Any]) -> bool:
        return self.runner_of(token) is not None

    def seal(self, only: Token[Any] | None = None) -> tuple[list[str], list[Token[Any]]]:
        found = list(self.workers) if only is None else [self.runner_of(only)]
        runners = [runner for runner in found if runner is not None]
        for runner in runners:
            self.place.mailbox.dismiss(runner)
        # Read after the dismissals: a worker writes what it takes, then checks whether it was dismissed.
        items = [(runner, runner.current) for runner in runners]
        for runner, item in items:
            runner.host.call_soon(partial(runner.cancel_if, item))
        return [], [item for _, item in items if isinstance(item, Token)]

    def close(self) -> None:
        self.host.call_soon(partial(self._close, self.parked))

    def _close(self, lot: dict[IoWorker, None]) -> None:
        """Let the parked workers of a loop end, and the others when they have nothing to do; only on the loop."""
        self.closed = True
        for worker in list(lot):
            worker.leave()
