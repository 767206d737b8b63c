"""Estimators of the user, which may raise, be slow, or answer nonsense."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from numbers import Real
from typing import Final

import attrs

from tokengate.control._safe_text import class_name, value_in_words
from tokengate.predict._point import Answer, Point, log_of
from tokengate.predict._sample import Estimator, Sample, Target

SLOW: Final = 0.001
"""Seconds that a call may take."""
STRIKES: Final = 3
"""Calls that raise until it is switched off; or calls in a row that are slow, since any may once wait for its turn."""


class _Unfit(Exception):
    """An answer that is none."""


def _said(error: BaseException) -> str:
    """Return what an error says, whatever its class does when it is asked."""
    try:
        text = str(error)
    except BaseException:
        text = ""
    if type(error) is _Unfit:
        return text
    return f"it raised {class_name(type(error))}" + (f": {text}" if text else "")


class Own:
    """An estimator of the user, for all operations.

    Attributes:
        name: of its class.
        target: what it estimates.
        off: why it is switched off; empty: it is not.
    """

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator
        self.name = type(estimator).__name__
        self.target: Target = estimator.target
        self.off = ""
        self._raised = 0
        self._slow = {"learn": 0, "predict": 0}  # calls in a row

    @property
    def is_own(self) -> bool:
        """Whether to ask it runs code of the user."""
        return not self.off

    def learn(self, point: Point, log: float, _weight: int) -> bool:
        """Have it learn; return whether it did."""
        sample = attrs.evolve(point.sample, value=math.exp(log))
        return self._timed("learn", self._learn, sample) is not None

    def _learn(self, sample: Sample) -> float:
        self._estimator.learn(sample)
        return 0.0

    def predict(self, point: Point) -> float | None:
        """Return the log of what it expects; None: it does not know, is switched off, or has failed."""
        return self._timed("predict", self._predict, point.sample)

    def _predict(self, sample: Sample) -> float | None:
        value = self._estimator.predict(sample)
        if value is None:
            return None
        if isinstance(value, Real) and not isinstance(value, bool):
            number = float(value)  # exactly a float: what the user's class compares is not asked
            if 0 <= number < math.inf:
                return log_of(number)
        said = value_in_words(value)
        raise _Unfit(f"predict() gave {said}, which is no finite number of seconds or bytes from 0 on")

    def explained(self, point: Point) -> Answer | None:
        """Return the same, made from what it was given; what it did with that is not known."""
        log = self.predict(point)
        given = (("features", bool(point.names)), ("tags", bool(point.sample.tags)), ("operation", True))
        basis = tuple([name for name, there in given if there])
        return None if log is None else Answer(log, basis, dict)

    def widen(self, _operation: str) -> None:
        """Leave to it what it makes of changes."""

    def _timed(self, name: str, call: Callable[[Sample], float | None], sample: Sample) -> float | None:
        if self.off:
            return None
        began = time.perf_counter()
        try:
            found = call(sample)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise  # of a person, and not of the estimator
            self._raised += 1
            self._strike(self._raised, _said(error))
            return None
        took = time.perf_counter() - began
        self._slow[name] = self._slow[name] + 1 if took > SLOW else 0
        self._strike(self._slow[name], f"{name}() took {took * 1000:.1f} ms")
        return found

    def _strike(self, strikes: int, why: str) -> None:
        if strikes >= STRIKES:
            self.off = why
