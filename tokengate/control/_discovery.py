"""Where the control sockets of this user's gates are, and which gate is which."""

from __future__ import annotations

import itertools
import os
import re
import socket
import stat
import tempfile
from pathlib import Path

import attrs

from tokengate.control._exceptions import AmbiguousName, ControlError, Unreachable
from tokengate.control._protocol import MAX_REQUEST, ServerHello, decode_server_hello

_MAX_PATH = 103  # bytes of a socket's path that every platform takes: Linux 107, macOS 103
_MAX_NAME = 24  # characters of a gate's name in a file name; the hello has all of it
_BACKLOG = 128  # connections that wait to be accepted
_HELLO_SECONDS = 1.0

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
    """Return the directory of the sockets: TOKENGATE_RUNTIME_DIR, or `tokengate` in the user's runtime directory."""
    if chosen := os.environ.get("TOKENGATE_RUNTIME_DIR"):
        return Path(chosen)
    if of_user := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(of_user) / "tokengate"
    return Path(tempfile.gettempdir()) / f"tokengate-{os.geteuid()}"


def listen(gate: str, directory: Path | None = None) -> tuple[socket.socket, Path]:
    """Make the control socket of a gate, which listens; return it and its path.

    Args:
        gate: its name.
        directory: for the socket; None takes `runtime_directory()`. Made if it is not there.

    Raises:
        ControlError: the directory is not this user's alone, its path is too long, or it takes no socket.
    """
    place = runtime_directory() if directory is None else directory
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ControlError(f"cannot make directory '{place}' of control sockets: {error}; {_REMEDY}") from error
    _check(place)
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", gate)[:_MAX_NAME]
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

    Args:
        directory: of the sockets; None takes `runtime_directory()`.

    Raises:
        ControlError: the directory is not this user's alone.
    """
    place = runtime_directory() if directory is None else directory
    try:
        _check(place)
    except FileNotFoundError:
        return []
    found = (_visit(path) for path in place.iterdir())
    return sorted((gate for gate in found if gate is not None), key=lambda gate: (gate.name, gate.pid, gate.path))


def find_gate(name: str | None = None, directory: Path | None = None) -> FoundGate:
    """Return the gate that is meant.

    Args:
        name: of the gate; when several have it, `name@pid`, the pid, or the name of the socket's file without `.sock`.
            None means the only one.
        directory: of the sockets; None takes `runtime_directory()`.

    Raises:
        Unreachable: there is none, or it does not answer.
        AmbiguousName: there are several.
        ControlError: the directory is not this user's alone.
    """
    gates = find_gates(directory)
    meant = [gate for gate in gates if name is None or name in (gate.name, gate.address, str(gate.pid), gate.path.stem)]
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


def _check(place: Path) -> None:
    """Raise unless a directory is this user's alone: whoever else may write there could be taken for a gate."""
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


def _visit(path: Path) -> FoundGate | None:
    """Return the gate behind a file, if there is one; a socket that nobody listens at is removed."""
    parts = _SOCKET_FILE.fullmatch(path.name)
    try:
        before = path.lstat()
        if parts is None or not stat.S_ISSOCK(before.st_mode):
            return None
        try:
            hello = _hello(path)
        except ConnectionRefusedError:
            now = path.lstat()
            if (now.st_dev, now.st_ino) == (before.st_dev, before.st_ino):
                path.unlink()
            return None
    except FileNotFoundError:
        return None  # its gate has just closed
    except (OSError, ValueError):
        assert parts is not None
        return FoundGate(parts["name"], int(parts["pid"]), path, answers=False)
    return FoundGate(hello.gate, hello.pid, path)


def _hello(path: Path) -> ServerHello:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_HELLO_SECONDS)
        connection.connect(os.fspath(path))
        with connection.makefile("rb") as lines:
            said = decode_server_hello(lines.readline(MAX_REQUEST))
    if not isinstance(said, ServerHello):
        raise ValueError(said.message)
    return said


def _which(name: str | None) -> str:
    return "gate" if name is None else f"gate '{name}'"


def _list(gates: list[FoundGate]) -> str:
    """Name gates so that each name means one of them."""
    addresses = [gate.address for gate in gates]
    return ", ".join(gate.address if addresses.count(gate.address) == 1 else gate.path.stem for gate in gates)
