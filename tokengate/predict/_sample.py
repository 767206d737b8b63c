"""Samples and attempts: what is learned from, and the protocol of estimators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol, TypeAlias

import attrs

Target: TypeAlias = Literal["run", "memory"]
"""What is estimated: seconds that a call runs, or bytes that it needs at its peak."""


@attrs.frozen
class Sample:
    """What is known of a call before it runs.

    Attributes:
        operation: its name.
        affinity: where it runs.
        priority: of its token.
        tags: those that are learned from, {name: value}.
        features: {name: finite number}.
        value: seconds or bytes that it took; None unless it is to be learned.
    """

    operation: str
    affinity: str = ""
    priority: int = 0
    tags: Mapping[str, str] = attrs.field(factory=dict)
    features: Mapping[str, float] = attrs.field(factory=dict)
    value: float | None = None


class Estimator(Protocol):
    """An estimator of the user. It is asked on any thread, and learns on one.

    Attributes:
        target: what it estimates.
    """

    target: Target

    def learn(self, sample: Sample, /) -> object:
        """Learn of a call that has ended; `sample.value` is what it took."""

    def predict(self, sample: Sample, /) -> float | None:
        """Return the median that is expected of a call; None: not known."""


class Attempt(NamedTuple):
    """What became of a call.

    Attributes:
        sample: what was known of it before.
        run: seconds that it ran; None: it never began.
        memory: bytes at its peak; None: not known.
        error: the class of the error it failed with; empty: it did not fail.
        cut_short: an operator, a rule, a deadline or a limit has ended it.
        weight: the number of calls that it stands for.
        left: seconds to its deadline when it began; None: it had none.
    """

    sample: Sample
    run: float | None
    memory: float | None = None
    error: str = ""
    cut_short: bool = False
    weight: int = 1
    left: float | None = None

    @property
    def late(self) -> bool | None:
        """Whether it missed its deadline; None: it had none, or was ended before that could be seen."""
        if self.left is None or self.run is None:
            return None
        return True if self.run >= self.left else None if self.cut_short else False
