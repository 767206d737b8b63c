"""Protocol of the policies of a gate, as the rules and the tokens of a place use them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from actors import Reply, Token, TokenState
from actors.lowlevel import Place, Reconciler, Throttles
from tokengate.policy._attempt import End
from tokengate.policy._deadlines import Deadlines
from tokengate.policy._flags import Flag
from tokengate.policy._rules import BudgetRule
from tokengate.policy._states import States
from tokengate.policy._values import Key

SharedBudgets: TypeAlias = dict[tuple[str, float, float, Key | None], States[BudgetRule]]
"""{name, limit, period and key of a budget: what is used of it}."""


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

    def governor_of(self, place: Place, /) -> Any:
        """Return the `PlaceRules` of a place; made if it has none."""
        ...

    def beside(self, place: Place, /) -> Place:
        """Return the place where fallbacks for the tokens of a process operation run."""
        ...

    @property
    def budgets(self) -> SharedBudgets: ...

    @property
    def flags(self) -> Sequence[Flag]: ...

    def publish(self, event: object, /) -> None:
        """Publish an event; without locks."""
        ...

    @property
    def has_shared_at_once(self) -> bool:
        """Whether there are throttles with selectors for which tokens do not wait."""
        ...

    def inherit(self, token: Token[Any], deadline: float, /) -> None:
        """Have a new token end at a deadline, in seconds of the clock, unless nobody waits for its outcome."""
        ...


class TransactionLog(Protocol):
    """What keeps durable transactions on disk; in what it writes, the order of the calls is kept.

    Steps are members, or what earlier runs of the gate have left of some; see `Transaction`.
    """

    def begin(self, transaction: Any, /) -> Any:
        """Have a new transaction written; return it, or that of an earlier run which its owner goes on with."""
        ...

    def check(self, token: Any, undo: Any | None, /) -> None:
        """Raise `NotDurable` if a token cannot be a member, since it, or what undoes it, is not durable."""
        ...

    def roll_back(self, transaction: Any, /) -> None:
        """Have it written that a transaction is rolled back: the next opening goes on with that."""
        ...

    def release(self, members: Sequence[Any], /) -> None:
        """Have the keys given up by which the owner would find members again that the rollback has ended."""
        ...

    def wait(self) -> None:
        """Wait until all that it was told is on disk."""
        ...

    def undo(self, transaction: Any, step: Any, tags: Mapping[str, str], /) -> Token[Any]:
        """Return the token of a compensation, sent once for a step; again, if it has failed and that is repeated.

        Raises:
            TokenGateError: it cannot run here, or the journal cannot write.
        """
        ...

    def undone(self, transaction: Any, step: Any, /, *, skipped: bool = False) -> None:
        """Have it written that a step is undone, or is not to be."""
        ...

    def end(self, transaction: Any, /) -> Reply[Any]:
        """Have a transaction forgotten: it is done, or undone; the reply is set when that is on disk."""
        ...


class TransactionMember(Protocol):
    """What a transaction keeps of a token; it is told what the token's code does, but not of a fallback."""

    def move(self, place: Place, /) -> None:
        """Note that the token is at another place from now on."""
        ...

    def join(self, joint: Any, /) -> None:
        """Note that another token runs for it and others."""
        ...

    def begin(self) -> None:
        """Note that an attempt begins."""
        ...

    def end(self, how: End, /) -> None:
        """Note that an attempt has ended; under the lock of `Throttles`."""
        ...

    def note_return(self, state: TokenState, value: Any, /) -> None:
        """Note that code has returned whose token had ended before, with the outcome if it completed."""
        ...
