"""The states of a rule by key: no key has two that are in use, and memory is bounded."""

from __future__ import annotations

import random
from collections.abc import Callable

from tiers import IN_CI

from tokengate.policy._policy import Throttle
from tokengate.policy._states import _MOST_KEYS, States
from tokengate.policy._throttle import ThrottleState


class Used:
    """A state of which a number is in use."""

    def __init__(self) -> None:
        self.used = 0

    def is_new(self, now: float) -> bool:
        return not self.used


def test_a_key_has_one_state_as_long_as_something_of_it_is_in_use(seed: int) -> None:
    """Case 28. Also when there is no room, and when there is room again; never more states than there is room for."""
    rng = random.Random(seed)
    for _ in range(60):
        most, keys = rng.randint(1, 4), rng.randint(1, 12)
        table: States[Used] = States(lambda key: Used(), most)
        in_use: list[tuple[int, Used]] = []
        share = rng.random()  # of steps in which one comes
        for step in range(150):
            if step % 50 == 0:
                share = rng.random()
            if rng.random() < share:
                key = rng.randrange(keys)
                state = table.get(key, 0.0)
                state.used += 1
                in_use.append((key, state))
            elif in_use:
                in_use.pop(rng.randrange(len(in_use)))[1].used -= 1

            by_key = [{id(state) for other, state in in_use if other == key} for key in range(keys)]
            assert all(len(states) <= 1 for states in by_key)
            assert {id(state) for _, state in in_use} <= {id(state) for _, state in table.items()}
            assert len(list(table.items())) <= most + 1


def test_new_keys_share_one_state_where_there_is_no_room() -> None:
    """Until something is as good as new; a key that shares stays there while the shared one is in use."""
    table: States[Used] = States(lambda key: Used(), 3)
    own = []
    for key in ("a", "b", 7, "c"):
        own.append(table.get(key, 0.0))
        own[-1].used = 1
    shared = own.pop()

    assert shared is table.get("d", 0.0)
    assert dict(table.items()) == {"a": own[0], "b": own[1], 7: own[2], None: shared}
    own[0].used = 0
    assert table.get("c", 0.0) is shared
    assert table.get("e", 0.0) not in (shared, *own)
    shared.used = 0
    own[1].used = 0
    assert table.get("c", 0.0) not in (shared, *own)


def test_a_state_is_made_for_its_key() -> None:
    """So that single keys can have other limits; the shared one is made for None."""
    table: States[Used] = States(lambda key: made.append(key) or Used(), 1)
    made: list[object] = []
    table.get(7, 0.0).used = 1
    table.get("x", 0.0)

    assert made == [7, None]


def test_a_million_keys_take_bounded_memory(rounds: Callable[[int], int]) -> None:
    """Case 37. Each key is used once, and its state is forgotten when the burst is whole again.

    A million with TOKENGATE_TORTURE=1, else fewer.
    """
    throttle, largest = Throttle(rate=1), 0
    table: States[ThrottleState] = States(lambda key: ThrottleState(throttle))
    for n in range(rounds(20_000)):
        now = n / 500  # so 500 keys are not as good as new at any time
        state = table.get(n, now)
        state.grant()
        state.begin(now)
        state.end(0.0, True, now)
        if n % 500 == 0:
            largest = max(largest, len(list(table.items())))

    assert 500 <= largest <= 1_500


def test_keys_beyond_the_bound_are_held_together_and_not_let_go() -> None:
    """Case 37. A hundred thousand keys have a state each; others get theirs when these are as good as new.

    CI makes them; other runs take a lower bound.
    """
    throttle = Throttle(concurrency=1)
    most = _MOST_KEYS if IN_CI else 5_000
    table: States[ThrottleState] = States(lambda key: ThrottleState(throttle), most)
    for key in range(most):
        table.get(key, 0.0).grant()
    table.get("one more", 0.0).grant()

    assert _MOST_KEYS == 100_000
    assert len(list(table.items())) == most + 1
    assert table.get("another", 0.0).due_at(0.0) > 0.0
    assert table.get(5, 0.0).due_at(0.0) > 0.0
