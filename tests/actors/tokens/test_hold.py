"""Holds: pausing, stepping, resuming and ending tokens that have begun, whatever drives their code."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from actors import ActorSystem, CpuActor, IoActor, Token, TokenState, TokenTerminated, checkpoint
from actors.lowlevel import Hold, OperationPlace
from actors.mailboxes._signals import Crash

LIMIT = 30.0

Until = Callable[[Callable[[], bool]], None]


def submit(place: OperationPlace, function: Any, *args: Any) -> Token[Any]:
    return place.send(place.token("op", function, args, {}))


def make(system: ActorSystem, affinity: str, *, concurrency: int = 2, generator: bool = False) -> OperationPlace:
    return system.operation_place("op", affinity, generator=generator, concurrency=concurrency)


def pause(token: Token[Any]) -> Hold:
    """Pause a token, and wait until it has come to a point where it can be paused."""
    hold = Hold.of(token)
    reached = hold.pause()
    token._place.drain.hold_changed(token)
    reached.result(LIMIT)
    return hold


def step(token: Token[Any], n: int) -> int:
    """Let a paused token take some steps; return how many it took."""
    before = token.steps
    reached = Hold.of(token).step(n)
    token._place.drain.hold_changed(token)
    reached.result(LIMIT)
    return token.steps - before


def resume(token: Token[Any]) -> None:
    Hold.of(token).resume()
    token._place.drain.hold_changed(token)


# The hold alone


def test_a_token_is_parked_when_it_asks_for_a_step_that_it_may_not_take(desk: Any) -> None:
    """Until then a pause is only requested; the reply comes with the parking."""
    hold = Hold(desk.token())
    assert hold.may_step()
    assert hold.word == ""
    reached = hold.pause()
    assert (hold.word, reached.done()) == ("pause_requested", False)
    assert not hold.may_step()

    assert (hold.word, reached.done(), hold.parked) == ("paused", True, True)
    assert hold.pause().done()


def test_who_is_parked_may_go_on_after_the_resume(desk: Any) -> None:
    """`released` comes, and then there is leave."""
    hold = Hold(desk.token())
    assert not hold.resume()
    hold.pause()
    assert not hold.may_step()
    released = hold.released
    assert hold.resume()

    assert released.done()
    assert hold.may_step()
    assert (hold.word, hold.parked) == ("", False)


def test_so_many_steps_are_taken_as_were_allowed(desk: Any) -> None:
    """Places where the token could stop, but takes no step, do not count."""
    hold = Hold(desk.token())
    hold.pause()
    assert not hold.may_step()
    reached = hold.step(3)
    assert hold.stepping
    for _ in range(3):
        assert hold.may_step(counted=False)
        assert hold.may_step()
    assert not reached.done()
    assert not hold.may_step(counted=False)

    assert reached.done()
    assert hold.parked
    assert not hold.stepping


def test_a_pause_takes_back_the_steps_that_were_allowed(desk: Any) -> None:
    """The latest wish counts."""
    hold = Hold(desk.token())
    hold.step(5)
    assert hold.may_step()
    hold.pause()

    assert not hold.may_step()


def test_one_that_is_to_end_is_never_parked_again(desk: Any) -> None:
    """Who was parked goes on, and all replies come."""
    hold = Hold(desk.token())
    waiting = [hold.pause(), hold.step(1)]
    hold.end()
    hold.end()

    assert all(reply.done() for reply in waiting)
    assert hold.pause().done()
    assert hold.may_step()
    assert (hold.word, hold.ending) == ("", True)


def test_a_hold_made_after_the_token_was_asked_to_end_lets_it_go(desk: Any) -> None:
    """Whoever asked did not see the hold."""
    token = desk.token()
    token._own_extras().cancel_requested = "why not"
    assert Hold.of(token).ending
    ended = desk.token()
    ended._terminate("over")

    assert Hold.of(ended).ending
    assert Hold.of(ended) is ended._extras.hold


def test_what_is_to_be_done_on_parking_is_done_before_anybody_is_told(desk: Any) -> None:
    """So a token that is known to be paused has nothing armed."""
    hold = Hold(desk.token())
    reached = hold.pause()
    seen: list[tuple[bool, bool]] = []
    hold.may_step(parked=lambda held: seen.append((held.parked, reached.done())))

    assert seen == [(True, False)]


def test_the_time_of_pauses_is_counted_and_may_be_left_out(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In seconds of the system's clock: all of it, and that for which the token's own clock is stopped."""
    now = [0.0]
    token = desk.token()
    told = {"tell": lambda *_: None, "on_token_paused": None, "on_token_resumed": None}
    monkeypatch.setattr(token._place, "system", SimpleNamespace(clock=lambda: now[0], **told))
    hold = Hold(token)
    hold.pause(stop_clock=True)
    now[0] = 5.0
    assert hold.seconds(now[0]) == (0.0, 0.0)
    assert not hold.may_step()
    now[0] = 7.0
    assert hold.seconds(now[0]) == (2.0, 2.0)
    hold.pause(stop_clock=False)
    now[0] = 10.0
    assert hold.seconds(now[0]) == (5.0, 2.0)
    hold.resume()
    now[0] = 100.0

    assert hold.seconds(now[0]) == (5.0, 2.0)


