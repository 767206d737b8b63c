"""Connections to a gate: their bounds, and what becomes of requests when senders, gates or connections go."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from callers import OWN
from scripted_gates import Asked, PlayedGate, happens, played

from tokengate.admin import _link
from tokengate.admin._link import Link
from tokengate.admin._principal import Principal
from tokengate.admin._problems import Problem
from tokengate.control import messages as m
from tokengate.control.transport._protocol import MAX_ANSWER

OWNER = Principal(f"uid:{OWN}", OWN, request="r1")


@pytest.fixture
def path() -> Iterator[Path]:
    """Where a gate listens that the test plays."""
    with tempfile.TemporaryDirectory(prefix="tg-") as directory:
        yield Path(directory, f"shop-{os.getpid()}-0.sock")


@asynccontextmanager
async def linked(path: Path) -> AsyncGenerator[Link]:
    """Have a link; at its end no task is left but this one."""
    link = Link(path)
    try:
        yield link
    finally:
        await link.close()


async def problem_of(asking: asyncio.Task[bytes]) -> Problem:
    with pytest.raises(Problem) as raised:
        await asking
    return raised.value


def asks(link: Link, message: m.Message[Any] | None = None, owner: int = OWN) -> asyncio.Task[bytes]:
    return asyncio.create_task(link.ask(message or m.Info(), Principal(f"uid:{owner}", owner, request="r1")))


async def turns() -> None:
    """Let all be sent and received that can be: both ends are on this loop."""
    for _ in range(20):
        await asyncio.sleep(0)


async def served(path: Path, play: Callable[[Link, PlayedGate], Any], **hello: Any) -> None:
    """Have a test play a gate and ask it; at the end no task is left."""
    async with played(path, **hello) as gate, linked(path) as link:
        await play(link, gate)
    await happens(lambda: asyncio.all_tasks() == {asyncio.current_task()})


def test_a_gate_has_eight_requests_at_a_time_and_others_wait_in_their_order(path: Path) -> None:
    """All on one connection; one owner has half of the 72 places at most, so that it takes none from all others."""

    async def play(link: Link, gate: PlayedGate) -> None:
        asking = [asks(link, m.Tokens(limit=1 + n), owner=n // 36) for n in range(72)]
        under_way = [await gate.next() for _ in range(8)]
        for owner, status, name in ((0, 429, "TooManyRequests"), (1, 429, "TooManyRequests"), (2, 503, "GateBusy")):
            busy = await problem_of(asks(link, owner=owner))
            assert (busy.status, busy.name, busy.headers) == (status, name, {"Retry-After": "1"})
        for n in range(72):
            await turns()
            assert (len(gate.open), gate.asked.empty()) == (1, True)
            one = under_way.pop(0)
            assert one.line["args"]["limit"] == 1 + n
            one.answer(n)
            if n < 64:
                under_way.append(await gate.next())
        assert [int(answer) for answer in await asyncio.gather(*asking)] == list(range(72))

    asyncio.run(served(path, play))


def test_a_request_whose_sender_has_gone_keeps_its_place_until_it_is_answered(path: Path) -> None:
    """Or senders that come and go would have a gate work on any number; the late answer is for no other request."""

    async def play(link: Link, gate: PlayedGate) -> None:
        given_up = [asks(link) for _ in range(8)]
        late = [await gate.next() for _ in range(8)]
        for one in given_up:
            one.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)
        own = asks(link)
        await turns()
        assert gate.asked.empty()
        late[0].answer("late")
        (await gate.next()).answer("own")
        assert await own == b'"own"'

    asyncio.run(served(path, play))


def test_a_request_that_waits_for_its_turn_can_be_given_up(path: Path) -> None:
    """It is never sent, and those behind it move up."""

    async def play(link: Link, gate: PlayedGate) -> None:
        asking = [asks(link, m.Tokens(limit=1 + n)) for n in range(10)]
        under_way = [await gate.next() for _ in range(8)]
        asking[8].cancel()
        under_way[0].answer(0)
        assert (await gate.next()).line["args"]["limit"] == 10

        gate.hang_up()
        ended = await asyncio.gather(*asking, return_exceptions=True)
        assert ended[0] == b"0"
        assert isinstance(ended[8], asyncio.CancelledError)
        assert {getattr(one, "name", "") for one in (*ended[1:8], ended[9])} == {"Unreachable"}
        await happens(lambda: not link._places._taken)

    asyncio.run(served(path, play))


@pytest.mark.parametrize("message", [m.WaitApproval(1, wait=60), m.Terminate("*", grace=60), m.Pause("*", wait=60)])
def test_what_waits_in_a_gate_holds_up_nothing_and_is_given_up_there(path: Path, message: m.Message[Any]) -> None:
    """Sixteen requests that wait have connections of their own, which end with their senders; one owner has eight."""

    async def play(link: Link, gate: PlayedGate) -> None:
        waiting = [asks(link, message, owner=n // 8) for n in range(16)]
        for _ in waiting:
            await gate.next()
        assert [(await problem_of(asks(link, message, owner=n))).status for n in range(3)] == [429, 429, 503]
        own = asks(link)
        (await gate.next()).answer("own")
        assert await own == b'"own"'
        await turns()
        assert (len(gate.open), gate.asked.empty()) == (17, True)

        waiting[0].cancel()
        await happens(lambda: len(gate.open) == 16)
        waiting.append(asks(link, message, owner=0))
        await gate.next()
        for one in waiting:
            one.cancel()
        await happens(lambda: len(gate.open) == 1)
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(served(path, play))


def test_a_gate_that_hangs_is_said_so_in_time_and_asked_on_the_same_connection_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its hello, and after it. It has one connection meanwhile, and late answers are dropped."""

    def be_patient(seconds: float) -> None:
        monkeypatch.setattr(_link, "_PATIENCE", seconds)

    async def play(link: Link, gate: PlayedGate) -> None:
        be_patient(0.02)
        for _ in range(3):
            assert (await problem_of(asks(link))).name == "NoAnswer"
        await happens(lambda: len(gate.open) == 1)
        be_patient(60)
        own = asks(link)
        gate.greet(gate.open[0])
        (await gate.next()).answer("own")
        assert await own == b'"own"'

        be_patient(0.02)
        assert (await problem_of(asks(link))).name == "NoAnswer"
        be_patient(60)
        late, second = await gate.next(), asks(link)
        last = await gate.next()
        late.answer("late")
        last.answer("last")
        assert await second == b'"last"'
        assert len(gate.open) == 1

    asyncio.run(served(path, play, silent=True))


