"""casty: actors are addressed by keys, and made by the first message; its runtime is compiled."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import casty
from sides.on_asyncio import Library, Workloads


@dataclass(frozen=True)
class Message(casty.Askable[int]):
    value: int


@casty.actor(initial=0)
async def echo(context: casty.Context[int, Message]) -> None:
    async for message in context.inbox:
        message.reply_to.tell(message.value)


class Casty(Library):
    message = Message(1)

    async def open(self, stack: AsyncExitStack) -> None:
        self._system = await stack.enter_async_context(casty.ActorSystem())

    async def spawn(self, name: str) -> Any:
        return self._system.ref(echo, name)


workloads = Workloads(Casty)
