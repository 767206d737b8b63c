"""The drain of a process actor: its instance lives in a child process of its own."""

from __future__ import annotations

import functools
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec

import psutil
import pykka.messages

from actors._child import _shared_page, _wire
from actors._child._command import COMMAND
from actors._exceptions import ActorDead, NotPicklable, PlatformWarning, TokenInterrupt, WorkerError
from actors.concurrency._blocking import begin_turn, end_turn, loop_here
from actors.concurrency._future import Reply
from actors.mailboxes._mailbox import Drainer
from actors.mailboxes._signals import Crash, Signal, Start, Stop, Visit
from actors.places import _life
from actors.places._actor_place import Status
from actors.places._life import Life
from actors.places._notice import Notice
from actors.places._ref import CommandCall
from actors.processes._limits import NO_LIMITS, Limits
from actors.processes._process_drain import ProcessDrain, release_if_over
from actors.processes.pickling import _carrier
from actors.processes.workers._errors import died_error, no_worker_error
from actors.steps._step import without_runtime_frames
from actors.tokens._lifecycle import TokenState
from actors.tokens._token import Token

if TYPE_CHECKING:
    from actors.places._actor_place import ActorPlace
    from actors.processes.workers._worker import Worker

_logger = logging.getLogger("tokengate.actors")

P = ParamSpec("P")

_OVER: Final = (Status.VACANT, Status.CLOSED)


