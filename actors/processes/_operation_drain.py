"""The drain of an operation that runs in the workers of the pool.

A worker is sent several tokens at a time while they are short. The first of them is running, the others are still
queued, and are taken back as soon as one of them takes long.
"""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from actors._child import _shared_page, _wire
from actors._child._payload import INLINE
from actors._exceptions import NotPicklable
from actors.concurrency._blocking import loop_here
from actors.mailboxes._mailbox import Drainer
from actors.processes._limits import NO_LIMITS, Limits
from actors.processes._process_drain import ProcessDrain, is_over, release_if_over, tokens_of
from actors.processes.pickling import _carrier
from actors.processes.pickling._carrier import plain_size
from actors.processes.pickling._definitions import Definitions
from actors.processes.workers._errors import no_worker_error
from actors.tokens._lifecycle import TokenState
from actors.tokens._token import NO_KWARGS, DurableToken, Token

if TYPE_CHECKING:
    from actors.places._place import Place
    from actors.processes.workers._worker import Worker

_pack_header = _wire.HEADER.pack

_COMPLETED: Final = TokenState.COMPLETED

_MOST_AT_ONCE: Final = 256  # tokens that a worker is sent at most before it returns one
_TOO_MANY: Final = 8  # times the present batch: a worker with more tokens has them taken back
_SECONDS_AT_ONCE: Final = 0.002  # of work that it is sent at most
_BYTES_AT_ONCE: Final = 65536
_TURN_SECONDS: Final = 0.005  # for which a slot keeps its worker, while others wait for one
_DECAY: Final = 0.95  # factor by which the longest duration shrinks with each token


