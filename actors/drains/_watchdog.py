"""The watchdog of a loop: names the code that blocks the loop, and with it all other tokens there."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import traceback
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, TypeAlias

import attrs
import trio

from actors.concurrency._loop_host import LoopHost
from actors.concurrency._thread_frames import frames_from, thread_frames
from actors.concurrency._trio_host import TrioHost
from actors.steps._frames import tokens_of
from actors.tokens._token import Token

# Number of looks per `threshold` seconds during a round of the loop.
_LOOKS = 4

# Top-level modules that call code which may block, and do not block by themselves.
_RUNTIME = frozenset(
    (
        "abc",
        "actors",
        "asyncio",
        "attr",
        "contextlib",
        "outcome",
        "supervisors",
        "threading",
        "tokengate",
        "trio",
        "weakref",
    )
)

# A step of a token (its id, number of the step), or a call outside of tokens (id of its frame, the code).
_Step: TypeAlias = tuple[int, int | CodeType]

_logger = logging.getLogger("tokengate.actors")


@attrs.frozen
class LoopBlocked:
    """Event: the io loop, or the asyncio loop, kept other tasks waiting for too long.

    Attributes:
        token: the token with the step that blocked it; None for a hook, for other code outside of tokens, and for many
            short steps in a row.
        seconds: how long the step had lasted when the watchdog looked; of many short ones, the whole row.
        stack: where the step was then, formatted as in a traceback; empty for many short ones.
        loop: `io` or `asyncio`.
    """

    token: Token[Any] | None
    seconds: float
    stack: str
    loop: str = "io"


class Watchdog(trio.abc.Instrument):
    """Watches one loop from another.

    The watched loop records the start of each of its rounds, which costs some 100 ns a round; the other loop reads
    that, except while the watched one sleeps. A round runs one step of each ready task, so the step that is seen last
    is not the cause of a long round. During a round, the watchdog samples the stack, and names a step that is there in
    all samples of `threshold` seconds. A round without such a step that lasts twice as long is reported without a name:
    the loop is overloaded. Samples are counted, not seconds: nobody is to blame for the time in which the whole process
    is stopped.

    Args:
        watched: the loop on which code may block.
        watching: the loop that runs the watchdog.
        threshold: seconds that one step may take.
        publish: called with a `LoopBlocked` once for each step that takes longer, and for each long round without one.
        is_closing: tells whether the system is closing, so that long rounds are to be expected.
    """

    _loop = "io"

    def __init__(
        self,
        watched: LoopHost,
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
        self._thread: int | None = None  # ident of the watched loop's thread
        self._since: float | None = None  # start of its present round; None while it sleeps
        self._rounds = 0
        self._awake = False  # whether a task watches
        self._lock = threading.Lock()  # so that only one task watches

    def open(self) -> None:
        """Begin to watch."""
        self._watched.call_soon(self._attach)

    def busy_since(self) -> float | None:
        """Return when the present round of the loop began, in seconds of `time.monotonic`; None while it sleeps."""
        return self._since

    def _attach(self) -> None:
        self._thread = threading.get_ident()
        trio.lowlevel.add_instrument(self)
        self.after_io_wait(0.0)  # calls that came with this one run in the same round

    def _wake(self) -> bool:
        """Tell whether the caller has to start the watching task."""
        with self._lock:
            woken, self._awake = not self._awake, True
        return woken

    # Called by the watched loop

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        self._since = None

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        # Set `_since`, then check `_awake`; the watching task clears `_awake`, then checks `_since`.
        self._since = time.monotonic()
        self._rounds += 1
        if not self._awake and self._wake():
            self._watching.start_daemon(self._watch, "watchdog")

    # Runs on the watching loop

    async def _watch(self) -> None:
        looks = _Looks(0.0)
        rounds = -1
        while True:
            if not self._watched.runs:
                self._since = None  # it has stopped in the middle of a round
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
        """Sample the stack of the loop during a round, and report a step that has lasted too long."""
        frame = thread_frames().get(self._thread or 0)
        now = time.monotonic()
        tokens = tokens_of(frame)
        steps: list[_Step] = [(token.id, token.steps) for token in tokens] or _call_of_no_token(frame)
        long = looks.lasting(steps)
        if long is not None:
            token = next((token for token in tokens if (token.id, token.steps) == long), None)
            lines = [(each, each.f_lineno) for each in frames_from(frame)]
            stack = "".join(traceback.StackSummary.extract(reversed(lines)).format())
            if self._since == looks.round:  # else the round has ended, and the stack may be of another one
                self._report(token, now - looks.first_seen[long][1], stack)
                looks.told.add(long)
        elif not looks.told and looks.number >= 2 * _LOOKS and not self._is_closing():
            looks.told.add((0, 0))
            seconds = now - looks.round
            _logger.warning(
                "the %s loop has let other tasks wait for %.2f s, by many short steps in a row; it has more to do than "
                "one loop can: move what computes to cpu actors, or let fewer tokens run at once",
                self._loop,
                seconds,
            )
            self._publish(LoopBlocked(None, seconds, "", self._loop))

    def _report(self, token: Token[Any] | None, seconds: float, stack: str) -> None:
        blocker = "code of no token" if token is None else token._describe()
        _logger.warning(
            "%s has blocked the %s loop for %.2f s; code that blocks belongs in a cpu actor. It is here:\n%s",
            blocker,
            self._loop,
            seconds,
            stack,
        )
        self._publish(LoopBlocked(token, seconds, stack, self._loop))


class AsyncioWatchdog(Watchdog):
    """Watches a loop of asyncio that waits in a selector, as asyncio's own do on Unix (uvloop's do not)."""

    _loop = "asyncio"

    def _attach(self) -> None:
        self._thread = threading.get_ident()
        selector: Any = getattr(asyncio.get_running_loop(), "_selector", None)
        if selector is None:
            return
        plain = selector.select

        def select(timeout: float | None = None) -> Any:
            if not self._watched.runs:
                if selector.__dict__.get("select") is select:
                    del selector.select
                return plain(timeout)
            self.before_io_wait(0.0)
            try:
                return plain(timeout)
            finally:
                self.after_io_wait(0.0)

        selector.select = select


class _Looks:
    """The samples of one round of the loop.

    Args:
        round: when it began.

    Attributes:
        number: of samples so far.
        first_seen: {step that was in each sample since: number and time of the first one}.
        told: steps that have been reported.
    """

    def __init__(self, round: float) -> None:
        self.round = round
        self.number = 0
        self.first_seen: dict[_Step, tuple[int, float]] = {}
        self.told: set[_Step] = set()

    def lasting(self, steps: list[_Step]) -> _Step | None:
        """Add a sample (steps on the stack, the innermost first); return a step that was in enough of them, if any."""
        self.number += 1
        first = self.number, time.monotonic()
        self.first_seen = {step: self.first_seen.get(step, first) for step in steps}
        then = self.number - _LOOKS
        return next((step for step in steps if self.first_seen[step][0] <= then and step not in self.told), None)


def _call_of_no_token(frame: FrameType | None) -> list[_Step]:
    """Return the outermost call on a stack outside of the runtime, in a list; an empty list if there is none."""
    found: list[_Step] = []
    for each in frames_from(frame):
        module = each.f_globals.get("__name__")
        if type(module) is not str or module.partition(".")[0] not in _RUNTIME:
            found = [(id(each), each.f_code)]
    return found