class ActorDrain(ProcessDrain):
    """Sends the messages of an actor to the process of its instance, one after the other."""

    own = True

    def __init__(
        self,
        place: ActorPlace,
        limits: Limits = NO_LIMITS,
        context: Sequence[ContextVar[Any]] = (),
        *,
        nice: int | None = None,
        cpu_affinity: Sequence[int] | None = None,
    ) -> None:
        super().__init__(place, limits, context)
        self.nice = nice
        self.cpu_affinity = cpu_affinity
        self.place: ActorPlace = place
        self.worker: Worker | None = None  # which has the instance
        self.slots: set[ActorSlot] = set()
        self._wanted: Reply[Any] | None = None  # set when the instance is made; None unless it waits for a worker

    def new_drainer(self) -> ActorSlot:
        slot = ActorSlot(self)
        self.slots.add(slot)
        return slot

    def wake(self, slot: ActorSlot) -> None:
        slot.begin()

    def recover(self, drainers: Iterable[Drainer]) -> None:
        for slot in drainers:
            if isinstance(slot, ActorSlot) and slot.called:
                self.host.call_soon(slot.begin_again)

    def control_arrived(self, signal: Signal, /) -> None:
        """End the running token at its next yield point, when the actor is to stop now."""
        worker = self.worker
        if isinstance(signal, Stop) and not signal.drain and worker is not None:
            for number in list(worker.inflight):
                worker.page.word[_shared_page.CANCEL] = number

    def workers(self) -> list[Worker]:
        return [self.worker] if self.worker is not None else []

    def running(self) -> list[Token[Any]]:
        return [token for slot in list(self.slots) if (token := slot.token) is not None]

    def has_taken(self, token: Token[Any]) -> bool:
        return self._slot_of(token) is not None

    def seal(self, only: Token[Any] | None = None) -> tuple[list[str], list[Token[Any]]]:
        """Kill the process; with `only`, just if it runs that token."""
        tokens: list[Token[Any]] = []
        for slot in list(self.slots):
            token = slot.token
            if only is not None and token is not only:
                continue
            if not self.place.mailbox.dismiss(slot):
                continue
            self.slots.discard(slot)
            held = slot.token or only
            if held is not None:
                tokens.append(held)
        if only is None or tokens:
            if only is not None and self.worker is not None:
                release_if_over(only, self.worker)
            self.let_worker_go(kill=True)
        return [], tokens

    def close(self) -> None:
        self.let_worker_go(kill=True)

    # The instance; for `ProcessActor`, which represents it in the gate

    def make_instance(self) -> Reply[Any]:
        """Have a worker make the instance and call its `on_start`."""
        reply: Reply[Any] = Reply()
        self._wanted = reply
        worker = self.host.acquire(self)
        if worker is not None:
            self.assigned(worker)
        return reply

    def assigned(self, worker: Worker) -> None:
        reply, self._wanted = self._wanted, None
        if reply is None:  # the start was given up meanwhile
            self.host.release(worker)
            return
        self.worker = worker
        place = self.place
        self._set_niceness_and_cores(worker)
        item = (place.actor_class, place.args, dict(place.kwargs), place.path, {"_urn": place.urn})
        self._ask(worker, _wire.MAKE, item, reply)

    def _set_niceness_and_cores(self, worker: Worker) -> None:
        """Set the niceness and the cores of a process as its actor's class has them."""
        if self.nice is None and self.cpu_affinity is None:
            return
        name = self.place.actor_class.__name__
        try:
            process = psutil.Process(worker.pid)
            if self.nice is not None:
                process.nice(self.nice)
            if self.cpu_affinity is not None:
                if hasattr(process, "cpu_affinity"):
                    process.cpu_affinity(list(self.cpu_affinity))
                else:
                    _warn(f"cpu_affinity of {name} has no effect: {sys.platform} cannot set it")
        except (psutil.Error, OSError, ValueError) as error:
            _warn(f"process {worker.pid} of {name} could not be given its niceness or cores: {error}")

    def end_instance(self, error: BaseException | None) -> Reply[Any]:
        """Have the process call the instance's last hook: `on_failure` with an error, else `on_stop`."""
        reply: Reply[Any] = Reply()
        worker = self.worker
        if worker is None or worker.doomed or worker.dead:
            reply._set()
        elif error is None:
            self._ask(worker, _wire.END, (), reply)
        else:
            self._ask(worker, _wire.FAIL, (error,), reply)
        return reply

    def visit(self, signal: Visit) -> None:
        """Have the process call a function with the instance."""
        if not signal.claim():
            return
        place, worker = self.place, self.worker
        if worker is None or worker.doomed or place.status is not Status.RUNNING:
            error = ActorDead(f"actor '{place.path}' has no instance just now; it is {place.status}")
            signal.reply._set(error=error)
            return
        self._ask(worker, _wire.VISIT, (signal.function,), signal.reply)

    def _ask(self, worker: Worker, what: int, item: Any, reply: Reply[Any]) -> None:
        number = worker.next_number(reply)
        try:
            if what == _wire.FAIL:
                pieces = self._failure_frame(worker, number, *item)
            else:
                pieces = worker.frame(_wire.ACTOR, number, what, item)
        except Exception as error:
            del worker.inflight[number]
            reply._set(error=self._not_picklable(what, error))
            return
        if worker.stream.send(pieces):
            self.host.want_room(worker)
        if worker.dead and worker.missed((number,)):  # the host's thread may have missed this call
            reply._set(error=died_error(worker, f"a hook of actor '{self.place.path}'"))

    @staticmethod
    def _failure_frame(worker: Worker, number: int, error: BaseException) -> Sequence[bytes]:
        """Return an error as a frame; if it cannot be pickled, a `WorkerError` with its text."""
        try:
            return worker.frame(_wire.ACTOR, number, _wire.FAIL, (error,))
        except Exception:
            name = type(error).__qualname__
            substitute = WorkerError(f"{name}: {_carrier.safe_text(error)}", name)
            return worker.frame(_wire.ACTOR, number, _wire.FAIL, (substitute,))

    def _not_picklable(self, what: int, error: Exception) -> NotPicklable:
        """Return the error for something that cannot be pickled for the process of the instance."""
        place = self.place
        if what == _wire.MAKE:
            return _carrier.not_picklable(self.host.system, place.actor_class.__name__, place.args, place.kwargs, error)
        part = "the function of a visit" if what == _wire.VISIT else "an error"
        return NotPicklable(f"{part} cannot be sent to the process of actor '{place.path}': {_carrier.cause(error)}")

    def let_worker_go(self, *, kill: bool = False) -> None:
        """Give up the worker: the instance has ended, or is not to be made."""
        if self._wanted is not None:
            self._wanted = None
            self.host.pool.forget(self)
        worker, self.worker = self.worker, None
        if worker is None:
            return
        if kill:
            worker.kill()
        else:
            self.host.release(worker)

    def take_back(self, not_started: Iterable[Any]) -> None:
        for token in not_started:
            slot = self._slot_of(token)
            self._give_back(token)
            if slot is not None:
                self.host.call_soon(functools.partial(slot.settled, None))

    def _slot_of(self, token: Token[Any]) -> ActorSlot | None:
        return next((slot for slot in list(self.slots) if slot.token is token), None)

    # For the host, on its thread; see the protocol `Holder`

    def settle_call(self, worker: Worker, waits: Any, frame: _wire.Frame, descriptor: int | None) -> None:
        if isinstance(waits, Token):
            slot = self._slot_of(waits)
            waits.steps = max(1, worker.page.word[_shared_page.STEPS])
            crash = self.settle(waits, worker, frame, descriptor)
            if slot is not None:
                slot.settled(crash)
            return
        try:
            value: Any = _carrier.load(frame.payload, descriptor) if frame.kind != _wire.CANCELLED else None
            error = _carrier.load_failure(value, worker.pid) if frame.kind == _wire.ERROR else None
        except BaseException as problem:
            _carrier.reraise_ctrl_c(problem)
            value, error = None, problem
        waits._set(None if error is not None else value, error)

    def fail_call(self, worker: Worker, waits: Any, error: BaseException) -> None:
        if not isinstance(waits, Token):
            waits._set(error=error)
            return
        slot = self._slot_of(waits)
        if waits._done:
            waits.note_return()
        else:
            self.note_begun(waits, worker)
            self.place.failed(waits, error)
        if slot is not None:
            slot.settled(None)

    def go_on(self, worker: Worker) -> None:
        """Do nothing: the next message is sent when the one before it is over."""

    def no_worker(self, why: str) -> None:
        reply, self._wanted = self._wanted, None
        if reply is not None:  # None if the start was given up meanwhile
            reply._set(error=no_worker_error(f"an instance of actor '{self.place.path}'", why))

    def worker_lost(self, worker: Worker, begun: list[Any], not_started: list[Any]) -> None:
        """End the calls of a process that has died; that is a crash of its instance."""
        place = self.place
        instance = place.instance if self.worker is worker else None
        if self.worker is worker:
            self.worker = None
        idle = f"nothing of actor '{place.path}'"
        stalled = [slot.token for slot in list(self.slots) if slot.stalled and slot.token is not None]
        for waits in (*begun, *not_started, *stalled):
            if not isinstance(waits, Token):
                waits._set(error=died_error(worker, f"a hook of actor '{place.path}'"))
                continue
            slot = self._slot_of(waits)
            if waits in begun:
                crash = self.lost(waits, worker)
            else:
                crash = died_error(worker, idle)
                self._give_back(waits)
            if slot is not None:
                slot.settled(crash)
        if instance is not None:  # ignored, if a token above has already crashed it
            place.signal(Crash(error=died_error(worker, idle), instance=instance))


