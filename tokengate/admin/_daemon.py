"""The daemon: serves the page and the API until a signal, `tokengate admin stop`, or idleness ends it."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import FrameType
from typing import Final

import attrs
import uvicorn

from actors import TokenGateError
from tokengate.admin._app import application
from tokengate.admin._audit import AuditTrail
from tokengate.admin._client import SOCKET
from tokengate.admin._config import settings_in
from tokengate.admin._connection import server_config
from tokengate.admin._doors import Doors
from tokengate.admin._gates import Gates
from tokengate.admin._local import LocalServer
from tokengate.admin._lock import only_one
from tokengate.admin._problems import Problem
from tokengate.admin._site import Site
from tokengate.authority._grants import Rights
from tokengate.control._exceptions import ControlError
from tokengate.control._version import own_version
from tokengate.control.transport._discovery import listen_at, make_directory, state_directory

_LOOPBACK: Final = ("127.0.0.1", "[::1]", "localhost")  # names for scripts; sessions have the daemon's own
_PORTS: Final = 100  # that are tried
_LOG_SIZE: Final = 2**20  # bytes

_logger = logging.getLogger("tokengate.admin")


@attrs.frozen
class Options:
    """How a daemon is started.

    Attributes:
        port: to listen on, and no other; 0: any that is free; None: that of the file, or the next free one.
        host: its name in URLs; empty: that of the file, or a random one.
        config: the file; None for the one that `TOKENGATE_CONFIG` names.
        lingers: seconds for which it stays after the last gate; None: for ever.
        lock: descriptor of the lock, if it was taken before.
    """

    port: int | None = None
    host: str = ""
    config: Path | None = None
    lingers: float | None = None
    lock: int | None = None


def serve(options: Options, told: Callable[[Mapping[str, object]], object]) -> None:
    """Run the daemon, in the main thread, until something ends it; nothing is left then.

    Args:
        options: how it is started.
        told: called with its status when it can be reached.

    Raises:
        AlreadyRuns: one of this user does.
        BadConfig: the file has errors.
        ControlError: the port is taken, or the runtime directory cannot be used.
    """
    with _signals() as stopping:
        asyncio.run(_serve(options, told, stopping))


async def _serve(options: Options, told: Callable[[Mapping[str, object]], object], stopping: _Stopping) -> None:
    settings = settings_in(options.config)
    directory = make_directory(None, settings.group)
    with ExitStack() as opened:
        opened.enter_context(only_one(directory, options.lock))
        sockets = [opened.enter_context(one) for one in _bound(options.port, settings.admin.port)]
        path = directory / SOCKET
        for stale in (path, path.with_suffix(".new")):  # of a daemon that was killed
            stale.unlink(missing_ok=True)
        listening = opened.enter_context(listen_at(path, settings.group))
        opened.callback(path.unlink, missing_ok=True)
        trail = AuditTrail(state_directory("admin") / "audit")
        opened.callback(trail.close)
        host = options.host or settings.admin.host or f"tokengate-{secrets.token_hex(4)}.localhost"
        port = sockets[0].getsockname()[1]
        status = {
            "url": f"http://{host}:{port}", "host": host, "port": port, "pid": os.getpid(), "since": time.time(),
            "version": own_version(),
        }  # fmt: skip
        gates = Gates(directory, trail)
        try:
            doors = Doors(trail, state_directory("admin") / "api-tokens.json", settings.admin.ceiling)
        except Problem as problem:
            raise ControlError(f"{problem.detail}; {problem.remedy}") from None
        site = Site(gates, doors, trail, host, frozenset({host, *_LOOPBACK}), own_version())
        server = _Server(server_config(application(site)))
        local = LocalServer(doors, Rights(settings.grants, os.geteuid()), trail, status, server.stop)
        stopping.begin(server)
        told(status)
        async with asyncio.TaskGroup() as tasks:
            idling = tasks.create_task(_end_without_gates(gates, options.lingers, server.stop))
            serving = await local.serve(listening)
            await server.serve(sockets)
            serving.close()
            idling.cancel()
        await gates.close()


class _Server(uvicorn.Server):
    """uvicorn's, which takes signals itself while it runs, and raises them again afterwards."""

    def stop(self) -> None:
        """Stop in order; the second time at once."""
        self.force_exit = self.should_exit
        self.should_exit = True


@attrs.define
class _Stopping:
    """What signals stop: the server, as soon as there is one; what is done before and after is not interrupted."""

    _server: _Server | None = None
    _asked: bool = False

    def begin(self, server: _Server) -> None:
        self._server = server
        server.should_exit = server.should_exit or self._asked

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
        if self._server is not None:
            self._server.stop()


@contextmanager
def _signals() -> Generator[_Stopping]:
    stopping = _Stopping()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` has it
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stopping.handle) for number in numbers}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _bound(given: int | None, first: int) -> list[socket.socket]:
    """Return sockets that listen on the loopback interface, for IPv4 and, if there is one, IPv6, at one port.

    Args:
        given: that port, and no other; None takes the first free one.
        first: the one to try first.
    """
    for port in range(first, min(first + _PORTS, 65_536)) if given is None else (given,):
        try:
            return _at(port)
        except OSError as error:
            if given is not None or error.errno != errno.EADDRINUSE:
                reason = os.strerror(error.errno or 0)
                raise ControlError(f"cannot use port {port}: {reason}; name another with --port") from error
    raise ControlError(f"ports {first} to {first + _PORTS - 1} are taken; name another with --port")


def _at(port: int) -> list[socket.socket]:
    with ExitStack() as undone:
        made = [undone.enter_context(socket.create_server(("127.0.0.1", port)))]
        try:
            address = ("::1", made[0].getsockname()[1])
            made.append(undone.enter_context(socket.create_server(address, family=socket.AF_INET6)))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):  # it has no IPv6
                raise
        undone.pop_all()
        return made


async def _end_without_gates(gates: Gates, seconds: float | None, stop: Callable[[], object]) -> None:
    if seconds is not None:
        await gates.wait_idle(seconds)
        _logger.info("no gate has been open for %g s", seconds)
        stop()


# --- A daemon that the plugin has started -----------------------------------------------------------------------------


class _Log(RotatingFileHandler):
    """A bounded log, which has also what is written to stdout and stderr."""

    def doRollover(self) -> None:  # noqa: N802
        super().doRollover()
        if self.stream is not None:
            for number in (1, 2):
                os.dup2(self.stream.fileno(), number)


def run_detached(lock: int, log: str, lingers: str, config: str) -> None:
    """Run the daemon in a process of its own; see `_start.py`.

    Args:
        lock: descriptor of the lock.
        log: path of its log, to which stdout and stderr go, too.
        lingers: seconds for which it stays after the last gate.
        config: path of the file; empty for the one that `TOKENGATE_CONFIG` names.
    """
    os.umask(0o077)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the thread that has started it may have blocked signals
    handler = _Log(log, maxBytes=_LOG_SIZE, backupCount=1)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", handlers=[handler]
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)

    def told(status: Mapping[str, object]) -> None:
        os.chdir("/")  # its paths are absolute
        _logger.info("serves %s, pid %s", status["url"], status["pid"])

    try:
        serve(Options(config=Path(config) if config else None, lingers=float(lingers), lock=lock), told)
        _logger.info("has ended")
    except TokenGateError as error:
        _logger.error("was not started: %s", error)
        sys.exit(1)
