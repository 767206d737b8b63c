"""The Python stack of a child process. Its interpreter writes the stack into a pipe when it gets a signal.

There are two signals. Python handles the first one between two lines of its code; that is always safe, but C code does
not answer it. The handler of the second one writes the stack at once, wherever the thread is. That is safe only while
the thread is in C code, where its frames do not change. So the second one is sent only if the first was not answered
although the process has computed since, or if the process waits in a system call.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from typing import Final, TypeAlias

from actors._child import _wire
from actors.processes.workers._fork_server import CHILD_FOLDER, MAIN
from actors.processes.workers._process_state import cpu_seconds, state_of

Frames: TypeAlias = list[tuple[str, int, str]]
"""(file, line, function), the outermost first."""

_BEGIN: Final = "(most recent call first):"
_END: Final = (f'File "{MAIN}"', "  ...")  # the outermost line of a whole stack, or of a cut one

# Seconds of processor time, within which Python code has handled a signal for certain.
_IN_C_SECONDS: Final = 0.003

_LOOK_SECONDS: Final = 0.001

_MOST_BYTES: Final = 2**20  # read at once; the pipe holds less
_MOST_DIGITS: Final = 9  # of a line number


class RemoteStack:
    """The pipe on which a child process writes its stack.

    Args:
        descriptor: the end that is read; it is non-blocking.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()  # held while the pipe is closed, or its descriptor duplicated

    def ask(self, pid: int, send: Callable[[int], bool], seconds: float) -> Frames | None:
        """Return the stack of a process's main thread; None if no answer comes in time.

        Args:
            pid: of the process.
            send: sends the process a signal; returns False if it is dead.
            seconds: to wait for the answer.
        """
        with self._lock:
            if self._descriptor < 0:
                return None
            descriptor = os.dup(self._descriptor)
        try:
            return self._ask(descriptor, pid, send, seconds)
        finally:
            os.close(descriptor)

    def _ask(self, descriptor: int, pid: int, send: Callable[[int], bool], seconds: float) -> Frames | None:
        _read(descriptor)  # drop what was written before
        before, text, forced = cpu_seconds(pid), "", False
        if not send(_wire.ASK_SIGNAL):
            return None
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            select.select([descriptor], [], [], _LOOK_SECONDS)
            text += _read(descriptor)
            if (frames := whole_stack(text)) is not None:
                return frames
            if not forced and self._is_in_c(pid, before):
                forced = True
                if not send(_wire.STACK_SIGNAL):
                    return None
        return None

    @staticmethod
    def _is_in_c(pid: int, before: float | None) -> bool:
        if state_of(pid) in "SD":
            return True
        now = cpu_seconds(pid)
        return before is not None and now is not None and now - before > _IN_C_SECONDS

    def read(self) -> str:
        """Return what the interpreter has written; an empty string if nothing."""
        with self._lock:
            return "" if self._descriptor < 0 else _read(self._descriptor)

    def close(self) -> None:
        """Close the pipe."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1


def _read(descriptor: int) -> str:
    data = b""
    while len(data) < _MOST_BYTES:  # an end, even if the process writes all the time
        try:
            more = os.read(descriptor, 65536)
        except BlockingIOError:
            break
        if not more:
            break
        data += more
    return data.decode("utf-8", "replace")


def whole_stack(text: str) -> Frames | None:
    """Return the latest stack in a text, without the frames of the runtime; None if its end has not come yet."""
    latest = text.rpartition(_BEGIN)[2]
    if not any(mark in latest for mark in _END):
        return None
    frames = []
    for line in latest.splitlines():
        file, separator, rest = line.strip().removeprefix('File "').rpartition('", line ')
        number, _, function = rest.partition(" in ")
        if file == MAIN:
            break  # the frames further out have run the program
        if separator and number.isdecimal() and len(number) <= _MOST_DIGITS and not file.startswith(CHILD_FOLDER):
            frames.append((file, int(number), function))
    return frames[::-1]
