"""What a gate found when it closed."""

from __future__ import annotations

import attrs


@attrs.frozen
class ShutdownReport:
    """How a gate closed.

    Attributes:
        drained: whether all tokens that were live at the start came to their own end.
        terminated: tokens that were ended instead.
        abandoned: names of threads whose code did not end; their results go nowhere.
        gave_up: whether the root supervisor had given up before.
        seconds: how long it took.
    """

    drained: bool
    terminated: int
    abandoned: tuple[str, ...]
    gave_up: bool
    seconds: float

    @property
    def clean(self) -> bool:
        """Whether nothing was cut short and nothing was left behind."""
        return self.drained and not self.abandoned and not self.gave_up
