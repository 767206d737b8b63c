"""The gate's side of the connection to a child process, for tests of the code in the child."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import cloudpickle
from gated_code import LIMIT

from actors._child import _main, _shared_page, _wire
from actors._child._connection import Connection
from actors._child._payload import Payload, open_payload, unnamed_file
from actors._child._shared_page import Page
from actors._child._wire import LARGE, Frame
from actors._child._worker_loop import Worker


class GateEnd:
    """Sends calls to a child, and reads its frames.

    Attributes:
        theirs: the child's descriptors, in the order of `_wire.DESCRIPTORS`; closed by `close_theirs`.
        page: the shared page.
        stack: the read end of the pipe for stacks.
    """

    def __init__(self) -> None:
        self.stream, stream = socket.socketpair()
        self.files, files = socket.socketpair()
        self.stack, stack = os.pipe()
        page = unnamed_file("tests")
        os.ftruncate(page, _shared_page.SIZE)
        self.page = Page(page)
        self.theirs = [stream.detach(), files.detach(), page, stack]
        self.stream.settimeout(LIMIT)
        self.files.settimeout(LIMIT)
        os.set_blocking(self.stack, False)
        self.sent = 0  # number of the latest call
        self._keys = 0
        self._frames = _wire.Frames()
        self._read: list[Frame] = []

    # Sending

    def send(self, kind: int, number: int, extra: int, item: Any) -> None:
        """Send something pickled, in a file if it is large."""
        payload = Payload()
        cloudpickle.Pickler(payload, protocol=5, buffer_callback=payload.take_buffer).dump(item)
        data = payload.inline()
        if data is not None:
            self.stream.sendall(_wire.pack(kind, number, extra, data))
            return
        descriptor, table = payload.to_file()
        socket.send_fds(self.files, [b"f"], [descriptor])
        os.close(descriptor)
        self.stream.sendall(_wire.pack(kind, number, extra, table, LARGE))

    def set_up(self, level: int = 30) -> None:
        """Send the setup of the child."""
        setup = {
            "path": ["somewhere", *sys.path],
            "argv": ["program", "-x"],
            "cwd": os.getcwd(),
            "gate": "test",
            "level": level,
        }
        self.send(_wire.SETUP, 0, 0, setup)

    def function(self, function: Callable[..., Any], *, steps: bool = False) -> int:
        """Send a function; return its key."""
        self._keys += 1
        self.send(_wire.FUNCTION, 0, self._keys, (function.__name__, function, steps, ()))
        return self._keys

    def call(self, key: int, *args: Any, values: Any = None, level: int | None = None) -> int:
        """Call a function that was sent; return the number of the call."""
        self.sent += 1
        self.send(_wire.CALL, self.sent, key, (args, {}, values, level))
        return self.sent

    def act(self, what: int, *item: Any) -> int:
        """Send a call to the child's actor; return the number of the call."""
        self.sent += 1
        self.send(_wire.ACTOR, self.sent, what, item)
        return self.sent

    def reply(self, number: int, value: Any, *, error: bool = False) -> None:
        """Answer a request."""
        self.send(_wire.REPLY, number, int(error), value)

    def end(self) -> None:
        """Close the sending side."""
        with contextlib.suppress(OSError):  # it is closed
            self.stream.shutdown(socket.SHUT_WR)

    # Reading

    def read(self, count: int = 1) -> list[Frame]:
        """Wait for `count` frames, and return them."""
        while len(self._read) < count:
            data = self.stream.recv(1 << 18)
            assert data, "the child has ended"
            self._read.extend(self._frames.feed(data))
        frames, self._read = self._read[:count], self._read[count:]
        return frames

    def read_all(self) -> list[Frame]:
        """Return all frames up to the end of the stream."""
        with contextlib.suppress(ConnectionError):
            while data := self.stream.recv(1 << 18):
                self._read.extend(self._frames.feed(data))
        frames, self._read = self._read, []
        return frames

    def read_now(self) -> list[Frame]:
        """Return the frames that have arrived."""
        self.stream.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while data := self.stream.recv(1 << 18):
                self._read.extend(self._frames.feed(data))
        self.stream.settimeout(LIMIT)
        frames, self._read = self._read, []
        return frames

    def outbox(self) -> list[Frame]:
        """Return the frames that are in the child's outbox, not sent yet."""
        size = self.page.word[_shared_page.OUTBOX]
        return list(_wire.Frames().feed(_wire.complete(bytes(self.page.outbox[:size]))))

    def load(self, frame: Frame) -> Any:
        """Return the item in a frame."""
        if not frame.flags & LARGE:
            return pickle.loads(frame.payload)
        _, descriptors, _, _ = socket.recv_fds(self.files, 1, 1)
        stream, buffers = open_payload(descriptors[0], frame.payload)
        return pickle.loads(stream, buffers=buffers)

    def call_plainly(self, key: int, *calls: tuple[Any, ...]) -> None:
        """Send several calls of a function in one frame: of each its positional arguments."""
        self.stream.sendall(_wire.pack(_wire.CALL, self.sent + 1, key, pickle.dumps(list(calls)), _wire.PLAIN))
        self.sent += len(calls)

    def results(self, frames: Iterable[Frame]) -> dict[int, Any]:
        """Return {number of a call: its result, `"cancelled"` or `"error"`}."""
        words = {_wire.CANCELLED: "cancelled", _wire.ERROR: "error"}
        results: dict[int, Any] = {}
        for one in frames:
            if one.kind == _wire.RESULTS:
                run = self.load(one)
                results.update(zip(run[::3], run[2::3], strict=True))
            elif one.kind in _OUTCOMES:
                results[one.number] = words.get(one.kind) or self.load(one)
        return results

    def read_stack(self) -> str:
        """Return the content of the pipe for stacks."""
        with contextlib.suppress(BlockingIOError):
            return os.read(self.stack, 65536).decode()
        return ""

    # Ends

    def close_theirs(self) -> None:
        """Close the child's descriptors, of which the child has copies now."""
        for descriptor in self.theirs:
            os.close(descriptor)
        self.theirs = []

    def close(self) -> None:
        self.close_theirs()
        self.stream.close()
        self.files.close()
        os.close(self.stack)
        self.page.close()


