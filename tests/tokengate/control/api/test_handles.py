"""Handles: their verbs are for exactly what they hold, and they look like tables."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Any

import pytest
from made_events import made_event

from tokengate.control import messages as m
from tokengate.control.api._answers import Outcomes
from tokengate.control.api._control import Control
from tokengate.control.api._following import Following
from tokengate.control.api._handles import ActorHandle, ActorList, TokenHandle, TokenList
from tokengate.control.messages import ActorRow, Event, Message, Outcome, Stream, TokenPage, TokenRow


def row(id: int, state: str = "queued") -> TokenRow:
    return TokenRow(id, "resize", "/operations/resize", "cpu", state, 0, {}, None, 1, 0, 1.0, None)


def actor_row(path: str) -> ActorRow:
    return ActorRow(path, "Counter", "cpu", "running", 0, 10, (), 1, 0, False, False)


class FakeGate:
    """Remembers what it is asked."""

    def __init__(self) -> None:
        self.answer: Any = ()
        self.asked: list[Message] = []
        self.control = Control(self.ask, self._follow)

    def ask(self, message: Message) -> Any:
        self.asked.append(message)
        return self.answer

    def _follow(self, stream: Stream) -> Generator[Event]:
        yield self.ask(stream)


@pytest.fixture
def gate() -> FakeGate:
    return FakeGate()


STEERED: list[tuple[Callable[[Any], object], Callable[[tuple[int, ...]], Message]]] = [
    (lambda t: t.pause(stop_clock=True), lambda ids: m.Pause(ids, stop_clock=True)),
    (lambda t: t.resume(), m.Resume),
    (lambda t: t.step(3), lambda ids: m.Step(ids, n=3)),
    (lambda t: t.terminate("cancel"), lambda ids: m.Terminate(ids, mode="cancel")),
    (lambda t: t.kill(force=True, grace=2.0), lambda ids: m.Terminate(ids, mode="kill", force=True, grace=2.0)),
    (lambda t: t.renice(4), lambda ids: m.Renice(ids, priority=4)),
    (lambda t: t.retag({"a": "b"}, ["c"]), lambda ids: m.Retag(ids, set={"a": "b"}, remove=("c",))),
    (lambda t: t.reroute(actor="/x", dry_run=True), lambda ids: m.Reroute(ids, actor="/x", dry_run=True)),
    (lambda t: t.limit(memory=2**30, wall_time=None), lambda ids: m.Limit(ids, memory=2**30, wall_time="none")),
    (lambda t: t.estimate(run="10m"), lambda ids: m.Estimate(ids, run="10m")),
]


@pytest.mark.parametrize(("call", "expected"), STEERED)
def test_the_verbs_of_tokens_are_for_their_ids(
    gate: FakeGate, call: Callable[[Any], object], expected: Callable[[tuple[int, ...]], Message]
) -> None:
    """One token, a list, and a slice of a list steer exactly what they hold."""
    tokens = TokenList(gate.control, TokenPage((row(1), row(2), row(3)), matching=9, live=9, offset=4))

    call(tokens)
    call(tokens[1:])
    call(tokens[0])

    assert gate.asked == [expected((1, 2, 3)), expected((2, 3)), expected((1,))]


def test_an_empty_list_of_tokens_steers_nothing(gate: FakeGate) -> None:
    """What matched nothing is never taken for everything."""
    assert list(TokenList(gate.control, TokenPage((), 0, 9, 0)).kill()) == []
    assert gate.asked == []


def test_a_token_tells_its_present_state(gate: FakeGate) -> None:
    """`row` is what was known, `state` is asked for."""
    gate.answer = m.TokenDescription(
        row(1, "running"), (), (), 0.0, 0.0, 0.0, 0.0, 0.0, (), None, None, None, False, True, {}
    )
    token = TokenHandle(gate.control, row(1))

    assert token.row.state == "queued"
    assert token.state == "running"
    assert token.describe() is gate.answer
    token.stack()
    assert gate.asked == [m.Describe(1), m.Describe(1), m.Stack(1)]


def test_the_verbs_of_an_actor_are_for_its_path(gate: FakeGate) -> None:
    """A handle goes by the full path, which no other actor has."""
    actor = ActorHandle(gate.control, actor_row("/shop/counter"))
    path = actor.path

    actor.describe()
    actor.state(1.0)
    actor.set_state(self=1, count=2)
    actor.suspend()
    actor.unsuspend()
    actor.drain(1.0, reopen=True)
    actor.restart()
    actor.stop(drain=False)
    actor.statistics("on")
    actor.children()
    with actor.watch() as following:
        next(following)

    assert gate.asked == [
        m.DescribeActor(path),
        m.GetState(path, 1.0),
        m.SetState(path, {"self": 1, "count": 2}),
        m.Suspend(path),
        m.Unsuspend(path),
        m.Drain(path, 1.0, reopen=True),
        m.Restart(path),
        m.Stop(path, drain=False),
        m.Statistics(path, "on"),
        m.WhichChildren(path),
        m.Watch(f'actor="/{path}"', kinds=("token",)),
    ]


def test_what_control_gives_out_looks_like_its_table(gate: FakeGate) -> None:
    """A REPL shows the repr; it asks the gate nothing."""
    tokens = TokenList(gate.control, TokenPage((row(11), row(12)), matching=2, live=2, offset=0))
    actors = ActorList(gate.control, (actor_row("/shop/counter"), actor_row("/shop/till")))
    outcomes = Outcomes((Outcome(11, "resize", "refused", "its guard is 'force'"),))

    assert "11" in repr(tokens)
    assert "12" in repr(tokens)
    assert "12" not in repr(tokens[0])
    assert "of 2" not in repr(tokens[:1])
    assert "/shop/till" in repr(actors)
    assert "/shop/till" not in repr(actors[0])
    assert "its guard is 'force'" in repr(outcomes)
    assert gate.asked == []


def test_what_control_gives_out_are_sequences(gate: FakeGate) -> None:
    """They can be indexed, cut, counted, searched and compared."""
    tokens = TokenList(gate.control, TokenPage((row(1), row(2)), matching=2, live=2, offset=0))
    actors = ActorList(gate.control, (actor_row("/a"), actor_row("/b")))
    outcomes = Outcomes((Outcome(1, "f", "paused"), Outcome(2, "f", "refused")))

    assert [token.id for token in reversed(tokens)] == [2, 1]
    assert TokenHandle(gate.control, row(2, "running")) in tokens
    assert TokenHandle(FakeGate().control, row(2)) not in tokens
    assert [actor.path for actor in actors[1:]] == ["/b"]
    assert ActorHandle(gate.control, actor_row("/a")) in actors
    assert outcomes[1].outcome == "refused"
    assert outcomes[:1] == Outcomes((Outcome(1, "f", "paused"),))
    assert (len(tokens), len(actors), len(outcomes)) == (2, 2, 2)
    assert len({*tokens, *tokens}) == 2


class Source:
    """Has an item whenever the test lets it, and one more when it is closed."""

    def __init__(self) -> None:
        self.waits = threading.Event()
        self.happens = threading.Event()
        self.closed = 0

    def __iter__(self) -> Source:
        return self

    def __next__(self) -> Event:
        self.waits.set()
        assert self.happens.wait(60)
        return made_event(0.0, "kind", "", None, "text")

    def close(self) -> None:
        self.closed += 1
        self.happens.set()


def test_a_stream_that_is_left_gives_nothing_more() -> None:
    """Not even to a thread that waits in it, and whose source still had something."""
    source = Source()
    following = Following(source)
    found: list[Event] = []
    thread = threading.Thread(target=lambda: found.extend(following))
    thread.start()
    assert source.waits.wait(60)
    following.close()
    thread.join(60)

    assert found == []
    assert source.closed == 1
    assert list(following) == []
