"""Moves of queued tokens to another place: never lost, never run twice, and no sender waits for them at the old one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from limits import Throttle, hold

from actors import (
    ActorDead,
    ActorSystem,
    CpuActor,
    IoActor,
    MailboxFull,
    Token,
    TokenState,
    TokenTerminated,
    current_token,
)
from actors.lowlevel import ActorPlace, OperationPlace, move

LIMIT = 30.0


@pytest.fixture
def place(system: ActorSystem) -> Callable[..., OperationPlace]:
    """Make a place that leaves its tokens in the queue."""

    def make(path: str, affinity: str = "cpu", *, suspended: bool = True, **options: Any) -> OperationPlace:
        made = system.operation_place(path, affinity, generator=False, concurrency=1, **options)
        if suspended:
            made.mailbox.suspend()
        return made

    return make


def send(place: OperationPlace, call: Callable[..., Any] = int, **options: Any) -> Token[Any]:
    return place.send(place.token("work", call, (), {}, **options))


def empty(place: OperationPlace) -> list[Token[Any]]:
    """End the queued tokens, and return them."""
    tokens = place.mailbox.close()
    for token in tokens:
        token._terminate("the test is over")
    return tokens


@pytest.mark.parametrize(("from_", "to"), [("cpu", "io"), ("io", "cpu")])
def test_a_moved_token_runs_where_it_was_moved_to(place: Any, from_: str, to: str) -> None:
    """It is the same token: its id, its priority, its tags and its context come with it."""
    source, target = place("source", from_), place("target", to)
    seen: list[Any] = []
    token = send(source, lambda: seen.append(current_token()), priority=3, tags={"tenant": "acme"})
    before = (token.id, token.priority, token.tags, token._context, token.queued_at)
    assert move(token, target)
    assert (token.id, token.priority, token.tags, token._context, token.queued_at) == before
    assert (token.actor, token.affinity, token.state) == ("target", to, TokenState.QUEUED)
    assert (source.mailbox.size, target.mailbox.size) == (0, 1)
    target.mailbox.resume()
    token.result(LIMIT)

    assert seen == [token]


def test_a_moved_token_stands_at_the_end_of_its_lane(place: Any) -> None:
    """As if it had been sent there now."""
    source, target = place("source"), place("target")
    token, early, low = send(source), send(target), send(target, priority=-1)
    move(token, target)
    late = send(target)

    assert empty(target) == [early, token, late, low]


def test_a_token_that_is_paused_in_the_queue_stays_paused_when_it_is_moved(place: Any) -> None:
    """And is resumed where it is then."""
    source, target = place("source"), place("target", suspended=False)
    token = send(source)
    assert source.mailbox.hold(token)
    assert move(token, target)
    assert (token.state, token.actor) == (TokenState.PAUSED, "target")
    assert not source.mailbox.release(token)
    assert target.mailbox.statistics().held == 1
    assert target.mailbox.release(token)

    assert token.result(LIMIT) == 0


def test_a_token_that_has_begun_or_ended_is_not_moved(place: Any, door: Any) -> None:
    """Nothing changes then; nor for one that is there already."""
    source, target = place("source", suspended=False), place("target")
    running = send(source, door.pass_through)
    door.wait_reached()
    queued, gone = send(source), send(source)
    gone.cancel()
    assert not move(running, target)
    assert not move(gone, target)
    assert move(queued, source)
    assert (running.actor, gone.actor, source.mailbox.size) == ("source", "source", 1)
    door.open()

    assert queued.result(LIMIT) == 0
    assert not move(queued, source)


@pytest.mark.parametrize("overflow", ["wait", "reject", "drop_newest", "drop_oldest"])
@pytest.mark.parametrize("paused", [False, True], ids=["queued", "paused"])
def test_a_token_that_finds_no_room_goes_back_to_where_it_was(place: Any, overflow: Any, paused: bool) -> None:
    """The operator learns why; it is ahead of the others again, or paused, and nobody was pushed out for it."""
    source, target = place("source"), place("target", capacity=1, overflow=overflow)
    token, other = send(source), send(source)
    blocker = send(target, priority=1)
    if paused:
        assert source.mailbox.hold(token)
    with pytest.raises(MailboxFull, match="target"):
        move(token, target)
    assert token.actor == "source"
    assert token.state is (TokenState.PAUSED if paused else TokenState.QUEUED)
    assert not blocker.done()

    assert empty(source) == ([other, token] if paused else [token, other])


def test_a_token_that_is_moved_pushes_out_the_oldest_where_that_is_the_policy(place: Any) -> None:
    """`drop_oldest` is for it as for any newcomer."""
    source, target = place("source"), place("target", capacity=1, overflow="drop_oldest")
    token, oldest = send(source), send(target)
    assert move(token, target)

    assert isinstance(oldest.exception(LIMIT), TokenTerminated)
    assert empty(target) == [token]


def test_a_token_that_finds_the_target_closed_goes_back(place: Any) -> None:
    """The operator learns that, too."""
    source, target = place("source"), place("target")
    token = send(source)
    target.close()
    with pytest.raises(ActorDead, match="target"):
        move(token, target)
    source.mailbox.resume()

    assert token.result(LIMIT) == 0


def test_a_token_that_is_refused_after_its_old_place_was_closed_ends_as_those_there_did(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends as terminated, and was not moved."""
    source, target = place("source"), place("target", capacity=1, overflow="reject")
    token = send(source)
    send(target)
    refuse = target.mailbox.put_moved

    def close_and_refuse(token: Token[Any]) -> Any:
        source.close()
        return refuse(token)

    target.mailbox = StandIn(target.mailbox, put_moved=close_and_refuse)
    assert not move(token, target)
    assert token.state is TokenState.TERMINATED
    assert isinstance(token.exception(LIMIT), ActorDead)
    target.mailbox = target.mailbox._mailbox


