"""The place of an operation: a plain function with a mailbox and a drain like an actor's, but without an instance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Final

from actors._child._yields import refuse_yield
from actors._exceptions import TokenFailed, TokenInterrupt
from actors.concurrency._blocking import begin_turn, end_turn, nesting
from actors.drains._asyncio_operation_drain import AsyncioOperationDrain, AtHome, TokenCall, at_home, caller_of
from actors.drains._cpu_drain import CpuDrain
from actors.drains._io_drain import IoDrain
from actors.mailboxes._mailbox import DEFAULT_CAPACITY, Drainer, Overflow
from actors.places._drain import Drain
from actors.places._place import Place
from actors.processes._limits import NO_LIMITS, Limits
from actors.processes._operation_drain import OperationDrain
from actors.steps._checkpoint import checkpoint
from actors.steps._step import after_step, enter
from actors.tokens._lifecycle import TokenState
from actors.tokens._properties import Properties
from actors.tokens._token import Token, _current
from actors.tokens._waits_for import begin_wait, end_wait

if TYPE_CHECKING:
    from actors.places._ports import PlaceSystem

_COMPLETED: Final = TokenState.COMPLETED

# Maximum depth of nested direct calls on one thread; a deeper one is queued, and so gets another thread's stack.
_MAX_DEPTH: Final = 100

# The same for calls that are awaited, each of which takes more of the stack of the loop's thread.
_MAX_DEPTH_IN_TASK: Final = 50


class OperationPlace(Place):
    """Where the tokens of one function are queued and run, up to `concurrency` at once.

    Args:
        system: the owner of the tree.
        path: names from the root down, joined by `/`.
        affinity: `io`, `asyncio`, `cpu` or `process`.
        generator: whether the function is a generator function, which is run step by step.
        concurrency: maximum number of tokens that run at once.
        capacity: maximum number of tokens in the mailbox.
        overflow: what happens to a token when the mailbox is full.
        properties: what the operation declares for its tokens.
        limits: resources of a process that each of its tokens may use.
        context: the context variables that are sent to a process.
    """

    exclusive = False

    __slots__ = ("_context", "_limits", "features", "generator", "undo")

    def __init__(
        self,
        system: PlaceSystem,
        path: str,
        affinity: str,
        *,
        generator: bool,
        concurrency: int,
        capacity: int = DEFAULT_CAPACITY,
        overflow: Overflow = "wait",
        properties: Properties | None = None,
        limits: Limits = NO_LIMITS,
        context: Sequence[ContextVar[Any]] = (),
    ) -> None:
        self.generator = generator
        self.undo: object | None = None  # how its tokens are undone, as the floor above knows
        self.features: object | None = None  # how those of its tokens are computed, likewise
        self._limits = limits
        self._context = context
        super().__init__(
            system,
            path,
            affinity,
            capacity=capacity,
            overflow=overflow,
            concurrency=concurrency,
            properties=properties,
        )

    def _make_drain(self) -> Drain:
        if self.affinity == "io":
            return IoDrain(self, self.system.io_host)
        if self.affinity == "process":
            return OperationDrain(self, generator=self.generator, limits=self._limits, context=self._context)
        return CpuDrain(self, self.system.dispatcher)

    def resolve(self, token: Token[Any]) -> Callable[..., Any]:
        return token._call  # type: ignore[no-any-return]

    def steps_of(self, _call: Callable[..., Any], _result: Any, /) -> bool:
        return self.generator

    def failed(self, token: Token[Any], error: BaseException) -> None:
        if isinstance(error, TokenInterrupt) and token._extras.cancel_requested:
            token._end_by_code(error, token._extras.cancel_requested)
        else:
            token._end_by_code(error)

    def step_waits(self, why: object) -> None:
        self.mailbox.lend(why)

    def step_resumes(self, why: object) -> None:
        self.mailbox.reclaim(why)

    def turn_here(self, token: Token[Any]) -> Turn | None:
        """Return a turn for a direct call on the calling thread, if the call may begin now and no other token is ahead.

        Turns of this place that contain the call do not count for its concurrency: they wait for the call.

        Returns:
            the turn, which the caller runs at once; None when the token is to be queued.
        """
        affinity = self.affinity
        if affinity == "process" or (self.system.guarded and not self.system.accepts_here(token)):
            return None
        if affinity == "io" and not self.system.io_host.on_loop():
            return None
        if affinity == "asyncio" and asyncio._get_running_loop() is None:
            return None
        depth, inside = nesting(self)
        turn = Turn(self, token)
        if self.governor is not None:
            return turn if depth < _MAX_DEPTH and self._may_begin_here(turn, inside) else None
        return turn if depth < _MAX_DEPTH and self.mailbox.try_enter(turn, inside) else None

    def _may_begin_here(self, turn: Turn, inside: int) -> bool:
        """Enter the turn of a call that is held to a policy, if it may begin now."""
        token, governor = turn.token, self.governor
        if governor is None or not governor.may_run_here(token):
            return False
        if self.mailbox.try_enter(turn, inside, admitted=True):
            return True
        self.system.throttles.forget((token,))
        self.system.throttles.let_go()
        return False

    def at_home(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function as it is to run for the calling code: in the loop of that, if there may be several."""
        return call

    def awaited_turn(self, token: Token[Any]) -> TokenCall | None:  # noqa: ARG002
        """Do as `turn_here` does, for a call that is awaited in an asyncio task, and would run in that task."""
        return None

    def runs_at_caller(self, token: Token[Any]) -> bool:
        return any(isinstance(one, Turn | TokenCall) and one.token is token for one in self.mailbox.drainers())

    def close(self) -> None:
        """End all queued tokens and accept no more."""
        if self.mailbox.changes_here:
            self.system.later(self.close)
            return
        self.system.forget(self)
        self.terminate_queued("has stopped")
        self.drain.close()

    def terminate_running(self, why: str) -> int:
        threads, tokens = self.drain.seal()
        self.system.seal(tokens, why)
        if threads:
            self.system.note_abandoned(self.path, threads)
        return len(threads)


