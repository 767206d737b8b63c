"""The verbs for throttles: how many tokens of a selector may begin per second, or run at once."""

from __future__ import annotations

from actors import ActorSystem
from actors.lowlevel import Throttle
from tokengate.control import messages as m
from tokengate.control._exceptions import BadRequest
from tokengate.control.inspection._selector import Selector, parse


class ThrottleVerbs:
    """The verbs for the throttles of a system, including those that an earlier control actor has set.

    Args:
        system: the system.
    """

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._throttles = {one.name: one for one in system.throttles.all()}  # {selector in its normal form: throttle}

    async def throttle(self, message: m.SetThrottle) -> m.ThrottleRow:
        selector = _selector(message.select)
        rate, most = message.rate, message.concurrency
        if rate is None and most is None:
            raise BadRequest("a throttle needs a rate (tokens per second) or a concurrency; 'lift' ends one")
        clock = self._system.clock
        # The test is called when a token begins, or when its tags change.
        new = Throttle(selector.text, lambda token: selector.matches(token, clock()), rate, most)
        self._system.throttle(new)  # the new one first, so that no token begins in between
        old = self._throttles.pop(selector.text, None)
        if old is not None:
            self._system.unthrottle(old)
        self._throttles[selector.text] = new
        return _row(new)

    async def lift(self, message: m.Lift) -> tuple[m.ThrottleRow, ...]:
        every = message.select.strip() == "*"
        text = "" if every else _selector(message.select).text
        lifted = []
        for name, throttle in list(self._throttles.items()):
            if every or name == text:
                del self._throttles[name]
                lifted.append(_row(throttle))
                self._system.unthrottle(throttle)
        return tuple(lifted)

    async def throttles(self, _message: m.Throttles) -> tuple[m.ThrottleRow, ...]:
        return tuple(_row(throttle) for throttle in self._throttles.values())


def _selector(text: str) -> Selector:
    if not text.strip():
        raise BadRequest("a throttle needs a selector; '*' selects all tokens")
    return parse(text)


def _row(throttle: Throttle) -> m.ThrottleRow:
    running, waiting = len(throttle.let), len(throttle.waiting)
    return m.ThrottleRow(throttle.name, throttle.rate, throttle.concurrency, running, waiting)
