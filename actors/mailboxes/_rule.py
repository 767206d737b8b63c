"""What keeps tokens from beginning: a limit that gives grants, of which each attempt of a token needs one."""

from __future__ import annotations

import abc
import enum
import math
from typing import Any

from actors.tokens._token import Token


class Verdict(enum.Enum):
    """What is decided about a token at its turn."""

    BEGINS = enum.auto()
    WAITS = enum.auto()  # until its rules let it go
    REFUSED = enum.auto()


# To look up a member of an enum takes CPython 3.11 as long as to ask about a token.
BEGINS, WAITS, REFUSED = Verdict.BEGINS, Verdict.WAITS, Verdict.REFUSED


class Rule(abc.ABC):
    """Base of limits. All methods are quick, run no user code, and are called under the lock of `Throttles`.

    For each attempt: `due_at`, until that time has come; `grant`; `begin`; then `end` when its code has ended; or
    `give_back` in the place of the last two, if it has never begun.

    Attributes:
        waiting: tokens that are kept back, by this rule or by another one.
        blocked: heap of the queues that stand here; `Throttles` keeps it.
        alarm_at: when these are looked at next; `inf` when a token has to end first.
    """

    __slots__ = ("alarm_at", "blocked", "waiting")

    def __init__(self) -> None:
        self.waiting: set[Token[Any]] = set()
        self.blocked: list[Any] = []
        self.alarm_at = math.inf

    @property
    def at_once(self) -> bool:
        """Whether no token waits for it: tokens have its grant from the door until their attempt ends."""
        return False

    @abc.abstractmethod
    def due_at(self, token: Token[Any], now: float, /) -> float:
        """Return when a token may begin, in seconds of the clock; `inf` when another one has to end first."""

    @abc.abstractmethod
    def grant(self, token: Token[Any], now: float, /) -> None:
        """Let a token begin; it is due."""

    def count(self, token: Token[Any], now: float, /) -> None:
        """Count a token that has begun, or is about to, as the rule comes."""
        self.grant(token, now)

    def begin(self, token: Token[Any], now: float, /) -> None:  # noqa: B027  # most count a token by its grant
        """Note that the code of a token with a grant begins."""

    @abc.abstractmethod
    def give_back(self, token: Token[Any], now: float, /) -> None:
        """Take back the grant of a token that has not begun."""

    @abc.abstractmethod
    def note_waits(self, token: Token[Any], waits: bool, /) -> None:
        """Note that a token with a grant waits for another token, and so does not count; or that it goes on."""

    @abc.abstractmethod
    def end(self, token: Token[Any], now: float, /) -> None:
        """End the grant of a token that had begun."""
