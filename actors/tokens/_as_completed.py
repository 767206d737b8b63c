"""Waits for several tokens and futures at once: `wait` and `as_completed`."""

from __future__ import annotations

import asyncio
import math
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Final, Generic, Literal, Protocol, Self, TypeAlias, TypeVar, get_args

import attrs
import trio

from actors._exceptions import WaitTimeout, WouldBlock
from actors.concurrency._future import Future, Reply
from actors.concurrency._waiters import Waiter
from actors.tokens._token import Token, _current
from actors.tokens._waits_for import waiting_for

ReturnWhen: TypeAlias = Literal["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"]

_MODES: Final = get_args(ReturnWhen)


class Ending(Protocol):
    """A token, a reply, a future of `concurrent.futures`, or, on its own loop, a future of asyncio."""

    def done(self) -> bool: ...

    def add_done_callback(self, fn: Callable[[Any], object], /) -> object: ...


F = TypeVar("F", bound=Ending)


class _Arrive(Waiter):
    """The done callback of an `AsCompleted`, to which it has a weak reference."""

    __slots__ = ("_waiting",)

    def __init__(self, waiting: AsCompleted[Any]) -> None:
        self._waiting = weakref.ref(waiting)

    def __call__(self, future: Any) -> None:
        waiting = self._waiting()
        if waiting is not None:
            waiting._arrive(future)


@attrs.define(slots=True, eq=False, repr=False)
class _Arrival(Reply[None]):
    """A reply that is set when the next of several futures has ended."""

    def _describe(self) -> str:
        return "several tokens or futures"


class AsCompleted(Generic[F]):
    """Tokens and futures in the order in which they end: an iterator, and an async iterator (trio and asyncio)."""

    def __init__(self, futures: Iterable[F], timeout: float | None = None, *, every: bool = False) -> None:
        self._left: dict[F, None] = {}  # those that were not yet returned; first, since `forget` reads it
        self._callback = _Arrive(self)
        self._left |= _once(futures)
        self._number = len(self._left)
        if timeout is not None and not isinstance(timeout, int | float):
            raise TypeError(f"timeout is {timeout!r}; it must be a number of seconds, or None to wait for ever")
        self._timeout = timeout
        self._end = math.inf if timeout is None else time.monotonic() + max(timeout, 0.0)
        self._every = every  # whether the code that waits goes on only when all have ended
        # Those that have ended, and the reply that waits for the next one. A future is entered first, then the reply is
        # read; the waiting code writes the reply first, then looks for a future. So one of the two sees the other.
        self._arrived: dict[F, None] = {}
        self._arrival: _Arrival | None = None
        for future in self._left:
            _check(future)
        for future in self._left:
            if future.done():
                self._arrived[future] = None
            else:
                future.add_done_callback(self._callback)

    def __del__(self) -> None:
        if self.__dict__:  # else a signal handler has raised as the constructor began
            self.forget()  # a loop that is left early ends here

    def held_up_by(self) -> list[Token[Any]]:
        """Return the running tokens that must progress before the wait can end, as far as that is certain."""
        left = list(self._left)
        if len(left) > 1 and not self._every:
            return []
        tokens = [getattr(future, "token", future) for future in left]  # a future of `gate.executor()` has one
        return [running for token in tokens if isinstance(token, Token) for running in token.held_up_by()]

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> F:
        if not self._left:
            raise StopIteration
        while (future := self._take()) is None:
            arrival = self._next_arrival()
            if arrival is not None:
                if trio.lowlevel.in_trio_run() or _running_loop() is not None:
                    raise WouldBlock("'for' over as_completed would block the loop of this thread; use 'async for'")
                with waiting_for(_current.get(), self):
                    try:
                        arrival.result(self._seconds())
                    except WaitTimeout:
                        raise self._too_late() from None
        return future

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> F:
        if not self._left:
            raise StopAsyncIteration
        while (future := self._take()) is None:
            arrival = self._next_arrival()
            if arrival is not None and not await self._waited(arrival):
                raise self._too_late()
        return future

    def forget(self) -> None:
        """Take back the callbacks from those that have not ended."""
        for future in self._left:
            take_back = getattr(future, "_discard_callback", None) or getattr(future, "remove_done_callback", None)
            if take_back is not None:  # futures of `concurrent.futures` cannot
                take_back(self._callback)

    def _arrive(self, future: F) -> None:
        self._arrived[future] = None
        if self._arrival is not None:
            self._arrival._set()

    def _take(self) -> F | None:
        """Return the first one that has ended and was not returned before; None if there is none."""
        while self._arrived:
            future = next(iter(self._arrived))
            new = future in self._left
            self._left.pop(future, None)
            self._arrived.pop(future, None)
            if new:  # else its callback was called twice
                return future
        return None

    def _next_arrival(self) -> _Arrival | None:
        """Return the reply that will be set; None if one has ended in the meantime."""
        arrival = self._arrival = _Arrival()
        return None if self._arrived else arrival

    def _seconds(self) -> float | None:
        return None if self._timeout is None else max(0.0, self._end - time.monotonic())

    async def _waited(self, arrival: _Arrival) -> bool:
        """Await a reply until the time is over; return whether it is there. The turn is lent, as it is by a token."""
        waiter = _current.get()
        with waiting_for(waiter, self):
            if waiter is not None:
                waiter.lend_turn()
            try:
                if trio.lowlevel.in_trio_task():
                    with trio.move_on_at(trio.current_time() + (self._end - time.monotonic())):
                        await arrival.wait()
                else:
                    try:
                        async with asyncio.timeout(self._seconds()):
                            await arrival.wait()
                    except TimeoutError:
                        pass
            finally:
                if waiter is not None:
                    waiter.take_turn_back()
        return arrival.done()

    def _too_late(self) -> WaitTimeout:
        self.forget()
        return WaitTimeout(f"{len(self._left)} of {self._number} had not ended after {self._timeout} s")


