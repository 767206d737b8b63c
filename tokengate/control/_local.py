"""The way to a gate's control actor within its process: `gate.control`."""

from __future__ import annotations

import asyncio
from typing import Any

import trio

from actors import ActorRef, Token, WaitTimeout
from tokengate.control._actor import ControlActor
from tokengate.control.api._control import Control
from tokengate.control.inspection._feeds import Feed
from tokengate.control.messages import ANSWER_SECONDS, Health, HealthReport, Message, Stream


def control_of(ref: ActorRef[ControlActor], gate: str) -> Control:
    """Return the verbs of a control actor.

    Args:
        ref: its ref.
        gate: name of its gate.
    """

    def ask(message: Message[Any]) -> Any:
        if type(message) is not Health:
            return ref.ask(message)
        token: Token[HealthReport] = ref.ask(message, block=False)
        try:
            return token.result(ANSWER_SECONDS)
        except WaitTimeout:
            return late(token)

    async def ask_async(message: Message[Any]) -> Any:
        if type(message) is not Health:
            return await ref.call(message)
        token: Token[HealthReport] = ref.ask(message, block=False)
        if trio.lowlevel.in_trio_task():
            with trio.move_on_after(ANSWER_SECONDS):
                await token.wait()
        else:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await token.wait()
            except TimeoutError:
                pass
        return late(token)

    def late(token: Token[HealthReport]) -> HealthReport:
        """Return the answer, or the report of a gate that hangs."""
        if token.done():
            return token.result()
        token.cancel()
        return HealthReport.of_hung(gate)

    def follow(stream: Stream) -> Feed[Any]:
        feed: Feed[Any] = ref.ask(stream)
        return feed

    return Control(ask, follow, ask_async, local=True)
