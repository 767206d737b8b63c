"""async-pykka: actors are tasks of one asyncio loop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from async_pykka import ActorRegistry, AsyncioActor
from sides.on_asyncio import Library, Workloads


class Echo(AsyncioActor):
    async def on_receive(self, message: Any) -> Any:
        return message


class AsyncPykka(Library):
    async def open(self, stack: AsyncExitStack) -> None:
        stack.push_async_callback(ActorRegistry.stop_all)

    async def spawn(self, name: str) -> Any:
        return Echo.start()

    async def ask_all(self, refs: Sequence[Any]) -> None:
        for answer in [ref.ask(self.message) for ref in refs]:
            await answer


workloads = Workloads(AsyncPykka)