class OperationDrain(ProcessDrain):
    """Runs the tokens of an operation in the workers of the pool; each worker in use has a slot here."""

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
        properties = place.properties
        # The beginning of a durable token is on disk before it is sent, unless it may run twice.
        self._one_by_one = generator or bool(limits) or bool(properties.durable and not properties.idempotent)
        self._function = _Function(self)
        self._lending = threading.Lock()  # guards `lent` of the workers
        self._longest = _SECONDS_AT_ONCE  # seconds that one of the latest tokens took, at most

    def new_drainer(self) -> OperationSlot:
        slot = OperationSlot(self)
        self.slots.add(slot)
        return slot

    def wake(self, slot: OperationSlot) -> None:
        slot.begin()

    def recover(self, drainers: Iterable[Drainer]) -> None:
        for slot in drainers:
            if isinstance(slot, OperationSlot) and slot.worker is None:
                self.host.call_soon(slot.begin_again)

    def workers(self) -> list[Worker]:
        return [worker for slot in list(self.slots) if (worker := slot.worker) is not None]

    def has_taken(self, token: Token[Any]) -> bool:
        return super().has_taken(token) or any(slot.begins(token) for slot in list(self.slots))

    def arrest(self, token: Token[Any]) -> bool:
        return token.started_at is not None and super().arrest(token)

    def seal(self, only: Token[Any] | None = None) -> tuple[list[str], list[Token[Any]]]:
        """Kill the processes that run tokens of the operation; with `only`, the one that runs that token."""
        tokens: list[Token[Any]] = []
        for slot in list(self.slots):
            worker = slot.worker
            if only is not None and (worker is None or not worker.number_of(only)):
                continue
            if only is not None and self.arrested(only) is None:
                tokens.append(only)
                continue
            if only is not None and worker is not None:
                release_if_over(only, worker)
            slot.leave()
            self.place.mailbox.dismiss(slot)
            if worker is None:
                continue
            worker.doomed = True
            self.take_turn_back(worker)
            tokens.extend(tokens_of(worker) if only is None else [only])
            worker.kill()
        return [], tokens

    def go_on(self, worker: Worker) -> None:
        holder = worker.holder
        if isinstance(holder, OperationSlot):
            holder.feed()

    def lend_turn(self, worker: Worker, why: object, *, paused: bool = False) -> None:
        with self._lending:
            new = not worker.lent
            if new:
                self.host.lend(paused=paused)
            worker.lent.add(why)
        if new:
            self.place.step_waits(worker)

    def take_turn_back(self, worker: Worker, why: object = None) -> None:
        with self._lending:
            had = bool(worker.lent)
            if why is None:
                worker.lent.clear()
            else:
                worker.lent.discard(why)
            over = had and not worker.lent
        if over:
            self.place.step_resumes(worker)
            self.host.end_lend()

    def batch(self) -> int:
        """Return how many tokens a worker is sent at most before it returns one."""
        if self._one_by_one or self._own_limits:
            return 1
        return min(_MOST_AT_ONCE, max(1, int(_SECONDS_AT_ONCE / self._longest)))

    def note_seconds(self, seconds: float, tokens: int = 1) -> None:
        """Note how many seconds the longest of some tokens took."""
        longest = self._longest * _DECAY**tokens
        self._longest = max(longest, seconds, 1e-6)

    def fail(self, token: Token[Any], error: BaseException) -> None:
        """End a token that no worker was sent."""
        token._begin(self.place.system.clock())
        self.place.failed(token, error)

    def cannot_send(self, token: Token[Any], error: BaseException) -> None:
        """End a token that cannot be pickled."""
        if not isinstance(error, NotPicklable):
            error = NotPicklable(f"{token._describe()} cannot be sent: {_carrier.cause(error)}")
        self.fail(token, error)

    def current_function(self) -> _Function:
        """Return the function as it is to be sent now: anew, if what it refers to has been defined again."""
        if self._function.changed():
            self._function = _Function(self)
        return self._function

    def call_frame(
        self, key: int, token: Token[Any], worker: Worker, number: int, level: int, headers: tuple[dict[str, str], ...]
    ) -> list[bytes]:
        """Return a call as a frame.

        Raises:
            NotPicklable: an argument cannot be pickled.
        """
        try:
            item = (token.args, dict(token.kwargs), self.context_of(token), level, *headers)
            return worker.frame(_wire.CALL, number, key, item)
        except Exception as error:
            raise _carrier.not_picklable(self.host.system, token.operation, token.args, token.kwargs, error) from error

    def plain_frames(self, key: int, calls: list[tuple[Any, ...]], worker: Worker, number: int) -> list[bytes]:
        """Return calls that have plain positional arguments only as one frame, or as several if that were too large.

        Args:
            key: of the function.
            calls: the arguments of each.
            worker: that they are for.
            number: of the first; those of the others follow.
        """
        payload = pickle.dumps(calls, pickle.HIGHEST_PROTOCOL)
        if len(payload) <= INLINE:
            return [_pack_header(_wire.CALL, _wire.PLAIN, len(payload), number, key), payload]
        half = len(calls) // 2
        if not half:
            return worker.frame(_wire.CALL, number, key, (calls[0], {}, None, None))
        first, rest = calls[:half], calls[half:]
        return self.plain_frames(key, first, worker, number) + self.plain_frames(key, rest, worker, number + half)


class _Function:
    """The function of an operation in the form in which children get it, once for each worker.

    Args:
        drain: of the operation.
    """

    __slots__ = ("_carried", "_definitions", "_drain", "key")

    def __init__(self, drain: OperationDrain) -> None:
        self.key = drain.place.system.next_name()  # by which calls refer to it
        self._drain = drain
        self._carried: bytes | None = None
        self._definitions: Definitions | None = None

    def changed(self) -> bool:
        """Tell whether it was pickled, and what it refers to has been defined again since."""
        return self._definitions is not None and self._definitions.changed()

    def frame(self, token: Token[Any]) -> bytes:
        """Return the function of a token as a frame.

        Raises:
            NotPicklable: it cannot be pickled.
        """
        drain = self._drain
        if self._carried is None:
            self._definitions = Definitions(token._call)  # before it is pickled: a later change is not missed
            self._carried = _carrier.function_for(
                drain.host.system, token.operation, token._call, generator=drain.generator, context=drain.context
            )
        return _wire.pack(_wire.FUNCTION, 0, self.key, self._carried)


