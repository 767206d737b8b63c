"""The report of a gate's shutdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import attrs

# `cut short`: its time was up, or `hurry` was called.
Outcome: TypeAlias = Literal["done", "cut short", "failed", "skipped"]


@attrs.frozen
class ShutdownReport:
    """How a gate closed.

    Attributes:
        stages: {`drain`, `undo`, `intake`, `tree` or `threads`: its outcome}, in their order; `undo` only if there were
            transactions.
        terminated: tokens that were ended before they could complete.
        abandoned: names of threads whose code did not end; their results are dropped.
        gave_up: whether the root supervisor had given up before.
        seconds: how long it took.
        uncompensated: what open transactions have done that was not undone: names of transactions and tokens.
    """

    stages: Mapping[str, Outcome]
    terminated: int
    abandoned: tuple[str, ...]
    gave_up: bool
    seconds: float
    uncompensated: tuple[str, ...] = ()

    @property
    def drained(self) -> bool:
        """Whether all tokens that were live at the start ended by themselves."""
        return self.stages.get("drain") == "done"

    @property
    def clean(self) -> bool:
        """Whether nothing was cut short and nothing was left behind."""
        return set(self.stages.values()) == {"done"} and not (self.abandoned or self.uncompensated or self.gave_up)
