"""Drain a place in child processes: what all such drains share, and how the tokens of an operation are run.

A token that a worker has begun is running; those that were sent with it, and have not begun, are still queued, in the
worker's hand. They are sent several at a time only while they are short, and are taken back as soon as one is not.
"""

from __future__ import annotations

import abc
import math
import threading
import time
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, Final

import trio

from actors import _carry
from actors._child import _page, _wire
from actors._exceptions import NotPicklable
from actors._lifecycle import TokenState
from actors._limit_watch import refused_memory
from actors._limits import NO_LIMITS, Limits
from actors._mailbox import Drainer
from actors._process_host import died_error
from actors._token import NO_KWARGS, Token

if TYPE_CHECKING:
    from actors._hold import Hold
    from actors._place import Place
    from actors._process_host import ProcessHost
    from actors._signals import Signal
    from actors._worker import Worker

_COMPLETED: Final = TokenState.COMPLETED
_RESULT: Final = _wire.RESULT
_pack_header = _wire.HEADER.pack

_PAUSE: Final = "it is paused"  # why the turn of a token is lent

_MOST_AT_ONCE: Final = 64  # tokens that a worker has in hand at most
_SECONDS_AT_ONCE: Final = 0.002  # of work that it is sent at once
_BYTES_AT_ONCE: Final = 65536
_SELF_STOP_SECONDS: Final = 0.001  # between two looks at a process that is about to stop itself
_FORGET: Final = 0.95  # how slowly the longest token of late is forgotten


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
    def wake(self) -> None: ...

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
        return [token for worker in self.workers() for token in _tokens(worker) if token.started_at is not None]

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
            return max(token.steps, found[0].page.word[_page.STEPS])
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
            self.place.system.limit_watch.begin(token, found[0], found[1], self)

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
            worker.page.word[_page.CANCEL] = number
        else:
            self.host.call_soon(lambda: self.host.look_into(worker))

    def hold_changed(self, token: Token[Any]) -> None:
        """Stop the process of a token, or let it run, as its hold wants it."""
        hold, found = token._hold, self._found(token)
        if hold is None or found is None:
            return
        worker, number = found
        unbegun: list[Any] = []
        with worker.hand:
            if worker.inflight.get(number) is not token:
                pass  # it is elsewhere by now, and its number may be one that the child has passed over
            elif not hold.word:
                self._let_go(worker, number)
            elif hold.stepping:
                unbegun = self._let_step(hold, worker, number)
            elif not worker.stopped:
                unbegun = self._stop(hold, worker, number)
        if unbegun:
            self.take_back(unbegun)
            self.host.call_soon(lambda: self.go_on(worker))

    # All of these run while the worker's hand is held; those that return tokens have taken them out of it.

    def _stop(self, hold: Hold, worker: Worker, number: int) -> list[Any]:
        worker.stack_quickly()
        worker.halt()
        unbegun = worker.revoke()  # these are not to wait for the one that is held
        if not worker.is_at(number) or worker.has_ended(number) or worker.dead or hold.token.done():
            worker.go_on()
        else:
            self._note_begun(hold.token, worker)
            self._park(hold, worker, number)
        return unbegun

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
        with found[0].hand:
            ours = found[0].inflight.get(number) is hold.token
            if ours and not hold.word and not hold.token._done:  # who has ended it kills the process
                self._let_go(found[0], number)

    def _let_go(self, worker: Worker, number: int) -> None:
        if worker.page.word[_page.STOP_CALL] == number:
            worker.page.word[_page.STOP_CALL] = 0
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
            between = word[_page.STOPPED] == number
            word[_page.STOP_AT] = word[_page.STEPS] + steps - (not between)
            word[_page.STOP_CALL] = number
            if worker.stopped:
                worker.stopped = False
                self.take_turn_back(worker, _PAUSE)
                worker.go_on()
            else:
                self._see_it_go(worker, number)
        elif word[_page.STOPPED] == number and word[_page.STEPS] >= word[_page.STOP_AT] and worker.is_halted():
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
            with worker.hand:
                word = worker.page.word
                held = word[_page.STOP_CALL] == number and word[_page.STEPS] >= word[_page.STOP_AT]
                if word[_page.STOPPED] != number or held or worker.stopped or worker.dead:
                    return
                if worker.is_halted():
                    worker.go_on()
            self.host.call_later(_SELF_STOP_SECONDS, look)

        self.host.call_soon(look)

    def is_at(self, token: Token[Any], worker: Worker) -> bool:
        """Stop a worker, and tell whether it runs a token; if it does not, it goes on."""
        with worker.hand:
            worker.halt()
            if worker.is_at(worker.number_of(token)):
                return True
            if not worker.stopped:
                worker.go_on()
            return False

    def arrest(self, token: Token[Any]) -> bool:
        """Stop the process of a token; if that has not begun it, it is taken back."""
        found = self._found(token)
        if found is None:
            return False
        worker, number = found
        with worker.hand:
            worker.halt()
            runs = worker.inflight.get(number) is token and worker.is_at(number) and not worker.has_ended(number)
            unbegun = worker.revoke()
            if not runs and not worker.stopped:
                worker.go_on()
        self.take_back(unbegun)
        if not runs:
            self.host.call_soon(lambda: self.go_on(worker))
        return runs

    def listen_for(self, token: Token[Any], timeout: float | None) -> None:
        """Wait a moment for a token on the calling thread, if nobody else does and its worker has nothing else."""
        found = self._found(token)
        if found is not None and len(found[0].inflight) == 1:
            self.host.listen_here(found[0], token, math.inf if timeout is None else timeout)

    # Hooks of subclasses

    def lend_turn(self, worker: Worker, why: object) -> None:  # noqa: B027  # an actor has nothing to lend
        """Let somebody else have the turn of the token that a worker runs: it is paused, or waits for another one."""

    def take_turn_back(self, worker: Worker, why: object = None) -> None:  # noqa: B027
        """Undo a `lend_turn`; without a reason, all of them."""

    @abc.abstractmethod
    def go_on(self, worker: Worker) -> None:
        """Send a worker more, as far as it shall have more; on the host's thread."""

    def take_back(self, unbegun: Iterable[Any]) -> None:
        """Put tokens back that a worker was sent and has not begun; the oldest comes first."""
        for token in reversed(list(unbegun)):
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
        with worker.hand:
            if token.started_at is None:
                token._begin(self.place.system.clock() - seconds)

    def begin(self, token: Token[Any], worker: Worker, number: int, now: float) -> None:
        """Take note that a worker begins a token."""
        token._begin(now)
        if self.limits or self._own_limits or worker.address_space is not None:
            self.place.system.limit_watch.begin(token, worker, number, self)

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
            value = _carry.load(payload)
        except BaseException as problem:
            _carry.reraise_ctrl_c(problem)
            self.place.failed(token, self._not_rebuilt(token, problem))
        else:
            token._settle(_COMPLETED, value)

    @staticmethod
    def _not_rebuilt(token: Token[Any], problem: BaseException) -> BaseException:
        error = NotPicklable(f"what {token._describe()} returned cannot be rebuilt here: {_carry.cause(problem)}")
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
                token._finish(_COMPLETED, _carry.load(frame.payload, descriptor))
                return None
            if frame.kind == _wire.CANCELLED:
                token._terminate(token._cancel_requested or "it was ended")
                return None
            failure: _wire.Failure = _carry.load(frame.payload, descriptor)
            error = _carry.load_failure(failure, worker.pid)
            most = self.limits_of(token).address_space
            if isinstance(error, MemoryError) and most is not None:
                error = refused_memory(token, most, error)
                error.expected = failure[4]
        except BaseException as problem:
            _carry.reraise_ctrl_c(problem)
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


