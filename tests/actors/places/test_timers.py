"""Timers: contract tests over both kinds of actors, on a clock that the test moves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any

import pytest
import trio.testing

from actors import (
    SHUTDOWN,
    ActorSystem,
    BaseActor,
    DeadLetter,
    ExitReason,
    ReceiveTimeout,
    Reply,
    Timer,
    TokenState,
    current_token,
)
from actors.lowlevel import ActorPlace
from actors.places._timers import _STALE_LIMIT

LIMIT = 30.0

Start = Callable[..., Any]
colour: ContextVar[str] = ContextVar("colour", default="none")


class Clock:
    """A clock that the test moves, for the system loop, too."""

    def __init__(self) -> None:
        self.now = 100.0
        self.system: ActorSystem | None = None

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass, and return when all that is due has been sent."""
        self.now += seconds
        self.settle()

    def settle(self) -> None:
        """Return when the system loop has nothing to do."""
        assert self.system is not None
        host = self.system.system_host
        host.call_soon(self.system.timers.look)
        host.run(trio.testing.wait_all_tasks_blocked).result(LIMIT)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def system(clock: Clock) -> Iterator[ActorSystem]:
    opened = ActorSystem("timed", threads=2, clock=clock, blocked_after=None)
    clock.system = opened
    opened.open()
    yield opened
    assert opened.close(LIMIT) == ()


def make(base: type[BaseActor], **attributes: Any) -> type[BaseActor]:
    """Make an actor that runs functions it is sent, with itself as the argument, and keeps all other messages."""

    class Sleeper(base):  # type: ignore[misc, valid-type]
        def __init__(self, begin: Callable[[Any], object] = id) -> None:
            super().__init__()
            self.begin = begin
            self.got: list[Any] = []

        def on_start(self) -> None:
            self.begin(self)

        def on_receive(self, message: Any) -> Any:
            if callable(message):
                return message(self)
            self.got.append(message)
            return None

    for name, value in attributes.items():
        setattr(Sleeper, name, value)
    return Sleeper


def got(ref: Any) -> list[Any]:
    """Return the messages that came before this call."""
    answer: list[Any] = ref.ask(lambda actor: list(actor.got), timeout=LIMIT)
    return answer


def restart(place: ActorPlace, _reason: ExitReason, administrative: bool) -> None:
    """Act as the owner of a place as the supervisor of a permanent child does."""
    if not administrative:
        place.start()


def crash(ref: Any) -> None:
    def boom(_actor: Any) -> None:
        raise LookupError("boom")  # a function of its own: a child process need not import this module for it

    with pytest.raises(LookupError):
        ref.ask(boom, timeout=LIMIT)


def test_a_message_comes_once_after_its_time(base: type[BaseActor], clock: Clock, start: Start) -> None:
    """`send_after` counts seconds of the system's clock, from `on_start` and from steps."""
    ref = start(make(base), lambda actor: actor.send_after(2, "first"))
    ref.ask(lambda actor: bool(actor.send_after(3.5, "second")), timeout=LIMIT)
    seen = []
    for seconds in (1.9, 0.2, 1.3, 0.2, 100):
        clock.advance(seconds)
        seen.append(got(ref))

    assert seen == [[], ["first"], ["first"], ["first", "second"], ["first", "second"]]


def test_messages_of_the_same_time_come_in_the_order_in_which_they_were_set(
    base: type[BaseActor], clock: Clock, start: Start
) -> None:
    """Zero seconds are allowed, too."""
    ref = start(make(base), lambda actor: [actor.send_after(0, number) for number in range(200)] and None)
    clock.settle()

    assert got(ref) == list(range(200))


def test_a_cancelled_timer_sends_nothing(base: type[BaseActor], clock: Clock, start: Start) -> None:
    """`cancel` tells whether it kept a message from coming."""

    def begin(actor: Any) -> None:
        actor.timer = actor.send_after(1, "never")
        actor.sent = actor.send_after(1, "sent")

    ref = start(make(base), begin)
    cancelled = ref.ask(lambda actor: actor.timer.cancel(), timeout=LIMIT)
    clock.advance(2)

    assert (cancelled, got(ref)) == (True, ["sent"])
    assert ref.ask(lambda actor: (actor.timer.cancel(), actor.sent.cancel()), timeout=LIMIT) == (False, False)