def test_a_token_that_is_interrupted_as_it_parks_runs(desk: Any) -> None:
    """An exception of a signal handler may come at any moment: the token fails with it, as if it had run on."""
    token = desk.token()
    token._begin(0.0)
    hold = Hold(token)
    hold.pause()

    def strike(_hold: Hold) -> None:
        assert token.state is TokenState.PAUSED
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hold.step_in_thread(parked=strike)

    assert (hold.parked, token.state) == (False, TokenState.RUNNING)


def test_no_order_of_wishes_loses_a_wake_up(desk: Any, race: Any, seed: int, rounds: Callable[[int], int]) -> None:
    """An operator pauses, steps and resumes at random, and in the end lets go: the driver takes all its steps."""
    chance = random.Random(seed)
    for _ in range(rounds(30)):
        hold = Hold(desk.token())
        wishes = [chance.choice([hold.pause, hold.resume, lambda held=hold: held.step(2)]) for _ in range(30)]

        def drive(hold: Hold = hold) -> int:
            for _ in range(50):
                hold.step_in_thread()
            return 50

        def operate(hold: Hold = hold, wishes: list[Any] = wishes, ends: bool = chance.random() < 0.5) -> None:
            for wish in wishes:
                wish()
            (hold.end if ends else hold.resume)()

        assert race(drive, operate)[0] == 50


# Generators


@pytest.mark.parametrize("affinity", ["cpu", "io", "asyncio"])
def test_paused_generators_hold_no_threads_and_no_turns(system: ActorSystem, affinity: str, until: Until) -> None:
    """More of them than there are threads, or turns: others run meanwhile, and afterwards each goes on where it was."""
    place = make(system, affinity, concurrency=3, generator=True)
    go = [True]
    began: list[int] = []

    def count(number: int) -> Generator[None, None, int]:
        began.append(number)
        while go[0]:
            yield
        return number

    tokens = []
    for number in range(20):
        tokens.append(submit(place, count, number))
        until(lambda number=number: number in began)  # type: ignore[misc]
        pause(tokens[-1])
    assert {token.state for token in tokens} == {TokenState.PAUSED}
    until(lambda: place.mailbox.active == 0)  # a pause is told before the turn is lent
    until(lambda: system.dispatcher.statistics().blocked == 0)  # a look may have taken a thread for stalled
    assert [step(token, 3) for token in tokens[:5]] == [3] * 5
    go[0] = False
    for token in tokens:
        resume(token)

    assert [token.result(LIMIT) for token in tokens] == list(range(20))
    until(lambda: place.mailbox.active == 0)