class OperationDrain(ProcessDrain):
    """Runs the tokens of an operation in the workers of the pool, one slot for each that is at it."""

    own = False

    def __init__(
        self,
        place: Place,
        *,
        generator: bool,
        limits: Limits = NO_LIMITS,
        context: Sequence[ContextVar[Any]] = (),
    ) -> None:
        super().__init__(place, limits, context)
        self.slots: set[OperationSlot] = set()
        self.generator = generator
        self.key = place.system.next_name()
        self._carried: bytes | None = None  # its function as a child gets it
        self._lending = threading.Lock()  # guards who has lent the turn of a worker
        self._longest = _SECONDS_AT_ONCE  # seconds that one of its tokens took of late, at most

    def wake(self) -> None:
        slot = OperationSlot(self)
        self.slots.add(slot)
        slot.begin()

    def workers(self) -> list[Worker]:
        return [worker for slot in list(self.slots) if (worker := slot.worker) is not None]

    def seal(self, only: Token[Any] | None = None) -> tuple[list[str], list[Token[Any]]]:
        """Kill the processes that run tokens here; with `only`, the one that runs that token."""
        tokens: list[Token[Any]] = []
        for slot in list(self.slots):
            worker = slot.worker
            if only is not None and (worker is None or not worker.number_of(only)):
                continue
            if only is not None and not self._shall_kill(worker, only):  # type: ignore[arg-type]
                tokens.append(only)
                continue
            slot.leave()
            self.place.mailbox.dismiss(slot)
            if worker is None:
                continue
            worker.doomed = True
            self.take_turn_back(worker)
            if only is not None:
                tokens.append(only)
                self.take_back(one for one in worker.revoke() if one is not only)
            else:
                tokens.extend(_tokens(worker))
            worker.kill()
        return [], tokens

    def _shall_kill(self, worker: Worker, token: Token[Any]) -> bool:
        """Stop a worker, and tell whether it runs a token; if not, that is taken out of its hand, and it goes on."""
        with worker.hand:
            worker.halt()
            runs = worker.is_at(worker.number_of(token))
            unbegun = worker.revoke()
            if not runs and not worker.stopped:
                worker.go_on()
        self.take_back(one for one in unbegun if one is not token)
        if not runs:
            self.host.call_soon(lambda: self.go_on(worker))
        return runs

    def go_on(self, worker: Worker) -> None:
        holder = worker.holder
        if isinstance(holder, OperationSlot):
            holder.feed()

    def lend_turn(self, worker: Worker, why: object) -> None:
        with self._lending:
            new = not worker.lent
            worker.lent.add(why)
        if new:
            self.place.step_waits()
            self.host.lend(1)

    def take_turn_back(self, worker: Worker, why: object = None) -> None:
        with self._lending:
            had = bool(worker.lent)
            if why is None:
                worker.lent.clear()
            else:
                worker.lent.discard(why)
            over = had and not worker.lent
        if over:
            self.place.step_resumes()
            self.host.lend(-1)

    def batch(self) -> int:
        """Return how many tokens a worker shall have in hand."""
        if self.generator or self.limits or self._own_limits:
            return 1
        return min(_MOST_AT_ONCE, max(1, int(_SECONDS_AT_ONCE / self._longest)))

    def note_seconds(self, seconds: float) -> None:
        """Take note of how long a token took."""
        longest = self._longest * _FORGET
        self._longest = max(longest, seconds, 1e-6)

    def function_frame(self, token: Token[Any], worker: Worker) -> list[bytes]:
        """Return the function as a frame, if it is new to a worker.

        Raises:
            NotPicklable: it cannot be pickled.
        """
        if self.key in worker.known:
            return []
        if self._carried is None:
            self._carried = _carry.function_for(
                worker.carrier, token.operation, token._call, generator=self.generator, context=self.context
            )
        return [_wire.pack(_wire.FUNCTION, 0, self.key, self._carried)]

    def call_frame(self, token: Token[Any], worker: Worker, number: int) -> list[bytes]:
        """Return a call as a frame.

        Raises:
            NotPicklable: an argument cannot be pickled.
        """
        level = _carry.log_level()
        if token.kwargs is NO_KWARGS and level == worker.level and not self.context:
            payload = _carry.plain_arguments(token.args)
            if payload is not None:
                return [_pack_header(_wire.CALL, _wire.PLAIN, len(payload), number, self.key), payload]
        try:
            item = (token.args, dict(token.kwargs), self.context_of(token), level)
            return worker.frame(_wire.CALL, number, self.key, item)
        except Exception as error:
            raise _carry.not_picklable(token.operation, token.args, dict(token.kwargs), error) from error


