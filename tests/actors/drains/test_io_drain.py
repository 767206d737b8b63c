"""The worker of a loop gives way to other tasks of the loop after each quantum, and no more often."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from gated_code import opened_at_the_end

from actors import ActorSystem
from actors.concurrency._future import Reply
from actors.drains._asyncio_drain import AsyncioWorker
from actors.drains._io_worker import IoWorker
from actors.system._recovery import _locals

LIMIT = 10.0

Until = Callable[[Callable[[], bool]], None]


@pytest.mark.parametrize(("affinity", "worker"), [("io", IoWorker), ("asyncio", AsyncioWorker)])
def test_a_wait_begins_a_new_quantum(
    affinity: str, worker: type[IoWorker], monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """However long it was: other tasks had their turn meanwhile."""
    now = [0.0]
    given_way: list[None] = []
    pass_turn: Any = worker._pass_turn

    async def count() -> None:
        given_way.append(None)
        await pass_turn()

    monkeypatch.setattr(worker, "_pass_turn", staticmethod(count))
    system = ActorSystem("test", clock=lambda: now[0], blocked_after=None)
    system.open()
    opened = Reply[str]()

    async def wait() -> str:
        return await opened

    try:
        place = system.operation_place("operation", affinity, generator=False, concurrency=1)
        first, second = (place.send(place.token("op", wait, (), {})) for _ in range(2))
        until(lambda: bool(opened._callbacks))
        now[0] = 60.0
        opened._set("opened")

        assert (first.result(LIMIT), second.result(LIMIT)) == ("opened", "opened")
        assert given_way == []
    finally:
        system.close(LIMIT)


@pytest.mark.parametrize("affinity", ["io", "asyncio"])
def test_a_worker_whose_variables_were_read_keeps_no_token(affinity: str, until: Until) -> None:
    """Until Python 3.13 a frame keeps the values that were read, and that of an idle worker would keep its token."""
    system = ActorSystem("test", blocked_after=None)
    system.open()
    try:
        with opened_at_the_end() as make:
            door = make()

            async def block() -> None:
                door.pass_through()

            place = system.operation_place("operation", affinity, generator=False, concurrency=1)
            token: Any = place.send(place.token("op", block, (), {}))
            door.wait_reached()
            assert any(value is token for value in _locals(waiting=False))
            door.open()
            token.result(LIMIT)
            held, token = weakref.ref(token), None

            until(lambda: gc.collect() >= 0 and held() is None)
    finally:
        system.close(LIMIT)
