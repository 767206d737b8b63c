"""Replies, which the runtime sets, and pykka's futures on them, which a program sets: outcomes to wait for."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import operator
import queue
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar

import attrs
import pykka
import trio

from actors._exceptions import TokenFailed, WaitTimeout, WouldBlock
from actors._exit_reason import safe_repr
from actors.concurrency._blocking import LONG_WAIT, blocking, check_interrupted, loop_here, refusal
from actors.concurrency._run_queue import look_around
from actors.concurrency._waiters import (
    AsyncioWaiter,
    ThreadWaiter,
    TrioWaiter,
    Waiter,
    is_for_the_program,
    wake_now,
)

if TYPE_CHECKING:
    from pykka._types import OptExcInfo

T = TypeVar("T")

_logger = logging.getLogger("tokengate.actors")

# Seconds after which a waiting thread checks for the outcome itself.
_LOOK_UP = 1.0

_call: Callable[..., object] = operator.call

# Guards what happens seldom to one reply: the setting of an outcome that is not a token's, and whatever is made when it
# is first needed: the list of callbacks, the extras of a token.
rare = threading.Lock()


@attrs.define(slots=True, eq=False, repr=False)
class Reply(Generic[T]):
    """A result or an exception that will be set once.

    It has the methods of `concurrent.futures.Future` (`result`, `exception`, `done`,
    `add_done_callback`) and of `pykka.Future` (`get`, `map`, `filter`, `join`, `reduce`), and it can be
    awaited from trio and from asyncio. Cancelling a wait, or a wait that times out, leaves it as it was.
    """

    _done: bool = attrs.field(default=False, init=False)
    _value: Any = attrs.field(default=None, init=False)
    _error: BaseException | None = attrs.field(default=None, init=False)
    # Made by the first waiter. The thread that pops a callback runs it, so that each runs exactly once.
    _callbacks: list[Callable[[Any], object]] | None = attrs.field(default=None, init=False)

    def done(self) -> bool:
        """Tell whether the outcome is there."""
        return self._done

    def result(self, timeout: float | None = None) -> T:
        """Wait for the outcome and return it, or raise it.

        Args:
            timeout: seconds to wait at most; None waits for ever.

        Raises:
            WaitTimeout: it was not there in time (a `TimeoutError` and a `pykka.Timeout`).
            WouldBlock: it is not there yet and this is the thread of a loop with tokens (or of any trio loop); await
                it instead.
            TokenFailed: the code raised something that is no `Exception`, which is chained as the cause.
            Exception: whatever the code raised.
        """
        if not self._done:
            self._wait_in_thread(timeout)
        error = self._error
        if error is None:
            return self._value  # type: ignore[no-any-return]
        try:
            if not isinstance(error, Exception):
                raise TokenFailed(f"{self._describe()} raised {safe_repr(error)}") from error
            raise error
        finally:
            del error, self  # a traceback that holds the frame that holds the exception is a cycle

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the outcome and return its exception, or None; waits and raises as `result` does."""
        if not self._done:
            self._wait_in_thread(timeout)
        return self._error

    def add_done_callback(self, fn: Callable[[Self], object]) -> None:
        """Call `fn(self)` once the outcome is there; at once when it is.

        It runs on the thread that sets the outcome, so it must be quick; what it raises is logged.
        """
        callbacks = self._callbacks
        if callbacks is None:
            new: list[Callable[[Any], object]] = []  # not under the lock: a finalizer that runs here may take it, too
            with rare:
                if self._callbacks is None:
                    self._callbacks = new
                callbacks = self._callbacks
        # Append, then check `_done`; the setter sets `_done`, then checks the callbacks. So one of the two sees the
        # other.
        callbacks.append(fn)
        if self._done:
            self._run_callbacks()

    async def wait(self) -> None:
        """Wait until the outcome is there, and leave it unread (trio and asyncio)."""
        if not self._done:
            if trio.lowlevel.in_trio_task():
                await TrioWaiter(self).wait()
            else:
                await self._wait_in_asyncio()

    def get(self, *, timeout: float | None = None) -> T:
        """Do as `result` does, under the name that `pykka.Future` has for it."""
        try:
            return self.result(timeout)
        finally:
            del self  # as in `result`

    def map(self, func: Callable[[T], Any]) -> pykka.Future[Any]:
        """Return a future of `func(outcome)`, which runs when that future is asked (`pykka.Future.map`)."""
        return self._as_pykka().map(func)

    def filter(self, func: Callable[[Any], bool]) -> pykka.Future[Iterable[Any]]:
        """Return a future of the items of the outcome that pass `func` (`pykka.Future.filter`)."""
        return self._as_pykka().filter(func)

    def join(self, *futures: Any) -> pykka.Future[Iterable[Any]]:
        """Return a future of the list of this outcome and those of `futures` (`pykka.Future.join`)."""
        return self._as_pykka().join(*futures)

    def reduce(self, func: Callable[[Any, Any], Any], *args: Any) -> pykka.Future[Any]:
        """Return a future of the items of the outcome reduced by `func` (`pykka.Future.reduce`)."""
        return self._as_pykka().reduce(func, *args)

    def __await__(self) -> Generator[Any, Any, T]:
        try:
            if not self._done:
                yield from self.wait().__await__()
            return self.result()
        finally:
            del self  # as in `result`

    __iter__ = __await__  # for `yield from`, as in pykka

    def __copy__(self) -> Self:
        """Return this very reply: a copy would never get the outcome."""
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self._describe()} cannot be pickled, since its outcome comes in this process; "
            "send the outcome, or the id of a token"
        )

    def _set(self, value: Any = None, error: BaseException | None = None) -> bool:
        """Set the outcome unless there is one; return whether this call did."""
        with rare:
            if self._done:
                return False
            self._value, self._error = value, error
            self._done = True
        self._run_callbacks()
        return True

    def _run_callbacks(self) -> None:
        callbacks = self._callbacks
        interrupt: BaseException | None = None
        while callbacks:
            try:
                first = callbacks[0]
            except IndexError:
                break  # another thread was faster
            try:
                if isinstance(first, Waiter):
                    first(self)  # removed after the call, since waking twice does no harm
                    self._discard_callback(first)
                else:
                    wake_now()  # what is called here may wait for others
                    # Popped and called within one C call, in which no signal handler can raise.
                    next(map(_call, iter(partial(callbacks.pop, 0), None), (self,)))
            except BaseException as error:
                frames = error.__traceback__
                if isinstance(error, IndexError) and not callbacks and frames is not None and frames.tb_next is None:
                    break  # another thread was faster
                if is_for_the_program(error, first):
                    interrupt = error
                else:
                    _logger.exception("a done callback of %s raised", self._describe())
                    if isinstance(first, Waiter):
                        self._discard_callback(first)
        if interrupt is not None:
            raise interrupt

    def _discard_callback(self, fn: Callable[[Self], object]) -> None:
        try:
            (self._callbacks or []).remove(fn)
        except ValueError:
            pass  # it has run, or is about to

    def _wait_in_thread(self, timeout: float | None, *, paused: bool = False) -> None:
        loop = loop_here()
        if loop:
            raise WouldBlock(
                f"waiting for {self._describe()} would block the {loop} loop of this thread; "
                "use 'await' (or wait from another thread)"
            )
        if refusal():
            raise WouldBlock(f"waiting for {self._describe()} would block {refusal()}")
        if look_around(self.done):
            return
        arrive = ThreadWaiter()
        self.add_done_callback(arrive)
        limit = math.inf if timeout is None else max(timeout, 0.0)
        try:
            with blocking(paused=paused):
                self._wait_for(arrive, time.monotonic() + limit)
        finally:
            self._discard_callback(arrive)
        if not self._done:
            raise WaitTimeout(f"no outcome of {self._describe()} after {timeout} s")

    def _block(self) -> None:
        """Block the thread until the outcome is there; nothing is lent, and nothing is checked."""
        arrive = ThreadWaiter()
        self.add_done_callback(arrive)
        try:
            self._wait_for(arrive, math.inf)
        finally:
            self._discard_callback(arrive)

    def _wait_for(self, arrive: ThreadWaiter, end: float) -> None:
        # Check now and then: the thread that had to wake this one may have been interrupted.
        look = LONG_WAIT
        while not self._done and not arrive.wait(max(0.0, min(end - time.monotonic(), look))):
            if time.monotonic() >= end:
                return
            check_interrupted(self._describe())
            look = _LOOK_UP

    async def _wait_in_asyncio(self) -> None:
        arrive = AsyncioWaiter(asyncio.get_running_loop())
        self.add_done_callback(arrive)
        try:
            await arrive.arrived
        finally:
            self._discard_callback(arrive)

    def _as_pykka(self) -> pykka.Future[Any]:
        return Future.made_of((self,), self.result)

    def _describe(self) -> str:
        return "a reply"


