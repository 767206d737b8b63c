"""The verbs of control as methods: blocking (`Control`), or to await (`AsyncControl`)."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tokengate.control import messages as m
from tokengate.control._exceptions import BadRequest
from tokengate.control._ports import Source
from tokengate.control._safe_text import class_name
from tokengate.control.api._following import AsyncFollowing, Following
from tokengate.control.api._handles import HandleControl
from tokengate.control.api._in_thread import in_thread
from tokengate.control.api._verbs import Verbs
from tokengate.control.messages import Message, OnTokens, Stream, verb_of
from tokengate.control.registry._verbs import Awaited, as_it_is

A = TypeVar("A")
R = TypeVar("R")


class Control(Verbs, HandleControl):
    """See and steer every token and actor of a gate, here (`gate.control`) or in another process.

    Each verb waits for the gate's answer. Besides the errors in its docstring, it raises `Unreachable` when the gate
    does not answer, and, in the gate's process, `WouldBlock` on the thread of a trio loop; await the verb of `aio`
    there.

    Args:
        ask: sends a message and returns its answer.
        follow: sends a message with many answers, and returns the stream, which misses nothing from then on.
        ask_async: awaits the answer, on trio and on asyncio; None asks in a thread.
        wait: seconds that `pause`, `step` and `terminate` wait unless they are given a `wait`.
        local: whether the gate is in this process, so that functions and values can be passed as they are.
    """

    def __init__(
        self,
        ask: Callable[[Message[Any]], Any],
        follow: Callable[[Stream], Source],
        ask_async: Callable[[Message[Any]], Awaitable[Any]] | None = None,
        *,
        wait: float = m.WAIT,
        local: bool = False,
    ) -> None:
        self._ask = ask
        self._follow = follow
        self._ask_async = ask_async
        self._wait = wait
        self._local = local

    @property
    def aio(self) -> AsyncControl:
        """The same verbs to await, on trio and asyncio."""
        return AsyncControl(self)

    def ask(self, message: Message[A]) -> A:
        """Send a message, which may be a plugin's, and return its answer."""
        return self._put(message, as_it_is)

    def follow(self, message: Stream) -> Following:
        """Send a message with many answers, and return an iterator over them, as `watch` does."""
        if not isinstance(message, Stream):
            raise BadRequest(f"{class_name(type(message))} is no message with many answers; use ask()")
        return Following(self._follow(message))

    @property
    def _blocking(self) -> Control:
        return self

    def _put(self, message: Message[R], read: Callable[[Any, R], A]) -> A:
        answer: Any = self._ask(message) if _is_asked(message) else ()
        return read(self, answer)


class AsyncControl(Verbs, Awaited):
    """The verbs of `Control`, to be awaited: `await gate.control.aio.pause(5)`.

    Arguments, results and errors are the same. The verbs of handles block; pass handles to the verbs here instead:
    `await aio.pause(handle)`. A verb that is cancelled may still be carried out.
    """

    def __init__(self, blocking: Control) -> None:
        self._control = blocking
        self._wait = blocking._wait
        self._local = blocking._local

    async def ask(self, message: Message[A]) -> A:
        """Send a message, and await its answer; see `Control.ask`."""
        return await self._answered(message, as_it_is)

    def follow(self, message: Stream) -> AsyncFollowing:
        """Send a message with many answers, and return an iterator over them for `async for`."""
        return AsyncFollowing(functools.partial(self._control.follow, message))

    @property
    def _blocking(self) -> Control:
        return self._control

    def _put(self, message: Message[R], read: Callable[[Any, R], A]) -> Any:
        return self._answered(message, read)

    async def _answered(self, message: Message[R], read: Callable[[Any, R], A]) -> A:
        ask_async = self._control._ask_async
        answer: Any = ()
        if _is_asked(message):
            if ask_async is not None:
                answer = await ask_async(message)
            else:
                answer = await in_thread(functools.partial(self._control._ask, message))
        return read(self, answer)


def _is_asked(message: Message[Any]) -> bool:
    """Tell whether the gate is asked: a message for no tokens has no outcomes.

    Raises:
        BadRequest: it is a message with many answers.
    """
    if isinstance(message, Stream):
        raise BadRequest(f"'{verb_of(type(message))}' has no single answer; use follow()")
    return not (isinstance(message, OnTokens) and message.select == ())
