"""The sink of the stream that learns from the records of attempts."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from tokengate.control.stream._record import FINISHED, RETRIED, Batch, Happening, More, Record, record_of
from tokengate.predict._models import Models
from tokengate.predict._retry_loops import RetryLoops
from tokengate.predict._sample import Attempt, Sample

_logger = logging.getLogger("tokengate.predict")

A_SECOND: Final = 2_000
"""Records that are learned from in a second; above that they are drawn evenly."""

_AT_ONCE: Final = 400  # records of a pass; one comes each 100 ms

_CUT: Final = ("terminated", "expired")
_OF_LIMITS: Final = ("LimitExceeded", "TokenTerminated", "TokenExpired", "TokenInterrupt")


class Learner:
    """Passes attempts on to the models.

    Args:
        run: the opening of the gate.
        models: learns of them.
        loops: the calls that fail again and again.
        chosen: returns those of some tags that are learned from.
        clock: of the gate.
        at_close: called at the end, after the last records.

    Attributes:
        lost: none ever is.
        busy_since: when the pass began that is under way, by the clock; None: none is.
        failed: class of the error that the latest pass has raised; empty: it has not.
    """

    name = "predict"

    def __init__(
        self,
        run: str,
        models: Models,
        loops: RetryLoops,
        chosen: Callable[[Any], Any],
        clock: Callable[[], float],
        at_close: Callable[[], object],
    ) -> None:
        self.lost = 0
        self.busy_since: float | None = None
        self.failed = ""
        self._run = run
        self._models = models
        self._loops = loops
        self._chosen = chosen
        self._clock = clock
        self._at_close = at_close
        self._looked = clock()
        self._left = float(_AT_ONCE)  # records that may be learned from at once

    def take(self, batch: Batch) -> None:
        """Learn from a batch; on the thread of the stream."""
        self.learn(batch.items)

    def learn(self, items: Sequence[Any]) -> None:
        """Learn from raw records, as many as a second may have."""
        self.busy_since = now = self._clock()
        try:
            if items:
                self._learn(items, now)
                self.failed = ""
        except Exception as error:
            if not self.failed:
                _logger.exception("prediction could not learn; tokens go on without it")
            self.failed = type(error).__name__
        finally:
            self.busy_since = None

    def _learn(self, items: Sequence[Any], now: float) -> None:
        found = [one for one in items if not isinstance(one, Happening) and one[17] in (FINISHED, RETRIED)]
        self._left = min(_AT_ONCE, self._left + (now - self._looked) * A_SECOND)
        self._looked = now
        for raw in found:
            note_loop(self._loops, raw[2], raw[10], raw[18])
        begun = [raw for raw in found if raw[13] is not None]
        each = max(1, math.ceil(len(begun) / max(1.0, self._left)))
        for raw in begun[::each]:
            self._left -= 1
            self._models.learn(attempt_of(record_of(raw, self._run, {}), self._chosen, each))

    def close(self, _seconds: float) -> str:
        """Have what was learned written; return what was not delivered: nothing."""
        self._at_close()
        return ""


def note_loop(loops: RetryLoops, operation: str, state: str, more: More | None) -> None:
    """Note how an attempt has ended, for those that find calls which fail again and again."""
    if state == "completed":
        loops.succeeded(operation, more.key if more else "")
    elif more is not None and more.error and not is_cut(state, more.error, more.reason):
        loops.failed(operation, more.key, more.error)


def is_cut(state: str, error: str, reason: str) -> bool:
    """Tell whether an operator, a rule, a deadline or a limit has ended an attempt, and not its own code."""
    return state in _CUT or error in _OF_LIMITS or reason in ("preempt", "snooze")


def attempt_of(record: Record, chosen: Callable[[Any], Any], weight: int = 1) -> Attempt:
    """Return what is learned of a record.

    Args:
        record: of an attempt.
        chosen: returns those of its tags that are learned from.
        weight: for how many records it stands, beside those that it stands for already.
    """
    more = record.more
    cut = is_cut(record.state, more.error, more.reason)
    failed = bool(more.error) and not cut and record.state != "completed"
    left = None
    if more.deadline is not None and record.started is not None:
        left = more.deadline - (record.started - record.created)
    sample = Sample(record.operation, record.affinity, record.priority, chosen(record.tags), more.features or {})
    return Attempt(
        sample,
        run=record.took,
        memory=None if more.memory is None else float(more.memory),
        error=more.error if failed else "",
        cut_short=cut,
        weight=record.weight * weight,
        left=left,
    )
