"""The control socket's server: what it answers, what it bounds, and what it survives."""

from __future__ import annotations

import json
import logging
import os
import stat
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import attrs
import pytest
import trio
from fake_backend import FakeBackend
from made_events import made_event

from tokengate.control._exceptions import BadSelector, UnknownToken
from tokengate.control.messages import Describe, Event, Info, Outcome, Pause, Watch
from tokengate.control.transport import _protocol, _server
from tokengate.control.transport._peer import Peer
from tokengate.control.transport._server import ControlServer

pytestmark = pytest.mark.trio


class Wire:
    """A client that sees each line."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.buffer = b""

    async def send(self, *lines: object) -> None:
        await self.send_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))

    async def send_bytes(self, sent: bytes) -> None:
        await self.stream.send_all(sent)

    async def receive(self) -> Any:
        """Return the next line, or None at the end."""
        while b"\n" not in self.buffer:
            try:
                got = await self.stream.receive_some()
            except trio.BrokenResourceError:  # closed while there was more to read
                got = b""
            if not got:
                assert self.buffer == b""
                return None
            self.buffer += got
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    async def ask(self, id: int, verb: str, **args: object) -> Any:
        await self.send({"id": id, "verb": verb, "args": args})
        return await self.receive()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stream.aclose()


@pytest.fixture
def desk() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
async def server(desk: FakeBackend, tmp_path_factory: pytest.TempPathFactory, nursery: trio.Nursery) -> ControlServer:
    made = ControlServer("gate", desk, tmp_path_factory.mktemp("run"), refusal=lambda _caller: "")
    assert made.path is None
    await nursery.start(made.serve)
    return made


@pytest.fixture
async def connect(server: ControlServer) -> AsyncIterator[Callable[..., Awaitable[Wire]]]:
    """A function that connects to the server, by default with both hellos said."""
    made: list[Wire] = []

    async def connect(*, greeted: bool = True) -> Wire:
        assert server.path is not None
        wire = Wire(await trio.open_unix_socket(server.path))
        made.append(wire)
        if greeted:
            assert (await wire.receive())["hello"]["protocol"] == 2
            await wire.send({"hello": {"protocol": 2}})
        return wire

    yield connect
    for wire in made:
        await trio.aclose_forcefully(wire.stream)


Connect = Callable[..., Awaitable[Wire]]


@pytest.fixture
async def wire(connect: Connect) -> Wire:
    return await connect()


def _item(text: str, lost: int = 0) -> Event:
    return made_event(0.0, "token.queued", "/a", 1, text, lost)


async def _raise(error: BaseException) -> None:
    await trio.lowlevel.checkpoint()
    raise error


async def _tell_path(server: ControlServer, *, task_status: trio.TaskStatus[Path | None]) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        task_status.started(server.path)


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await trio.testing.wait_all_tasks_blocked()


# --- Talking ---------------------------------------------------------------------------------------------------------


async def test_the_server_says_who_it_is_and_answers(desk: FakeBackend, connect: Connect) -> None:
    """Hello for hello, then an answer with the request's id."""
    outcome = Outcome(3, "resize", "paused")

    async def pause(message: Pause) -> tuple[Outcome, ...]:
        return (outcome,)

    desk.answers[Pause] = pause
    wire = await connect(greeted=False)
    hello = await wire.receive()
    await wire.send({"hello": {"protocol": 2}})
    answer = await wire.ask(7, "pause", select=[3], wait=1)

    assert hello["hello"] == {"protocol": 2, "gate": "gate", "pid": os.getpid(), "version": "0.1.0"}
    assert answer == {"id": 7, "result": [attrs.asdict(outcome)]}
    assert desk.asked == [Pause((3,), wait=1.0)]


async def test_a_client_of_another_protocol_is_told_so_and_let_go(desk: FakeBackend, connect: Connect) -> None:
    """The error has both numbers; nothing that came with the hello is done."""
    wire = await connect(greeted=False)
    await wire.receive()
    await wire.send({"hello": {"protocol": 1}}, {"id": 1, "verb": "info"})
    told = await wire.receive()

    assert told["id"] is None
    assert told["error"]["type"] == "BadRequest"
    assert "protocol 1, and this gate 2" in told["error"]["message"]
    assert await wire.receive() is None
    assert desk.asked == []


