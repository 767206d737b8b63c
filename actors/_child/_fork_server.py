"""The fork server: it forks the gate's child processes, reports their exits, and kills them when the gate ends.

It has one thread and few open descriptors, so a child that it forks is as clean as a new process, and starts faster.
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

from . import _orphans, _wire
from ._after_fork import Inherited, run_child

# Seconds between two checks whether the gate lives, where the system cannot report its end.
_LOOK_SECONDS: Final = 1.0

# Signals that the server ignores: it ends when the gate ends.
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid

_CLOEXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class ForkServer:
    """Serves one gate.

    Args:
        gate: socket to the gate.
    """

    def __init__(self, gate: socket.socket) -> None:
        self._gate = gate
        self._children: set[int] = set()  # pids of running children
        self._lifelines: dict[
            int, int
        ] = {}  # {pid of a child: end of a pipe; when it is closed, the system kills the child's group}
        self._zombies: set[int] = set()  # pids of exited children that the gate has not released yet
        self._parent = _pid_of_gate(gate)
        self._parent_pidfd = _open_pidfd(self._parent)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def serve(self) -> None:
        """Do what the gate asks until the gate ends; then kill all children."""
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the starting thread may have blocked signals
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, _ignore_signal)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        _orphans.adopt()
        gc.collect()
        gc.freeze()  # so garbage collection in a child does not write to pages shared with the server
        gc.disable()
        try:
            while self._wait():
                pass
        finally:
            self._kill_all()

    def _wait(self) -> bool:
        """Wait for one event and handle it; return False when the gate has ended."""
        # A process that the gate has forked may keep the socket open, so its end of file is not relied on alone.
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
        """Read one record with its descriptors; return False when the gate has closed the socket."""
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
        if len(descriptors) != len(_wire.DESCRIPTORS):  # the server has too many open files
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
        os.read(ready_read, 1)  # until the child has closed its end: then it can get signals, and so can its group
        os.close(ready_read)
        self._children.add(pid)
        return pid

    def _own_descriptors(self, *others: int) -> list[int]:
        """Return the descriptors of the server, which a child closes."""
        own = [self._gate.fileno(), self._wake_read, self._wake_write, *self._lifelines.values(), *others]
        return own if self._parent_pidfd is None else [*own, self._parent_pidfd]

    def _report_exits(self) -> None:
        _orphans.reap(self._children | self._zombies)
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
                pass  # without `waitid`, `_exit_code` has reaped it

    def _report(self, kind: int, first: int, second: int) -> None:
        try:
            self._gate.sendall(_wire.RECORD.pack(kind, first, second))
        except OSError:
            pass  # the gate has ended, which `_wait` sees next

    def _kill_all(self) -> None:
        workers = self._children | self._zombies
        for pid in workers:
            _kill_group(pid)
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        _orphans.reap_groups(workers)
        _orphans.reap(())


def serve(descriptor: int) -> None:
    """Run as a fork server on the socket with this descriptor, until the gate ends."""
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
    """Do nothing: a signal with a handler wakes the server through its wakeup descriptor."""


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _pid_of_gate(gate: socket.socket) -> int:
    """Return the pid of the gate; it may have ended already, so `getppid` may be another process."""
    if not hasattr(socket, "SO_PEERCRED"):
        return os.getppid()
    pid, _, _ = _CREDENTIALS.unpack(gate.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(pid)


def _open_pidfd(pid: int) -> int | None:
    """Return a descriptor that becomes readable when a process ends; None if the system has none."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _kill_group(pid: int) -> None:
    """Kill the process group of a child, which is not reaped yet, so that its pid is still its own."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass  # the group is empty


if hasattr(os, "waitid"):

    def _exit_code(pid: int) -> int | None:
        """Return the exit code of a child, and leave it a zombie; None while it runs."""
        try:
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return 0
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

else:

    def _exit_code(pid: int) -> int | None:
        """Return the exit code of a child, and reap it: its pid may be reused from then on. None while it runs."""
        ended, status = os.waitpid(pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if ended else None
