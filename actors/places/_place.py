"""A place in the tree: an address with a path, a mailbox and a drain, which outlives the instances that work there."""

from __future__ import annotations

import abc
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final, cast

from actors._exceptions import ActorDead, MailboxFull, TokenRejected
from actors.concurrency._blocking import LONG_WAIT, blocking, check_interrupted, loop_here, nesting
from actors.concurrency._future import Reply
from actors.mailboxes._mailbox import ACCEPTED, DEFAULT_CAPACITY, Drainer, Mailbox, Overflow, Put
from actors.mailboxes._signals import Signal
from actors.places._drain import Drain
from actors.places._ports import Governor, PlaceSystem
from actors.tokens._lifecycle import TokenState
from actors.tokens._properties import Properties
from actors.tokens._token import Token, _current, current_token, make_token
from actors.tokens._waits_for import waiting_for

AFFINITIES: Final = ("io", "asyncio", "cpu", "process")
"""Where tokens can run: in trio tasks, in asyncio tasks, on threads, in child processes."""

LOOP_AFFINITIES: Final = ("io", "asyncio")
"""Those whose code may be coroutines."""

# The reason of a mailbox that an operator has closed by `drain_off`.
_DRAINED = "is being drained"

# Seconds after which a sender that waits for room checks for it itself.
_LOOK_FOR_ROOM = 1.0


