"""The tokens that another token runs for: the run. They stand in no mailbox, and end as it does."""

from __future__ import annotations

import math
import threading
from collections.abc import Hashable
from typing import Any, Protocol

from actors import Token, TokenState
from actors.lowlevel import Waiter, place_of
from tokengate.policy._governed import Governed

Outcome = tuple[TokenState, Any, BaseException | None]


class Host(Protocol):
    """What makes, sends and ends the runs of a place."""

    @property
    def lock(self) -> threading.RLock:
        """Guards all joints of the place; a finalizer that runs under it may end a token, or send one."""
        ...

    def make_run(self, joint: Joint, first: Token[Any], /) -> Token[Any]:
        """Return the token that runs for others, made like the first one of them, not sent yet."""
        ...

    def send_later(self, run: Token[Any], /) -> None:
        """Send a run, on the system loop."""
        ...

    def end_run(self, joint: Joint, state: TokenState, /) -> None:
        """End a run for which nobody waits any more; the last one that did has ended in this state."""
        ...

    def forget(self, joint: Joint, /) -> None:
        """Let no further token join; under the lock."""
        ...


class Joint(Waiter):
    """The tokens that one token runs for; a done callback of that one.

    Args:
        host: of the place.
        key: under which tokens join, while it is known there.
        first: the first one of them, which is still to be added.

    Attributes:
        run: the token that runs for them.
        members: those that have not ended, in the order in which they joined.
        until: when the last deadline of them is over, in seconds of the clock.
        given_up: whether the run was asked to end, since none was left.
        is_over: whether the run has ended; then none joins.
    """

    __slots__ = ("_host", "given_up", "is_over", "key", "members", "run", "until")

    def __init__(self, host: Host, key: Hashable, first: Token[Any]) -> None:
        self._host = host
        self.key = key
        self.members: dict[Token[Any], None] = {}
        self.until = -math.inf
        self.given_up = self.is_over = False
        self.run = host.make_run(self, first)

    def add(self, token: Token[Any], deadline: float | None) -> None:
        """Have the run run for a token, too; under the lock."""
        token._phase = TokenState.QUEUED
        token.queued_at = token.created_at
        self.members[token] = None
        self.until = max(self.until, math.inf if deadline is None else deadline)

    def remove(self, token: Token[Any]) -> bool:
        """Take a token out; return whether it was here: then the caller is to end it."""
        with self._host.lock:
            if token not in self.members:
                return False
            del self.members[token]
            return True

    def note_end(self, token: Token[Any], state: TokenState) -> None:
        """Note that a token has ended; the run is to end if it was the last one."""
        with self._host.lock:
            self.members.pop(token, None)
            if self.members or self.is_over or self.given_up:
                return
            self.given_up = True
        self._host.end_run(self, state)

    def __call__(self, run: Any, /) -> None:
        """End the tokens, since their run has ended; another one runs for those that came after it was given up."""
        host = self._host
        with host.lock:
            if run is not self.run:
                return
            again = self.given_up and bool(self.members)
            if again:
                self.given_up = False
                self.run = host.make_run(self, next(iter(self.members)))
            else:
                self.is_over = True
                host.forget(self)
            members = () if again else tuple(self.members)
        if again:
            host.send_later(self.run)
        for token in members:
            self._end(token, run)

    def _end(self, token: Token[Any], run: Token[Any]) -> None:
        state, value, error = self.outcome_of(token)
        policy, own = run._extras.policy, token._extras.policy
        if isinstance(policy, Governed) and isinstance(own, Governed):
            own.reason, own.records, own.uid = policy.reason, policy.attempts_of(run), run.id
        if state is TokenState.REJECTED and error is not None:
            place_of(token).reject(token, error)
        else:
            token._finish(state, value, error)

    def outcome_of(self, token: Token[Any]) -> Outcome:  # noqa: ARG002
        """Return how a token ends, since its run has ended."""
        run = self.run
        return run.state, run._value, run._error
