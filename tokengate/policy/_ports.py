"""Protocol of the policies of a gate, as the rules and the tokens of a place use them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from actors import Token
from actors.lowlevel import Reconciler, Throttles
from tokengate.policy._deadlines import Deadlines


class GatePolicies(Protocol):
    """What the places of a gate share."""

    @property
    def throttles(self) -> Throttles: ...

    @property
    def clock(self) -> Callable[[], float]: ...

    @property
    def deadlines(self) -> Deadlines: ...

    @property
    def reconciler(self) -> Reconciler: ...

    def inherit(self, token: Token[Any], deadline: float, /) -> None:
        """Have a new token end at a deadline, in seconds of the clock, unless nobody waits for its outcome."""
        ...
