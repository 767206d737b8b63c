"""Observers see everything that happens in a system, in order, and harm nothing."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable
from typing import Any

import pytest

from actors import (
    ActorRef,
    ActorSystem,
    BaseActor,
    CpuActor,
    ExitReason,
    MailboxFull,
    Observer,
    ProcessActor,
    Token,
)
from actors.lowlevel import ActorPlace
from actors.system._observer import EVENTS

LIMIT = 30.0

Start = Callable[..., Any]


class Recorder(Observer):
    """Records every event."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    def token_queued(self, token: Token[Any], /) -> None:
        self.seen.append(("queued", token.id))

    def token_started(self, token: Token[Any], /) -> None:
        self.seen.append(("started", token.id))

    def token_finished(self, token: Token[Any], /) -> None:
        self.seen.append((str(token.state), token.id))

    def dead_letter(self, token: Token[Any], reason: BaseException, /) -> None:
        self.seen.append(("dead letter", type(reason)))

    def actor_started(self, ref: ActorRef[Any], /) -> None:
        self.seen.append(("actor started", ref.path))

    def actor_ended(self, ref: ActorRef[Any], reason: ExitReason, /) -> None:
        self.seen.append((f"actor ended: {reason.kind}", ref.path))

    def event(self, event: object, /) -> None:
        self.seen.append(("event", event))


@pytest.fixture
def recorder(system: ActorSystem) -> Recorder:
    recorder = Recorder()
    system.add_observer(recorder)
    return recorder


def make(base: type[BaseActor]) -> type[BaseActor]:
    class Worker(base):  # type: ignore[misc, valid-type]
        def on_receive(self, message: Any) -> Any:
            return message()

    return Worker


def test_a_token_is_told_of_from_the_queue_to_its_end(base: type[BaseActor], start: Start, recorder: Recorder) -> None:
    """The one who waits for the result knows that the observers have been told."""
    ref = start(make(base))
    token = ref.ask(int, block=False)
    token.result(LIMIT)

    assert recorder.seen == [
        ("actor started", ref.path),
        ("queued", token.id),
        ("started", token.id),
        ("completed", token.id),
    ]


def test_a_direct_call_is_started_and_finished(system: ActorSystem, recorder: Recorder) -> None:
    """It is never queued."""
    place = system.operation_place("operation", "cpu", generator=False, concurrency=1)
    token = place.token("operation", int, (), {})
    turn = place.turn_here(token)
    assert turn is not None
    turn.run()

    assert recorder.seen == [("started", token.id), ("completed", token.id)]


def test_ends_of_instances_are_told_with_their_reason(
    base: type[BaseActor], system: ActorSystem, recorder: Recorder
) -> None:
    """A crash, a restart, an instance that is sealed, an orderly end."""

    def restart(place: ActorPlace, _reason: ExitReason, administrative: bool) -> None:
        if not administrative:
            place.start()

    place = system.place("worker", make(base), owner=restart)
    place.start().result(LIMIT)
    place.ref.ask([].pop, block=False).exception(LIMIT)
    place.ref.ask(int, timeout=LIMIT)
    place.terminate_running("the test wants it")
    place.start().result(LIMIT)
    place.ref.stop()

    assert [what for what, who in recorder.seen if who == "worker"] == [
        "actor started",
        "actor ended: error",
        "actor started",
        "actor ended: killed",
        "actor started",
        "actor ended: normal",
    ]


def test_a_refused_token_is_finished_and_a_dead_letter(base: type[BaseActor], start: Start, recorder: Recorder) -> None:
    """It has an end, though it never was in a queue."""
    cls = make(base)
    cls.capacity, cls.overflow = 1, "reject"
    ref = start(cls)
    ref.actor_inbox.suspend()
    ref.tell(int)
    refused = ref.ask(int, block=False)
    ref.actor_inbox.resume()

    assert ("rejected", refused.id) in recorder.seen
    assert ("dead letter", MailboxFull) in recorder.seen
    assert ("queued", refused.id) not in recorder.seen


