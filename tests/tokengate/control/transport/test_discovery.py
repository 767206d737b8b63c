"""Where sockets are put, and how gates are found by them."""

from __future__ import annotations

import itertools
import os
import select
import selectors
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from other_users import needs_root, public_directory, run_as

from tokengate.control._exceptions import AmbiguousName, ControlError, Unreachable
from tokengate.control.transport import _discovery
from tokengate.control.transport._discovery import FoundGate, find_gate, find_gates, listen, runtime_directory
from tokengate.control.transport._protocol import PROTOCOL, ServerHello, encode_error, encode_server_hello

pytestmark = pytest.mark.usefixtures("programs")

LIMIT = 60.0  # seconds; reached only when a test fails


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime directory that is not there yet; `tmp_path` has the test's name in it, and is long."""
    place = tmp_path_factory.mktemp("run") / "tokengate"
    monkeypatch.setenv("TOKENGATE_RUNTIME_DIR", str(place))
    return place


@contextmanager
def _gate(name: str, pid: int | None = None, group: int | None = None) -> Iterator[Path]:
    """A socket that says hello to whoever connects, as a gate does."""
    listening, path = listen(name, group=group)

    def greet() -> None:
        while True:
            connection, _ = listening.accept()
            with connection:
                try:
                    connection.sendall(encode_server_hello(ServerHello(PROTOCOL, name, pid or os.getpid(), "1.0")))
                    if connection.recv(1) == b"!":
                        return
                except ConnectionError:
                    pass

    thread = threading.Thread(target=greet)
    thread.start()
    try:
        yield path
    finally:
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(os.fspath(path))
            last.sendall(b"!")
            thread.join()
        listening.close()
        path.unlink()


def test_the_directory_is_the_one_that_was_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TOKENGATE_RUNTIME_DIR goes before XDG_RUNTIME_DIR, and that before the directory for temporary files."""
    monkeypatch.setenv("TOKENGATE_RUNTIME_DIR", "/chosen")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/of_user")
    chosen = runtime_directory()
    monkeypatch.delenv("TOKENGATE_RUNTIME_DIR")
    of_user = runtime_directory()
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    assert chosen == Path("/chosen")
    assert of_user == Path("/of_user/tokengate")
    assert runtime_directory() == tmp_path / f"tokengate-{os.geteuid()}"


def test_a_relative_directory_is_absolute_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a gate finds its socket again, and removes it, after the process has changed its directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKENGATE_RUNTIME_DIR", "run")
    chosen = runtime_directory()
    monkeypatch.delenv("TOKENGATE_RUNTIME_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "of_user")

    assert chosen == tmp_path / "run"
    assert runtime_directory() == tmp_path / "of_user" / "tokengate"


@pytest.mark.parametrize("given", [None, Path("run")])
def test_the_path_of_a_socket_is_absolute(
    given: Path | None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever says where it is to be, and however."""
    place = tmp_path_factory.mktemp("run")
    monkeypatch.chdir(place)
    monkeypatch.setenv("TOKENGATE_RUNTIME_DIR", "run")
    listening, path = listen("gate", given)
    listening.close()

    assert path.parent == place / "run"


def test_directory_and_socket_are_the_users_alone(directory: Path) -> None:
    """The directory is made with mode 0700, the socket with 0600, whatever the umask; nothing else is left there."""
    before = os.umask(0)
    try:
        listening, path = listen("gate")
    finally:
        os.umask(before)
    with listening:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert list(directory.iterdir()) == [path]


def test_two_gates_of_one_process_may_have_one_name(directory: Path) -> None:
    """Each has a socket of its own, and so does a gate whose file name another's would be."""
    made = [listen(name) for name in ("gate", "gate", "a b", "a.b")]
    for listening, _ in made:
        listening.close()

    pid = os.getpid()
    assert [path.name for _, path in made] == [
        f"gate-{pid}-0.sock",
        f"gate-{pid}-1.sock",
        f"a_b-{pid}-0.sock",
        f"a_b-{pid}-1.sock",
    ]


