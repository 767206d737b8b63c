"""Handle of the fork server: the process that forks the workers of a gate.

It is a process of its own with a single thread, so workers are never forked from a process with threads. If the gate
dies, it kills the workers and ends. Its own code is in `_child/_fork_server.py`.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import cloudpickle

from actors._child import _wire

CHILD_FOLDER: Final = f"{Path(__file__).absolute().parents[2] / '_child'}{os.sep}"
MAIN: Final = f"{CHILD_FOLDER}_main.py"

# Runs `_main.py` from an archive, where Python cannot run it by its path. The first argument is the path of `_child`.
ARCHIVED: Final = """\
import sys
from importlib.machinery import PathFinder
spec = PathFinder.find_spec("_main", [sys.argv.pop(1)])
exec(spec.loader.get_code("_main"), {"__name__": "__main__", "__file__": spec.origin})
"""

# The folder or archive in which cloudpickle is found here.
_CLOUDPICKLE: Final = os.path.dirname(os.path.dirname(os.path.abspath(cloudpickle.__file__)))

# Flags of the interpreter that change what code does; children get the same.
_FLAGS: Final = {"optimize": "-O", "dont_write_bytecode": "-B", "no_user_site": "-s", "bytes_warning": "-b"}

# The server gets 50 times 0.1 seconds to end by itself.
_END_LOOKS: Final = 50
_LOOK_SECONDS: Final = 0.1


class ForkServer:
    """Starts the server, asks it for children, and reads what it reports of them; for one thread only."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, *_flags(), "-P", *_program(), str(theirs.fileno()), _CLOUDPICKLE],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()
        self._rest = b""

    def fileno(self) -> int:
        """Return the descriptor that is readable when the server has sent something."""
        return self._socket.fileno()

    @property
    def pid(self) -> int:
        """Pid of the server."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code, as `subprocess` has it; None while the server runs."""
        return self._process.returncode

    def spawn(self, number: int, descriptors: Sequence[int]) -> None:
        """Ask for a child that inherits these descriptors; they stay open here."""
        record = _wire.RECORD.pack(_wire.SPAWN, number, 0)
        sent = socket.send_fds(self._socket, [record], list(descriptors))
        if sent < len(record):
            self._socket.sendall(record[sent:])

    def reap(self, pid: int) -> None:
        """Have the server reap a child that it has reported as exited."""
        self._socket.sendall(_wire.RECORD.pack(_wire.REAP, pid, 0))

    def read(self) -> Iterator[tuple[int, int, int]]:
        """Return the records that have come: (kind, first number, second number).

        Raises:
            EOFError: the server has died.
        """
        try:
            data = self._socket.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            raise EOFError("the fork server has died")
        data = self._rest + data
        whole = len(data) - len(data) % _wire.RECORD.size
        self._rest = data[whole:]
        yield from _wire.RECORD.iter_unpack(data[:whole])

    def close(self, still: Callable[[], object] = bool) -> None:
        """End the server, which kills all its children, and wait for its exit.

        Args:
            still: called again and again meanwhile.
        """
        self._socket.close()
        self._process.send_signal(signal.SIGCONT)  # in case it was stopped
        for _ in range(_END_LOOKS):
            try:
                self._process.wait(_LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                still()
            else:
                return
        self._process.kill()
        self._process.wait()

    def disown(self) -> None:
        """Leave the server to the parent, in a forked child."""
        self._socket.close()
        self._process.returncode = 0  # it is no child of this process, so `subprocess` must not wait for it


def _program() -> list[str]:
    return [MAIN] if os.path.exists(MAIN) else ["-c", ARCHIVED, CHILD_FOLDER]


def _flags() -> list[str]:
    flags = [letter * getattr(sys.flags, name) for name, letter in _FLAGS.items() if getattr(sys.flags, name)]
    flags = [f"-{flag.replace('-', '')}" for flag in flags]
    flags.extend(f"-X{name}" if value is True else f"-X{name}={value}" for name, value in sys._xoptions.items())
    flags.extend(f"-W{option}" for option in sys.warnoptions)
    return flags


def describe_exit(code: int | None) -> str:
    """Describe how a process has ended.

    Args:
        code: its exit code, as `subprocess` has it.
    """
    if code is None:
        return "has died, with an unknown exit code"
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = f" ({signal.Signals(-code).name})"
    except ValueError:
        name = ""
    return f"was killed by signal {-code}{name}"
