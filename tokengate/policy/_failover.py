"""Which of several operations a call is tried at: when the next one follows, and which is the least busy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from actors import MailboxFull, TokenRejected
from tokengate.policy._attempt import End
from tokengate.policy._policy import Policy, Retry
from tokengate.policy._retry import why_final

if TYPE_CHECKING:
    from tokengate.policy._place_rules import PlaceRules

REFUSALS: Final = ("breaker", "throttle", "overload")
"""Reasons of refusals after which the next alternative is tried; the others hold there, too."""


def fails_over(retry: Retry | None, end: End, error: BaseException, idempotent: bool) -> bool:
    """Tell whether the next alternative follows an attempt after which no other one follows where it was.

    It follows the errors after which a retry may: those in `Retry.on`; unknown outcomes, if that does no harm.

    Args:
        retry: of the policy there; None: it names no errors.
        end: how the attempt ended.
        error: what it ended with.
        idempotent: whether the operation is.
    """
    if retry is None:
        return idempotent and end in (End.LOST, End.TIMED_OUT)
    return why_final(retry, end, error, idempotent) is None


def by_load(loads: Sequence[tuple[int, int]]) -> list[int]:
    """Return the indices of alternatives, the least busy one first; of equals, the one that is named first.

    Args:
        loads: of each: tokens that are queued or run, and how many may run at once.
    """
    return sorted(range(len(loads)), key=lambda index: loads[index][0] / loads[index][1])


@attrs.frozen
class Alternative:
    """An operation at which a call can be tried.

    Attributes:
        rules: of its place.
        operation: its name.
        call: the function that runs there.
        own: what the call is held to there, beside what all calls are; None: nothing.
    """

    rules: PlaceRules
    operation: str
    call: Callable[..., Any]
    own: Policy | None

    @property
    def policy(self) -> Policy:
        """What the call is held to there, as long as it is at its first alternative."""
        return self.rules.policy if self.own is None else self.rules.policy_with(self.own)


def with_deadline(policy: Policy, deadline: float | None) -> Policy:
    """Return a policy with another deadline."""
    return policy if policy.deadline == deadline else attrs.evolve(policy, deadline=deadline)


class Alternatives:
    """The alternatives of a token at which it was not tried yet; false when none is left.

    Args:
        left: these, in their order.
        deadline: seconds that the token has, wherever it is; None: any number.
        at_door_only: whether it is tried there only if it is refused at the door.

    Attributes:
        attempts_before: attempts that were not at the alternative that the token is at.
    """

    __slots__ = ("_left", "at_door_only", "attempts_before", "deadline")

    def __init__(self, left: Iterable[Alternative], deadline: float | None, at_door_only: bool) -> None:
        self._left = list(left)
        self.deadline = deadline
        self.at_door_only = at_door_only
        self.attempts_before = 0

    def __bool__(self) -> bool:
        return bool(self._left)

    def for_run(self) -> Alternatives:
        """Return those of a token that runs for tokens like this one, whose deadlines are theirs."""
        return Alternatives(self._left, None, self.at_door_only)

    def next(self, attempts: int) -> tuple[Alternative, Policy]:
        """Return the next alternative, and what the token is held to there.

        Args:
            attempts: how many there were so far.
        """
        self.attempts_before = attempts
        chosen = self._left.pop(0)
        return chosen, with_deadline(chosen.policy, self.deadline)


def refusal_of(error: BaseException) -> str:
    """Return the rule that has refused a token, if it may be tried elsewhere; else an empty text."""
    if isinstance(error, MailboxFull):
        return "overload"
    return error.reason if isinstance(error, TokenRejected) and error.reason in REFUSALS else ""
