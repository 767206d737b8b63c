"""Programs of tests in processes of their own that need not import the runtime again: a child forks for each.

The child imports everything once, and has no gate, no thread and no signal handler, so a program that is forked from it
is as good as a new interpreter, but for the modules that it finds imported. What tests imports, or how an interpreter
begins, uses `subprocess`. A module of tests says `pytestmark = pytest.mark.usefixtures("programs")`, since the child
must be there before the first of its tests.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import io
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

LIMIT = 120.0  # seconds; reached only when a test fails

_NUMBER = struct.Struct("<q")
_child: socket.socket | None = None


@contextlib.contextmanager
def forking() -> Iterator[None]:
    """Have the child for the length of a block. It is a child of nobody, since tests count their children."""
    global _child
    ours, theirs = socket.socketpair()
    command = [sys.executable, __file__, str(theirs.fileno())]
    null = subprocess.DEVNULL
    subprocess.run(command, pass_fds=[theirs.fileno()], stdin=null, stdout=null, check=True, timeout=LIMIT)
    theirs.close()
    with ours:
        _child = ours
        yield
        _child = None


class Program:
    """A program that runs, or has ended; like `subprocess.Popen`.

    Args:
        arguments: as after the name of the interpreter: `-m MODULE ...`, `-c CODE ...` or `FILE ...`.
        cwd: its working directory.
        env: its environment; that of the tests without it.
        piped: whether it has an input; else that is empty.
        joined: whether errors go where the output goes.
        torn_down: whether the interpreter tears its modules down at the end, as it does by itself; that takes ten times
            as long as all else.
    """

    def __init__(
        self,
        *arguments: str,
        cwd: Path | str | None = None,
        env: Mapping[str, str] | None = None,
        piped: bool = False,
        joined: bool = False,
        torn_down: bool = False,
    ) -> None:
        assert _child is not None, 'say usefixtures("programs")'
        read_in, write_in = os.pipe() if piped else (os.open(os.devnull, os.O_RDONLY), None)
        read_out, write_out = os.pipe()
        read_error, write_error = (None, os.dup(write_out)) if joined else os.pipe()
        self._status, write_status = os.pipe()
        wanted = {
            "arguments": arguments,
            "cwd": os.fspath(cwd or os.getcwd()),
            "env": dict(env or os.environ),
            "torn_down": torn_down,
        }
        request = json.dumps(wanted).encode()
        theirs = [read_in, write_out, write_error, write_status]
        socket.send_fds(_child, [_NUMBER.pack(len(request))], theirs)
        _child.sendall(request)
        for one in theirs:
            os.close(one)
        self.stdin = None if write_in is None else open(write_in, "w")  # noqa: SIM115
        self.stdout = open(read_out)  # noqa: SIM115
        self.stderr = None if read_error is None else open(read_error)  # noqa: SIM115
        self.returncode: int | None = None
        self.pid = self._number(LIMIT)

    def _number(self, seconds: float) -> int:
        if not select.select([self._status], [], [], seconds)[0]:
            raise subprocess.TimeoutExpired("the program", seconds)
        (number,) = _NUMBER.unpack(os.read(self._status, _NUMBER.size))
        return int(number)

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float = LIMIT) -> int:
        """Return the exit code, as `subprocess` has it."""
        if self.returncode is None:
            self.returncode = self._number(timeout)
            os.close(self._status)
        return self.returncode

    def communicate(self, input: str = "", timeout: float = LIMIT) -> tuple[str, str]:
        """Send the input, and return what is left of what it prints and of its errors, at its end."""
        if self.stdin is not None:
            with contextlib.suppress(BrokenPipeError), self.stdin:
                self.stdin.write(input)
        said = ["", ""]

        def read(number: int, stream: TextIO) -> None:
            with stream:
                said[number] = stream.read()

        streams = [stream for stream in (self.stdout, self.stderr) if stream is not None]
        readers = [threading.Thread(target=read, args=one) for one in enumerate(streams)]
        for reader in readers:
            reader.start()
        deadline = time.monotonic() + timeout
        for reader in readers:
            reader.join(max(0.0, deadline - time.monotonic()))
            if reader.is_alive():
                self.kill()
                raise subprocess.TimeoutExpired(f"program {self.pid}", timeout)
        self.wait()
        return said[0], said[1]

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.kill()
        self.wait()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def run(
    *arguments: str,
    input: str = "",
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    torn_down: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; like `subprocess.run` with what it prints."""
    with Program(*arguments, cwd=cwd, env=env, piped=bool(input), torn_down=torn_down) as program:
        out, errors = program.communicate(input)
        return subprocess.CompletedProcess(arguments, program.wait(), out, errors)