class AsyncioOperationPlace(OperationPlace):
    """Where the tokens of a function run in asyncio loops, each in the one that it comes from."""

    __slots__ = ("_drain",)

    def _make_drain(self) -> Drain:
        self._drain = AsyncioOperationDrain(self, self.system.asyncio_hosts)
        return self._drain

    def send(self, token: Token[Any]) -> Token[Any]:
        token._call = self.at_home(token._call)
        return super().send(token)

    async def send_async(self, token: Token[Any]) -> Token[Any]:
        token._call = self.at_home(token._call)
        return await super().send_async(token)

    def _wait_for_room(self, token: Token[Any]) -> None:
        if asyncio._get_running_loop() is not None:
            raise self._full("an asyncio loop must not wait for its own tokens: use the awaiting form")
        super()._wait_for_room(token)

    def at_home(self, call: Callable[..., Any]) -> Callable[..., Any]:
        hosts = self.system.asyncio_hosts
        host = hosts.here()
        return call if host is hosts.own or type(call) is AtHome else at_home(call, host)

    def step_waits(self, why: object) -> None:
        super().step_waits(why)
        caller = caller_of(why) if isinstance(why, Token) else None
        if caller is not None:
            caller.lend_turn()  # it waits with it

    def step_resumes(self, why: object) -> None:
        super().step_resumes(why)
        caller = caller_of(why) if isinstance(why, Token) else None
        if caller is not None:
            caller.take_turn_back()

    def awaited_turn(self, token: Token[Any]) -> TokenCall | None:
        loop, system = asyncio._get_running_loop(), self.system
        task = None if loop is None or self.governor is not None else asyncio.current_task(loop)
        if loop is None or task is None or (system.guarded and not system.accepts_here(token)):
            return None
        turn = TokenCall(self._drain, token, system.asyncio_hosts.of(loop), task, _current.get())
        may_enter = self.mailbox.try_enter
        if turn.depth >= _MAX_DEPTH_IN_TASK or not (may_enter(turn) or may_enter(turn, turn.inside())):
            return None
        token._begin(token.created_at)
        return turn


class Turn(Drainer):
    """The turn of a direct call: its token runs on the caller's thread, in a copy of the caller's context.

    Args:
        place: of the operation.
        token: of the call.
    """

    __slots__ = ("_enter", "_place", "_waiter", "token")

    def __init__(self, place: OperationPlace, token: Token[Any]) -> None:
        self.at_work = False  # until it is entered
        self._place = place
        self._enter: Callable[..., Any] = _enter_generator if place.generator else enter
        self._waiter = _current.get()  # the token with the step that makes the call
        self.token = token

    def run(self) -> Any:
        """Run the token, as the plain function would.

        Raises:
            BaseException: what the function raises, unchanged.
        """
        token, waiter = self.token, self._waiter
        depth = begin_turn(self._place, self)
        if waiter is not None:
            begin_wait(waiter, token)
        token._begin(token.created_at)
        try:
            value = (token._context or copy_context()).run(self._enter, token, token._call)
            if token._extras.hold is not None:
                after_step(token._extras.hold)
        except BaseException as error:
            if token._extras.hold is not None:
                try:
                    after_step(token._extras.hold)
                except TokenInterrupt:  # Python 3.11: another one, which came too late
                    after_step(token._extras.hold)
            self._place.failed(token, error)
            if token.started_at != token.created_at:  # another attempt has been queued, or has begun elsewhere
                self._place.mailbox.dismiss(self)
                return _outcome_of(token)
            if isinstance(error, TokenInterrupt) and token.state is TokenState.TERMINATED:
                raise token.exception() or error from None  # the interrupt is not meant for the caller
            raise
        else:
            token._finish(_COMPLETED, value)
            return value
        finally:
            end_turn(depth)
            if waiter is not None:
                end_wait(waiter, token)
            if token._done:  # else this was interrupted, and recovery does the rest
                self._place.mailbox.dismiss(self)
            del self, token, waiter  # an error references this frame, which must not reference the error's owner

    def give_up(self) -> None:
        """End the turn, and its token, after the call was interrupted and is gone; on any thread."""
        self.token._terminate("its caller was interrupted by an exception of a signal handler")
        self._place.mailbox.dismiss(self)


def _outcome_of(token: Token[Any]) -> Any:
    """Wait for a token, and return its result as its function would, or raise what that raised."""
    try:
        return token.result()
    except TokenFailed as error:
        raise error.__cause__ or error from None
    finally:
        del token  # as in `Turn.run`


def _enter_generator(token: Token[Any], call: Callable[..., Any]) -> Any:
    """Run all steps of a token's generator, unless it is asked to end between two of them; return its return value."""
    steps: Generator[Any, Any, Any] = enter(token, call)
    token.steps = 0  # making the generator was no step
    try:
        while True:
            checkpoint()
            token.steps += 1
            value = next(steps)
            if value is not None:
                refuse_yield(steps, value)
    except StopIteration as stop:
        return stop.value
    finally:
        steps.close()
        del token  # as in `Turn.run`