def test_answers_up_to_the_bound_of_gates_arrive_whole(path: Path) -> None:
    """16 MiB; what is longer is no gate's."""

    async def play(link: Link, gate: PlayedGate) -> None:
        for length, arrives in ((MAX_ANSWER, True), (MAX_ANSWER + 1_000, False)):
            asking = asks(link)
            one = await gate.next()
            before = b'{"id":%d,"result":' % one.line["id"]
            text = b'"%b"' % (b"x" * (length - len(before) - 4))
            one.writer.write(b"%b%b}\n" % (before, text))
            if arrives:
                assert await asking == text
            else:
                assert (await problem_of(asking)).name == "Unreachable"

    asyncio.run(served(path, play))


@pytest.mark.parametrize("said", [b"nothing\n", b"[" * 5_000 + b"\n", b'{"id": "x"}\n', b'{"id": 1, "result": tru'])
def test_what_is_no_line_of_a_gate_ends_the_connection(path: Path, said: bytes) -> None:
    """And the next request has another one."""

    async def play(link: Link, gate: PlayedGate) -> None:
        asking = asks(link)
        one = await gate.next()
        one.writer.write(said)
        await one.writer.drain()
        one.writer.transport.close()
        assert (await problem_of(asking)).name == "Unreachable"
        again = asks(link)
        (await gate.next()).answer(1)
        assert await again == b"1"

    asyncio.run(served(path, play))