_OUTCOMES = (_wire.RESULT, _wire.ERROR, _wire.CANCELLED)


class Child(GateEnd):
    """A child with its loop in this process.

    Attributes:
        worker: its loop.
        stops: called in turn where the child would stop its own process.
    """

    def __init__(self) -> None:
        super().__init__()
        stream, files, page, stack = self.theirs
        os.close(stack)
        os.close(page)
        self.connection = Connection(socket.socket(fileno=stream), socket.socket(fileno=files), self.page)
        self.stops: list[Callable[[], object]] = []
        self.worker = Worker(self.connection, self._stop)
        self.theirs = []

    def _stop(self) -> None:
        self.stops.pop(0)()

    def run(self) -> list[Frame]:
        """Run the loop until it has handled all that was sent; return the frames that it has sent."""
        self.end()
        self.worker.run()
        self.connection.close()
        return self.read_all()

    def run_results(self) -> dict[int, Any]:
        """Do as `run` does; return the results of the calls."""
        return self.results(self.run())

    def close(self) -> None:
        self.connection.close()
        super().close()


class Server:
    """A fork server and its children.

    Args:
        flags: of the interpreter.
        folders: search path for cloudpickle.

    Attributes:
        ends: the gate's end of each child, by its pid.
    """

    def __init__(self, flags: Sequence[str] = (), folders: Sequence[str] = ()) -> None:
        self.socket, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, *flags, "-P", _main.__file__, str(theirs.fileno()), *folders],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self.socket.settimeout(LIMIT)
        self.ends: dict[int, Real] = {}
        self._names = 0

    def ask_to_spawn(self) -> Real:
        """Ask for a child without waiting for it."""
        end = Real()
        self._names += 1
        record = _wire.RECORD.pack(_wire.SPAWN, self._names, 0)
        socket.send_fds(self.socket, [record], end.theirs)
        return end

    def spawn(self) -> Real:
        """Ask for a child and wait for it."""
        end = self.ask_to_spawn()
        self.take(end)
        return end

    def take(self, end: Real) -> None:
        """Wait for a child that was asked for."""
        kind, name, end.pid = self.read()
        assert (kind, name) == (_wire.SPAWNED, len(self.ends) + 1)
        self.ends[end.pid] = end
        end.close_theirs()

    def read(self) -> tuple[int, int, int]:
        """Wait for a record."""
        data = b""
        while len(data) < _wire.RECORD.size:
            part = self.socket.recv(_wire.RECORD.size - len(data))
            assert part, "the server has ended"
            data += part
        record: tuple[int, int, int] = _wire.RECORD.unpack(data)
        return record

    def reap(self, pid: int) -> None:
        """Have a child reaped after its end was reported."""
        self.socket.sendall(_wire.RECORD.pack(_wire.REAP, pid, 0))

    def close(self) -> None:
        self.socket.close()
        self.process.wait(LIMIT)
        for end in self.ends.values():
            end.close()


class Real(GateEnd):
    """The gate's side of the connection to a real process.

    Attributes:
        pid: of it.
    """

    pid = 0

    def function(self, function: Callable[..., Any], *, steps: bool = False) -> int:
        module = sys.modules[function.__module__]
        cloudpickle.register_pickle_by_value(module)
        try:
            return super().function(function, steps=steps)
        finally:
            cloudpickle.unregister_pickle_by_value(module)

    def result(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in the child, and wait for its result."""
        self.call(self.function(function), *args)
        (frame,) = self.read()
        assert frame.kind == _wire.RESULT, self.load(frame)
        return self.load(frame)
