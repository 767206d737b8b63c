"""The thread that hears all child processes of a gate: it reads what they say and has it settled.

It is started with the first of them. User code runs on it only as far as unpickling results does. Operators do not need
it: who ends or stops a process does so from where he is.
"""

from __future__ import annotations

import errno
import logging
import os
import pickle
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, cast

import trio

from actors._child import _wire
from actors._exceptions import NotPicklable, WorkerDied
from actors.concurrency._blocking import refuse_waits
from actors.processes._limit_watch import LimitWatch
from actors.processes.pickling import _carrier
from actors.processes.requests._requests import Requests
from actors.processes.workers._deadlines import Deadline, Deadlines
from actors.processes.workers._fork_server import ForkServer, describe_exit
from actors.processes.workers._poller import READ, WRITE, Poller, new_poller
from actors.processes.workers._process_state import state_of
from actors.processes.workers._worker import Worker
from actors.processes.workers._worker_pool import Holder, ProcessPool, ProcessStatistics, WorkerPool

if TYPE_CHECKING:
    from actors.processes.pickling._ports import ProcessSystem
    from actors.tokens._token import Token

_logger = logging.getLogger("tokengate.actors")

_CALLS: Final = frozenset((_wire.RESULT, _wire.ERROR, _wire.CANCELLED))

# Seconds after which a worker that was sent several calls, and has returned none, is looked into.
_STUCK_SECONDS: Final = 0.01

# Seconds before a worker is made again after one could not be, or has died before it was ready.
_RETRY_SECONDS: Final = 0.5
_FAILURES_AT_ONCE: Final = 3  # in a row, after which it is made again without waiting

# When what waits for a worker fails: after so many failures in a row, the first of them so many seconds ago.
_FAILURES_AT_MOST: Final = 5
_FAILING_SECONDS: Final = 2.0

# Seconds after which a worker that waits for something must have sent the rest of a message.
_PARTIAL_SECONDS: Final = 2.0

# Seconds that a worker gets to end by itself.
_RETIRE_SECONDS: Final = 1.0

# Seconds for which who waits for a token hears its worker himself, at most.
_LISTEN_SECONDS: Final = 0.002

# Seconds without any progress after which the thread, or that of log records, is left behind by the system that closes.
_STILL_SECONDS: Final = 1.0

_TIDY_SECONDS: Final = 1.0  # between two looks for workers that are not needed


