"""A child process as the gate sees it: what it was sent, what came back, and how it is stopped, looked into, ended."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import attrs
import psutil

from actors._child import _shared_page, _wire
from actors._child._payload import receive_descriptor, unnamed_file
from actors._child._shared_page import Page
from actors.processes.pickling import _carrier
from actors.processes.pickling._exports import KnownTokens
from actors.processes.workers._fork_server import CHILD_FOLDER, describe_exit
from actors.processes.workers._process_state import does_not_run
from actors.processes.workers._stack import Frames as StackFrames
from actors.processes.workers._stack import RemoteStack, whole_stack

if TYPE_CHECKING:
    from actors.processes.pickling._ports import ProcessSystem
    from actors.tokens._token import Token

_READ: Final = 262_144  # bytes at once

_LOOKS: Final = 50  # at a stream, before its reader lets the system wake it

# Seconds that stopping a process, or asking it for its stack, may take at most before it is left for later.
_HALT_SECONDS: Final = 0.02
_STACK_SECONDS: Final = 0.008
_STACK_PATIENT_SECONDS: Final = 0.25


class FilePayload(bytes):
    """The table of a payload that is in a file, with its descriptor, which is closed when it is sent, or lost."""

    descriptor = -1

    def send_to(self, files: socket.socket) -> None:
        """Send the descriptor, on the socket for these."""
        try:
            socket.send_fds(files, [b"f"], [self.descriptor])
        except OSError:
            pass  # the process is dead, which the fork server reports
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


@attrs.frozen
class ProcessFigures:
    """A child process at one moment.

    Attributes:
        pid: its number.
        cpu_time: seconds of processor time that it has used, user and system.
        memory: bytes of its resident memory.
        threads: how many it has.
        open_files: paths of the regular files that it has open.
        children: pids of the processes that it has started.
    """

    pid: int
    cpu_time: float
    memory: int
    threads: int
    open_files: tuple[str, ...]
    children: tuple[int, ...]


class Worker:
    """One child process, from before it is made until after it is dead.

    Args:
        system: whose it is.
        number: what it is called until it has a pid.
    """

    def __init__(self, system: ProcessSystem, number: int) -> None:  # it is all that is known of one
        self.number = number
        self.level: int | None = None  # from which its log records are wanted, as far as it was told
        self.tokens = KnownTokens()  # those that its code knows
        self.carrier = _carrier.Carrier(system)
        self.carrier.keep = self._keep
        self.pid = 0  # 0 until it is known
        self.holder: Any = None  # who has it just now: a slot of an operation, or the drain of an actor
        self.inflight: dict[int, Any] = {}  # {number of a call: who waits for it}, the oldest first
        self.sent = 0  # number of the latest call
        self.known: set[int] = set()  # keys of the functions that it has
        self.handled = 0  # calls that have come back
        self.dead = False  # whether it takes no signals any more: its pid may be another process's
        self.doomed = False  # whether it was killed, or is to be: nothing that it says counts any more
        self.hung_up = False  # whether its stream has ended, and nobody here wanted that
        self.kill_reason: BaseException | None = None  # why it was killed, if that is what its call ends with
        self.stopped = False  # whether it was stopped for an operator, and not let go since
        self.ready_at = 0.0  # when it was last given back, in seconds of time.monotonic
        self.memory_at_start = 0
        self.address_space: int | None = None  # bytes that the system gives it at most
        self.exit_code: int | None = None
        self.protocol_error = (
            ""  # what has come from it that no child sends: nothing more is read, and it is to be killed
        )
        self.own = False  # whether it is an actor's
        self.is_ready = False  # whether it has said that it waits for calls
        self.lent: set[object] = set()  # why its turn is given away: its token is paused, or waits; see its drain
        self.stack_at_stop: StackFrames | None = None
        # Held while a token that it has in hand is said to run, or is taken out of its hand.
        self.lock = threading.RLock()
        self._signal_lock = threading.Lock()  # guards `dead`, while signals are sent
        self._writing = threading.Lock()
        self._unsent: deque[bytes] = deque()  # what the stream has not taken yet
        self._frames = _wire.Frames()
        self._revoked = self._kept = 0  # what was written to the page of these names
        self.events = 0  # what the host waits for on the stream
        self.read_lock = threading.RLock()  # held by who reads the stream, and settles what it says
        self._connect()
        self.stream.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self.stream, select.POLLIN)

    def _connect(self) -> None:
        """Make what it is connected by: both ends of it, and nothing if one of them cannot be made."""
        with ExitStack() as undo:
            self.stream, stream = _pair(undo)
            self.files, files = _pair(undo)
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
        self.descriptors = [stream.detach(), files.detach(), page, stack]
        os.set_blocking(reading, False)
        self._stack = RemoteStack(reading)

    def started(self, pid: int) -> None:
        """Take note that the process exists."""
        self.pid = pid
        self.close_descriptors()

    def close_descriptors(self) -> None:
        """Close the child's ends, which it has now."""
        descriptors, self.descriptors = self.descriptors, []
        for descriptor in descriptors:
            os.close(descriptor)

    def close(self) -> None:
        """Let go of all that belongs to it."""
        self.close_descriptors()
        self.stream.close()
        self.files.close()
        self._stack.close()
        self.page.leave()

    # Sending

    def reserve(self) -> int:
        """Return the number of the next call. Once somebody waits for it, it may be taken back at any moment."""
        self.sent += 1
        return self.sent

    def next_number(self, waits: Any) -> int:
        """Return the number of the next call, and keep who waits for it."""
        number = self.reserve()
        self.inflight[number] = waits
        return number

    def _keep(self, id: int, token: Token[Any]) -> None:
        """Keep a token that is about to be sent, with the latest call."""
        self.tokens.keep(self.sent, id, token)

    def frame(
        self, kind: int, number: int, extra: int, item: Any, carrier: _carrier.Carrier | None = None
    ) -> list[bytes]:
        """Pickle something into the pieces of a frame; what is large goes into a file, which is sent with them.

        Args:
            kind: of the frame, and what belongs to that.
            number: the same.
            extra: the same.
            item: what is pickled.
            carrier: what pickles it; None takes the worker's own, which is for who has the worker just now.

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

    def send(self, pieces: Sequence[bytes]) -> bool:
        """Write to the stream, as far as it takes it; tell whether something is left, for `send_rest`."""
        data = b"".join(pieces)
        with self._writing:
            # Descriptors have the order of their frames, whoever sends them.
            for piece in pieces:
                if type(piece) is FilePayload:
                    piece.send_to(self.files)
            if self._unsent:
                self._unsent.append(data)
                return True
            return self._write(data)

    def send_rest(self) -> bool:
        """Go on with what the stream had no room for; tell whether something is left."""
        with self._writing:
            while self._unsent:
                if self._write(self._unsent.popleft()):
                    return True
            return False

    def _write(self, data: bytes) -> bool:
        try:
            sent = self.stream.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:  # it is dead, which the fork server reports
            return False
        if sent < len(data):
            self._unsent.appendleft(data[sent:])
            return True
        return False

    # Reading

    def read(self) -> tuple[list[_wire.Frame], bool]:
        """Return the frames that have come, and whether the stream has ended."""
        frames: list[_wire.Frame] = []
        while not self.protocol_error:
            try:
                data = self.stream.recv(_READ)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                return frames, True
            frames.extend(self._frames.feed(data))
            if self._frames.is_foreign:
                self.protocol_error = "what is no message of the runtime"
            if len(data) < _READ:
                break
        return frames, False

    @property
    def may_peek(self) -> bool:
        """Whether the stream is between two frames, as far as it was read."""
        return self._frames.is_empty

    def peek(self) -> tuple[list[_wire.Frame], int]:
        """Look at what has come, and leave it there: the frames that are whole, and how many bytes there are."""
        try:
            data = self.stream.recv(_READ, socket.MSG_PEEK)
        except OSError:
            data = b""
        return list(_wire.Frames().feed(data)), len(data)

    def consume(self, size: int) -> None:
        """Take so many bytes off the stream, at which somebody has looked."""
        if size:
            self.stream.recv(size)

    def wait_readable(self, until: float) -> bool:
        """Wait until there is something to read, or a time of time.monotonic; tell whether there may be."""
        poll = self._poll
        for _ in range(_LOOKS):  # soon enough, for a process that has just been sent something
            if poll.poll(0):
                return True
            os.sched_yield()
        return bool(poll.poll(max(0.0, until - time.monotonic()) * 1000))

    def outbox(self) -> Iterator[_wire.Frame]:
        """Return the frames that the child had made and not sent; only while it is stopped, or dead."""
        size = min(max(self.page.word[_shared_page.OUTBOX], 0), _shared_page.OUTBOX_SIZE)
        return _wire.Frames().feed(bytes(self.page.outbox[:size]))

    def receive_file(self) -> int:
        """Return the descriptor of the file that the next large payload is in, which was sent before that.

        Raises:
            EOFError: there is none, which is `protocol_error`.
            OSError: there is none left here.
        """
        try:
            descriptor = receive_descriptor(self.files, socket.MSG_DONTWAIT)
        except BlockingIOError:
            descriptor = None
        if descriptor is not None:
            return descriptor
        self.protocol_error = "a message without the file that belongs to it"
        raise EOFError(f"process {self.pid} has sent no file")

    def page_is_sound(self) -> bool:
        """Tell whether what is on the page can have been written by the runtime."""
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

    # Where it is

    @property
    def begun(self) -> int:
        """Number of the latest call that may have run; certain while it is stopped, or dead."""
        return self.page.word[_shared_page.BEGUN]

    @property
    def ended(self) -> int:
        """Number of the latest call whose code is over; it is written before what came of that is sent."""
        return self.page.word[_shared_page.ENDED]

    def is_at(self, number: int) -> bool:
        """Tell whether a call, which must be in its hand, is the latest that has begun; certain while it is stopped."""
        return number > 0 and self.begun == number

    def has_ended(self, number: int) -> bool:
        """Tell whether the code of a call that has begun is over; certain while the process is stopped, or dead."""
        return self.ended >= number

    def revoke(self) -> list[Any]:
        """Take back the calls that it has not begun; only while it is stopped, or dead. The oldest comes first."""
        with self.lock:
            return self._revoke()

    def _revoke(self) -> list[Any]:
        begun = self.begun
        numbers = [number for number in list(self.inflight) if number > begun]
        if numbers:
            if begun in self.inflight:  # it may not have looked at what is revoked yet
                self.page.word[_shared_page.KEPT] = self._kept = begun
            self.page.word[_shared_page.REVOKED] = self._revoked = numbers[
                -1
            ]  # the next one may be on its way just now
        return [waits for number in numbers if (waits := self.inflight.pop(number, None)) is not None]

    def missed(self, numbers: Iterable[int]) -> list[Any]:
        """Take back calls that were sent after its end, unless they have been; only when it is dead.

        One that it has begun was there before its end, and is ended by what handles that.
        """
        begun = self.begun if self.page_is_sound() else 0
        later = [number for number in numbers if number > begun]
        return [waits for number in later if (waits := self.inflight.pop(number, None)) is not None]

    def number_of(self, waits: Any) -> int:
        """Return the number of the call that somebody waits for; 0 if it was not sent, or is over."""
        for number, one in list(self.inflight.items()):
            if one is waits:
                return number
        return 0

    # Stopping and ending

    def halt(self, seconds: float = _HALT_SECONDS) -> bool:
        """Stop it where it is; tell whether it has been seen to be stopped.

        If it has not, it is in a call of the system that nothing interrupts, or waits for a processor: it runs no more
        code of its own all the same.
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
        """Tell whether it does not run just now."""
        return self.dead or does_not_run(self.pid)

    def go_on(self) -> None:
        """Let it run again."""
        self._signal(signal.SIGCONT)

    def kill(self, kill_reason: BaseException | None = None) -> None:
        """End it now, and all that it has started; with the error that its call ends with."""
        if self.kill_reason is None:
            self.kill_reason = kill_reason
        self.doomed = True
        self._signal(signal.SIGKILL)

    def retire(self) -> None:
        """Let it end by itself: it is told that nothing comes any more."""
        self.doomed = True
        try:
            self.stream.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it is dead already

    def died(self, code: int | None) -> None:
        """Take note of its end; its pid is not used any more from here on."""
        with self._signal_lock:
            self.dead = True
        self.exit_code = code

    def _signal(self, number: int, *, alone: bool = False) -> bool:
        """Send a signal to the process, and unless `alone` to all that it has started; tell whether it was there."""
        with self._signal_lock:
            if self.dead or not self.pid:
                return False
            try:
                (os.kill if alone else os.killpg)(self.pid, number)
            except (ProcessLookupError, PermissionError):  # macOS says the latter of a group that has only zombies left
                return False
            return True

    def describe_end(self) -> str:
        """Say in words how it has ended, with what the interpreter has written about it."""
        if self.protocol_error:
            return (
                f"process {self.pid} was killed since it had sent {self.protocol_error} (code in it has written to a "
                "descriptor, or memory, that is the runtime's: it may write only to what it has opened itself)"
            )
        words = f"process {self.pid} {describe_exit(self.exit_code)}"
        if self.exit_code == -signal.SIGKILL:
            words += " (out of memory, somebody's kill, or it had closed its connection to the gate)"
        return words

    # Looking at it

    def stack(self, seconds: float = _STACK_PATIENT_SECONDS) -> StackFrames | None:
        """Return where its main thread is: (file, line, function), the outermost first; None if it does not tell.

        One that is stopped cannot tell: `stack_at_stop` is what it told before.
        """
        if self.stopped:
            return self.stack_at_stop
        return self._stack.ask(self.pid, lambda number: self._signal(number, alone=True), seconds)

    def stack_quickly(self) -> None:
        """Keep where it is, just before it is stopped."""
        self.stack_at_stop = self.stack(_STACK_SECONDS)

    def stack_after_stop(self) -> None:
        """Keep where it is that has stopped itself, which it has written before."""
        self.stack_at_stop = whole_stack(self._stack.read())

    def crash_report(self) -> str:
        """Return what the interpreter in there has written as it died, if anything."""
        lines = self._stack.read().strip().splitlines()
        return "\n".join(line for line in lines if CHILD_FOLDER not in line)

    def figures(self) -> ProcessFigures | None:
        """Return what the system says of it; None when it is dead."""
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
    """Fix the size of a file, where the system can do that: to read behind its end would kill this process."""
    if hasattr(fcntl, "F_ADD_SEALS"):
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)


def _pair(undo: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets, which are closed if the rest does not come about."""
    ours, theirs = socket.socketpair()
    undo.enter_context(ours)
    undo.enter_context(theirs)
    return ours, theirs
