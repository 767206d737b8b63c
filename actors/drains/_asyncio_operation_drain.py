"""The drain that runs an operation's tokens in asyncio loops, each in the one that it comes from."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from actors._exceptions import WouldBlock
from actors.concurrency._asyncio_host import AsyncioHost, AsyncioHosts
from actors.concurrency._cancel_scope import CancelScope
from actors.concurrency._loop_host import LoopHost
from actors.drains._asyncio_drain import AsyncioDrain, AsyncioWorker
from actors.drains._io_worker import IoWorker, Runner
from actors.mailboxes._mailbox import Drainer
from actors.steps._step import after_step, enter, in_context
from actors.tokens._lifecycle import TokenState
from actors.tokens._token import Token
from actors.tokens._waits_for import begin_wait, end_wait

if TYPE_CHECKING:
    from actors.places._place import Place


class AtHome(partial[Any]):
    """The function of a token that was submitted from a loop of the program, in which it is to run."""

    host: AsyncioHost


def at_home(call: Callable[..., Any], host: AsyncioHost) -> AtHome:
    """Return the call of a token that is to run in a loop of the program."""
    home = AtHome(call)
    home.host = host
    return home


def _refuse_wait_at_home(token: Token[Any], _timeout: float | None) -> None:
    """Refuse a wait on the thread of the loop in which a token is to run."""
    call = token._call
    if type(call) is AtHome and call.host.on_loop():
        raise WouldBlock(f"waiting for {token._describe()} would block the asyncio loop that it needs; await it")


class AsyncioOperationDrain(AsyncioDrain):
    """Keeps workers in all loops that tokens come from, and knows the tokens that run in their callers' tasks.

    A put calls a worker of its own loop. A worker that takes a token of another loop gives it its turn there.

    Args:
        place: of the operation.
        hosts: of the loops.
    """

    __slots__ = ("_hosts", "_lots")

    listen_for = staticmethod(_refuse_wait_at_home)

    def __init__(self, place: Place, hosts: AsyncioHosts) -> None:
        super().__init__(place, hosts.own)
        self._hosts = hosts
        self._lots: dict[LoopHost, dict[IoWorker, None]] = {}  # {host: its parked workers}

    def new_drainer(self) -> IoWorker:
        return self._drainer_in(self._hosts.here())

    def _drainer_in(self, host: LoopHost) -> IoWorker:
        """Return a worker of a loop, which nothing else uses: a parked one, or a new one."""
        lot = self._lots.get(host)
        if lot is None:
            lot = self._lots[host] = {}
        try:
            worker, _ = lot.popitem()
        except KeyError:
            worker = _OperationWorker(self, host, lot)
            self.workers.add(worker)
        worker.called = True
        return worker

    def host_of(self, token: Token[Any]) -> LoopHost:
        runner, call = self.waiting.get(token), token._call
        if runner is not None:
            return runner.host
        return call.host if type(call) is AtHome else self.host

    def move(self, worker: IoWorker, token: Token[Any], host: LoopHost) -> None:
        """Give the turn of a worker, and the token that it has taken, to a worker of another loop."""
        successor = self._drainer_in(host)
        successor.current = token
        if self.place.mailbox.replace(worker, successor):
            self.wake(successor)
        else:  # dismissed just now, by code that ends the token
            successor.current = None
            self.workers.discard(successor)

    def recover(self, drainers: Iterable[Drainer]) -> None:
        entered = list(drainers)
        for drainer in entered:
            if isinstance(drainer, TokenCall) and drainer.token._done:
                self.place.mailbox.dismiss(drainer)  # its caller was interrupted
        for host in [host for host in self._lots if isinstance(host, AsyncioHost) and host.over]:
            del self._lots[host]
            for worker in [worker for worker in self.workers if worker.host is host]:
                self._leave_behind(worker)
        super().recover(entered)

    def _leave_behind(self, worker: IoWorker) -> None:
        """Forget a worker whose loop has ended before its task, and end its token."""
        token = worker.current
        self.place.mailbox.dismiss(worker)
        self.workers.discard(worker)
        if isinstance(token, Token):
            token._terminate(_LOOP_ENDED)

    def close(self) -> None:
        for host, lot in list(self._lots.items()):
            host.call_soon(partial(self._close, lot))


_LOOP_ENDED = "the loop has ended from which it was submitted"


class _OperationWorker(AsyncioWorker):
    """A worker that runs tokens of its own loop only."""

    __slots__ = ()

    _drain: AsyncioOperationDrain

    def _begin(self, token: Token[Any], now: float) -> Awaitable[None] | None:
        call = token._call
        home = call.host if type(call) is AtHome else self._drain.host
        if home is self.host:
            return super()._begin(token, now)
        if type(call) is AtHome and call.host.over:
            token._terminate(_LOOP_ENDED)
        else:
            self._drain.move(self, token, home)
        return None


class TokenCall(Runner):
    """A direct call of an operation, which runs its token in the caller's task.

    Args:
        drain: of the token's place.
        token: the token.
        host: of the loop that calls.
        task: the one that calls.
        waiter: the token with the step that makes the call, if any.
    """

    __slots__ = ("_before", "_drain", "_scope", "_task", "_waiter", "depth", "token")

    def __init__(
        self,
        drain: AsyncioOperationDrain,
        token: Token[Any],
        host: LoopHost,
        task: asyncio.Task[Any],
        waiter: Token[Any] | None,
    ) -> None:
        # The bases are not called, since this happens for each direct call.
        self.at_work = False  # until it is entered, if it is
        self.host = host
        self.current = self.rest = None
        self.crashed = False
        self.token = token
        self._drain = drain
        self._waiter = waiter
        self._task = task
        self._before = task.cancelling()
        self._scope: CancelScope | None = None  # made when it is needed
        outer = None if waiter is None else _call_of(waiter)
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
        self.current = token
        self._drain.waiting[token] = self  # first: code that cancels the token later sees it
        if waiter is not None:
            begin_wait(waiter, token)
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
            # An operator may have abandoned it.
            return result if token._finish(TokenState.COMPLETED, result) else token.result()
        except BaseException as error:
            if self._fail(error):
                raise token._error or error from None
            raise
        finally:
            self.current = self.rest = None
            del self._drain.waiting[token]
            if self._scope is not None:
                self._scope.take_back()
            if token._extras.hold is not None:
                after_step(token._extras.hold)
            if waiter is not None:
                end_wait(waiter, token)
                if token._extras.lent:  # by a task of its own that it has left behind
                    waiter.take_turn_back()
            if self.at_work:
                self._drain.place.mailbox.dismiss(self)
            if self._scope is not None and self._scope.cancels:
                await self._scope.settle()
            del self, token, waiter, context  # an error references this frame, which must not reference its owner

    def _fail(self, error: BaseException) -> bool:
        """End the token after its code raised; return whether that was meant for the token only."""
        token = self.token
        if token._done:
            token.note_return()
        if isinstance(error, asyncio.CancelledError) and self._own_scope().cancel_called:
            token._end_by_code(error, token._extras.cancel_requested or "its task was cancelled")
            return self._own_scope().cancelled_alone
        self._drain.place.failed(token, error)
        return token._end is TokenState.TERMINATED

    def cancel_current(self) -> None:
        if self.current is not None:
            self._own_scope().cancel()

    def _own_scope(self) -> CancelScope:
        if self._scope is None:
            self._scope = CancelScope(self._task, self._before)
        return self._scope


def _call_of(token: Token[Any]) -> TokenCall | None:
    """Return the direct call that a token runs in, if it does."""
    drain = token._place.drain
    call = drain.waiting.get(token) if isinstance(drain, AsyncioOperationDrain) else None
    return call if isinstance(call, TokenCall) else None


def caller_of(token: Token[Any]) -> Token[Any] | None:
    """Return the token with the step that has called a token directly, and so runs it in its own task."""
    call = _call_of(token)
    return None if call is None else call._waiter
