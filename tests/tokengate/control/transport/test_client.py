"""The blocking client, against a server in a thread, and against sockets that behave badly."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from fake_backend import FakeBackend
from made_events import made_event

import actors
import supervisors
import tokengate
from actors import TokenGateError
from tokengate.control import _exceptions
from tokengate.control._exceptions import BadRequest, RemoteError, Unreachable
from tokengate.control.messages import (
    VERBS,
    Actors,
    Argument,
    Describe,
    Drain,
    Event,
    Info,
    Message,
    Outcome,
    Pause,
    SetState,
    Stack,
    Terminate,
    Throttles,
    TokenDescription,
    TokenRow,
    Tokens,
    Visit,
    Watch,
)
from tokengate.control.transport import _client, _protocol
from tokengate.control.transport._client import ControlClient
from tokengate.control.transport._protocol import PROTOCOL, ServerHello
from tokengate.control.transport._server import ControlServer

LIMIT = 60.0  # seconds; reached only when a test fails


@attrs.frozen
class Running:
    path: Path
    stop: Callable[[], None]


@pytest.fixture
def desk() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def server(desk: FakeBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server on a loop in another thread; it can be stopped before the test's end."""
    made = ControlServer("gate", desk, tmp_path_factory.mktemp("run"), refusal=lambda _caller: "")
    listens = threading.Event()
    stop: list[Callable[[], None]] = []

    async def serve() -> None:
        token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            stop.append(lambda: token.run_sync_soon(nursery.cancel_scope.cancel))
            await nursery.start(made.serve)
            listens.set()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert listens.wait(LIMIT)
    assert made.path is not None

    def end() -> None:
        try:
            stop[0]()
        except trio.RunFinishedError:
            pass
        thread.join()

    yield Running(made.path, end)
    end()


@pytest.fixture
def client(server: Running) -> Iterator[ControlClient]:
    with ControlClient(server.path, LIMIT) as made:
        yield made


@contextmanager
def _says(tmp_path_factory: pytest.TempPathFactory, *lines: bytes, ends: bool = True) -> Iterator[Path]:
    """A socket that says these lines to its only client, whatever that says, and then ends the connection, or waits."""
    path = tmp_path_factory.mktemp("run") / "gate-1-0.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(path))
        listening.listen()

        def talk() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"".join(lines))
                if ends:
                    connection.shutdown(socket.SHUT_WR)
                try:
                    while connection.recv(65536):
                        pass
                except ConnectionError:
                    pass

        thread = threading.Thread(target=talk)
        thread.start()
        yield path
        thread.join()


_HELLO = _protocol.encode_server_hello(ServerHello(PROTOCOL, "other", 42, "1.0"))

_ROW = TokenRow(1, "resize", "/gate/operations/resize", "cpu", "running", 0, {"a": "b"}, None, 1, 3, 1.5, 0.5)
_DESCRIPTION = TokenDescription(
    row=_ROW,
    arguments=(Argument("0", "list", 3, "[1, 2, 3]"),),
    children=(2, 3),
    created_at=1.0,
    queued_at=None,
    started_at=None,
    paused_for=0.0,
    stopped_clock=0.0,
    waits_for=("token 4",),
    thread=None,
    cpu_share=None,
    memory=None,
    guard="none",
    idempotent=False,
    policy={"retries": "3"},
)


def test_the_client_knows_whom_it_talks_to(client: ControlClient) -> None:
    """Name, process, version and protocol."""
    assert client.hello == ServerHello(PROTOCOL, "gate", os.getpid(), "0.1.0")


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        (Pause((1,)), (Outcome(1, "resize", "paused"), Outcome(2, "", "unknown", "no token 2"))),
        (Describe(1), _DESCRIPTION),
        (Throttles(), ()),
    ],
)
def test_an_answer_has_the_type_that_the_question_names(
    message: Message, answer: object, desk: FakeBackend, client: ControlClient
) -> None:
    """Whatever the backend returned is what the client returns."""
    desk.answers[type(message)] = answer

    assert client.ask(message) == answer


_KNOWN = {
    name: found
    for module in (actors, supervisors, tokengate, _exceptions)
    for name, found in vars(module).items()
    if isinstance(found, type) and issubclass(found, TokenGateError)
}


@pytest.mark.parametrize("name", sorted(_KNOWN))
def test_errors_that_are_known_here_are_raised_as_what_they_are(
    name: str, desk: FakeBackend, client: ControlClient
) -> None:
    """Each error that the runtime has is the same class with the same text on both sides."""
    desk.answers[Info] = _KNOWN[name]("what is wrong")

    with pytest.raises(TokenGateError) as caught:
        client.ask(Info())

    assert type(caught.value) is _KNOWN[name]
    assert str(caught.value) == "what is wrong"


