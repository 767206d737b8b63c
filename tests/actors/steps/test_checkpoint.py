"""`checkpoint()`: a point at which a long plain function can be paused and ended."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio

import actors.steps._checkpoint
from actors import (
    ActorSystem,
    AsyncioActor,
    CpuActor,
    IoActor,
    Token,
    TokenInterrupt,
    TokenState,
    TokenTerminated,
    checkpoint,
)
from actors.lowlevel import Hold, OperationPlace

LIMIT = 30.0

Until = Callable[[Callable[[], bool]], None]


@pytest.fixture
def place(system: ActorSystem) -> OperationPlace:
    return system.operation_place("op", "cpu", generator=False, concurrency=2)


@pytest.fixture(params=[True, False], ids=["as on this Python", "as on Python 3.11"])
def _means(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test with the monitor of this Python, if it has one, and without."""
    if not request.param:
        monkeypatch.setattr(actors.steps._checkpoint, "monitor", None)


def submit(place: OperationPlace, function: Any, *args: Any) -> Token[Any]:
    return place.send(place.token("op", function, args, {}))


def test_outside_of_any_token_it_does_nothing() -> None:
    """So functions that call it can be called by anybody."""
    checkpoint()


@pytest.mark.usefixtures("_means")
def test_a_plain_function_is_paused_at_its_checkpoint_and_goes_on(place: OperationPlace, until: Until) -> None:
    """Its turn is lent to others meanwhile, and its thread replaced."""
    go = [True]
    rounds = [0]

    def work() -> int:
        while go[0]:
            rounds[0] += 1
            checkpoint()
        return rounds[0]

    tokens = [submit(place, work), submit(place, work)]
    until(lambda: rounds[0] > 0)
    for token in tokens:
        Hold.of(token).pause().result(LIMIT)
        assert token.state is TokenState.PAUSED
    before = rounds[0]
    others = [submit(place, int, "7") for _ in range(3)]
    assert [other.result(LIMIT) for other in others] == [7] * 3
    assert rounds[0] == before
    go[0] = False
    for token in tokens:
        Hold.of(token).resume()
        token.result(LIMIT)

    until(lambda: place.mailbox.active == 0)


def test_without_other_means_a_step_goes_from_checkpoint_to_checkpoint(
    place: OperationPlace, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as were allowed, and as many are counted."""
    monkeypatch.setattr(actors.steps._checkpoint, "monitor", None)
    rounds = [0]

    def work() -> None:
        while True:
            rounds[0] += 1
            checkpoint()

    token = submit(place, work)
    until(lambda: rounds[0] > 0)
    hold = Hold.of(token)
    hold.pause().result(LIMIT)
    before, steps = rounds[0], token.steps
    for n in (1, 2, 5):
        hold.step(n).result(LIMIT)
    assert (rounds[0] - before, token.steps - steps) == (8, 8)
    token.cancel()

    assert isinstance(token.exception(LIMIT), TokenTerminated)


@pytest.mark.usefixtures("_means")
def test_one_that_is_paused_at_a_checkpoint_is_ended_there(place: OperationPlace, until: Until) -> None:
    """`TokenInterrupt` is no `Exception`, and `finally` blocks run."""
    notes: list[str] = []

    def work() -> None:
        try:
            while True:
                try:
                    notes.append("round")
                    checkpoint()
                except Exception:
                    notes.append("kept")
        finally:
            notes.append("closed")

    token = submit(place, work)
    until(lambda: bool(notes))
    Hold.of(token).pause().result(LIMIT)
    token.cancel()

    assert isinstance(token.exception(LIMIT), TokenTerminated)
    assert notes.count("closed") == 1
    assert "kept" not in notes


def test_a_trio_loop_is_never_stopped(system: ActorSystem, until: Until) -> None:
    """An io token is paused where it awaits, and its checkpoints let it pass."""
    place = system.operation_place("op", "io", generator=False, concurrency=1)
    passed = [0]

    async def work() -> None:
        while True:
            checkpoint()
            passed[0] += 1
            await trio.lowlevel.checkpoint()

    token = submit(place, work)
    until(lambda: passed[0] > 0)
    reached = Hold.of(token).pause()
    place.drain.hold_changed(token)
    reached.result(LIMIT)
    assert submit(place, int, "7").result(LIMIT) == 7
    token.cancel()

    assert isinstance(token.exception(LIMIT), TokenTerminated)


def test_a_call_within_code_that_holds_locks_does_not_wait(place: OperationPlace, until: Until) -> None:
    """A handler of `logging`, say: nobody could log meanwhile."""
    passed = [0]

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            checkpoint()
            passed[0] += 1

    logger = logging.Logger("held")
    logger.addHandler(Handler())
    go = [True]

    def work() -> None:
        while go[0]:
            logger.error("x")

    token = submit(place, work)
    until(lambda: passed[0] > 0)
    reached = Hold.of(token).pause()
    before = passed[0]
    until(lambda: passed[0] > before + 3)
    assert not reached.done()
    go[0] = False

    token.result(LIMIT)


def test_another_thread_of_the_token_does_not_wait_but_ends(place: OperationPlace, until: Until) -> None:
    """It has the token's context; but the token is paused when its own thread is."""
    outcomes: list[str] = []

    def elsewhere() -> None:
        checkpoint()
        outcomes.append("passed")
        try:
            while True:
                checkpoint()
        except TokenInterrupt:
            outcomes.append("interrupted")

    release = threading.Event()

    def work() -> None:
        thread = threading.Thread(target=contextvars.copy_context().run, args=(elsewhere,))
        release.wait(LIMIT)
        thread.start()
        thread.join(LIMIT)

    token = submit(place, work)
    until(lambda: token.started_at is not None)
    reached = Hold.of(token).pause()
    release.set()
    until(lambda: outcomes == ["passed"])
    assert not reached.done()
    token.cancel()
    token.exception(LIMIT)

    assert outcomes == ["passed", "interrupted"]


@pytest.mark.parametrize("base_class", [CpuActor, IoActor, AsyncioActor])
def test_an_actor_outlives_its_token_that_is_ended_at_a_checkpoint(start: Any, base_class: Any, until: Until) -> None:
    """That is no crash."""
    began: list[int] = []

    class Worker(base_class):  # type: ignore[misc]
        def work(self) -> None:
            began.append(1)
            while True:
                checkpoint()

        def idle(self) -> int:
            return 5

    ref = start(Worker)
    token = ref.proxy().work()
    until(lambda: bool(began))
    token.cancel()

    assert isinstance(token.exception(LIMIT), TokenTerminated)
    assert ref.proxy().idle().result(LIMIT) == 5
    ref.stop()