async def test_what_is_wrong_is_told_and_the_connection_goes_on(desk: FakeBackend, wire: Wire) -> None:
    """A line that is no request, an unknown verb or field, a local verb: the next request is answered."""
    await wire.send_bytes(b"what?\n")
    told = [
        await wire.receive(),
        await wire.ask(2, "pawse"),
        await wire.ask(3, "info", all=True),
        await wire.ask(4, "visit", name="a", function="print"),
    ]

    assert [(answer["id"], answer["error"]["type"]) for answer in told] == [
        (None, "BadRequest"),
        (2, "UnknownVerb"),
        (3, "BadRequest"),
        (4, "BadRequest"),
    ]
    assert desk.asked == []
    assert await wire.ask(5, "info") == {"id": 5, "result": None}


async def test_a_slow_request_holds_up_nobody(desk: FakeBackend, wire: Wire) -> None:
    """Requests of one connection are answered as they are done."""
    done = trio.Event()
    desk.answers[Describe] = lambda message: done.wait()
    await wire.send({"id": 1, "verb": "describe", "args": {"token": 1}})
    second = await wire.ask(2, "info")
    done.set()

    assert second == {"id": 2, "result": None}
    assert await wire.receive() == {"id": 1, "result": None}


async def test_an_id_can_be_used_again_once_it_is_answered(desk: FakeBackend, wire: Wire) -> None:
    """While it is not, a second request with it could not be told from the first."""
    done = trio.Event()
    desk.answers[Describe] = lambda message: done.wait()
    await wire.send({"id": 1, "verb": "describe", "args": {"token": 1}})
    twice = await wire.ask(1, "info")
    done.set()
    first = await wire.receive()

    assert "request 1 is not answered yet" in twice["error"]["message"]
    assert first == {"id": 1, "result": None}
    assert await wire.ask(1, "info") == {"id": 1, "result": None}


# --- Errors ----------------------------------------------------------------------------------------------------------


async def test_an_error_of_ours_is_told_by_its_name_and_text(desk: FakeBackend, wire: Wire) -> None:
    """For questions and for streams."""
    desk.answers[Describe] = lambda message: _raise(UnknownToken("there is no token 3"))
    desk.answers[Watch] = lambda message: _raise(BadSelector("'!' at 1"))

    assert await wire.ask(1, "describe", token=3) == {
        "id": 1,
        "error": {"type": "UnknownToken", "message": "there is no token 3"},
    }
    assert await wire.ask(2, "watch", select="!") == {
        "id": 2,
        "error": {"type": "BadSelector", "message": "'!' at 1"},
    }


class Sly(Exception):
    """Its text is code."""

    def __str__(self) -> str:
        raise AssertionError("called")

    __repr__ = __str__


