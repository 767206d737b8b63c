"""The verbs for throttles."""

from __future__ import annotations

from tokengate.control import messages as m
from tokengate.control.api._question import Asker, Question, verb
from tokengate.control.messages import ThrottleRow


class ThrottleVerbs(Asker):
    """The verbs for throttles."""

    @verb
    def throttle(
        self, select: str, *, rate: float | None = None, concurrency: int | None = None
    ) -> Question[ThrottleRow]:
        """Limit how many tokens begin per second, or run at once, until `lift`.

        A second throttle with the same selector replaces the first.

        Args:
            select: which tokens; `*` for all.
            rate: tokens that may begin per second; above 0.
            concurrency: tokens that may run at once; at least 1.

        Raises:
            BadSelector: the selector cannot be read.
            BadRequest: no limit is given, or it is out of its range.
        """
        return Question(m.SetThrottle(select, rate=rate, concurrency=concurrency))

    @verb
    def lift(self, select: str) -> Question[tuple[ThrottleRow, ...]]:
        """End the throttle of a selector, or all throttles (`*`), and return those that were ended.

        Raises:
            BadSelector: the selector cannot be read.
        """
        return Question(m.Lift(select))

    @verb
    def throttles(self) -> Question[tuple[ThrottleRow, ...]]:
        """List the throttles."""
        return Question(m.Throttles())