def test_a_timer_shows_what_became_of_it(local_base: type[BaseActor], clock: Clock, start: Start) -> None:
    """Whoever has one may print it; one of a process stays there."""
    ref = start(make(local_base))
    timer: Timer = ref.ask(lambda actor: actor.send_after(1, "never"), timeout=LIMIT)
    timer.cancel()
    clock.advance(2)

    assert (got(ref), timer.cancel()) == ([], False)
    assert "cancelled" in repr(timer)


def test_a_queued_message_of_a_cancelled_timer_gets_to_nobody(
    local_base: type[BaseActor], clock: Clock, start: Start, system: ActorSystem
) -> None:
    """After `cancel` no message comes, not even one that is queued; its token ends as terminated."""
    ref = start(make(local_base))
    timer: Timer = ref.ask(lambda actor: actor.send_after(1, "never"), timeout=LIMIT)
    ref.actor_inbox.suspend()
    clock.advance(2)
    (token,) = system.live.values()
    cancelled = timer.cancel()
    ref.actor_inbox.resume()

    assert got(ref) == []
    assert (cancelled, token.state) == (True, TokenState.TERMINATED)


def test_a_message_that_waits_behind_the_step_that_cancels_its_timer_gets_to_nobody(
    base: type[BaseActor], clock: Clock, start: Start, door: Any
) -> None:
    """The actor may cancel it itself, wherever it is, while the message is in its mailbox."""
    if base.affinity in ("io", "asyncio"):
        pytest.skip("code that waits at a door holds the loop")

    def begin(actor: Any) -> None:
        actor.timer = actor.send_after(1, "never")

    def wait_and_cancel(actor: Any) -> bool:
        door.pass_through()
        return bool(actor.timer.cancel())

    ref = start(make(base), begin)
    cancelling = ref.ask(wait_and_cancel, block=False)
    door.wait_reached()
    clock.advance(2)
    queued = ref.actor_inbox.size
    door.open()

    assert (queued, cancelling.result(LIMIT), got(ref)) == (1, True, [])


def test_ticks_come_every_period_until_they_are_cancelled(base: type[BaseActor], clock: Clock, start: Start) -> None:
    """The first comes after one period."""

    def begin(actor: Any) -> None:
        actor.timer = actor.send_every(10, "tick")

    ref = start(make(base), begin)
    counts = []
    for _ in range(3):
        clock.advance(10)
        counts.append(len(got(ref)))
    ref.ask(lambda actor: actor.timer.cancel(), timeout=LIMIT)
    clock.advance(100)

    assert counts == [1, 2, 3]
    assert len(got(ref)) == 3


def test_ticks_never_pile_up(base: type[BaseActor], clock: Clock, start: Start) -> None:
    """A tick is skipped while the one before is queued; ticks that the system was late for are left out."""
    ref = start(make(base), lambda actor: actor.send_every(1, "tick"))
    ref.actor_inbox.suspend()
    for _ in range(5):
        clock.advance(1)
    depth = ref.actor_inbox.statistics().depth
    ref.actor_inbox.resume()
    first = got(ref)
    clock.advance(50)

    assert (depth, first, got(ref)) == (1, ["tick"], ["tick", "tick"])


def test_timers_die_with_the_instance_that_crashes(base: type[BaseActor], clock: Clock, system: ActorSystem) -> None:
    """Neither a pending message nor a queued one of the old instance gets to the new one."""
    place = system.place("sleeper", make(base), owner=restart)
    place.start().result(LIMIT)
    ref = place.ref

    def arm(actor: Any) -> None:
        actor.send_after(1, "queued")
        actor.send_after(5, "pending")
        actor.send_every(1, "tick")

    def boom(_actor: Any) -> None:
        raise LookupError("boom")

    ref.ask(arm, timeout=LIMIT)
    place.mailbox.suspend()
    crashing = ref.ask(boom, block=False)
    clock.advance(1)
    place.mailbox.resume()
    crashing.exception(LIMIT)
    clock.advance(20)

    assert got(ref) == []
    assert len(system.timers) == 0


def test_timers_die_with_the_instance_that_stops_or_is_sealed(
    base: type[BaseActor], clock: Clock, start: Start, system: ActorSystem
) -> None:
    """An orderly end, a sealed instance and a failed start leave no timer behind."""

    def fail(actor: Any) -> None:
        actor.send_every(1, "tick")
        raise LookupError("boom")

    stopped = start(make(base), lambda actor: actor.send_every(1, "tick"))
    stopped.stop()
    sealed = system.place("sealed", make(base), (lambda actor: actor.send_every(1, "tick"),), owner=restart)
    sealed.start().result(LIMIT)
    sealed.terminate_running("the test wants it")
    failed = system.place("failed", make(base), (fail,), owner=restart)
    failed.start().exception(LIMIT)

    assert len(system.timers) == 0


