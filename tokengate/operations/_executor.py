"""The executor of a gate: `concurrent.futures`, where each call is a token."""

from __future__ import annotations

import concurrent.futures
import operator
import threading
from collections.abc import Callable
from concurrent.futures import _base
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, Self, TypeVar

from actors import Token, TokenFailed, TokenState, WouldBlock
from actors.lowlevel import Condition, Waiter, loop_here, run_in
from tokengate._exceptions import BadOperation
from tokengate.operations._functions import context_of, is_coroutine_function, name_of
from tokengate.operations._options import check_queue
from tokengate.operations._ports import OpenGate

P = ParamSpec("P")
T = TypeVar("T")

_invoke: Callable[..., object] = operator.call


class TokenFuture(concurrent.futures.Future[T]):
    """A future that takes its outcome from a token.

    Waiting for it is waiting for the token: a step that waits gives its thread away, and on the thread of a
    loop `WouldBlock` is raised. If the token was refused or terminated, that error is the outcome.

    A signal handler that raises in the main thread leaves the future usable. The exceptions are `wait` and
    `as_completed` of `concurrent.futures`, which take the locks of all their futures in Python code: interrupted there,
    they can leave one locked, and its outcome never comes. `future.result(timeout)` does not have that problem.

    Attributes:
        token: the call.
    """

    def __init__(self, token: Token[T]) -> None:
        super().__init__()
        self._condition = Condition()  # `threading.Condition` could stay locked when a signal handler raises
        self.token = token
        self._cancel_wanted = False
        self._settling = threading.RLock()  # callbacks may ask for the outcome
        self._interrupted = False  # whether a signal handler has raised while it took over the outcome

    def __copy__(self) -> Self:
        """Return this very future, as a copy of a token is that token."""
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def cancel(self) -> bool:
        """Cancel the token; return whether the future is cancelled.

        A call that runs is asked to end at its next `checkpoint()`, and goes on until then.
        """
        if not self.done():
            self._cancel_wanted = True
            self.token.cancel()
        return self.cancelled()

    def running(self) -> bool:
        """Return whether the call runs."""
        return not self.done() and self.token.state in (TokenState.RUNNING, TokenState.PAUSED)

    def result(self, timeout: float | None = None) -> T:
        """Wait for the outcome and return it, or raise it; see `concurrent.futures.Future.result`."""
        self.token.exception(timeout)
        self.settle()
        try:
            return super().result()
        finally:
            del self  # as in `concurrent.futures`: the error references this frame

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the outcome and return its exception, or None; see `concurrent.futures.Future.exception`."""
        self.token.exception(timeout)
        self.settle()
        return super().exception()

    def settle(self) -> None:
        """Take over the outcome of the token, which has ended; can be repeated after an interrupt."""
        if self.done() and not self._interrupted:
            return
        with self._settling:
            try:
                if not self.done():
                    self._take_over()
                elif self._interrupted:
                    self._tell_again()
                self._interrupted = False
            except BaseException:
                self._interrupted = True
                raise

    def _tell_again(self) -> None:
        """Tell those that wait of the outcome, as far as an interrupt has kept them from being told."""
        if self._state == _base.CANCELLED:
            self.set_running_or_notify_cancel()
        with self._condition:
            self._tell_waiters()
            self._condition.notify_all()
        self._invoke_callbacks()

    def _tell_waiters(self) -> None:
        for waiter in self._waiters:
            if self in waiter.finished_futures:
                continue
            if self.cancelled():
                waiter.add_cancelled(self)
            elif self._exception is not None:
                waiter.add_exception(self)  # it may be what the waiter waits for
            else:
                waiter.add_result(self)

    def _invoke_callbacks(self) -> None:
        callbacks: list[Callable[[Self], object]] = vars(self)["_done_callbacks"]  # typeshed does not know it
        while callbacks:
            try:
                # Popped and called within one C call: after an interrupt the others are left, and none runs twice.
                next(map(_invoke, iter(partial(callbacks.pop, 0), None), (self,)))
            except Exception:
                _base.LOGGER.exception("exception calling callback for %r", self)

    def _take_over(self) -> None:
        token = self.token
        error = token.exception()
        if error is None:
            self.set_result(token.result())
        elif self._cancel_wanted and token.state is TokenState.TERMINATED:
            super().cancel()
            self.set_running_or_notify_cancel()  # only now do `wait` and `as_completed` see it
        else:
            if not isinstance(error, Exception):  # it would end the caller's thread or loop
                failed = TokenFailed(f"{token!r} raised {type(error).__name__}")
                failed.__cause__ = error
                error = failed
            self.set_exception(error)

    def __repr__(self) -> str:
        return f"<TokenFuture of {self.token!r}>"


class _Settler(Waiter):
    """The done callback of a token that settles its future; it is called again if a signal handler raises in it."""

    __slots__ = ("_executor", "_future")

    def __init__(self, executor: GateExecutor, future: TokenFuture[Any]) -> None:
        self._executor = executor
        self._future = future

    def __call__(self, _token: object) -> None:
        self._executor._ended(self._future)


class GateExecutor(concurrent.futures.ThreadPoolExecutor):
    """Runs functions on the CPU threads of a gate, each call a token whose operation is the function's name.

    It has no threads of its own. It is a `ThreadPoolExecutor` because some code accepts nothing else, such as asyncio's
    `loop.set_default_executor`, after which the calls of `asyncio.to_thread` are tokens.

    `submit` waits while `capacity` calls are queued (on the thread of a trio loop the call is refused instead).
    It ends with the gate. A shutdown is not needed: it only frees the name.

    Args:
        gate: an open one.
        concurrency: calls that run at once, at most; None takes the number of CPU threads.
        capacity: calls that may be queued.
    """

    def __init__(self, gate: OpenGate, concurrency: int | None, capacity: int) -> None:
        system = gate._open_system
        check_queue("executor", concurrency, capacity, "wait")
        super().__init__(system.dispatcher.size if concurrency is None else concurrency)
        self._gate = gate
        self._place = system.operation_place(
            f"executors/{system.next_name()}",
            "cpu",
            generator=False,
            concurrency=self._max_workers,
            capacity=capacity,
        )
        self._lock = threading.RLock()  # a finalizer or a signal handler may submit while it is held
        self._futures: set[TokenFuture[Any]] = set()  # of calls that have not ended
        self._shut = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> concurrent.futures.Future[T]:
        """Send a call to the gate and return its future; wait while the queue is full.

        Raises:
            RuntimeError: the executor was shut down, or the gate has closed (`GateState`).
            BadOperation: it is a coroutine function, or cannot be called at all.
        """
        name = _check(fn)
        self._gate._open_system  # noqa: B018  # raises when the gate is not open
        with self._lock:
            if self._shut:
                raise RuntimeError(f"the executor is shut down; '{name}' was not accepted, use gate.executor() again")
            token: Token[T] = self._place.token(name, *_call(fn, args, kwargs))
            future = TokenFuture(token)
            self._futures.add(future)
        token.add_done_callback(_Settler(self, future))
        self._place.send(token)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls.

        Args:
            wait: whether to return only when all calls have ended.
            cancel_futures: whether to cancel those that are queued.

        Raises:
            WouldBlock: calls are left and this is the thread of a loop; use `wait=False` there.
        """
        with self._lock:
            self._shut = True
            futures = list(self._futures)
        if cancel_futures:
            for future in futures:
                if future.token.state in (TokenState.CREATED, TokenState.QUEUED):
                    future.cancel()
        if wait:
            if (loop := loop_here()) and not all(future.done() for future in futures):
                raise WouldBlock(
                    f"waiting for an executor's calls would block this {loop} loop; use shutdown(wait=False)"
                )
            for future in futures:
                with suppress(concurrent.futures.CancelledError):
                    future.exception()
        self._close_if_done()

    def _ended(self, future: TokenFuture[Any]) -> None:
        future.settle()
        with self._lock:
            self._futures.discard(future)
        self._close_if_done()

    def _close_if_done(self) -> None:
        # A future whose `submit` was interrupted may have no callback, and is then still in the set.
        if self._shut and all(future.token.done() for future in list(self._futures)):
            self._place.close()


def _call(
    fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Callable[..., T], tuple[Any, ...], dict[str, Any]]:
    """Return the call of a token. `Context.run`, where code would not see the token, is replaced by `run_in`."""
    if isinstance(fn, partial) and (context := context_of(fn)) is not None:
        return run_in, (context, *fn.args, *args), {**fn.keywords, **kwargs}
    return fn, args, kwargs


def _check(fn: object) -> str:
    """Return the name of a function that can be called on a CPU thread, or raise `BadOperation`."""
    if not callable(fn):
        raise BadOperation(f"an executor runs functions; {fn!r} is none")
    name = name_of(fn)
    if is_coroutine_function(fn):
        raise BadOperation(f"'{name}' is a coroutine function; put @token on it and use '{name}.submit(...)' instead")
    return name
