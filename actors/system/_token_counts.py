"""The tokens of a system: those that are live, how many have ended in which state, and the latest that failed."""

from __future__ import annotations

import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator
from itertools import count
from typing import Any

from actors.system._events import EndedToken
from actors.tokens._lifecycle import TokenState
from actors.tokens._token import Token

# Maximum number of remembered tokens that ended otherwise than completed.
_REMEMBERED = 1_000
# Tokens that the statistics count between two yields: a millisecond.
_COUNTED = 5_000


class TokenCounts:
    """The counts of tokens, a part of the system.

    A token that completes costs nothing here: how many were created follows from `ids`, and how many completed follows
    from the others.
    """

    def __init__(self) -> None:
        self.run = os.urandom(4).hex()  # what uids begin with
        self.ids = count(1)
        self.live: dict[int, Token[Any]] = {}  # {token id: token that has not ended}
        self.ended: deque[EndedToken] = deque(maxlen=_REMEMBERED)  # the latest that ended otherwise than completed
        self._uncompleted: Counter[TokenState] = Counter()  # how many tokens ended in each state but completed
        self._ids_skipped = 0  # ids that no token has
        self._counts_lock = threading.Lock()

    def note_uncompleted(self, token: Token[Any]) -> None:
        """Count, and remember for a while, a token that has just ended otherwise than completed."""
        if token.serves_operators:
            return  # a request to the runtime that was answered with an error
        state = token.state
        error = type.__dict__["__name__"].__get__(type(token._error))  # no code of a metaclass
        finished_at = token._place.system.clock() if token.finished_at is None else token.finished_at
        ended = EndedToken(token.id, token.operation, token.actor, state, error, finished_at)
        with self._counts_lock:
            self._uncompleted[state] += 1
            self.ended.append(ended)

    def remembers(self, token: Token[Any]) -> bool:
        """Tell whether a token is among the latest that ended otherwise than completed."""
        with self._counts_lock:
            return any(ended.id == token.id for ended in self.ended)

    def ended_lately(self) -> list[EndedToken]:
        """Return the latest tokens that ended otherwise than completed, the oldest first."""
        with self._counts_lock:
            return list(self.ended)

    def is_used(self, id: int) -> bool:
        """Tell whether a token has ever had this id, or a look at the counts, which uses ids up as well."""
        with self._counts_lock:
            return 0 < id < self._use_up_id()

    def _use_up_id(self) -> int:
        """Take the next id, which says how many were used; under the lock.

        This is the only way that costs the making of tokens nothing.
        """
        self._ids_skipped += 1
        return next(self.ids)

    def _count_in_parts(self, questions: Callable[[], int]) -> Generator[None, None, dict[TokenState, int]]:
        """Yield after each few thousand tokens that were counted; return how many are, or ended, in each state.

        Args:
            questions: returns how many tokens were requests to the runtime itself, which are left out.
        """
        with self._counts_lock:
            created = self._use_up_id() - self._ids_skipped
            uncompleted = dict(self._uncompleted)
            live = list(self.live.values())
        created -= questions()
        states: Counter[TokenState] = Counter()
        for start in range(0, len(live), _COUNTED):
            part = live[start : start + _COUNTED]
            states.update([token._end or token._phase for token in part if not token._place.serves_operators])
            yield
        tokens = dict.fromkeys(TokenState, 0)
        tokens.update(states)
        tokens.update(uncompleted)
        tokens[TokenState.COMPLETED] = max(0, created - states.total() - sum(uncompleted.values()))
        return tokens
