"""The drain that runs a place's tokens in tasks of asyncio loops: of its host's, and of those that call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

from actors._exceptions import WouldBlock
from actors.concurrency._asyncio_host import AsyncioHost
from actors.concurrency._cancel_scope import CancelScope
from actors.concurrency._future import Reply
from actors.drains._io_drain import IoDrain, IoWorker
from actors.mailboxes._mailbox import Drainer
from actors.steps._step import after_step, enter, in_context, share_turn
from actors.tokens._lifecycle import TokenState
from actors.tokens._log_context import drained_places
from actors.tokens._token import Token
from actors.tokens._waits_for import begin_wait, end_wait

if TYPE_CHECKING:
    from actors.places._place import Place


class AtHome(partial[Any]):
    """The function of a token that was submitted from a loop, in which it is to run."""

    loop: asyncio.AbstractEventLoop


def _refuse_wait_at_home(token: Token[Any], _timeout: float | None) -> None:
    """Refuse a wait on the thread of the loop in which a token is to run."""
    call = token._call
    if type(call) is AtHome and asyncio._get_running_loop() is call.loop:
        raise WouldBlock(f"waiting for {token._describe()} would block the asyncio loop that it needs; await it")


class AsyncioDrain(IoDrain):
    """Keeps workers as an `IoDrain` does, and knows the tokens that run in other tasks than those of its workers."""

    __slots__ = ("outside",)

    listen_for = staticmethod(_refuse_wait_at_home)
    host: AsyncioHost

    def __init__(
        self, place: Place, host: AsyncioHost, throughput: int = 64, throughput_deadline: float = 0.005
    ) -> None:
        super().__init__(place, host, throughput, throughput_deadline)
        self.outside: dict[Token[Any], Outside] = {}  # {token in another task: its run}

    def _new_worker(self) -> AsyncioWorker:
        return AsyncioWorker(self)

    async def call_here(self, token: Token[Any]) -> bool:
        if not self._may_run_here(token) or not self._run_here(token):
            return False
        if token.finished_at is not None and self._must_give_way(token):
            await asyncio.sleep(0)
        return True

    def wake(self, worker: IoWorker) -> None:
        self.host.open()
        self.host.call_soon(worker.come)

    def recover(self, drainers: Iterable[Drainer]) -> None:
        drainers = list(drainers)
        super().recover(drainers)
        for drainer in drainers:
            if isinstance(drainer, Outside) and drainer.token._done:
                self.place.mailbox.dismiss(drainer)  # its caller was interrupted
            elif isinstance(drainer, AsyncioWorker):
                drainer.look_at_home()

    def cancel(self, token: Token[Any]) -> None:
        run = self.outside.get(token)
        if run is None:
            super().cancel(token)
        else:
            run.cancel()

    def hold_changed(self, token: Token[Any]) -> None:
        run = self.outside.get(token)
        if run is None:
            super().hold_changed(token)
        else:
            run.call_soon(run.look_at_hold)

    def rest_of(self, token: Token[Any]) -> object:
        run = self.outside.get(token)
        return super().rest_of(token) if run is None else run.rest


class AsyncioWorker(IoWorker):
    """A task of asyncio that handles tokens one after the other, and parks when there are none."""

    __slots__ = ("_home", "_wakeup")

    _drain: AsyncioDrain

    def __init__(self, drain: AsyncioDrain) -> None:
        super().__init__(drain)
        self._wakeup: asyncio.Future[None] | None = None  # while it is parked
        self._home: tuple[asyncio.AbstractEventLoop, Reply[Any]] | None = None  # while its token runs in another loop

    def come(self) -> None:
        if self._started:
            super().come()
            return
        self.called, self._started = False, True
        task = self._drain.host.start_task(self.work, self._place.path)
        if task is not None:
            drained_places[task] = self._place
            task.add_done_callback(self._note_end)

    def cancel_current(self) -> None:
        if self._wakeup is None or not self._wakeup.done():
            super().cancel_current()
            return
        item = self.current  # its task has been called, and must take the item up first: asyncio would cancel the wait
        asyncio.get_running_loop().call_soon(lambda: self.cancel_current() if self.current is item else None)

    def _note_end(self, _task: object) -> None:
        """Leave the mailbox if the task was cancelled before its first step."""
        self._end()

    # What differs between loops

    _of_other_loop = (
        "must be called from async context",
        "This is trio code and it ran in asyncio: use @token(affinity='io') or an IoActor.",
    )

    _pass_turn = _checkpoint = staticmethod(partial(asyncio.sleep, 0))

    def _new_scope(self) -> CancelScope:
        return CancelScope()

    async def _settle(self) -> None:
        self._drain.host.progress += 1
        await self._scope.settle()
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()  # its code has cancelled itself, and gone on

    async def _park(self) -> None:
        self._wakeup = asyncio.get_running_loop().create_future()
        try:
            await self._wakeup
        finally:
            self._wakeup = None

    @property
    def is_parked(self) -> bool:
        return self._wakeup is not None and not self._wakeup.done()

    def _unpark(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def _end(self) -> None:
        self._drain.host.progress += 1
        self._drain.parked.pop(self, None)
        super()._end()

    def _is_cancelled(self) -> bool:
        return cast("bool", self._scope.cancel_called)

    # Tokens

    def _begin(self, token: Token[Any], now: float) -> Awaitable[None] | None:
        call = token._call
        if type(call) is AtHome:
            token._begin(now)
            return self._finish(token, self._run_at_home(token, call.loop))
        return super()._begin(token, now)

    async def _run_at_home(self, token: Token[Any], loop: asyncio.AbstractEventLoop) -> Any:
        """Run a token as a task of another loop; a cancellation of this wait is passed on."""
        run, over = Outside(self._drain, token, loop), Reply[Any]()
        self._home = loop, over
        tasks: set[asyncio.Task[None]] = set()

        async def work() -> None:
            try:
                value = await run.run()
            except BaseException as error:
                over._set(error=error)
                if isinstance(error, KeyboardInterrupt):
                    raise  # it is for the program
            else:
                over._set(value)

        coroutine = work()

        def begin() -> None:
            task: Any = loop.create_task(coroutine, name=self._place.path, context=Context())
            task._log_destroy_pending = False  # if the loop ends before it, recovery ends the token
            tasks.add(task)

        try:
            loop.call_soon_threadsafe(begin, context=Context())
        except RuntimeError:
            self.look_at_home()
        try:
            while not over.done():
                try:
                    await over.wait()
                except asyncio.CancelledError:
                    run.cancel()
            if over._error is not None:
                raise over._error
            return over._value
        finally:
            self._home = None
            if loop.is_closed():
                coroutine.close()

    def look_at_home(self) -> None:
        """Give up the wait for a token whose loop has ended, and with it the task."""
        home, token = self._home, self.current
        if home is not None and home[0].is_closed() and isinstance(token, Token):
            error = token.terminated("the loop has ended from which it was submitted")
            token._settle(TokenState.TERMINATED, error=error)
            home[1]._set(error=error)

    def _fail(self, token: Token[Any], error: BaseException) -> Awaitable[None] | None:
        host = self._drain.host
        if isinstance(error, KeyboardInterrupt) and host.attached and host.ident == threading.main_thread().ident:
            asyncio.get_running_loop().call_soon(_raise, error)  # it is for the program
        return super()._fail(token, error)


class Outside(Drainer):
    """A token that runs in another task than a worker's: its caller's, or one on the loop that it was submitted from.

    Args:
        drain: of the token's place.
        token: the token.
        loop: the loop of the task.
        waiter: the token with the step that makes the call, if it is a direct call.
    """

    __slots__ = ("_drain", "_loop", "_scope", "_waiter", "depth", "rest", "token")

    def __init__(
        self, drain: AsyncioDrain, token: Token[Any], loop: asyncio.AbstractEventLoop, waiter: Token[Any] | None = None
    ) -> None:
        self.at_work = False  # until it is entered, if it is
        self._loop = loop
        self._drain = drain
        self.token = token
        self._waiter = waiter
        self._scope = CancelScope()
        self.rest: object = None  # awaited for the token
        outer = None if waiter is None else _run_of(waiter)
        self.depth: int = 0 if outer is None else outer.depth + 1  # of nested direct calls

    def inside(self) -> int:
        """Return how many tokens of the place contain the call, and so wait for it with a turn of their own."""
        waiter, found = self._waiter, 0
        while waiter is not None:
            found += waiter._place is self._drain.place and not waiter._extras.lent
            waiter = caller_of(waiter)
        return found

    async def run(self) -> Any:
        """Run the token, which has begun, in the current task, and end it; return its result.

        Raises:
            TokenTerminated: it was cancelled, and not the task.
            BaseException: what its code raises, unchanged.
        """
        token, waiter, context = self.token, self._waiter, self.token._context
        outside = self._drain.outside
        outside[token] = self  # first: one that cancels the token later sees it
        if waiter is not None:
            begin_wait(waiter, token)
        try:
            with self._scope:
                try:
                    why = token._extras.cancel_requested
                    if why or context is None:  # it was ended just now
                        error = token.terminated(why or "it was ended")
                        token._finish(TokenState.TERMINATED, error=error)
                        raise error
                    result = context.run(enter, token, token._call)
                    if type(result) is CoroutineType:
                        self.rest = rest = in_context(context, result, token)
                        result = await rest
                except BaseException as error:
                    if self._fail(error):
                        raise token._error or error from None
                    raise
                token._finish(TokenState.COMPLETED, result)
                return result
        finally:
            self.rest = None
            del outside[token]
            if token._extras.hold is not None:
                after_step(token._extras.hold)
            if waiter is not None:
                end_wait(waiter, token)
                if token._extras.lent:  # by a task of its own that it has left behind
                    waiter.take_turn_back()
            if self.at_work:
                self._drain.place.mailbox.dismiss(self)
            if self._scope.cancels:
                await self._scope.settle()

    def _fail(self, error: BaseException) -> bool:
        """End the token after its code raised; return whether that was meant for the token only."""
        token, scope = self.token, self._scope
        if isinstance(error, asyncio.CancelledError) and scope.cancel_called:
            token._terminate(token._extras.cancel_requested or "its task was cancelled")
            return scope.cancelled_alone
        self._drain.place.failed(token, error)
        return token._end is TokenState.TERMINATED

    def call_soon(self, fn: Callable[[], object]) -> None:
        """Call a function on the loop of the token; at once when already there."""
        if asyncio._get_running_loop() is self._loop:
            fn()
            return
        try:
            self._loop.call_soon_threadsafe(fn, context=Context())
        except RuntimeError:
            pass  # the loop is closed, and the task is gone with it

    def cancel(self) -> None:
        """Cancel the token, and nothing that its task does later; on any thread."""
        self.call_soon(self._cancel)

    def _cancel(self) -> None:
        if self._is_here():
            self._scope.cancel()

    def look_at_hold(self) -> None:
        """Park the token if it is held: on the loop this runs between two steps of it."""
        hold = self.token._extras.hold
        if hold is not None and self._is_here():
            hold.note_step()
            share_turn(hold)

    def _is_here(self) -> bool:
        return self._drain.outside.get(self.token) is self


def _run_of(token: Token[Any]) -> Outside | None:
    """Return the run of a token outside of workers, if it has one."""
    drain = token._place.drain
    return drain.outside.get(token) if isinstance(drain, AsyncioDrain) else None


def caller_of(token: Token[Any]) -> Token[Any] | None:
    """Return the token with the step that has called a token directly, and so runs it in its own task."""
    run = _run_of(token)
    return None if run is None else run._waiter


def _raise(error: BaseException) -> None:
    raise error
