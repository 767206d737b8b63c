"""The control actor is reached from everywhere, and answers whatever else happens."""

from __future__ import annotations

import abc
import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any, get_origin, get_type_hints

import attrs
import pytest
import trio
from gated_code import LIMIT, Door, opened_at_the_end
from running_tokens import Turner, cpu_operation

from actors import ActorDead, TokenState
from actors.lowlevel import Crash, Visit
from supervisors import ChildSpec
from tokengate import CpuActor, Gate, token
from tokengate.authority._audit_verbs import AuditVerbs
from tokengate.authority._verbs import AuthorityVerbs
from tokengate.control import find_gate
from tokengate.control import messages as m
from tokengate.control._exceptions import BadRequest
from tokengate.control.inspection._feeds import Feed
from tokengate.control.inspection._health import HealthVerb
from tokengate.control.inspection._verbs import QueryVerbs
from tokengate.control.steering._actors import ActorVerbs
from tokengate.control.steering._policies import PolicyVerbs
from tokengate.control.steering._supervisors import SupervisorVerbs
from tokengate.control.steering._throttles import ThrottleVerbs
from tokengate.control.steering._tokens import TokenVerbs
from tokengate.control.steering._transactions import TransactionVerbs
from tokengate.errors import TokenGateError

Doors = Callable[[], Door]
Until = Callable[[Callable[[], bool]], None]

CONTROL = "$system/control"


@token
def nothing() -> str:
    return "done"


# --- The ways to it --------------------------------------------------------------------------------------------------


def test_it_is_asked_through_the_gate_and_through_its_ref(gate: Gate) -> None:
    """`gate.control` only builds messages; whoever has the ref may ask them, and wait as he likes."""
    ref = gate.find(CONTROL)

    assert gate.control.info().name == "control"
    assert ref.ask(m.Info()).name == "control"
    assert ref.ask(m.Info(), block=False).get(timeout=LIMIT).state == "open"


def test_it_is_asked_from_a_token(gate: Gate) -> None:
    """Code that is steered may ask, too: of itself, as of others."""

    @token
    def look() -> tuple[str, int]:
        [mine] = gate.control.tokens("operation=look")
        return str(gate.control.describe(mine.id).row.state), len(gate.control.tokens("*"))

    @token
    async def look_async() -> int:
        return len(await gate.control.aio.tokens("operation=look_async"))

    assert look.submit().result(LIMIT) == ("running", 1)
    assert look_async.submit().result(LIMIT) == 1


def test_a_token_can_end_itself_by_asking(gate: Gate) -> None:
    """The answer comes, or its end does; nothing hangs."""

    @token
    async def end() -> None:
        [mine] = await gate.control.aio.tokens("operation=end")
        await gate.control.aio.terminate(mine.id, wait=0)
        await trio.lowlevel.checkpoint()

    sent = end.submit()
    sent.exception(LIMIT)
    assert sent.state is TokenState.TERMINATED


def test_it_is_asked_from_trio_and_from_asyncio(gate: Gate) -> None:
    """The awaiting form is for both."""

    async def ask() -> tuple[str, int]:
        return (await gate.control.aio.info()).state, len(await gate.control.aio.actors())

    assert trio.run(ask) == asyncio.run(ask())


def test_it_is_asked_in_a_gate_within_a_trio_program() -> None:
    """There the user's loop is not its own."""

    async def main() -> str:
        async with Gate("within", control_socket=False) as gate:
            return (await gate.control.aio.info()).state

    assert trio.run(main) == "open"


def test_an_unknown_message_is_refused_by_its_class(gate: Gate) -> None:
    """The error is the asker's, and says where the vocabulary is; the actor lives on."""
    for message in ("pause", None, object(), m.OnTokens("*")):
        with pytest.raises(BadRequest, match=type(message).__name__):
            gate.find(CONTROL).ask(message)

    assert gate.find(CONTROL).ask(m.Tokens()).live == 0
    assert gate._system.find(CONTROL).starts == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "message",
    [
        m.Tokens(5),  # type: ignore[arg-type]
        m.Tokens(limit="all"),  # type: ignore[arg-type]
        m.Pause("*", force=1),  # type: ignore[arg-type]
        m.Renice("*", priority=1.5),  # type: ignore[arg-type]
        m.Retag("*", set={"a": 1}),  # type: ignore[dict-item]
        m.Statistics("counter", "maybe"),  # type: ignore[arg-type]
        m.Step("*", n=0),
        m.Actors(sample=float("nan")),
    ],
    ids=lambda message: m.verb_of(type(message)),
)
def test_a_field_that_cannot_be_meant_is_refused_by_its_name(gate: Gate, message: m.Message[Any]) -> None:
    """It is no fault of control's, so nothing is logged as one."""
    with pytest.raises(BadRequest):
        gate.find(CONTROL).ask(message)