def test_errors_that_are_not_known_here_are_told_by_name(desk: FakeBackend, client: ControlClient) -> None:
    """Those of other versions, of users, and of the gate's own faults; the client goes on."""

    class FromTheFuture(TokenGateError):
        pass

    desk.answers[Info] = FromTheFuture("what is wrong")
    desk.answers[Actors] = ZeroDivisionError()
    with pytest.raises(RemoteError, match=r"^FromTheFuture: what is wrong$"):
        client.ask(Info())
    with pytest.raises(RemoteError, match=r"^InternalError: the gate failed at 'actors' \(ZeroDivisionError\)"):
        client.ask(Actors())

    desk.answers[Throttles] = ()

    assert client.ask(Throttles()) == ()


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (Visit("a", len), "'visit' cannot go through a socket"),
        (Watch(), "'watch' has no single answer; use follow"),
        (SetState("a", {"x": object()}), "use JSON's types"),
        (Tokens("x" * 70_000), "may have 65536; send less"),
        (Info, "type is not a message of control"),
        (5, "int is not a message of control"),
    ],
)
def test_what_cannot_be_asked_is_refused_here(
    message: Message, said: str, desk: FakeBackend, client: ControlClient
) -> None:
    """The connection is as good as before."""
    desk.answers[Throttles] = ()
    with pytest.raises(BadRequest, match=said):
        client.ask(message)

    assert client.ask(Throttles()) == ()


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (Pause((1,), wait=float("nan")), "wait is nan; it must be a number of seconds from 0 to 3600"),
        (Drain("a", wait=float("inf")), "wait is inf; it must be"),
        (Terminate((1,), grace=-1.0), "grace is -1.0; it must be"),
        (Actors(sample=1e308), r"sample is 1e\+308; it must be"),
        (Pause((1,), wait="x"), "wait of pause is 'x'; it must be a number of seconds"),  # type: ignore[arg-type]
        (Pause((1,), wait=10**400), r"wait is \(an int of .* bits\); it must be"),
        (Pause((1,), wait=True), "wait of pause is True; it must be"),
    ],
)
def test_a_time_that_cannot_be_waited_for_is_refused_here(
    message: Message, said: str, desk: FakeBackend, client: ControlClient
) -> None:
    """It is never added to the client's own patience, and the connection is as good as before."""
    desk.answers[Throttles] = ()
    with pytest.raises(BadRequest, match=said):
        client.ask(message)

    assert client.ask(Throttles()) == ()


def test_a_thread_that_waits_for_an_answer_is_woken_when_another_one_closes_the_client(
    desk: FakeBackend, client: ControlClient
) -> None:
    """Whoever has had enough of a gate that does not answer leaves no thread behind."""
    asks, got = threading.Event(), []

    async def wait(message: Info) -> None:
        asks.set()
        await trio.sleep_forever()

    desk.answers[Info] = wait

    def ask() -> None:
        try:
            client.ask(Info())
        except Unreachable as error:
            got.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    assert asks.wait(LIMIT)
    client.close()
    thread.join(LIMIT)

    assert not thread.is_alive()
    assert got == [f"gate 'gate' (pid {os.getpid()}) went away; it may have closed"]
    client.close()


def test_an_answer_that_does_not_fit_its_question_is_an_error(desk: FakeBackend, client: ControlClient) -> None:
    """A gate of another version is told of, not half understood."""
    desk.answers[Info] = "no info"
    with pytest.raises(RemoteError, match="answer to 'info' is not what Info declares: Expected `object`, got `str`"):
        client.ask(Info())


def test_threads_may_share_a_client(desk: FakeBackend, client: ControlClient) -> None:
    """Each gets its own answer."""

    async def tell(message: Describe) -> Any:
        return attrs.evolve(_DESCRIPTION, row=attrs.evolve(_ROW, id=message.token))

    desk.answers[Describe] = tell
    got: dict[int, list[int]] = {}

    def ask(n: int) -> None:
        got[n] = [client.ask(Describe(n * 100 + k)).row.id for k in range(50)]

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert got == {n: [n * 100 + k for k in range(50)] for n in range(4)}


# --- Streams ---------------------------------------------------------------------------------------------------------


def _item(text: str) -> Event:
    return made_event(0.5, "token.dead_letter", "/a", None, text)


