"""The life cycle of a token: its states, and one table of the transitions that are allowed."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from actors._exceptions import IllegalTransition


class TokenState(enum.StrEnum):
    """The state of a token; operators read and type these values."""

    CREATED = "created"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    TERMINATED = "terminated"
    EXPIRED = "expired"
    REJECTED = "rejected"


_S = TokenState

# {state: the states that may follow it}. A state that nothing follows is terminal.
TRANSITIONS: Final[Mapping[TokenState, tuple[TokenState, ...]]] = MappingProxyType(
    {
        # A direct call runs at once; everything else is queued, or refused: at the door, or at its turn by a policy.
        _S.CREATED: (_S.QUEUED, _S.RUNNING, _S.REJECTED, _S.TERMINATED),
        # One that another token runs for stays queued until that has ended, and ends as it does.
        _S.QUEUED: (_S.RUNNING, _S.PAUSED, _S.COMPLETED, _S.FAILED, _S.TERMINATED, _S.EXPIRED, _S.REJECTED),
        # Back to queued only for a retry. One that is not begun after all leaves the token failed.
        _S.RUNNING: (_S.COMPLETED, _S.FAILED, _S.TERMINATED, _S.EXPIRED, _S.PAUSED, _S.QUEUED),
        _S.PAUSED: (_S.RUNNING, _S.QUEUED, _S.TERMINATED, _S.EXPIRED),
        _S.COMPLETED: (),
        _S.FAILED: (),
        _S.TERMINATED: (),
        _S.EXPIRED: (),
        _S.REJECTED: (),
    }
)

TERMINAL: Final = frozenset(state for state, following in TRANSITIONS.items() if not following)


def check_transition(old: TokenState, new: TokenState) -> None:
    """Raise `IllegalTransition` unless the table allows a token to go from `old` to `new`."""
    if new not in TRANSITIONS[old]:
        allowed = ", ".join(TRANSITIONS[old]) or "none, it is terminal"
        raise IllegalTransition(f"a token cannot go from {old} to {new}; allowed: {allowed}")
