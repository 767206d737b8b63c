"""everything-is-an-actor: actors are tasks of one asyncio loop, below a system."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from actor_for_agents import Actor, ActorSystem
from sides.on_asyncio import Library, Workloads


class Echo(Actor[Any, Any]):
    async def on_receive(self, message: Any) -> Any:
        return message


class Everything(Library):
    async def open(self, stack: AsyncExitStack) -> None:
        self._system = ActorSystem("benchmark")
        stack.push_async_callback(self._system.shutdown)

    async def spawn(self, name: str) -> Any:
        return await self._system.spawn(Echo, name)

    async def tell(self, ref: Any, number: int) -> None:
        tell, message = ref.tell, self.message
        for _ in range(number):
            await tell(message)


workloads = Workloads(Everything)
