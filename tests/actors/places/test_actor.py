"""What every kind of actor promises: run over CpuActor and IoActor."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import traceback
import uuid
from collections.abc import Callable
from typing import Any

import pykka
import pytest
import trio
from shared_lists import Boom

from actors import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    ActorDead,
    ActorSystem,
    BaseActor,
    DeadLetter,
    ExitReason,
    MailboxFull,
    Observer,
    StartFailed,
    Token,
    TokenFailed,
    TokenState,
    TokenTerminated,
    UnknownActor,
    current_token,
)
from actors.lowlevel import ActorPlace, Status

LIMIT = 30.0


class Ledger:
    """What the instances of a test's actor class did, in order, and their owners."""

    def __init__(self, events: Any) -> None:
        self.events = events
        self.ends: list[tuple[ExitReason, bool]] = []
        self.ended = threading.Event()

    def owner(self, _place: ActorPlace, reason: ExitReason, administrative: bool) -> None:
        self.ends.append((reason, administrative))
        self.ended.set()

    def restarter(self, place: ActorPlace, reason: ExitReason, administrative: bool) -> None:
        self.owner(place, reason, administrative)
        if not administrative:
            place.start()


@pytest.fixture
def ledger(new_list: Any) -> Ledger:
    return Ledger(new_list())


def make(base: type[BaseActor], ledger: Ledger, door: Any = None) -> type[BaseActor]:
    events = ledger.events

    class Worker(base):  # type: ignore[misc, valid-type]
        expected = (LookupError,)

        def __init__(self) -> None:
            super().__init__()
            events.append("init")

        def on_start(self) -> None:
            events.append("on_start")

        def on_stop(self) -> None:
            events.append("on_stop")

        def on_failure(self, exception_type: Any, exception_value: Any, frames: Any) -> None:
            kind = exception_type.__name__
            events.append(("on_failure", kind, exception_value.args, frames is not None))

        def note(self, thing: Any) -> Any:
            events.append(thing)
            return thing

        def fail(self, error: BaseException) -> None:
            raise error

        def block(self) -> str:
            door.pass_through()
            return "late"

        def end(self) -> None:
            self.stop()

    return Worker


def same(one: BaseException | None, other: BaseException) -> bool:
    """Tell whether an error is another one, or its copy from a child process."""
    return one is other or (type(one) is type(other) and one.args == other.args and hasattr(one, "__notes__"))


def open_place(system: ActorSystem, cls: type[BaseActor], owner: Any) -> ActorPlace:
    place = system.place("worker", cls, owner=owner)
    place.start().result(LIMIT)
    return place


# Life


def test_hooks_run_in_order_around_the_messages(base: Any, start: Any, ledger: Ledger) -> None:
    """`__init__`, `on_start`, messages, `on_stop`."""
    ref = start(make(base, ledger))
    ref.proxy().note(1).result(LIMIT)
    ref.stop(timeout=LIMIT)

    assert ledger.events == ["init", "on_start", 1, "on_stop"]


def test_an_actor_that_was_made_by_hand_is_an_object_for_unit_tests(base: Any, ledger: Ledger) -> None:
    """As in pykka its methods can be tried, it has a ref that takes messages, which nothing runs, and it can stop."""
    actor = make(base, ledger)()
    ref = actor.actor_ref
    ref.tell("kept")
    token = ref.ask("asked", block=False)

    assert actor.note(1) == 1
    assert uuid.UUID(actor.actor_urn).version == 4
    assert (actor.actor_urn, actor.actor_ref, str(actor)) == (ref.actor_urn, ref, str(ref))
    assert (ref.is_alive(), token.state, actor.actor_inbox.size) == (True, "queued", 2)
    actor.stop()
    assert (ref.is_alive(), actor.actor_stopped.is_set()) == (True, False)
    assert ref not in pykka.ActorRegistry.get_all()
    assert ref.stop(timeout=LIMIT)
    assert (ref.is_alive(), actor.actor_stopped.is_set()) == (False, True)
    assert isinstance(token.exception(LIMIT), ActorDead)


@pytest.mark.parametrize("where", ["__init__", "on_start"])
def test_a_start_that_fails_raises_and_leaves_nothing(base: Any, start: Any, system: ActorSystem, where: str) -> None:
    """StartFailed chains the cause; no place, no name, no live token remains; others can be started."""

    class Broken(base):  # type: ignore[misc, valid-type]
        def __init__(self, error: BaseException) -> None:
            super().__init__()
            self.error = error
            if where == "__init__":
                raise error

        def on_start(self) -> None:
            raise self.error

    for number, error in enumerate((Boom("x"), SystemExit(1), KeyboardInterrupt()), 1):
        with pytest.raises(StartFailed, match=f"Broken-{number}") as caught:
            start(Broken, error)
        assert same(caught.value.__cause__, error)
        assert system.places() == []
        with pytest.raises(UnknownActor):
            system.find(f"Broken-{number}")
        assert not system.live

    assert start(base).is_alive()


