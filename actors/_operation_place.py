"""The place of an operation: a plain function that is served like an actor, but has no instance to crash."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from actors._blocking import begin_turn, end_turn
from actors._checkpoint import checkpoint
from actors._controls import Controls
from actors._cpu_drain import CpuDrain
from actors._exceptions import TokenInterrupt
from actors._io_drain import IoDrain
from actors._lifecycle import TokenState
from actors._limits import NO_LIMITS, Limits
from actors._mailbox import DEFAULT_CAPACITY, Overflow
from actors._operation_drain import OperationDrain
from actors._place import Drain, Place
from actors._step import after_step
from actors._token import Token, _current
from actors._waits_for import begin_wait, end_wait

if TYPE_CHECKING:
    from actors._system import ActorSystem


class OperationPlace(Place):
    """Where the tokens of one function are queued and run, up to `concurrency` at once.

    Args:
        system: whose tree it is in.
        path: names from the root down, joined by `/`.
        affinity: `io`, `cpu` or `process`.
        generator: whether the function is a generator function, which is run step by step.
        concurrency: tokens that run at once, at most.
        capacity: tokens the mailbox holds at most.
        overflow: what happens to a token that finds it full.
        controls: what operators may do to its tokens.
        limits: what each of its tokens may use of a process.
        context: the context variables whose values cross to a process.
    """

    exclusive = False

    __slots__ = ("_context", "_generator", "_limits")

    def __init__(
        self,
        system: ActorSystem,
        path: str,
        affinity: str,
        *,
        generator: bool,
        concurrency: int,
        capacity: int = DEFAULT_CAPACITY,
        overflow: Overflow = "wait",
        controls: Controls | None = None,
        limits: Limits = NO_LIMITS,
        context: Sequence[ContextVar[Any]] = (),
    ) -> None:
        self._generator = generator
        self._limits = limits
        self._context = context
        super().__init__(
            system,
            path,
            affinity,
            capacity=capacity,
            overflow=overflow,
            concurrency=concurrency,
            controls=controls,
        )

    def _make_drain(self) -> Drain:
        if self.affinity == "io":
            return IoDrain(self, self.system.io_host)
        if self.affinity == "process":
            return OperationDrain(self, generator=self._generator, limits=self._limits, context=self._context)
        return CpuDrain(self, self.system.dispatcher)

    def resolve(self, token: Token[Any]) -> Callable[..., Any]:
        return token._call  # type: ignore[no-any-return]

    def steps_of(self, _call: Callable[..., Any], _result: Any, /) -> bool:
        return self._generator

    def failed(self, token: Token[Any], error: BaseException) -> None:
        if isinstance(error, TokenInterrupt) and token._cancel_requested:
            token._terminate(token._cancel_requested)
        else:
            token._finish(TokenState.FAILED, error=error)

    def step_waits(self) -> None:
        self.mailbox.lend_turn()

    def step_resumes(self) -> None:
        self.mailbox.reclaim_turn()

    def may_run_here(self) -> bool:
        """Take a turn for a direct call, which then runs on the calling thread, if nobody else has it."""
        if self.system.intake_closed or self.affinity == "process":
            return False
        if self.affinity == "io" and not self.system.io_host.on_loop():
            return False
        return self.mailbox.try_enter()

    def run_here(self, token: Token[Any]) -> Any:
        """Run a token on the calling thread, as the plain function would; `mailbox.try_enter` has allowed it.

        Raises:
            BaseException: what the function raises, unchanged.
        """
        caller = _current.get()
        if caller is not None:
            begin_wait(caller, token)
        before = _current.set(token)
        begin_turn(self)
        token._begin(token.created_at)
        try:
            value = token._call(*token.args, **token.kwargs)
            if self._generator:
                value = self._exhaust(token, value)
            if token._hold is not None:
                after_step(token._hold)
        except BaseException as error:
            if token._hold is not None:
                try:
                    after_step(token._hold)
                except TokenInterrupt:  # Python 3.11: one that has come just now, too late
                    after_step(token._hold)
            self.failed(token, error)
            if isinstance(error, TokenInterrupt) and token.state is TokenState.TERMINATED:
                raise token.exception() or error from None  # the interrupt is not meant for the caller
            raise
        else:
            token._finish(TokenState.COMPLETED, value)
            return value
        finally:
            end_turn()
            _current.reset(before)
            if caller is not None:
                end_wait(caller, token)
            self.mailbox.leave()

    @staticmethod
    def _exhaust(token: Token[Any], steps: Generator[Any, Any, Any]) -> Any:
        """Take all steps of a generator here, unless the token is asked to end between two."""
        token.steps = 0  # making the generator was none
        try:
            while True:
                checkpoint()
                token.steps += 1
                next(steps)
        except StopIteration as stop:
            return stop.value
        finally:
            steps.close()

    def close(self) -> None:
        """End what is queued and accept no more."""
        self.system.forget(self)
        self.terminate_queued("has stopped")
        self.drain.close()

    def terminate_running(self, why: str) -> int:
        threads, tokens = self.drain.seal()
        self.system.seal(tokens, why)
        if threads:
            self.system.note_abandoned(self.path, threads)
        return len(threads)