def test_what_is_derived_from_text_and_numbers_counts_as_such(gate: Gate) -> None:
    """Names of an enum, say."""

    class Name(str):
        __slots__ = ()

    class Number(int):
        pass

    sent = nothing.submit()
    sent.result(LIMIT)
    assert gate.control.resume([Number(sent.id)])[0].outcome == "ended"
    assert gate.find(CONTROL).ask(m.Actors(Name("spawned")))[0].path == "spawned"


# --- Whatever happens ------------------------------------------------------------------------------------------------


def answers(gate: Gate) -> None:
    """Have every looking verb answered."""
    control = gate.control
    assert control.info().name == gate.name
    for row in control.tokens("*"):
        control.describe(row.id)
        control.stack(row.id)
    assert control.tree(system=True)
    assert control.actors()
    control.throttles()


def test_it_answers_while_every_cpu_thread_spins(gate: Gate, doors: Doors) -> None:
    """It needs none of them; and it ends what spins."""

    @token(concurrency=8)
    def spin(door: Door) -> None:
        door.reached.set()
        while not door.is_open:
            pass

    busy = [doors() for _ in range(2)]
    sent = [spin.submit(door) for door in busy]
    for door in busy:
        door.wait_reached()
    more = [spin.submit(doors()) for _ in range(4)]

    answers(gate)
    assert {outcome.outcome for outcome in gate.control.terminate("operation=spin", wait=LIMIT)} == {"terminated"}
    assert all(one.done() for one in (*sent, *more))


def test_it_answers_while_the_io_loop_is_blocked(gate: Gate, door: Door) -> None:
    """It says what blocks it: what cannot be done is asked for."""

    @token
    async def block() -> None:
        door.pass_through()

    sent = block.submit()
    door.wait_reached()

    answers(gate)
    [outcome] = gate.control.pause(sent, wait=0)
    assert (outcome.outcome, "loop is free" in outcome.note) == ("pause_requested", True)
    assert any("pass_through" in frame.function for frame in gate.control.stack(sent).frames)
    gate.control.resume(sent)


def test_it_answers_while_a_gate_drains_that_waits_for_a_paused_token(door: Door, until: Until) -> None:
    """Closing waits for the token; control sees it, lets it go, and the gate closes with nothing lost."""
    gate = Gate("drains", threads=2, control_socket=False, shutdown=10 * LIMIT)
    with gate.open().entered():
        sent = cpu_operation.submit(door)
    door.wait_reached()
    control = gate.control
    control.pause(sent, wait=LIMIT)
    reports: list[Any] = []
    closing = threading.Thread(target=lambda: reports.append(gate.close()))
    closing.start()
    until(lambda: gate.state == "closing")

    answers(gate)
    assert control.info().state == "closing"
    assert [row.id for row in control.tokens("state=paused")] == [sent.id]
    door.open()
    assert control.resume(sent)[0].outcome == "resumed"
    closing.join(LIMIT)
    assert sent.result(0) == "through"
    assert reports[0].terminated == 0
    with pytest.raises(TokenGateError):
        control.info()


def test_a_gate_that_closes_ends_a_paused_token_at_its_deadline() -> None:
    """No pause holds up an end for ever, and no caller hangs."""
    door = Door()
    gate = Gate("closes", threads=2, control_socket=False)
    with gate.open().entered():
        sent = cpu_operation.submit(door)
    door.wait_reached()
    gate.control.pause(sent, wait=LIMIT)

    report = gate.close(0.2)
    assert sent.state is TokenState.TERMINATED
    assert report.abandoned == ()