class OperationSlot(Drainer):
    """One drainer of an operation's tokens: it has a worker, or waits for one, and sends it what is queued."""

    own = False

    __slots__ = ("_again", "_drain", "_feeding", "_place", "_since", "worker")

    def __init__(self, drain: OperationDrain) -> None:
        super().__init__()
        self._drain = drain
        self._place = drain.place
        self.worker: Worker | None = None
        self._feeding = threading.Lock()  # held by who takes tokens and sends them
        self._again = False  # whether he is to look once more
        self._since = 0.0  # when it got its worker

    def begin(self) -> None:
        """Get a worker, and send it the first token: here, unless this is the thread of a loop."""
        try:
            self._begin()
        except BaseException:  # Ctrl-C, on the thread of a sender
            self._drain.host.call_soon(self._begin_again)
            raise

    def _begin_again(self) -> None:
        """Get a worker after all, if the first attempt was interrupted before there was one."""
        if self.at_work and self.worker is None:
            worker = self._drain.host.pool.given(self)
            if worker is not None:
                self.assigned(worker)
            else:
                self._drain.host.fill()

    def _begin(self) -> None:
        host = self._drain.host
        worker = host.acquire(self)
        if worker is None:
            return
        if trio.lowlevel.in_trio_run():  # no user code runs there, and pickling is that
            host.call_soon(lambda: self.assigned(worker))
        else:
            self.assigned(worker, most=1)

    def assigned(self, worker: Worker, most: int = _MOST_AT_ONCE) -> None:
        """Take a worker."""
        if not self._drain.host.pool.confirm(self, worker):
            return  # it has died, and who looked after that has seen to another one
        self._since = time.monotonic()
        if not self.at_work:  # dismissed while it waited
            self._give_worker_back()
            return
        try:
            self.feed(most)
        except BaseException:  # Ctrl-C, on the thread of a sender
            self._drain.host.call_soon(self.feed)
            raise

    def leave(self) -> None:
        """Be no drainer of the place any more."""
        self._drain.slots.discard(self)
        self._drain.host.pool.forget(self)

    def feed(self, most: int = _MOST_AT_ONCE) -> None:
        """Send the worker what it shall have; several may call this at once, and one does it."""
        while True:
            if not self._feeding.acquire(blocking=False):
                self._again = True
                if not self._feeding.acquire(blocking=False):
                    return  # who has it sees the mark when he is done
            try:
                self._again = False
                self._feed(most)
            finally:
                self._feeding.release()
            if not self._again:
                return

    def _feed(self, most: int) -> None:
        worker = self.worker
        if worker is None or worker.doomed or worker.stopped or worker.lent or worker.holder is not self:
            return
        drain, mailbox, inflight = self._drain, self._place.mailbox, worker.inflight
        batch = drain.batch()
        in_hand = len(inflight)
        if in_hand and (in_hand * 2 > batch or self._shall_make_room()):
            return
        if not in_hand and self._shall_make_room():
            self._queue_up_again()
            return
        pieces: list[bytes] = []
        numbers: list[int] = []  # of the calls in there
        size = 0
        item: Any = None
        try:
            while len(inflight) < batch and len(numbers) < most and size < _BYTES_AT_ONCE:
                item = mailbox.take_more(self) if inflight else mailbox.take(self)
                if item is None:
                    if not inflight:
                        self._leave_idle()
                    break
                if type(item) is Token and (frames := self._prepare(item, worker, first=not numbers)):
                    numbers.append(worker.sent)
                    pieces += frames
                    size += sum(map(len, frames))
            if not pieces:
                return
            if worker.send(pieces):
                drain.host.want_room(worker)
            worker.known.add(drain.key)
            worker.level = _carry.log_level()
        except BaseException:  # Ctrl-C, on the thread of a sender
            drain.take_back(self._missed(numbers, worker))
            if type(item) is Token and worker.sent not in numbers and not worker.number_of(item):
                drain.take_back([item])
            raise
        if worker.dead:  # who looked after it may have missed these
            drain.take_back(self._missed(numbers, worker))
        elif len(inflight) > 1:
            drain.host.note_batch(worker)

    @staticmethod
    def _missed(numbers: Iterable[int], worker: Worker) -> list[Any]:
        return [token for number in numbers if (token := worker.inflight.pop(number, None)) is not None]

    def _prepare(self, token: Token[Any], worker: Worker, *, first: bool) -> list[bytes]:
        """Return a token as frames, and have the worker have it in hand; nothing if it is not to be run.

        The first one brings the function with it, if that is new there.
        """
        if not self.at_work:  # dismissed just now, by somebody who may have missed the token
            self._place.give_back(token)
            return []
        if token._context is None:  # it was ended between the lane and here
            return []
        drain, number = self._drain, worker.reserve()
        try:
            frames = drain.call_frame(token, worker, number)
            if first:
                frames = drain.function_frame(token, worker) + frames
        except NotPicklable as error:
            self._fail(token, error)
            return []
        except BaseException as error:  # that of an object which is pickled, or Ctrl-C
            _carry.reraise_ctrl_c(error)
            self._fail(token, NotPicklable(f"{token._describe()} cannot be sent: {_carry.cause(error)}"))
            return []
        if not worker.inflight:
            drain.begin(token, worker, number, self._place.system.clock())
        drain.take_in_hand(token, worker, number)
        return frames

    def _fail(self, token: Token[Any], error: BaseException) -> None:
        token._begin(self._place.system.clock())
        self._place.failed(token, error)

    def _shall_make_room(self) -> bool:
        """Tell whether others wait for a worker, and this one was had for long enough."""
        if not self._drain.host.pool.somebody_waits:
            return False
        return time.monotonic() - self._since > 0.005

    def _queue_up_again(self) -> None:
        """Let somebody else have the worker, and stand in line for one."""
        self._give_worker_back()
        worker = self._drain.host.acquire(self)
        if worker is not None:
            self._drain.host.call_soon(lambda: self.assigned(worker))

    def _leave_idle(self) -> None:
        self._drain.slots.discard(self)
        self._give_worker_back()

    def _give_worker_back(self) -> None:
        worker, self.worker = self.worker, None
        if worker is not None:
            self._drain.host.release(worker)

    # What the host tells, on its thread

    def came_back(self, worker: Worker, token: Token[Any], frame: _wire.Frame, descriptor: int | None) -> None:
        """End a token as the worker says."""
        drain = self._drain
        seconds = frame.extra * 1e-9
        drain.note_seconds(seconds)
        if frame.kind == _RESULT and descriptor is None and token._hold is None and not drain.generator:
            drain.complete(token, worker, frame.payload, seconds)
            return
        if drain.generator:
            token.steps = worker.page.word[_page.STEPS]
        if worker.lent and worker.begun == frame.number:  # else it is the turn of one that it has begun since
            drain.take_turn_back(worker)
        drain.settle(token, worker, frame, descriptor)

    def came_to_nothing(self, worker: Worker, token: Token[Any], error: BaseException) -> None:
        """End a token whose answer cannot be taken."""
        if not token._done:
            self._drain._note_begun(token, worker)
            self._place.failed(token, error)

    def go_on(self, worker: Worker) -> None:
        """Take note of which token the worker is at, and send it more."""
        with worker.hand:
            number = next(iter(list(worker.inflight)), 0)
            token = worker.inflight.get(number)
            if token is not None and token.started_at is None and not token._done:
                self._drain.begin(token, worker, number, self._place.system.clock())
        self.feed()

    def take_back(self, unbegun: Iterable[Any]) -> None:
        """Put tokens back that the worker has not begun: one before them takes long."""
        self._drain.note_seconds(_SECONDS_AT_ONCE)
        self._drain.take_back(unbegun)

    def worker_lost(self, worker: Worker, begun: list[Any], unbegun: list[Any]) -> None:
        """End the token that a worker ran as it died, and get another worker for the rest."""
        drain = self._drain
        drain.take_turn_back(worker)
        for token in begun:
            drain.lost(token, worker)
        drain.take_back(unbegun)
        self.worker = None
        if self.at_work:
            new = drain.host.acquire(self)
            if new is not None:
                drain.host.call_soon(lambda: self.assigned(new))


def _tokens(worker: Worker) -> list[Token[Any]]:
    return [waits for waits in list(worker.inflight.values()) if isinstance(waits, Token)]