def test_an_event_goes_to_observers_and_listeners(system: ActorSystem, recorder: Recorder) -> None:
    """`subscribe` is an observer of published events and dead letters."""
    heard: list[object] = []
    unsubscribe = system.subscribe(heard.append)
    system.publish("first")
    unsubscribe()
    system.publish("second")

    assert recorder.seen == [("event", "first"), ("event", "second")]
    assert heard == ["first"]


def test_what_nobody_overrides_costs_nothing(system: ActorSystem) -> None:
    """For each event the system keeps who is told, or None."""

    class Finished(Observer):
        def token_finished(self, token: Token[Any], /) -> None:
            pass

    observer = Finished()
    before = [getattr(system, f"on_{event}") for event in EVENTS]
    system.add_observer(observer)
    during = {event for event in EVENTS if getattr(system, f"on_{event}") is not None}
    system.remove_observer(observer)
    after = [getattr(system, f"on_{event}") for event in EVENTS]

    assert before == after == [None] * len(EVENTS)
    assert during == {"token_finished"}


def test_an_observer_that_raises_is_logged_once_and_removed(
    base: type[BaseActor], start: Start, system: ActorSystem, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it raises, no token and no other observer notices."""

    class Broken(Observer):
        def token_started(self, token: Token[Any], /) -> None:
            raise SystemExit("broken observer")

    broken, recorder = Broken(), Recorder()
    system.add_observer(broken)
    system.add_observer(recorder)
    ref = start(make(base))
    with caplog.at_level(logging.ERROR):
        answers = [ref.ask(int, timeout=LIMIT) for _ in range(3)]

    assert answers == [0, 0, 0]
    assert [record.getMessage() for record in caplog.records] == [
        "observer Broken was removed, because token_started raised"
    ]
    assert [what for what, _ in recorder.seen].count("started") == 3
    assert not system.remove_observer(broken)


def test_adding_twice_tells_once(system: ActorSystem, recorder: Recorder) -> None:
    """And removing tells whether it was there."""
    system.add_observer(recorder)
    system.publish("event")

    assert recorder.seen == [("event", "event")]
    assert (system.remove_observer(recorder), system.remove_observer(recorder)) == (True, False)


def test_an_observer_is_an_observer(system: ActorSystem) -> None:
    """The error says what to do."""
    with pytest.raises(TypeError, match=r"subclass of actors\.Observer"):
        system.add_observer(object())  # type: ignore[arg-type]


def test_an_observer_may_look_at_the_mailbox_that_it_is_told_of(start: Start, system: ActorSystem) -> None:
    """No lock is held while it is told."""
    depths: list[int] = []

    class Curious(Observer):
        def token_queued(self, token: Token[Any], /) -> None:
            self.look(token)

        def token_started(self, token: Token[Any], /) -> None:
            self.look(token)

        def token_finished(self, token: Token[Any], /) -> None:
            self.look(token)

        def look(self, token: Token[Any]) -> None:
            depths.append(token._place.mailbox.statistics().depth)

    system.add_observer(Curious())
    start(make(CpuActor)).ask(int, timeout=LIMIT)

    assert len(depths) == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_a_signal_handler_raises_in_a_listener_arrives_in_the_main_program(
    system: ActorSystem, recorder: Recorder, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """After the other listeners were told; all of them stay."""
    seen: list[object] = []

    def interrupted(event: object) -> None:
        seen.append(event)
        raise error

    system.subscribe(interrupted)
    system.add_observer(recorder)
    for event in ("first", "second"):
        with pytest.raises(error):
            system.publish(event)

    assert seen == ["first", "second"]
    assert recorder.seen == [("event", "first"), ("event", "second")]
    assert not caplog.records


named: contextvars.ContextVar[int] = contextvars.ContextVar("named", default=0)


class Naming(Observer):
    """Writes a token's id where its code finds it, and sends headers."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    def token_started(self, token: Token[Any], /) -> None:
        token.in_context(named.set, token.id)

    def token_sent(self, token: Token[Any], headers: dict[str, str], /) -> None:
        self.sent.append(token.id)
        headers["name"] = f"{token.id}"


def test_what_an_observer_sets_in_the_context_of_a_token_its_code_finds(
    local_base: type[BaseActor], start: Start, system: ActorSystem
) -> None:
    """In each step of it, on whatever thread or loop; neither its sender nor the next token does."""
    seen: list[int] = []

    def steps() -> Any:
        seen.append(named.get())
        yield
        seen.append(named.get())

    class Worker(local_base):  # type: ignore[misc, valid-type]
        def plain(self) -> None:
            seen.append(named.get())

        def steps(self) -> Any:
            return (yield from steps())

    observer = Naming()
    system.add_observer(observer)
    proxy = start(Worker).proxy()
    first, second = proxy.plain(), proxy.steps()
    first.get(timeout=LIMIT)
    second.get(timeout=LIMIT)
    system.remove_observer(observer)
    proxy.plain().get(timeout=LIMIT)

    assert seen == [first.id, second.id, second.id, 0]
    assert named.get() == 0


def test_a_token_that_has_ended_has_no_context(start: Start) -> None:
    """The function is not called."""
    token = start(make(CpuActor)).ask(int, block=False)
    token.result(LIMIT)

    assert token.in_context(pytest.fail, "it was called") is None


def test_headers_go_to_child_processes_while_an_observer_writes_them(start: Start, system: ActorSystem) -> None:
    """With each call that is sent, of actors and of operations, and with no other token."""
    observer = Naming()
    ref = start(make(ProcessActor))
    place = system.operation_place("operation", "process", generator=False, concurrency=1)
    system.add_observer(observer)
    plain = place.send(place.token("operation", abs, (-1,), {}))
    keyed = system.operation_place("keyed", "process", generator=False, concurrency=1)
    other = keyed.send(keyed.token("keyed", dict, (), {"a": 1}))
    message = ref.ask(int, block=False)

    assert (plain.result(LIMIT), other.result(LIMIT), message.result(LIMIT)) == (1, {"a": 1}, 0)
    assert sorted(observer.sent) == [plain.id, other.id, message.id]

    system.remove_observer(observer)
    start(make(CpuActor)).ask(int, timeout=LIMIT)
    assert place.send(place.token("operation", abs, (-1,), {})).result(LIMIT) == 1
    assert len(observer.sent) == 3


# Failing, pausing


class Told(Recorder):
    """Records what few tokens do."""

    def token_failing(self, token: Token[Any], /) -> None:
        self.seen.append(("failing", (token.id, token.state, token.args)))

    def token_paused(self, token: Token[Any], /) -> None:
        self.seen.append(("paused", token.id))

    def token_resumed(self, token: Token[Any], /) -> None:
        self.seen.append(("resumed", token.id))


@pytest.fixture
def told(system: ActorSystem) -> Told:
    told = Told()
    system.add_observer(told)
    return told


def test_a_token_that_fails_is_told_of_while_its_arguments_are_there(
    base: type[BaseActor], start: Start, told: Told
) -> None:
    """Once, before its end, in the state that it was in; one that completes is not."""
    ref = start(make(base))
    good, bad = ref.ask(int, block=False), ref.ask([].pop, block=False)
    good.result(LIMIT)
    bad.exception(LIMIT)

    seen = [what for what in told.seen if what[1] == bad.id or what[0] == "failing"]
    assert [what for what, _ in seen] == ["queued", "started", "failing", "failed"]
    number, state, args = seen[2][1]
    assert (number, state, len(args)) == (bad.id, "running", 1)


def test_a_token_that_is_refused_or_withdrawn_fails_with_its_arguments(
    base: type[BaseActor], start: Start, told: Told
) -> None:
    """Neither has begun."""
    cls = make(base)
    cls.capacity, cls.overflow = 1, "reject"
    ref = start(cls)
    ref.actor_inbox.suspend()
    queued, refused = ref.ask(int, block=False), ref.ask(int, block=False)
    assert queued.cancel()
    ref.actor_inbox.resume()

    failing = [what[1] for what in told.seen if what[0] == "failing"]
    assert failing == [(refused.id, "created", (int,)), (queued.id, "queued", (int,))]
