"""The verbs of control as methods: blocking (`Control`), or to await (`AsyncControl`)."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tokengate.control import messages as m
from tokengate.control.api._following import AsyncFollowing, Following, Source
from tokengate.control.api._handles import HandleControl
from tokengate.control.api._in_thread import in_thread
from tokengate.control.api._question import Awaited, Question
from tokengate.control.api._verbs import Verbs
from tokengate.control.messages import Message, Stream

A = TypeVar("A")


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

    def events(self) -> Following:
        """Follow what is published: reports of supervisors, dead letters, blocked loops.

        Returns:
            An iterator that waits for the next item, and misses nothing from now on. Close it with `close`, which wakes
            a thread that waits in it, or use it in a `with` block.
        """
        return Following(self._follow(m.Events()))

    def trace(self, name: str) -> Following:
        """Follow the tokens of actors: queued, started, finished; it costs nothing once the iterator is closed.

        Args:
            name: a path, the last part of one, or a pattern with `*`.

        Returns:
            An iterator, as `events` does.

        Raises:
            UnknownActor: no actor has this name.
        """
        return Following(self._follow(m.Trace(name)))

    def watch(self, select: str = "") -> Following:
        """Follow tokens that a selector matches: queued, started, finished.

        Args:
            select: which tokens: a selector; empty for all.

        Returns:
            An iterator, as `events` does.

        Raises:
            BadSelector: the selector cannot be read.
        """
        return Following(self._follow(m.Watch(select)))

    @property
    def _blocking(self) -> Control:
        return self

    def _put(self, question: Question[A]) -> A:
        return question.read(None if question.message is None else self._ask(question.message))


class AsyncControl(Verbs, Awaited):
    """The verbs of `Control`, to be awaited: `await gate.control.aio.pause(5)`.

    Arguments, results and errors are the same. The verbs of handles block; pass handles to the verbs here instead:
    `await aio.pause(handle)`. A verb that is cancelled may still be carried out.
    """

    def __init__(self, blocking: Control) -> None:
        self._control = blocking
        self._wait = blocking._wait
        self._local = blocking._local

    def events(self) -> AsyncFollowing:
        """Follow what is published; see `Control.events`."""
        return AsyncFollowing(self._control.events)

    def trace(self, name: str) -> AsyncFollowing:
        """Follow the tokens of actors; see `Control.trace`."""
        return AsyncFollowing(functools.partial(self._control.trace, name))

    def watch(self, select: str = "") -> AsyncFollowing:
        """Follow tokens that a selector matches; see `Control.watch`."""
        return AsyncFollowing(functools.partial(self._control.watch, select))

    @property
    def _blocking(self) -> Control:
        return self._control

    async def _put(self, question: Question[A]) -> A:
        message, ask_async = question.message, self._control._ask_async
        if message is None:
            answer = None
        elif ask_async is not None:
            answer = await ask_async(message)
        else:
            answer = await in_thread(functools.partial(self._control._ask, message))
        return question.read(answer)
