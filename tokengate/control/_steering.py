"""What the verbs do to tokens: pause, step, end, and move them, and tell the truth about what came of it.

All of it runs on the system loop. A verb first does what it can do at once, to all its tokens; then it waits for those
that have to come to a point where more is possible, no longer than it was given, and tells how far each has got. What
was asked for goes on to be pursued after the answer.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterable
from inspect import CO_COROUTINE
from types import FunctionType, MappingProxyType
from typing import Any

import attrs
import trio

from actors import (
    ActorDead,
    ActorPlace,
    ActorSystem,
    Hold,
    MailboxFull,
    OperationPlace,
    Place,
    Reply,
    Token,
    TokenState,
    interrupt,
    monitor,
    move,
)
from actors._ref import Told
from tokengate.control._selector import plain
from tokengate.control._views import class_attribute
from tokengate.control.messages import Mode, Outcome

# Seconds between two looks at where a token's code runs, from the first to the later ones.
_LOOK_FIRST, _LOOK_LATER = 0.0005, 0.05

_NOT_BEGUN = "it is about to begin, or its sender waits for room"


def outcome(token: Token[Any], word: str, note: str = "") -> Outcome:
    """Return what a verb did to a token."""
    return Outcome(token.id, plain(token.operation), word, note)


def ended(token: Token[Any]) -> Outcome:
    """Return the answer for a token that had come to its end before the verb came."""
    return outcome(token, "ended", f"it is {token.state}")


@attrs.frozen
class Pending:
    """A token that is on its way to what a verb wants.

    Attributes:
        reached: comes when it may be there.
        conclude: tells how far it is.
    """

    reached: Reply[Any]
    conclude: Callable[[], Outcome]


class Pursuit:
    """Goes after code that is to stop, until it has: where a thread runs is looked at again and again.

    Args:
        start: starts a task on the system loop.
    """

    def __init__(self, start: Callable[[Callable[[], Awaitable[None]], str], None]) -> None:
        self._start = start
        self._after: set[Hold] = set()

    def begin(self, hold: Hold) -> None:
        """Have a token stop, as its hold wants it, wherever it is by now."""
        _go_after(hold)
        if self._wants(hold) and hold not in self._after:
            self._after.add(hold)
            self._start(lambda: self._pursue(hold), f"pursuit of token {hold.token.id}")

    async def _pursue(self, hold: Hold) -> None:
        delay = _LOOK_FIRST
        try:
            while self._wants(hold):
                await trio.sleep(delay)
                delay = min(2 * delay, _LOOK_LATER)
                if self._wants(hold):
                    _go_after(hold)
        finally:
            self._after.discard(hold)

    @staticmethod
    def _wants(hold: Hold) -> bool:
        token = hold.token
        if token.done():
            return False
        if token.started_at is None:
            return hold.word == "pause_requested" or bool(token._cancel_requested)
        # A task stops by itself, at its next await; and so does a thread at its next checkpoint.
        paused = hold.word == "pause_requested" and token.affinity == "cpu" and monitor is not None
        return hold.interrupt_wanted or paused


def _go_after(hold: Hold) -> None:
    token = hold.token
    if token.started_at is None and token._phase is TokenState.QUEUED:
        # It was nowhere when the verb came: its sender waited for room, or somebody had just taken it.
        if token._cancel_requested:
            token._cancel(token._cancel_requested)
        elif hold.word == "pause_requested":
            hold_in_queue(hold)
    elif hold.interrupt_wanted:
        interrupt(hold)
    elif monitor is not None:
        monitor.arm(hold)


def hold_in_queue(hold: Hold) -> bool:
    """Set a token aside that has not begun; tell whether it was in its queue."""
    if not hold.token._place.mailbox.hold(hold.token):
        return False
    hold.note_step()  # none has begun
    return True


def forbidden(token: Token[Any], verb: str, *, force: bool, guarded: bool) -> Outcome | None:
    """Return the refusal of a verb that the token's place does not allow.

    Args:
        token: it.
        verb: what is refused.
        force: whether it was to be forced.
        guarded: whether the verb must be forced for protected tokens.
    """
    controls = token._place.controls
    if not controls.controllable:
        return outcome(token, "refused", f"it is not controllable: no verb but looking is allowed on '{token.actor}'")
    if guarded and controls.protected and not force:
        return outcome(token, "refused", f"it is protected; to {verb} it, use force")
    return None


def pause(pursuit: Pursuit, token: Token[Any], *, stop_clock: bool) -> Outcome | Pending:
    """Hold a token, queued or running."""
    if token.done():
        return ended(token)
    hold = Hold.of(token)
    if hold.ending:
        if token.done():
            return ended(token)
        return outcome(token, "refused", "it was asked to end, and is let go for that")
    clock = "its clock is stopped" if stop_clock else "its clock runs on"
    if hold.word == "paused" and hold.stop_clock is stop_clock:
        return outcome(token, "unchanged", f"it was paused already; {clock}")
    reached = hold.pause(stop_clock=stop_clock)
    if hold_in_queue(hold):
        return outcome(token, "paused", f"it has not begun; {clock}")

    def conclude() -> Outcome:
        if token.done():
            return ended(token)
        if hold.word == "paused":
            return outcome(token, "paused", clock)
        if not hold.word:
            return outcome(token, "refused", "somebody has let it go meanwhile")
        return outcome(token, "pause_requested", f"{_where_it_stops(token)}; {clock}")

    token._place.drain.hold_changed(token)
    pursuit.begin(hold)
    return Pending(reached, conclude)


def _where_it_stops(token: Token[Any]) -> str:
    if token.started_at is None:
        return "it is about to begin"
    if token.affinity == "io":
        return "it stops at its next await, as soon as its loop is free"
    if monitor is None:
        return "this Python stops it at its next checkpoint() or yield only"
    if monitor.blind:
        return "other tools have all tool ids of sys.monitoring, so it stops at its next checkpoint() or yield only"
    return "it stops as soon as it runs Python code of its own, or at its next checkpoint() or yield"


def resume(token: Token[Any]) -> Outcome:
    """Let a token that is held go on."""
    hold = token._hold
    if token.done():
        return ended(token)
    if hold is None or not hold.word:
        return outcome(token, "unchanged", "nobody holds it")
    token._place.mailbox.release(token)
    hold.resume()
    if monitor is not None:
        monitor.disarm(hold)
    token._place.drain.hold_changed(token)
    return outcome(token, "resumed")


def step(pursuit: Pursuit, token: Token[Any], n: int) -> Outcome | Pending:
    """Let a token take some steps, and hold it again."""
    if token.done():
        return ended(token)
    hold = Hold.of(token)
    was_held = hold.word == "paused"
    if not was_held and token.state is not TokenState.QUEUED:
        first = pause(pursuit, token, stop_clock=hold.stop_clock)
        if isinstance(first, Outcome):
            return first
        return Pending(first.reached, lambda: _paused_first(token, hold))
    before = token.steps
    token._place.mailbox.release(token)  # first: it is its mailbox that has it `paused`, not the hold
    reached = hold.step(n)
    token._place.drain.hold_changed(token)

    def conclude() -> Outcome:
        if token.done():
            return outcome(token, "stepped", f"that brought it to its end: it is {token.state}")
        if hold.word == "paused":
            return outcome(token, "stepped", f"{token.steps} steps so far")
        taken = token.steps - before
        where = "it is queued, and has not begun" if token.started_at is None else f"it has taken {taken} of {n} yet"
        return outcome(token, "step_requested", where)

    return Pending(reached, conclude)


def _paused_first(token: Token[Any], hold: Hold) -> Outcome:
    if token.done():
        return ended(token)
    if hold.word == "paused":
        return outcome(token, "paused", "it ran, so it was paused first; step it again")
    return outcome(token, "pause_requested", f"it runs, and is to be paused first; {_where_it_stops(token)}")


def terminate(pursuit: Pursuit, token: Token[Any], mode: Mode, reason: str) -> Outcome | Pending:
    """End a token, by the ladder, as far up as `mode` says."""
    if token.done():
        return ended(token)
    if token._cancel(reason):
        return outcome(token, "terminated", "it never ran")
    interruptible = token._place.controls.interruptible
    hold = Hold.of(token)
    if mode != "cancel" and interruptible:
        hold.interrupt_wanted = True
    pursuit.begin(hold)

    def conclude() -> Outcome:
        if not token.done() and mode == "kill":
            return _abandon(token, reason)
        if token.state is TokenState.TERMINATED:
            return outcome(token, "terminated")
        if token.done():
            return ended(token)
        if token.started_at is None:
            return outcome(token, "cancel_requested", _NOT_BEGUN)
        if mode == "cancel":
            return outcome(token, "cancel_requested", "it has not come to a yield point yet")
        if not interruptible:
            return outcome(token, "cancel_requested", "code of pykka's own actors is never interrupted")
        if token.affinity == "io":
            return outcome(token, "cancel_requested", "it was cancelled, and has not ended yet")
        return outcome(token, "interrupt_requested", "it runs no Python code just now, or does not let go")

    return Pending(token, conclude)


def _abandon(token: Token[Any], reason: str) -> Outcome:
    affinity = token.affinity
    threads = token._place.abandon(token, reason)
    if token.state is TokenState.TERMINATED:
        if threads:
            return outcome(token, "abandoned", f"its code runs on in {', '.join(threads)}, and its result goes nowhere")
        if threads is not None and affinity == "io":
            return outcome(
                token,
                "abandoned",
                "its task did not react to its cancellation, and may run on; its result goes nowhere",
            )
        return outcome(token, "terminated")
    if token.done():
        return ended(token)
    if token.started_at is None:
        return outcome(token, "cancel_requested", _NOT_BEGUN)
    return outcome(
        token,
        "interrupt_requested",
        "it runs on the thread of its caller, which cannot be left behind; it is asked to end",
    )


def renice(token: Token[Any], priority: int) -> Outcome:
    """Give a token another priority."""
    if token.done():
        return ended(token)
    if token.priority == priority:
        return outcome(token, "unchanged", f"its priority was {priority} already")
    if token._place.mailbox.renice(token, priority):
        return outcome(token, "reniced")
    if token.done():
        return ended(token)
    token.priority = priority
    return outcome(token, "noted", "it has begun; its priority counts when it is tried again")


def retag(token: Token[Any], new: dict[str, str], remove: Iterable[str]) -> Outcome:
    """Change the tags of a token."""
    if token.done():
        return ended(token)
    before = {plain(name): plain(value) for name, value in token.tags.items()}  # no code of classes derived from `str`
    tags = {**before, **new}
    for tag in remove:
        tags.pop(tag, None)
    if tags == before:
        return outcome(token, "unchanged", "its tags were so already")
    token.tags = MappingProxyType(tags)
    token._place.mailbox.ask_again(token)  # a throttle may go by its tags
    return outcome(token, "retagged")


def reroute(token: Token[Any], target: Place) -> Outcome:
    """Send a queued token to another place."""
    if token.done():
        return ended(token)
    if token._place is target:
        return outcome(token, "unchanged", f"'{target.path}' has it already")
    problem = _misfit(token, target)
    if problem:
        return outcome(token, "refused", problem)
    try:
        moved = move(token, target)
    except (MailboxFull, ActorDead) as error:
        return outcome(token, "refused", str(error))
    if moved:
        return outcome(token, "rerouted", f"to '{target.path}'")
    if token.done():
        return ended(token)
    return outcome(token, "refused", "it has begun, and stays where it is")


def _misfit(token: Token[Any], target: Place) -> str:
    """Return why a place cannot handle what a token calls; nothing if it can."""
    source = token._place
    if not target.controls.controllable:
        return f"'{target.path}' is the runtime's own"
    if isinstance(source, OperationPlace) or isinstance(target, OperationPlace):
        if isinstance(source, OperationPlace) and isinstance(target, OperationPlace):
            return ""
        return f"'{source.path}' and '{target.path}' are an operation and an actor, which handle different things"
    call = token._call
    if type(call) is Told:
        call = call.call
    if call is None:
        return ""  # a plain message, which any actor receives
    if type(call) is not tuple or not isinstance(target, ActorPlace):
        return f"{plain(token.operation)} can only be done by '{source.path}'"
    found = class_attribute(target.actor_class, plain(call[0]))
    if found is None:
        return f"'{target.path}' has no '{plain(call[0])}'"
    if target.affinity == "cpu" and type(found) is FunctionType and found.__code__.co_flags & CO_COROUTINE:
        return f"'{plain(call[0])}' of '{target.path}' is a coroutine function, which a cpu actor cannot await"
    return ""


async def settle(steps: list[Outcome | Pending], wait: float) -> tuple[Outcome, ...]:
    """Wait for those that are on their way, for so many seconds in all, and return what came of each, in order."""
    with trio.move_on_after(max(0.0, wait)):
        for one in steps:
            if isinstance(one, Pending):
                await Reply.wait(one.reached)
    outcomes = []
    for number, one in enumerate(steps):
        outcomes.append(one if isinstance(one, Outcome) else one.conclude())
        if number % 100 == 99:
            await trio.lowlevel.checkpoint()
    return tuple(outcomes)


def ended_lately(system: ActorSystem) -> dict[int, Outcome]:
    """Return {id: answer} for tokens that ended otherwise than completed, as far as they are remembered."""
    return {
        known.id: Outcome(known.id, plain(known.operation), "ended", f"it is {known.state} ({known.error})")
        for known in system.ended_lately()
    }


def not_live(system: ActorSystem, id: int) -> Outcome:
    """Return the answer for an id that no live token has, and none that is remembered."""
    if system.is_used(id):
        return Outcome(id, "", "ended", "it has completed, or ended longer ago than is remembered")
    return Outcome(id, "", "unknown", "there has been no token with this id")


def chunks(tokens: Iterable[Token[Any]], size: int = 1_000) -> Iterable[tuple[Token[Any], ...]]:
    """Return tokens in groups, between which others get their turn."""
    iterator = iter(tokens)
    while chunk := tuple(itertools.islice(iterator, size)):
        yield chunk
