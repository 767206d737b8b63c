"""Answers that equal askers share, on a loop whose time the test sets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest

from tokengate.admin import _snapshots
from tokengate.admin._problems import Problem
from tokengate.admin._snapshots import Snapshots


@attrs.define(eq=False)
class Made:
    """What makes answers; each has the number of its making.

    Attributes:
        number: of makings so far.
        takes: seconds that a making takes.
        gate: set when makings may end.
    """

    number: int = 0
    now: float = 1_000.0
    takes: float = 0.0
    error: Exception | None = None
    may_end: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def __call__(self) -> bytes:
        self.number += 1
        own = self.number
        await self.may_end.wait()
        self.now += self.takes
        if self.error is not None:
            raise self.error
        return b"%d" % own


def on_a_clock(test: Callable[[Snapshots, Made], Awaitable[None]]) -> None:
    async def run() -> None:
        snapshots, made = Snapshots(), Made()
        made.may_end.set()
        asyncio.get_running_loop().time = lambda: made.now  # type: ignore[method-assign]
        try:
            await test(snapshots, made)
        finally:
            await snapshots.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert snapshots._timer is None or snapshots._timer.cancelled()

    asyncio.run(run())


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def test_an_answer_is_made_once_a_second_at_most() -> None:
    """Callers that ask until then get the same; others have their own."""

    async def test(snapshots: Snapshots, made: Made) -> None:
        assert [await snapshots.get("a", made) for _ in range(3)] == [b"1"] * 3
        assert await snapshots.get("b", made) == b"2"
        made.now += 0.99
        assert await snapshots.get("a", made) == b"1"
        made.now += 0.01
        assert await snapshots.get("a", made) == b"3"

    on_a_clock(test)


@pytest.mark.parametrize(("takes", "pause"), [(0.015625, 1.0), (0.125, 2.5), (0.5, 10.0)])
def test_making_an_answer_takes_a_twentieth_of_the_time_at_most(takes: float, pause: float) -> None:
    """One that took 125 ms is made again 2.5 s after it was begun, at the earliest."""

    async def test(snapshots: Snapshots, made: Made) -> None:
        began, made.takes = made.now, takes
        await snapshots.get("a", made)
        for n in range(1, 100):
            made.now = began + pause * n / 100
            assert await snapshots.get("a", made) == b"1"
        made.now = began + pause
        assert await snapshots.get("a", made) == b"2"

    on_a_clock(test)


def test_those_who_ask_at_once_wait_for_one_making() -> None:
    """One that leaves takes nothing from the others; with the last one, the making is given up."""

    async def test(snapshots: Snapshots, made: Made) -> None:
        made.may_end.clear()
        asking = [asyncio.create_task(snapshots.get("a", made)) for _ in range(5)]
        await turns()
        asking[0].cancel()
        await turns()
        made.may_end.set()
        ended: list[Any] = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(ended[0], asyncio.CancelledError)
        assert (ended[1:], made.number) == ([b"1"] * 4, 1)

        made.may_end.clear()
        made.now += 1
        asking = [asyncio.create_task(snapshots.get("a", made)) for _ in range(2)]
        await turns()
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        made.may_end.set()
        await turns()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert await snapshots.get("a", made) == b"3"

    on_a_clock(test)


def test_an_error_is_shared_and_not_kept() -> None:
    """All that wait get it; the next one asks anew."""

    async def test(snapshots: Snapshots, made: Made) -> None:
        made.error = Problem(503, "NoAnswer", "late")
        asking = [asyncio.create_task(snapshots.get("a", made)) for _ in range(3)]
        assert await asyncio.gather(*asking, return_exceptions=True) == [made.error] * 3
        assert made.number == 1
        made.error = None
        assert await snapshots.get("a", made) == b"2"

    on_a_clock(test)


def test_an_answer_is_forgotten_for_which_nobody_has_asked_for_five_seconds() -> None:
    """Without another asker that would look."""

    async def test(snapshots: Snapshots, made: Made) -> None:
        await snapshots.get("a", made)
        await snapshots.get("b", made)
        await turns()
        made.now += 4
        await snapshots.get("b", made)
        made.now += 1
        await turns()
        assert (list(snapshots._known), snapshots._bytes) == (["b"], 1)
        made.now += 4
        await turns()
        assert (list(snapshots._known), snapshots._bytes) == ([], 0)

    on_a_clock(test)


def test_answers_have_a_bound_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it, those go first that were not asked for the longest."""

    async def test(snapshots: Snapshots, made: Made) -> None:
        monkeypatch.setattr(_snapshots, "_ROOM", 3)
        for key in "abc":
            await snapshots.get(key, made)
        await snapshots.get("a", made)
        await snapshots.get("d", made)
        await turns()
        assert (list(snapshots._known), snapshots._bytes) == (["c", "a", "d"], 3)

    on_a_clock(test)
