"""The drain that runs a place's tokens on the threads of a dispatcher."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterable
from operator import methodcaller
from types import CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Protocol, cast

from actors._child._yields import refuse_yield
from actors._exceptions import TokenInterrupt
from actors.concurrency._blocking import begin_turn, end_turn, lending_thread
from actors.mailboxes._mailbox import Drainer
from actors.mailboxes._signals import Crash, Signal, Start, Stop, Visit
from actors.places import _life
from actors.places._actor_place import ActorPlace
from actors.places._life import Life
from actors.steps._step import after_step, before_step, close_steps, enter, without_runtime_frames
from actors.tokens._lifecycle import TokenState
from actors.tokens._token import DurableToken, Token

if TYPE_CHECKING:
    from actors.concurrency._dispatcher import Dispatcher
    from actors.concurrency._pinned_dispatcher import PinnedDispatcher
    from actors.mailboxes._signals import Crash, Signal, Start, Stop
    from actors.places._place import Place

_logger = logging.getLogger("tokengate.actors")

_COMPLETED = TokenState.COMPLETED
_send: Callable[[CpuSlot], None] = methodcaller("send")  # one call of Python code less than a method of the drain


class Meter(Protocol):
    """Measures the code of tokens on the threads where it runs."""

    def begin(self, token: Token[Any], /) -> None:
        """Code of a token is about to run on this thread: all of it, or its next step."""
        ...

    def end(self, token: Token[Any], /) -> None:
        """That is over; the token may have ended, and observers were told then."""
        ...


class CpuDrain:
    """Submits slots to a dispatcher: one for each drainer that the mailbox asks for.

    Attributes:
        meter: measures the tokens of slots that are made from now on; None: nothing does.
    """

    __slots__ = ("dispatcher", "meter", "place", "throughput", "throughput_deadline")

    listen_for: None = None
    call_here: None = None

    def __init__(
        self,
        place: Place,
        dispatcher: Dispatcher | PinnedDispatcher,
        throughput: int = 64,
        throughput_deadline: float = 0.005,
    ) -> None:
        self.place = place
        self.dispatcher = dispatcher
        self.throughput = throughput
        self.throughput_deadline = throughput_deadline
        self.meter: Meter | None = None

    def new_drainer(self) -> CpuSlot:
        return CpuSlot(self) if self.meter is None else MeteredSlot(self, self.meter)

    @property
    def wake(self) -> Callable[[CpuSlot], None]:
        return _send

    def slots(self) -> list[CpuSlot]:
        """Return the slots that are entered in the mailbox."""
        return [drainer for drainer in self.place.mailbox.drainers() if isinstance(drainer, CpuSlot)]

    def recover(self, drainers: Iterable[Drainer]) -> None:
        for slot in drainers:
            if isinstance(slot, CpuSlot) and slot.waits_for_thread and slot not in self.dispatcher.queued:
                slot.send()

    def control_arrived(self, _signal: Signal, /) -> None:
        """Send all slots: a slot at work checks the control lane between steps, but a parked one does not."""
        for slot in self.slots():
            slot.send()

    def handle_here(self, signal: Signal, here: bool, plain: bool, /) -> bool:
        if not (here or plain):
            return False
        slot = SlotHere(self, signal)
        if not self.place.mailbox.enter_idle(slot):
            return False
        slot.handle(signal, plain)
        return True

    def dismiss_lost(self) -> bool:
        lost = [slot for slot in self.slots() if isinstance(slot, SlotHere) and isinstance(slot.signal, Start)]
        for slot in lost:
            slot.leave()
        return bool(lost)

    def cancel(self, token: Token[Any]) -> None:
        """Do nothing: the slot that runs the token checks `cancel_requested` between steps."""

    def hold_changed(self, token: Token[Any]) -> None:
        """Do nothing: the slot that runs the token asks its hold before every step."""

    def arrest(self, token: Token[Any]) -> bool:  # noqa: ARG002
        """Return True: threads cannot be stopped, so the token is ended by force."""
        return True

    def running(self) -> list[Token[Any]]:
        return [token for slot in self.slots() if (token := slot.token) is not None]

    def has_taken(self, token: Token[Any]) -> bool:
        return any(slot.token is token for slot in self.slots())

    def seal(self, only: Token[Any] | None = None) -> tuple[list[str], list[Token[Any]]]:
        threads, tokens = [], []
        for slot in self.slots():
            thread = slot.thread
            if only is not None and slot.token is not only:
                continue
            if not self.place.mailbox.dismiss(slot):
                continue
            # Read after the dismissal: a slot that takes a token writes it here, then checks whether it was dismissed.
            token = slot.token
            held = token or only  # its step may just be over, with its error not handled yet
            if held is not None:
                tokens.append(held)
            # Between two tokens a dismissed slot leaves by itself, unless it is in a hook.
            if thread is not None and (token is not None or (only is None and self.place.may_run_hook)):
                threads.append(thread.name)
                self.dispatcher.abandon(thread)
        return threads, tokens

    def close(self) -> None:
        """Do nothing: idle slots are not kept."""


class CpuSlot(Drainer):
    """A drainer: it runs the place's tokens one after the other, and the steps of a generator."""

    __slots__ = ("_drain", "_lent", "_place", "_steps", "_ticket", "thread", "token")

    def __init__(self, drain: CpuDrain) -> None:
        self.at_work = True  # as the base does, which would cost a call
        self._drain = drain
        self._place = drain.place
        self._steps: Generator[Any, Any, Any] | None = None  # of the token
        self.token: Token[Any] | None = None
        self.thread: threading.Thread | None = None  # while it runs a quantum
        self._lent = False  # whether its turn is lent, because its token is paused between two steps
        # Holds one ticket while the slot waits for a thread or is parked. The thread that takes it runs the slot, so a
        # slot that was sent several times runs once.
        self._ticket: list[None] = [None]

    @property
    def steps(self) -> Generator[Any, Any, Any] | None:
        """The generator of the token, if it has one."""
        return self._steps

    def run(self, thread: threading.Thread) -> bool:
        """Work for one quantum: `throughput` steps or `throughput_deadline` seconds."""
        try:
            self._ticket.pop()
        except IndexError:
            return False  # it was sent twice
        if not self.at_work:
            self._take_turn_back()
            self._drop_steps()
            return False
        self.thread = thread
        turn = begin_turn(self._place, self)
        try:
            return self._run_quantum()
        except TokenInterrupt as error:  # Python 3.11: raised when its step was just over
            if self.token is not None:
                if self.token._extras.hold is not None:
                    try:
                        after_step(self.token._extras.hold)
                    except TokenInterrupt:  # another one, which was pending
                        after_step(self.token._extras.hold)
                self._drop_steps()
                self._fail(self.token, error)
            self._ticket.append(None)
            return True
        except BaseException as error:
            # A bug of the runtime: exceptions of user code end in its token. End the token, so that no waiter hangs.
            _logger.exception("a drainer of '%s' broke", self._place.path)
            if self.token is not None:
                self.token._finish(TokenState.FAILED, error=error)
            self._place.mailbox.dismiss(self)
            return False
        finally:
            end_turn(turn)

    def _run_quantum(self) -> bool:
        drain = self._drain
        mailbox, system = self._place.mailbox, self._place.system
        take = mailbox.take
        now = system.clock()
        deadline = now + drain.throughput_deadline
        for _ in range(drain.throughput):
            if self._steps is not None:
                item: Token[Any] | Signal | None = self.token
                signal = mailbox.take_control(self)
                if signal is not None:
                    self._handle(signal)
                elif self._may_step():
                    self._step()
                else:
                    return False
                now = system.clock()
            else:
                item = take(self)
                if type(item) is Token:
                    now = self._run(item, now)
                elif item is None:
                    self.thread = None
                    self._place.stop_if_drained()
                    return False
                elif isinstance(item, DurableToken):
                    now = self._run_durable(item, now)
                else:
                    self._handle(cast("Signal", item))
            sealed = system.guarded and self.token is None and isinstance(item, Token) and system.is_sealed(item)
            item = None  # an error may reference this frame, which must not reference the error's owner
            if not self.at_work:
                return False
            if sealed:
                return self._leave_behind()
            if now >= deadline:
                mailbox.let_senders_in()
                break
        self.thread = None
        self._ticket.append(None)
        return True

    def _leave_behind(self) -> bool:
        """Leave after a sealed token, as if its code had not returned: what was meant for it must hit no later one."""
        self.thread = None
        self._place.mailbox.dismiss(self)
        return False

    # Tokens

    def _run(self, token: Token[Any], now: float) -> float:
        """Run a token that was just taken, or its first step; return the time of its end."""
        self.token = token
        if not self.at_work:  # dismissed just now, by code that may have missed the token
            self.token = None
            self._place.give_back(token)
            return now
        context = token._context
        if context is None:  # it was ended between the lane and here
            self.token = None
            return now
        token._begin(now)
        place = self._place
        call = None
        try:
            call = place.resolve(token)
            if token._extras.hold is not None:
                before_step(token._extras.hold, call)
            result = context.run(enter, token, call)
            if token._extras.hold is not None:
                after_step(token._extras.hold)
        except BaseException as error:
            if token._extras.hold is not None:
                after_step(token._extras.hold)
            self._fail(token, error)
            del token, context, call  # the error's traceback references this frame
            return place.system.clock()
        kind = type(result)
        if kind is GeneratorType and place.steps_of(call, result):
            self._steps = result
            token.steps = 0  # making the generator was no step
            if token._extras.hold is None:
                self._step()
        elif kind is CoroutineType:
            result.close()
            self._fail(token, TypeError(f"{token.operation} is a coroutine function; a cpu actor cannot await it"))
        else:
            token._settle(_COMPLETED, result)
            self.token = None
        return token.finished_at or place.system.clock()

    def _run_durable(self, token: DurableToken[Any], now: float) -> float:
        """Run a token as `_run` does, after its beginning is on disk if it must be."""
        self.token = token  # first: what ends it finds it here
        while (begun := token.beginning()) is not None:
            with lending_thread():
                begun._block()
            now = self._place.system.clock()
        return self._run(token, now)

    def _step(self) -> None:
        """Take the token's next step."""
        token, steps = cast("Token[Any]", self.token), cast("Generator[Any, Any, Any]", self._steps)
        context = token._context
        if token._extras.cancel_requested or context is None:
            self._drop_steps()
            token._terminate(token._extras.cancel_requested or "it was ended")
            self.token = None
            return
        token.steps += 1
        try:
            value = context.run(next, steps)
            if value is not None:
                context.run(refuse_yield, steps, value)
            if token._extras.hold is not None:
                after_step(token._extras.hold)
                token._extras.hold.note_step()
        except StopIteration as stop:
            self._steps = None
            if token._extras.hold is not None:
                after_step(token._extras.hold)
            token._finish(_COMPLETED, stop.value)
            self.token = None
        except BaseException as error:
            if token._extras.hold is not None:
                after_step(token._extras.hold)
                self._drop_steps()  # Python 3.11: an interrupt may have come just outside of the generator
            self._steps = None
            self._fail(token, error)
            del token, context, steps  # as in _run

    def _may_step(self) -> bool:
        """Tell whether the token may take its next step; if not, the slot is parked and its thread is free."""
        token = cast("Token[Any]", self.token)
        hold = token._extras.hold
        if hold is None or token._extras.cancel_requested or hold.may_step():
            self._take_turn_back()
            return True
        if not self._lent:
            self._lent = True
            self._place.step_waits(self)
        self.thread = None
        mailbox = self._place.mailbox
        # With a ticket, another thread may run the slot. So the ticket comes first, then the checks for reasons to send
        # the slot again: in the other order one could be missed.
        self._ticket.append(None)
        hold.released.add_done_callback(self.send)
        if mailbox.signals():
            self.send()
        return False

    def send(self, _reply: object = None) -> None:
        """Send the slot to a thread, if it waits for one or is parked; sent several times, it runs once."""
        if self._ticket:
            self._drain.dispatcher.submit(self)

    @property
    def waits_for_thread(self) -> bool:
        """Whether it is ready to run and no thread has it."""
        return bool(self._ticket) and not self._lent

    def _take_turn_back(self) -> None:
        if self._lent:
            self._lent = False
            self._place.step_resumes(self)

    def _fail(self, token: Token[Any], error: BaseException) -> None:
        """End a token after its code raised; it is no crash if the token was ended, and lost its arguments, before."""
        error = without_runtime_frames(error)
        if token._done:
            token.note_return()
        crash = None if token._done and error.__traceback__ is None else self._place.failed(token, error)
        self.token = None
        if crash is not None and self.at_work:
            self._live(_life.crash(cast("ActorPlace", self._place), crash, self, token))

    def _drop_steps(self) -> None:
        """Close the generator of a token that does not go on; its `finally` blocks run."""
        steps, self._steps = self._steps, None
        if steps is None:
            return
        if self.token is not None:
            close_steps(self.token, self.token._context, steps)

    # Signals

    def _handle(self, signal: Signal) -> None:
        place = self._place
        if not isinstance(place, ActorPlace):
            return
        if isinstance(signal, Start):
            signal.context.run(self._live, _life.start(place, signal, self))
        elif isinstance(signal, Stop):
            if signal.drain and place.can_drain() and (place.mailbox.size or self._steps is not None):
                place.draining = True
                return
            self._end_token("its actor was stopped")
            self._live(_life.stop(place, self))
        elif isinstance(signal, Visit):
            _life.visit(place, signal)
        elif isinstance(signal, Crash) and place.runs(signal.instance):
            life = _life.crash(place, signal.error, self, self.token)
            self._end_token("its actor crashed")
            self._live(life)

    def _end_token(self, why: str) -> None:
        """End a token between two of its steps."""
        token = self.token
        if token is not None:
            self._take_turn_back()
            self._drop_steps()
            token._terminate(why)
            self.token = None

    def _live(self, life: Life) -> None:
        """Run the user code of one phase of an instance's life."""
        _life.run(life, self, self._place.path)


