"""The directory of control sockets, and the gates that listen there."""

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
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Literal, Self

import attrs

from tokengate.control._exceptions import AmbiguousName, ControlError, NoAnswer, Unreachable
from tokengate.control.transport._protocol import MAX_REQUEST, PROTOCOL, ServerHello, decode_server_hello

_MAX_PATH = 103  # bytes of a socket's path that every platform accepts: Linux 107, macOS 103
_MAX_NAME = 24  # characters of a gate's name in a file name; the hello has the whole name
_BACKLOG = 128  # connections that may wait to be accepted
_HELLO_SECONDS = 1.0  # for all gates together, which are asked at once
_AGAIN_SECONDS = 0.01  # between two attempts to connect when the backlog is full

_SOCKET_FILE = re.compile(r"(?P<name>[A-Za-z0-9_-]+)-(?P<pid>[0-9]+)-[0-9]+\.sock")


@attrs.frozen
class FoundGate:
    """A gate on this machine.

    Attributes:
        name: its name; of a gate that does not answer, the name of its file.
        pid: of its process.
        path: of its control socket.
        answers: whether it sent a hello; a process that is stopped (SIGSTOP) or overloaded does not.
        refusal: what it said instead of a hello, such as why this user may not control it, or that it speaks another
            protocol; else empty.
    """

    name: str
    pid: int
    path: Path
    answers: bool = True
    refusal: str = ""

    @property
    def address(self) -> str:
        """Its name and pid, which other gates of this name do not have."""
        return f"{self.name}@{self.pid}"


def runtime_directory() -> Path:
    """Return the directory of the sockets: TOKENGATE_RUNTIME_DIR, or `tokengate` in the user's runtime directory.

    The path is absolute, so that the sockets are found and removed after the process has changed its directory.
    """
    if chosen := os.environ.get("TOKENGATE_RUNTIME_DIR"):
        return Path(chosen).absolute()
    if of_user := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(of_user).absolute() / "tokengate"
    return Path(tempfile.gettempdir()).absolute() / f"tokengate-{os.geteuid()}"


def state_directory(gate: str) -> Path:
    """Return where a gate keeps what outlives it: `tokengate/NAME` in the user's state directory."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(state).absolute() / "tokengate" / re.sub(r"^\.|[^A-Za-z0-9._~-]", "_", gate)


def listen(gate: str, directory: Path | None = None, group: int | None = None) -> tuple[socket.socket, Path]:
    """Make the control socket of a gate, and listen; return the socket and its absolute path.

    Args:
        gate: name of the gate.
        directory: for the socket; None takes `runtime_directory()`. It is made if it does not exist.
        group: number of the group whose users may connect.

    Raises:
        ControlError: the directory is open to other users, its path is too long, or no socket can be made there.
    """
    place = make_directory(directory, group)
    safe = _safe(gate)
    for n in itertools.count():
        path = place / f"{safe}-{os.getpid()}-{n}.sock"
        try:
            return listen_at(path, group), path
        except FileExistsError:
            pass  # another gate of this name in this process, or a stale socket of an earlier process with this pid
    raise AssertionError("count() does not end")


def find_gates(directory: Path | None = None) -> list[FoundGate]:
    """Return the gates of this user, sorted by name and pid, and remove stale sockets.

    It takes at most a second, for any number of gates that do not answer.

    Args:
        directory: of the sockets; None takes `runtime_directory()`.

    Raises:
        ControlError: the directory is open to other users.
    """
    return _visit(socket_files(directory))


def find_gate(name: str | None = None, directory: Path | None = None) -> FoundGate:
    """Return the gate with a name. Other gates are only asked if there is none with this name.

    Args:
        name: of the gate; if several have it, `name@pid`, the pid, or the name of the socket's file without `.sock`.
            None takes the only gate.
        directory: of the sockets; None takes `runtime_directory()`.

    Raises:
        Unreachable: there is no such gate, or it does not answer (`NoAnswer`), or refuses this user.
        AmbiguousName: there are several.
        ControlError: the directory is open to other users.
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
        raise AmbiguousName(f"{_which(name)} may be {_list(answering)}; choose one with -g")
    if refusing := [gate for gate in meant if gate.refusal]:
        raise Unreachable(refusing[0].refusal)
    if meant:
        text = f"{_list(meant)} does not answer; its process may be stopped (SIGSTOP) or overloaded"
        raise NoAnswer(text, meant[0].name)
    if gates:
        raise Unreachable(f"no {_which(name)} runs here, but {_list(gates)}; choose one with -g")
    raise Unreachable(f"no {_which(name)} runs here; start one with 'tokengate run', or 'with Gate():' in Python")