def test_a_stream_yields_items_while_questions_are_answered(desk: FakeBackend, client: ControlClient) -> None:
    """It has a connection of its own; closing it ends it in the gate."""
    desk.items = (_item("one"), _item("two"))
    desk.answers[Throttles] = ()
    with client.follow(Watch("state=failed")) as items:
        got = [next(items)]
        answer = client.ask(Throttles())
        got.append(next(items))
        left = desk.left.is_set()

    assert answer == ()
    assert got == [_item("one"), _item("two")]
    assert left is False
    assert desk.left.wait(LIMIT)
    assert list(items) == []


def test_a_stream_is_open_when_follow_returns(desk: FakeBackend, client: ControlClient) -> None:
    """No item has to be asked for first, so nothing that is done afterwards is missed."""
    with client.follow(Watch("state=failed")):
        followed = list(desk.followed)

    assert followed == [Watch("state=failed")]


def test_what_cannot_be_followed_is_told_at_once(desk: FakeBackend, client: ControlClient) -> None:
    """By `follow` itself, which leaves nothing open."""
    desk.answers[Watch] = _exceptions.BadSelector("'!' at 1")
    with pytest.raises(_exceptions.BadSelector, match="'!' at 1"):
        client.follow(Watch("!"))

    assert desk.opened == 0


@pytest.mark.parametrize("end", [_exceptions.UnknownToken("7"), None])
def test_a_stream_ends_when_the_gate_ends_it(end: Exception | None, desk: FakeBackend, client: ControlClient) -> None:
    """The loop over it just ends, or raises the error that ended it, once."""
    desk.items, desk.last = (_item("one"),), end
    desk.send.close()
    items = client.follow(Watch())
    got = [next(items)]
    if end is not None:
        with pytest.raises(_exceptions.UnknownToken, match="7"):
            next(items)

    assert got == [_item("one")]
    assert list(items) == []


def test_a_thread_that_waits_in_a_stream_is_woken_when_another_one_closes_it(
    desk: FakeBackend, client: ControlClient
) -> None:
    """It comes to the end, and gets no error."""
    desk.items = (_item("one"),)
    items = client.follow(Watch())
    reads, got = threading.Event(), []

    def read() -> None:
        for item in items:
            got.append(item)
            reads.set()

    thread = threading.Thread(target=read)
    thread.start()
    assert reads.wait(LIMIT)
    items.close()
    thread.join(LIMIT)

    assert not thread.is_alive()
    assert got == [_item("one")]
    assert desk.left.wait(LIMIT)
    items.close()


