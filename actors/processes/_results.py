"""Reads what child processes send, and settles their calls."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, cast

from actors._child import _wire
from actors._exceptions import NotPicklable
from actors.concurrency._blocking import refuse_waits
from actors.processes.pickling import _carrier
from actors.processes.workers._process_state import state_of

if TYPE_CHECKING:
    from actors.processes._ports import HostThread
    from actors.processes.pickling._ports import ProcessSystem
    from actors.processes.requests._requests import Requests
    from actors.processes.workers._poller import Poller
    from actors.processes.workers._worker import Worker
    from actors.tokens._token import Token

_logger = logging.getLogger("tokengate.actors")

_CALLS: Final = frozenset((_wire.RESULT, _wire.ERROR, _wire.CANCELLED))
_OUTCOMES: Final = _CALLS | {_wire.RESULTS}

# Seconds without the start of another call, after which the calls that a worker has not started are taken back.
_STUCK_SECONDS: Final = 0.01

# Seconds after which a worker that sleeps must have sent the rest of a message.
_PARTIAL_SECONDS: Final = 2.0

# Seconds for which a thread that waits for a token reads from the token's worker itself, at most.
_READ_HERE_SECONDS: Final = 0.002


class Results:
    """Reads from the workers, settles their calls, and passes their requests on.

    All of it runs on the host's thread, except `read_here`.

    Args:
        system: the actor system of the workers.
        host: the host's thread.
        requests: answers the requests.
        on_ready: called when a worker reports that it waits for calls.
    """

    def __init__(
        self, system: ProcessSystem, host: HostThread, requests: Requests, on_ready: Callable[[], object]
    ) -> None:
        self._system = system
        self._host = host
        self._requests = requests
        self._on_ready = on_ready
        # {worker with several calls: when it was last seen to go on, and the number of the call that it had begun}.
        self._batched: dict[Worker, tuple[float, int]] = {}
        # {worker that has sent a part of a message: when its latest bytes were seen, and how many it had sent by then}
        self._partial: dict[Worker, tuple[float, int]] = {}
        self._ended: set[Worker] = set()  # workers whose stream has ended, and whose exit is not reported yet

    # Which streams are read

    def watch(self, worker: Worker, events: int) -> None:
        """Read from a worker, or write to it, as soon as that is possible."""
        if worker.dead or worker in self._ended:
            return
        worker.events = events
        cast("Poller", self._host.poller).add(worker.stream.fileno(), worker, events)

    def unwatch(self, worker: Worker) -> None:
        """Read from a worker no more."""
        cast("Poller", self._host.poller).forget(worker.stream.fileno())

    def forget(self, worker: Worker) -> None:
        """Drop what is noted about a worker: it is dead."""
        self._ended.discard(worker)
        self._batched.pop(worker, None)
        self._partial.pop(worker, None)

    # Reading

    def read(self, worker: Worker) -> None:
        """Read from a worker, and handle what has come."""
        if not worker.read_lock.acquire(blocking=False):
            return  # another thread reads from it, and watches it again afterwards
        try:
            frames, ended = worker.read()
            self.handle(worker, frames)
        finally:
            worker.read_lock.release()
        self._note_partial(worker)
        if ended and not worker.dead:
            self.unwatch(worker)
            self._ended.add(worker)
            worker.hung_up = worker.hung_up or not worker.doomed
            worker.kill(worker.kill_reason)  # it may only have closed its end
            return
        holder = worker.holder
        if frames and holder is not None:
            holder.go_on(worker)

    def read_here(self, worker: Worker, token: Token[Any], seconds: float) -> None:
        """Read from a worker on the calling thread, which waits for a token that is soon over; for a moment at most.

        That saves two thread switches. Afterwards the host's thread reads from the worker again.
        """
        poller = self._host.poller
        if poller is None or not poller.can_mute:
            return
        muted = False
        try:
            if not worker.read_lock.acquire(blocking=False):
                return
            if worker.dead or worker.doomed or not worker.stream.may_peek:
                return
            muted = True  # set before it is: Ctrl-C may be raised at any point of this
            if not poller.mute(worker.stream.fileno()):
                return
            _carrier.loading_for(self._system)
            refuse_waits("the settling of results, in which this object is unpickled")
            self._read_until_done(worker, token, time.monotonic() + min(seconds, _READ_HERE_SECONDS))
        finally:
            refuse_waits("")
            if worker.read_lock._is_owned():  # type: ignore[attr-defined]  # as threading.Condition asks it
                if muted and not worker.dead:
                    poller.add(worker.stream.fileno(), worker, worker.events)
                worker.read_lock.release()
        holder = worker.holder
        if holder is not None:
            holder.go_on(worker)

    def _read_until_done(self, worker: Worker, token: Token[Any], until: float) -> None:
        while not token.done() and worker.stream.wait_readable(until) and self._handle_small_results(worker):
            pass

    def _handle_small_results(self, worker: Worker) -> bool:
        """Handle the results that have come, if they are small; tell whether nothing else has come.

        They are taken off the stream after they are settled. So an interruption loses nothing, and a result that is
        read twice is known by its number.
        """
        frames, whole = worker.stream.peek()
        size = 0
        for frame in frames:
            if frame.kind not in _OUTCOMES or frame.flags & _wire.LARGE or frame.number > worker.ended:
                break
            self.handle(worker, [frame])
            size += _wire.HEADER.size + len(frame.payload)
        worker.stream.consume(size)
        return 0 < size == whole

    def handle(self, worker: Worker, frames: list[_wire.Frame]) -> None:
        """Handle frames of a worker: settle its calls, pass on its requests and log records.

        A frame that the runtime cannot have sent ends the worker.
        """
        inflight = worker.inflight
        returned = False
        ended = 0
        if frames:
            ended = worker.ended  # read after the frames have come, so no frame is about a later call
            if not worker.page_is_sound():  # checked before the worker is given more to do
                worker.protocol_error = "what is no message of the runtime, on the page that it shares"
                frames = []
        for frame in frames:
            if frame.kind in _CALLS:
                if not 0 < frame.number <= ended:
                    worker.protocol_error = "the outcome of a call that was not over"
                    break
                returned = True
                waits = inflight.get(frame.number)
                if waits is None:
                    continue  # it was found in the outbox before
                worker.handled += 1
                if not self._settle(worker, waits, frame):
                    break
                inflight.pop(frame.number, None)
                if worker.tokens.changed:
                    worker.tokens.call_over(frame.number, keep=worker.own)
            elif frame.kind == _wire.RESULTS and not worker.own:
                returned = True
                if not self._settle_run(worker, frame, ended):
                    break
            elif frame.kind == _wire.READY:
                worker.is_ready = True
                self._on_ready()
            elif frame.kind in _wire.FROM_CHILD:
                self._requests.take(worker, frame)
            else:
                worker.protocol_error = "what is no message of the runtime"
                break
        if returned:
            self.note_batch(worker)
        if worker.protocol_error:
            self._kill_for_protocol_error(worker)

    def _settle(self, worker: Worker, waits: Any, frame: _wire.Frame) -> bool:
        """Settle a call; if that raises, the call ends with the error.

        Returns:
            False when the outcome cannot be had: the call ends when its worker does.
        """
        try:
            descriptor = worker.receive_file() if frame.flags & _wire.LARGE else None
            worker.holder.settle_call(worker, waits, frame, descriptor)
        except Exception as problem:
            if worker.protocol_error:
                return False
            _logger.exception("what process %s has sent could not be settled", worker.pid)
            error = NotPicklable(f"an answer of process {worker.pid} could not be taken: {_carrier.cause(problem)}")
            worker.holder.fail_call(worker, waits, error)
        return True

    def _settle_run(self, worker: Worker, frame: _wire.Frame, ended: int) -> bool:
        """Settle the calls of a run, all of an operation; return False if the runtime cannot have sent it."""
        try:
            run: tuple[Any, ...] = _carrier.load(frame.payload)
            sound = 0 < min(run[::3]) <= max(run[::3]) <= ended and min(run[1::3]) >= 0 and len(run) % 3 == 0
        except Exception:
            run, sound = (), False
        if not sound:
            worker.protocol_error = "what is no message of the runtime"
            return False
        worker.holder.settle_run(worker, run)
        if worker.tokens.changed:
            worker.tokens.call_over(run[-3], keep=False)
        return True

    def _kill_for_protocol_error(self, worker: Worker) -> None:
        """Kill a worker that has sent something which no child sends; nothing more is read from it."""
        if not self._host.on_thread():  # in `read_here`
            self._host.call_soon(lambda: self._kill_for_protocol_error(worker))
            return
        if worker.dead or worker in self._ended:
            return
        self.unwatch(worker)
        self._ended.add(worker)
        worker.hung_up = True
        worker.kill()

    # Calls that a worker has not started

    def note_batch(self, worker: Worker) -> None:
        """Note whether a worker has several calls; if it begins none of them for a while, `reclaim` is called."""
        if len(worker.inflight) > 1:
            self._batched[worker] = time.monotonic(), worker.begun
        else:
            self._batched.pop(worker, None)

    def reclaim(self, worker: Worker) -> None:
        """Take back the calls that a worker has not started, since one of its calls takes long.

        The process is stopped for that, for a moment: only then is it certain which calls it has started.
        """
        self._batched.pop(worker, None)
        holder = worker.holder
        if worker.dead or holder is None or worker.stopped:
            return
        with worker.read_lock:
            with worker.lock:
                worker.halt()
                frames, _ = worker.read()
                frames.extend(worker.outbox())
                not_started = worker.revoke()
                if not worker.stopped:
                    worker.go_on()
            self.handle(worker, frames)
        self._note_partial(worker)
        holder = worker.holder or holder  # it may have passed to another one before it was stopped
        holder.take_back(not_started)
        self._batched.pop(worker, None)
        holder.go_on(worker)

    # What is due later

    def due(self) -> Iterator[float]:
        """Return when `check` has something to do, in seconds of time.monotonic."""
        for since, _ in list(self._batched.values()):  # a copy: `note_batch` is called on other threads, too
            yield since + _STUCK_SECONDS
        for since, _ in list(self._partial.values()):
            yield since + _PARTIAL_SECONDS

    def check(self, now: float) -> None:
        """Do what is due."""
        for worker, (since, begun) in list(self._batched.items()):
            if now - since < _STUCK_SECONDS:
                continue
            if worker.begun == begun or worker.dead:
                self._host.guarded(self.reclaim, worker)
            else:
                self.note_batch(worker)
        for worker, (since, received) in list(self._partial.items()):
            if now - since >= _PARTIAL_SECONDS:
                self._partial[worker] = now, received
                self._host.guarded(self._check_partial, worker)

    def _note_partial(self, worker: Worker) -> None:
        stream = worker.stream
        if not stream.may_peek:
            known = self._partial.get(worker)
            if known is None or known[1] != stream.received:
                self._partial[worker] = time.monotonic(), stream.received
        elif self._partial:
            self._partial.pop(worker, None)

    def _check_partial(self, worker: Worker) -> None:
        """Kill a worker that sleeps and has sent only a part of a message: no child of the runtime does that."""
        if not worker.stopped and state_of(worker.pid) == "S":
            worker.protocol_error = f"a part of a message, and no more of it for {_PARTIAL_SECONDS} s"
            self._kill_for_protocol_error(worker)
