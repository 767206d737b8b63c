"""The fork server: it makes the gate's child processes, tells of their ends, and leaves none behind when the gate ends.

It has one thread and nothing open but what it needs, so that what it forks is as good as new, and much cheaper.
"""

from __future__ import annotations

import array
import errno
import gc
import os
import select
import signal
import socket
import struct
import traceback
from types import FrameType
from typing import Final

from . import _wire
from ._after_fork import Inherited, run_child

# Seconds between two looks whether the gate lives, where the system does not tell of its end.
_LOOK_SECONDS: Final = 1.0

# What does not end the server, whoever sends it: it ends with the gate.
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid

_CLOEXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class ForkServer:
    """Serves one gate.

    Args:
        gate: the socket to it.
    """

    def __init__(self, gate: socket.socket) -> None:
        self._gate = gate
        self._children: set[int] = set()  # pids of those that run
        self._lifelines: dict[int, int] = {}  # {pid of a child: what kills its group when it is open nowhere any more}
        self._zombies: set[int] = set()  # pids of those whose end was told, kept until the gate lets go of them
        self._parent = _pid_of_gate(gate)
        self._parent_pidfd = _open_pidfd(self._parent)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def serve(self) -> None:
        """Do what the gate asks until it ends; then kill all."""
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # that of whoever has started this may be any
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, _ignore_signal)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        gc.collect()
        gc.freeze()  # what children share with the server is not written to when they look for garbage
        gc.disable()
        try:
            while self._wait():
                pass
        finally:
            self._kill_all()

    def _wait(self) -> bool:
        """Handle what there is next; return False when the gate has ended."""
        # A socket may be held open by a process that the gate has forked, so its end is not all that counts.
        if os.getppid() != self._parent:
            return False
        sources: list[int] = [self._gate.fileno(), self._wake_read]
        if self._parent_pidfd is not None:
            sources.append(self._parent_pidfd)
        ready, _, _ = select.select(sources, [], [], None if self._parent_pidfd is not None else _LOOK_SECONDS)
        if self._parent_pidfd in ready:
            return False
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
            self._report_exits()
        if self._gate.fileno() in ready:
            try:
                return self._handle_record()
            except ConnectionError:
                return False
        return True

    def _handle_record(self) -> bool:
        """Read one record, with the descriptors that belong to it and to no other."""
        data = b""
        descriptors = array.array("i")
        room = socket.CMSG_SPACE(len(_wire.DESCRIPTORS) * descriptors.itemsize)
        while len(data) < _wire.RECORD.size:
            part, ancillary, _, _ = self._gate.recvmsg(_wire.RECORD.size - len(data), room, _CLOEXEC)
            for level, kind, content in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
            if not part:
                _close(*descriptors)
                return False
            data += part
        kind, first, _ = _wire.RECORD.unpack(data)
        if kind == _wire.SPAWN:
            self._report(_wire.SPAWNED, first, self._spawn(list(descriptors)))
        elif kind == _wire.REAP:
            self._reap(first)
        return True

    def _spawn(self, descriptors: list[int]) -> int:
        """Fork a child with these descriptors; return its pid, or -errno."""
        if len(descriptors) != len(_wire.DESCRIPTORS):  # the server had no room for all
            _close(*descriptors)
            return -errno.EMFILE
        server = os.getpid()
        pipes: list[int] = []
        try:
            pipes += os.pipe()
            pipes += os.pipe()
            pid = os.fork()
        except OSError as error:
            _close(*descriptors, *pipes)
            return -(error.errno or errno.EAGAIN)
        ready_read, ready_write, lifeline_read, lifeline_write = pipes
        if pid == 0:
            run_child(
                Inherited(
                    server, descriptors, ready_write, lifeline_read, self._own_descriptors(ready_read, lifeline_write)
                )
            )
        self._lifelines[pid] = lifeline_write
        _close(*descriptors, ready_write, lifeline_read)
        os.read(ready_read, 1)  # it comes to its end when the gate can send signals to the child, and to its group
        os.close(ready_read)
        self._children.add(pid)
        return pid

    def _own_descriptors(self, *others: int) -> list[int]:
        """Return what a child is to close."""
        own = [self._gate.fileno(), self._wake_read, self._wake_write, *self._lifelines.values(), *others]
        return own if self._parent_pidfd is None else [*own, self._parent_pidfd]

    def _report_exits(self) -> None:
        for pid in list(self._children):
            code = _exit_code(pid)
            if code is not None:
                self._children.discard(pid)
                self._zombies.add(pid)
                _kill_group(pid)
                os.close(self._lifelines.pop(pid))
                self._report(_wire.EXITED, pid, code)

    def _reap(self, pid: int) -> None:
        if pid in self._zombies:
            self._zombies.discard(pid)
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass  # it was reaped as its end was seen, where the system has no other way

    def _report(self, kind: int, first: int, second: int) -> None:
        try:
            self._gate.sendall(_wire.RECORD.pack(kind, first, second))
        except OSError:
            pass  # the gate has ended, which the next look shows

    def _kill_all(self) -> None:
        for pid in self._children | self._zombies:
            _kill_group(pid)
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass


def serve(descriptor: int) -> None:
    """Be a fork server, on the socket with this descriptor, until its other end is closed."""
    gate = socket.socket(fileno=descriptor)
    gate.set_inheritable(False)
    code = 1
    try:
        ForkServer(gate).serve()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _ignore_signal(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: a signal that has a handler wakes the server."""


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _pid_of_gate(gate: socket.socket) -> int:
    """Return the pid of the gate, which may have ended before this process has come so far."""
    if not hasattr(socket, "SO_PEERCRED"):
        return os.getppid()
    pid, _, _ = _CREDENTIALS.unpack(gate.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(pid)


def _open_pidfd(pid: int) -> int | None:
    """Return what becomes readable when a process ends, if the system has such a thing."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _kill_group(pid: int) -> None:
    """Kill what is in the group of a child; its pid is not anybody else's as long as nobody has reaped it."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass  # nobody is left there


if hasattr(os, "waitid"):

    def _exit_code(pid: int) -> int | None:
        """Return how a child has ended, and leave it a zombie; None while it runs."""
        try:
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return 0
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

else:

    def _exit_code(pid: int) -> int | None:
        """Return how a child has ended; its pid may be another process's from then on. None while it runs."""
        ended, status = os.waitpid(pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if ended else None
