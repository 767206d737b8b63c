"""Lanes in which keys take turns, within a mailbox."""

from __future__ import annotations

import random
from collections import deque
from typing import Any, cast

import pytest

from actors import ActorSystem, Token
from actors.lowlevel import Mailbox
from actors.mailboxes._mailbox import Drainer
from actors.tokens._ports import TokenPolicy

SYSTEM = ActorSystem("unopened", threads=2, clock=lambda: 0.0)
PLACE = SYSTEM.operation_place("operation", "cpu", generator=False, concurrency=1)


class Keyed:
    """What a token is held to, as far as lanes ask."""

    def __init__(self, key: str | int | None) -> None:
        self.fair_key = key


def token_of(key: str | int | None, priority: int = 0) -> Token[Any]:
    token = PLACE.token("operation", int, (), {}, priority)
    token._own_extras().policy = cast("TokenPolicy", Keyed(key))
    return token


def key_of(token: Token[Any]) -> str | int | None:
    policy = token._extras.policy
    return None if policy is None else policy.fair_key


class Box:
    """A mailbox whose keys take turns, and its only drainer."""

    def __init__(self, *, fair: bool = True, **options: Any) -> None:
        self.woken: list[Drainer] = []
        self.dropped: list[Token[Any]] = []
        self.box = Mailbox("box", wake=self.woken.append, on_drop=self.dropped.append, **options)
        self.box.set_fair(fair)

    def put(self, *keys: str | int | None, priority: int = 0) -> list[Token[Any]]:
        tokens = [token_of(key, priority) for key in keys]
        for token in tokens:
            self.box.put(token)
        return tokens

    def take(self, count: int = 1_000_000) -> list[Token[Any]]:
        taken = []
        while len(taken) < count and self.woken:
            token = self.box.take(self.woken[0])
            if token is None:  # the drainer has left
                self.woken.pop(0)
            else:
                assert isinstance(token, Token)
                taken.append(token)
        return taken

    def keys(self, count: int = 1_000_000) -> str:
        return "".join(str(key_of(token) or "-") for token in self.take(count))


def test_keys_take_turns_within_a_priority_and_order_holds_per_key() -> None:
    box = Box()
    first = box.put(*"aaabbc")
    box.put(*"bba", priority=1)
    assert box.keys(3) == "bab"
    taken = box.take()

    assert "".join(str(key_of(token)) for token in taken) == "abcaba"
    for key in "abc":
        assert [one for one in taken if key_of(one) == key] == [one for one in first if key_of(one) == key]


def test_tokens_without_the_key_take_turns_as_one() -> None:
    box = Box()
    box.put("a", None, None, None, "a", "b")
    box.box.put(PLACE.token("operation", int, (), {}))  # it is held to nothing
    assert box.keys() == "a-ba---"


def test_a_thousand_keys_wait_as_without_the_one_that_sends_most() -> None:
    """Case 39. Each other key has at most one token of the big one before each of its own."""
    small = [f"tenant {number}" for number in range(999)]
    with_it, without = Box(), Box()
    flood = ["big"] * 9_000
    with_it.put(*flood, *small)
    without.put(*small)
    order = [key_of(token) for token in with_it.take()]

    assert [key for key in order if key != "big"] == [key_of(token) for token in without.take()]
    assert [order.index(key) for key in small] == list(range(1, 1_000))
    assert order.count("big") == 9_000


def test_cancel_pause_resume_and_renice_find_a_token_in_its_turn() -> None:
    box = Box()
    _, a2, _, b1, _, c1 = box.put(*"aaabbc")
    assert box.keys(1) == "a"
    assert box.box.withdraw(a2)
    assert not box.box.withdraw(a2)
    assert box.box.hold(c1)
    assert box.box.renice(b1, 5)

    assert box.keys(1) == "b"
    assert box.box.release(c1)
    assert box.keys() == "bac"


def test_what_is_given_back_goes_ahead_of_all_turns_of_its_priority() -> None:
    box = Box()
    box.put(*"ab")
    token = box.box.take(box.woken[0])
    assert isinstance(token, Token)
    box.put(*"b")
    high, *_ = box.put("c", priority=1)
    assert box.box.give_back(token)
    taken = box.take()

    assert taken[:2] == [high, token]
    assert [key_of(one) for one in taken[2:]] == ["b", "b"]


def test_a_full_mailbox_drops_a_token_of_the_lowest_priority() -> None:
    box = Box(capacity=3, overflow="drop_oldest")
    low = box.put(*"a", priority=-1)
    box.put(*"ab")
    box.put(*"c")
    box.put(*"d")

    assert [key_of(token) for token in box.dropped] == ["a", "a"]
    assert box.dropped[0] is low[0]
    assert box.keys() == "bcd"


@pytest.mark.parametrize("fair", [True, False])
def test_queued_tokens_stay_when_turns_begin_or_end(fair: bool) -> None:
    """Those that waited go on in the order of that moment, those that come later behind them."""
    box = Box(fair=not fair)
    box.put(*"aab")
    box.put(*"cc", priority=2)
    box.put(*"ddd", priority=-2)
    box.box.set_fair(fair)
    box.put(*"eaa")

    assert box.keys() == ("cc" + "abeaaa" + "ddd" if fair else "cc" + "aba" + "eaa" + "ddd")


def test_each_operation_leaves_what_a_list_leaves(seed: int) -> None:
    """Case 39. No token is lost or taken twice, whatever is done to it, and its key's order holds."""
    draw = random.Random(seed)
    box, waiting, paused, lanes = Box(), [], deque[Token[Any]](), dict[tuple[int, Any], list[Token[Any]]]()
    for _ in range(2_000):
        what = draw.randrange(7)
        token = draw.choice(waiting) if waiting else None
        if what < 3 or token is None:
            (new,) = box.put(draw.choice("abcd"), priority=draw.choice([0, 0, 0, 1, -1]))
            waiting.append(new)
            lanes.setdefault((new.priority, key_of(new)), []).append(new)
        elif what == 3:
            (taken,) = box.take(1)
            assert taken.priority == max(one.priority for one in waiting)
            assert lanes[taken.priority, key_of(taken)].pop(0) is taken
            waiting.remove(taken)
        elif what == 4:
            assert box.box.hold(token)
            waiting.remove(token)
            lanes[token.priority, key_of(token)].remove(token)
            paused.append(token)
        elif what == 5:
            assert box.box.withdraw(token)
            waiting.remove(token)
            lanes[token.priority, key_of(token)].remove(token)
        else:
            lanes[token.priority, key_of(token)].remove(token)
            assert box.box.renice(token, draw.choice([0, 1, -1]))
            lanes.setdefault((token.priority, key_of(token)), []).append(token)
        if paused and draw.random() < 0.5:
            back = paused.popleft()
            assert box.box.release(back)
            waiting.append(back)
            lanes.setdefault((back.priority, key_of(back)), []).append(back)
        assert box.box.size == len(waiting) + len(paused)
        assert box.box.tokens() == {*waiting, *paused}