class ProcessHost:
    """Makes child processes, hands them out, hears them, and sees to it that they end.

    Args:
        system: whose they are.
        config: how many there are to be.
        size: how many run tokens of operations at once.
    """

    def __init__(self, system: ProcessSystem, config: ProcessPool, size: int) -> None:
        self.system = system
        self.pool = WorkerPool(config, size)
        self.closed = False
        self.limit_watch = LimitWatch(system)
        self._requests = Requests(system, self)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._soon: deque[Callable[[], object]] = deque()
        self._wake_read: socket.socket | None = None
        self._wake_write: socket.socket | None = None
        self._awake = False  # whether it is to look at `_soon` without being asked to once more
        self._wakeups: SimpleQueue[None] = SimpleQueue()  # wakes the thread while it has no socket for that
        self._poller: Poller | None = None
        self._server: ForkServer | None = None
        self._by_number: dict[int, Worker] = {}
        self._by_pid: dict[int, Worker] = {}
        self._numbers = 0
        self._batched: dict[Worker, float] = {}  # {worker with several calls in hand: when it has last returned one}
        self._partial: dict[Worker, float] = {}  # {worker that has sent a part of a message: when it was looked at}
        self._retiring: dict[Worker, float] = {}  # {worker that is to end by itself: until when}
        self._ended: set[Worker] = set()  # whose stream has ended, and of whose end the server has not told
        self._no_more_before = 0.0
        self._failures = 0  # in a row
        self._failing_since = 0.0  # when the first of them was
        self._why = ""  # what the latest of them was
        self._given_up = False  # whether nothing is made until a worker is asked for again
        self._turns = 0  # grows as long as the thread makes progress
        self._starting_later = False  # whether the system loop is to start the thread
        self._tidy_at = 0.0
        self._will_tidy = False  # whether it looks for workers that are not needed, without being asked to
        self._deadlines = Deadlines()

    # For any thread

    def start(self) -> None:
        """Have the thread, unless it is there.

        It raises nothing that the system may mend: if no thread can be started just now, the system loop tries again.
        """
        if self._thread is not None or self.closed:
            return
        if sys.platform == "win32":
            raise NotImplementedError("affinity 'process' needs unix sockets and fork, which Windows lacks")
        with self._lock:
            if self._thread is not None or self.closed:
                return
            thread = threading.Thread(target=self._work, name=f"{self.system.name}-processes", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # there are too many
                failed = error
            else:
                self._thread = thread
                self._soon.append(self.fill)
                return
        self._start_later(failed)

    def _start_later(self, error: RuntimeError) -> None:
        """Have the system loop start the thread after a moment, or fail what waits for it."""
        with self._lock:
            if self._starting_later:
                return
            self._starting_later = True
        try:
            self._count_failure(f"no thread could be started: {error}")
            self.system.system_host.start_daemon(self._start_after_a_while, f"{self.system.name}-processes")
        except BaseException:  # Ctrl-C, on the program's thread
            self._starting_later = False
            raise

    async def _start_after_a_while(self) -> None:
        await trio.sleep(_RETRY_SECONDS)
        self._starting_later = False
        if self._shall_give_up():
            self._run_soon()  # which tells what waits
            self._give_up()
        if self.pool.has_waiting or self._soon:
            self.start()

    def call_soon(self, fn: Callable[[], object]) -> None:
        """Have something called on the thread."""
        try:
            self._soon.append(fn)
            self._wake()
        except BaseException:  # Ctrl-C, on the program's thread
            self._wake()
            raise

    def recover(self) -> None:
        """See to it that the thread runs and looks, if a caller was interrupted before it had seen to that."""
        if self._soon or self.pool.has_waiting:
            self.start()
            self._awake = False
            self._wake()

    def on_thread(self) -> bool:
        """Tell whether this is the thread."""
        return threading.current_thread() is self._thread

    def acquire(self, holder: Holder) -> Worker | None:
        """Return a worker for somebody; None when there is none now: it is assigned to him later."""
        self.start()
        worker = self.pool.acquire(holder)
        if worker is None or self.pool.is_short:
            self.call_soon(self.fill)
        return worker

    def release(self, worker: Worker) -> None:
        """Take back a worker that has nothing to do."""
        if not self.pool.release(worker) and not worker.doomed:
            self.call_soon(lambda: self._retire(worker))
        if self.pool.has_waiting:
            self.call_soon(self.fill)
        elif not self._will_tidy and self.pool.has_superfluous:
            self._wake()  # it may sleep for ever

    def lend(self, by: int) -> None:
        """Let one more worker be at work while the token of one is paused, or waits (1), or no longer (-1)."""
        self.pool.lend(by)
        self.call_soon(self.fill)

    def call_later(self, seconds: float, fn: Callable[[], object]) -> Deadline:
        """Have something called on the thread in so many seconds; only there, and what it returns is, too."""
        return self._deadlines.add(seconds, fn)

    def want_room(self, worker: Worker) -> None:
        """Have the rest of what was sent to a worker written as soon as its stream takes more."""
        self.call_soon(lambda: self._watch(worker, READ | WRITE))

    def statistics(self) -> ProcessStatistics | None:
        """Return the figures of this moment; None when no process was ever needed."""
        return self.pool.statistics() if self._thread is not None else None

    def close(self, deadline: float) -> list[str]:
        """End all processes and the thread; return the thread's name if it was not at its end in time, nor went on.

        However late it is, as long as it comes closer to its end that is waited for.
        """
        with self._lock:
            self.closed = True
            thread = self._thread
        if thread is None:
            return []
        self._wake()
        thread.join(max(0.0, deadline - time.monotonic()))
        turns = -1
        while thread.is_alive() and turns != self._turns:
            turns = self._turns
            thread.join(_STILL_SECONDS)
        late = self._requests.join(max(deadline, time.monotonic() + _STILL_SECONDS))
        if not thread.is_alive():
            return late
        for worker in list(self.pool.workers):
            worker.kill()
        return [thread.name, *late]

    def disown(self) -> None:
        """Leave all of it to the parent, in a forked child: let go of what was inherited."""
        self.closed = True
        self._lock = threading.Lock()
        if self._thread is None:
            return
        self._thread = None
        for worker in list(self.pool.workers):
            worker.dead = True
            worker.close()
        if self._server is not None:
            self._server.disown()
        self._close_own()

    def _close_own(self) -> None:
        with self._lock:
            for own in (self._wake_write, self._wake_read, self._poller):
                if own is not None:
                    own.close()

    def _wake(self) -> None:
        if self._awake:
            return
        try:
            self._awake = True
            wake_write = self._wake_write
            if wake_write is None:  # then the thread has not looked at what is to be called since that was added
                self._wakeups.put(None)
            else:
                wake_write.send(b"w")
        except OSError:
            pass  # it is full, which is as good; or closed, with the thread gone
        except BaseException:  # Ctrl-C, on the program's thread
            self._awake = False
            raise

    # The thread

    def _work(self) -> None:
        with self._lock:  # one that was interrupted as it started this thread may have started another one since
            if self._thread not in (None, threading.current_thread()):
                return
            self._thread = threading.current_thread()
        _carrier.loading_for(self.system)
        refuse_waits(f"the thread that hears the child processes of '{self.system.name}'")
        try:
            while not self.closed:
                for source, events in self._wait(self._seconds_to_wait()):
                    self._guarded(self._on_event, source, events)
                self._run_soon()
                self._look_around()
        finally:
            self._end()

    def _wait(self, seconds: float | None) -> list[tuple[Any, int]]:
        """Wait until there is something to read: of a worker, the fork server, or a caller that wakes the thread."""
        if self._poller is not None:
            return self._poller.wait(seconds)
        try:
            self._wakeups.get(timeout=seconds)
        except Empty:
            pass
        return []

    def _open_own(self) -> None:
        """Have what the thread waits on, unless it is there.

        Raises:
            OSError: there is no descriptor left for it.
        """
        if self._poller is not None:
            return
        wake_read, wake_write = socket.socketpair()
        try:
            wake_read.setblocking(False)
            wake_write.setblocking(False)
            poller = new_poller()
            poller.add(wake_read.fileno(), wake_read)
        except BaseException:
            wake_read.close()
            wake_write.close()
            raise
        self._wake_read, self._poller = wake_read, poller
        self._wake_write = wake_write  # the last one: a caller that sees it wakes the thread that waits for it

    def _run_soon(self) -> None:
        self._awake = False  # before the look: who adds something after it wakes the thread again
        for _ in range(len(self._soon)):
            self._guarded(self._soon.popleft())

    def _guarded(self, fn: Callable[..., object], *args: Any) -> None:
        self._turns += 1
        try:
            fn(*args)
        except BaseException:
            _logger.exception("the thread of the child processes came upon an error of its own")

    def _on_event(self, source: Any, events: int) -> None:
        if isinstance(source, Worker):
            if events & WRITE and not source.send_rest():
                self._watch(source, READ)
            if events & READ:
                self._read_worker(source)
        elif isinstance(source, ForkServer):
            self._read_server(source)
        else:
            try:
                source.recv(4096)
            except BlockingIOError:
                pass

    def _seconds_to_wait(self) -> float | None:
        if self._soon:
            return 0.0
        now = time.monotonic()
        due = [since + _STUCK_SECONDS for since in self._batched.values()]
        due.extend(since + _PARTIAL_SECONDS for since in self._partial.values())
        due.extend(self._retiring.values())
        if self._no_more_before > now:
            due.append(self._no_more_before)
        self._will_tidy = self.pool.has_superfluous
        if self._will_tidy:
            due.append(self._tidy_at)
        if (next_at := self._deadlines.next_at()) is not None:
            due.append(next_at)
        return max(0.0, min(due) - now) if due else None

    def _look_around(self) -> None:
        now = time.monotonic()
        while (call := self._deadlines.pop_due(now)) is not None:
            self._guarded(call)
        for worker, since in list(self._batched.items()):
            if now - since >= _STUCK_SECONDS:
                self._guarded(self.reclaim, worker)
        for worker, since in list(self._partial.items()):
            if now - since >= _PARTIAL_SECONDS:
                self._partial[worker] = now
                self._guarded(self._look_for_the_rest, worker)
        for worker, until in list(self._retiring.items()):
            if now >= until:
                del self._retiring[worker]
                worker.kill()
        if self._no_more_before and now >= self._no_more_before:
            self._no_more_before = 0.0
            self._guarded(self.fill)
        if self.pool.has_superfluous and now >= self._tidy_at:
            self._tidy_at = now + min(_TIDY_SECONDS, max(0.01, self.pool.config.idle_after))
            for worker in self.pool.superfluous():
                self._retire(worker)

    def _note_turn(self) -> None:
        self._turns += 1

    # Workers come

    def fill(self) -> None:
        """Hand out what is there, and have made what is missing."""
        self._assign()
        if self.closed:
            return
        if self._shall_give_up():
            self._give_up()
        if self._given_up and self.pool.has_waiting:
            self._given_up = False
        if self._given_up or self._no_more_before or self._thread is None:
            return
        for _ in range(self.pool.missing()):
            if self._no_more_before:
                self.pool.forget_start()
            else:
                self._make()

    def _assign(self) -> None:
        while (assignment := self.pool.next_assignment()) is not None:
            holder, worker = assignment
            holder.assigned(worker)

    def _make(self) -> None:
        self._numbers += 1
        worker: Worker | None = None
        try:
            self._open_own()
            if self._server is None:
                self._server = ForkServer()
                cast("Poller", self._poller).add(self._server.fileno(), self._server)
            setup = _wire.pack(_wire.SETUP, 0, 0, pickle.dumps(self._setup()))
            worker = Worker(self.system, self._numbers)
            self.pool.making(worker)
            self._by_number[worker.number] = worker
            self._server.spawn(worker.number, worker.descriptors)
            worker.send([setup])
        except Exception as error:
            if worker is None:
                self.pool.forget_start()
            else:
                self._by_number.pop(worker.number, None)
            self._not_made(_carrier.cause(error), worker)

    def _setup(self) -> dict[str, Any]:
        try:
            folder = os.getcwd()
        except OSError:  # it was removed
            folder = ""
        return {
            "path": [entry or folder for entry in sys.path],
            "argv": list(sys.argv),
            "cwd": folder,
            "gate": self.system.name,
            "level": _carrier.log_level(),
        }

    def _not_made(self, why: str, worker: Worker | None) -> None:
        if worker is not None:
            self.pool.not_made(worker)
            worker.close()
        self._put_off(f"no child process could be made: {why}")

    def _put_off(self, why: str) -> None:
        self._count_failure(why)
        if self._failures > _FAILURES_AT_ONCE:
            self._no_more_before = time.monotonic() + _RETRY_SECONDS
        else:
            self.call_soon(self.fill)

    def _count_failure(self, why: str) -> None:
        if not self._failures:
            self._failing_since = time.monotonic()
        self._failures += 1
        self._why = why
        if self._failures & self._failures - 1 == 0:  # the more there are, the rarer a record
            _logger.error("%s; trying again (failure %s in a row)", why, self._failures)

    def _shall_give_up(self) -> bool:
        """Tell whether what waits for a worker is to fail: none can be made, and none lives that may come free."""
        return (
            self._failures >= _FAILURES_AT_MOST
            and time.monotonic() - self._failing_since >= _FAILING_SECONDS
            and not self.pool.may_come_free()
        )

    def _give_up(self) -> None:
        """Fail what waits for a worker, and begin anew when one is asked for the next time."""
        self._failures, self._no_more_before, self._given_up = 0, 0.0, True
        for holder in self.pool.take_waiting():
            self._guarded(holder.no_worker, self._why)

    def _read_server(self, server: ForkServer) -> None:
        try:
            for kind, first, second in server.read():
                if kind == _wire.SPAWNED:
                    self._on_spawned(self._by_number.pop(first), second)
                elif kind == _wire.EXITED and (worker := self._by_pid.get(first)) is not None:
                    self._on_exited(worker, second)
        except EOFError:
            self._server_lost(server)

    def _on_spawned(self, worker: Worker, pid: int) -> None:
        if pid < 0:
            self._not_made(f"fork: {os.strerror(-pid)} ({errno.errorcode.get(-pid, -pid)})", worker)
            return
        worker.started(pid)
        self._by_pid[pid] = worker
        self._watch(worker, READ)
        self.pool.made(worker)
        self._assign()

    def _watch(self, worker: Worker, events: int) -> None:
        if worker.dead or worker in self._ended:
            return
        worker.events = events
        cast("Poller", self._poller).add(worker.stream.fileno(), worker, events)

    def _unwatch(self, worker: Worker) -> None:
        cast("Poller", self._poller).forget(worker.stream.fileno())

    # What they say

    def read_here(self, worker: Worker, token: Token[Any], seconds: float) -> None:
        """Hear a worker on the calling thread, which waits for a token that is soon over; for a moment at most.

        That spares two changes of threads. The thread of the host hears it again afterwards.
        """
        poller = self._poller
        if poller is None or not poller.can_mute:
            return
        muted = False
        try:
            if not worker.read_lock.acquire(blocking=False):
                return
            if worker.dead or worker.doomed or not worker.may_peek:
                return
            muted = True  # before it is: Ctrl-C may come at any point of this
            if not poller.mute(worker.stream.fileno()):
                return
            _carrier.loading_for(self.system)
            refuse_waits("what comes after what is rebuilt here")
            until = time.monotonic() + min(seconds, _LISTEN_SECONDS)
            while not token.done() and worker.wait_readable(until) and self._handle_small_results(worker):
                pass
        finally:
            refuse_waits("")
            if worker.read_lock._is_owned():  # type: ignore[attr-defined]  # as threading.Condition asks it
                if muted and not worker.dead:
                    poller.add(worker.stream.fileno(), worker, worker.events)
                worker.read_lock.release()
        holder = worker.holder
        if holder is not None:
            holder.go_on(worker)

    def _handle_small_results(self, worker: Worker) -> bool:
        """Take the results that have come, if they are small; tell whether all that has come was that.

        They are taken off the stream when they are settled: whatever interrupts this, nothing is lost, and what is
        settled is known by its number.
        """
        frames, whole = worker.peek()
        size = 0
        for frame in frames:
            if frame.kind not in _CALLS or frame.flags & _wire.LARGE or not 0 < frame.number <= worker.ended:
                break
            self._take(worker, [frame])
            size += _wire.HEADER.size + len(frame.payload)
        worker.consume(size)
        return 0 < size == whole

    def _read_worker(self, worker: Worker) -> None:
        if not worker.read_lock.acquire(blocking=False):
            return  # somebody does that just now, and says when he has done it
        try:
            frames, ended = worker.read()
            self._take(worker, frames)
        finally:
            worker.read_lock.release()
        self._note_partial(worker)
        if ended and not worker.dead:
            self._unwatch(worker)
            self._ended.add(worker)
            worker.hung_up = worker.hung_up or not worker.doomed
            worker.kill(worker.kill_reason)  # it may only have closed its end
            return
        holder = worker.holder
        if frames and holder is not None:
            holder.go_on(worker)

    def _take(self, worker: Worker, frames: list[_wire.Frame]) -> None:
        inflight = worker.inflight
        returned = False
        ended = 0
        if frames:
            ended = worker.ended  # after they have come, and so no less than they tell of
            if not worker.page_is_sound():  # before the worker is given more to do
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
            elif frame.kind == _wire.READY:
                self._failures = 0
                worker.is_ready = True
            elif frame.kind in _wire.FROM_CHILD:
                self._requests.take(worker, frame)
            else:
                worker.protocol_error = "what is no message of the runtime"
                break
        if returned:
            self.note_batch(worker)
        if worker.protocol_error:
            self._kill_for_protocol_error(worker)

    def _kill_for_protocol_error(self, worker: Worker) -> None:
        """Kill a worker that nothing can be believed any more."""
        if not self.on_thread():  # another one heard it, for a moment
            self.call_soon(lambda: self._kill_for_protocol_error(worker))
            return
        if worker.dead or worker in self._ended:
            return
        self._unwatch(worker)
        self._ended.add(worker)
        worker.hung_up = True
        worker.kill()

    def _note_partial(self, worker: Worker) -> None:
        if not worker.may_peek:
            self._partial[worker] = time.monotonic()
        elif self._partial:
            self._partial.pop(worker, None)

    def _look_for_the_rest(self, worker: Worker) -> None:
        """Kill a worker that waits for something, and has sent only a part of a message: no child does that."""
        if not worker.stopped and state_of(worker.pid) == "S":
            worker.protocol_error = f"a part of a message, and no more of it for {_PARTIAL_SECONDS} s"
            self._kill_for_protocol_error(worker)

    def _settle(self, worker: Worker, waits: Any, frame: _wire.Frame) -> bool:
        """Have a call settled; whatever goes wrong with that, it comes to an end.

        Returns:
            False when there is no outcome: it comes to its end with its worker.
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

    def note_batch(self, worker: Worker) -> None:
        """Take note of how many calls a worker has in hand; it is looked into if nothing comes back of several."""
        if len(worker.inflight) > 1:
            self._batched[worker] = time.monotonic()
        else:
            self._batched.pop(worker, None)

    def reclaim(self, worker: Worker) -> None:
        """Find out how far a worker is, and take back what it has not begun: one of its calls takes long."""
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
            self._take(worker, frames)
        self._note_partial(worker)
        holder.take_back(not_started)
        self._batched.pop(worker, None)
        holder.go_on(worker)

    # Workers go

    def _retire(self, worker: Worker) -> None:
        if worker.dead or worker.doomed:
            return
        worker.retire()
        self._retiring[worker] = time.monotonic() + _RETIRE_SECONDS

    def _on_exited(self, worker: Worker, code: int | None) -> None:
        """Settle what a worker has left behind, and have another one in its place."""
        del self._by_pid[worker.pid]
        worker.died(code)
        self._ended.discard(worker)
        self._batched.pop(worker, None)
        self._partial.pop(worker, None)
        self._retiring.pop(worker, None)
        sound = worker.page_is_sound()
        try:
            with worker.read_lock:
                self._unwatch(worker)
                frames, _ = worker.read()
            if worker.holder is not None:
                self._take(worker, frames)
                if sound:
                    self._take(worker, list(worker.outbox()))
        finally:
            unexpected = worker.hung_up or not worker.doomed
            holder = self.pool.gone(worker, died=unexpected)
            if unexpected and not worker.is_ready and not worker.begun:
                told = [f"{worker.describe_end()} before it was ready", worker.crash_report()]
                self._put_off(": ".join(filter(None, told)))
            not_started = worker.revoke() if sound else []
            begun = [
                waits for number in list(worker.inflight) if (waits := worker.inflight.pop(number, None)) is not None
            ]
            try:
                if holder is not None:
                    holder.worker_lost(worker, begun, not_started)
            finally:
                self._requests.forget(worker)
                worker.close()
                if self._server is not None:
                    self._server.reap(worker.pid)
                self.fill()

    def _server_lost(self, server: ForkServer) -> None:
        """Begin anew: nobody could tell of the end of those that the server has made."""
        _logger.error("the fork server, process %s, has died; another takes its place", server.pid)
        cast("Poller", self._poller).forget(server.fileno())
        server.close()
        self._server = None
        if not any(worker.is_ready for worker in self.pool.workers):
            self._put_off(
                f"no child process could be made: the fork server ({sys.executable}) {describe_exit(server.exit_code)} "
                "before it had made one; what it wrote is in the program's standard error"
            )
        for worker in list(self._by_number.values()):
            self.pool.not_made(worker)
            worker.close()
        self._by_number.clear()
        for worker in list(self._by_pid.values()):
            worker.kill(worker.kill_reason)
            self._on_exited(worker, None)
        self.fill()

    def _end(self) -> None:
        for worker in list(self.pool.workers):
            worker.doomed = True
        if self._server is not None:
            self._server.close(self._note_turn)
        for worker in list(self.pool.workers):
            worker.died(None)
            holder = worker.holder
            if holder is not None:
                self._guarded(holder.worker_lost, worker, list(worker.inflight.values()), [])
            self._guarded(self._requests.forget, worker)
            worker.close()
        self._requests.close()
        self.pool.workers.clear()
        self._close_own()
        while self._soon:
            self._soon.popleft()


def no_worker_error(what: str, why: str) -> WorkerDied:
    """Return the error of what was to run in a worker, and has not begun, since none can be made."""
    return WorkerDied(
        f"{what} was not begun: {why}; mend that (descriptors, memory, processes, permissions of {sys.executable}), "
        "and try again"
    )


def died_error(worker: Worker, what: str) -> BaseException:
    """Return the error of a call that a worker may have run, and will not answer."""
    if worker.kill_reason is not None:
        return worker.kill_reason
    error = WorkerDied(f"{worker.describe_end()} while it ran {what}", worker.pid, worker.exit_code)
    written = worker.crash_report()
    if written:
        error.add_note(f"What process {worker.pid} wrote as it died:\n{written}")
    return error
