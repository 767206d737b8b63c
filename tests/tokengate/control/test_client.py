"""The blocking client, against a server in a thread, and against sockets that behave badly."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

import actors
import supervisors
import tokengate
from actors import TokenGateError
from tokengate.control import _client, _exceptions, _protocol
from tokengate.control._client import ControlClient
from tokengate.control._exceptions import BadRequest, RemoteError, Unreachable
from tokengate.control._protocol import PROTOCOL, ServerHello
from tokengate.control._server import ControlServer
from tokengate.control.messages import (
    VERBS,
    Actors,
    Argument,
    Describe,
    Drain,
    Events,
    Info,
    Message,
    Outcome,
    Pause,
    SetState,
    Stack,
    Stream,
    StreamItem,
    Throttles,
    TokenDescription,
    TokenRow,
    Tokens,
    Visit,
    Watch,
)

LIMIT = 10.0  # seconds; reached only when a test fails


@attrs.define
class Desk:
    """A backend that answers as the test says; what the test does not say is answered by None."""

    answers: dict[type[Message], Any] = attrs.field(factory=dict)  # {question: what is returned, or raised}
    items: tuple[StreamItem, ...] = ()
    last: BaseException | None = None  # what a stream raises after its items; without, it waits
    followed: threading.Event = attrs.field(factory=threading.Event)
    left: threading.Event = attrs.field(factory=threading.Event)

    async def ask(self, message: Message) -> Any:
        await trio.lowlevel.checkpoint()
        answer = self.answers.get(type(message))
        if isinstance(answer, BaseException):
            raise answer
        return await answer(message) if callable(answer) else answer

    @asynccontextmanager
    async def follow(self, stream: Stream) -> AsyncIterator[AsyncIterator[StreamItem]]:
        self.followed.set()
        try:
            yield self._items()
        finally:
            self.left.set()

    async def _items(self) -> AsyncIterator[StreamItem]:
        for item in self.items:
            yield item
        if self.last is not None:
            raise self.last
        await trio.sleep_forever()


@attrs.frozen
class Running:
    path: Path
    stop: Callable[[], None]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def server(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server on a loop in another thread; it can be stopped before the test's end."""
    made = ControlServer("gate", desk, tmp_path_factory.mktemp("run"))
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
    protected=False,
    controllable=True,
    policy={"retries": "3"},
)


def test_the_client_knows_whom_it_talks_to(client: ControlClient) -> None:
    """Name, process, version and protocol."""
    assert client.hello == ServerHello(PROTOCOL, "gate", os.getpid(), "0.1.0")


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        (Pause(ids=(1,)), (Outcome(1, "resize", "paused"), Outcome(2, "", "unknown", "no token 2"))),
        (Describe(1), _DESCRIPTION),
        (Throttles(), ()),
    ],
)
def test_an_answer_has_the_type_that_the_question_names(
    message: Message, answer: object, desk: Desk, client: ControlClient
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
def test_errors_that_are_known_here_are_raised_as_what_they_are(name: str, desk: Desk, client: ControlClient) -> None:
    """Each error that the runtime has is the same class with the same text on both sides."""
    desk.answers[Info] = _KNOWN[name]("what is wrong")

    with pytest.raises(TokenGateError) as caught:
        client.ask(Info())

    assert type(caught.value) is _KNOWN[name]
    assert str(caught.value) == "what is wrong"


def test_errors_that_are_not_known_here_are_told_by_name(desk: Desk, client: ControlClient) -> None:
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
        (Events(), "'events' has no single answer; use follow"),
        (SetState("a", {"x": object()}), "use JSON's types"),
        (Tokens("x" * 70_000), "may have 65536; send less"),
    ],
)
def test_what_cannot_be_asked_is_refused_here(message: Message, said: str, desk: Desk, client: ControlClient) -> None:
    """The connection is as good as before."""
    desk.answers[Throttles] = ()
    with pytest.raises(BadRequest, match=said):
        client.ask(message)

    assert client.ask(Throttles()) == ()


def test_an_answer_that_does_not_fit_its_question_is_an_error(desk: Desk, client: ControlClient) -> None:
    """A gate of another version is told of, not half understood."""
    desk.answers[Info] = "no info"
    with pytest.raises(RemoteError, match="answer to 'info' cannot be read: Expected `object`, got `str`"):
        client.ask(Info())


