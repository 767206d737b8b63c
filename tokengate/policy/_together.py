"""The tokens of one batch, and the rule that counts each of them for the rate of a throttle."""

from __future__ import annotations

from typing import Any

from actors import Token, TokenState
from actors.lowlevel import NO_KWARGS
from tokengate.policy._batch import Filling, results_of
from tokengate.policy._joint import Host, Joint, Outcome
from tokengate.policy._place_rules import Keys
from tokengate.policy._policy import Batch


class Together(Joint):
    """The tokens of a batch.

    Args:
        host: of the place.
        slot: of the batch among those that are open.
        first: its first token.
        batch: its limits.
        now: the time.

    Attributes:
        filling: how full it is.
        calls: {token: its keys, its argument}, of each that has joined.
    """

    __slots__ = ("_results", "_sent", "calls", "filling")

    def __init__(self, host: Host, slot: Any, first: Token[Any], batch: Batch, now: float) -> None:
        self.filling = Filling(batch, now)
        self.calls: dict[Token[Any], tuple[Keys, Any]] = {}
        self._sent: tuple[Token[Any], ...] = ()
        self._results: dict[Token[Any], Any] = {}
        super().__init__(host, slot, first)

    @property
    def keys(self) -> list[Keys]:
        """The keys of each token that has not ended."""
        return [self.calls[one][0] for one in tuple(self.members)]

    def was_sent(self, token: Token[Any]) -> bool:
        """Tell whether the run was given the argument of a token."""
        return token in self._sent

    def send(self) -> bool:
        """Give the run its list, at its turn: no further token joins; return whether there is any."""
        with self._host.lock:
            self._host.forget(self)
            self._sent = tuple(self.members)
        run = self.run
        run._args = ([self.calls[one][1] for one in self._sent],)
        run.kwargs = NO_KWARGS
        return bool(self._sent)

    def take_results(self, value: Any) -> None:
        """Note what the function has returned.

        Raises:
            BatchMismatch: it is not one result for each token.
        """
        results = results_of(self.run.operation, value, len(self._sent))
        self._results = dict(zip(self._sent, results, strict=True))

    def outcome_of(self, token: Token[Any]) -> Outcome:
        state, value, error = super().outcome_of(token)
        if state is TokenState.COMPLETED:
            value = self._results.get(token)
            if isinstance(value, BaseException):
                return TokenState.FAILED, None, value
        return state, value, error
