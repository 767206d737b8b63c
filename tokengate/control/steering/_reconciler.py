"""Going after tokens that are to stop, or to end, for as long as that takes: whoever looks does not hold them up."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from actors import Token, TokenState
from actors.lowlevel import Hold, Worker, interrupt, monitor, place_of
from tokengate.control.inspection._processes import process_drain
from tokengate.control.messages import Outcome
from tokengate.control.steering._outcomes import NOT_BEGUN, ended, outcome

_logger = logging.getLogger("tokengate.control")

# Seconds between two looks at where a token's code runs, from the first to the later ones.
_LOOK_FIRST: Final = 0.0005
_LOOK_LATER: Final = 0.05


class Kill:
    """The end of a token in a child process: as soon as it is known which one runs it, that process is killed.

    Args:
        token: it.
        reason: what the token's error says.

    Attributes:
        outcome: what came of it, once that is known.
    """

    def __init__(self, token: Token[Any], reason: str) -> None:
        self.token = token
        self.reason = reason
        self.outcome: Outcome | None = None

    def attempt(self) -> bool:
        """End the token where it is: in a process, or in a queue; tell whether it is over.

        In between it is in neither for a moment: a process was sent it, and has not begun it.
        """
        token = self.token
        if self.outcome is None and not token.done():
            drain = process_drain(token)
            worker = None if drain is None else drain.worker_of(token)
            if worker is None or place_of(token).abandon(token, self.reason) is None:
                # What was taken out of a process's hand has ended there and then, since it was to.
                ours = token.state is TokenState.TERMINATED and token._cancel_requested == self.reason
                if token._cancel(self.reason) or (ours and token.started_at is None):
                    self.outcome = outcome(token, "terminated", "it never ran")
            elif token.state is TokenState.TERMINATED:
                # One that its process had not begun was only taken out of its hand; one that had just come to its end
                # there has let it live.
                never = "it never ran" if token.started_at is None else ""
                self.outcome = self._killed(worker) if worker.doomed else outcome(token, "terminated", never)
        return self.outcome is not None or token.done()

    def _killed(self, worker: Worker) -> Outcome:
        drain = process_drain(self.token)
        actor = drain is not None and drain.own
        after = "its supervisor decides what comes next" if actor else "another takes its place"
        return outcome(self.token, "killed", f"process {worker.pid} was killed; {after}")

    def conclude(self) -> Outcome:
        """Return what came of it so far."""
        if self.outcome is not None:
            return self.outcome
        if self.token.done():
            return ended(self.token)
        return outcome(self.token, "cancel_requested", NOT_BEGUN)


class Reconciler:
    """Goes after code that is to stop, until it has: where it runs is looked at again and again.

    Args:
        start: starts a task on the system loop.
    """

    def __init__(self, start: Callable[[Callable[[], Awaitable[None]], str], None]) -> None:
        self._start = start
        self._after: set[Hold] = set()
        self._kills: dict[Token[Any], Kill] = {}  # {token: its end, which has not come yet}

    def begin(self, hold: Hold) -> None:
        """Have a token stop, as its hold wants it, wherever it is by now."""
        _go_after(hold)
        if _wants(hold) and hold not in self._after:
            self._after.add(hold)
            self._start(lambda: self._pursue(hold), f"reconciler of token {hold.token.id}")

    def kill(self, token: Token[Any], reason: str) -> Kill:
        """Have a token in a child process end, wherever it is by now; what is returned tells what came of it."""
        kill = self._kills.get(token) or Kill(token, reason)
        if not kill.attempt() and token not in self._kills:
            self._kills[token] = kill
            self._start(lambda: self._pursue_end(kill), f"end of token {token.id}")
        return kill

    async def _pursue(self, hold: Hold) -> None:
        delay = _LOOK_FIRST
        try:
            while _wants(hold):
                await trio.sleep(delay)
                delay = min(2 * delay, _LOOK_LATER)
                # A process is told of what was wanted before it began, although nothing is wanted from then on.
                if _wants(hold) or process_drain(hold.token) is not None:
                    _go_after(hold)
        except Exception:  # one token's shall not be the end of the loop, and so of all others
            _logger.exception("the reconciler of %r has ended", hold.token)
        finally:
            self._after.discard(hold)

    async def _pursue_end(self, kill: Kill) -> None:
        delay = _LOOK_FIRST
        try:
            while not kill.attempt():
                await trio.sleep(delay)
                delay = min(2 * delay, _LOOK_LATER)
        except Exception:
            _logger.exception("the reconciler of %r has ended", kill.token)
        finally:
            del self._kills[kill.token]


def _wants(hold: Hold) -> bool:
    token = hold.token
    if token.done():
        return False
    to_pause = hold.word == "pause_requested"
    if token.started_at is None:
        return to_pause or bool(token._cancel_requested)
    if process_drain(token) is not None:
        return to_pause
    # A task stops by itself, at its next await; and so does a thread at its next checkpoint.
    return hold.interrupt_wanted or (to_pause and token.affinity == "cpu" and monitor is not None)


def _go_after(hold: Hold) -> None:
    token = hold.token
    if token.done():
        return
    drain = process_drain(token)
    if token.started_at is None and token._phase is TokenState.QUEUED:
        # It was nowhere when the verb came: its sender waited for room, or somebody had just taken it.
        if token._cancel_requested:
            token._cancel(token._cancel_requested)
        elif hold.word == "pause_requested" and not hold.stepping and not hold_in_queue(hold) and drain is not None:
            drain.hold_changed(token)
    elif drain is not None:
        if token._cancel_requested:
            drain.cancel(token)
        elif hold.word == "pause_requested":
            drain.hold_changed(token)
    elif hold.interrupt_wanted:
        interrupt(hold)
    elif monitor is not None:
        monitor.arm(hold)


def hold_in_queue(hold: Hold) -> bool:
    """Set a token aside that has not begun; tell whether it was in its queue."""
    if not place_of(hold.token).mailbox.hold(hold.token):
        return False
    hold.note_step()  # none has begun
    return True
