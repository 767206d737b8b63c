"""Admin daemons of tests, in processes of their own; a module of tests says `usefixtures("programs")`."""

from __future__ import annotations

import json
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

import httpx
import programs
import psutil
import pytest

from tokengate.admin import _client as local
from tokengate.control._exceptions import ControlError
from tokengate.control.transport._peer import peer_of

COMMAND: Final = ("-m", "tokengate", "admin")
"""The command line of a daemon that is started by hand."""


@contextmanager
def own_place(patched: pytest.MonkeyPatch, state: Path) -> Iterator[Path]:
    """Have a runtime directory, with a short path, and a state directory for a block; a daemon there is ended."""
    with tempfile.TemporaryDirectory(prefix="tg-") as place, ExitStack() as undone:
        patched.setenv("TOKENGATE_RUNTIME_DIR", place)
        patched.setenv("XDG_STATE_HOME", str(state))
        patched.delenv("TOKENGATE_CONFIG", raising=False)
        undone.callback(_end, Path(place))
        yield Path(place)


def _end(place: Path) -> None:
    """End the daemon that listens in a directory, also one that is stopped."""
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.connect(str(place / local.SOCKET))
        peer = peer_of(connection)
        assert peer is not None
        assert peer.pid is not None
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(peer.pid)
            process.kill()
            process.wait(programs.LIMIT)


class Daemon:
    """A daemon that is started by hand on a free port, and has said where it is.

    Args:
        options: of `tokengate admin`, after `--port 0 --json`.

    Attributes:
        program: its process.
        status: what it says of itself.
    """

    def __init__(self, *options: str, port: int | None = 0) -> None:
        which = () if port is None else ("--port", str(port))
        self.program = programs.Program(*COMMAND, *which, "--json", *options)
        line = self.program.stdout.readline()
        assert line, self.program.communicate()
        self.status: dict[str, Any] = json.loads(line)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """End it; return its exit code, and what it has printed since, but for heads of its audit log."""
        self.program.send_signal(number)
        lines = "".join(self.program.communicate()).splitlines(keepends=True)
        return self.program.wait(), "".join(line for line in lines if "tokengate.audit: audit head: " not in line)

    def client(self, cookie: str = "") -> httpx.Client:
        """Return a client, as the page is; with the session of a cookie, if that is given."""
        host, port = self.status["host"], self.status["port"]
        headers = {"host": f"{host}:{port}", "origin": f"http://{host}:{port}", "sec-fetch-site": "same-origin"}
        cookies = {host.partition(".")[0]: cookie} if cookie else {}
        base = f"http://127.0.0.1:{port}"
        return httpx.Client(base_url=base, headers=headers, cookies=cookies, timeout=programs.LIMIT)

    def login(self, url: str) -> str:
        """Use the code of a URL, and return the value of the cookie; empty if the code is refused."""
        with self.client() as client:
            answer = client.post("/login", json={"code": url.partition("#")[2]})
        return next(iter(answer.cookies.values()), "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.program.__exit__()


def running() -> dict[str, Any]:
    """Return the status of the daemon that runs; empty: there is none, or it does not listen yet."""
    try:
        found: dict[str, Any] = local.ask(local.Status())
    except ControlError:
        return {}
    return found


def files_below(*places: Path) -> Iterator[bytes]:
    """Yield what is in all files of directories."""
    for place in places:
        for path in place.rglob("*"):
            if path.is_file():
                yield path.read_bytes()


def arguments_of_all() -> Iterator[str]:
    """Yield the arguments of all processes."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            yield " ".join(process.cmdline())