def _in_turn(method: Callable[Concatenate[ActorSlot, P], None]) -> Callable[Concatenate[ActorSlot, P], None]:
    """Run a method of a slot as a turn of its place, so that log records name the actor."""

    @functools.wraps(method)
    def run(slot: ActorSlot, /, *args: P.args, **kwargs: P.kwargs) -> None:
        turn = begin_turn(slot._place, slot)
        try:
            method(slot, *args, **kwargs)
        finally:
            end_turn(turn)

    return run


class ActorSlot(Drainer):
    """A drainer of an actor's mailbox: it handles one message or signal at a time."""

    __slots__ = ("_drain", "_place", "called", "stalled", "token")

    def __init__(self, drain: ActorDrain) -> None:
        super().__init__()
        self._drain = drain
        self._place = drain.place
        self.token: Token[Any] | None = None
        self.called = True  # whether it is entered in the mailbox, and has not begun yet
        # Whether the token is not sent, since the process is dead and the host's thread has not handled that yet, or
        # since the beginning of the token is not on disk.
        self.stalled = False

    def begin(self) -> None:
        """Handle the first item: on this thread, unless a loop runs here, or signal handlers may raise here."""
        host = self._drain.host
        host.start()
        if loop_here() or threading.current_thread() is threading.main_thread():
            host.call_soon(self.begin_again)
            return
        self.called = False
        item = self._place.mailbox.take(self)
        if item is None:
            self._leave()
        elif isinstance(item, Token):
            if not self._send(item):
                host.call_soon(self.work)
        else:
            host.call_soon(lambda: self._handle_and_go_on(item))

    def begin_again(self) -> None:
        """Begin on the host's thread, unless that was done."""
        if self.called:
            self.called = False
            self.work()

    @_in_turn
    def work(self) -> None:
        """Handle items until one of them has to wait for the process."""
        while self.at_work:
            item = self._place.mailbox.take(self)
            if item is None:
                self._leave()
                return
            if isinstance(item, Token):
                if self._send(item):
                    return
            elif not self._handle(item):
                return

    def _leave(self) -> None:
        self._drain.slots.discard(self)
        self._place.stop_if_drained()

    # Tokens

    def _send(self, token: Token[Any]) -> bool:
        """Send a token to the process; tell whether its outcome will come."""
        place, drain = self._place, self._drain
        self.token = token
        if not self.at_work:  # dismissed just now; the caller may have missed the token
            self.token = None
            place.give_back(token)
            return False
        context, worker = token._context, drain.worker
        if context is None:  # it has ended since it left its lane
            self.token = None
            return False
        if worker is None or worker.dead:
            self._put_back_later(token)
            return True
        if type(token) is not Token:
            if self._waits_for_disk(token):
                return True
            if token._context is None:
                self.token = None
                return False
        now = place.system.clock()
        try:
            what, item = self._wire_form(token)
        except TokenInterrupt as error:
            token._begin(now)
            place.failed(token, error)
            self.token = None
            return False
        number = worker.reserve()
        drain.begin(token, worker, number, now)
        try:
            pieces = worker.frame(_wire.ACTOR, number, what, item)
        except BaseException as error:
            _carrier.reraise_ctrl_c(error)
            problem = _carrier.not_picklable(drain.host.system, token.operation, token.args, token.kwargs, error)
            problem.__cause__ = error
            token._finish(TokenState.FAILED, error=problem)
            _logger.info("Exception returned from %s to caller:", place.ref, exc_info=problem)
            self.token = None
            return False
        drain.enter_call(token, worker, number)
        if worker.stream.send(pieces):
            drain.host.want_room(worker)
        if worker.dead and worker.missed((number,)):  # the host's thread may have missed this call
            self._put_back_later(token)
        return True

    def _waits_for_disk(self, token: Any) -> bool:
        """Tell whether the beginning of a durable token is on its way to the disk; it is sent afterwards."""
        begun = token.beginning()
        self.stalled = begun is not None
        if begun is not None:
            begun.add_done_callback(lambda _: self._drain.host.call_soon(lambda: self._send_begun(token)))
        return self.stalled

    @_in_turn
    def _send_begun(self, token: Token[Any]) -> None:
        if self.token is token and self.stalled:  # else `worker_lost` has given it back
            self.stalled = False
            if not self._send(token):
                self.work()

    def _put_back_later(self, token: Token[Any]) -> None:
        """Put a token back into its mailbox after the host's thread has handled the death of its process."""

        def put_back() -> None:
            if self.token is token:  # else `worker_lost` has done so
                self.token = None
                self.stalled = False
                self._drain.slots.discard(self)
                if self._place.mailbox.dismiss(self):
                    self._drain._give_back(token)

        host = self._drain.host
        self.stalled = host.on_thread() and self._drain.worker is not None
        if not self.stalled:
            host.call_soon(put_back)

    def _wire_form(self, token: Token[Any]) -> tuple[int, tuple[Any, ...]]:
        """Return what the instance is to do with a token, and the payload of the frame."""
        place, call = self._place, token._call
        if place.receive_timer is not None:
            place.receive_timer.latest = token
        if isinstance(call, pykka.messages.ProxyGetAttr):
            return _wire.GET, (tuple(call.attr_path),)
        if isinstance(call, pykka.messages.ProxySetAttr):
            return _wire.SET, (tuple(call.attr_path), call.value)
        path: tuple[str, ...] = ()
        if type(call) is tuple:
            path = call
        elif type(call) is CommandCall:
            path = COMMAND, call.name
        elif isinstance(call, Notice) and not call.is_for(place.instance):
            token._own_extras().cancel_requested = "its timer or watch has ended"
            raise TokenInterrupt(token._extras.cancel_requested)
        context, level = self._drain.context_of(token), _carrier.log_level()
        headers = self._drain.headers_of(token)
        return _wire.HANDLE, (path, token.args, dict(token.kwargs), context, level, *headers)

    @_in_turn
    def settled(self, crash: BaseException | None) -> None:
        """Go on: the token is over."""
        token, self.token = self.token, None
        self.stalled = False
        if crash is not None and self.at_work:
            last = token if token is not None and token._done else None  # else it has not begun, and is queued again
            if self._run_life(_life.crash(self._place, crash, self, last)):
                self.work()
        else:
            self.work()

    # Signals

    @_in_turn
    def _handle_and_go_on(self, signal: Signal) -> None:
        if self._handle(signal):
            self.work()

    def _handle(self, signal: Signal) -> bool:
        """Handle a signal; return False if that waits for the process."""
        place = self._place
        if isinstance(signal, Start):
            return signal.context.run(self._run_life, _life.start(place, signal, self))
        if isinstance(signal, Stop):
            if signal.drain and place.can_drain() and place.mailbox.size:
                place.draining = True
                return True
            return self._run_life(_life.stop(place, self))
        if isinstance(signal, Visit):
            self._drain.visit(signal)
            if signal.reply.done():
                return True
            signal.reply.add_done_callback(lambda _: self._drain.host.call_soon(self.work))
            return False
        if isinstance(signal, Crash) and place.runs(signal.instance):
            return self._run_life(_life.crash(place, signal.error, self))
        return True

    def _run_life(self, life: Life) -> bool:
        """Run a part of an instance's life; return False if it waits for the process."""
        return self._advance(life, lambda: next(life))

    def _advance(self, life: Life, first: Callable[[], Callable[[], Any]]) -> bool:
        try:
            call = first()
            while True:
                value: Any = None
                error: BaseException | None = None
                try:
                    value = call()
                except BaseException as raised:
                    error = without_runtime_frames(raised)
                if isinstance(value, Reply):
                    if not value.done():
                        value.add_done_callback(
                            lambda reply: self._drain.host.call_soon(lambda: self._resume(life, reply))
                        )
                        return False
                    value, error = value._value, value._error
                if not self.at_work:
                    return True
                call = life.send((value, error))
        except StopIteration:
            pass
        if self._place.status in _OVER:
            self._drain.let_worker_go()
        return True

    @_in_turn
    def _resume(self, life: Life, reply: Reply[Any]) -> None:
        """Go on with a part of an instance's life: the process has answered."""
        if self.at_work and self._advance(life, lambda: life.send((reply._value, reply._error))):
            self.work()


def _warn(message: str) -> None:
    warnings.warn(message, PlatformWarning, stacklevel=2)