class Counting(CpuActor):
    """An actor with a generator as its handler, which records what happens."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    def on_receive(self, message: Any) -> Any:
        if message == "plain":
            return "handled"
        return self.steps()

    def work(self) -> Generator[None, None, None]:
        self.notes.append("began")
        try:
            while True:
                yield
        finally:
            self.notes.append("closed")

    def on_stop(self) -> None:
        self.notes.append("stopped")

    def on_failure(self, *_error: Any) -> None:
        self.notes.append("failed")


def _paused_handler(
    start: Callable[..., Any], until: Until, cls: type[Any], notes: list[str]
) -> tuple[Any, Token[Any]]:
    ref = start(cls, notes)
    token = ref.proxy().work()
    until(lambda: bool(notes))
    pause(token)
    return ref, token


class CountingOnTheLoop(IoActor):
    """An actor with a coroutine function as its handler, which records what happens."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    async def work(self) -> None:
        self.notes.append("began")
        try:
            await trio.sleep_forever()
        finally:
            self.notes.append("closed")

    def plain(self) -> str:
        return "handled"

    def on_stop(self) -> None:
        self.notes.append("stopped")


def test_an_actor_stops_whose_handler_is_paused(start: Callable[..., Any], until: Until) -> None:
    """The handler ends where it is, its `finally` runs, and then the hook."""
    for cls in (Counting, CountingOnTheLoop):
        notes: list[str] = []
        ref, token = _paused_handler(start, until, cls, notes)
        stopped = ref._place.stop(drain=False, administrative=True)

        assert isinstance(token.exception(LIMIT), TokenTerminated)
        assert stopped.result(LIMIT).orderly
        assert notes == ["began", "closed", "stopped"]


def test_an_actor_crashes_whose_handler_is_paused(start: Callable[..., Any], until: Until) -> None:
    """As when it runs: the signal is noticed at once."""
    notes: list[str] = []
    ref, token = _paused_handler(start, until, Counting, notes)
    ref._place.signal(Crash(ValueError("elsewhere"), ref._place.instance))

    assert isinstance(token.exception(LIMIT), TokenTerminated)
    until(lambda: not ref.is_alive())
    assert notes == ["began", "closed", "failed"]


def test_an_actor_whose_handler_is_paused_handles_nothing_else(start: Callable[..., Any], until: Until) -> None:
    """Its state is in the middle of something."""
    for cls in (Counting, CountingOnTheLoop):
        notes: list[str] = []
        ref, token = _paused_handler(start, until, cls, notes)
        other = ref.ask("plain", block=False) if cls is Counting else ref.proxy().plain()
        assert not other.done()
        assert other.state is TokenState.QUEUED
        token.cancel()

        assert isinstance(token.exception(LIMIT), TokenTerminated)
        assert other.result(LIMIT) == "handled"
        ref.stop()


@pytest.mark.parametrize("affinity", ["cpu", "io", "asyncio"])
def test_a_paused_generator_is_abandoned_without_a_thread(system: ActorSystem, affinity: str, until: Until) -> None:
    """There is none that runs it; its `finally` runs all the same."""
    place = make(system, affinity, generator=True)
    notes: list[str] = []

    def work() -> Generator[None, None, None]:
        notes.append("began")
        try:
            while True:
                yield
        finally:
            notes.append("closed")

    token = submit(place, work)
    until(lambda: bool(notes))
    pause(token)

    assert place.abandon(token, "enough") == []
    assert token.state is TokenState.TERMINATED
    until(lambda: notes == ["began", "closed"])
    until(lambda: place.mailbox.active == 0)
    assert submit(place, _three).result(LIMIT) == 3


def _three() -> Generator[None, None, int]:
    yield
    return 3


# Coroutines


async def some_rounds() -> None:
    """Let every task of the loop run a few times."""
    for _ in range(5):
        await trio.lowlevel.checkpoint()


def test_a_coroutine_that_waits_is_paused_at_once(system: ActorSystem, until: Until) -> None:
    """What it waits for may come before the resume, or after: it goes on when both have."""
    place = make(system, "io")
    for resumed_first in (True, False):
        event = trio.Event()
        notes: list[str] = []

        async def work(event: trio.Event = event, notes: list[str] = notes) -> str:
            notes.append("began")
            await event.wait()
            notes.append("went on")
            return "done"

        token = submit(place, work)
        until(lambda notes=notes: bool(notes))  # type: ignore[misc]
        pause(token)
        assert token.state is TokenState.PAUSED
        acts: list[Any] = [lambda token=token: resume(token), lambda event=event: system.io_host.call_soon(event.set)]
        first, second = acts if resumed_first else reversed(acts)
        first()
        submit(place, some_rounds).result(LIMIT)
        assert notes == ["began"]
        second()

        assert token.result(LIMIT) == "done"
        until(lambda: place.mailbox.active == 0)


