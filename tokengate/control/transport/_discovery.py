"""Where the control sockets of this user's gates are, and which gate is which."""

from __future__ import annotations

import itertools
import os
import re
import selectors
import socket
import stat
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, Self

import attrs

from tokengate.control._exceptions import AmbiguousName, ControlError, Unreachable
from tokengate.control.transport._protocol import MAX_REQUEST, ServerHello, decode_server_hello

_MAX_PATH = 103  # bytes of a socket's path that every platform takes: Linux 107, macOS 103
_MAX_NAME = 24  # characters of a gate's name in a file name; the hello has all of it
_BACKLOG = 128  # connections that wait to be accepted
_HELLO_SECONDS = 1.0  # for all gates together, which are asked at once
_AGAIN_SECONDS = 0.01  # until a gate whose backlog is full is tried again

_SOCKET_FILE = re.compile(r"(?P<name>.+)-(?P<pid>\d+)-\d+\.sock")


@attrs.frozen
class FoundGate:
    """A gate of this user, on this machine.

    Attributes:
        name: its own; as its file has it when it does not answer.
        pid: of its process.
        path: of its control socket.
        answers: whether it said hello; a process that is stopped (SIGSTOP) or overloaded does not.
    """

    name: str
    pid: int
    path: Path
    answers: bool = True

    @property
    def address(self) -> str:
        """What tells it from gates of other processes."""
        return f"{self.name}@{self.pid}"


def runtime_directory() -> Path:
    """Return the directory of the sockets: TOKENGATE_RUNTIME_DIR, or `tokengate` in the user's runtime directory.

    It is absolute, so that what is made there is found and removed from whatever directory the process is in then.
    """
    if chosen := os.environ.get("TOKENGATE_RUNTIME_DIR"):
        return Path(chosen).absolute()
    if of_user := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(of_user).absolute() / "tokengate"
    return Path(tempfile.gettempdir()).absolute() / f"tokengate-{os.geteuid()}"


def listen(gate: str, directory: Path | None = None) -> tuple[socket.socket, Path]:
    """Make the control socket of a gate, which listens; return it and its absolute path.

    Args:
        gate: its name.
        directory: for the socket; None takes `runtime_directory()`. Made if it is not there.

    Raises:
        ControlError: the directory is not this user's alone, its path is too long, or it takes no socket.
    """
    place = runtime_directory() if directory is None else directory.absolute()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ControlError(f"cannot make directory '{place}' of control sockets: {error}; {_REMEDY}") from error
    check_directory(place)
    safe = _safe(gate)
    for n in itertools.count():
        path = place / f"{safe}-{os.getpid()}-{n}.sock"
        if len(os.fsencode(path)) > _MAX_PATH:
            raise ControlError(f"path of control socket '{path}' has more than {_MAX_PATH} bytes; {_REMEDY}")
        try:
            return _listen_at(path), path
        except FileExistsError:
            pass  # another gate of this name in this process, or what one of an earlier process has left
        except OSError as error:
            raise ControlError(f"cannot make control socket '{path}': {error}; {_REMEDY}") from error
    raise AssertionError("counting has no end")


def find_gates(directory: Path | None = None) -> list[FoundGate]:
    """Return the gates of this user by name and pid, and remove the sockets of those that are gone.

    It takes no more than a second, however many do not answer.

    Args:
        directory: of the sockets; None takes `runtime_directory()`.

    Raises:
        ControlError: the directory is not this user's alone.
    """
    return _visit(socket_files(directory))


def find_gate(name: str | None = None, directory: Path | None = None) -> FoundGate:
    """Return the gate that is meant. Others are not waited for, unless there is none of this name.

    Args:
        name: of the gate; when several have it, `name@pid`, the pid, or the name of the socket's file without `.sock`.
            None means the only one.
        directory: of the sockets; None takes `runtime_directory()`.

    Raises:
        Unreachable: there is none, or it does not answer.
        AmbiguousName: there are several.
        ControlError: the directory is not this user's alone.
    """
    files = socket_files(directory)
    likely = [path for path in files if name is None or _may_mean(name, path)]
    gates = _visit(likely)
    meant = [gate for gate in gates if _means(name, gate)]
    if not meant and len(likely) < len(files):
        gates = _visit(files)
        meant = [gate for gate in gates if _means(name, gate)]
    answering = [gate for gate in meant if gate.answers]
    if len(answering) == 1:
        return answering[0]
    if answering:
        raise AmbiguousName(f"{_which(name)} may be {_list(answering)}; say which one, with -g")
    if meant:
        raise Unreachable(f"{_list(meant)} does not answer; its process may be stopped (SIGSTOP) or overloaded")
    if gates:
        raise Unreachable(f"no {_which(name)} runs here, but {_list(gates)}; choose one, with -g")
    raise Unreachable(f"no {_which(name)} runs here; start one with 'tokengate run', or 'with Gate():' in Python")


_REMEDY = "set TOKENGATE_RUNTIME_DIR to a short path of a directory that is yours alone (mode 0700)"


def check_directory(place: Path) -> None:
    """Check that a directory is this user's alone: another user who may write there could pose as a gate.

    Raises:
        ControlError: it is not.
        FileNotFoundError: there is no such directory.
    """
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise ControlError(f"'{place}' is no directory (or a link), so it cannot hold control sockets; {_REMEDY}")
    if found.st_uid != os.geteuid():
        raise ControlError(f"directory '{place}' of control sockets belongs to user {found.st_uid}; {_REMEDY}")
    if mode := stat.S_IMODE(found.st_mode) & 0o077:
        raise ControlError(f"directory '{place}' of control sockets is open to others (mode ...{mode:03o}); {_REMEDY}")