def test_it_answers_while_a_supervisor_gives_up(until: Until) -> None:
    """The runtime's own tree is beside the user's, and goes on when that has ended."""

    class Faulty(CpuActor):
        def crash(self) -> None:
            raise RuntimeError("once too often")

    with Gate("gives-up", control_socket=False, intensity=0, children=[ChildSpec("faulty", Faulty)]) as gate:
        gate.find("faulty").proxy().crash().exception(LIMIT)
        until(lambda: gate.stopping)
        until(lambda: "/" not in {row.path for row in gate.control.actors()})

        assert gate.control.info().state == "open"
        assert [row.status for row in gate.control.tree("$system")] == ["running", "running"]
        assert list(gate.control.tokens("*")) == []


def test_it_restarts_after_a_fault_and_what_it_has_done_holds(gate: Gate, doors: Doors, until: Until) -> None:
    """Throttles, suspensions and pauses are not its own: another instance finds them, and can undo them."""
    nothing.submit().result(LIMIT)
    paused_door = doors()
    paused = cpu_operation.submit(paused_door)
    paused_door.wait_reached()
    gate.control.pause(paused, wait=LIMIT)
    gate.control.suspend("nothing")
    gate.control.throttle("tenant=acme", concurrency=1)
    place: Any = gate._system.find(CONTROL)
    unanswered = gate.find(CONTROL).ask(m.Terminate((paused.id,), dry_run=True), block=False)
    unanswered.get(timeout=LIMIT)
    feed = gate.control.watch()

    place.signal(Crash(RuntimeError("a fault")))
    until(lambda: place.starts == 2)

    assert [row.selector for row in gate.control.throttles()] == ["tenant=acme"]
    assert [row.path for row in gate.control.actors() if row.row.suspended] == ["operations/nothing"]
    queued = nothing.submit()
    assert (queued.state, paused.state) == (TokenState.QUEUED, TokenState.PAUSED)
    gate.control.unsuspend("nothing")
    assert queued.result(LIMIT) == "done"
    gate.control.lift("tenant=acme")
    paused_door.open()
    assert gate.control.resume(paused)[0].outcome == "resumed"
    assert paused.result(LIMIT) == "through"
    list(feed)  # it has come to its end


def test_who_waits_for_an_answer_when_it_crashes_gets_an_error(gate: Gate, doors: Doors, until: Until) -> None:
    """Nobody hangs; and what was asked for may have been done."""

    @token
    def block(door: Door) -> None:
        door.pass_through()

    door = doors()
    sent = block.submit(door)
    door.wait_reached()
    waiting = gate.find(CONTROL).ask(m.Terminate((sent.id,), mode="cancel", wait=LIMIT), block=False)
    until(lambda: bool(sent._extras.cancel_requested))

    gate._system.find(CONTROL).signal(Crash(RuntimeError("a fault")))
    with pytest.raises(ActorDead, match="stopped before it answered"):
        waiting.get(timeout=LIMIT)


# --- Clients that go -------------------------------------------------------------------------------------------------


