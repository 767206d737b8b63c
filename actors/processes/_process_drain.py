"""The base class of the two drains that run tokens in child processes: for operations, and for actors."""

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
from actors.places._place import place_of
from actors.processes._limit_watch import refused_memory
from actors.processes._limits import NO_LIMITS, Limits
from actors.processes._process_holds import ProcessHolds
from actors.processes.pickling import _carrier
from actors.processes.workers._errors import died_error
from actors.tokens._lifecycle import TokenState
from actors.tokens._token import Token

if TYPE_CHECKING:
    from actors.mailboxes._signals import Signal
    from actors.places._place import Place
    from actors.processes._process_host import ProcessHost
    from actors.processes.workers._worker import Worker

_COMPLETED: Final = TokenState.COMPLETED


class ProcessDrain(abc.ABC):
    """Runs the tokens of a place in child processes.

    Args:
        place: the place.
        limits: what each of its tokens may use.
        context: the context variables that are sent with a token.
    """

    own: ClassVar[bool]  # whether a worker serves this place only

    call_here: None = None

    def __init__(self, place: Place, limits: Limits = NO_LIMITS, context: Sequence[ContextVar[Any]] = ()) -> None:
        self.place = place
        self.limits = limits
        self.context = tuple(context)
        self.host: ProcessHost = place.system.processes
        self._holds = ProcessHolds(self)
        self._own_limits: dict[Token[Any], Limits] = {}  # set by operators

    # For the place; see the protocol `Drain`

    @abc.abstractmethod
    def new_drainer(self) -> Drainer: ...

    @abc.abstractmethod
    def wake(self, drainer: Any, /) -> None: ...

    @abc.abstractmethod
    def recover(self, drainers: Iterable[Drainer], /) -> None: ...

    @abc.abstractmethod
    def workers(self) -> list[Worker]:
        """Return the workers that the place has now."""

    @abc.abstractmethod
    def seal(self, only: Token[Any] | None = None) -> tuple[list[str], list[Token[Any]]]: ...

    def control_arrived(self, _signal: Signal, /) -> None:  # noqa: B027
        """Do nothing: operations have no signals."""

    def handle_here(self, _signal: Signal, _here: bool, _plain: bool, /) -> bool:
        """Handle nothing on the calling thread: the instance is in a child process."""
        return False

    def dismiss_lost(self) -> bool:
        return False

    def running(self) -> list[Token[Any]]:
        return [token for worker in self.workers() for token in tokens_of(worker) if token.started_at is not None]

    def has_taken(self, token: Token[Any]) -> bool:
        return self.find(token) is not None

    def close(self) -> None:  # noqa: B027
        """Do nothing: idle workers go back to the pool, and an instance's worker ends with it."""

    # For operators, on any thread

    def worker_of(self, token: Token[Any]) -> Worker | None:
        """Return the worker that runs a token; None if the token has not begun, or is over."""
        found = self.find(token)
        return found[0] if found is not None and token.started_at is not None else None

    def steps_of(self, token: Token[Any]) -> int:
        """Return how many steps of a token have begun."""
        found = self.find(token)
        if found is not None and found[0].begun == found[1]:
            return max(token.steps, found[0].page.word[_shared_page.STEPS])
        return token.steps

    def limits_of(self, token: Token[Any]) -> Limits:
        """Return the limits of a token."""
        return self._own_limits.get(token, self.limits)

    def limit_next(self, token: Token[Any], limits: Limits) -> None:
        """Set the limits of a token's next attempt."""
        self._own_limits[token] = limits
        token.add_done_callback(self._forget_limits)

    def set_limits(self, token: Token[Any], limits: Limits) -> None:
        """Set the limits of a token, which may be running."""
        self.limit_next(token, limits)
        found = self.find(token)
        if found is not None and token.started_at is not None:
            self.host.limit_watch.begin(token, found[0], found[1], self)

    def _forget_limits(self, token: Token[Any]) -> None:
        self._own_limits.pop(token, None)

    async def stack(self, token: Token[Any]) -> list[tuple[str, int, str]] | None:
        """Return the stack of a token: (file, line, function), the outermost call first; None if it does not run."""
        worker = self.worker_of(token)
        if worker is None:
            return None
        return await trio.to_thread.run_sync(worker.stack, limiter=trio.CapacityLimiter(1))

    def cancel(self, token: Token[Any]) -> None:
        """End a token at its next yield point; one that its worker has not started is taken back."""
        found = self.find(token)
        if found is None:
            return
        worker, number = found
        if token.started_at is not None:
            worker.page.word[_shared_page.CANCEL] = number
        else:
            self.host.call_soon(lambda: self.host.reclaim(worker))

    def hold_changed(self, token: Token[Any]) -> None:
        """Stop the process of a token, let it take steps, or let it run, as the token's hold is now."""
        self._holds.changed(token)

    def arrest(self, token: Token[Any]) -> bool:
        return self.arrested(token) is not None

    def arrested(self, token: Token[Any]) -> Worker | None:
        """Stop the process of a token, and take back the calls that it has not started.

        Returns:
            the worker, stopped, if it runs the token; None if it does not run the token, or no longer: then it runs on.
        """
        found = self.find(token)
        if found is None:
            return None
        worker, number = found
        with worker.lock:
            if worker.inflight.get(number) is not token:
                return None  # it is over, or was taken back; the worker may serve another place by now
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
        """Wait for a token for a moment by reading from its worker, if the worker has no other call."""
        if threading.current_thread() is threading.main_thread():
            return  # a signal handler may raise there, while a call is being settled
        found = self.find(token)
        if found is not None and len(found[0].inflight) == 1:
            self.host.results.read_here(found[0], token, math.inf if timeout is None else timeout)

    # Hooks of subclasses

    def lend_turn(  # noqa: B027  # an actor has nothing to lend
        self, worker: Worker, why: object, *, paused: bool = False
    ) -> None:
        """Let another token run while the token of this worker waits for another one, or is paused.

        Raises:
            DeadlockError: it waits, and no further one may.
        """

    def take_turn_back(self, worker: Worker, why: object = None) -> None:  # noqa: B027
        """Undo `lend_turn` for one reason; without a reason, for all."""

    @abc.abstractmethod
    def go_on(self, worker: Worker) -> None:
        """Send a worker more tokens, if it is to have more; on the host's thread."""

    def take_back(self, not_started: Iterable[Any]) -> None:
        """Queue tokens again that a worker was sent and has not started; the oldest comes first."""
        for token in reversed(list(not_started)):
            self._give_back(token)

    def _give_back(self, token: Token[Any]) -> None:
        if token._done:
            token.note_return()
        if is_over(token):
            return
        if token.started_at is not None:  # it was believed to run
            token.started_at = None
            token.steps = 0
        if token._phase is TokenState.RUNNING:
            token._phase = TokenState.QUEUED
        if token._extras.cancel_requested:
            token._terminate(token._extras.cancel_requested)
        else:
            place_of(token).give_back(token)  # the worker may have passed to another place while it was stopped

    def find(self, token: Token[Any]) -> tuple[Worker, int] | None:
        """Return the worker that was sent a token, and the number of the call; None if none was."""
        for worker in self.workers():
            number = worker.number_of(token)
            if number:
                return worker, number
        return None

    # Begin and end of a token

    def context_of(self, token: Token[Any]) -> tuple[Any, ...] | None:
        """Return the context variables that are sent with a token: pairs of variable and value."""
        context = token._context
        if not self.context or context is None:
            return None
        return tuple((variable, context[variable]) for variable in self.context if variable in context)

    def headers_of(self, token: Token[Any]) -> tuple[dict[str, str], ...]:
        """Return what observers send with a token, as the optional last item of its payload."""
        system = self.place.system
        if system.on_token_sent is None:
            return ()
        headers: dict[str, str] = {}
        system.tell(system.on_token_sent, token, headers)
        return (headers,) if headers else ()

    def note_begun(self, token: Token[Any], worker: Worker, seconds: float = 0.0) -> None:
        """Note that a token has begun, so many seconds ago, unless that is noted."""
        with worker.lock:
            if token.started_at is None and not is_over(token):
                token._begin(self.place.system.clock() - seconds)

    def begin(self, token: Token[Any], worker: Worker, number: int, now: float) -> None:
        """Note that a worker begins a token."""
        token._begin(now)
        if self.limits or self._own_limits or worker.address_space is not None:
            self.host.limit_watch.begin(token, worker, number, self)

    def enter_call(self, token: Token[Any], worker: Worker, number: int) -> None:
        """Enter a token that is about to be sent among the worker's calls; it may be taken back from now on."""
        worker.inflight[number] = token
        self.repeat_requests(token)

    def repeat_requests(self, token: Token[Any]) -> None:
        """Repeat a cancel or a hold of a token that was just entered: it was nowhere since it had left its mailbox."""
        if token._extras.cancel_requested:
            self.host.call_soon(lambda: self.cancel(token))
        if token._extras.hold is not None:
            self.host.call_soon(lambda: self.hold_changed(token))

    @staticmethod
    def _not_rebuilt(token: Token[Any], problem: BaseException) -> BaseException:
        error = NotPicklable(f"what {token._describe()} returned cannot be rebuilt here: {_carrier.cause(problem)}")
        error.__cause__ = problem
        error.expected = True
        return error

    def settle(
        self, token: Token[Any], worker: Worker, frame: _wire.Frame, descriptor: int | None
    ) -> BaseException | None:
        """End a token with the outcome from its worker; return the error if it is a crash of the place's instance."""
        if token._done:
            if frame.kind != _wire.RESULT:  # else `_finish` notes it, with the value
                token.note_return()
        elif is_over(token):
            return None
        place = self.place
        if token.started_at is None:
            self.note_begun(token, worker, frame.extra * 1e-9)
        if token._extras.hold is not None:
            token._extras.hold.leave()
        if self.host.on_outcome is not None:
            self.host.on_outcome(token, worker, frame.number)
        try:
            if frame.kind == _wire.RESULT:
                token._finish(_COMPLETED, _carrier.load(frame.payload, descriptor))
                return None
            if frame.kind == _wire.CANCELLED:
                token._terminate(token._extras.cancel_requested or "it was ended")
                return None
            failure: _wire.Failure = _carrier.load(frame.payload, descriptor)
            error = _carrier.load_failure(failure, worker.pid)
            most = self.limits_of(token).address_space
            if isinstance(error, MemoryError) and most is not None:
                error = refused_memory(token, most, error)
                error.expected = failure[4]
        except BaseException as problem:
            _carrier.reraise_ctrl_c(problem)
            return place.failed(token, self._not_rebuilt(token, problem))  # in a variable: a cycle by the traceback
        return place.failed(token, error)

    def lost(self, token: Token[Any], worker: Worker) -> BaseException | None:
        """End a token after its worker has died; return the error if it is a crash of the place's instance."""
        if token._done:
            token.note_return()
        if is_over(token):
            return None
        if token.started_at is None:
            self.note_begun(token, worker)
        if token._extras.hold is not None:
            token._extras.hold.leave()
        return self.place.failed(token, died_error(worker, token._describe()))


def is_over(token: Token[Any]) -> bool:
    """Tell whether what a worker says of a token is too late: it has ended, or was ended and waits for a new attempt.

    The latter does not begin before the worker has let go of it.
    """
    policy = token._extras.policy
    return token._done or (policy is not None and policy.awaits_attempt)


def release_if_over(token: Token[Any], worker: Worker) -> None:
    """Have a worker that is to be killed forget a token that waits for a new attempt.

    That one may begin elsewhere before the death of the worker is noticed, and is not to fail with it.
    """
    if is_over(token) and not token._done:
        worker.take_calls((worker.number_of(token),))


def process_drain(token: Token[Any]) -> ProcessDrain | None:
    """Return the drain that runs a token in child processes; None if its affinity is another one."""
    drain = token._place.drain
    return drain if isinstance(drain, ProcessDrain) else None


def tokens_of(worker: Worker) -> list[Token[Any]]:
    """Return the tokens among the calls that a worker was sent."""
    return [waits for waits in list(worker.inflight.values()) if isinstance(waits, Token)]