def test_a_full_mailbox_makes_a_dead_letter_and_nobody_waits(
    base: type[BaseActor], clock: Clock, start: Start, system: ActorSystem
) -> None:
    """The system loop goes on, and so does a periodic timer."""
    letters: SimpleQueue[object] = SimpleQueue()
    system.subscribe(letters.put)
    ref = start(make(base, capacity=1), lambda actor: actor.send_every(1, "tick"))
    ref.actor_inbox.suspend()
    ref.tell("only one fits")
    clock.advance(1)
    letter = letters.get(timeout=LIMIT)
    ref.actor_inbox.resume()
    got(ref)
    clock.advance(1)

    assert isinstance(letter, DeadLetter)
    assert "is full" in str(letter.reason)
    assert got(ref) == ["only one fits", "tick"]


def test_a_timer_of_an_actor_that_drains_ends(base: type[BaseActor], clock: Clock, system: ActorSystem) -> None:
    """Its intake is closed, so the message is a dead letter, and no tick comes after it."""
    letters: SimpleQueue[object] = SimpleQueue()
    system.subscribe(letters.put)
    place = system.place("sleeper", make(base), (lambda actor: actor.send_every(1, "tick"),))
    place.start().result(LIMIT)
    place.mailbox.suspend()
    place.ref.tell("before")
    place.stop(SHUTDOWN, drain=True, administrative=True)
    clock.advance(1)
    clock.advance(1)

    assert isinstance(letters.get(timeout=LIMIT), DeadLetter)
    assert (letters.empty(), len(system.timers)) == (True, 0)
    place.mailbox.resume()


def test_a_message_of_a_timer_carries_the_context_of_the_code_that_set_it(
    local_base: type[BaseActor], clock: Clock, start: Start
) -> None:
    """Context variables travel, and the token that set the timer is the parent."""
    # Only those that its class names are known in a process: the next test.
    seen: SimpleQueue[Any] = SimpleQueue()

    def set_timer(actor: Any) -> int:
        colour.set("red")
        actor.send_after(1, lambda _actor: seen.put((colour.get(), current_token().parent)))  # type: ignore[union-attr]
        return current_token().id  # type: ignore[union-attr]

    ref = start(make(local_base))
    parent = ref.ask(set_timer, timeout=LIMIT)
    clock.advance(1)

    assert seen.get(timeout=LIMIT) == ("red", parent)


def test_seconds_that_cannot_work_are_refused(base: type[BaseActor], start: Start) -> None:
    """The error names the actor, the value and what would be right."""
    ref = start(make(base, expected=(ValueError,)))

    for method, seconds in itertools.product(("send_after", "send_every"), (-1, math.nan, math.inf, "1", None)):
        with pytest.raises(ValueError, match=f"{method} of actor 'Sleeper-.*must be a number"):
            ref.ask(lambda actor, m=method, s=seconds: getattr(actor, m)(s, "tick"), timeout=LIMIT)


def test_a_period_is_above_zero(base: type[BaseActor], start: Start) -> None:
    """Else the loop would spin."""
    ref = start(make(base, expected=(ValueError,)))

    for method, rest in (("send_every", ("tick",)), ("receive_timeout", ())):
        with pytest.raises(ValueError, match="above 0"):
            ref.ask(lambda actor, m=method, r=rest: getattr(actor, m)(0, *r), timeout=LIMIT)


def test_a_timer_outside_of_the_life_of_an_instance_is_an_error(local_base: type[BaseActor], start: Start) -> None:
    """Neither in `__init__` nor after the end."""
    errors: list[str] = []

    def early(self: Any) -> None:
        try:
            self.send_after(1, "tick")
        except RuntimeError as error:
            errors.append(str(error))

    class Early(local_base):  # type: ignore[misc, valid-type]
        __init__ = early

    start(Early).stop()
    ref = start(make(local_base))
    instance = ref.ask(lambda actor: actor, timeout=LIMIT)
    ref.stop()

    with pytest.raises(RuntimeError, match="does not run"):
        instance.send_every(1, "tick")
    assert "on_start" in errors[0]