_REMEDY = "set TOKENGATE_RUNTIME_DIR to a short path of a directory that is yours alone (mode 0700)"


def make_directory(directory: Path | None, group: int | None) -> Path:
    """Make the directory of the sockets if it does not exist, and return its absolute path; see `listen`."""
    place = runtime_directory() if directory is None else directory.absolute()
    try:
        try:
            place.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            if not place.is_dir():
                raise
        else:
            if group is not None:
                os.chown(place, -1, group)
                place.chmod(0o750)
    except OSError as error:
        raise ControlError(f"cannot make directory '{place}' of control sockets: {error}; {_REMEDY}") from error
    check_directory(place, group)
    return place


def check_directory(place: Path, group: int | None = None, *, enters: bool = False) -> None:
    """Check that no other user may write to a directory: such a user could pose as a gate.

    Args:
        place: the directory.
        group: number of the group that may see what is there, if it is the directory's own.
        enters: whether this is a client, which enters the directory of another user, too, if TOKENGATE_RUNTIME_DIR
            names it; what a group may see there is its owner's affair.

    Raises:
        ControlError: the directory is another user's, or open to others.
        FileNotFoundError: there is no such directory.
    """
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise ControlError(f"'{place}' is not a directory, or is a link, so it cannot hold control sockets; {_REMEDY}")
    named = enters and bool(os.environ.get("TOKENGATE_RUNTIME_DIR")) and place == runtime_directory()
    if found.st_uid != os.geteuid() and not named:
        raise ControlError(f"directory '{place}' of control sockets belongs to user {found.st_uid}; {_REMEDY}")
    may_see = 0o050 if enters or found.st_gid == group else 0
    if (mode := stat.S_IMODE(found.st_mode)) & 0o077 & ~may_see:
        raise ControlError(f"directory '{place}' of control sockets is open to others (mode {mode:03o}); {_REMEDY}")


def listen_at(path: Path, group: int | None) -> socket.socket:
    """Return a socket that listens at a path.

    It gets this path only when it listens: before that it would refuse connections, as a stale socket does.

    Args:
        path: a short one, see `listen`.
        group: number of the group whose users may connect.

    Raises:
        FileExistsError: something is there.
        ControlError: the path is too long, or no socket can be made there.
    """
    if len(os.fsencode(path)) > _MAX_PATH:
        raise ControlError(f"path of control socket '{path}' has more than {_MAX_PATH} bytes; {_REMEDY}")
    try:
        return _listen_at(path, group)
    except FileExistsError:
        raise
    except OSError as error:
        raise ControlError(f"cannot make control socket '{path}': {error}; {_REMEDY}") from error


def _listen_at(path: Path, group: int | None) -> socket.socket:
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
            if group is not None:
                os.chown(unnamed, -1, group)
                unnamed.chmod(0o660)
            made.listen(_BACKLOG)
            os.link(unnamed, path)
        finally:
            unnamed.unlink()
    except BaseException:
        made.close()
        raise
    return made


