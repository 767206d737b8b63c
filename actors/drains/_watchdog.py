"""A watchdog of the io loop: names the code that blocks it, and with it every other io actor."""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, TypeAlias

import attrs
import trio

from actors.concurrency._trio_host import TrioHost
from actors.steps._frames import tokens_of
from actors.tokens._token import Token

# Looks in `threshold` seconds while a round of the loop goes on.
_LOOKS = 4

# Top-level modules that call what blocks, and do not block by themselves.
_RUNTIME = frozenset(
    ("abc", "actors", "attr", "contextlib", "outcome", "supervisors", "threading", "tokengate", "trio", "weakref")
)

# A step of a token (its id, number of the step), or a call of code that is no token's (id of its frame, the code).
_Step: TypeAlias = tuple[int, int | CodeType]

_logger = logging.getLogger("tokengate.actors")


@attrs.frozen
class LoopBlocked:
    """Event: the io loop has let other tasks wait for too long.

    Attributes:
        token: the one whose step has blocked it; None for a hook, for code that is no token's, and if it was no single
            step, but many short ones in a row.
        seconds: how long the step had lasted when the watchdog looked; of many short ones, the whole row.
        stack: where the step was then, formatted as in a traceback; empty for many short ones.
    """

    token: Token[Any] | None
    seconds: float
    stack: str


class Watchdog(trio.abc.Instrument):
    """Looks from one loop at another.

    It notes each round of the loop that is watched, which costs some 100 ns a round, and looks at the notes from
    the other loop; not while the watched one sleeps. A round runs one step of each task that is ready, so a long one is
    no fault of the step that is seen last. While it goes on, the watchdog looks at the stack now and then, and names a
    step that is there at two looks with at least `threshold` seconds between them. A round in which there is no such
    step, but which lasts twice as long, is reported without a name: the loop has more to do than it can.

    Args:
        watched: the loop on which code may block.
        watching: the loop to look from.
        threshold: seconds that one step may take.
        publish: called with a `LoopBlocked` once for each step that takes longer, and for each long round without one.
        is_closing: tells whether all that runs is being ended, so that long rounds are to be expected.
    """

    def __init__(
        self,
        watched: TrioHost,
        watching: TrioHost,
        threshold: float,
        publish: Callable[[object], None],
        is_closing: Callable[[], bool] = lambda: False,
    ) -> None:
        self._watched = watched
        self._watching = watching
        self._threshold = threshold
        self._publish = publish
        self._is_closing = is_closing
        self._thread: int | None = None  # that runs the watched loop
        self._since: float | None = None  # start of its present round; None while it sleeps
        self._rounds = 0
        self._awake = False  # whether a task watches
        self._lock = threading.Lock()  # so that only one does

    def open(self) -> None:
        """Begin to watch."""
        self._watched.call_soon(self._attach)

    def _attach(self) -> None:
        self._thread = threading.get_ident()
        trio.lowlevel.add_instrument(self)

    def _wake(self) -> bool:
        """Tell whether the caller is the one to see that somebody watches."""
        with self._lock:
            woken, self._awake = not self._awake, True
        return woken

    # Called by the watched loop

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        self._since = None

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        # First the note, then the look; the watching task lies down first and then looks at the note.
        self._since = time.monotonic()
        self._rounds += 1
        if not self._awake and self._wake():
            self._watching.start_daemon(self._watch, "watchdog")

    # Runs on the watching loop

    async def _watch(self) -> None:
        looks = _Looks(0.0)
        rounds = -1
        while True:
            since = self._since
            if since is None and self._rounds == rounds:
                self._awake = False
                if self._since is None or not self._wake():
                    return
            rounds = self._rounds
            delay = self._threshold
            if since is not None:
                delay = since + self._threshold / _LOOKS - time.monotonic()
                if delay <= 0:
                    if since != looks.round:
                        looks = _Looks(since)
                    self._look(looks)
                    delay = self._threshold / _LOOKS
            await trio.sleep(delay)

    def _look(self, looks: _Looks) -> None:
        """Look at what the loop does in a round that goes on, and report what has lasted too long."""
        frame = sys._current_frames().get(self._thread or 0)
        now = time.monotonic()
        tokens = tokens_of(frame)
        steps: list[_Step] = [(token.id, token.steps) for token in tokens] or _call_of_no_token(frame)
        long = looks.lasting(steps, now - self._threshold)
        if long is not None:
            token = next((token for token in tokens if (token.id, token.steps) == long), None)
            stack = "".join(traceback.format_stack(frame))
            if self._since == looks.round:  # else the round has ended, and this may be the stack of another one
                self._report(token, now - looks.first_seen[long], stack)
                looks.told.add(long)
        elif not looks.told and now - looks.round >= 2 * self._threshold and not self._is_closing():
            looks.told.add((0, 0))
            seconds = now - looks.round
            _logger.warning(
                "the io loop has let other tasks wait for %.2f s, by many short steps in a row; it has more to do than "
                "one loop can: move what computes to cpu actors, or let fewer tokens run at once",
                seconds,
            )
            self._publish(LoopBlocked(None, seconds, ""))

    def _report(self, token: Token[Any] | None, seconds: float, stack: str) -> None:
        blocker = "code of no token" if token is None else token._describe()
        _logger.warning(
            "%s has blocked the io loop for %.2f s; code that blocks belongs in a cpu actor. It is here:\n%s",
            blocker,
            seconds,
            stack,
        )
        self._publish(LoopBlocked(token, seconds, stack))


class _Looks:
    """What was seen in one round of the loop.

    Args:
        round: when it began.
    """

    def __init__(self, round: float) -> None:
        self.round = round
        self.first_seen: dict[_Step, float] = {}  # {step that was there at every look since: when}
        self.told: set[_Step] = set()  # what has been reported

    def lasting(self, steps: list[_Step], then: float) -> _Step | None:
        """Take note of the steps that are on the stack, the innermost first; return one that was there at a time."""
        now = time.monotonic()
        self.first_seen = {step: self.first_seen.get(step, now) for step in steps}
        return next((step for step in steps if self.first_seen[step] <= then and step not in self.told), None)


def _call_of_no_token(frame: FrameType | None) -> list[_Step]:
    """Return the outermost call on a stack that is not of the runtime; nothing, if there is none."""
    found: list[_Step] = []
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if type(module) is not str or module.partition(".")[0] not in _RUNTIME:
            found = [(id(frame), frame.f_code)]
        frame = frame.f_back
    return found
