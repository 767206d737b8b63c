"""Yield points: where a call can be stopped and ended, between two steps of a generator and in `checkpoint()`."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable, Generator
from threading import get_ident
from typing import Any, Final

from . import _shared_page
from ._connection import Connection
from ._exceptions import TokenInterrupt
from ._yields import refuse_yield

_logger = logging.getLogger("tokengate.actors")

_STEPS: Final = _shared_page.STEPS
_CANCEL: Final = _shared_page.CANCEL
_STOP_CALL: Final = _shared_page.STOP_CALL


class YieldPoints:
    """Counts the steps of the running call, and stops or ends the call where the gate demands it.

    Args:
        connection: to the gate.
        stop: stops this process.
    """

    def __init__(self, connection: Connection, stop: Callable[[], object]) -> None:
        self.number = 0  # of the running call; 0 outside of any
        self.generator: Generator[Any, Any, Any] | None = None  # that runs, step by step
        self.plain = True  # whether the call is of a plain function
        self._connection = connection
        self._word = connection.page.word
        self._stop = stop
        self.thread = get_ident()  # the one that runs the calls

    def in_call(self) -> bool:
        """Tell whether the calling code is that of a call, on the thread that runs the calls."""
        return self.number != 0 and get_ident() == self.thread

    def cancelled(self) -> bool:
        """Tell whether the running call is to end."""
        return self._word[_CANCEL] == self.number

    def checkpoint(self) -> None:
        """Be a yield point of the calling code.

        Raises:
            TokenInterrupt: the call is to end.
        """
        if not self.in_call():
            return
        word = self._word
        self._wait()
        if word[_CANCEL] == self.number:
            raise TokenInterrupt("the token was asked to end")
        # In a generator its own steps count, unless an operator steps it: then each yield point counts.
        if self.plain or word[_STOP_CALL] == self.number:
            word[_STEPS] += 1

    def take_all(self, steps: Generator[Any, Any, Any], context: contextvars.Context) -> Any:
        """Run a generator to its end, each step in its context; return what it returns.

        Raises:
            TokenInterrupt: the call was ended between two steps; the generator is closed.
            BaseException: the error of a step.
        """
        word, number, run = self._word, self.number, context.run
        self.plain = False
        self.generator = steps
        word[_STEPS] = 0  # creating the generator does not count
        try:
            while True:
                if word[_STOP_CALL] == number or word[_shared_page.OUTBOX]:
                    self._wait()
                if word[_CANCEL] == number:
                    self._close(steps, context)
                    raise TokenInterrupt("the token was asked to end")
                word[_STEPS] += 1
                value = run(next, steps)
                if value is not None:
                    run(refuse_yield, steps, value)
        except StopIteration as stop:
            return stop.value
        finally:
            self.generator = None

    def _close(self, steps: Generator[Any, Any, Any], context: contextvars.Context) -> None:
        """Close a generator in its context, which runs its `finally` blocks."""
        try:
            context.run(steps.close)
        except BaseException:
            _logger.exception("%r raised while it was closed", steps)

    def _wait(self) -> None:
        """Stop this process while the gate demands that the call stops here."""
        self._connection.flush_if_due()
        word, number = self._word, self.number
        if not self._is_held():
            return
        self._connection.flush()  # results of earlier calls are not to wait as well
        while self._is_held():
            word[_shared_page.STOPPED] = number
            # Written first, then checked again: a gate that lets it go either sees STOPPED, or is seen by this check.
            if self._is_held():
                self._stop()
        word[_shared_page.STOPPED] = 0

    def _is_held(self) -> bool:
        word = self._word
        return word[_STOP_CALL] == self.number and word[_STEPS] >= word[_shared_page.STOP_AT] and not self.cancelled()
