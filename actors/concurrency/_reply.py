"""An outcome that is not there yet, and every way of waiting for it: threads, trio, asyncio, callbacks."""

from __future__ import annotations

import asyncio
import logging
import math
import operator
import threading
import time
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import Any, Generic, NoReturn, Self, TypeVar

import attrs
import pykka
import trio

from actors._exceptions import TokenFailed, WaitTimeout, WouldBlock
from actors._exit_reason import safe_repr
from actors.concurrency._blocking import blocking, refusal
from actors.concurrency._run_queue import look_around

T = TypeVar("T")

_logger = logging.getLogger("tokengate.actors")

# Seconds after which a thread that waits for an outcome looks for itself.
_LOOK_UP = 1.0

_call: Callable[..., object] = operator.call

# Guards what happens once per reply and only when somebody waits; the hot path never takes it.
_rare = threading.Lock()


@attrs.define(slots=True, eq=False, repr=False)
class Reply(Generic[T]):
    """A result or an exception that somebody will set once.

    It speaks the vocabulary of `concurrent.futures.Future` (`result`, `exception`, `done`,
    `add_done_callback`) and of `pykka.Future` (`get`, `map`, `filter`, `join`, `reduce`), and it can be
    awaited from trio and from asyncio. Cancelling a wait, or a wait that times out, leaves it as it was.
    """

    _done: bool = attrs.field(default=False, init=False)
    _value: Any = attrs.field(default=None, init=False)
    _error: BaseException | None = attrs.field(default=None, init=False)
    # Made by the first who waits. Whoever pops a callback off it runs it, so that each runs exactly once.
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
            WouldBlock: it is not there yet and this is the thread of a trio loop; await it instead.
            TokenFailed: the code raised something that is no `Exception`, which is chained as the cause.
            Exception: whatever the code raised.
        """
        if not self._done:
            self._wait_in_thread(timeout)
        error = self._error
        if error is None:
            return self._value  # type: ignore[no-any-return]
        if not isinstance(error, Exception):
            raise TokenFailed(f"{self._describe()} raised {safe_repr(error)}") from error
        try:
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
            with _rare:
                if self._callbacks is None:
                    self._callbacks = []
                callbacks = self._callbacks
        # Append, then look: the setter sets, then looks. One of the two sees the other's move.
        callbacks.append(fn)
        if self._done:
            self._run_callbacks()

    async def wait(self) -> None:
        """Wait until the outcome is there, and leave it unread (trio and asyncio)."""
        if not self._done:
            if trio.lowlevel.in_trio_task():
                await _TrioWaiter(self).wait()
            else:
                await self._wait_in_asyncio()

    def get(self, *, timeout: float | None = None) -> T:
        """Do as `result` does, under the name that `pykka.Future` has for it."""
        return self.result(timeout)

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
        yield from self.wait().__await__()
        return self.result()

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
        """Set the outcome unless there is one; tell whether this call did."""
        with _rare:
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
                    first(self)  # it is taken off after that: to wake twice is to wake once
                    self._discard_callback(first)
                else:
                    # Taken off and called by one call of no Python code, in which no signal handler can raise.
                    next(map(_call, iter(partial(callbacks.pop, 0), None), (self,)))
            except BaseException as error:
                if _is_for_the_program(error, first):
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
        if trio.lowlevel.in_trio_run():
            raise WouldBlock(
                f"waiting for {self._describe()} would block the trio loop of this thread; "
                "use 'await' (or wait from another thread)"
            )
        if refusal():
            raise WouldBlock(f"waiting for {self._describe()} would block {refusal()}")
        if look_around(self.done):
            return
        arrive = _ThreadWaiter()
        self.add_done_callback(arrive)
        limit = math.inf if timeout is None else max(timeout, 0.0)
        try:
            end = time.monotonic() + limit
            with blocking(paused=paused):
                # It looks for itself now and then: the thread that had to wake it may have been interrupted.
                while not self._done and not arrive.wait(max(0.0, min(end - time.monotonic(), _LOOK_UP))):
                    if time.monotonic() >= end:
                        break
        finally:
            self._discard_callback(arrive)
        if not self._done:
            raise WaitTimeout(f"no outcome of {self._describe()} after {timeout} s")

    async def _wait_in_asyncio(self) -> None:
        arrive = _AsyncioWaiter(asyncio.get_running_loop())
        self.add_done_callback(arrive)
        try:
            await arrive.arrived
        finally:
            self._discard_callback(arrive)

    def _as_pykka(self) -> pykka.Future[Any]:
        from actors.concurrency._future import Future  # only here: a future is a reply

        return Future.made_of((self,), self.result)

    def _describe(self) -> str:
        return "a reply"


@attrs.define(slots=True, eq=False, repr=False)
class Later(Reply[T]):
    """What a handler of an io actor returns when it does not know its answer yet: its token ends as this does.

    Meanwhile the actor handles what comes next.
    """


class Waiter:
    """A done callback of the runtime's, which wakes what waits; to be called twice is to be called once."""

    __slots__ = ()

    def __call__(self, reply: Any, /) -> None:
        """Wake it."""
        raise NotImplementedError