def test_a_resume_that_nobody_announces_gives_the_turn_back_as_well(system: ActorSystem, until: Until) -> None:
    """The task may be faster than the news of its resume."""
    place = make(system, "io", concurrency=1)
    event = trio.Event()
    began: list[int] = []

    async def work() -> None:
        began.append(1)
        await event.wait()

    token = submit(place, work)
    until(lambda: bool(began))
    hold = pause(token)
    until(lambda: place.mailbox.active == 0)
    hold.resume()
    system.io_host.call_soon(event.set)

    assert token.exception(LIMIT) is None
    assert not hold.lent
    until(lambda: place.mailbox.active == 0)
    assert submit(place, int, "7").result(LIMIT) == 7


def test_a_coroutine_is_cancelled_while_it_is_paused(system: ActorSystem, until: Until) -> None:
    """It gets its `Cancelled`, and cleans up."""
    place = make(system, "io")
    notes: list[str] = []

    async def work() -> None:
        notes.append("began")
        try:
            await trio.sleep_forever()
        finally:
            notes.append("closed")

    token = submit(place, work)
    until(lambda: bool(notes))
    pause(token)
    token.cancel()

    assert isinstance(token.exception(LIMIT), TokenTerminated)
    assert notes == ["began", "closed"]
    until(lambda: place.mailbox.active == 0)


def test_nothing_received_is_lost_when_a_timeout_fires_in_a_pause(system: ActorSystem, until: Until) -> None:
    """What has come is delivered after the resume, before the timeout is."""
    place = make(system, "io")
    scopes: list[trio.CancelScope] = []
    channels: list[Any] = []

    async def work() -> list[Any]:
        send, receive = trio.open_memory_channel[str](0)
        channels.append(send)
        got: list[Any] = []
        with trio.CancelScope() as scope:
            scopes.append(scope)
            got.append(await receive.receive())
            got.append(await receive.receive())
        got.append(scope.cancelled_caught)
        return got

    token = submit(place, work)
    until(lambda: bool(scopes))
    pause(token)

    def come() -> None:
        channels[0].send_nowait("precious")

    system.io_host.call_soon(come)
    submit(place, some_rounds).result(LIMIT)  # the task has the value, and waits for leave
    system.io_host.call_soon(scopes[0].cancel)
    submit(place, some_rounds).result(LIMIT)
    resume(token)

    assert token.result(LIMIT) == ["precious", True]


def test_a_timeout_alone_does_not_let_a_paused_coroutine_go_on(system: ActorSystem, until: Until) -> None:
    """It is told after the resume."""
    place = make(system, "io")
    scopes: list[trio.CancelScope] = []
    notes: list[str] = []

    async def work() -> str:
        with trio.CancelScope() as scope:
            scopes.append(scope)
            await trio.sleep_forever()
        notes.append("went on")
        return "timed out"

    token = submit(place, work)
    until(lambda: bool(scopes))
    pause(token)
    system.io_host.call_soon(scopes[0].cancel)
    submit(place, some_rounds).result(LIMIT)
    assert notes == []
    resume(token)

    assert token.result(LIMIT) == "timed out"


def test_a_paused_coroutine_takes_exactly_the_steps_that_it_may(system: ActorSystem, until: Until) -> None:
    """A step is what it does between two waits."""
    place = make(system, "io")
    done: list[int] = []

    async def work() -> None:
        while True:
            done.append(1)
            await trio.lowlevel.checkpoint()

    token = submit(place, work)
    until(lambda: bool(done))
    pause(token)
    before = len(done)
    for n in (1, 2, 7):
        assert step(token, n) == n
    assert len(done) == before + 10
    token.cancel()

    assert isinstance(token.exception(LIMIT), TokenTerminated)


# Direct calls


