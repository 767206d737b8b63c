"""A fair line compared with a ring of lists, and with the line in which only age counts."""

from __future__ import annotations

import random
from itertools import count
from typing import Any

import pytest

from actors.lowlevel import FairLine
from actors.mailboxes._line import Line


class Waiting:
    """What stands in a line."""

    def __init__(self, key: str | int | None, priority: int = 0, name: int = 0) -> None:
        self.key = key
        self.priority = priority
        self.name = name

    def __repr__(self) -> str:
        return f"{self.key}{self.name}"


def fair_line() -> FairLine[Waiting]:
    return FairLine(lambda one: one.key)


class Ring:
    """A line as lists: [priority, key, number of its turn, tokens], in the order of their turns."""

    def __init__(self) -> None:
        self.keys: list[list[Any]] = []

    def append(self, token: Waiting, number: int) -> None:
        for key in self.keys:
            if key[:2] == [token.priority, token.key]:
                key[3].append(token)
                return
        self.keys.append([token.priority, token.key, number, [token]])

    def remove(self, token: Waiting) -> bool:
        for key in self.keys:
            if token in key[3]:
                key[3].remove(token)
                self.keys = [one for one in self.keys if one[3]]
                return True
        return False

    def first(self) -> tuple[int, int, Waiting]:
        key = max(self.keys, key=lambda one: one[0])  # the first of the highest
        return -key[0], key[2], key[3][0]

    def pop(self, number: int) -> Waiting:
        key = max(self.keys, key=lambda one: one[0])
        token: Waiting = key[3].pop(0)
        self.keys.remove(key)
        if key[3]:
            self.keys.append([*key[:2], number, key[3]])
        return token

    def all(self) -> list[Waiting]:
        copy, taken = Ring(), []
        copy.keys = [[*key[:3], list(key[3])] for key in self.keys]
        while copy.keys:
            taken.append(copy.pop(0))
        return taken


def test_it_takes_turns_like_a_ring_of_lists(seed: int) -> None:
    """Case 39. Tokens come, are taken, leave from anywhere and change their priority, in drawn schedules."""
    rng = random.Random(seed)
    for _ in range(60):
        line, ring, numbers, names = fair_line(), Ring(), count(1), count()
        keys, priorities = rng.sample(("a", "b", "c", 1, 2, None), rng.randint(1, 6)), rng.choice(((0,), (0, 1, -1)))
        waiting: list[Waiting] = []
        for _ in range(120):
            act = rng.random()
            if act < 0.5 or not waiting:
                token = Waiting(rng.choice(keys), rng.choice(priorities), next(names))
                number = next(numbers)
                line.append(token, number)
                ring.append(token, number)
                waiting.append(token)
            elif act < 0.75:
                number = next(numbers)
                assert line.first() == ring.first()
                token = line.pop(number)
                assert token is ring.pop(number)
                waiting.remove(token)
            else:
                token = rng.choice(waiting)
                assert line.remove(token)
                assert ring.remove(token)
                waiting.remove(token)
                if act < 0.9:  # a change of priority
                    token.priority, number = rng.choice(priorities), next(numbers)
                    line.append(token, number)
                    ring.append(token, number)
                    waiting.append(token)
                else:
                    assert not line.remove(token)
                    assert token not in line

            assert len(line) == len(waiting)
            assert list(line) == ring.all()
            assert all(token in line for token in waiting)
            lowest = [token for token in ring.all() if token.priority == min(one.priority for one in waiting)]
            assert line.oldest_of_lowest() is (lowest[0] if lowest else None)


def test_with_one_key_it_is_the_line_in_which_only_age_counts(seed: int) -> None:
    """So one can stand in for the other."""
    rng = random.Random(seed)
    line, other = fair_line(), Line()
    for number in range(300):
        waiting = list(line)
        if rng.random() < 0.6 or not waiting:
            token: Any = Waiting(None, rng.choice((0, 0, 1)), number)
            line.append(token, number)
            other.append(token, number)
        else:
            token = line.first()[2] if rng.random() < 0.5 else rng.choice(waiting)
            assert line.remove(token)
            assert other.remove(token)

        assert [repr(one) for one in line] == [repr(one) for one in other]
        assert len(line) == len(other)
        assert line.oldest_of_lowest() is other.oldest_of_lowest()
        if len(line):
            assert (line.first()[0], line.first()[2]) == (other.first()[0], other.first()[2])


def test_a_key_keeps_its_turn_when_its_first_token_leaves() -> None:
    """Only a token that is taken is a turn."""
    line = fair_line()
    tokens = [Waiting(key, 0, name) for name, key in enumerate("aab")]
    for number, token in enumerate(tokens):
        line.append(token, number)
    line.remove(tokens[0])

    assert line.first() == (0, 0, tokens[1])
    assert line.pop() is tokens[1]
    assert line.pop() is tokens[2]


def test_two_lines_with_one_counter_take_turns_like_one() -> None:
    """Case 39. The number of a turn tells which of two lines goes first."""
    numbers = count()
    lines = {"a": fair_line(), "b": fair_line()}
    for key in "aaabb":
        lines[key].append(Waiting(key), next(numbers))
    order = ""
    while any(lines.values()):
        line = min((one for one in lines.values() if one), key=lambda one: one.first()[:2])
        order += str(line.pop(next(numbers)).key)

    assert order == "ababa"


def _waits(heavy: int, seed: int) -> list[float]:
    """Return the waits of 999 light tenants, in ms, beside one that sends `heavy` tokens in each ms; 1 ms serves one.

    The light ones send 20 % of what can be served; 4,000 ms are looked at.
    """
    line, names, waits, rng = fair_line(), count(), [], random.Random(seed)
    for now in range(4_000):
        for _ in range(heavy):
            line.append(Waiting("heavy", 0, next(names)))
        if rng.random() < 0.2:
            line.append(Waiting(rng.randrange(999), 0, now))
        if line:
            token = line.pop()
            if token.key != "heavy":
                waits.append(float(now - token.name))
    return waits


def test_one_key_with_ninety_percent_of_the_load_does_not_delay_the_others(seed: int) -> None:
    """Case 39. A thousand tenants at double load; the others wait nearly as without it."""
    alone, beside = sorted(_waits(0, seed)), sorted(_waits(2, seed))

    assert len(beside) == pytest.approx(len(alone), abs=3)
    assert beside[int(0.99 * len(beside))] <= alone[int(0.99 * len(alone))] + 3
    assert beside[-1] <= 10