def test_a_gate_of_another_protocol_is_said_to_be_one(path: Path) -> None:
    """With both numbers, and the version to use; by requests and streams."""

    async def play(link: Link, _: PlayedGate) -> None:
        asked = await problem_of(asks(link))
        with pytest.raises(Problem) as raised:
            async with link.follow(m.Watch(), OWNER):
                pass
        for problem in (asked, raised.value):
            assert (problem.status, problem.name) == (503, "OtherProtocol")
            assert problem.detail.endswith("speaks protocol 1, and this daemon 2")
            assert problem.remedy == "use TokenGate 0.0.9 for both"

    asyncio.run(served(path, play, protocol=1, version="0.0.9"))


def test_where_no_gate_listens_that_is_said(path: Path) -> None:
    """Without a file, and at one without a listener; and a message that cannot be sent is an error of its own."""

    async def ask() -> None:
        async with linked(path) as link:
            assert (await problem_of(asks(link))).name == "Unreachable"
            path.touch()
            assert (await problem_of(asks(link))).name == "Unreachable"
            too_long = await problem_of(asks(link, m.Tokens("x" * 2**17)))
            assert (too_long.status, too_long.name) == (422, "BadRequest")
            wrong = await problem_of(asks(link, m.Tokens(limit="many")))  # type: ignore[arg-type]
            assert (wrong.status, wrong.name) == (422, "BadRequest")
            stream = await problem_of(asks(link, m.Watch()))
            assert (stream.status, stream.detail) == (422, "'watch' is a stream")

    asyncio.run(ask())


def test_whatever_gates_and_senders_do_each_answer_is_its_senders_and_nothing_is_left(
    path: Path, seed: int, rounds: Callable[[int], int]
) -> None:
    """Drawn: requests, senders that give up, answers in any order, connections that end, also within a line."""
    for one in range(rounds(8)):
        asyncio.run(served(path, partial(_storm, random.Random(seed + one))))


async def _storm(chance: random.Random, link: Link, gate: PlayedGate) -> None:
    asking: dict[int, asyncio.Task[bytes]] = {}
    under_way: list[Asked] = []
    numbers = itertools.count(1)

    def hear() -> None:
        under_way[:] = [one for one in under_way if not one.writer.transport.is_closing()]
        while not gate.asked.empty():
            under_way.append(gate.asked.get_nowait())
        assert max(Counter(one.writer for one in under_way).values(), default=0) <= 8

    def answer(chosen: Asked) -> None:
        under_way.remove(chosen)
        chosen.answer(chosen.line["args"]["offset"])

    for _ in range(150):
        hear()
        step = chance.choice(["ask"] * 6 + ["answer"] * 4 + ["give up", "hang up", "cut", "go on"])
        if step == "ask":
            number = next(numbers)
            asking[number] = asks(link, m.Tokens(offset=number))
        elif step == "give up" and asking:
            chance.choice(list(asking.values())).cancel()
        elif step == "answer" and under_way:
            answer(chance.choice(under_way))
        elif step == "hang up":
            gate.hang_up()
        elif step == "cut" and under_way:
            chosen = chance.choice(under_way)
            chosen.writer.write(json.dumps({"id": chosen.line["id"], "result": "cut"}).encode()[:-1])
            chosen.writer.transport.close()
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
    while not all(one.done() for one in asking.values()):
        hear()
        for chosen in list(under_way):
            answer(chosen)
        await asyncio.sleep(0)
    for number, one in asking.items():
        if not one.cancelled():
            error = one.exception()
            name = getattr(error, "name", "")
            assert name in ("Unreachable", "TooManyRequests") or (error is None and one.result() == b"%d" % number)

    last = [asks(link) for _ in range(9)]  # no place is lost
    eight = [await gate.next() for _ in range(8)]
    assert gate.asked.empty()
    for chosen in (*eight,):
        chosen.answer(True)
    (await gate.next()).answer(True)
    assert await asyncio.gather(*last) == [b"true"] * 9
    await happens(lambda: not link._places._taken)