# In the child


def _serve(requests: socket.socket) -> tuple[list[int], Any] | None:
    """Fork for each request: a process that forks the program, tells of its pid and, at its end, its exit code.

    Returns:
        the streams and the request, in the process of a program; None at the end of the requests.
    """
    while True:
        head, descriptors, _, _ = socket.recv_fds(requests, 8, 4)
        if not head:
            return None
        (length,) = _NUMBER.unpack(head)
        request = json.loads(requests.recv(length, socket.MSG_WAITALL))
        if not os.fork():
            requests.close()
            *streams, status = descriptors
            program = os.fork()
            if not program:
                os.close(status)
                return streams, request
            for one in streams:
                os.close(one)
            os.write(status, _NUMBER.pack(program))
            os.write(status, _NUMBER.pack(os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])))
            os._exit(0)
        for one in descriptors:
            os.close(one)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _become(streams: list[int], request: Any) -> None:
    """Be the process of a program."""
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = sys.__stdin__ = open(0)  # type: ignore[misc]  # noqa: SIM115
    sys.stdout = sys.__stdout__ = _writer(1, "strict", unbuffered, unbuffered)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _writer(2, "backslashreplace", unbuffered, True)  # type: ignore[misc]
    sys.path[1:1] = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if request["torn_down"]:
        _execute(*request["arguments"])
    else:
        _execute_and_end(*request["arguments"])


def _execute(flag: str, *rest: str) -> None:
    """Do as the interpreter does with its arguments."""
    main = types.ModuleType("__main__")
    main.__dict__.update(__builtins__=builtins, __spec__=None)
    sys.modules["__main__"] = main
    if flag == "-m":
        sys.path[0], sys.argv = os.getcwd(), ["-m", *rest[1:]]
        runpy._run_module_as_main(rest[0])  # type: ignore[attr-defined]
    elif flag == "-c":
        sys.path[0], sys.argv = "", ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    else:
        sys.path[0], sys.argv, main.__file__ = os.path.dirname(os.path.abspath(flag)), [flag, *rest], flag
        exec(compile(Path(flag).read_bytes(), flag, "exec"), main.__dict__)


def _execute_and_end(*arguments: str) -> None:
    """Do so, wait for threads, call what is to be called at the exit, and end without tearing the modules down."""
    code: Any = 0
    interrupted = False
    try:
        _execute(*arguments)
    except SystemExit as end:
        code = end.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code, interrupted = 1, isinstance(error, KeyboardInterrupt)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code or 0)


def _writer(descriptor: int, errors: str, unbuffered: bool, lines: bool) -> TextIO:
    raw = open(descriptor, "wb", buffering=0)  # noqa: SIM115
    stream = raw if unbuffered else io.BufferedWriter(raw)
    return io.TextIOWrapper(stream, errors=errors, line_buffering=lines, write_through=unbuffered)  # type: ignore[arg-type]


if __name__ == "__main__" and not os.fork():
    with socket.socket(fileno=int(sys.argv[1])) as _requests:
        os.setsid()
        import tokengate.cli
        import tokengate.control._actor
        import tokengate.control.transport._server
        import tokengate.demo
        import tokengate.errors
        import tokengate.types  # noqa: F401

        _task = _serve(_requests)
    if _task is not None:
        _become(*_task)