@pytest.mark.parametrize("error", [Sly("secret"), SystemExit("secret"), ExceptionGroup("secret", [ValueError("x")])])
async def test_other_errors_are_logged_and_told_by_their_type_only(
    error: BaseException, desk: FakeBackend, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """No text of an unknown exception is asked for: it could run a user's code on the system loop, or tell too much."""
    desk.answers[Info] = lambda message: _raise(error)
    desk.answers[Watch] = lambda message: _raise(error)
    told = [await wire.ask(1, "info"), await wire.ask(2, "watch")]

    name = type(error).__name__
    assert [answer["error"]["type"] for answer in told] == ["InternalError", "InternalError"]
    assert told[0]["error"]["message"] == f"the gate failed at 'info' ({name}); its log says where"
    records = [record for record in caplog.records if record.name == "tokengate.control"]
    assert [record.levelno for record in records] == [logging.ERROR, logging.ERROR]
    assert f"control failed at 'info': {name}\n" in records[0].getMessage()
    assert "in ask" in records[0].getMessage()
    assert "secret" not in caplog.text
    assert await wire.ask(3, "describe", token=1) == {"id": 3, "result": None}


@pytest.mark.parametrize("answer", [object(), Sly("x"), {(1, 2): 3}, ["\udcff", Sly("x")]])
async def test_an_answer_that_json_does_not_have_is_an_error(answer: object, desk: FakeBackend, wire: Wire) -> None:
    """It is told as a fault of the gate; the connection goes on."""

    async def give(message: Info) -> object:
        return answer

    desk.answers[Info] = give
    told = await wire.ask(1, "info")

    assert told["error"]["type"] == "InternalError"
    assert await wire.ask(2, "throttles") == {"id": 2, "result": None}


async def test_a_name_that_is_no_text_is_answered_with_escapes(
    desk: FakeBackend, connect: Callable[..., Awaitable[Wire]]
) -> None:
    """In answers and in items of streams; a token with the name of such a file hides no other."""
    name = os.fsdecode(b"caf\xe9.png")
    desk.answers[Info] = {name: [name, 1, None]}  # type: ignore[assignment]
    desk.items = (made_event(0.5, "token.dead_letter", "/a", None, name),)
    async with await connect() as wire:
        told = await wire.ask(1, "info")
        opened = await wire.ask(2, "watch")
        item = await wire.receive()

    shown = r"caf\udce9.png"
    assert told == {"id": 1, "result": {shown: [shown, 1, None]}}
    assert opened == {"id": 2, "result": True}
    assert item["item"]["text"] == shown


async def test_an_answer_that_is_too_long_is_an_error(
    desk: FakeBackend, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told with the remedy."""
    monkeypatch.setattr(_protocol, "MAX_ANSWER", 1000)

    async def give(message: Info) -> str:
        return "x" * 1000

    desk.answers[Info] = give
    told = await wire.ask(1, "info")

    assert told["error"]["type"] == "BadRequest"
    assert "ask for less" in told["error"]["message"]


async def test_a_failure_of_the_server_itself_ends_one_connection_only(
    wire: Wire, connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing escapes into the loop: supervisors and timers live there."""
    with monkeypatch.context() as patched:
        patched.setattr(_protocol, "decode_request", lambda line: 1 / 0)
        broken = await connect()
        await broken.send({"id": 1, "verb": "info"})
        end = await broken.receive()
        await trio.testing.wait_all_tasks_blocked()

    assert end is None
    assert "in _read" in caplog.text  # where it came from, within the groups that nurseries make
    assert "a connection to gate 'gate' is closed" in caplog.text
    assert await wire.ask(1, "info") == {"id": 1, "result": None}


async def test_when_accepting_fails_the_server_ends_and_the_loop_does_not(
    desk: FakeBackend,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged, and the socket's file goes."""
    monkeypatch.setattr(trio.SocketListener, "accept", lambda self: _raise(OSError("no more")))
    server = ControlServer("gate", desk, tmp_path_factory.mktemp("run"), refusal=lambda _caller: "")
    async with trio.open_nursery() as nursery:
        path: Path = await nursery.start(_tell_path, server)

    assert not path.exists()
    assert server.path is None
    assert "control socket of gate 'gate' is closed" in caplog.text


# --- Streams ---------------------------------------------------------------------------------------------------------


async def test_a_stream_is_a_result_and_items_and_an_end(desk: FakeBackend, wire: Wire) -> None:
    """The result tells that it is open, the end that the backend has no more."""
    opened = await wire.ask(1, "watch")
    await desk.send.send(_item("one"))
    await desk.send.send(_item("two", lost=2))
    got = [await wire.receive(), await wire.receive()]
    await desk.send.aclose()

    assert opened == {"id": 1, "result": True}
    assert [(answer["id"], answer["item"]["text"], answer["item"].get("lost", 0)) for answer in got] == [
        (1, "one", 0),
        (1, "two", 2),
    ]
    assert await wire.receive() == {"id": 1, "end": True}
    assert desk.followed == []


async def test_cancel_ends_a_stream(desk: FakeBackend, wire: Wire) -> None:
    """The answer says that it was there; one that was not, or is no stream, is not cancelled."""
    done = trio.Event()
    desk.answers[Describe] = lambda message: done.wait()
    await wire.send({"id": 1, "verb": "watch"}, {"id": 2, "verb": "describe", "args": {"token": 1}})
    opened = await wire.receive()
    cancelled = [await wire.ask(3, "cancel", request=1), await wire.receive()]
    others = [await wire.ask(4, "cancel", request=1), await wire.ask(5, "cancel", request=2)]
    done.set()

    assert opened == {"id": 1, "result": True}
    assert cancelled == [{"id": 3, "result": True}, {"id": 1, "end": True}]
    assert desk.followed == []
    assert others == [{"id": 4, "result": False}, {"id": 5, "result": False}]
    assert await wire.receive() == {"id": 2, "result": None}


async def test_a_stream_can_be_cancelled_in_the_breath_that_asks_for_it(desk: FakeBackend, wire: Wire) -> None:
    """The cancel may be read before the stream's task has run at all."""
    await wire.send({"id": 1, "verb": "watch"}, {"id": 2, "verb": "cancel", "args": {"request": 1}})

    assert [await wire.receive(), await wire.receive()] == [{"id": 2, "result": True}, {"id": 1, "end": True}]


async def test_a_client_that_goes_takes_back_what_it_asked_for(desk: FakeBackend, connect: Connect) -> None:
    """Streams are closed in the backend, and questions cancelled."""
    cancelled = trio.Event()

    async def wait(message: Describe) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    desk.answers[Describe] = wait
    wire = await connect()
    await wire.send({"id": 1, "verb": "watch"}, {"id": 2, "verb": "describe", "args": {"token": 1}})
    await _until(lambda: bool(desk.followed and desk.asked))
    await wire.stream.aclose()
    await cancelled.wait()
    await _until(lambda: not desk.followed)


async def test_a_slow_reader_loses_items_and_learns_how_many(
    desk: FakeBackend, wire: Wire, autojump_clock: Any
) -> None:
    """The publisher is never held up, nothing is queued without bound, and item for item is accounted for."""
    sent = 10_000
    await wire.ask(1, "watch")
    for n in range(sent):
        await desk.send.send(_item(f"{n:0100}", lost=1 if n == sent // 2 else 0))
    got: list[Any] = []
    while not got or got[-1].get("item", {}).get("text") != "last":
        with trio.move_on_after(0.01) as nothing_there:
            got.append(await wire.receive())
        if nothing_there.cancelled_caught:
            await desk.send.send(_item("last"))

    texts = [answer["item"]["text"] for answer in got]
    lost = [answer["item"].get("lost", 0) for answer in got]
    assert len(got) < sent / 2
    assert texts[:3] == [f"{n:0100}" for n in range(3)]
    assert lost[:-1] == [0] * (len(got) - 1)
    assert len(got) + lost[-1] == sent + 2  # the last one, and the one that the backend had lost


# --- Bounds ----------------------------------------------------------------------------------------------------------


async def test_the_connection_too_many_is_told_and_let_go(connect: Connect) -> None:
    """64 are served; when one of them closes there is room."""
    wires = [await connect() for _ in range(64)]
    refused = await connect(greeted=False)
    told = await refused.receive()

    assert told["error"] == {
        "type": "Unreachable",
        "message": "gate 'gate' has 64 connections already; close one",
    }
    assert await refused.receive() is None
    await wires.pop().stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    again = await connect()
    assert await again.ask(1, "info") == {"id": 1, "result": None}
    assert await wires[0].ask(1, "info") == {"id": 1, "result": None}


async def test_a_connection_is_not_read_from_while_32_requests_are_in_flight(desk: FakeBackend, wire: Wire) -> None:
    """The 33rd waits for the first answer, and other connections do not."""
    done = trio.Event()
    desk.answers[Describe] = lambda message: done.wait()
    await wire.send(*({"id": n, "verb": "describe", "args": {"token": n}} for n in range(100)))
    await trio.testing.wait_all_tasks_blocked()
    at_once = len(desk.asked)
    done.set()
    answers = [await wire.receive() for _ in range(100)]

    assert at_once == 32
    assert sorted(answer["id"] for answer in answers) == list(range(100))


async def test_cancel_needs_no_room(desk: FakeBackend, wire: Wire) -> None:
    """A client with 32 streams can still end one."""
    await wire.send(*({"id": n, "verb": "watch"} for n in range(32)))
    for _ in range(32):
        await wire.receive()

    assert await wire.ask(99, "cancel", request=31) == {"id": 99, "result": True}
    assert await wire.receive() == {"id": 31, "end": True}


async def test_answers_that_wait_for_room_are_sent_when_there_is_some(desk: FakeBackend, wire: Wire) -> None:
    """However late the client reads, and however long they are."""

    async def give(message: Info) -> str:
        return "x" * 500_000

    desk.answers[Info] = give
    await wire.send(*({"id": n, "verb": "info"} for n in range(40)))
    await trio.testing.wait_all_tasks_blocked()
    with trio.fail_after(60):
        answers = [await wire.receive() for _ in range(40)]

    assert sorted(answer["id"] for answer in answers) == list(range(40))


async def test_a_client_that_always_has_more_lets_others_have_their_turn(wire: Wire, nursery: trio.Nursery) -> None:
    """Between two lines the loop runs what else there is to run."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    nursery.start_soon(count)
    await wire.send_bytes(b"\n" * 3_000)
    for _ in range(3_000):
        await wire.receive()

    assert turns > 2_000


@pytest.mark.parametrize("ended", [b"", b"\n"], ids=["without an end", "with an end"])
async def test_a_line_that_is_too_long_ends_the_connection(ended: bytes, desk: FakeBackend, wire: Wire) -> None:
    """The error says how long it may be; a line of just that length is read."""
    fits = b'{"id": 1, "verb": "info"}'
    await wire.send_bytes(fits + b" " * (65_536 - len(fits)) + b"\n")
    answer = await wire.receive()
    await wire.send_bytes(b"x" * 65_537 + ended)
    told = await wire.receive()

    assert answer == {"id": 1, "result": None}
    assert told["id"] is None
    assert told["error"] == {"type": "BadRequest", "message": "a line has more than 65536 bytes; send shorter lines"}
    assert await wire.receive() is None


@pytest.mark.parametrize("sent", [b'{"id": 1, ', b'{"id": 1, "verb": "info"}\n{"id": 2, '])
async def test_a_line_that_stays_half_written_ends_the_connection(
    sent: bytes, connect: Connect, autojump_clock: Any
) -> None:
    """After 30 seconds, however it dribbles; a client that has begun nothing may be silent for as long as it likes."""
    silent, half = await connect(), await connect()
    began_at = trio.current_time()
    await half.send_bytes(sent)
    await trio.sleep(20)
    await half.send_bytes(b'"verb"')
    told = await half.receive()
    if told.get("id") == 1:
        told = await half.receive()

    assert trio.current_time() - began_at == pytest.approx(30)
    assert "a line was not finished within 30 s" in told["error"]["message"]
    assert await half.receive() is None
    await trio.sleep(10_000)
    assert await silent.ask(1, "info") == {"id": 1, "result": None}


async def test_a_client_that_never_says_hello_is_let_go(connect: Connect, autojump_clock: Any) -> None:
    """Else connections that say nothing would take all the room for ever."""
    wire = await connect(greeted=False)
    began_at = trio.current_time()
    hello, told, end = [await wire.receive() for _ in range(3)]

    assert "hello" in hello
    assert "was not finished" in told["error"]["message"]
    assert end is None
    assert trio.current_time() - began_at == pytest.approx(30)


async def test_a_client_that_does_not_read_is_let_go(
    desk: FakeBackend, wire: Wire, connect: Connect, autojump_clock: Any
) -> None:
    """After 10 seconds in which it took nothing; what it asked for is taken back, and others are served meanwhile."""

    async def give(message: Info) -> str:
        return "x" * 1_000_000

    desk.answers[Info] = give
    began_at = trio.current_time()
    await wire.send({"id": 1, "verb": "watch"}, *({"id": n, "verb": "info"} for n in range(2, 100)))
    await _until(lambda: bool(desk.followed))
    await trio.testing.wait_all_tasks_blocked()
    other = await connect()
    answer = await other.ask(1, "throttles")
    asked = len(desk.asked)
    while desk.followed:
        await trio.sleep(1)

    assert answer == {"id": 1, "result": None}
    assert asked < 40  # those in flight, one that is written, one that is queued, and one of the other client's
    assert trio.current_time() - began_at == pytest.approx(10, abs=1.1)


async def test_nothing_more_is_worked_on_while_an_answer_is_not_written(desk: FakeBackend, wire: Wire) -> None:
    """A client that does not read costs the memory of the answers that were begun before it was known."""

    async def give(message: Info) -> str:
        await trio.lowlevel.checkpoint()
        return "x" * 1_000_000

    desk.answers[Info] = give
    await wire.send({"id": 1, "verb": "info"})
    await _until(lambda: len(desk.asked) == 1)
    await trio.testing.wait_all_tasks_blocked()
    await wire.send(*({"id": n, "verb": "info"} for n in range(2, 12)))
    await trio.testing.wait_all_tasks_blocked()
    asked = len(desk.asked)
    answers = [await wire.receive() for _ in range(11)]

    assert asked == 1
    assert sorted(answer["id"] for answer in answers) == list(range(1, 12))


async def test_a_client_with_32_requests_in_flight_that_goes_is_noticed(
    desk: FakeBackend, connect: Connect, autojump_clock: Any
) -> None:
    """It is not read from then, whatever it has sent; what it asked for is taken back."""
    cancelled = 0

    async def wait(message: Describe) -> None:
        nonlocal cancelled
        try:
            await trio.sleep_forever()
        finally:
            cancelled += 1

    desk.answers[Describe] = wait
    wire = await connect()
    await wire.send(*({"id": n, "verb": "describe", "args": {"token": n}} for n in range(100)))
    await _until(lambda: len(desk.asked) == 32)
    await wire.stream.aclose()
    with trio.fail_after(3):
        while cancelled < 32:
            await trio.sleep(0.1)

    assert len(desk.asked) == 32


async def test_a_client_that_reads_slowly_gets_all_of_it(desk: FakeBackend, wire: Wire, autojump_clock: Any) -> None:
    """Time counts from chunk to chunk, not for the whole answer."""

    async def give(message: Info) -> str:
        return "x" * 2_000_000

    desk.answers[Info] = give
    await wire.send({"id": 1, "verb": "info"})
    got = b""
    while not got.endswith(b"\n"):
        await trio.sleep(2)
        more = await wire.stream.receive_some(100_000)
        assert more
        got += more

    assert len(got) > 2_000_000
    assert trio.current_time() > 30


# --- Who may, and what stays -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", [Peer(7, 0, frozenset()), Peer(7, 12345, frozenset()), None])
async def test_a_client_is_served_unless_the_gate_refuses_it(
    peer: Peer | None, server: ControlServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told why. Where the system does not say who it is, it is this user: the directory's mode has let it in."""
    user = os.geteuid() if peer is None else peer.uid
    monkeypatch.setattr(_server, "peer_of", lambda _client: peer)
    monkeypatch.setattr(server, "_refuses", lambda caller: "is not for it" if caller.owner == 12345 else "")
    wire = await connect(greeted=False)
    first = await wire.receive()

    assert ("hello" in first) is (user != 12345)
    if user == 12345:
        assert first["error"]["message"] == "gate 'gate' is not for it"
        assert await wire.receive() is None


async def test_the_socket_goes_with_the_server(desk: FakeBackend, tmp_path_factory: pytest.TempPathFactory) -> None:
    """It is the user's alone while it is there, and clients see an end."""
    server = ControlServer("gate", desk, tmp_path_factory.mktemp("run"), refusal=lambda _caller: "")
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        path = server.path
        assert path is not None
        mode = path.stat().st_mode
        wire = Wire(await trio.open_unix_socket(path))
        await wire.receive()
        nursery.cancel_scope.cancel()
    async with wire:
        with trio.CancelScope(shield=True):
            end = await wire.receive()

    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert end is None
    assert server.path is None
    assert not path.exists()


async def test_a_file_that_took_the_sockets_name_stays(
    desk: FakeBackend, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The server removes only what it has made."""
    server = ControlServer("gate", desk, tmp_path_factory.mktemp("run"), refusal=lambda _caller: "")
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        path = server.path
        assert path is not None
        path.rename(path.with_suffix(".old"))
        path.write_text("other")
        nursery.cancel_scope.cancel()

    assert path.read_text() == "other"


async def test_a_forked_child_closes_what_it_inherits_and_leaves_the_file(server: ControlServer, wire: Wire) -> None:
    """The parent goes on serving, and a client of it sees its end although the child lives."""
    path = server.path
    assert path is not None
    await wire.ask(1, "info")
    sockets = [sock.fileno() for sock in server._sockets]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 warns of any fork with threads
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            server.disown()
            server.disown()
            closed = [not Path(f"/proc/self/fd/{fd}").exists() for fd in sockets]
            code = 0 if all(closed) and server.path is None and path.exists() else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)

    assert len(sockets) == 2
    assert os.waitstatus_to_exitcode(status) == 0
    assert await wire.ask(2, "info") == {"id": 2, "result": None}
