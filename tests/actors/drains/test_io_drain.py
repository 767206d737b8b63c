"""The worker of a loop gives way to other tasks of the loop after each quantum, and no more often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from actors import ActorSystem
from actors.concurrency._future import Reply
from actors.drains._asyncio_drain import AsyncioWorker
from actors.drains._io_worker import IoWorker

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
