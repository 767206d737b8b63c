"""Drain a place in child processes: what operations and actors share, and what operators do to their tokens."""

from __future__ import annotations

import abc
import math
import threading
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, Final

import trio

from actors._child import _shared_page, _wire
from actors._exceptions import NotPicklable
from actors.mailboxes._mailbox import Drainer
from actors.processes._limit_watch import refused_memory
from actors.processes._limits import NO_LIMITS, Limits
from actors.processes.pickling import _carrier
from actors.processes.workers._errors import died_error
from actors.tokens._lifecycle import TokenState
from actors.tokens._token import Token

if TYPE_CHECKING:
    from actors.mailboxes._signals import Signal
    from actors.places._place import Place
    from actors.processes._process_host import ProcessHost
    from actors.processes.workers._worker import Worker
    from actors.tokens._hold import Hold

_COMPLETED: Final = TokenState.COMPLETED

_PAUSE: Final = "it is paused"  # why the turn of a token is lent

_SELF_STOP_SECONDS: Final = 0.001  # between two looks at a process that is about to stop itself


class ProcessDrain(abc.ABC):
    """Base of what runs the tokens of a place in child processes.

    Args:
        place: whose tokens.
        limits: what each of its tokens may use.
        context: the context variables that cross to the child.
    """

    own: ClassVar[bool]  # whether a worker is for this place alone

    def __init__(self, place: Place, limits: Limits = NO_LIMITS, context: Sequence[ContextVar[Any]] = ()) -> None:
        self.place = place
        self.limits = limits
        self.context = tuple(context)
        self.host: ProcessHost = place.system.processes
        self._own_limits: dict[Token[Any], Limits] = {}  # those that an operator has set

    # What the place asks

    @abc.abstractmethod
    def new_drainer(self) -> Drainer: ...

    @abc.abstractmethod
    def wake(self, drainer: Any, /) -> None: ...

    @abc.abstractmethod
    def recover(self, drainers: Iterable[Drainer], /) -> None: ...

    @abc.abstractmethod
    def workers(self) -> list[Worker]:
        """Return the workers that the place has just now."""

    @abc.abstractmethod
    def seal(self, only: Token[Any] | None = None) -> tuple[list[str], list[Token[Any]]]: ...

    def control_arrived(self, _signal: Signal, /) -> None:  # noqa: B027
        """Do nothing: an operation has no signals."""

    def handle_here(self, _signal: Signal, /) -> bool:
        """Do nothing: what there is to do is done in the child."""
        return False

    def running(self) -> list[Token[Any]]:
        return [token for worker in self.workers() for token in tokens_of(worker) if token.started_at is not None]

    def has_taken(self, token: Token[Any]) -> bool:
        return self._found(token) is not None

    def close(self) -> None:  # noqa: B027
        """Do nothing: workers that are not needed go back to the pool, or end with their instance."""

    # What operators ask, on any thread

    def worker_of(self, token: Token[Any]) -> Worker | None:
        """Return the process that runs a token; None when it has not begun, or is over."""
        found = self._found(token)
        return found[0] if found is not None and token.started_at is not None else None

    def steps_of(self, token: Token[Any]) -> int:
        """Return how many steps of a token have begun."""
        found = self._found(token)
        if found is not None and found[0].begun == found[1]:
            return max(token.steps, found[0].page.word[_shared_page.STEPS])
        return token.steps

    def limits_of(self, token: Token[Any]) -> Limits:
        """Return what a token may use."""
        return self._own_limits.get(token, self.limits)

    def set_limits(self, token: Token[Any], limits: Limits) -> None:
        """Set what a token may use from now on, whether it runs or not."""
        self._own_limits[token] = limits
        token.add_done_callback(self._forget_limits)
        found = self._found(token)
        if found is not None and token.started_at is not None:
            self.host.limit_watch.begin(token, found[0], found[1], self)

    def _forget_limits(self, token: Token[Any]) -> None:
        self._own_limits.pop(token, None)

    async def stack(self, token: Token[Any]) -> list[tuple[str, int, str]] | None:
        """Return where the code of a token is, the outermost call first: (file, line, function)."""
        worker = self.worker_of(token)
        if worker is None:
            return None
        return await trio.to_thread.run_sync(worker.stack, limiter=trio.CapacityLimiter(1))

    def cancel(self, token: Token[Any]) -> None:
        """Have a token end at its next yield point; one that has not begun is taken back."""
        found = self._found(token)
        if found is None:
            return
        worker, number = found
        if token.started_at is not None:
            worker.page.word[_shared_page.CANCEL] = number
        else:
            self.host.call_soon(lambda: self.host.reclaim(worker))

    def hold_changed(self, token: Token[Any]) -> None:
        """Stop the process of a token, or let it run, as its hold wants it."""
        hold, found = token._hold, self._found(token)
        if hold is None or found is None:
            return
        worker, number = found
        not_started: list[Any] = []
        with worker.lock:
            if worker.inflight.get(number) is not token:
                pass  # it is elsewhere by now, and its number may be one that the child has passed over
            elif not hold.word:
                self._let_go(worker, number)
            elif hold.stepping:
                not_started = self._let_step(hold, worker, number)
            elif not worker.stopped:
                not_started = self._stop(hold, worker, number)
        if not_started:
            self.take_back(not_started)
            self.host.call_soon(lambda: self.go_on(worker))

    # All of these run while the worker's hand is held; those that return tokens have taken them out of it.

    def _stop(self, hold: Hold, worker: Worker, number: int) -> list[Any]:
        worker.stack_quickly()
        worker.halt()
        not_started = worker.revoke()  # these are not to wait for the one that is held
        if not worker.is_at(number) or worker.has_ended(number) or worker.dead or hold.token.done():
            worker.go_on()
        else:
            self._note_begun(hold.token, worker)
            self._park(hold, worker, number)
        return not_started

    def _park(self, hold: Hold, worker: Worker, number: int) -> None:
        """Take note that the process of a token is stopped."""
        worker.stopped = True
        hold.token.steps = self.steps_of(hold.token)
        self.lend_turn(worker, _PAUSE)
        hold.note_step()
        hold.released.add_done_callback(lambda _: self.host.call_soon(lambda: self.hold_changed_back(hold, number)))

    def hold_changed_back(self, hold: Hold, number: int) -> None:
        """Let the process of a token run when nobody holds the token any more."""
        found = self._found(hold.token)
        if found is None:
            return
        with found[0].lock:
            ours = found[0].inflight.get(number) is hold.token
            if ours and not hold.word and not hold.token._done:  # who has ended it kills the process
                self._let_go(found[0], number)

    def _let_go(self, worker: Worker, number: int) -> None:
        if worker.page.word[_shared_page.STOP_CALL] == number:
            worker.page.word[_shared_page.STOP_CALL] = 0
            self._see_it_go(worker, number)
        if worker.stopped:
            worker.stopped = False
            self.take_turn_back(worker, _PAUSE)
            worker.go_on()

    def _let_step(self, hold: Hold, worker: Worker, number: int) -> list[Any]:
        """Let a token take its steps, or see that it has taken them."""
        word = worker.page.word
        steps = hold.take_steps()
        if steps:
            between = word[_shared_page.STOPPED] == number
            word[_shared_page.STOP_AT] = word[_shared_page.STEPS] + steps - (not between)
            word[_shared_page.STOP_CALL] = number
            if worker.stopped:
                worker.stopped = False
                self.take_turn_back(worker, _PAUSE)
                worker.go_on()
            else:
                self._see_it_go(worker, number)
        elif (
            word[_shared_page.STOPPED] == number
            and word[_shared_page.STEPS] >= word[_shared_page.STOP_AT]
            and worker.is_halted()
        ):
            worker.stack_after_stop()
            self._park(hold, worker, number)
            return worker.revoke()
        return []

    def _see_it_go(self, worker: Worker, number: int) -> None:
        """See that a process goes on that may be about to stop itself, as was wanted of it until just now.

        Stopped here for a moment, it has either said before that it is about to, or will look again before it does.
        """
        if worker.stopped:
            return
        worker.halt()
        worker.go_on()

        def look() -> None:
            with worker.lock:
                word = worker.page.word
                held = word[_shared_page.STOP_CALL] == number and word[_shared_page.STEPS] >= word[_shared_page.STOP_AT]
                if word[_shared_page.STOPPED] != number or held or worker.stopped or worker.dead:
                    return
                if worker.is_halted():
                    worker.go_on()
            self.host.call_later(_SELF_STOP_SECONDS, look)

        self.host.call_soon(look)

    def arrest(self, token: Token[Any]) -> bool:
        return self.arrested(token) is not None

    def arrested(self, token: Token[Any]) -> Worker | None:
        """Stop the process of a token, and take back what it has in hand and has not begun.

        Returns:
            the process, stopped, if it runs the token; None when it does not, or not any more: then it goes on.
        """
        found = self._found(token)
        if found is None:
            return None
        worker, number = found
        with worker.lock:
            worker.halt()
            runs = worker.inflight.get(number) is token and worker.is_at(number) and not worker.has_ended(number)
            not_started = worker.revoke()
            if not runs and not worker.stopped:
                worker.go_on()
        self.take_back(not_started)
        if runs:
            return worker
        self.host.call_soon(lambda: self.go_on(worker))
        return None

    def listen_for(self, token: Token[Any], timeout: float | None) -> None:
        """Wait a moment for a token on the calling thread, if nobody else does and its worker has nothing else."""
        if threading.current_thread() is threading.main_thread():
            return  # a signal handler may raise there, in the middle of what is settled
        found = self._found(token)
        if found is not None and len(found[0].inflight) == 1:
            self.host.results.read_here(found[0], token, math.inf if timeout is None else timeout)

    # Hooks of subclasses

    def lend_turn(self, worker: Worker, why: object) -> None:  # noqa: B027  # an actor has nothing to lend
        """Let somebody else have the turn of the token that a worker runs: it is paused, or waits for another one."""

    def take_turn_back(self, worker: Worker, why: object = None) -> None:  # noqa: B027
        """Undo a `lend_turn`; without a reason, all of them."""

    @abc.abstractmethod
    def go_on(self, worker: Worker) -> None:
        """Send a worker more, as far as it shall have more; on the host's thread."""

    def take_back(self, not_started: Iterable[Any]) -> None:
        """Put tokens back that a worker was sent and has not begun; the oldest comes first."""
        for token in reversed(list(not_started)):
            self._give_back(token)

    def _give_back(self, token: Token[Any]) -> None:
        if token._done:
            return
        if token.started_at is not None:  # it was thought to have begun
            token.started_at = None
            token.steps = 0
        if token._phase is TokenState.RUNNING:
            token._phase = TokenState.QUEUED
        if token._cancel_requested:
            token._terminate(token._cancel_requested)
        else:
            self.place.give_back(token)

    def _found(self, token: Token[Any]) -> tuple[Worker, int] | None:
        """Return the worker that was sent a token, and the number that it has there."""
        for worker in self.workers():
            number = worker.number_of(token)
            if number:
                return worker, number
        return None

    # Tokens on their way

    def context_of(self, token: Token[Any]) -> tuple[Any, ...] | None:
        """Return the values of the context variables that cross with a token, a pair each."""
        context = token._context
        if not self.context or context is None:
            return None
        return tuple((variable, context[variable]) for variable in self.context if variable in context)

    def _note_begun(self, token: Token[Any], worker: Worker, seconds: float = 0.0) -> None:
        """Take note that a token has begun, so many seconds ago, unless somebody has."""
        with worker.lock:
            if token.started_at is None:
                token._begin(self.place.system.clock() - seconds)

    def begin(self, token: Token[Any], worker: Worker, number: int, now: float) -> None:
        """Take note that a worker begins a token."""
        token._begin(now)
        if self.limits or self._own_limits or worker.address_space is not None:
            self.host.limit_watch.begin(token, worker, number, self)

    def take_in_hand(self, token: Token[Any], worker: Worker, number: int) -> None:
        """Let a worker have a token that is about to be sent: from here on it may be taken back at any moment.

        Who came for it while it was nowhere comes again.
        """
        worker.inflight[number] = token
        if token._cancel_requested:
            self.host.call_soon(lambda: self.cancel(token))
        if token._hold is not None:
            self.host.call_soon(lambda: self.hold_changed(token))

    def complete(self, token: Token[Any], worker: Worker, payload: memoryview, seconds: float) -> None:
        """Do as `settle` does, for a result that is small and of a token that nobody holds."""
        if token._done:
            return
        if token.started_at is None:
            self._note_begun(token, worker, seconds)
        try:
            value = _carrier.load(payload)
        except BaseException as problem:
            _carrier.reraise_ctrl_c(problem)
            self.place.failed(token, self._not_rebuilt(token, problem))
        else:
            token._settle(_COMPLETED, value)

    @staticmethod
    def _not_rebuilt(token: Token[Any], problem: BaseException) -> BaseException:
        error = NotPicklable(f"what {token._describe()} returned cannot be rebuilt here: {_carrier.cause(problem)}")
        error.__cause__ = problem
        error.expected = True
        return error

    def settle(
        self, token: Token[Any], worker: Worker, frame: _wire.Frame, descriptor: int | None
    ) -> BaseException | None:
        """End a token as its worker says; return the error when that is a crash of the place's instance."""
        if token._done:
            return None
        place = self.place
        if token.started_at is None:
            self._note_begun(token, worker, frame.extra * 1e-9)
        if token._hold is not None:
            token._hold.leave()
        try:
            if frame.kind == _wire.RESULT:
                token._finish(_COMPLETED, _carrier.load(frame.payload, descriptor))
                return None
            if frame.kind == _wire.CANCELLED:
                token._terminate(token._cancel_requested or "it was ended")
                return None
            failure: _wire.Failure = _carrier.load(frame.payload, descriptor)
            error = _carrier.load_failure(failure, worker.pid)
            most = self.limits_of(token).address_space
            if isinstance(error, MemoryError) and most is not None:
                error = refused_memory(token, most, error)
                error.expected = failure[4]
        except BaseException as problem:
            _carrier.reraise_ctrl_c(problem)
            error = self._not_rebuilt(token, problem)
        return place.failed(token, error)

    def lost(self, token: Token[Any], worker: Worker) -> BaseException | None:
        """End a token whose worker has died; return the error when that is a crash of the place's instance."""
        if token._done:
            return None
        if token.started_at is None:
            self._note_begun(token, worker)
        if token._hold is not None:
            token._hold.leave()
        return self.place.failed(token, died_error(worker, token._describe()))


def tokens_of(worker: Worker) -> list[Token[Any]]:
    """Return the tokens that a worker has in hand."""
    return [waits for waits in list(worker.inflight.values()) if isinstance(waits, Token)]