def test_ctrl_c_ends_a_direct_call_that_is_paused(system: ActorSystem, until: Until) -> None:
    """It is the caller's thread, so it is the caller's KeyboardInterrupt; the token has failed."""
    place = make(system, "cpu")
    notes: list[str] = []

    def work() -> None:
        try:
            while True:
                checkpoint()
        finally:
            notes.append("closed")

    token = place.token("op", work, (), {})
    turn = place.turn_here(token)
    assert turn is not None
    Hold.of(token).pause()
    main = threading.main_thread().ident
    assert main is not None

    def interrupt_when_parked() -> None:
        until(lambda: token._extras.hold is not None and token._extras.hold.parked)
        signal.pthread_kill(main, signal.SIGINT)

    helper = threading.Thread(target=interrupt_when_parked)
    helper.start()
    with pytest.raises(KeyboardInterrupt):
        turn.run()
    helper.join(LIMIT)

    assert notes == ["closed"]
    assert token.state is TokenState.FAILED
    assert place.mailbox.active == 0


def test_a_direct_call_that_is_paused_ends_as_terminated(system: ActorSystem, until: Until) -> None:
    """The caller is told so; the interrupt itself is not meant for it. A generator's steps are counted."""
    for generator in (False, True):
        place = system.operation_place(f"op{generator}", "cpu", generator=generator, concurrency=1)

        def plain() -> None:
            while True:
                checkpoint()

        def steps() -> Generator[None, None, None]:
            while True:
                yield

        token = place.token("op", steps if generator else plain, (), {})
        Hold.of(token).pause()

        def operate(token: Token[Any] = token, generator: bool = generator) -> None:
            until(lambda: token._extras.hold is not None and token._extras.hold.parked)
            if generator:
                assert step(token, 4) == 4
            token.ask_to_end("enough")

        helper = threading.Thread(target=operate)
        helper.start()
        turn = place.turn_here(token)
        assert turn is not None
        with pytest.raises(TokenTerminated, match="enough"):
            turn.run()
        helper.join(LIMIT)

        assert place.mailbox.active == 0


# Closing


def test_a_system_closes_with_paused_tokens_of_every_kind(until: Until) -> None:
    """None hangs, none is abandoned, and each `finally` runs."""
    system = ActorSystem("closing", threads=2)
    system.open()
    notes: list[str] = []

    @contextlib.contextmanager
    def noted(name: str) -> Generator[None]:
        notes.append(f"{name} began")
        try:
            yield
        finally:
            notes.append(f"{name} closed")

    def plain() -> None:
        with noted("plain"):
            while True:
                checkpoint()

    def generator(name: str) -> Generator[None, None, None]:
        with noted(name):
            while True:
                yield

    async def coroutine() -> None:
        with noted("coroutine"):
            await trio.sleep_forever()

    def place(name: str, affinity: str, *, generator: bool = False) -> OperationPlace:
        return system.operation_place(name, affinity, generator=generator, concurrency=2)

    tokens = [
        submit(place("plain", "cpu"), plain),
        submit(place("cpu", "cpu", generator=True), generator, "cpu"),
        submit(place("io", "io", generator=True), generator, "io"),
        submit(place("coroutine", "io"), coroutine),
    ]
    refs = [system.start_actor(cls, (notes,), {}) for cls in (Counting, CountingOnTheLoop)]
    tokens += [ref.proxy().work() for ref in refs]
    errors: list[BaseException] = []

    def call() -> None:
        try:
            called = place("direct", "cpu")
            tokens.append(called.token("op", plain, (), {}))
            turn = called.turn_here(tokens[-1])
            assert turn is not None
            turn.run()
        except TokenTerminated as error:
            errors.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    until(lambda: sum("began" in note for note in notes) == 7)
    for token in tokens:
        pause(token)
    assert {token.state for token in tokens} == {TokenState.PAUSED}

    assert system.close(LIMIT) == ()
    caller.join(LIMIT)
    assert not caller.is_alive()
    assert {token.state for token in tokens} == {TokenState.TERMINATED}
    assert sum("closed" in note for note in notes) == 7
    assert len(errors) == 1
