"""The first steps of a child after the fork: it starts a session of its own, and closes what is the fork server's."""

from __future__ import annotations

import ctypes
import faulthandler
import fcntl
import gc
import logging
import os
import signal
import socket
import sys
import traceback
from types import ModuleType
from typing import Final, NamedTuple, NoReturn

from . import _wire
from ._connection import Connection, leave
from ._current_worker import current_worker
from ._log import GateHandler
from ._shared_page import Page
from ._stack import stop_self, write_stack
from ._worker_loop import Worker

_PR_SET_PDEATHSIG: Final = 1

_libc: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

# Exit codes of the runtime
BROKEN: Final = 70  # the worker loop has raised, which is a bug of the runtime
ORPHANED: Final = 71  # the fork server died before the child had tied its life to the server's


class Inherited(NamedTuple):
    """What a child inherits from the fork server.

    Attributes:
        server_pid: pid of the server.
        descriptors: of the child, as in `_wire.DESCRIPTORS`.
        ready_pipe: the child closes it when it has a process group and signal handlers; until then, the signal for
            stacks would end it.
        lifeline: an end of a pipe, of which only the server has the other end.
        server_descriptors: descriptors of the server, which the child closes.
    """

    server_pid: int
    descriptors: list[int]
    ready_pipe: int
    lifeline: int
    server_descriptors: list[int]


def run_child(inherited: Inherited) -> NoReturn:
    """Run as a worker until the gate closes the connection."""
    code = BROKEN
    try:
        _become_independent(inherited)
        worker = _worker(*inherited.descriptors)
        os.close(inherited.ready_pipe)
        worker.run()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        leave(code)


def _become_independent(inherited: Inherited) -> None:
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal; the gate handles it
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != inherited.server_pid:
            os._exit(ORPHANED)
    for descriptor in inherited.server_descriptors:
        os.close(descriptor)
    _die_with_server(inherited.lifeline)
    gc.enable()


def _die_with_server(lifeline: int) -> None:
    """Have the system kill the process group when the other end of a pipe is closed: when the server dies.

    PR_SET_PDEATHSIG kills the child alone. With server and gate dead, nothing would kill the processes that it has
    started.
    """
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def _worker(stream: int, files: int, page: int, stack: int) -> Worker:
    os.set_blocking(stack, False)  # what does not fit into the pipe is lost
    faulthandler.enable(file=stack)
    faulthandler.register(_wire.STACK_SIGNAL, file=stack, all_threads=False)
    signal.signal(_wire.ASK_SIGNAL, lambda *_: write_stack(stack))
    signal.siginterrupt(_wire.ASK_SIGNAL, False)
    sys.modules["__main__"] = ModuleType("__main__")  # unpickling must not find names of the runtime there
    shared = Page(page)
    os.close(page)
    connection = Connection(socket.socket(fileno=stream), socket.socket(fileno=files), shared)
    os.register_at_fork(after_in_child=lambda: _disown(connection))
    return Worker(connection, lambda: stop_self(stack))


def _disown(connection: Connection) -> None:
    """Close the connection to the gate in a process that user code has forked."""
    connection.disown()
    current_worker.connection = current_worker.yield_points = None
    for handler in logging.root.handlers[:]:
        if isinstance(handler, GateHandler):
            logging.root.removeHandler(handler)