class MeteredSlot(CpuSlot):
    """A drainer whose tokens are measured.

    Args:
        drain: of the place.
        meter: measures them.
    """

    __slots__ = ("_meter",)

    def __init__(self, drain: CpuDrain, meter: Meter) -> None:
        super().__init__(drain)
        self._meter = meter

    def _run(self, token: Token[Any], now: float) -> float:
        self._meter.begin(token)
        try:
            return super()._run(token, now)
        finally:
            self._meter.end(token)

    def _step(self) -> None:
        token = cast("Token[Any]", self.token)
        if token.steps == 0:  # the first step, in `_run`
            super()._step()
            return
        self._meter.begin(token)
        try:
            super()._step()
        finally:
            self._meter.end(token)


class SlotHere(CpuSlot):
    """A drainer that handles one signal on the thread of a caller.

    Args:
        drain: of the place.
        signal: the signal; None after the slot was submitted to the dispatcher.
    """

    __slots__ = ("signal",)

    _place: ActorPlace

    def __init__(self, drain: CpuDrain, signal: Signal) -> None:
        super().__init__(drain)
        self.signal: Signal | None = signal
        self._ticket.clear()  # no other thread is to run it

    def handle(self, signal: Signal, plain: bool) -> None:
        """Handle its signal on the calling thread, and leave; with `plain` it is a start that runs no code."""
        try:
            if plain and isinstance(signal, Start):
                _life.start_plain(self._place, signal, self)
            else:
                self._handle_in_turn(signal)
        finally:
            self.leave()
        interrupt = _life.interrupt_of(signal) if isinstance(signal, Start) else None
        if interrupt is not None:
            raise interrupt from None

    def _handle_in_turn(self, signal: Signal) -> None:
        self.thread = threading.current_thread()
        turn = begin_turn(self._place, self)
        try:
            self._handle(signal)
        finally:
            end_turn(turn)

    def leave(self) -> None:
        """Leave after the signal, or pass on to a thread of the dispatcher what has come in between."""
        self.thread = None
        if self._place.draining:
            self.signal = None
            self._ticket.append(None)
            self.send()  # a token or signal has come in between
        else:
            self._place.mailbox.dismiss(self)