def test_an_init_that_returns_something_fails(base: Any, start: Any) -> None:
    """As in Python; one that is async would never run."""

    class Broken(base):  # type: ignore[misc, valid-type]
        def __init__(self, result: int) -> None:
            return result  # type: ignore[return-value]  # noqa: PLE0101

    class Async(base):  # type: ignore[misc, valid-type]
        async def __init__(self) -> None: ...  # type: ignore[misc]

    with pytest.raises(StartFailed, match=r"__init__\(\) of Broken should return None, not 'int'"):
        start(Broken, 5)
    with pytest.raises(
        StartFailed, match=r"__init__\(\) of Async should return None, not 'coroutine': await in on_start"
    ):
        start(Async)


def test_a_ref_taken_in_init_works(base: Any, start: Any) -> None:
    """Mailbox, ref and name are the place's, and there before the user's `__init__` runs, super() or not."""

    class Early(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            self.early = self.actor_ref
            self.me = self.actor_ref.proxy()
            self.urn = self.actor_urn
            self.got: list[str] = []
            self.me.hear.defer("from init")
            super().__init__()

        def on_start(self) -> None:
            self.got.append("on_start")

        def hear(self, what: str) -> None:
            self.got.append(what)

    ref = start(Early)
    assert ref.proxy().early.get(timeout=LIMIT) is ref
    assert ref.proxy().urn.get(timeout=LIMIT) == ref.actor_urn

    assert ref.proxy().got.get(timeout=LIMIT) == ["on_start", "from init"]


def test_stop_drains_what_was_accepted(base: Any, start: Any, ledger: Ledger, doors: Any) -> None:
    """Everything accepted before the stop is handled, before `on_stop`; what comes later is refused."""
    door = doors()
    ref = start(make(base, ledger, door))
    proxy = ref.proxy()
    proxy.block()
    door.wait_reached()
    tokens = [proxy.note(number) for number in range(20)]
    stopped = ref.stop(block=False)
    with pytest.raises(ActorDead):
        ref.tell("late")
    door.open()
    assert stopped.get(timeout=LIMIT) is True
    assert [token.result(LIMIT) for token in tokens] == list(range(20))

    assert ledger.events == ["init", "on_start", *range(20), "on_stop"]


def test_a_stop_without_draining_takes_effect_after_the_current_step(
    base: Any, system: ActorSystem, ledger: Ledger, door: Any
) -> None:
    """The control lane is ahead: the queue is not handled, and waits for the next instance."""
    place = open_place(system, make(base, ledger, door), ledger.owner)
    proxy = place.ref.proxy()
    proxy.block()
    door.wait_reached()
    tokens = [proxy.note(number) for number in range(3)]
    stopped = place.stop(SHUTDOWN, drain=False, administrative=False)
    door.open()
    assert stopped.result(LIMIT) == SHUTDOWN
    assert ledger.events == ["init", "on_start", "on_stop"]
    assert ledger.ends == [(SHUTDOWN, False)]
    assert [token.state for token in tokens] == [TokenState.QUEUED] * 3
    assert place.is_alive()
    place.start().result(LIMIT)

    assert [token.result(LIMIT) for token in tokens] == [0, 1, 2]


def test_a_stop_without_draining_ends_the_queue_of_an_unowned_place(
    base: Any, start: Any, ledger: Ledger, door: Any
) -> None:
    """Nobody will start it again, so what is queued ends terminated, with ActorDead."""
    ref = start(make(base, ledger, door))
    ref.proxy().block()
    door.wait_reached()
    token = ref.proxy().note(1)
    stopped = ref._place.stop(drain=False, administrative=True)
    door.open()
    assert stopped.result(LIMIT) == NORMAL
    with pytest.raises(ActorDead):
        token.result(LIMIT)

    assert token.state is TokenState.TERMINATED


def test_an_actor_that_stops_itself_finishes_what_is_queued(
    base: Any, system: ActorSystem, ledger: Ledger, door: Any
) -> None:
    """`self.stop()` ends it normally, not administratively, after all that is in the mailbox."""
    place = open_place(system, make(base, ledger, door), ledger.owner)
    proxy = place.ref.proxy()
    proxy.block()
    door.wait_reached()
    proxy.end()
    token = proxy.note("queued behind")
    door.open()
    assert token.result(LIMIT) == "queued behind"
    assert ledger.ended.wait(LIMIT)

    assert ledger.ends == [(NORMAL, False)]


def test_an_error_in_on_stop_is_logged_and_the_stop_is_answered(
    base: Any, start: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken hook does not keep an actor from ending, and is not silent."""

    class Broken(base):  # type: ignore[misc, valid-type]
        def on_stop(self) -> None:
            raise Boom("in on_stop")

    with caplog.at_level(logging.ERROR):
        assert start(Broken).stop(timeout=LIMIT)

    assert "in on_stop" in caplog.text


# Failure


def test_a_crash_ends_the_actor_that_nobody_owns(
    base: Any, start: Any, doors: Any, system: ActorSystem, new_list: Any
) -> None:
    """The caller gets the exception, the place is closed, its queue ends with ActorDead; all others live on."""
    other = start(make(base, Ledger(new_list())))
    for error in (Boom("x"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()):
        crash_one(system, start, base, Ledger(new_list()), doors(), error)

        assert other.proxy().note(1).result(LIMIT) == 1


def crash_one(system: ActorSystem, start: Any, base: Any, ledger: Ledger, door: Any, error: BaseException) -> None:
    """Crash an actor that has messages, and see what becomes of it and of these."""
    ref = start(make(base, ledger, door))
    proxy = ref.proxy()
    proxy.block()
    door.wait_reached()
    failing = proxy.fail(error)
    queued = [proxy.note(number) for number in range(3)]
    door.open()
    assert same(failing.exception(LIMIT), error)
    assert failing.state is TokenState.FAILED
    if not isinstance(error, Exception):
        with pytest.raises(TokenFailed) as caught:
            failing.result()
        assert caught.value.__cause__ is failing.exception()
    for token in queued:
        with pytest.raises(ActorDead):
            token.result(LIMIT)
        assert token.state is TokenState.TERMINATED
    ref.stop(timeout=LIMIT)
    assert not ref.is_alive()
    assert ledger.events == ["init", "on_start", ("on_failure", type(error).__name__, error.args, True)]
    with pytest.raises(UnknownActor):
        system.find(ref.path)


def test_a_crash_is_logged_once(base: Any, start: Any, ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """Failures are always logged, once."""
    ref = start(make(base, ledger))
    with caplog.at_level(logging.INFO):
        ref.proxy().fail(Boom("the crash")).exception(LIMIT)
        ref.stop(timeout=LIMIT)

    assert [record.getMessage() for record in caplog.records].count(f"Unhandled exception in {ref}:") == 1
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info] == [("the crash",)]


@pytest.mark.parametrize("crash", [True, False])
def test_an_actor_that_nobody_supervises_is_dead_before_its_last_hook(local_base: Any, crash: bool) -> None:
    """In `on_stop` and `on_failure` it accepts nothing and is not in pykka's registry any more, as in pykka."""
    # Without a process: the default system would keep its fork server for all other tests. See test_process_actor.
    seen: list[Any] = []

    class Last(local_base):  # type: ignore[misc]
        def on_stop(self) -> None:
            seen.append((self.actor_ref.is_alive(), pykka.ActorRegistry.get_by_urn(self.actor_urn)))

        def on_failure(self, *_: object) -> None:
            self.on_stop()

        def crash(self) -> None:
            raise Boom

    ref = Last.start()
    assert pykka.ActorRegistry.get_by_urn(ref.actor_urn) is ref
    if crash:
        ref.proxy().crash().exception(LIMIT)
    ref.stop(timeout=LIMIT)

    assert seen == [(False, None)]


def test_an_expected_exception_is_logged_as_an_answer(
    base: Any, start: Any, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """Failures are never silent, even if nobody asked for the answer; this one is no error."""
    ref = start(make(base, ledger))
    with caplog.at_level(logging.INFO):
        ref.proxy().fail.defer(LookupError("asked to"))
        ref.stop(timeout=LIMIT)

    assert [(r.levelno, r.getMessage()) for r in caplog.records if r.exc_info] == [
        (logging.INFO, f"Exception returned from {ref} to caller:")
    ]


def test_an_expected_exception_is_an_answer(base: Any, start: Any, ledger: Ledger) -> None:
    """What the class names in `expected`, or a subclass of it, is replied to the caller and ends nothing."""
    ref = start(make(base, ledger))
    for error in (LookupError("a"), KeyError("b")):
        assert same(ref.proxy().fail(error).exception(LIMIT), error)
    assert ref.proxy().note("alive").result(LIMIT) == "alive"

    assert ledger.events == ["init", "on_start", "alive"]


def test_the_traceback_of_a_failure_begins_in_the_users_code(local_base: Any, start: Any, ledger: Ledger) -> None:
    """The runtime's own frames say nothing to the user."""
    # A traceback cannot leave a process; test_process_actor has what stands for it.
    error = start(make(local_base, ledger)).proxy().fail(Boom("x")).exception(LIMIT)
    assert error is not None
    assert error.__traceback__ is not None

    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == ["fail"]


def test_queued_tokens_survive_a_crash_in_order(base: Any, system: ActorSystem, ledger: Ledger, door: Any) -> None:
    """They are handled by the new instance; the failing one is not redelivered; ref, proxy and urn stay valid."""
    place = open_place(system, make(base, ledger, door), ledger.restarter)
    ref, proxy, urn = place.ref, place.ref.proxy(), place.ref.actor_urn
    proxy.block()
    door.wait_reached()
    error = Boom("once")
    failing = proxy.fail(error)
    tokens = [proxy.note(number) for number in range(10)]
    door.open()
    assert [token.result(LIMIT) for token in tokens] == list(range(10))
    assert same(failing.exception(), error)
    assert (failing.attempt, failing.steps) == (1, 1)
    assert (ref, urn) == (place.ref, place.ref.actor_urn)
    assert ref.is_alive()
    assert ledger.ends == [(ExitReason("error", failing.exception()), False)]

    assert ledger.events == [
        "init", "on_start", ("on_failure", "Boom", ("once",), True), "init", "on_start", *range(10),
    ]  # fmt: skip


def test_a_place_is_alive_between_two_instances(base: Any, system: ActorSystem, ledger: Ledger) -> None:
    """While nobody has started it anew, it accepts and keeps what is sent."""
    place = open_place(system, make(base, ledger), ledger.owner)
    place.ref.proxy().fail(Boom()).exception(LIMIT)
    assert ledger.ended.wait(LIMIT)
    token = place.ref.proxy().note("patience")
    assert place.ref.is_alive()
    assert token.state is TokenState.QUEUED
    place.start().result(LIMIT)

    assert token.result(LIMIT) == "patience"


def test_a_restart_that_fails_can_be_tried_again(base: Any, system: ActorSystem, new_list: Any) -> None:
    """StartFailed comes through the reply; the place stays vacant, with its queue."""
    mended = new_list()

    class Moody(base):  # type: ignore[misc, valid-type]
        def on_start(self) -> None:
            if not mended:
                raise Boom

        def on_receive(self, message: Any) -> Any:
            return message

    place = system.place("moody", Moody, owner=lambda *_: None)
    token = place.ref.ask(1, block=False)
    for _ in range(3):
        with pytest.raises(StartFailed):
            place.start().result(LIMIT)
        assert place.status is Status.VACANT
    mended.append("mended")
    place.start().result(LIMIT)

    assert token.result(LIMIT) == 1


def test_a_place_that_runs_cannot_be_started_again(base: Any, system: ActorSystem, ledger: Ledger) -> None:
    """The second start is refused, and the instance that runs is not disturbed."""
    place = open_place(system, make(base, ledger), ledger.owner)
    with pytest.raises(StartFailed, match="running"):
        place.start().result(LIMIT)
    assert place.ref.proxy().note(1).result(LIMIT) == 1

    assert ledger.events == ["init", "on_start", 1]


def test_an_administrative_stop_says_so_to_the_owner(base: Any, system: ActorSystem, ledger: Ledger) -> None:
    """`ref.stop()` is never answered by a restart: the owner is told that somebody asked."""
    place = open_place(system, make(base, ledger), ledger.restarter)
    assert place.ref.stop(timeout=LIMIT)
    assert ledger.ends == [(NORMAL, True)]

    assert not place.ref.is_alive()


def test_a_closed_place_is_gone_for_good(base: Any, system: ActorSystem, ledger: Ledger) -> None:
    """It can't be started again, its name is free, its stops are answered."""
    place = open_place(system, make(base, ledger), ledger.owner)
    place.ref.stop(timeout=LIMIT)
    place.close(NORMAL)
    with pytest.raises(ActorDead):
        place.start().result(LIMIT)
    assert place.ref.stop(timeout=LIMIT) is False

    assert open_place(system, make(base, ledger), ledger.owner).path == place.path


def test_crashes_that_race_sends_lose_nothing(
    base: Any, system: ActorSystem, ledger: Ledger, race: Any, seed: int, rounds: Callable[[int], int]
) -> None:
    """With restarts under load, each token sent completes, or is one of those that crashed."""
    chance = random.Random(seed)
    place = open_place(system, make(base, ledger), ledger.restarter)
    proxy = place.ref.proxy()
    plans = [[chance.random() < 0.1 for _ in range(rounds(60))] for _ in range(3)]

    def send(sender: int) -> list[Any]:
        return [proxy.fail(Boom()) if crash else proxy.note((sender, n)) for n, crash in enumerate(plans[sender])]

    for sender, tokens in enumerate(race(*[lambda s=s: send(s) for s in range(3)])):
        for number, (token, crash) in enumerate(zip(tokens, plans[sender], strict=True)):
            if crash:
                assert isinstance(token.exception(LIMIT), Boom)
            else:
                assert token.result(LIMIT) == (sender, number)
    proxy.note("after the last restart").result(LIMIT)  # a stop in the middle of a crash would be one end with it
    place.ref.stop(timeout=LIMIT)
    notes = [event for event in ledger.events if isinstance(event, tuple) and event[0] != "on_failure"]
    for sender in range(3):
        expected = [n for n, crash in enumerate(plans[sender]) if not crash]
        assert expected == [n for s, n in notes if s == sender]

    assert len(ledger.ends) == sum(map(sum, plans)) + 1


# Sending


def test_on_start_runs_after_registration_and_before_the_first_message(
    base: Any, start: Any, system: Any, new_list: Any
) -> None:
    """Case 37. on_start runs after registration and before the first message."""
    seen = new_list()

    def is_known(ref: Any) -> bool:
        return system.find(ref.path).ref is ref

    if base.affinity == "process":  # which sees what it was told only after the test has asked for it

        def is_known(ref: Any) -> bool:
            return bool(ref.is_alive())

    class Clerk(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.actor_ref.tell("first")

        def on_start(self) -> None:
            seen.append(is_known(self.actor_ref))

        def on_receive(self, message: Any) -> None:
            seen.append(message)

    start(Clerk).ask("second", timeout=LIMIT)

    assert seen == [True, "first", "second"]


def test_many_threads_to_one_actor(base: Any, start: Any, race: Any, new_list: Any) -> None:
    """Case 34. Many threads send to one actor: handlers never overlap, none is lost; the order of each is kept."""
    inside = [0]
    overlaps = new_list()
    written = new_list()

    class Counter(base):  # type: ignore[misc, valid-type]
        def on_receive(self, message: Any) -> None:
            inside[0] += 1
            written.append(message)
            if inside[0] != 1:
                overlaps.append(inside[0])
            inside[0] -= 1

    ref, each = start(Counter), 50 if base.affinity == "process" else 400  # a process writes each to a file
    race(*[lambda s=s: [ref.tell((s, n)) for n in range(each)] for s in range(6)])
    assert ref.stop(timeout=LIMIT)
    got = list(written)
    assert not overlaps
    assert len(got) == 6 * each

    assert {s: [n for sender, n in got if sender == s] for s in range(6)} == {s: list(range(each)) for s in range(6)}


@pytest.fixture
def small(base: Any, start: Any, ledger: Ledger, door: Any) -> Callable[..., Any]:
    """Start an actor that is busy and has a small, full mailbox."""

    def full(overflow: str, capacity: int = 2) -> tuple[Any, list[Any]]:
        cls = make(base, ledger, door)
        cls.capacity, cls.overflow = capacity, overflow  # type: ignore[assignment]
        proxy = start(cls).proxy()
        proxy.block()
        door.wait_reached()
        return proxy, [proxy.note(number) for number in range(capacity)]

    return full


def test_a_thread_waits_for_room(small: Any, door: Any, ledger: Ledger, race: Any, until: Any) -> None:
    """`wait`: senders on ordinary threads wait, and all is handled."""
    proxy, inside = small("wait")
    box = proxy.actor_ref.actor_inbox

    def open_when_all_wait() -> None:
        until(lambda: box.statistics().senders_waiting == 4)
        door.open()

    *outside, _ = race(*[lambda n=n: proxy.note(("outside", n)) for n in range(4)], open_when_all_wait)
    results = [token.result(LIMIT) for token in [*inside, *outside]]

    assert results == [0, 1, *[("outside", n) for n in range(4)]]


def test_a_sender_that_waits_for_room_learns_of_the_end(small: Any, door: Any, race: Any, until: Any) -> None:
    """A stop while it waits refuses its token; it does not hang."""
    proxy, inside = small("wait")
    ref = proxy.actor_ref

    def stop() -> None:
        until(lambda: ref.actor_inbox.statistics().senders_waiting == 2)
        ref.stop(block=False)
        door.open()

    first, second, _ = race(lambda: proxy.note("a"), lambda: proxy.note("b"), stop)
    assert [token.result(LIMIT) for token in inside] == [0, 1]
    for token in (first, second):
        assert isinstance(token.exception(LIMIT), ActorDead)

    assert {first.state, second.state} == {TokenState.REJECTED}


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_a_task_awaits_room(small: Any, door: Any, ledger: Ledger, until: Any, loop: str) -> None:
    """The awaiting form waits for room without blocking its loop."""
    proxy, _ = small("wait")
    ref = proxy.actor_ref

    async def in_trio() -> Any:
        with trio.fail_after(LIMIT):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(opening)
                return await ref._place.send_async(ref._place.token("w", ("note",), ("x",), {}))

    async def opening() -> None:
        await trio.to_thread.run_sync(until, lambda: ref.actor_inbox.statistics().senders_waiting == 1)
        door.open()

    async def in_asyncio() -> Any:
        sending = asyncio.ensure_future(ref._place.send_async(ref._place.token("w", ("note",), ("x",), {})))
        await asyncio.to_thread(until, lambda: ref.actor_inbox.statistics().senders_waiting == 1)
        door.open()
        return await sending

    token = trio.run(in_trio) if loop == "trio" else asyncio.run(in_asyncio())

    assert token.result(LIMIT) == "x"


def test_a_task_that_gives_up_awaiting_room_leaves_nothing(small: Any, door: Any) -> None:
    """Cancelled while it waits, the token is rejected and the sender is forgotten."""
    proxy, inside = small("wait")
    place = proxy.actor_ref._place
    token = place.token("w", ("note",), ("x",), {})

    async def main() -> bool:
        with trio.move_on_after(0) as scope:
            await place.send_async(token)
        return scope.cancelled_caught

    assert trio.run(main)
    assert token.state is TokenState.REJECTED
    assert place.mailbox.statistics().senders_waiting == 0
    door.open()

    assert [token.result(LIMIT) for token in inside] == [0, 1]


def test_a_blocking_send_on_a_trio_thread_raises(small: Any) -> None:
    """On a loop's thread a full mailbox raises MailboxFull instead of blocking the loop."""
    proxy, _ = small("wait")

    async def main() -> None:
        with pytest.raises(MailboxFull, match="await"):
            proxy.actor_ref.tell("x")

    trio.run(main)


@pytest.mark.parametrize("overflow", ["reject", "drop_newest"])
def test_a_refused_token_is_rejected_and_a_dead_letter(
    small: Any, door: Any, system: ActorSystem, overflow: str
) -> None:
    """What is refused at the door never runs, and does not disappear."""
    proxy, inside = small(overflow)
    letters: list[Any] = []
    unsubscribe = system.subscribe(letters.append)
    token = proxy.note("x")
    assert token.state is TokenState.REJECTED
    with pytest.raises(MailboxFull, match=proxy.actor_ref.path):
        token.result()
    if overflow == "reject":
        with pytest.raises(MailboxFull):
            proxy.actor_ref.tell("y")
    unsubscribe()
    assert [letter.token for letter in letters][:1] == [token]
    door.open()

    assert [token.result(LIMIT) for token in inside] == [0, 1]


def test_a_dropped_token_is_terminated_and_a_dead_letter(small: Any, door: Any, system: ActorSystem) -> None:
    """`drop_oldest`: the newcomer is accepted, the oldest ends and is reported."""
    proxy, inside = small("drop_oldest")
    letters: list[Any] = []
    system.subscribe(letters.append)
    newest = proxy.note("x")
    with pytest.raises(TokenTerminated):
        inside[0].result(LIMIT)
    assert [(type(letter), letter.token) for letter in letters] == [(DeadLetter, inside[0])]
    door.open()

    assert [inside[1].result(LIMIT), newest.result(LIMIT)] == [1, "x"]


def test_an_actor_whose_own_mailbox_is_full_gets_an_error(base: Any, start: Any) -> None:
    """A send to oneself never blocks: with room for one, the second tell to oneself raises MailboxFull."""

    class Chatty(base):  # type: ignore[misc, valid-type]
        capacity = 1
        expected = (MailboxFull,)

        def on_receive(self, message: Any) -> Any:
            if message == "again":
                self.actor_ref.tell("one")
                self.actor_ref.tell("two")
            return message

    ref = start(Chatty)
    with pytest.raises(MailboxFull, match="itself"):
        ref.ask("again", timeout=LIMIT)

    assert ref.ask("x", timeout=LIMIT) == "x"


def test_an_actor_that_awaits_a_send_to_itself_gets_an_error(start: Any) -> None:
    """The awaiting form does not deadlock either."""
    from actors import IoActor

    class Chatty(IoActor):
        capacity = 1
        expected = (MailboxFull,)

        async def on_receive(self, message: Any) -> Any:
            if message == "again":
                self.actor_ref.tell("one")
                await self.actor_ref.call("two")
            return message

    ref = start(Chatty)
    with pytest.raises(MailboxFull):
        ref.ask("again", timeout=LIMIT)

    assert ref.ask("x", timeout=LIMIT) == "x"


def test_higher_priorities_overtake_in_the_mailbox(base: Any, start: Any, ledger: Ledger, door: Any) -> None:
    """An urgent token comes next, whatever is queued."""
    ref = start(make(base, ledger, door))
    place = ref._place
    ref.proxy().block()
    door.wait_reached()
    tokens = [place.send(place.token("note", ("note",), (p,), {}, p)) for p in (0, -3, 7, 0, 10**20)]
    door.open()
    for token in tokens:
        token.result(LIMIT)

    assert ledger.events[2:] == [10**20, 7, 0, 0, -3]


def test_a_queued_token_can_be_cancelled(base: Any, start: Any, ledger: Ledger, door: Any) -> None:
    """It never runs, and those around it do."""
    proxy = start(make(base, ledger, door)).proxy()
    proxy.block()
    door.wait_reached()
    tokens = [proxy.note(number) for number in range(3)]
    assert tokens[1].cancel()
    door.open()
    assert [tokens[0].result(LIMIT), tokens[2].result(LIMIT)] == [0, 2]

    assert ledger.events[2:] == [0, 2]


def test_a_suspended_actor_queues_and_handles_in_order_when_resumed(base: Any, start: Any, ledger: Ledger) -> None:
    """Case 33. Suspended: queues but does not handle; resumed: handles in order. Held twice, it needs two resumes."""
    ref = start(make(base, ledger))
    box = ref.actor_inbox
    box.suspend()
    box.suspend()
    tokens = [ref.proxy().note(number) for number in range(5)]
    stopped = ref._place.stop(drain=True, administrative=True)
    box.resume()
    assert not stopped.done()
    assert [token.state for token in tokens] == [TokenState.QUEUED] * 5
    box.resume()
    assert stopped.result(LIMIT) == NORMAL

    assert ledger.events == ["init", "on_start", 0, 1, 2, 3, 4, "on_stop"]


def test_a_draining_actor_whose_last_tokens_are_cancelled_ends(base: Any, start: Any, ledger: Ledger) -> None:
    """Held with a queue, told to stop, the queue withdrawn: after the resume it ends, nobody hangs."""
    ref = start(make(base, ledger))
    ref.actor_inbox.suspend()
    tokens = [ref.proxy().note(number) for number in range(3)]
    stopped = ref._place.stop(drain=True, administrative=True)
    assert all(token.cancel() for token in tokens)
    ref.actor_inbox.resume()
    assert stopped.result(LIMIT) == NORMAL

    assert ledger.events == ["init", "on_start", "on_stop"]


@pytest.mark.parametrize("drain", [True, False])
def test_sends_that_race_a_stop_are_handled_or_refused(
    base: Any, start: Any, race: Any, seed: int, rounds: Callable[[int], int], drain: bool
) -> None:
    """No asker hangs: each send is answered by the handler, or by ActorDead."""

    class Echo(base):  # type: ignore[misc, valid-type]
        def on_receive(self, message: Any) -> Any:
            return message

    for _ in range(rounds(8 if base.affinity == "process" else 30)):
        ref = start(Echo)

        def send(ref: Any = ref) -> list[Any]:
            return [ref.ask(number, block=False) for number in range(5)]

        def stop(ref: Any = ref) -> None:
            ref._place.stop(drain=drain, administrative=True).result(LIMIT)

        *sent, _ = race(send, send, stop)
        for tokens in sent:
            for number, token in enumerate(tokens):
                error = token.exception(LIMIT)
                assert isinstance(error, ActorDead) or (error is None and token.result() == number)
                assert not drain or error is None or token.state is TokenState.REJECTED


# Steps


def test_a_generator_handler_that_yields_a_value_fails(base: Any, start: Any) -> None:
    """Nothing would receive it."""

    class Walker(base):  # type: ignore[misc, valid-type]
        expected = (TypeError,)

        def walk(self) -> Any:
            yield
            yield "a"

    with pytest.raises(TypeError, match="'walk' yielded 'a', which nothing receives"):
        start(Walker).proxy().walk().result(LIMIT)


def test_a_generator_handler_is_run_step_by_step(base: Any, start: Any, door: Any) -> None:
    """Others get in between two steps; its return value is the result; steps are counted."""

    class Walker(base):  # type: ignore[misc, valid-type]
        def walk(self) -> Any:
            steps = 1
            while not door.is_open:
                steps += 1
                yield
            return steps

    class Neighbour(base):  # type: ignore[misc, valid-type]
        def run(self) -> None:
            door.is_open = True

    walkers = [start(Walker).proxy() for _ in range(4)]  # more than there are threads
    tokens = [walker.walk() for walker in walkers]
    start(Neighbour).proxy().run().result(LIMIT)

    assert [token.result(LIMIT) for token in tokens] == [token.steps for token in tokens]


def test_a_generator_that_fails_fails_its_token(base: Any, start: Any) -> None:
    """An exception from a later step is the token's."""

    class Walker(base):  # type: ignore[misc, valid-type]
        expected = (Boom,)

        def walk(self) -> Any:
            yield
            raise Boom("second step")

    token = start(Walker).proxy().walk()
    with pytest.raises(Boom, match="second step"):
        token.result(LIMIT)

    assert token.steps == 2


def test_cancelling_between_two_steps_runs_finally_blocks(base: Any, start: Any, door: Any, new_list: Any) -> None:
    """The generator is closed in its own context, and the actor goes on with the next token."""
    closed = new_list()

    class Walker(base):  # type: ignore[misc, valid-type]
        def walk(self) -> Any:
            try:
                while True:
                    door.reached.set()
                    yield
            finally:
                closed.append(current_token().id)  # type: ignore[union-attr]

        def rest(self) -> str:
            return "rested"

    proxy = start(Walker).proxy()
    token = proxy.walk()
    door.wait_reached()
    assert not token.cancel()
    with pytest.raises(TokenTerminated, match="cancelled"):
        token.result(LIMIT)
    assert token.state is TokenState.TERMINATED

    assert (proxy.rest().result(LIMIT), closed) == ("rested", [token.id])


def test_a_stop_ends_a_generator_between_two_steps(base: Any, start: Any, door: Any, new_list: Any) -> None:
    """An ordered stop without draining takes effect after the current step; its `finally` blocks run."""
    closed = new_list()

    class Walker(base):  # type: ignore[misc, valid-type]
        def walk(self) -> Any:
            try:
                while True:
                    door.reached.set()
                    yield
            finally:
                closed.append("closed")

        def on_stop(self) -> None:
            closed.append("on_stop")

    ref = start(Walker)
    token = ref.proxy().walk()
    door.wait_reached()
    assert ref._place.stop(drain=False, administrative=True).result(LIMIT) == NORMAL
    with pytest.raises(TokenTerminated):
        token.result(LIMIT)

    assert closed == ["closed", "on_stop"]


def test_a_generator_that_a_method_hands_out_is_a_value(local_base: Any, start: Any) -> None:
    """Only a generator function is stepped through."""

    class Giver(local_base):  # type: ignore[misc, valid-type]  # no generator can leave a process
        def give(self) -> Any:
            return (number for number in range(3))

    assert list(start(Giver).proxy().give().result(LIMIT)) == [0, 1, 2]


# Sealing


def test_a_sealed_instance_is_replaced_and_its_late_result_dropped(
    base: Any, system: ActorSystem, ledger: Ledger, door: Any
) -> None:
    """What can't be ended is left behind: its token ends terminated, its place is served by a new instance."""
    if base.affinity in ("io", "asyncio"):
        pytest.skip("code that blocks the io loop holds the loop: see test_io_actor")
    place = open_place(system, make(base, ledger, door), ledger.owner)
    proxy = place.ref.proxy()
    stuck = proxy.block()
    door.wait_reached()
    queued = proxy.note("queued")
    place.terminate_running("it did not stop in time")
    with pytest.raises(TokenTerminated, match="in time"):
        stuck.result(LIMIT)
    place.start().result(LIMIT)
    assert queued.result(LIMIT) == "queued"
    door.open()
    assert proxy.note("after").result(LIMIT) == "after"

    assert (stuck.state, stuck._value) == (TokenState.TERMINATED, None)


def test_a_token_that_begins_as_its_instance_is_sealed_is_terminated(
    local_base: Any, system: ActorSystem, start: Any, caplog: Any
) -> None:
    """Its code never runs; that there is no instance is no error of it, and no crash."""

    class Plain(local_base):  # type: ignore[misc, valid-type]
        def ping(self) -> str:
            return "pong"

    ref = start(Plain)
    place = ref._place

    class Ends(Observer):
        def token_started(self, _token: Token[Any], /) -> None:
            place.instance = None  # another thread, in `terminate_running`, has come this far

    system.add_observer(Ends())
    for token in (ref.ask("message", block=False), ref.proxy().ping()):
        with pytest.raises(TokenTerminated, match="its actor was ended"):
            token.result(LIMIT)

    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_kill_that_follows_a_stop_runs_no_hook_of_the_instance_it_seals(
    base: Any, system: ActorSystem, doors: Any, rounds: Callable[[int], int], new_list: Any
) -> None:
    """A stop that waits in the control lane dies with the instance: its code never runs on two threads at once."""
    if base.affinity in ("io", "asyncio"):
        pytest.skip("code that blocks the io loop holds the loop: see test_io_actor")
    for number in range(rounds(3 if base.affinity == "process" else 10)):
        door, ledger = doors(), Ledger(new_list())
        place = system.place(f"worker-{number}", make(base, ledger, door), owner=ledger.owner)
        place.start().result(LIMIT)
        place.ref.proxy().block()
        door.wait_reached()
        stopped = place.stop(drain=False, administrative=False)
        place.terminate_running("it did not stop in time")
        reason = stopped.result(LIMIT)
        restarted = place.start()
        restarted.result(LIMIT)
        token = place.ref.proxy().note("served")
        assert token.result(LIMIT) == "served"
        door.open()
        place.ref.stop(timeout=LIMIT)

        assert ledger.events == ["init", "on_start", "init", "on_start", "served", "on_stop"]
        assert reason == KILLED


@pytest.mark.parametrize("hook", ["on_start", "on_stop", "on_failure"])
def test_a_hook_that_was_sealed_does_not_disturb_the_next_instance(
    start: Any, base: Any, system: ActorSystem, ledger: Ledger, door: Any, hook: str, until: Any, new_list: Any
) -> None:
    """When the code of a sealed hook returns at last, nothing comes of it; that of a process never does."""
    if base.affinity in ("io", "asyncio"):
        pytest.skip("code that blocks the io loop holds the loop: see test_io_actor")
    waited = new_list()

    class Stuck(base):  # type: ignore[misc, valid-type]
        def _maybe(self, which: str) -> None:
            if which == hook and not waited:
                waited.append(which)
                door.pass_through()

        def on_start(self) -> None:
            self._maybe("on_start")

        def on_stop(self) -> None:
            self._maybe("on_stop")

        def on_failure(self, *_: object) -> None:
            self._maybe("on_failure")

        def fail(self) -> None:
            raise Boom

        def ping(self) -> str:
            return "pong"

    place = system.place("stuck", Stuck, owner=ledger.owner)
    starting = place.start()
    if hook == "on_stop":
        starting.result(LIMIT)
        place.stop(drain=False, administrative=False)
    elif hook == "on_failure":
        starting.result(LIMIT)
        place.ref.proxy().fail()
    door.wait_reached()
    place.terminate_running("it did not stop in time")
    place.start().result(LIMIT)
    ends = list(ledger.ends)
    assert place.ref.proxy().ping().result(LIMIT) == "pong"
    assert len(system.statistics().abandoned) == (base.affinity != "process")
    door.open()
    # The late code has returned.
    until(lambda: system.dispatcher.statistics().abandoned == 0 and system.statistics().pinned <= 1)

    assert (place.status, place.instance is not None) == (Status.RUNNING, True)
    assert ledger.ends == ends
    assert place.ref.proxy().ping().result(LIMIT) == "pong"