def _listen_at(path: Path) -> socket.socket:
    """Return a socket that listens there, or raise FileExistsError.

    It gets its name only once it listens: one that does not yet refuses connections, as those that are stale do.
    """
    unnamed = path.with_suffix(".new")
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            made.bind(os.fspath(unnamed))
        except OSError as error:
            if unnamed.exists():
                raise FileExistsError(str(unnamed)) from error
            raise
        try:
            unnamed.chmod(0o600)
            made.listen(_BACKLOG)
            os.link(unnamed, path)
        finally:
            unnamed.unlink()
    except BaseException:
        made.close()
        raise
    return made


def _safe(gate: str) -> str:
    """Return what the name of a gate is in that of its file."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", gate)[:_MAX_NAME]


def _means(name: str | None, gate: FoundGate) -> bool:
    if name is None or name in (gate.name, gate.address, str(gate.pid), gate.path.stem):
        return True
    return not gate.answers and _may_mean(name, gate.path)


def _may_mean(name: str, path: Path) -> bool:
    """Return whether a gate that is meant by a name may be behind a file; only its hello has all of its own."""
    parts = _SOCKET_FILE.fullmatch(path.name)
    assert parts is not None
    of_gate, _, pid = name.rpartition("@")
    return (
        name in (path.stem, parts["pid"])
        or _safe(name) == parts["name"]
        or (_safe(of_gate), pid) == (parts["name"], parts["pid"])
    )


def socket_files(directory: Path | None) -> list[Path]:
    """Return the files that have the name of a control socket, if there is a directory of such."""
    place = runtime_directory() if directory is None else directory.absolute()
    try:
        check_directory(place)
    except FileNotFoundError:
        return []
    return [path for path in place.iterdir() if _SOCKET_FILE.fullmatch(path.name)]


def _visit(paths: Iterable[Path]) -> list[FoundGate]:
    """Return the gates behind files, in order; a socket that nobody listens at is removed.

    All are asked at once, and given up at one time, so that one which is stopped, or slow, costs the others nothing.
    """
    deadline = time.monotonic() + _HELLO_SECONDS
    with ExitStack() as opened:
        selector = opened.enter_context(selectors.DefaultSelector())
        visits = [opened.enter_context(_Visit(path)) for path in paths]
        while True:
            for visit in visits:
                if visit.state == "new" and visit.connect():
                    selector.register(visit, selectors.EVENT_READ, visit)
            left = deadline - time.monotonic()
            if left <= 0 or all(visit.state == "over" for visit in visits):
                break
            if any(visit.state == "new" for visit in visits):
                left = min(left, _AGAIN_SECONDS)
            for key, _ in selector.select(left):
                if key.data.receive():
                    selector.unregister(key.data)
        found = [visit.gate for visit in visits if visit.gate is not None]
    return sorted(found, key=lambda gate: (gate.name, gate.pid, gate.path))


class _Visit:
    """Asks who is behind a file, without ever waiting.

    Attributes:
        state: `new`; `asked`, when it is connected; `over`, when there is no more to learn.
        gate: what is there, as far as is known; None for nothing.
    """

    def __init__(self, path: Path) -> None:
        parts = _SOCKET_FILE.fullmatch(path.name)
        assert parts is not None
        self.state: Literal["new", "asked", "over"] = "new"
        self.gate: FoundGate | None = FoundGate(parts["name"], int(parts["pid"]), path, answers=False)
        self._path = path
        self._said = bytearray()
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._socket is not None:
            self._socket.close()

    def fileno(self) -> int:
        assert self._socket is not None
        return self._socket.fileno()

    def connect(self) -> bool:
        """Connect, and return whether that was done; it stays `new` while the gate's backlog is full."""
        try:
            before = self._path.lstat()
            if not stat.S_ISSOCK(before.st_mode):
                return self._end(None)
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._socket.setblocking(False)
            try:
                self._socket.connect(os.fspath(self._path))
            except ConnectionRefusedError:
                now = self._path.lstat()
                if (now.st_dev, now.st_ino) == (before.st_dev, before.st_ino):
                    self._path.unlink()
                return self._end(None)
        except FileNotFoundError:
            return self._end(None)  # its gate has just closed
        except BlockingIOError:
            return False
        except OSError:
            return self._end(self.gate)
        self.state = "asked"
        return True

    def receive(self) -> bool:
        """Take what has come, and return whether it is over."""
        assert self._socket is not None
        try:
            chunk = self._socket.recv(MAX_REQUEST)
            self._said += chunk
            line, end, _ = self._said.partition(b"\n")
            if not end and chunk and len(self._said) <= MAX_REQUEST:
                return False
            hello = decode_server_hello(bytes(line))
        except BlockingIOError:
            return False
        except (OSError, ValueError):
            hello = None
        self._end(FoundGate(hello.gate, hello.pid, self._path) if isinstance(hello, ServerHello) else self.gate)
        return True

    def _end(self, gate: FoundGate | None) -> bool:
        self.state, self.gate = "over", gate
        return False


def _which(name: str | None) -> str:
    return "gate" if name is None else f"gate '{name}'"


def _list(gates: list[FoundGate]) -> str:
    """Name gates so that each name means one of them."""
    addresses = [gate.address for gate in gates]
    return ", ".join(gate.address if addresses.count(gate.address) == 1 else gate.path.stem for gate in gates)