class _ThreadWaiter(Waiter):
    """A thread that waits for a reply."""

    __slots__ = ("_arrived",)

    def __init__(self) -> None:
        self._arrived = threading.Lock()
        self._arrived.acquire()

    def wait(self, seconds: float) -> bool:
        """Wait for so long, and tell whether it was woken."""
        return self._arrived.acquire(timeout=seconds)

    def __call__(self, _reply: object) -> None:
        try:
            self._arrived.release()
        except RuntimeError:
            pass  # it was released before


class _AsyncioWaiter(Waiter):
    """A task of asyncio that waits for a reply."""

    __slots__ = ("_loop", "arrived")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.arrived: asyncio.Future[None] = loop.create_future()

    def __call__(self, _reply: object) -> None:
        try:
            self._loop.call_soon_threadsafe(self._finish)
        except RuntimeError:
            pass  # the loop is closed, and the task is gone with it

    def _finish(self) -> None:
        if not self.arrived.done():
            self.arrived.set_result(None)


def _is_for_the_program(error: BaseException, callback: object) -> bool:
    """Tell whether a signal handler has raised an error for the program whose main thread calls a done callback.

    What the runtime's own callbacks raise there is nothing else. Of what a user's raises, it may be what is no
    `Exception`.
    """
    if threading.current_thread() is not threading.main_thread() or trio.lowlevel.in_trio_run():
        return False
    return isinstance(callback, Waiter) or not isinstance(error, Exception)


class _TrioWaiter(Waiter):
    """The task of trio that waits for a reply; called when the outcome is there."""

    __slots__ = ("_arrived", "_loop", "_parked", "_reply", "_task", "_thread")

    def __init__(self, reply: Reply[Any]) -> None:
        self._reply = reply
        self._task = trio.lowlevel.current_task()
        self._loop = trio.lowlevel.current_trio_token()
        self._thread = threading.get_ident()
        self._arrived = self._parked = False

    async def wait(self) -> None:
        self._reply.add_done_callback(self)
        if not self._arrived:
            self._parked = True
            await trio.lowlevel.wait_task_rescheduled(self._abort)

    def __call__(self, _reply: object) -> None:
        if threading.get_ident() == self._thread and trio.lowlevel.in_trio_run():
            self._unpark()
            return
        try:
            self._loop.run_sync_soon(self._unpark)
        except trio.RunFinishedError:
            pass  # the waiter's loop has ended, and the waiter with it

    def _unpark(self) -> None:
        self._arrived = True
        if self._parked:
            self._parked = False
            trio.lowlevel.reschedule(self._task)

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._parked = False
        self._reply._discard_callback(self)
        return trio.lowlevel.Abort.SUCCEEDED
