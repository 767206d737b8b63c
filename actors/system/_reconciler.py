"""Tries again and again to pause or end tokens whose code runs on meanwhile, for as long as that takes.

Operators' verbs and time limits end tokens by the same steps. All of it runs on the system loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import trio

from actors.concurrency._future import Reply
from actors.drains._cpu_drain import CpuDrain
from actors.places._place import place_of
from actors.processes._process_drain import process_drain
from actors.steps._interrupt import interrupt
from actors.steps._monitoring import monitor
from actors.tokens._hold import Hold
from actors.tokens._lifecycle import TokenState
from actors.tokens._token import Token

T = TypeVar("T")

_logger = logging.getLogger("tokengate.actors")

# Seconds between two attempts, at first and later.
_LOOK_FIRST: Final = 0.0005
_LOOK_LATER: Final = 0.05


class Kill:
    """The end of a token in a child process: the process is killed as soon as it is known which one runs the token.

    Args:
        token: the token.
        reason: the text of the token's error.

    Attributes:
        over: whether it has ended the token.
        never_ran: whether none of the token's code had run.
        pid: of the process that was killed for it; None if none was.
    """

    def __init__(self, token: Token[Any], reason: str) -> None:
        self.token = token
        self.reason = reason
        self.over = False
        self.never_ran = False
        self.pid: int | None = None
        self._attempt = token.attempt

    def attempt(self) -> bool:
        """End the token where it is, in a process or in a queue; return whether it has ended.

        For a moment in between it is in neither: it was sent to a process, which has not begun it.
        """
        token = self.token
        if not self.over and not token.done() and token.attempt == self._attempt:
            drain = process_drain(token)
            worker = None if drain is None else drain.worker_of(token)
            if worker is None or place_of(token).abandon(token, self.reason) is None:
                # A token that a process had not begun, and that was taken back from it, has ended at once.
                ours = token.state is TokenState.TERMINATED and token._extras.cancel_requested == self.reason
                if token.attempt != self._attempt:
                    return True  # it is queued for another attempt, which is not to be ended
                if token._cancel(self.reason) or (ours and token.started_at is None):
                    self.over = self.never_ran = True
            elif token.state is TokenState.TERMINATED:
                # The process lives on if it had not begun the token, which was only taken back, or if the token had
                # just ended there.
                self.over, self.never_ran = True, token.started_at is None
                self.pid = worker.pid if worker.doomed else None
        return self.over or token.done() or token.attempt != self._attempt


class Reconciler:
    """Tries again and again to pause or end tokens, until they have stopped: their code may move on meanwhile.

    Args:
        start: starts a task on the system loop.
    """

    def __init__(self, start: Callable[[Callable[[], Coroutine[Any, Any, None]], str], None]) -> None:
        self._start = start
        self._holds: dict[Hold, None] = {}  # those that want something
        self._kills: dict[tuple[Token[Any], int], Kill] = {}  # {(token, attempt): its kill, until it has ended}
        self._ends: dict[tuple[Token[Any], int], None] = {}  # (token, attempt) that `end` pursues
        self._attempts: dict[tuple[Token[Any], int], None] = {}  # the same of `end_attempt`

    def begin(self, hold: Hold) -> None:
        """Do to a token what its hold wants, and try again until it is done."""
        _apply(hold)
        if _wants(hold) and hold not in self._holds:
            self._holds[hold] = None
            self._start(lambda: _reconcile(lambda: _satisfy(hold), self._holds, hold), f"hold of token {hold.token.id}")

    def ask_to_end(self, token: Token[Any], reason: str, *, interrupt: bool = True) -> bool:
        """Ask a token to end, and ask again until it has; return whether it has ended at once, as it had not begun.

        Args:
            token: the token.
            reason: the text of its error.
            interrupt: whether its Python code is interrupted, unless its place forbids that; else it ends at its next
                yield point only.
        """
        if token._cancel(reason):
            return True
        hold = Hold.of(token)
        if interrupt and token._place.properties.interruptible:
            hold.interrupt_wanted = True
        self.begin(hold)
        return False

    def end_attempt(self, token: Token[Any], why: str) -> None:
        """Have the attempt of a token end that runs, and try again until it has; the token may be queued again then.

        Code in a child process ends with the process. Other code ends where it can be ended; it is not left behind.

        Args:
            token: the token, which has this very object as the request to end.
            why: the text of its error.
        """
        if process_drain(token) is None:
            place_of(token).drain.cancel(token)
            hold = Hold.of(token)
            if token._place.properties.interruptible:
                hold.want_interrupt()
            else:
                hold.end()
            self.begin(hold)
            return
        attempt, key = token.attempt, (token, token.attempt)

        def ended() -> bool:
            if token.done() or token.attempt != attempt or token._extras.cancel_requested is not why:
                return True
            drain = process_drain(token)
            if drain is not None and drain.worker_of(token) is not None:
                place_of(token).abandon(token, why)
            return token.done() or token.attempt != attempt

        if not ended() and key not in self._attempts:
            self._attempts[key] = None
            self._start(lambda: _reconcile(ended, self._attempts, key), f"attempt {attempt} of token {token.id}")

    def kill(self, token: Token[Any], reason: str) -> Kill:
        """End a token in a child process, and try again until it has ended; return the kill, which has the facts."""
        key = (token, token.attempt)
        kill = self._kills.get(key) or Kill(token, reason)
        if not kill.attempt() and key not in self._kills:
            self._kills[key] = kill
            self._start(lambda: _reconcile(kill.attempt, self._kills, key), f"end of token {token.id}")
        return kill

    def end(self, token: Token[Any], why: str, grace: float) -> None:
        """Ask an attempt of a token to end; after a grace, kill its process, or leave its thread or task behind.

        Only the first call for an attempt counts. Code on the thread of its caller cannot be left behind: its token
        ends when the code does.

        Args:
            token: the token.
            why: the text of its error.
            grace: seconds of the system's clock.
        """
        attempt = token.attempt
        if token.done() or (token, attempt) in self._ends or self.ask_to_end(token, why):
            return
        due = place_of(token).system.clock() + grace
        self._ends[token, attempt] = None

        def force() -> bool:
            return token.attempt != attempt or self._force(token, why)

        async def pursue() -> None:
            await _wait_for_end(token, due)
            await _reconcile(force, self._ends, (token, attempt))

        self._start(pursue, f"end of token {token.id}")

    def _force(self, token: Token[Any], why: str) -> bool:
        """Kill the process of a token, or leave its code behind; return False if its code is not to be found now."""
        if token.done():
            return True
        if process_drain(token) is not None:
            self.kill(token, why)
            return True
        self.leave_behind(token, why)
        return token.done()

    @staticmethod
    def leave_behind(token: Token[Any], why: str) -> list[str] | None:
        """End a token, and leave its code behind.

        Code that ends by itself in that moment gives the token its own outcome all the same.

        Returns:
            the names of the threads that the code is in, none for a task of a loop; None, with no effect, if its code
            is not to be found now.
        """
        policy = token._extras.policy
        if policy is not None and _runs_on(token):
            policy.leave_behind(token)
        return place_of(token).abandon(token, why)


async def _wait_for_end(token: Token[Any], due: float) -> None:
    """Wait until a token has ended, or until a time of its system's clock."""
    clock = place_of(token).system.clock
    while not token.done() and (seconds := due - clock()) > 0:
        with trio.move_on_after(seconds):
            await Reply.wait(token)


