"""Streams of gates: shared by equal readers, each of which loses only what it does not read itself."""

from __future__ import annotations

import asyncio
import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from callers import OWN
from scripted_gates import Asked, PlayedGate, happens, played

from tokengate.admin import _feeds
from tokengate.admin._feeds import Feeds, Reader
from tokengate.admin._link import Link
from tokengate.admin._principal import Principal
from tokengate.admin._problems import Problem
from tokengate.control import messages as m

OWNER = Principal(f"uid:{OWN}", OWN, request="r1")
WATCH = m.Watch()


@pytest.fixture
def path() -> Iterator[Path]:
    """Where a gate listens that the test plays."""
    with tempfile.TemporaryDirectory(prefix="tg-") as directory:
        yield Path(directory, f"shop-{os.getpid()}-0.sock")


Play = Callable[[Feeds, PlayedGate], Any]


def play(path: Path, test: Play) -> None:
    """Have a test play a gate and read its streams; at the end no task is left."""

    async def run() -> None:
        async with played(path) as gate:
            feeds = Feeds(Link(path))
            await test(feeds, gate)
            await feeds.close()
            await happens(lambda: not gate.open)
        await happens(lambda: asyncio.all_tasks() == {asyncio.current_task()})

    asyncio.run(run())


@attrs.define(eq=False)
class Reading:
    """A reader in a task of its own.

    Attributes:
        items: that it has got.
        lost: how many were left out.
        task: ends with the stream, or with its error.
        goes_on: cleared while it does not read.
    """

    items: list[int] = attrs.field(factory=list)
    lost: int = 0
    goes_on: asyncio.Event = attrs.field(factory=asyncio.Event)
    is_open: bool = False
    task: asyncio.Task[None] = attrs.field(init=False)

    @classmethod
    def of(cls, feeds: Feeds, stream: m.Stream = WATCH, principal: Principal = OWNER) -> Reading:
        made = cls()
        made.goes_on.set()
        made.task = asyncio.create_task(made._read(feeds, stream, principal))
        return made

    async def _read(self, feeds: Feeds, stream: m.Stream, principal: Principal) -> None:
        async with feeds.follow(stream, principal) as reader:
            self.is_open = True
            async for item in reader:
                self.items.append(json.loads(item)["seq"])
                self.lost += reader.take_lost()
                await self.goes_on.wait()

    @property
    def seen(self) -> int:
        return len(self.items) + self.lost


def opened(asked: Asked) -> None:
    asked.answer(True)


def test_equal_readers_share_a_stream_and_each_gets_all_of_it(path: Path) -> None:
    """Case 12. Fifty equal streams are one in the gate; others have their own. Requests do not tell them apart."""

    async def test(feeds: Feeds, gate: PlayedGate) -> None:
        readings = [Reading.of(feeds, m.Watch(), attrs.evolve(OWNER, request=f"r{n}")) for n in range(50)]
        other = [
            Reading.of(feeds, m.Watch("tenant=acme")),
            Reading.of(feeds, m.Watch(), attrs.evolve(OWNER, rights=frozenset({"view"}))),
            Reading.of(feeds, m.Watch(), attrs.evolve(OWNER, groups=(5,))),
        ]
        asked = [await gate.next() for _ in range(4)]
        shared = next(
            one
            for one in asked
            if one.line["args"]["select"] == ""
            and len(one.line["on_behalf_of"]["groups"]) == 0
            and one.line["on_behalf_of"]["rights"] is None
        )
        opened(shared)
        await happens(lambda: all(one.is_open for one in readings))
        assert not any(one.is_open for one in other)
        late = Reading.of(feeds)
        await happens(lambda: late.is_open)
        for seq in range(100):
            shared.say({"item": {"seq": seq}})
        await happens(lambda: all(len(one.items) == 100 for one in (*readings, late)))
        assert all((one.items, one.lost) == (list(range(100)), 0) for one in (*readings, late))
        assert (len(gate.open), gate.asked.empty()) == (4, True)
        shared.say({"end": True})
        await asyncio.gather(late.task, *(one.task for one in readings))
        for one in other:
            one.task.cancel()

    play(path, test)


