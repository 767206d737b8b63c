"""A child process as the gate sees it: its calls, and how it is stopped, inspected and killed."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import attrs
import psutil

from actors._child import _shared_page, _wire
from actors._child._payload import unnamed_file
from actors._child._shared_page import Page
from actors.processes.pickling import _carrier
from actors.processes.pickling._exports import KnownTokens
from actors.processes.workers._fork_server import CHILD_FOLDER, describe_exit
from actors.processes.workers._process_state import cpu_seconds, does_not_run
from actors.processes.workers._stack import Frames as StackFrames
from actors.processes.workers._stack import RemoteStack, whole_stack
from actors.processes.workers._stream import FilePayload, WorkerStream

if TYPE_CHECKING:
    from actors.processes.pickling._ports import ProcessSystem
    from actors.tokens._token import Token

# Seconds to wait at most until a process is stopped, or has written its stack.
_HALT_SECONDS: Final = 0.02
_STACK_SECONDS: Final = 0.008
_STACK_PATIENT_SECONDS: Final = 0.25


@attrs.frozen
class ProcessFigures:
    """A child process at one moment.

    Attributes:
        pid: of the process.
        cpu_time: seconds of processor time used, user and system.
        memory: bytes of resident memory.
        threads: number of threads.
        open_files: paths of the regular files that are open.
        children: pids of the processes that it has started.
    """

    pid: int
    cpu_time: float
    memory: int
    threads: int
    open_files: tuple[str, ...]
    children: tuple[int, ...]


class Worker:
    """One child process, from before it is forked until after its death.

    Args:
        system: the actor system that it works for.
        number: identifies it until it has a pid.
    """

    def __init__(self, system: ProcessSystem, number: int) -> None:
        self.number = number
        self.level: int | None = None  # level of log records that it sends
        self.tokens = KnownTokens()  # tokens that its code refers to
        self.carrier = _carrier.Carrier(system)
        self.carrier.keep = self._keep
        self.pid = 0  # 0 until it is forked
        self.holder: Any = None  # the `Holder` that has it now: a slot of an operation, or the drain of an actor
        # {number of a call: what waits for it, a token or a reply}, the oldest first.
        self.inflight: dict[int, Any] = {}
        self.sent = 0  # number of the latest call
        self.known: set[int] = set()  # keys of the functions that it has
        self.handled = 0  # number of calls that have returned
        self.dead = False  # whether it gets no signals any more: its pid may be another process's
        self.doomed = False  # whether it was killed, or is to be: its requests are ignored
        self.hung_up = False  # whether its stream has ended unexpectedly
        self.kill_reason: BaseException | None = None  # the error that its call ends with, if it is killed for that
        self.stopped = False  # whether it is stopped for an operator
        self.ready_at = 0.0  # when it became idle, in seconds of time.monotonic
        self.memory_at_start = 0
        self.address_space: int | None = None  # its limit, in bytes
        self.exit_code: int | None = None
        # What it has sent that no child sends. Then nothing more is read from it, and it is killed.
        self.protocol_error = ""
        self.own = False  # whether it is an actor's
        self.is_to_go = False  # whether another one is to take its place as soon as it is idle
        self.is_ready = False  # whether it has reported that it waits for calls
        self.lent: set[object] = set()  # why its turn is lent: its token is paused, or waits; see its drain
        self.stack_at_stop: StackFrames | None = None
        # Held while one of its tokens is marked as running, or is taken back.
        self.lock = threading.RLock()
        self._signal_lock = threading.Lock()  # guards `dead`, while signals are sent
        self._revoked = self._kept = 0  # the words of these names on the page
        self.events = 0  # that the host waits for on the stream
        self.read_lock = threading.RLock()  # held while the stream is read, and calls are settled
        self._connect()

    def _connect(self) -> None:
        """Create both ends of its connections; if one of them cannot be created, close the others."""
        with ExitStack() as undo:
            stream, stream_of_child = _pair(undo)
            files, files_of_child = _pair(undo)
            reading, stack = os.pipe()
            undo.callback(os.close, reading)
            undo.callback(os.close, stack)
            page = unnamed_file("tokengate-page")
            undo.callback(os.close, page)
            os.ftruncate(page, _shared_page.SIZE)
            _keep_size(page)
            self.page = Page(page)
            self.page.word[_shared_page.MARK] = _shared_page.MARKED
            undo.pop_all()
        self.stream = WorkerStream(stream, files)
        self.descriptors = [stream_of_child.detach(), files_of_child.detach(), page, stack]
        os.set_blocking(reading, False)
        self._stack = RemoteStack(reading)

    def started(self, pid: int) -> None:
        """Note that the process was forked."""
        self.pid = pid
        self.close_descriptors()

    def close_descriptors(self) -> None:
        """Close the child's ends of the connections, which the child has inherited."""
        descriptors, self.descriptors = self.descriptors, []
        for descriptor in descriptors:
            os.close(descriptor)

    def close(self) -> None:
        """Close its connections, and release the shared page."""
        self.close_descriptors()
        self.stream.close()
        self._stack.close()
        self.page.leave()

    # Sending

    def reserve(self) -> int:
        """Return the number of the next call; once that is in `inflight`, the call may be taken back at any moment."""
        self.sent += 1
        return self.sent

    def next_number(self, waits: Any) -> int:
        """Return the number of the next call, and enter what waits for it."""
        number = self.reserve()
        self.inflight[number] = waits
        return number

    def _keep(self, id: int, token: Token[Any]) -> None:
        """Keep a token that is sent with the latest call."""
        self.tokens.keep(self.sent, id, token)

    def frame(
        self, kind: int, number: int, extra: int, item: Any, carrier: _carrier.Carrier | None = None
    ) -> list[bytes]:
        """Pickle an object into the pieces of a frame; a large one is written to a file, which is sent with them.

        Args:
            kind: of the frame.
            number: of the call or request.
            extra: its meaning depends on the kind, see `_child/_wire.py`.
            item: the object.
            carrier: pickles it; None takes the worker's own, which only the holder of the worker may use.

        Raises:
            Exception: whatever pickling it raised.
        """
        payload = (carrier or self.carrier).pack(item)
        data = payload.inline()
        if data is not None:
            return [_wire.HEADER.pack(kind, 0, len(data), number, extra), data]
        descriptor, table = payload.to_file()
        payload.clear()
        in_file = FilePayload(table)
        in_file.descriptor = descriptor
        return [_wire.HEADER.pack(kind, _wire.LARGE, len(table), number, extra), in_file]

    # Reading

    def read(self) -> tuple[list[_wire.Frame], bool]:
        """Return the frames that have come, and whether the stream has ended; after a protocol error, nothing."""
        if self.protocol_error:
            return [], False
        frames, ended = self.stream.read()
        if self.stream.is_foreign:
            self.protocol_error = "what is no message of the runtime"
        return frames, ended

    def outbox(self) -> Iterator[_wire.Frame]:
        """Return the frames that the child has not sent yet; only while it is stopped, or dead."""
        size = min(max(self.page.word[_shared_page.OUTBOX], 0), _shared_page.OUTBOX_SIZE)
        return _wire.Frames().feed(_wire.complete(bytes(self.page.outbox[:size])))

    def receive_file(self) -> int:
        """Return the descriptor of the file with the next large payload; it was sent before the frame.

        Raises:
            EOFError: none was sent, which is a protocol error.
            OSError: this process has too many open files.
        """
        descriptor = self.stream.receive_file()
        if descriptor is not None:
            return descriptor
        self.protocol_error = "a message without the file that belongs to it"
        raise EOFError(f"process {self.pid} has sent no file")

    def page_is_sound(self) -> bool:
        """Tell whether the runtime can have written what is on the page."""
        with self.lock:
            word = self.page.word
            return (
                word[_shared_page.MARK] == _shared_page.MARKED
                and 0 <= word[_shared_page.ENDED] <= word[_shared_page.BEGUN] <= self.sent
                and word[_shared_page.REVOKED] == self._revoked
                and word[_shared_page.KEPT] == self._kept
                and 0 <= word[_shared_page.OUTBOX] <= _shared_page.OUTBOX_SIZE
                and 0 <= word[_shared_page.CANCEL] <= self.sent
                and 0 <= word[_shared_page.STOP_CALL] <= self.sent
            )

    # Which calls it has started

    def cpu_used(self, number: int) -> float | None:
        """Return the seconds of processor time that a call has used which is just over; None if it took no 0.1 ms."""
        word = self.page.word
        used = word[_shared_page.CPU_USED]
        return max(0.0, used * 1e-9) if word[_shared_page.CPU_OF] == number else None

    def cpu_so_far(self) -> float | None:
        """Return the seconds of processor time that its latest call has used by now; None if it is dead."""
        used = cpu_seconds(self.pid)
        return None if used is None else used - self.page.word[_shared_page.CPU_BEFORE] * 1e-9

    @property
    def begun(self) -> int:
        """Number of the latest call that may have started; exact while the process is stopped, or dead."""
        return self.page.word[_shared_page.BEGUN]

    @property
    def ended(self) -> int:
        """Number of the latest call that is over; it is written before the outcome is sent."""
        return self.page.word[_shared_page.ENDED]

    def is_at(self, number: int) -> bool:
        """Tell whether a call is the latest that has started; exact while the process is stopped."""
        return number > 0 and self.begun == number

    def has_ended(self, number: int) -> bool:
        """Tell whether the code of a call that has started is over; exact while the process is stopped, or dead."""
        return self.ended >= number

    def revoke(self) -> list[Any]:
        """Take back the calls that it has not started, the oldest first; only while it is stopped, or dead."""
        revoked: list[Any] = []  # see `take_calls`
        with self.lock:
            revoked += self._revoke()
        return revoked

    def _revoke(self) -> list[Any]:
        begun = self.begun
        numbers = [number for number in list(self.inflight) if number > begun]
        if numbers:
            if begun in self.inflight:  # the child may not have looked at REVOKED yet
                self.page.word[_shared_page.KEPT] = self._kept = begun
            last = numbers[-1]  # not `sent`: the next call may just be on its way
            self.page.word[_shared_page.REVOKED] = self._revoked = last
        return self.take_calls(numbers)

    def missed(self, numbers: Iterable[int]) -> list[Any]:
        """Take back calls that were sent after its death, unless that was done; only when it is dead.

        A call that it has started was sent before, and ends with `worker_lost`.
        """
        begun = self.begun if self.page_is_sound() else 0
        return self.take_calls([number for number in numbers if number > begun])

    def take_calls(self, numbers: Iterable[int]) -> list[Any]:
        """Take calls out of those that are not over, and return what waits for them."""
        taken: list[Any] = []  # a variable: recovery finds the tokens in it, which are nowhere else for a moment
        for number in numbers:
            waits = self.inflight.pop(number, None)
            if waits is not None:
                taken.append(waits)
        return taken

    def number_of(self, waits: Any) -> int:
        """Return the number of the call that something waits for; 0 if it was not sent, or is over."""
        for number, one in list(self.inflight.items()):
            if one is waits:
                return number
        return 0

    # Stopping and killing

    def halt(self, seconds: float = _HALT_SECONDS) -> bool:
        """Stop the process; tell whether it was seen to be stopped.

        If it was not, it is in an uninterruptible system call, or waits for a processor: it runs no more of its code
        all the same.
        """
        if not self._signal(signal.SIGSTOP):
            return True  # it is dead
        deadline = time.monotonic() + seconds
        while True:
            if does_not_run(self.pid):
                return True
            if time.monotonic() > deadline:
                return False
            os.sched_yield()

    def is_halted(self) -> bool:
        """Tell whether the process is stopped, or dead."""
        return self.dead or does_not_run(self.pid)

    def go_on(self) -> None:
        """Let the process run again."""
        self._signal(signal.SIGCONT)

    def kill(self, kill_reason: BaseException | None = None) -> None:
        """Kill the process and all that it has started; its call ends with the reason, if there is one."""
        if self.kill_reason is None:
            self.kill_reason = kill_reason
        self.doomed = True
        self._signal(signal.SIGKILL)

    def retire(self) -> None:
        """Have the process end by itself, by an end of file on its stream."""
        self.doomed = True
        self.stream.end_writing()

    def died(self, code: int | None) -> None:
        """Note its death; its pid is not used any more."""
        with self._signal_lock:
            self.dead = True
        self.exit_code = code

    def _signal(self, number: int, *, alone: bool = False) -> bool:
        """Send a signal to the process, and unless `alone` to all that it has started; return False if it is dead."""
        with self._signal_lock:
            if self.dead or not self.pid:
                return False
            try:
                (os.kill if alone else os.killpg)(self.pid, number)
            except (ProcessLookupError, PermissionError):  # macOS: the latter, of a group of zombies
                return False
            return True

    def describe_end(self) -> str:
        """Describe how the process has ended."""
        if self.protocol_error:
            return (
                f"process {self.pid} was killed since it had sent {self.protocol_error} (code in it has written to a "
                "descriptor, or memory, that is the runtime's: it may write only to what it has opened itself)"
            )
        words = f"process {self.pid} {describe_exit(self.exit_code)}"
        if self.exit_code == -signal.SIGKILL:
            words += " (out of memory, killed from outside, or it had closed its connection to the gate)"
        return words

    # Inspecting

    def stack(self, seconds: float = _STACK_PATIENT_SECONDS) -> StackFrames | None:
        """Return the stack of its main thread: (file, line, function), the outermost first; None without an answer.

        A stopped process cannot answer; its stack is the one from just before it was stopped.
        """
        if self.stopped:
            return self.stack_at_stop
        return self._stack.ask(self.pid, lambda number: self._signal(number, alone=True), seconds)

    def stack_quickly(self) -> None:
        """Keep its stack, just before it is stopped."""
        self.stack_at_stop = self.stack(_STACK_SECONDS)

    def stack_after_stop(self) -> None:
        """Keep the stack of a process that has stopped itself; it has written the stack before."""
        self.stack_at_stop = whole_stack(self._stack.read())

    def crash_report(self) -> str:
        """Return what its interpreter wrote as it died; an empty string if nothing."""
        lines = self._stack.read().strip().splitlines()
        return "\n".join(line for line in lines if CHILD_FOLDER not in line)

    def memory(self) -> int | None:
        """Return the bytes of its resident memory from the operating system; None when it is dead."""
        try:
            memory: int = psutil.Process(self.pid).memory_info().rss
        except psutil.Error:
            return None
        return memory

    def figures(self) -> ProcessFigures | None:
        """Return its figures from the operating system; None when it is dead."""
        try:
            process = psutil.Process(self.pid)
            with process.oneshot():
                times = process.cpu_times()
                return ProcessFigures(
                    pid=self.pid,
                    cpu_time=times.user + times.system,
                    memory=process.memory_info().rss,
                    threads=process.num_threads(),
                    open_files=tuple(sorted({file.path for file in process.open_files()})),
                    children=tuple(child.pid for child in process.children()),
                )
        except psutil.Error:
            return None

    def __repr__(self) -> str:
        return f"<Worker {self.number}, process {self.pid}>"


def _keep_size(descriptor: int) -> None:
    """Seal the size of a file, if the system can: reading beyond the end of a shorter one would kill this process."""
    if hasattr(fcntl, "F_ADD_SEALS"):
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)


def _pair(undo: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets, which `undo` closes."""
    ours, theirs = socket.socketpair()
    undo.enter_context(ours)
    undo.enter_context(theirs)
    return ours, theirs
