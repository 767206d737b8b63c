"""The tasks of a loop that run a place's tokens, and their signals."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Generator
from contextvars import Context, copy_context
from dis import opmap
from inspect import isawaitable, iscoroutine
from types import CodeType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import trio

from actors._child._yields import refuse_yield
from actors._exceptions import TokenInterrupt
from actors.concurrency._blocking import begin_turn, end_turn
from actors.concurrency._future import Later, Reply
from actors.concurrency._loop_host import CANCELLATIONS, LoopHost
from actors.concurrency._thread_frames import forget_values, reads
from actors.mailboxes._mailbox import Drainer
from actors.mailboxes._signals import Crash, Signal, Start, Stop, Visit
from actors.places import _life
from actors.places._actor_place import ActorPlace
from actors.places._life import Life
from actors.steps._step import (
    after_step,
    between_steps,
    close_steps,
    enter,
    in_context,
    wait_for_leave,
    without_runtime_frames,
)
from actors.tokens._lifecycle import TokenState
from actors.tokens._log_context import drained_place
from actors.tokens._token import DurableToken, Token
from actors.tokens._waits_for import begin_wait, end_wait

if TYPE_CHECKING:
    from actors.places._place import Place

_logger = logging.getLogger("tokengate.actors")

_COMPLETED, _TERMINATED = TokenState.COMPLETED, TokenState.TERMINATED

_SEND: Final = opmap["SEND"]  # every `await` has one


def is_cancellation(error: BaseException) -> bool:
    """Tell whether an error is a cancellation by a loop and nothing else: nurseries wrap it into groups."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(CANCELLATIONS)[1] is None
    return isinstance(error, CANCELLATIONS)


def is_interrupt(error: BaseException) -> bool:
    """Tell whether an error is a group in which nurseries have wrapped an interrupt, and nothing else."""
    if not isinstance(error, BaseExceptionGroup) or error.split(TokenInterrupt)[0] is None:
        return False
    return error.split((TokenInterrupt, *CANCELLATIONS))[1] is None


def awaits(code: CodeType) -> bool:
    """Tell whether the code of a coroutine contains an `await`."""
    return _SEND in code.co_code[::2]