def _runs_on(token: Token[Any]) -> bool:
    """Tell whether there is a thread or a task in which a token's code can be left behind."""
    drain = place_of(token).drain
    if isinstance(drain, CpuDrain):
        return any(slot.token is token and slot.thread for slot in drain.slots())
    return drain.has_taken(token)


async def _reconcile(attempt: Callable[[], bool], pursued: dict[T, Any], one: T) -> None:
    """Attempt something until that succeeds, and then remove it from those that are pursued."""
    delay, done = _LOOK_FIRST, False
    try:
        while not done:
            await trio.sleep(delay)
            delay = min(2 * delay, _LOOK_LATER)
            done = attempt()
    except Exception:  # an error here must not end the loop, and so all tokens
        _logger.exception("the reconciler of %r failed", one)
    finally:
        del pursued[one]


def _satisfy(hold: Hold) -> bool:
    """Do to a token what its hold wants; return whether it wants nothing more."""
    # A process must hear what was wanted before it began the token, even if nothing is wanted any more.
    if _wants(hold) or process_drain(hold.token) is not None:
        _apply(hold)
    return not _wants(hold)


def _wants(hold: Hold) -> bool:
    token = hold.token
    if token.done():
        return False
    to_pause = hold.word == "pause_requested"
    if token.started_at is None:
        return to_pause or bool(token._extras.cancel_requested)
    if process_drain(token) is not None:
        return to_pause
    # A task stops at its next await without help; and so does a thread at its next checkpoint.
    return hold.interrupt_wanted or (to_pause and token.affinity == "cpu" and monitor is not None)


def _apply(hold: Hold) -> None:
    token = hold.token
    if token.done():
        return
    drain = process_drain(token)
    if token.started_at is None and token._phase is TokenState.QUEUED:
        # It was in no queue when the verb came: its sender waited for room, or a worker had just taken it.
        if token._extras.cancel_requested:
            token._cancel(token._extras.cancel_requested)
        elif hold.word == "pause_requested" and not hold.stepping and not hold_in_queue(hold) and drain is not None:
            drain.hold_changed(token)
    elif drain is not None:
        if token._extras.cancel_requested:
            drain.cancel(token)
        elif hold.word == "pause_requested":
            drain.hold_changed(token)
    elif hold.interrupt_wanted:
        interrupt(hold)
    elif monitor is not None:
        monitor.arm(hold)


def hold_in_queue(hold: Hold) -> bool:
    """Hold a token beside its queue; return whether it was in the queue."""
    if not place_of(hold.token).mailbox.hold(hold.token):
        return False
    hold.note_step()  # it has no step to finish first
    return True