def test_what_an_earlier_process_left_is_not_in_the_way(directory: Path) -> None:
    """A process may get the pid of one that has crashed at any point of making its socket."""
    listening, path = listen("gate")
    listening.close()
    left = path.rename(path.with_suffix(".new"))
    again, other = listen("gate")
    again.close()

    assert left.exists()
    assert other.name.endswith("-1.sock")


def test_a_socket_has_its_name_only_once_it_listens(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that is bound and does not listen refuses, as stale ones do: whoever looks then must not remove it."""
    looked: list[list[FoundGate]] = []
    chmod = Path.chmod

    def look(path: Path, mode: int) -> None:
        looked.append(find_gates())
        chmod(path, mode)

    monkeypatch.setattr(Path, "chmod", look)
    listening, path = listen("gate")
    with listening:
        assert looked == [[]]
        assert path.exists()


def test_a_directory_that_takes_no_socket_is_told_of(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems have no sockets, or are full; nothing is left open or lying there."""

    def refuse(source: object, target: object) -> None:
        raise OSError("no such thing here")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(ControlError, match=r"cannot make control socket .*: no such thing here; set TOKENGATE_RUNTIME"):
        listen("gate")

    assert list(directory.iterdir()) == []


def _link(place: Path) -> None:
    (place.parent / "real").mkdir(mode=0o700)
    place.symlink_to(place.parent / "real")


def _open_to_group(place: Path) -> None:
    place.mkdir()
    place.chmod(0o770)


def _open_to_all(place: Path) -> None:
    place.mkdir()
    place.chmod(0o705)


def _of_another(place: Path) -> None:
    place.mkdir(mode=0o700)
    os.chown(place, 12345, -1)
    os.environ["TOKENGATE_RUNTIME_DIR"] = str(place.parent)  # which `monkeypatch` undoes


def _of_another_and_open(place: Path) -> None:
    place.mkdir()
    place.chmod(0o770)
    os.chown(place, 12345, -1)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_link, "is not a directory"),
        (Path.touch, "cannot make directory .* File exists"),
        (_open_to_group, "is open to others .mode 770."),
        (_open_to_all, "is open to others .mode 705."),
        pytest.param(_of_another, "belongs to user 12345", marks=needs_root),
        pytest.param(_of_another_and_open, "belongs to user 12345", marks=needs_root),
    ],
)
def test_a_directory_that_others_may_use_is_refused(
    directory: Path, spoil: object, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is a socket put there, nor is one believed that is there; the error says how to choose another."""
    assert callable(spoil)
    monkeypatch.setenv("TOKENGATE_RUNTIME_DIR", str(directory))
    spoil(directory)

    with pytest.raises(ControlError, match=f"{said}.*TOKENGATE_RUNTIME_DIR"):
        listen("gate", directory)
    with pytest.raises(ControlError, match="TOKENGATE_RUNTIME_DIR"):
        find_gates(directory)


OPS = 7000  # number of a group

FIND = "print([(gate.name, gate.answers) for gate in _discovery.find_gates()])"


def found_by(uid: int, groups: list[int], directory: Path, code: str = FIND) -> str:
    """What a user finds in the directory that TOKENGATE_RUNTIME_DIR names."""
    return run_as(uid, uid, groups, code, TOKENGATE_RUNTIME_DIR=str(directory)).strip()


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory that is not there yet, where other users can reach what is above it."""
    with public_directory() as above:
        monkeypatch.setenv("TOKENGATE_RUNTIME_DIR", str(above / "run"))
        yield above / "run"


@needs_root
def test_a_directory_may_be_open_to_the_group_that_the_gate_names(shared: Path) -> None:
    """Case 24. The gate makes it so; its users find the gate there, and others see nothing."""
    with _gate("shop", group=OPS) as path:
        made = [(stat.S_IMODE(one.stat().st_mode), one.stat().st_gid) for one in (shared, path)]
        own = find_gates()
        of_group, of_others = (
            found_by(12345, groups, shared, f"try: {FIND}\nexcept Exception as error: print(error)")
            for groups in ([OPS], [4711])
        )

    assert made == [(0o750, OPS), (0o660, OPS)]
    assert own == [FoundGate("shop", os.getpid(), path)]
    assert of_group == "[('shop', True)]"
    assert of_others.startswith(f"directory '{shared}' of control sockets is not open to this user; set TOKENGATE_RUN")


@needs_root
@pytest.mark.parametrize(("mode", "group"), [(0o750, 4711), (0o770, OPS), (0o755, OPS)])
def test_a_directory_that_more_than_the_group_may_use_is_refused(shared: Path, mode: int, group: int) -> None:
    """Another group, or one that may write there and so pose as a gate; a client refuses the latter, too."""
    shared.mkdir()
    os.chown(shared, -1, group)
    shared.chmod(mode)

    with pytest.raises(ControlError, match="is open to others"):
        listen("gate", group=OPS)
    if mode != 0o750:
        said = found_by(12345, [OPS], shared, f"try: {FIND}\nexcept Exception as error: print(error)")
        assert "is open to others" in said


@needs_root
def test_the_directory_of_another_user_is_entered_only_if_it_is_named(shared: Path) -> None:
    """By TOKENGATE_RUNTIME_DIR; no gate is opened there, and a socket of a gate that has ended is left there."""
    listening, path = listen("gone", group=OPS)
    listening.close()
    refused = found_by(
        12345,
        [OPS],
        shared.parent,
        f"""
try: _discovery.find_gates(__import__("pathlib").Path({str(shared)!r}))
except Exception as error: print(error)""",
    )
    found = found_by(12345, [OPS], shared)
    opened = found_by(
        12345,
        [OPS],
        shared,
        """
try: _discovery.listen("mine", group=7000)
except Exception as error: print(error)""",
    )

    assert refused.startswith(f"directory '{shared}' of control sockets belongs to user 0; set")
    assert found == "[]"
    assert path.exists()
    assert opened.startswith(f"directory '{shared}' of control sockets belongs to user 0; set")


@needs_root
def test_a_group_that_the_user_is_not_in_is_told_of(shared: Path) -> None:
    """The system does not let its user give it anything."""
    shared.parent.chmod(0o777)
    said = found_by(
        12345,
        [4711],
        shared,
        """
try: _discovery.listen("mine", group=7000)
except Exception as error: print(error)""",
    )

    assert said.startswith(f"cannot make directory '{shared}' of control sockets: ")
    assert "not permitted" in said


def test_a_path_that_is_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    """Names of gates are cut; a long directory is an error that names the path and the remedy."""
    deep = tmp_path / ("d" * 100)

    with pytest.raises(ControlError, match=f"'{deep}.*more than 103 bytes; set TOKENGATE_RUNTIME_DIR to a short path"):
        listen("gate", deep)


def test_a_long_name_of_a_gate_is_cut_in_its_file_only(directory: Path) -> None:
    """The hello has all of it, so it is found by its name."""
    with _gate("g" * 200) as path:
        assert path.name == f"{'g' * 24}-{os.getpid()}-0.sock"
        assert find_gate("g" * 200).path == path


def test_gates_are_found_by_their_hello(directory: Path) -> None:
    """Their names are as they say, in order; without a directory there is none."""
    before = find_gates()
    with _gate("b b") as second, _gate("a") as first:
        found = find_gates()

    assert before == []
    assert found == [FoundGate("a", os.getpid(), first), FoundGate("b b", os.getpid(), second)]


def test_stale_sockets_are_removed_and_nothing_else_is(directory: Path) -> None:
    """A socket that nobody listens at goes; a file, a link and a socket of another name stay."""
    gone, stale = listen("gone")
    gone.close()
    (directory / "gate-1-0.sock").touch()
    (directory / "link-1-0.sock").symlink_to(directory / "nowhere")
    other = stale.with_name("other")
    os.link(stale, other)
    found = find_gates()

    assert found == []
    assert not stale.exists()
    assert sorted(path.name for path in directory.iterdir()) == ["gate-1-0.sock", "link-1-0.sock", "other"]


def test_a_gate_that_does_not_answer_is_told_of_and_kept(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process is no stale one; looking for all gates ends nevertheless, and asking for it says why."""
    monkeypatch.setattr(_discovery, "_HELLO_SECONDS", 0.05)
    listening, path = listen("mute")
    with listening:
        found = find_gates()
        with pytest.raises(Unreachable, match=f"mute@{os.getpid()} does not answer; its process may be stopped"):
            find_gate("mute")

    assert found == [FoundGate("mute", os.getpid(), path, answers=False)]


def test_a_gate_that_refuses_this_user_says_why(directory: Path) -> None:
    """What it sends instead of a hello is the error; it is not taken for a stopped process."""

    def refuse() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:  # it is closed
                return
            with connection:
                connection.sendall(encode_error(None, Unreachable("gate 'shop' belongs to another user")))

    listening, path = listen("shop")
    refusing = threading.Thread(target=refuse)
    refusing.start()
    try:
        found = find_gates()
        with pytest.raises(Unreachable, match=r"^gate 'shop' belongs to another user$"):
            find_gate("shop")
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        refusing.join()
        listening.close()

    refusal = "gate 'shop' belongs to another user"
    assert found == [FoundGate("shop", os.getpid(), path, answers=False, refusal=refusal)]


@contextmanager
def _mute(*names: str) -> Iterator[list[Path]]:
    """Sockets at which nobody says anything."""
    with ExitStack() as opened:
        made = [listen(name) for name in names]
        for listening, _ in made:
            opened.enter_context(listening)
        yield [path for _, path in made]


def _never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whoever waits for all gates wait until the test fails."""
    monkeypatch.setattr(_discovery, "_HELLO_SECONDS", 1e6)


class _Clock:
    """Time that passes only while somebody waits in vain, and at once then.

    Args:
        answers: number of gates that answer; these are waited for.

    Attributes:
        waits: for how long each has been.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: int) -> None:
        self.answers = answers
        self.now = 0.0
        self.waits: list[float] = []
        clock = self

        class Selector(selectors.DefaultSelector):
            def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
                assert timeout is not None
                ready = super().select(LIMIT if clock.answers else 0)
                clock.answers -= len(ready)
                if not ready:
                    clock.waits.append(timeout)
                    clock.now += timeout
                return ready

        monkeypatch.setattr(_discovery.selectors, "DefaultSelector", Selector)
        monkeypatch.setattr(_discovery.time, "monotonic", lambda: self.now)


def test_gates_that_do_not_answer_are_waited_for_together(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten of them cost the second that one costs."""
    clock = _Clock(monkeypatch, answers=1)
    monkeypatch.setattr(_discovery, "_HELLO_SECONDS", 1.0)
    with _mute(*"abcdefghij") as paths, _gate("k") as healthy:
        found = find_gates()

    assert [(gate.path, gate.answers) for gate in found] == [*((path, False) for path in paths), (healthy, True)]
    assert sum(clock.waits) == pytest.approx(1.0)


def test_what_a_gate_has_said_in_time_is_read_however_late(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks may be stopped meanwhile."""
    clock = itertools.count(0, 100)
    connect = socket.socket.connect
    monkeypatch.setattr(_discovery.time, "monotonic", lambda: next(clock))

    class Socket(socket.socket):
        def connect(self, address: Any) -> None:
            connect(self, address)
            assert select.select([self], [], [], LIMIT)[0]  # it has said hello

    with _gate("gate") as path:
        monkeypatch.setattr(socket, "socket", Socket)
        assert find_gates() == [FoundGate("gate", os.getpid(), path)]


def test_a_gate_that_trickles_has_no_more_time_than_one_that_is_silent(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is for the whole hello, not for each byte of it."""
    clock = iter(range(1000))
    monkeypatch.setattr(_discovery, "_HELLO_SECONDS", 5.5)
    monkeypatch.setattr(_discovery.time, "monotonic", lambda: next(clock))
    listening, path = listen("trickle")
    done = threading.Event()

    def trickle() -> None:
        connection, _ = listening.accept()
        with connection:
            while not done.is_set():
                try:
                    connection.sendall(b" ")
                except ConnectionError:
                    return

    thread = threading.Thread(target=trickle)
    with listening:
        thread.start()
        found = find_gates()
        done.set()
        thread.join()

    assert found == [FoundGate("trickle", os.getpid(), path, answers=False)]


def test_a_named_gate_is_found_without_waiting_for_others(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by its address, by the name of its file, and by a name that its file has not all of."""
    _never(monkeypatch)
    pid = os.getpid()
    with _mute("stopped", "shop2"), _gate("shop") as path, _gate("b b@" + "c" * 40) as other:
        assert [find_gate(name).path for name in ("shop", f"shop@{pid}", path.stem)] == [path] * 3
        assert find_gate("b b@" + "c" * 40).path == other


def test_a_gate_that_does_not_answer_is_meant_by_what_its_file_says(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own name, of which the file has not all, cannot be asked for."""
    monkeypatch.setattr(_discovery, "_HELLO_SECONDS", 0.05)
    with _mute("b b"), pytest.raises(Unreachable, match=f"b_b@{os.getpid()} does not answer"):
        find_gate("b b")


def test_a_gate_whose_backlog_is_full_is_asked_again(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has much to do is found as soon as it has room."""
    _never(monkeypatch)
    monkeypatch.setattr(_discovery, "_BACKLOG", 0)
    listening, path = listen("busy")
    clients = [socket.socket(socket.AF_UNIX) for _ in range(10)]
    hello = encode_server_hello(ServerHello(PROTOCOL, "busy", os.getpid(), "1.0"))
    full = threading.Event()
    connect = socket.socket.connect

    class Socket(socket.socket):
        def connect(self, address: Any) -> None:
            try:
                connect(self, address)
            except BlockingIOError:
                full.set()
                raise

    def serve() -> None:
        assert full.wait(LIMIT)
        while True:
            connection, _ = listening.accept()
            with connection:
                try:
                    connection.sendall(hello)
                    if connection.recv(1) == b"!":
                        return
                except ConnectionError:
                    pass

    thread = threading.Thread(target=serve)
    try:
        for client in clients:
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(os.fspath(path))
            with suppress(OSError):
                client.shutdown(socket.SHUT_WR)
        monkeypatch.setattr(socket, "socket", Socket)
        thread.start()
        found = find_gates()
        with Socket(socket.AF_UNIX) as last:
            last.connect(os.fspath(path))
            last.sendall(b"!")
            thread.join()
    finally:
        for one in (*clients, listening):
            one.close()

    assert found == [FoundGate("busy", os.getpid(), path)]


def test_the_only_gate_needs_no_name(directory: Path) -> None:
    """One that does not answer is no second one."""
    with _gate("gate") as path:
        gone, stale = listen("gone")
        gone.close()

        assert find_gate().path == path
        assert not stale.exists()


def test_a_gate_is_meant_by_its_name_and_its_process(directory: Path) -> None:
    """`name`, `name@pid` and the pid, as far as one gate has it; gates of one process by the names of their files."""
    with _gate("a", 1) as a1, _gate("a", 2) as a2, _gate("b", 3) as b3, _gate("c", 4) as c4, _gate("c", 4) as other:
        names = ("b", "a@1", "a@2", "3", c4.stem, other.stem)

        assert [find_gate(name).path for name in names] == [b3, a1, a2, b3, c4, other]
        with pytest.raises(AmbiguousName, match="gate 'a' may be a@1, a@2; choose one with -g"):
            find_gate("a")
        with pytest.raises(AmbiguousName, match=f"gate 'c' may be {c4.stem}, {other.stem}; choose one"):
            find_gate("c")
        with pytest.raises(AmbiguousName, match=r"gate may be a@1, a@2, b@3, "):
            find_gate()
        with pytest.raises(Unreachable, match=r"no gate 'd' runs here, but a@1, .*choose one with -g"):
            find_gate("d")


def test_without_a_gate_the_error_says_how_to_start_one(directory: Path) -> None:
    """Whoever looks first and starts later learns the order."""
    with pytest.raises(Unreachable, match="no gate runs here; start one with"):
        find_gate()
    with pytest.raises(Unreachable, match="no gate 'a' runs here; start one with"):
        find_gate("a")