class Waited(Generic[F]):
    """The outcome of `wait`: two sets, `done, not_done = wait(...)`. In trio and asyncio it is awaited first."""

    def __init__(self, futures: Iterable[F], timeout: float | None, return_when: ReturnWhen) -> None:
        self._all = list(_once(futures))
        self._waiting = AsCompleted(self._all, timeout, every=return_when == "ALL_COMPLETED")
        self._return_when = return_when
        self._done: set[F] = set()
        self._over = not self._all

    @property
    def done(self) -> set[F]:
        """The tokens and futures that have ended."""
        self._check_over()
        return self._done

    @property
    def not_done(self) -> set[F]:
        """The others."""
        self._check_over()
        return {future for future in self._all if future not in self._done}

    def __iter__(self) -> Iterator[set[F]]:
        return iter((self.done, self.not_done))

    def __await__(self) -> Generator[Any, Any, Self]:
        yield from self._wait().__await__()
        return self

    def block(self) -> None:
        """Wait on this thread."""
        try:
            self._collect()
        except WaitTimeout:
            pass
        finally:
            self._waiting.forget()
        self._note_done()

    async def _wait(self) -> None:
        try:
            await self._collect_on_loop()
        except WaitTimeout:
            pass
        finally:
            self._waiting.forget()
        self._note_done()

    def _collect(self) -> None:
        for future in self._waiting:
            if self._is_enough(future):
                return

    async def _collect_on_loop(self) -> None:
        async for future in self._waiting:
            if self._is_enough(future):
                return

    def _is_enough(self, future: F) -> bool:
        self._done.add(future)
        if self._return_when == "FIRST_EXCEPTION":
            return _has_failed(future)
        return self._return_when == "FIRST_COMPLETED"

    def _note_done(self) -> None:
        """Note all that have ended at this moment."""
        self._done.update(future for future in self._all if future.done())
        self._over = True

    def __repr__(self) -> str:
        if not self._over:
            return f"<Waited for {len(self._all)}: to be awaited>"
        return f"<Waited: {len(self._done)} done, {len(self._all) - len(self._done)} not done>"

    def _check_over(self) -> None:
        if not self._over:
            raise WouldBlock("waiting would block the loop of this thread; write 'await wait(...)' there")


def as_completed(futures: Iterable[F], timeout: float | None = None) -> AsCompleted[F]:
    """Return tokens and futures in the order in which they end: `for` in a thread, `async for` in trio and asyncio.

    A step that waits here lends its turn, as when it waits for one token.

    Args:
        futures: tokens, replies, futures of `concurrent.futures`, and on their own loop those of asyncio. Each is
            returned once.
        timeout: seconds, from now; None waits for ever.

    Raises:
        WaitTimeout: some have not ended in time; raised by the iterator, after those that have.
        WouldBlock: `for` would block the trio or asyncio loop of this thread; raised by the iterator.
        DeadlockError: the last one waits for the step that would wait for it; raised by the iterator.
        TypeError: one of them cannot be waited for here.
    """
    return AsCompleted(futures, timeout)


def wait(futures: Iterable[F], timeout: float | None = None, return_when: ReturnWhen = "ALL_COMPLETED") -> Waited[F]:
    """Wait for tokens and futures; in trio and asyncio, await what this returns.

    Args:
        futures: tokens, replies, futures of `concurrent.futures`, and on their own loop those of asyncio.
        timeout: seconds, after which the wait ends in any case; None waits for ever.
        return_when: `ALL_COMPLETED`, `FIRST_COMPLETED`, or `FIRST_EXCEPTION` (the wait ends with the first failure).

    Returns:
        two sets: `done, not_done = wait(...)`; on a thread with a loop, `done, not_done = await wait(...)`.

    Raises:
        DeadlockError: the one that is left, or with `ALL_COMPLETED` any, waits for the step that would wait for it.
        TypeError: one of them cannot be waited for here.
        ValueError: `return_when` is something else.
        WouldBlock: on a thread with a loop the sets are read without `await`; raised by what is returned.
    """
    if return_when not in _MODES:
        raise ValueError(f"return_when is {return_when!r}; choose one of {_MODES}")
    waited = Waited(futures, timeout, return_when)
    if not trio.lowlevel.in_trio_run() and _running_loop() is None:
        waited.block()
    return waited


def _once(futures: Iterable[F]) -> dict[F, None]:
    """Return each of the futures once, in order; raise `TypeError` if it is one, since that iterates when awaited."""
    if isinstance(futures, Reply):
        raise TypeError(f"{futures!r} is one future, where several may be waited for; pass a list: [{futures!r}]")
    return dict.fromkeys(futures)


def _check(future: Any) -> None:
    """Raise `TypeError` for what cannot be waited for here."""
    if not callable(getattr(future, "done", None)) or not callable(getattr(future, "add_done_callback", None)):
        raise TypeError(
            f"{future!r} is no token and no future; submit it, or start it as a task, and pass the token or task"
        )
    if asyncio.isfuture(future) and future.get_loop() is not _running_loop():
        raise TypeError(f"{future!r} is of another loop: wait for it there, with 'await wait(...)' or 'async for'")
    if isinstance(future, Future) and future._get_hook is not None and not future.done():
        raise TypeError(f"{future!r} is computed when it is asked for, and so never ends by itself; pass its sources")


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _has_failed(future: Any) -> bool:
    """Tell whether something that has ended was not cancelled, and has an exception."""
    cancelled = getattr(future, "cancelled", None)  # tokens and replies have none
    return not (cancelled is not None and cancelled()) and future.exception() is not None