def test_a_token_that_is_cancelled_on_its_way_ends(place: Any) -> None:
    """Whoever cancels finds it in no mailbox, so whoever moves it ends it."""
    source, target = place("source"), place("target")
    token = send(source)
    accept = target.mailbox.put_moved
    cancelled: list[bool] = []

    def cancel_and_accept(token: Token[Any]) -> Any:
        cancelled.append(token.cancel())
        return accept(token)

    target.mailbox = StandIn(target.mailbox, put_moved=cancel_and_accept)
    move(token, target)
    target.mailbox = target.mailbox._mailbox

    assert cancelled == [False]
    assert token.state is TokenState.TERMINATED
    assert (source.mailbox.size, target.mailbox.size) == (0, 0)


class StandIn:
    """A mailbox with one method replaced."""

    def __init__(self, mailbox: Any, **methods: Any) -> None:
        self.__dict__.update(methods, _mailbox=mailbox)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mailbox, name)


def test_a_sender_that_waits_gets_the_room_of_a_token_that_is_moved(place: Any) -> None:
    """When it has arrived, and no earlier: until then it may come back."""
    source, target = place("source", capacity=1), place("target")
    token = send(source)
    calls: list[int] = []
    waits = source.token("work", int, (), {})
    source.mailbox.put(waits, lambda: calls.append(target.mailbox.size))
    assert move(token, target)
    waits.cancel()
    waits._terminate("the test is over")

    assert calls == [1]


def test_a_token_that_a_throttle_keeps_back_leaves_nothing_there(place: Any, system: ActorSystem, until: Any) -> None:
    """Where it comes to, it asks as any other."""
    source, target = place("source", suspended=False), place("target")
    throttle = Throttle("source", lambda token: token.actor == "source", 0.001, None)
    hold(system, throttle)
    first = send(source)
    first.result(LIMIT)
    second, third = send(source), send(source)
    until(lambda: source.mailbox.is_kept_back(second) and source.mailbox.is_kept_back(third))
    assert move(second, target)
    assert not target.mailbox.is_kept_back(second)
    assert (throttle.waiting, throttle.let) == ({third}, set())
    target.mailbox.resume()

    assert second.result(LIMIT) == 0


# A place that drains


class Worker(CpuActor):
    def on_receive(self, message: Any) -> Any:
        return message() if callable(message) else message


class IoWorker(IoActor):
    def on_receive(self, message: Any) -> Any:
        return message() if callable(message) else message


@pytest.mark.parametrize("cls", [Worker, IoWorker])
@pytest.mark.parametrize("how", ["move", "cancel", "resume", "give up"])
def test_a_stop_waits_for_a_token_that_is_paused_in_the_queue(
    system: ActorSystem, until: Any, cls: Any, how: str
) -> None:
    """It was accepted, so it is handled when it is resumed, or it ends, or it is moved; then the stop completes."""
    ref, other = (system.start_actor(cls, (), {}) for _ in range(2))
    place: ActorPlace = ref._place
    place.suspend()
    token = ref.ask("paused", block=False)
    assert place.mailbox.hold(token)
    place.unsuspend()
    stopped = ref.stop(block=False)
    until(lambda: place.draining)
    until(lambda: place.mailbox.active == 0)
    assert place.mailbox.size == 1
    if how == "move":
        assert move(token, other._place)
        other._place.mailbox.release(token)
    elif how == "cancel":
        assert token.cancel()
    elif how == "resume":
        place.mailbox.release(token)
    else:
        other.stop()
        with pytest.raises(ActorDead):
            move(token, other._place)
        assert place.draining
        place.mailbox.release(token)
    stopped.get(timeout=LIMIT)

    if how == "cancel":
        assert token.state is TokenState.TERMINATED
    else:
        assert token.result(LIMIT) == "paused"


def test_a_stop_completes_when_the_last_queued_token_is_moved_away(system: ActorSystem, until: Any, door: Any) -> None:
    """Also while a token runs: the stop comes after that."""
    ref, other = (system.start_actor(Worker, (), {}) for _ in range(2))
    running = ref.ask(door.pass_through, block=False)
    door.wait_reached()
    token = ref.ask("moved", block=False)
    stopped = ref.stop(block=False)
    assert move(token, other._place)
    assert token.result(LIMIT) == "moved"
    assert not running.done()
    door.open()

    stopped.get(timeout=LIMIT)


def test_closing_the_system_ends_what_was_moved(place: Any, system: ActorSystem) -> None:
    """As everything that is queued."""
    source, target = place("source"), place("target")
    token = send(source)
    move(token, target)
    system.close(LIMIT)

    assert token.state is TokenState.TERMINATED