class Place(abc.ABC):
    """Base of the places of actors and of operations.

    Args:
        system: the owner of the tree.
        path: names from the root down, joined by `/`.
        affinity: `io`, `asyncio`, `cpu` or `process`.
        properties: what its operation or actor class declares for its tokens.
    """

    __slots__ = (
        "__weakref__",
        "affinity",
        "drain",
        "drained",
        "governor",
        "mailbox",
        "path",
        "properties",
        "serves_operators",
        "suspended_by",
        "system",
    )

    exclusive: ClassVar[bool]  # whether no other token is handled here while a step waits
    mailbox_class: ClassVar[type[Mailbox]] = Mailbox

    def __init__(
        self,
        system: PlaceSystem,
        path: str,
        affinity: str,
        *,
        capacity: int = DEFAULT_CAPACITY,
        overflow: Overflow = "wait",
        concurrency: int = 1,
        properties: Properties | None = None,
        serves_operators: bool = False,
        suspended: bool = False,
    ) -> None:
        self.system = system
        self.governor: Governor | None = None  # what its tokens are held to
        self.properties = properties or Properties()
        self.serves_operators = serves_operators
        self.suspended_by = ""  # the operator or rule that asked for it last; written on the system loop, as `drained`
        self.drained = False  # whether an operator has closed the intake; all else goes on
        self.path = path
        self.affinity = affinity
        self.drain: Drain = self._make_drain()
        self.mailbox = self.mailbox_class(
            path,
            capacity=capacity,
            overflow=overflow,
            concurrency=concurrency,
            new_drainer=self.drain.new_drainer,
            wake=self.drain.wake,
            on_drop=self._dropped,
            suspended=suspended,
        )

    @abc.abstractmethod
    def _make_drain(self) -> Drain: ...

    # For drains

    @abc.abstractmethod
    def resolve(self, token: Token[Any]) -> Callable[..., Any]:
        """Return the function to call with the token's arguments."""

    @abc.abstractmethod
    def steps_of(self, call: Callable[..., Any], result: Any, /) -> bool:
        """Tell whether a generator that `call` returned is to be run step by step (else it is the result)."""

    @abc.abstractmethod
    def failed(self, token: Token[Any], error: BaseException) -> BaseException | None:
        """End a token after its code raised; return the error if it is a crash of the place's instance."""

    def is_idempotent(self, call: Any) -> bool:  # noqa: ARG002
        """Tell whether it does no harm to run the token of a call twice."""
        return self.properties.idempotent

    def crashes(self, token: Token[Any], error: BaseException) -> bool:  # noqa: ARG002
        """Tell whether an exception of a token's code is a crash of the place's instance."""
        return False

    def runs_at_caller(self, token: Token[Any]) -> bool:  # noqa: ARG002
        """Tell whether a token is a direct call that runs on the thread, or in the task, of its caller."""
        return False

    @property
    def may_run_hook(self) -> bool:
        """Whether a drainer that has no token may be in user code: a hook."""
        return False

    def stop_if_drained(self) -> None:  # noqa: B027  # an operation has nothing to stop
        """End the instance if it was to end after all that was accepted; each drainer that leaves calls this."""

    # A step that waits for another token

    def step_waits(self, why: object) -> None:  # noqa: B027  # most places have nothing to do here
        """Note that a token of this place waits; by default, no other gets its turn.

        Args:
            why: the token that waits, or its drainer.
        """

    def step_resumes(self, why: object) -> None:  # noqa: B027
        """Note that it goes on."""

    # Sending

    token = make_token  # a method, by its first argument

    def send(self, token: Token[Any]) -> Token[Any]:
        """Put a token into the mailbox, or the one that runs for it; wait while it is full.

        Returns:
            the token: `queued`, or `rejected` with an error that says why.
        """
        run = token
        try:
            if self.system.guarded:
                self.system.check_intake(token)
            governor = self.governor  # once: it may be taken away at any moment
            if governor is not None:
                sent = governor.at_door(token)
                if sent is None:
                    return token
                run = sent
            put = self.mailbox.put(run)
            if put is not ACCEPTED:
                if put is Put.LATER:
                    self.system.senders.add(run)
                    self.system.later(partial(self._send_late, run))
                elif put is Put.FULL:
                    self._wait_for_room(run)
                else:
                    raise self._full()
        except (ActorDead, MailboxFull, TokenRejected) as error:
            other = self._refuse(run, error)
            if other is not None:
                other.send(run)
        return token

    def _refuse(self, token: Token[Any], error: BaseException) -> Place | None:
        """End a token that is refused at the door, unless it is tried elsewhere; then return the place where."""
        other: Place | None = None if self.governor is None else self.governor.elsewhere(token, error)
        if other is None:
            self.reject(token, error)
        return other

    def _send_late(self, token: Token[Any]) -> None:
        """Send a token of code that has interrupted a change of the mailbox; on the system loop."""
        try:
            self.send(token)
        finally:
            self.system.senders.discard(token)

    async def send_async(self, token: Token[Any]) -> Token[Any]:
        """Send as `send` does, but await room (trio and asyncio); a cancelled wait rejects the token."""
        run = token
        try:
            if self.system.guarded:
                self.system.check_intake(token)
            governor = self.governor  # once: it may be taken away at any moment
            if governor is not None:
                sent = governor.at_door(token)
                if sent is None:
                    return token
                run = sent
            put = self.mailbox.put(run)
            if put is not ACCEPTED:
                await self._await_room(run, put)
        except (ActorDead, MailboxFull, TokenRejected) as error:
            other = self._refuse(run, error)
            if other is not None:
                await other.send_async(run)
        except BaseException:
            if run._phase is TokenState.CREATED:  # else a signal handler has raised after it was put
                why = f"{run._describe()} was given up by its sender, which waited for room"
                self.reject(run, TokenRejected(why))
            raise
        finally:
            self.system.senders.discard(run)
        return token

    async def _await_room(self, token: Token[Any], put: Put) -> None:
        while put is not ACCEPTED:
            if put is Put.DROPPED or self._from_within():
                raise self._full()
            room: Reply[None] = Reply()
            self.system.senders.add(token)
            put = self.mailbox.put(token, room._set)
            if put is Put.FULL:
                try:
                    with waiting_for(_current.get(), self):
                        await room
                except BaseException:
                    self.mailbox.forget_sender(room._set)
                    raise

    def _wait_for_room(self, token: Token[Any]) -> None:
        if self._from_within():
            raise self._full("an actor cannot wait for itself")
        if loop := loop_here():
            raise self._full(f"the {loop} loop of this thread must not wait: use the awaiting form")
        while True:
            room = threading.Lock()
            room.acquire()
            wake = room.release
            if self.mailbox.put(token, wake) is not Put.FULL:
                return
            try:
                with waiting_for(_current.get(), self), blocking():
                    self._wait_until_woken(room)
            except BaseException:
                self.mailbox.forget_sender(wake)
                self.reject(token, TokenRejected(f"{token._describe()} was given up by its sender"))
                raise

    def _wait_until_woken(self, room: threading.Lock) -> None:
        # Check now and then: the thread that had to wake this one may have been interrupted.
        look = LONG_WAIT
        while not room.acquire(timeout=look):
            check_interrupted(f"room in the mailbox of '{self.path}'")
            look = _LOOK_FOR_ROOM
            if self.mailbox.size < self.mailbox.capacity:
                self.mailbox.forget_sender(room.release)
                return

    def held_up_by(self) -> list[Token[Any]]:
        """Return the running tokens that must progress before another one is taken out of the mailbox."""
        return self.drain.running() if self.exclusive else []

    def runs_this_code(self) -> bool:
        """Tell whether the calling code runs at this place, so that it cannot wait for the place."""
        inside = current_token()
        return nesting(self)[1] > 0 or (inside is not None and inside._place is self)

    def _from_within(self) -> bool:
        return self.mailbox.concurrency == 1 and self.runs_this_code()

    def _full(self, why: str = "") -> MailboxFull:
        box = self.mailbox
        remedy = f"; {why}" if why else "; send less, or give it more capacity"
        return MailboxFull(f"mailbox of '{self.path}' is full ({box.capacity} tokens, {box.overflow}){remedy}")

    def reject(self, token: Token[Any], error: BaseException) -> None:
        """End a token that is refused."""
        error.__traceback__ = None  # it would hold the sender's frames
        token._finish(TokenState.REJECTED, error=error)
        self.system.dead_letter(token, error)

    def _dropped(self, token: Token[Any]) -> None:
        """End a token that a newer one has displaced from the mailbox."""
        token._terminate("a newer one took its place in a full mailbox")
        self.system.dead_letter(token, self._full())

    # For recovery, on the system loop

    def recover(self) -> list[Drainer]:
        """Complete what interrupted senders have left undone here; return the entered drainers."""
        drainers = self.mailbox.recover()
        self.drain.recover(drainers)
        return drainers

    # For operators, on the system loop

    @property
    def suspended(self) -> bool:
        """Whether an operator or a rule has suspended it."""
        return bool(self.suspended_by)

    def suspend(self, by: str = "operator") -> bool:
        """Let no further token begin until `unsuspend`; return whether this changed anything.

        Args:
            by: the operator or rule that asks for it.
        """
        before, self.suspended_by = self.suspended_by, by
        if before:
            return False
        self.mailbox.suspend()
        return True

    def unsuspend(self) -> bool:
        """Undo `suspend`; return whether this changed anything."""
        if not self.suspended_by:
            return False
        self.suspended_by = ""
        self.mailbox.resume()
        return True

    def drain_off(self) -> bool:
        """Accept no further token, and handle the accepted ones; return whether this changed anything."""
        if self.mailbox.closed:
            return False
        self.drained = True
        self.mailbox.close(keep=True, why=_DRAINED)
        return True

    def accept_again(self) -> bool:
        """Undo `drain_off`; return whether this changed anything."""
        if not self.drained:
            return False
        self.drained = False
        return self.mailbox.reopen(_DRAINED)

    # Ending

    def signal(self, signal: Signal) -> None:
        """Put a signal into the control lane, and notify the drain."""
        if self.mailbox.changes_here:
            self.system.later(partial(self.signal, signal))
            return
        self.mailbox.put_control(signal)
        self.drain.control_arrived(signal)

    def terminate_queued(self, why: str) -> None:
        """Close the mailbox and end all tokens in it."""
        tokens = self.mailbox.close()  # a variable: recovery finds those in it that are still to be ended
        for token in tokens:
            self._never_handled(token, why)

    def give_back(self, token: Token[Any]) -> None:
        """Put back a token that a drainer has taken and may not run."""
        if not self.mailbox.give_back(token):
            self._never_handled(token, "was ended")

    def _never_handled(self, token: Token[Any], why: str) -> None:
        error = ActorDead(f"actor '{self.path}' {why} before it handled {token!r}")
        token._finish(TokenState.TERMINATED, error=error)
        self.system.dead_letter(token, error)

    def abandon(self, token: Token[Any], why: str) -> list[str] | None:
        """End a token that runs here, as the last resort, and abandon its code.

        Returns:
            names of the threads that were abandoned with it; None, with no effect, when the token does not run here.
        """
        if not self.drain.has_taken(token) or not self.drain.arrest(token):
            return None
        self.system.seal([token], why)
        threads, _ = self.drain.seal(token)
        if threads:
            self.system.note_abandoned(self.path, threads)
        return threads

    @abc.abstractmethod
    def terminate_running(self, why: str) -> int:
        """End and seal all that runs here, as the last resort; return how many threads were abandoned."""


def place_of(token: Token[Any]) -> Place:
    """Return the place of a token, for code that needs more of it than a token does."""
    return cast("Place", token._place)