def test_what_one_reader_does_not_read_is_lost_to_it_alone_and_counted(
    path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 12. Drawn: items of any size, readers that stop and go on, items that the gate has left out before."""
    monkeypatch.setattr(_feeds, "_ROOM", 4_096)
    monkeypatch.setattr(_feeds, "_TURN", 512)
    chance = random.Random(seed)

    async def test(feeds: Feeds, gate: PlayedGate) -> None:
        readings = [Reading.of(feeds) for _ in range(5)]
        stream = await gate.next()
        opened(stream)
        await happens(lambda: all(one.is_open for one in readings))
        sent = left_out = 0
        for seq in range(600):
            lost = chance.choice([0, 0, 0, chance.randrange(1, 5)])
            stream.say({"item": {"seq": seq, "text": "x" * chance.randrange(600), **({"lost": lost} if lost else {})}})
            sent, left_out = sent + 1, left_out + lost
            for one in readings[1:]:
                if chance.random() < 0.05:
                    one.goes_on.clear() if one.goes_on.is_set() else one.goes_on.set()
            if chance.random() < 0.2:
                await happens(lambda: readings[0].seen == sent + left_out)  # noqa: B023
        for one in readings:
            one.goes_on.set()
        await happens(lambda: all(one.seen == sent + left_out for one in readings))
        assert (readings[0].items, readings[0].lost) == (list(range(600)), left_out)
        assert all(one.items == sorted(set(one.items)) for one in readings)
        assert any(one.lost > left_out for one in readings[1:])
        for one in readings:
            one.task.cancel()

    play(path, test)


def test_an_item_that_is_waited_for_is_not_lost_by_giving_up(path: Path) -> None:
    """Routes wait with a time limit, after which they send a comment."""

    async def test(feeds: Feeds, gate: PlayedGate) -> None:
        async def read() -> list[bytes]:
            async with feeds.follow(m.Watch(), OWNER) as reader:
                got: list[bytes] = []
                while len(got) < 50:
                    try:
                        async with asyncio.timeout(0):
                            got.append(await anext(reader))
                    except TimeoutError:
                        await asyncio.sleep(0)
                return got

        reading = asyncio.create_task(read())
        stream = await gate.next()
        opened(stream)
        for seq in range(50):
            stream.say({"item": {"seq": seq}})
            await asyncio.sleep(0)
        assert [json.loads(item)["seq"] for item in await reading] == list(range(50))

    play(path, test)


def test_the_last_reader_that_leaves_ends_the_stream(path: Path) -> None:
    """Also one that leaves while it opens; the next one opens another."""

    async def test(feeds: Feeds, gate: PlayedGate) -> None:
        for opens in (False, True):
            readings = [Reading.of(feeds) for _ in range(3)]
            stream = await gate.next()
            if opens:
                opened(stream)
                await happens(lambda: all(one.is_open for one in readings))  # noqa: B023
            for one in readings[:2]:
                one.task.cancel()
            await asyncio.sleep(0)
            assert len(gate.open) == 1
            readings[2].task.cancel()
            await happens(lambda: not gate.open)
        assert feeds._open == {}

    play(path, test)


@pytest.mark.parametrize("begun", [False, True])
def test_the_end_of_a_stream_and_its_error_reach_all_readers(path: Path, *, begun: bool) -> None:
    """After the items that came before; an error of the beginning is raised when it is opened."""

    async def test(feeds: Feeds, gate: PlayedGate) -> None:
        refused = {"error": {"type": "Refused", "message": "your rights have changed; open it again"}}
        for said, status in ((refused, 403), (None, 503), ({"end": True}, 0)):
            readings = [Reading.of(feeds) for _ in range(3)]
            stream = await gate.next()
            if begun:
                opened(stream)
                stream.say({"item": {"seq": 1}})
                await happens(lambda: all(one.is_open for one in readings))  # noqa: B023
            if said is None:
                stream.writer.transport.close()
            else:
                stream.say(said)
            ended = await asyncio.gather(*(one.task for one in readings), return_exceptions=True)
            assert [getattr(one, "status", 0) for one in ended] == [status or 503 * (not begun)] * 3
            assert [one.items for one in readings] == [[1] if begun else []] * 3
            await happens(lambda: not gate.open)

    play(path, test)


def test_a_stream_that_has_ended_is_shared_with_nobody_more(path: Path) -> None:
    """Also while a slow reader has not left it yet."""

    async def test(feeds: Feeds, gate: PlayedGate) -> None:
        slow = Reading.of(feeds)
        stream = await gate.next()
        opened(stream)
        slow.goes_on.clear()
        for seq in range(2):
            stream.say({"item": {"seq": seq}})
        stream.say({"end": True})
        await happens(lambda: not gate.open)
        other = Reading.of(feeds)
        opened(await gate.next())
        await happens(lambda: other.is_open)
        slow.goes_on.set()
        await slow.task
        assert (slow.items, other.task.done(), len(feeds._open)) == ([0, 1], False, 1)
        other.task.cancel()

    play(path, test)


def test_a_gate_has_a_bounded_number_of_streams_that_are_no_equals(path: Path) -> None:
    """Each has one of the connections that a gate has for all its clients."""

    async def test(feeds: Feeds, gate: PlayedGate) -> None:
        readings = [Reading.of(feeds, m.Watch(f"tenant=t{n}")) for n in range(32)]
        for _ in readings:
            opened(await gate.next())
        with pytest.raises(Problem) as raised:
            async with feeds.follow(m.Watch("tenant=other"), OWNER):
                pass
        assert (raised.value.status, raised.value.name, raised.value.headers) == (503, "GateBusy", {"Retry-After": "5"})
        same = Reading.of(feeds, m.Watch("tenant=t5"))
        await happens(lambda: same.is_open)
        for one in (*readings, same):
            one.task.cancel()

    play(path, test)


def test_a_reader_has_room_for_one_item_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """And for others, as far as they fit."""
    monkeypatch.setattr(_feeds, "_ROOM", 100)

    async def test() -> None:
        reader = Reader()
        for size in (500, 1, 1):
            reader.put(b"x" * size, 0)
        assert (len(await anext(reader)), reader.take_lost(), reader.take_lost()) == (500, 2, 0)
        for size in (60, 40, 1):
            reader.put(b"x" * size, 3)
        reader.end(None)
        assert ([len(item) async for item in reader], reader.take_lost()) == ([60, 40], 10)

    asyncio.run(test())
