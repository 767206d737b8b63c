"""The states of the rows of tokens."""

from __future__ import annotations

from typing import Final

from actors import TokenState

DELAYED: Final = 0  # due later
QUEUED: Final = 1
BEGUN: Final = 2
PARKED: Final = 3  # its operation is unknown here, or its arguments do not fit
COMPLETED: Final = 4
FAILED: Final = 5
TERMINATED: Final = 6
EXPIRED: Final = 7
REJECTED: Final = 8

PREEMPTED: Final = "preempt"
"""The reason of a row that has not ended, and of whose attempts one was ended for another one."""

DEATHS: Final = 3
"""Of processes in which a token had begun; then it does not run again."""

STATE_OF: Final = {
    TokenState.COMPLETED: COMPLETED,
    TokenState.FAILED: FAILED,
    TokenState.TERMINATED: TERMINATED,
    TokenState.EXPIRED: EXPIRED,
    TokenState.REJECTED: REJECTED,
}
"""{state of a token: that of its row}; the ended ones."""

TOKEN_STATE: Final = {row: state for state, row in STATE_OF.items()}

NAMES: Final = ("delayed", "queued", "begun", "parked", "completed", "failed", "terminated", "expired", "rejected")
"""Names of the states, by number."""