def _run_through(coroutine: CoroutineType[Any, Any, Any]) -> Any:
    """Return the value of a coroutine that awaits nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value


class WorkerDrain(Protocol):
    """The drain of a worker."""

    place: Place
    workers: set[IoWorker]
    waiting: dict[Token[Any], Runner]  # {token that awaits something: what runs it}
    throughput: int
    throughput_deadline: float
    closed: bool
    runs_on_arrival: bool  # whether a token from another thread is begun without the task

    def run_here(self, token: Token[Any], taker: IoWorker) -> bool:
        """Run one that a worker has taken."""
        ...

    def note_waiting(self, token: Token[Any]) -> None:
        """Note that the handler of a token may wait."""


class Runner(Drainer):
    """Base of what runs a token in a task of a loop.

    Args:
        host: of the loop.
    """

    __slots__ = ("crashed", "current", "host", "rest")

    def __init__(self, host: LoopHost) -> None:
        super().__init__()
        self.host = host
        self.current: Token[Any] | Signal | None = None  # the item that it handles
        self.rest: Awaitable[Any] | None = None  # awaited for a token that waits, or was begun in its caller's task
        self.crashed = False  # whether the code of the token is over, and only the hook for its crash is left to run

    def cancel_current(self) -> None:
        """Cancel the current item, and none that comes after it; only on the loop."""
        raise NotImplementedError

    def cancel_if(self, item: Token[Any] | Signal | None) -> None:
        """Cancel an item unless it is over; only on the loop."""
        if self.current is item:
            self.cancel_current()


class IoWorker(Runner):
    """A task that handles tokens one after the other, and parks when there are none.

    It keeps one cancel scope over many tokens. After the scope was cancelled, it opens another one for the next token,
    or ends if there is none: of many workers that are cancelled at once, none is left parked.

    Args:
        drain: of its place.
        host: of its loop.
        lot: where it is while it is parked.
    """

    __slots__ = ("_cancelled", "_drain", "_place", "_scope", "_started", "_task", "called", "lot")

    def __init__(self, drain: WorkerDrain, host: LoopHost, lot: dict[IoWorker, None]) -> None:
        super().__init__(host)
        self.lot = lot
        self._drain = drain
        self._place = drain.place
        self._scope: Any = self._new_scope()  # a cancel scope of its loop
        self._task: trio.lowlevel.Task | None = None  # while it is parked
        self._started = False
        self.called = False  # whether it is entered in the mailbox and has not started to work yet

    @property
    def is_here(self) -> bool:
        """Whether it starts an instance on the calling thread, without a task of its own."""
        return isinstance(self.current, Start) and not self._started

    def start_here(self, start: Start, plain: bool) -> None:
        """Handle a start on the calling thread, and leave; with `plain` the instance runs no code."""
        place = cast("ActorPlace", self._place)
        self.current = start
        try:
            if plain:
                _life.start_plain(place, start, self)
            else:
                start.context.run(_life.run, _life.start(place, start, self), self, place.path)
        finally:
            self.leave_here()
        interrupt = _life.interrupt_of(start)
        if interrupt is not None:
            raise interrupt from None

    def leave_here(self) -> None:
        """Leave after the start; what has come in between gets a task."""
        self._place.mailbox.dismiss(self)
        self._drain.workers.discard(self)  # last: recovery finds a worker that was interrupted in leaving

    def come(self) -> None:
        """Start the task, or wake it where it is parked; only on the loop."""
        self.called = False
        if not self._started:
            self._started = True
            self.host.start_worker(self.work, self._place.path)
            return
        self._unpark()

    def arrive(self) -> None:
        """Come after a call from another thread; a first token that need not wait is run at once, without the task."""
        token = None
        if self._drain.runs_on_arrival and (self.is_parked or not self._started):  # else its task is ending
            token = self._place.mailbox.take_more(self)
        if token is None:
            self.come()
        else:
            self._drain.run_here(token, self)
            self._place.stop_if_drained()
        del token  # as in `_begin`

    def leave(self) -> None:
        """End a parked worker, unless it has just been called; only on the loop."""
        if self.lot.pop(self, self) is None:  # any thread may take it out
            if self._started:
                self.come()
            else:
                self._drain.workers.discard(self)

    def cancel_current(self) -> None:
        if self.current is not None and self._started and not self.is_parked:  # else it runs outside of its task
            self.host.progress += 1
            self._cancelled = True
            self._scope.cancel()

    @trio.lowlevel.enable_ki_protection  # no wrapper does this: each of very many that wait would have it
    async def work(self) -> None:
        """Run as the task."""
        drained_place.set(self._place)
        try:
            while True:
                self.host.progress += 1
                with self._scope:
                    if not await self._serve():
                        return
                await self._settle()
                self._scope = self._new_scope()
                self.current = self._place.mailbox.take(self)  # no variable: that would keep it until the task ends
                if self.current is None:
                    self._place.stop_if_drained()
                    return
        except BaseException as error:
            # Nothing may escape: it would cancel the whole loop. The cancellation of the loop need not be passed on.
            if not is_cancellation(error):
                _logger.exception("a worker of '%s' broke", self._place.path)
        finally:
            self._end()

    async def _serve(self) -> bool:
        """Handle one item after the other, until the scope is cancelled (True) or the worker was dismissed (False)."""
        drain, mailbox, system = self._drain, self._place.mailbox, self._place.system
        clock = system.clock
        waiting = drain.waiting
        steps, deadline, read = 0, (now := clock()) + drain.throughput_deadline, reads.latest
        item = self.current or mailbox.take(self)
        while True:
            if item is None:
                if drain.closed:
                    return False
                self._place.stop_if_drained()
                if reads.latest is not read:
                    forget_values()  # or this frame would hold a token until its next one comes
                    read = reads.latest
                self.lot[self] = None
                await self._park()
                steps, deadline = 0, (now := clock()) + drain.throughput_deadline
                item = self.current or mailbox.take(self)
                continue
            self.current = item
            try:
                if isinstance(item, Token):
                    if not self.at_work and self.rest is None:  # dismissed just now, by code that may have missed it
                        self._place.give_back(item)
                        return False
                    running = self.rest or (
                        self._begin(item, now) if type(item) is Token else self._begin_durable(item, now)
                    )
                    if running is not None:
                        waiting[item] = self
                        try:
                            await running
                        finally:
                            del waiting[item]
                    now = item.finished_at or clock()
                    if item.steps > 1:  # while it waited, other tasks had their turn
                        steps, deadline = 0, now + drain.throughput_deadline
                else:
                    await self._handle(item)
                    now = clock()
            finally:
                self.current = None
                if system.guarded and isinstance(item, Token) and system.is_sealed(item):
                    mailbox.dismiss(self)  # what was meant for this token must hit no later one
            if self._was_cancelled:
                return True
            if not self.at_work:
                return False
            steps += 1
            if steps >= drain.throughput or now >= deadline:
                mailbox.let_senders_in()
                await self._pass_turn()
                steps, deadline = 0, (now := clock()) + drain.throughput_deadline
            item = mailbox.take(self)

    def _end(self) -> None:
        self.host.progress += 1
        self._drain.workers.discard(self)
        if self.at_work:  # only a call sets it again, and only parked workers are called
            self._place.mailbox.dismiss(self)

    # What differs between loops

    # What code of another loop raises here, and the remedy.
    _of_other_loop = (
        "no running event loop",
        "This is asyncio code and it ran in trio: use @token(affinity='asyncio'), Gate(coroutines='asyncio') or an "
        "AsyncioActor.",
    )

    _why_cancelled = "its actor was stopped"  # if nobody has asked for its end

    _pass_turn = staticmethod(trio.lowlevel.cancel_shielded_checkpoint)
    _checkpoint = staticmethod(trio.lowlevel.checkpoint)

    def _new_scope(self) -> Any:
        self._cancelled = False
        return trio.CancelScope()

    @property
    def _was_cancelled(self) -> bool:
        """Whether its scope was cancelled; that of trio would look at the time to tell."""
        return self._cancelled

    async def _settle(self) -> None:
        """Get rid of what is left of the scope's cancellation."""

    def _park(self) -> Awaitable[None]:
        self._task = trio.lowlevel.current_task()
        return trio.lowlevel.wait_task_rescheduled(self._abort)

    @property
    def is_parked(self) -> bool:
        """Whether its task waits to be called."""
        return self._task is not None

    def _unpark(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        self.host.progress += 1
        self.lot.pop(self, None)
        return trio.lowlevel.Abort.SUCCEEDED

    def _is_cancelled(self) -> bool:
        """Tell whether this worker or the loop is being cancelled; user code may raise a stored cancellation later."""
        return self._was_cancelled or trio.current_effective_deadline() == -math.inf

    # Tokens

    def _begin(self, token: Token[Any], now: float) -> Awaitable[None] | None:
        """Run a token that was just taken up to its first wait; return an awaitable of the rest, if there is one."""
        context = token._context
        if context is None:  # it was ended between the lane and here
            return None
        token._begin(now)
        place = self._place
        call = None
        try:
            call = place.resolve(token)
            result = context.run(enter, token, call)
        except BaseException as error:
            if token._extras.hold is not None:
                after_step(token._extras.hold)
            failing = self._fail(token, error)
            del token, context, call  # the error references this frame, which must not reference the error's owner
            return failing
        if token._extras.hold is not None:
            after_step(token._extras.hold)
        kind = type(result)
        if kind is CoroutineType or kind is GeneratorType or kind is Later:
            return self._go_on(token, context, call, result)
        token._settle(_COMPLETED, result)
        return None

    def _begin_durable(self, token: Any, now: float) -> Awaitable[None] | None:
        """Do as `_begin` does, after the token's beginning is on disk if it must be."""
        begun = token.beginning()
        return self._begin(token, now) if begun is None else self._begin_after(token, begun)

    @staticmethod
    async def _await_beginning(token: DurableToken[Any], begun: Reply[None] | None) -> None:
        while begun is not None:
            await begun.wait()
            begun = token.beginning()

    async def _begin_after(self, token: DurableToken[Any], begun: Reply[None] | None) -> None:
        try:
            await self._await_beginning(token, begun)
        except BaseException as error:
            if is_cancellation(error):
                token._settle(
                    _TERMINATED, error=token.terminated(token._extras.cancel_requested or self._why_cancelled)
                )
            raise
        running = self._begin(token, self._place.system.clock())
        if running is not None:
            await running

    def begin_here(self, token: Token[Any], now: float, caller: Token[Any] | None) -> Awaitable[None] | None:
        """Do as `_begin` does, outside of the task: a coroutine that awaits nothing is run to its end there.

        Args:
            token: the token.
            now: the time.
            caller: the token with the step in whose task this happens, if it waits for this one.
        """
        context = token._context
        if context is None:  # it was ended between the lane and here
            return None
        token._begin(now)
        place = self._place
        call, over = None, True
        result: Any = None
        failed, failing = False, None
        depth = begin_turn(place, self)
        if caller is not None:
            begin_wait(caller, token)
        try:
            call = place.resolve(token)
            result = context.run(enter, token, call)
            kind = type(result)
            if kind is CoroutineType and not awaits(result.cr_code):
                result = context.run(_run_through, result)
            elif kind is CoroutineType or kind is GeneratorType or kind is Later:
                over = False
        except BaseException as error:
            self.crashed = place.crashes(token, error)
            # A crash is handled in the worker's task, where the hook for it may wait.
            failed, failing = True, (self._failing if self.crashed else self._fail)(token, error)
        finally:
            end_turn(depth)
            if caller is not None:
                end_wait(caller, token)
            if token._extras.hold is not None:
                after_step(token._extras.hold)
        if failed:
            del token, context, call, caller  # as in `_begin`
            return failing
        if over:
            token._settle(_COMPLETED, result)
            return None
        rest = self._go_on(token, context, call, result)
        if rest is not None:
            self._drain.note_waiting(token)
        return rest

    def _go_on(self, token: Token[Any], context: Context, call: Any, result: Any) -> Awaitable[None] | None:
        """Return an awaitable of the rest of a token, if what its code has returned has steps to take."""
        if type(result) is CoroutineType:
            return self._finish(token, in_context(context, result, token))
        if type(result) is Later:
            result.add_done_callback(token._settle_as)
        elif self._place.steps_of(call, result):
            return self._finish(token, self._step_through(token, context, result))
        else:
            token._settle(_COMPLETED, result)
        return None

    async def _finish(self, token: Token[Any], rest: Awaitable[Any]) -> None:
        """Run the rest of a token after its first wait."""
        self.rest = rest
        try:
            result = await rest
        except BaseException as error:
            if is_cancellation(error) and self._is_cancelled():
                token._settle(
                    _TERMINATED, error=token.terminated(token._extras.cancel_requested or self._why_cancelled)
                )
                raise
            del rest  # the error's traceback references this frame
            failing = self._failing(token, error)
            del token
            await failing
        else:
            token._settle(_COMPLETED, result)
        finally:
            self.rest = None

    async def _failing(self, token: Token[Any], error: BaseException) -> None:
        """End a token after its code raised, and its actor if that was a crash."""
        self.rest, self.crashed = None, False
        crashing = self._fail(token, error)
        del token, error
        if crashing is not None:
            await crashing

    def _fail(self, token: Token[Any], error: BaseException) -> Awaitable[None] | None:
        """End a token after its code raised; if its actor has crashed, return an awaitable that handles the crash."""
        place = self._place
        error = without_runtime_frames(error)
        if token._done:
            token.note_return()
            if error.__traceback__ is None:  # ended before its code began, without arguments
                return None
        if is_interrupt(error):
            error = TokenInterrupt(token._extras.cancel_requested)
        elif type(error) is RuntimeError and str(error) == self._of_other_loop[0]:
            error.add_note(self._of_other_loop[1])
        crash = place.failed(token, error)
        if crash is None or not self.at_work:
            return None
        return self._live(_life.crash(cast("ActorPlace", place), crash, self, token), copy_context())

    async def _step_through(self, token: Token[Any], context: Context, steps: Generator[Any, Any, Any]) -> Any:
        """Run a generator handler step by step, and yield to other tasks in between."""
        token.steps = 0  # making the generator was no step
        try:
            while True:
                hold = token._extras.hold
                if hold is not None and (cancelled := await wait_for_leave(hold)) is not None:
                    raise cancelled
                token.steps += 1
                value = context.run(next, steps)
                if value is not None:
                    context.run(refuse_yield, steps, value)
                if token._extras.hold is not None:
                    between_steps(token._extras.hold)
                await self._checkpoint()
        except StopIteration as stop:
            return stop.value
        finally:
            close_steps(token, context, steps)
            if token._extras.hold is not None:
                after_step(token._extras.hold)

    # Signals

    async def _handle(self, signal: Signal) -> None:
        place = self._place
        if not isinstance(place, ActorPlace):
            return
        if isinstance(signal, Start):
            await self._live(_life.start(place, signal, self), signal.context)
        elif isinstance(signal, Stop):
            if signal.drain and place.can_drain() and place.mailbox.size:
                place.draining = True
                return
            await self._live(_life.stop(place, self), copy_context())
        elif isinstance(signal, Visit):
            _life.visit(place, signal)
        elif isinstance(signal, Crash):
            if place.runs(signal.instance):
                await self._live(_life.crash(place, signal.error, self), copy_context())
        elif place.instance is not None:
            try:
                handled = place.instance._on_signal(signal)
                if isawaitable(handled):
                    await handled
            except Exception as error:
                await self._live(_life.crash(place, error, self), copy_context())

    async def _live(self, life: Life, context: Context) -> None:
        """Run the user code of one phase of an instance's life."""
        try:
            call: Callable[[], Any] = next(life)
            while True:
                value = error = None
                try:
                    value = context.run(call)
                    if iscoroutine(value):
                        value = await in_context(context, value)
                except BaseException as raised:
                    error = without_runtime_frames(raised)
                if not self.at_work:
                    return
                call = life.send((value, error))
        except StopIteration:
            pass