@pytest.fixture
def open_gate(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A gate with a socket."""
    monkeypatch.setenv("TOKENGATE_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    with Gate("open", threads=2, shutdown=LIMIT) as opened:
        yield opened
        opened.close(drain=False)


def connected(gate: Gate, *questions: m.Message[Any]) -> socket.socket:
    """Return the connection of a client that has asked, and reads nothing."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(find_gate(gate.name).path))
    lines: list[object] = [{"hello": {"protocol": 2}}]
    for number, question in enumerate(questions):
        kept = ((name, value) for name, value in attrs.asdict(question).items() if name not in m.ENVELOPE)
        fields = {name: value for name, value in kept if value != ()}
        lines.append({"id": number, "verb": m.verb_of(type(question)), "args": fields})
    client.sendall(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    return client


def jobs_of(gate: Gate) -> Any:
    place: Any = gate._system.find(CONTROL)
    return place.instance._jobs


def test_what_a_client_has_asked_for_is_dropped_when_it_goes(open_gate: Gate, until: Until) -> None:
    """A question that waits is no longer worked on, and those of others are."""

    @token
    def block(door: Door) -> None:
        door.pass_through()

    with opened_at_the_end() as doors:
        door = doors()
        sent = block.submit(door)
        door.wait_reached()
        question = m.Terminate((sent.id,), mode="cancel", wait=60.0)
        with closing(connected(open_gate, *[question] * 32)), closing(connected(open_gate, question)) as other:
            until(lambda: len(jobs_of(open_gate)) == 33)
            other.close()
            until(lambda: len(jobs_of(open_gate)) == 32)
            assert not sent.done()
        until(lambda: not jobs_of(open_gate))


def test_what_had_not_begun_when_its_client_went_is_never_done(open_gate: Gate, until: Until) -> None:
    """An actor that was busy is not changed later, for somebody who has given up."""

    class Counter(CpuActor):
        total = 0

        def work(self, door: Door) -> None:
            door.pass_through()

    with opened_at_the_end() as doors:
        door = doors()
        ref = open_gate.spawn(Counter, name="counter")
        proxy = ref.proxy()
        working = proxy.work(door)
        door.wait_reached()
        place: Any = open_gate._system.find("counter")
        with closing(connected(open_gate, m.SetState("counter", {"total": 7}, wait=60.0))):
            until(lambda: any(isinstance(signal, Visit) for signal in place.mailbox.signals()))
        until(lambda: not jobs_of(open_gate))
        door.open()
        working.result(LIMIT)

        assert proxy.total.result(LIMIT) == 0


def test_lists_of_clients_that_do_not_read_hold_up_nobody(open_gate: Gate, until: Until) -> None:
    """The gate makes a list or two for each, and no more until these are written."""
    nothing.submit().result(LIMIT)
    open_gate.control.suspend("nothing")
    place: Any = open_gate._system.find("operations/nothing")
    place.mailbox.capacity = place.mailbox._limit = 30_000
    for _ in range(3_000):
        nothing.submit()
    with ExitStack() as clients:
        for _ in range(4):
            clients.enter_context(closing(connected(open_gate, *[m.Tokens(limit=10_000)] * 32)))
        until(lambda: len(jobs_of(open_gate)) > 100)

        assert open_gate.control.info().state == "open"
        assert len(open_gate.control.tokens(limit=10)) == 10
        assert len(jobs_of(open_gate)) > 100  # each client has room for one answer, and the rest is not worked on
    until(lambda: not jobs_of(open_gate))


def test_a_fault_of_its_own_is_an_error_of_one_question(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    """The asker learns the class of it, the log all, and the next question is answered."""
    from tokengate.control.inspection import _queries

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_queries, "gate_info", lambda *_: 1 / 0)
        with pytest.raises(TokenGateError, match="ZeroDivisionError"):
            gate.control.info()

    assert "control could not answer" in caplog.text
    assert gate.control.info().name == "control"


# --- No code of users ------------------------------------------------------------------------------------------------

trapped: list[str] = []
armed = threading.Event()  # supervisors look at the classes that they start


def trap(name: str) -> None:
    """Take note, and fail, when this runs on the system loop."""
    if armed.is_set() and threading.current_thread().name.endswith("-system"):
        trapped.append(name)
        raise RuntimeError(f"{name} of a user ran on the system loop")


class EvilMeta(abc.ABCMeta):
    def __hash__(cls) -> int:
        trap("type.__hash__")
        return type.__hash__(cls)

    def __eq__(cls, other: object) -> bool:
        trap("type.__eq__")
        return cls is other

    def __repr__(cls) -> str:
        trap("type.__repr__")
        return "evil"

    def __instancecheck__(cls, instance: object) -> bool:
        trap("type.__instancecheck__")
        return False

    def __subclasscheck__(cls, other: type) -> bool:
        trap("type.__subclasscheck__")
        return False


class Evil(metaclass=EvilMeta):
    """Everything that Python could call behind one's back."""

    def __getattribute__(self, name: str) -> Any:
        trap(f"__getattribute__({name})")
        return object.__getattribute__(self, name)

    def __repr__(self) -> str:
        trap("__repr__")
        return "evil"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        trap("__eq__")
        return self is other

    def __hash__(self) -> int:
        trap("__hash__")
        return 1

    def __bool__(self) -> bool:
        trap("__bool__")
        return True

    def __len__(self) -> int:
        trap("__len__")
        return 1

    def __iter__(self) -> Iterator[Any]:
        trap("__iter__")
        return iter(())

    def __sizeof__(self) -> int:
        trap("__sizeof__")
        return 1


class EvilText(str):
    __slots__ = ()

    def __repr__(self) -> str:
        trap("str.__repr__")
        return "evil"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        trap("str.__format__")
        return str.__format__(str.__str__(self), spec)

    def __eq__(self, other: object) -> bool:
        trap("str.__eq__")
        return str.__eq__(self, other)

    def __hash__(self) -> int:
        trap("str.__hash__")
        return str.__hash__(self)

    def __len__(self) -> int:
        trap("str.__len__")
        return str.__len__(self)


class EvilError(Exception):
    def __repr__(self) -> str:
        trap("Exception.__repr__")
        return "evil"

    __str__ = __repr__


class EvilActor(CpuActor, metaclass=EvilMeta):
    def __init__(self) -> None:
        super().__init__()
        self.evil = Evil()

    def __getattribute__(self, name: str) -> Any:
        trap(f"actor.{name}")
        return object.__getattribute__(self, name)

    def __eq__(self, other: object) -> bool:
        trap("actor.__eq__")
        return self is other

    __hash__ = CpuActor.__hash__

    def turn(self, door: Door, *_evil: Any) -> None:
        Turner.turn(self, door)  # type: ignore[arg-type]

    def crash(self) -> None:
        raise EvilError("evil")


@pytest.fixture
def traps() -> Iterator[threading.Event]:
    """Arms the traps; they are for this test only, though the classes stay."""
    trapped.clear()
    yield armed
    armed.clear()


def test_no_code_of_users_runs_on_its_loop(gate: Gate, doors: Doors, until: Until, traps: threading.Event) -> None:
    """Arguments, tags, names, instances, classes and errors are looked at from outside; evil ones change nothing."""
    door = doors()

    @token(tags={EvilText("tenant"): EvilText("acme")}, show=(EvilText("rest"),))
    def evil(door: Door, *rest: Any, secret: Any = None) -> None:
        door.reached.set()
        Turner.turn(None, door)  # type: ignore[arg-type]

    @token
    def fail() -> None:
        raise EvilError("evil")

    ref = gate.spawn(EvilActor, name="evil")
    traps.set()
    control = gate.control
    events, watch = control.watch(), control.watch("tenant=acme")
    control.throttle("tenant=acme,operation=evil", concurrency=100)
    running = evil.submit(door, Evil(), [Evil()], {"x": Evil()}, secret=Evil())
    door.wait_reached()
    failed = fail.submit()
    failed.exception(LIMIT)
    control.statistics("*evil*", "on")
    ref.proxy().turn(doors(), Evil())
    ref.proxy().turn(doors(), Evil())

    answers(gate)
    assert control.tokens("tenant=acme,actor=*evil*", sort="-operation")
    assert control.pause(running, wait=LIMIT)[0].outcome == "paused"
    assert control.retag(running, {"tenant": "acme", "other": "x"})[0].outcome == "retagged"
    assert control.resume([running, failed])[1].outcome == "ended"
    assert control.terminate("*", wait=LIMIT, force=True, reason="a test")
    gate.find(CONTROL).ask(m.GetState("spawned/evil"))
    control.statistics("*evil*")
    ref.proxy().crash().exception(LIMIT)
    until(lambda: gate._system.find("spawned/evil").starts == 2)  # type: ignore[attr-defined]
    control.reroute(ref.proxy().turn(doors()), actor="spawned/evil")
    control.stop("spawned/evil", drain=False, wait=0)
    for message in (Evil(), EvilText("pause"), m.Pause(EvilText("tenant=none"))):
        try:
            gate.find(CONTROL).ask(message)
        except TokenGateError:
            pass
    kinds = set()
    for item in events:
        kinds.add(item.kind)
        if item.kind == "supervisor.restart_scheduled":
            break
    assert "(evil of 'operations/evil')" in next(watch).text

    assert trapped == []


# --- Its answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", m.VERBS.values(), ids=m.verb_of)
def test_the_answer_to_a_verb_takes_its_message_and_returns_what_the_message_names(message: type[Any]) -> None:
    """It is a method of the verb's name; a stream is answered with its feed."""
    rooms = (
        AuditVerbs,
        AuthorityVerbs,
        QueryVerbs,
        HealthVerb,
        TokenVerbs,
        ThrottleVerbs,
        PolicyVerbs,
        TransactionVerbs,
        ActorVerbs,
        SupervisorVerbs,
    )
    [answer] = [found for room in rooms if (found := vars(room).get(m.verb_of(message)))]
    taken, returned = get_type_hints(answer).values()

    assert taken is message
    if issubclass(message, m.Stream):
        assert get_origin(returned) is Feed
    else:
        assert returned == m.answer_of(message)
