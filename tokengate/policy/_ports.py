"""Protocol of the policies of a gate, as the rules and the tokens of a place use them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from actors import Token, TokenState
from actors.lowlevel import Place, Reconciler, Throttles
from tokengate.policy._attempt import End
from tokengate.policy._deadlines import Deadlines
from tokengate.policy._policy import Budget
from tokengate.policy._rules import BudgetRule
from tokengate.policy._states import States


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

    def beside(self, place: Place, /) -> Place:
        """Return the place where fallbacks for the tokens of a process operation run."""
        ...

    def budget(self, budget: Budget, /) -> States[BudgetRule]:
        """Return what is used of a budget, by key; budgets of one name, limit and period share it."""
        ...

    @property
    def has_shared_at_once(self) -> bool:
        """Whether there are throttles with selectors for which tokens do not wait."""
        ...

    def inherit(self, token: Token[Any], deadline: float, /) -> None:
        """Have a new token end at a deadline, in seconds of the clock, unless nobody waits for its outcome."""
        ...

    def publish(self, event: object, /) -> None:
        """Publish an event; without locks."""
        ...


class TransactionMember(Protocol):
    """What a transaction keeps of a token; it is told what the token's code does, but not of a fallback."""

    def begin(self) -> None:
        """Note that an attempt begins."""
        ...

    def end(self, how: End, /) -> None:
        """Note that an attempt has ended; under the lock of `Throttles`."""
        ...

    def note_return(self, state: TokenState, value: Any, /) -> None:
        """Note that code has returned whose token had ended before, with the outcome if it completed."""
        ...