class _Batch:
    """Calls of an operation that are sent to a worker together.

    Args:
        drain: of the operation.
        worker: that the calls are for.
    """

    __slots__ = (
        "_drain", "_first", "_knows", "_looked_at", "_pieces", "_plain", "_takes_plain", "_worker",
        "count", "function", "level", "size",
    )  # fmt: skip

    def __init__(self, drain: OperationDrain, worker: Worker) -> None:
        self.count = 0  # of the calls
        self.size = 0  # of their arguments in bytes, approximately
        self._looked_at = drain.place.system.clock()  # when the next two were looked up, or just before
        self.level = _carrier.log_level()
        self._drain = drain
        self._worker = worker
        self.function = drain.current_function()
        self._knows = self.function.key in worker.known  # whether the worker has the function, or `_pieces`
        self._pieces: list[bytes] = []
        self._plain: list[tuple[Any, ...]] = []  # arguments of the latest calls, which are in no frame yet
        self._first = 0  # number of the first of these
        self._takes_plain = self.level == worker.level and not drain.context

    def _look_again(self) -> None:
        """Look up the function and the log level for a token that came later: these may have been changed before it."""
        self._looked_at = self._drain.place.system.clock()
        function, level = self._drain.current_function(), _carrier.log_level()
        if function is not self.function or level != self.level:
            self._end_plain()
            self.function, self.level = function, level
            self._knows = function.key in self._worker.known
            self._takes_plain = False

    def add(self, token: Token[Any]) -> None:
        """Enter a token among the worker's calls, and add its call; one that cannot be pickled fails."""
        if token.created_at >= self._looked_at:
            self._look_again()
        drain, worker, inflight = self._drain, self._worker, self._worker.inflight
        worker.sent = number = worker.sent + 1
        headers = () if drain.place.system.on_token_sent is None else drain.headers_of(token)
        is_plain = self._takes_plain and token.kwargs is NO_KWARGS and not headers
        size = plain_size(token.args) if is_plain else None
        frames: list[bytes] = []
        if size is None or not self._knows:
            try:
                frames = [] if self._knows else [self.function.frame(token)]
                if size is None:
                    frames += drain.call_frame(self.function.key, token, worker, number, self.level, headers)
            except BaseException as error:  # also one of an object that is pickled
                _carrier.reraise_ctrl_c(error)
                drain.cannot_send(token, error)
                return
        if not inflight:
            drain.begin(token, worker, number, drain.place.system.clock())
        inflight[number] = token
        if token._extras.cancel_requested or token._extras.hold is not None:
            drain.repeat_requests(token)
        if size is None:
            self._end_plain()
            size = sum(map(len, frames))
        else:
            if not self._plain:
                self._first = number
            self._plain.append(token.args)
        self._pieces += frames
        self._knows = True
        self.size += size
        self.count += 1

    def pieces(self) -> list[bytes]:
        """Return all that was added, as frames."""
        self._end_plain()
        return self._pieces

    def _end_plain(self) -> None:
        if self._plain:
            self._pieces += self._drain.plain_frames(self.function.key, self._plain, self._worker, self._first)
            self._plain.clear()