@attrs.define(slots=True, eq=False, repr=False)
class Later(Reply[T]):
    """A reply that a handler of an io actor returns when its answer comes later: its token ends as this reply does.

    Meanwhile the actor handles the next messages.
    """


@attrs.define(slots=True, eq=False, repr=False)
class Future(Reply[T], pykka.Future[T]):
    """A reply that is set as a `pykka.Future` is: by `set`, or by a hook that is called when the value is asked for.

    `_create_future` of every actor class makes one, and so do `map`, `filter`, `join` and `reduce`.
    """

    _get_hook: Callable[[float | None], Any] | None = attrs.field(default=None, init=False)
    _sources: tuple[Any, ...] = attrs.field(default=(), init=False)  # read by the hook, awaited before its call

    @classmethod
    def made_of(cls, sources: tuple[Any, ...], hook: Callable[[float | None], T]) -> Self:
        """Return a future; `hook(timeout)` makes its value from the outcomes of other futures."""
        future = cls()
        future._get_hook, future._sources = hook, sources
        return future

    def set(self, value: T | None = None) -> None:
        """Set the value.

        Raises:
            queue.Full: the future has an outcome, or a hook to get it from.
        """
        if self._get_hook is not None or not self._set(value):
            raise queue.Full(f"{self._describe()} has its outcome already; set it once")

    def set_exception(self, exc_info: OptExcInfo | None = None) -> None:
        """Set an exception: that of `exc_info`, or the one that is being handled.

        Raises:
            queue.Full: the future has an outcome, or a hook to get it from.
            ValueError: there is no exception.
        """
        kind, error, traceback = sys.exc_info() if exc_info is None else exc_info
        if kind is None:
            raise ValueError(f"{self._describe()} got no exception: call set_exception in an except block, or pass one")
        error = kind() if error is None else error
        if self._get_hook is not None or not self._set(error=error.with_traceback(traceback)):
            raise queue.Full(f"{self._describe()} has its outcome already; set it once")

    def set_get_hook(self, func: Callable[[float | None], T]) -> None:
        """Have `func(timeout)` compute the value when it is first asked for; an exception of `func` is not kept.

        Threads that ask at the same moment may each call it; all get the first value.

        Raises:
            queue.Full: the future has an outcome.
        """
        if self._done:
            raise queue.Full(f"{self._describe()} has its outcome already; set a hook instead of it, not after it")
        self._get_hook = func

    def result(self, timeout: float | None = None) -> T:
        try:
            if self._get_hook is not None and not self._done:
                self._set(self._get_hook(timeout))
            return Reply.result(self, timeout)
        finally:
            del self  # as in `Reply.result`

    def exception(self, timeout: float | None = None) -> BaseException | None:
        if self._get_hook is None or self._done:
            return Reply.exception(self, timeout)
        try:
            self.result(timeout)
        except Exception as error:
            return error
        finally:
            del self  # as in `Reply.result`
        return None

    async def wait(self) -> None:
        if self._get_hook is None:
            await Reply.wait(self)
            return
        for source in self._sources:
            if isinstance(source, Reply):
                await source.wait()

    def map(self, func: Callable[[Any], Any]) -> pykka.Future[Any]:
        return Future.made_of((self,), partial(_call_with, (self,), func))

    def filter(self: Future[Any], func: Callable[[Any], bool]) -> pykka.Future[Iterable[Any]]:
        return Future.made_of((self,), partial(_call_with, (self,), lambda items: list(filter(func, items))))

    def join(self, *futures: Any) -> pykka.Future[Iterable[Any]]:
        every = (self, *futures)
        return Future.made_of(every, partial(_call_with, every, lambda *values: list(values)))

    def reduce(self: Future[Any], func: Callable[[Any, Any], Any], *args: Any) -> pykka.Future[Any]:
        return Future.made_of((self,), partial(_call_with, (self,), lambda items: functools.reduce(func, items, *args)))

    def _describe(self) -> str:
        return "a future"


def _call_with(sources: tuple[Any, ...], func: Callable[..., Any], timeout: float | None) -> Any:
    """Call a function with the outcomes of futures, each of which may be waited for."""
    try:
        return func(*map(operator.methodcaller("get", timeout=timeout), sources))
    finally:
        del sources  # as in `Reply.result`
