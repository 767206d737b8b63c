"""How long to wait before a restart: longer each time, until a child has been quiet for a while."""

from __future__ import annotations

import math

import attrs

from supervisors._exceptions import BadSpec


@attrs.frozen
class Backoff:
    """The delays before the restarts of one child: `min`, `min * factor`, `min * factor**2` and so on, up to `max`.

    Attributes:
        min: seconds before the first restart.
        max: seconds; no delay is longer, but for its jitter.
        factor: what each delay is multiplied by for the next one; at least 1.
        jitter: the part of a delay that is added at most, drawn anew each time, so that many children that crashed at
            once do not come back at once; 0 adds nothing.
        reset_after: seconds that the child must have run for its next restart to be the first one again; None takes
            `max`.

    Raises:
        BadSpec: a value that cannot work; the message names the field.
    """

    min: float = 0.1
    max: float = 30.0
    factor: float = 2.0
    jitter: float = 0.1
    reset_after: float | None = None

    def __attrs_post_init__(self) -> None:
        for field, least in (("min", 0.0), ("max", 0.0), ("factor", 1.0), ("jitter", 0.0), ("reset_after", 0.0)):
            value = getattr(self, field)
            if value is None and field == "reset_after":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < math.inf:
                raise BadSpec(f"backoff: {field} is {value!r}; it must be a number of at least {least:g}")
        if self.max < self.min:
            raise BadSpec(f"backoff: max is {self.max!r}, which is less than min, {self.min!r}")

    def delay(self, attempt: int, draw: float) -> float:
        """Return the seconds to wait before a restart.

        Args:
            attempt: 1 for the first restart, 2 for the next one, and so on.
            draw: a random number from 0 to 1, for the jitter.
        """
        try:
            delay = min(self.max, self.min * self.factor ** (attempt - 1))
        except OverflowError:
            delay = self.max
        return delay * (1 + self.jitter * draw)

    def resets(self, quiet: float) -> bool:
        """Return whether a child that ran for so many seconds starts again with the first delay."""
        return quiet >= (self.max if self.reset_after is None else self.reset_after)