class OperationSlot(Drainer):
    """A drainer of an operation's mailbox: it has a worker, or waits for one, and sends it the queued tokens."""

    own = False

    __slots__ = ("_again", "_beginning", "_drain", "_feeding", "_place", "_since", "worker")

    def __init__(self, drain: OperationDrain) -> None:
        super().__init__()
        self._drain = drain
        self._place = drain.place
        self.worker: Worker | None = None
        self._feeding = threading.Lock()  # held while tokens are taken and sent
        self._again = False  # whether the thread that feeds is to look once more
        self._since = 0.0  # when it got its worker
        self._beginning: DurableToken[Any] | None = None  # taken, and not sent before its beginning is on disk

    @property
    def place(self) -> Place:
        return self._place

    def begins(self, token: Token[Any]) -> bool:
        """Tell whether it has a token whose beginning is on its way to the disk."""
        return self._beginning is token

    def begin(self) -> None:
        """Get a worker and send it the first token: on this thread, unless signal handlers may raise here."""
        host = self._drain.host
        if threading.current_thread() is threading.main_thread():
            host.start()
            host.call_soon(self.begin_again)
        else:
            self._begin()

    def begin_again(self) -> None:
        """Get a worker on the host's thread, unless the slot has one or waits for one."""
        if self.at_work and self.worker is None:
            host = self._drain.host
            worker = host.pool.acquire_once(self)
            if worker is not None:
                self.assigned(worker)
            if worker is None or host.pool.is_short:
                host.fill()

    def _begin(self) -> None:
        host = self._drain.host
        worker = host.acquire(self)
        if worker is None:
            return
        if loop_here():  # no user code may run there, and pickling calls some
            host.call_soon(lambda: self.assigned(worker))
        else:
            self.assigned(worker, most=1)

    def assigned(self, worker: Worker, most: int = _MOST_AT_ONCE) -> None:
        """Take a worker, and send it tokens."""
        if not self._drain.host.pool.confirm(self, worker):
            return  # it has died, and `worker_lost` has asked for another one
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
        """Stop waiting for a worker, and leave the drain's slots."""
        self._drain.slots.discard(self)
        self._drain.host.pool.forget(self)

    def feed(self, most: int = _MOST_AT_ONCE) -> None:
        """Send the worker the tokens that it is to have; of several threads that call this at once, one does it."""
        while True:
            if not self._feeding.acquire(blocking=False):
                self._again = True
                if not self._feeding.acquire(blocking=False):
                    return  # the thread that has it looks at `_again` afterwards
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
        unanswered = len(inflight)
        if unanswered > _TOO_MANY * batch:  # they take longer than those before them did
            if worker.begun < worker.sent:  # else none can be taken back
                drain.host.call_soon(lambda: drain.host.reclaim(worker))
            return
        if unanswered and (unanswered * 2 > batch or self._is_to_yield()):
            return
        if not unanswered and self._is_to_yield():
            self._yield_worker()
            return
        left = drain.host.pool.tokens_left(worker)
        if not unanswered and left < 1:
            self._replace_worker()
            return
        batch = min(batch, left)
        calls = _Batch(drain, worker)
        first = worker.sent + 1
        item: Any = None
        try:
            while True:
                if len(inflight) >= batch or calls.count >= most or calls.size >= _BYTES_AT_ONCE:
                    break
                item, self._beginning = self._beginning, None
                if item is None:
                    item = mailbox.take_more(self) if inflight else mailbox.take(self)
                if item is None:
                    if not inflight:
                        self._leave_idle()
                    break
                if type(item) is not Token and not self._has_begun(item):
                    break
                self._add(item, calls)
            if not calls.count:
                return
            if worker.stream.send(calls.pieces()):
                drain.host.want_room(worker)
            worker.known.add(calls.function.key)
            worker.level = calls.level
        except BaseException:  # Ctrl-C, on the thread of a sender
            if inflight:  # whether these were sent is not known; `reclaim` finds out which the process has started
                drain.host.call_soon(lambda: drain.host.reclaim(worker))
            if isinstance(item, Token) and item is not self._beginning and not worker.number_of(item):
                drain.take_back([item])
            raise
        if worker.dead:  # the host's thread may have missed these
            drain.take_back(worker.missed(range(first, worker.sent + 1)))
        elif len(inflight) > 1:
            drain.host.note_batch(worker)

    def _has_begun(self, token: Any) -> bool:
        """Tell whether the beginning of a durable token is on disk, if it must be; else go on when it is."""
        self._beginning = token  # first: what ends it finds it here
        begun = token.beginning()
        if begun is None:
            self._beginning = None
        else:
            begun.add_done_callback(lambda _: self._drain.host.call_soon(self._go_on_with_begun))
        return begun is None

    def _go_on_with_begun(self) -> None:
        token = None
        if not self.at_work:  # dismissed meanwhile, and perhaps without a worker
            token, self._beginning = self._beginning, None
        if token is not None:
            self._place.give_back(token)
        self.feed()

    def _add(self, token: Token[Any], calls: _Batch) -> None:
        if not self.at_work:  # dismissed just now; the caller may have missed the token
            self._place.give_back(token)
        elif token._context is not None:  # None if it has ended since it left its lane
            calls.add(token)

    def _is_to_yield(self) -> bool:
        """Tell whether another slot or an actor waits for a worker, and this one was kept for long enough."""
        if not self._drain.host.pool.has_waiting:
            return False
        return time.monotonic() - self._since > _TURN_SECONDS

    def _yield_worker(self) -> None:
        """Give the worker back, and wait for one in line."""
        self._give_worker_back()
        self._get_another_worker()

    def _replace_worker(self) -> None:
        """Give back a worker that has run as many tokens as it may; wait for another one if there is more to run."""
        self._give_worker_back()
        item = self._place.mailbox.take(self)
        if item is None:
            self._drain.slots.discard(self)
            return
        self._drain.take_back([item])
        self._get_another_worker()

    def _get_another_worker(self) -> None:
        """Get a worker, or wait for one in line; it is sent tokens on the host's thread."""
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

    # For the host, on its thread; see the protocol `Holder`

    def settle_call(self, worker: Worker, token: Token[Any], frame: _wire.Frame, descriptor: int | None) -> None:
        """End a token with the outcome that the worker has sent."""
        drain = self._drain
        drain.note_seconds(frame.extra * 1e-9)
        if drain.generator:
            token.steps = worker.page.word[_shared_page.STEPS]
        if worker.lent and worker.begun == frame.number:  # else a later call, which has begun, has lent the turn
            drain.take_turn_back(worker)
        drain.settle(token, worker, frame, descriptor)

    def settle_run(self, worker: Worker, run: tuple[Any, ...]) -> None:
        """End tokens with the plain results that the worker has sent: number, nanoseconds and value of each."""
        drain, inflight = self._drain, worker.inflight
        numbers, durations, values = run[::3], run[1::3], run[2::3]
        drain.note_seconds(max(durations) * 1e-9, len(durations))
        with worker.lock:
            self._note_begun(inflight, numbers, durations)
        last = numbers[-1]
        if drain.generator and last in inflight:
            inflight[last].steps = worker.page.word[_shared_page.STEPS]
        if worker.lent and worker.begun == last:  # else a later call, which has begun, has lent the turn
            drain.take_turn_back(worker)
        on_outcome = drain.host.on_outcome
        for number, value in zip(numbers, values, strict=True):
            token = inflight.get(number)
            if token is None:
                continue  # it was found in the outbox before
            if token._extras.hold is not None:
                token._extras.hold.leave()
            if on_outcome is not None:
                on_outcome(token, worker, number)
            worker.handled += 1  # first: whoever is told may send more at once
            token._settle(_COMPLETED, value)
            inflight.pop(number, None)

    def _note_begun(self, inflight: dict[int, Any], numbers: Iterable[int], durations: Iterable[int]) -> None:
        """Note when calls have begun, from their durations, unless it was noted; under the lock of the worker."""
        now = self._place.system.clock()
        for number, nanoseconds in zip(numbers, durations, strict=True):
            token = inflight.get(number)
            if token is not None and token.started_at is None and not is_over(token):
                token._begin(now - nanoseconds * 1e-9)

    def fail_call(self, worker: Worker, token: Token[Any], error: BaseException) -> None:
        """End a token: its outcome cannot be read."""
        if not is_over(token):
            self._drain.note_begun(token, worker)
            self._place.failed(token, error)

    def go_on(self, worker: Worker) -> None:
        """Note which token the worker runs now, and send it more."""
        with worker.lock:
            number = next(iter(list(worker.inflight)), 0)
            token = worker.inflight.get(number)
            if token is not None and token.started_at is None and not is_over(token):
                self._drain.begin(token, worker, number, self._place.system.clock())
        self.feed()

    def take_back(self, not_started: Iterable[Any]) -> None:
        """Queue tokens again that the worker has not started: one before them takes long."""
        self._drain.note_seconds(_SECONDS_AT_ONCE)
        self._drain.take_back(not_started)

    def no_worker(self, why: str) -> None:
        """Fail the queued tokens: no worker can be started. Those that come meanwhile wait for one again."""
        mailbox = self._place.mailbox
        items: list[Any] = [self._beginning]  # all are taken before any fails: whoever is told may send more at once
        self._beginning = None
        for _ in range(mailbox.size + 1):  # the last look finds nothing, and leaves
            item = mailbox.take(self)
            if item is None:
                break
            items.append(item)
        for item in items:
            if isinstance(item, Token) and item._context is not None:  # None if it has ended since it left its lane
                self._drain.fail(item, no_worker_error(item._describe(), why))
        if not self.at_work:
            self._drain.slots.discard(self)
            return
        worker = self._drain.host.acquire(self)
        if worker is not None:
            self.assigned(worker)

    def worker_lost(self, worker: Worker, begun: list[Any], not_started: list[Any]) -> None:
        """End the token that a worker ran when it died, and get another worker for the rest."""
        drain = self._drain
        drain.take_turn_back(worker)
        for token in begun:
            drain.lost(token, worker)
        drain.take_back(not_started)
        self.worker = None
        if self.at_work:
            self._get_another_worker()
