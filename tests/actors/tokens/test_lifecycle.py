"""The life cycle of a token: one table, and one terminal state whichever threads race."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from actors import TERMINAL, TRANSITIONS, IllegalTransition, Token, TokenState, TokenTerminated
from actors.drains._cpu_drain import CpuDrain
from actors.mailboxes._mailbox import Drainer
from actors.tokens._lifecycle import check_transition

# Written from the design, not from the code: created, queued, running, paused, then a terminal one; back edges are
# pause and resume, and running to queued for a retry. A queued one is rejected by a policy at its turn, or failed if a
# later attempt of it is refused then.
ALLOWED = {
    "created": {"queued", "running", "rejected", "terminated"},
    "queued": {"running", "paused", "completed", "failed", "terminated", "expired", "rejected"},
    "running": {"completed", "failed", "terminated", "expired", "paused", "queued"},
    "paused": {"running", "queued", "terminated", "expired"},
    "completed": set(),
    "failed": set(),
    "terminated": set(),
    "expired": set(),
    "rejected": set(),
}
PAIRS = list(itertools.product(TokenState, TokenState))
ENDS = ["completed", "failed", "terminated", "expired", "rejected"]

Yielding = Callable[[random.Random], AbstractContextManager[None]]


def snapshot(token: Token[Any]) -> tuple[Any, ...]:
    return (
        token.state,
        token.done(),
        token._value,
        token._error,
        token.started_at,
        token.finished_at,
        token.steps,
        token.args,
        token._context,
    )


def test_the_table_is_the_one_of_the_design() -> None:
    """Every state has its followers and no others."""
    expected = ALLOWED

    assert expected == {old.value: {new.value for new in following} for old, following in TRANSITIONS.items()}


def test_the_five_ends_are_terminal() -> None:
    """A token ends completed, failed, terminated, expired or rejected."""
    assert set(ENDS) == {state.value for state in TERMINAL}


@pytest.mark.parametrize(("old", "new"), PAIRS, ids=[f"{old}-{new}" for old, new in PAIRS])
def test_a_transition_is_allowed_by_the_table_or_raises(old: TokenState, new: TokenState) -> None:
    """A transition that the table does not have raises, and the error names both states."""
    if new.value in ALLOWED[old.value]:
        check_transition(old, new)
        return

    with pytest.raises(IllegalTransition, match=f"from {old} to {new}"):
        check_transition(old, new)


@pytest.mark.parametrize("old", list(TokenState))
def test_only_a_state_that_running_may_follow_can_begin(desk: Any, old: TokenState) -> None:
    """An illegal begin raises and changes nothing."""
    token = desk.token()
    token._phase = old
    before = snapshot(token)
    if "running" in ALLOWED[old.value]:
        token._begin(0.0)
        assert token.state is TokenState.RUNNING
        assert token.started_at is not None
        return

    with pytest.raises(IllegalTransition):
        token._begin(0.0)

    assert before == snapshot(token)


@pytest.mark.parametrize("new", ENDS)
@pytest.mark.parametrize("old", [state for state in TokenState if state not in TERMINAL])
def test_only_an_end_that_the_table_allows_can_be_entered(desk: Any, old: TokenState, new: str) -> None:
    """An illegal end raises and changes nothing: the token can still end as it should."""
    token = desk.token()
    token._phase = old
    before = snapshot(token)
    if new in ALLOWED[old.value]:
        assert token._finish(TokenState(new))
        assert token.state == new
        return

    with pytest.raises(IllegalTransition):
        token._finish(TokenState(new))

    assert before == snapshot(token)
    assert token.id in desk.system.live


@pytest.mark.parametrize("new", ENDS)
@pytest.mark.parametrize("old", ENDS)
def test_nothing_follows_an_end(desk: Any, old: str, new: str) -> None:
    """The second to end a token is told so, and changes nothing."""
    token = desk.token()
    if old in ALLOWED["running"]:
        token._begin(0.0)
    assert token._finish(TokenState(old), "first")
    before = snapshot(token)

    assert not token._finish(TokenState(new), "second")
    assert before == snapshot(token)


def test_whoever_races_one_end_is_written(desk: Any, race: Any, seed: int, rounds: Callable[[int], int]) -> None:
    """Of many that end a token at once, one is told that it did, and its outcome is the one that stays."""
    chance = random.Random(seed)
    choices = [TokenState.COMPLETED, TokenState.FAILED, TokenState.TERMINATED, TokenState.EXPIRED]
    for _ in range(rounds(150)):
        token = desk.token()
        token._begin(0.0)
        called: list[TokenState] = []
        token.add_done_callback(lambda ended, called=called: called.append(ended.state))
        states = [chance.choice(choices) for _ in range(3)]
        won = race(*[lambda i=i, s=s, t=token: t._finish(s, value=i) for i, s in enumerate(states)])

        assert won.count(True) == 1
        winner = won.index(True)
        assert (states[winner], winner) == (token.state, token._value)
        assert called == [states[winner]]
    assert not desk.system.live


@pytest.mark.parametrize("traced", [False, True], ids=["plain", "traced"])
def test_a_cancel_that_races_start_and_completion_ends_a_token_once(
    desk: Any, race: Any, yielding: Yielding, seed: int, rounds: Callable[[int], int], traced: bool
) -> None:
    """A queued token is either withdrawn, and never runs, or taken, and then completes."""
    chance = random.Random(seed)
    seen = {"cancelled": 0, "completed": 0}
    for _ in range(rounds(100 if traced else 200)):
        mailbox = desk.mailbox()
        token = desk.token()
        mailbox.put(token)
        ran: list[int] = []

        def drain(mailbox: Any = mailbox, ran: list[int] = ran) -> bool:
            taken = mailbox.take(Drainer())
            if taken is None:
                return False
            ran.append(taken.id)
            taken._begin(0.0)
            return bool(taken._finish(TokenState.COMPLETED, "value"))

        functions = [drain, token.cancel]
        if traced:
            with yielding(chance):
                completed, cancelled = race(*functions)
        else:
            completed, cancelled = race(*functions)

        assert completed != cancelled
        if cancelled:
            seen["cancelled"] += 1
            assert token.state is TokenState.TERMINATED
            assert isinstance(token.exception(), TokenTerminated)
            assert not ran
        else:
            seen["completed"] += 1
            assert token.state is TokenState.COMPLETED
            assert token.result() == "value"
    print(seen)
    assert not desk.system.live


def test_an_end_from_outside_that_races_the_start_is_final(
    desk: Any, race: Any, yielding: Yielding, seed: int, rounds: Callable[[int], int]
) -> None:
    """Closing a place while a thread starts one of its tokens leaves the token ended, never `running`."""
    chance = random.Random(seed)
    for number in range(rounds(120)):
        place = desk.system.operation_place(f"place-{number}", "cpu", generator=False, concurrency=1)
        drain = place.drain
        assert isinstance(drain, CpuDrain)
        token = place.send(place.token("operation", int, (), {}))
        (slot,) = drain.slots()

        def close(place: Any = place) -> None:
            place.terminate_queued("was closed")
            place.terminate_running("it was closed")

        with yielding(chance):
            race(lambda slot=slot: slot.run(threading.current_thread()), close)

        assert token.done()
        assert token.state in TERMINAL
        assert place.mailbox.active == 0
    assert not desk.system.live


def test_pause_and_retry_are_the_back_edges() -> None:
    """A token goes back from paused to running or queued, and from running to queued, and nowhere else."""
    order = [TokenState.CREATED, TokenState.QUEUED, TokenState.RUNNING, TokenState.PAUSED]
    back = {
        (str(old), str(new))
        for old, following in TRANSITIONS.items()
        for new in following
        if new in order and order.index(new) < order.index(old)
    }

    assert back == {("running", "queued"), ("paused", "running"), ("paused", "queued")}