def test_threads_may_share_a_client(desk: Desk, client: ControlClient) -> None:
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


def _item(text: str) -> StreamItem:
    return StreamItem(0.5, "dead_letter", "/a", None, text)


def test_a_stream_yields_items_while_questions_are_answered(desk: Desk, client: ControlClient) -> None:
    """It has a connection of its own; closing it ends it in the gate."""
    desk.items = (_item("one"), _item("two"))
    desk.answers[Throttles] = ()
    items = client.follow(Watch("state=failed"))
    begun = desk.followed.is_set()
    got = [next(items)]
    answer = client.ask(Throttles())
    got.append(next(items))
    left = desk.left.is_set()
    items.close()

    assert begun is False
    assert answer == ()
    assert got == [_item("one"), _item("two")]
    assert left is False
    assert desk.left.wait(LIMIT)


def test_a_stream_ends_when_the_gate_ends_it(desk: Desk, client: ControlClient) -> None:
    """The loop over it just ends; its error is raised when there is one, its refusal at the first item."""
    desk.items, desk.last = (_item("one"),), _exceptions.BadSelector("'!' at 1")
    items = client.follow(Watch("!"))
    first = next(items)
    with pytest.raises(_exceptions.BadSelector, match="'!' at 1"):
        next(items)

    assert first == _item("one")
    assert list(items) == []


def test_a_stream_without_more_items_is_at_its_end(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An end is no error."""
    lines = (_HELLO, _protocol.encode_item(1, _item("one")), _protocol.encode_end(1))
    with _says(tmp_path_factory, *lines) as path:
        stranger = ControlClient.__new__(ControlClient)
        stranger._path, stranger._timeout = path, LIMIT

        assert list(stranger.follow(Events())) == [_item("one")]


# --- Who is not there ------------------------------------------------------------------------------------------------


def test_a_gate_that_closes_is_unreachable(desk: Desk, server: Running, client: ControlClient) -> None:
    """The error names the gate, for what waits and for whatever is asked afterwards."""
    desk.items = (_item("one"),)
    items = client.follow(Events())
    next(items)
    server.stop()

    for _ in range(2):
        with pytest.raises(Unreachable, match=rf"gate 'gate' \(pid {os.getpid()}\) went away"):
            client.ask(Info())
    with pytest.raises(Unreachable, match=r"gate 'gate' .* went away"):
        next(items)
    with pytest.raises(Unreachable, match=f"gate at '{server.path}' cannot be reached"):
        ControlClient(server.path)


@pytest.mark.parametrize("error", [None, _exceptions.UnknownToken("late")])
def test_a_gate_that_does_not_answer_is_given_up_and_can_be_asked_again(
    error: Exception | None, desk: Desk, server: Running
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
    with ControlClient(server.path, 0.1) as client:
        with pytest.raises(Unreachable, match=r"gate 'gate' .* did not answer 'stack' within 0.1 s; try again"):
            client.ask(Stack(1))
        late.set()
        assert answered.wait(LIMIT)

        assert client.ask(Throttles()) == ()


@pytest.mark.parametrize(
    ("message", "seconds"), [(Drain("a", wait=30.0), 30.25), (Actors(sample=2.0), 2.25), (Throttles(), 0.25)]
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
    with ControlClient(server.path, 0.25) as client, pytest.raises(RemoteError):
        client.ask(message)

    assert waited == [seconds]


@pytest.mark.parametrize(
    ("said", "error", "text"),
    [
        (b"220 mail ready\n", Unreachable, "what listens at '.*gate-1-0.sock' is no gate: Expected `object`"),
        (b"{}\n", Unreachable, "is no gate: it is no hello"),
        (b"", Unreachable, "went away; it may have closed"),
        (b'{"hello": {"protocol": 1', Unreachable, "went away"),
        (b'{"hello": {"protocol": 2, "gate": "new", "pid": 7, "version": "9.0"}}\n', BadRequest, "use TokenGate 9.0"),
        (_protocol.encode_error(None, Unreachable("full up")), Unreachable, "^full up$"),
        (b"[" * 60_000 + b"\n", Unreachable, "is no gate"),
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
    """The client adds `wait` and `sample` to its own patience, so they must be numbers."""
    for found in VERBS.values():
        for field in attrs.fields(found):
            if field.name in ("wait", "sample"):
                assert isinstance(field.default, float)