def test_a_receive_timeout_comes_after_silence_and_again(
    local_base: type[BaseActor], clock: Clock, start: Start, until: Any
) -> None:
    """Each message starts the time anew, time-outs included."""
    ref = start(make(local_base), lambda actor: actor.receive_timeout(10))
    clock.advance(6)
    ref.ask(lambda _actor: None, timeout=LIMIT)
    until(lambda: is_idle(ref, 1))
    clock.advance(6)
    early = ref.actor_inbox.statistics().accepted
    clock.advance(4)
    until(lambda: is_idle(ref, early + 1))
    clock.advance(10)
    instance = ref._place.instance
    until(lambda: is_idle(ref, early + 2))

    assert early == 1
    assert instance.got == [ReceiveTimeout(10), ReceiveTimeout(10)]


def is_idle(ref: Any, accepted: int) -> bool:
    """Tell whether so many tokens have been accepted, all are done, and the actor is known to be busy no longer."""
    place = ref._place
    return place.mailbox.statistics().accepted == accepted and not (place.system.live or place.drain.running())


def test_a_receive_timeout_does_not_come_while_the_actor_is_busy(
    local_base: type[BaseActor], clock: Clock, start: Start, until: Any
) -> None:
    """The time runs from the end of the latest message."""
    ref = start(make(local_base), lambda actor: actor.receive_timeout(10))

    def work(actor: Any) -> None:
        clock.now += 25
        if local_base.affinity == "cpu":  # on the io loop it must not wait
            clock.settle()

    ref.ask(work, timeout=LIMIT)
    until(lambda: is_idle(ref, 1))
    clock.advance(9)
    before = ref.actor_inbox.statistics().accepted
    clock.advance(1)

    assert (before, ref.actor_inbox.statistics().accepted) == (1, 2)


def test_a_receive_timeout_is_changed_and_ended(
    base: type[BaseActor], clock: Clock, start: Start, system: ActorSystem
) -> None:
    """The latest one holds; None ends it."""
    ref = start(make(base), lambda actor: actor.receive_timeout(1))
    ref.ask(lambda actor: actor.receive_timeout(5), timeout=LIMIT)
    clock.advance(4)
    ref.ask(lambda actor: actor.receive_timeout(None), timeout=LIMIT)
    clock.advance(50)

    assert (got(ref), len(system.timers)) == ([], 0)


def test_a_receive_timeout_dies_with_the_instance(
    local_base: type[BaseActor], clock: Clock, system: ActorSystem
) -> None:
    """The new instance sets its own, or has none."""
    starts: list[Any] = []

    def begin(actor: Any) -> None:
        if not starts:
            actor.receive_timeout(1)
        starts.append(actor)

    place = system.place("sleeper", make(local_base), (begin,), owner=restart)
    place.start().result(LIMIT)
    crash(place.ref)
    got(place.ref)
    clock.advance(10)

    assert (got(place.ref), len(system.timers), place.receive_timer) == ([], 0, None)


def test_thousands_of_timers_are_one_heap_that_cancelling_empties(
    local_base: type[BaseActor], clock: Clock, start: Start, system: ActorSystem
) -> None:
    """Cancelled ones leave little behind, and those that are due at once all come."""
    ref = start(make(local_base, capacity=20_000))
    timers = ref.ask(lambda actor: [actor.send_after(1, number) for number in range(4_000)], timeout=LIMIT)
    for timer in timers[400:]:
        timer.cancel()
    left, entries = len(system.timers), len(system.timers._heap)
    clock.advance(1)

    assert got(ref) == list(range(400))
    assert (left, entries <= 2 * 400 + _STALE_LIMIT) == (400, True)


def test_a_timer_needs_no_clock_of_a_test(local_base: type[BaseActor]) -> None:
    """With the default clock, the loop wakes up by itself, in the order of the deadlines."""
    opened = ActorSystem("real", threads=1)
    opened.open()
    done: Reply[tuple[list[str], bool]] = Reply()

    def begin(actor: Any) -> None:
        began = opened.clock()
        actor.send_after(0.02, lambda actor: done._set((list(actor.got), in_time)))
        actor.send_after(0.001, "earlier")
        in_time = opened.clock() < began + 0.019  # else this thread was held up

    opened.start_actor(make(local_base), (begin,), {})
    try:
        got, in_time = done.result(LIMIT)
        assert got == ["earlier"] or not in_time
    finally:
        assert opened.close(LIMIT) == ()