@pytest.mark.parametrize("first", [_protocol.encode_item(1, _item("one")), _protocol.encode_end(1)])
def test_a_gate_that_does_not_say_that_a_stream_is_open_is_refused(
    first: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What it sends might not be all."""
    with _says(tmp_path_factory, _HELLO, first) as path:
        stranger = ControlClient.__new__(ControlClient)
        stranger._path, stranger._timeout, stranger._on_behalf_of = path, LIMIT, None

        with pytest.raises(RemoteError, match=r"gate 'other' \(pid 42\) did not say that 'watch' has begun"):
            stranger.follow(Watch())


# --- Who is not there ------------------------------------------------------------------------------------------------


def test_a_gate_that_closes_is_unreachable(desk: FakeBackend, server: Running, client: ControlClient) -> None:
    """The error names the gate, for what waits and for whatever is asked afterwards."""
    desk.items = (_item("one"),)
    items = client.follow(Watch())
    next(items)
    server.stop()

    for _ in range(2):
        with pytest.raises(Unreachable, match=rf"gate 'gate' \(pid {os.getpid()}\) went away.*; it may have closed$"):
            client.ask(Info())
    with pytest.raises(Unreachable, match=r"gate 'gate' .* went away"):
        next(items)
    with pytest.raises(Unreachable, match=f"gate at '{server.path}' cannot be reached"):
        ControlClient(server.path)


def test_a_broken_pipe_names_the_gate(client: ControlClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what it is likely to mean, for whoever has not met it."""

    class Broken:
        def settimeout(self, seconds: float) -> None: ...
        def fileno(self) -> int:
            return 7

        def sendall(self, sent: bytes) -> None:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

        def close(self) -> None: ...

    with monkeypatch.context() as patched:
        patched.setattr(client._connection, "_socket", Broken())
        with pytest.raises(Unreachable) as caught:
            client.ask(Info())

    assert str(caught.value) == f"gate 'gate' (pid {os.getpid()}) went away: Broken pipe; it may have closed"


@pytest.mark.parametrize("error", [None, _exceptions.UnknownToken("late")])
def test_a_gate_that_does_not_answer_is_given_up_and_can_be_asked_again(
    error: Exception | None, desk: FakeBackend, server: Running
) -> None:
    """The late answer to the first question is not taken for that to the second."""
    late, answered = threading.Event(), threading.Event()

    async def wait(message: Stack) -> str:
        await trio.to_thread.run_sync(late.wait)
        answered.set()
        if error is not None:
            raise error
        return "late"

    desk.answers[Stack] = wait
    desk.answers[Throttles] = ()
    with ControlClient(server.path, LIMIT) as client:
        with pytest.MonkeyPatch.context() as impatient:
            impatient.setattr(client, "_timeout", 0.1)
            with pytest.raises(Unreachable, match=r"gate 'gate' .* did not answer 'stack' within 0.1 s; try again"):
                client.ask(Stack(1))
        late.set()
        assert answered.wait(LIMIT)

        assert client.ask(Throttles()) == ()


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        (Drain("a", wait=30.0), LIMIT + 30),
        (Actors(sample=2.0), LIMIT + 2),
        (Terminate((1,), mode="kill", wait=1.0, grace=30.0), LIMIT + 31),
        (Throttles(), LIMIT),
    ],
)
def test_the_seconds_that_a_question_waits_by_itself_come_on_top(
    message: Message, seconds: float, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client with little patience waits for a `drain` as long as that may take."""
    waited: list[float] = []

    def receive(self: object, id: int, verb: str, patience: float) -> None:
        waited.append(patience)
        raise RemoteError(verb)

    monkeypatch.setattr(_client._Connection, "receive", receive)
    with ControlClient(server.path, LIMIT) as client, pytest.raises(RemoteError):
        client.ask(message)

    assert waited == [seconds]


@pytest.mark.parametrize(
    ("said", "error", "text"),
    [
        (b"220 mail ready\n", Unreachable, "what listens at '.*gate-1-0.sock' is not a gate: Expected `object`"),
        (b"{}\n", Unreachable, "is not a gate: it is no hello"),
        (b"", Unreachable, "went away; it may have closed"),
        (b'{"hello": {"protocol": 1', Unreachable, "went away"),
        (b'{"hello": {"protocol": 3, "gate": "new", "pid": 7, "version": "9.0"}}\n', BadRequest, "use TokenGate 9.0"),
        (_protocol.encode_error(None, Unreachable("full up")), Unreachable, "^full up$"),
        (b"[" * 60_000 + b"\n", Unreachable, "is not a gate"),
    ],
)
def test_what_says_no_proper_hello_is_refused(
    said: bytes, error: type[Exception], text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With an error that tells what is there instead, and nothing left open."""
    with _says(tmp_path_factory, said) as path, pytest.raises(error, match=text):
        ControlClient(path)


@pytest.mark.parametrize(
    ("said", "error", "text"),
    [
        (b"what?\n", RemoteError, r"answer of gate 'other' \(pid 42\) cannot be read: JSON is malformed"),
        (_protocol.encode_error(None, BadRequest("a line is bad")), BadRequest, "^a line is bad$"),
        (b'{"id": 1, "result": ', Unreachable, r"gate 'other' \(pid 42\) went away"),
    ],
)
def test_an_answer_that_is_none_is_told(
    said: bytes, error: type[Exception], text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whether it is no JSON, about the connection, or cut off."""
    with (
        _says(tmp_path_factory, _HELLO, said) as path,
        ControlClient(path) as client,
        pytest.raises(error, match=text),
    ):
        client.ask(Throttles())


def test_an_answer_without_an_end_is_not_kept_for_ever(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a server sends has a bound, too."""
    monkeypatch.setattr(_protocol, "MAX_ANSWER", 100_000)
    with (
        _says(tmp_path_factory, _HELLO, b"x" * 200_000) as path,
        ControlClient(path) as client,
        pytest.raises(RemoteError, match="sends a line of more than 100000 bytes"),
    ):
        client.ask(Throttles())


def test_where_nothing_is_the_error_names_the_path(tmp_path: Path) -> None:
    """Nothing is left open."""
    with pytest.raises(Unreachable, match=f"gate at '{tmp_path}/none.sock' cannot be reached: .*No such file"):
        ControlClient(tmp_path / "none.sock")


def test_every_verb_that_waits_tells_for_how_long_in_seconds() -> None:
    """The client adds `wait`, `sample` and `grace` to its own patience, so they must be numbers."""
    for found in VERBS.values():
        for field in attrs.fields(found):
            if field.name in _client._WAITING:
                assert isinstance(field.default, float)
