"""A watchdog of the io loop: names the code that blocks it, and with it every other io actor."""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import attrs
import trio

from actors._frames import token_of
from actors._token import Token
from actors._trio_host import TrioHost

_logger = logging.getLogger("tokengate.actors")


@attrs.frozen
class LoopBlocked:
    """Event: code on the io loop has let nobody else run for too long.

    Attributes:
        token: the one whose step it is; None for a hook, or code that is nobody's.
        seconds: how long it had been at it when the watchdog looked.
        stack: where it was then, formatted as in a traceback.
    """

    token: Token[Any] | None
    seconds: float
    stack: str


class Watchdog(trio.abc.Instrument):
    """Looks from one loop at another.

    It notes each round of the loop that is watched, which costs some 100 ns a round, and looks at the notes from
    the other loop once in `threshold` seconds; not while the watched one sleeps.

    Args:
        watched: the loop on which code may block.
        watching: the loop to look from.
        threshold: seconds that one round may take.
        publish: called with a `LoopBlocked` once for each round that takes longer.
    """

    def __init__(
        self, watched: TrioHost, watching: TrioHost, threshold: float, publish: Callable[[object], None]
    ) -> None:
        self._watched = watched
        self._watching = watching
        self._threshold = threshold
        self._publish = publish
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
        reported: float | None = None
        rounds = -1
        while True:
            since = self._since
            if since is None and self._rounds == rounds:
                self._awake = False
                if self._since is None or not self._wake():
                    return
            rounds = self._rounds
            delay = self._threshold
            if since is not None and since != reported:
                delay = since + self._threshold - time.monotonic()
                if delay <= 0:
                    reported = since
                    self._report(since)
                    delay = self._threshold
            await trio.sleep(delay)

    def _report(self, since: float) -> None:
        frame = sys._current_frames().get(self._thread or 0)
        token = token_of(frame)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        if self._since != since:
            return  # the round has ended, so this may be the stack of another one
        seconds = time.monotonic() - since
        blocker = "code of no token" if token is None else token._describe()
        _logger.warning(
            "%s has blocked the io loop for %.2f s; code that blocks belongs in a cpu actor. It is here:\n%s",
            blocker,
            seconds,
            stack,
        )
        self._publish(LoopBlocked(token, seconds, stack))