def _safe(gate: str) -> str:
    """Return the name of a gate as it is in the name of its file."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", gate)[:_MAX_NAME]


def _means(name: str | None, gate: FoundGate) -> bool:
    if name is None or name in (gate.name, gate.address, str(gate.pid), gate.path.stem):
        return True
    return not gate.answers and _may_mean(name, gate.path)


def _may_mean(name: str, path: Path) -> bool:
    """Return whether the gate with a name may listen at a file; only its hello has the whole name."""
    parts = _SOCKET_FILE.fullmatch(path.name)
    assert parts is not None
    of_gate, _, pid = name.rpartition("@")
    return (
        name in (path.stem, parts["pid"])
        or _safe(name) == parts["name"]
        or (_safe(of_gate), pid) == (parts["name"], parts["pid"])
    )


def socket_files(directory: Path | None) -> list[Path]:
    """Return the files with the name of a control socket, none if there is no directory.

    Raises:
        ControlError: the directory is open to other users.
    """
    place = runtime_directory() if directory is None else directory.absolute()
    try:
        check_directory(place, enters=True)
        files = list(place.iterdir())
    except FileNotFoundError:
        return []
    except PermissionError:
        raise ControlError(f"directory '{place}' of control sockets is not open to this user; {_REMEDY}") from None
    return [path for path in files if _SOCKET_FILE.fullmatch(path.name)]


def _visit(paths: Iterable[Path]) -> list[FoundGate]:
    """Return the gates that listen at files, sorted; stale sockets are removed.

    All are asked at once, with one time limit, so that a stopped or slow gate does not delay the others.
    """
    with ExitStack() as opened:
        selector = opened.enter_context(selectors.DefaultSelector())
        visits = [opened.enter_context(_Visit(path)) for path in paths]
        _ask(visits, selector, time.monotonic() + _HELLO_SECONDS)
    found = [visit.gate for visit in visits if visit.gate is not None]
    return sorted(found, key=lambda gate: (gate.name, gate.pid, gate.path))


def _ask(visits: list[_Visit], selector: selectors.BaseSelector, deadline: float) -> None:
    """Wait for the answers of gates, until the deadline; what has come by then is read, however late this runs."""
    left = 1.0
    while left > 0:
        for visit in visits:
            if visit.state == "new" and visit.connect():
                selector.register(visit, selectors.EVENT_READ, visit)
        if all(visit.state == "over" for visit in visits):
            return
        left = max(0.0, deadline - time.monotonic())
        again = any(visit.state == "new" for visit in visits)
        for key, _ in selector.select(min(left, _AGAIN_SECONDS) if again else left):
            if key.data.receive():
                selector.unregister(key.data)


class _Visit:
    """Asks the gate at a file for its hello, without blocking.

    Attributes:
        state: `new`; `asked`, when it is connected; `over`, when the result is known.
        gate: the gate, as far as it is known; None if there is none.
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
        """Connect, and return whether that succeeded; the state stays `new` while the gate's backlog is full."""
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
                    with suppress(PermissionError):  # it is in the directory of another user
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
        """Read what has come, and return whether the result is known."""
        assert self._socket is not None
        try:
            chunk = self._socket.recv(MAX_REQUEST)
            self._said += chunk
            line, end, _ = self._said.partition(b"\n")
            if not end and chunk and len(self._said) <= MAX_REQUEST:
                return False
            hello = decode_server_hello(bytes(line))
            if isinstance(hello, ServerHello):
                other = hello.protocol != PROTOCOL
                why = f"it speaks protocol {hello.protocol}, and this process {PROTOCOL}; " if other else ""
                self.gate = FoundGate(
                    hello.gate, hello.pid, self._path, refusal=why and f"{why}use TokenGate {hello.version} for both"
                )
            elif self.gate is not None:
                self.gate = attrs.evolve(self.gate, refusal=hello.message)
        except BlockingIOError:
            return False
        except (OSError, ValueError):
            pass
        self._end(self.gate)
        return True

    def _end(self, gate: FoundGate | None) -> bool:
        self.state, self.gate = "over", gate
        return False


def _which(name: str | None) -> str:
    return "gate" if name is None else f"gate '{name}'"


def _list(gates: list[FoundGate]) -> str:
    """Return the names of gates, each of which can be used to choose one."""
    addresses = [gate.address for gate in gates]
    return ", ".join(gate.address if addresses.count(gate.address) == 1 else gate.path.stem for gate in gates)
