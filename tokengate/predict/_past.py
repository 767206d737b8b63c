"""The past as a gate: what stands in for tokens, their places and their gate when rules are asked about records."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from copy import copy as copied
from types import MappingProxyType, SimpleNamespace
from typing import Any, Final

from actors import TokenState
from tokengate.control._exceptions import ProposalMade
from tokengate.control.messages import Estimate, Limit, Message, OnTokens, Outcome, Renice, Reroute, Retag
from tokengate.control.steering._estimates import changes_of
from tokengate.control.stream._record import Record
from tokengate.predict._forecast import Forecast

_PROPERTIES: Final = SimpleNamespace(guard="none", show=(), idempotent=True)  # records do not have them


class PastPlace:
    """Stands in for a place: it knows how many tokens it has.

    Attributes:
        system: stands in for that of the gate.
        path, affinity: as records have them.
        queued, running: how many tokens are.
    """

    serves_operators: Final = False
    suspended: Final = False
    governor: Final = None
    properties: Final = _PROPERTIES

    def __init__(self, system: PastSystem, path: str, affinity: str) -> None:
        self.system = system
        self.path = path
        self.affinity = affinity
        self.queued = self.running = 0
        self.drain = SimpleNamespace(running=lambda: range(self.running))
        self.mailbox = self

    @property
    def size(self) -> int:
        """As of its mailbox."""
        return self.queued

    def is_kept_back(self, _token: object) -> bool:
        return False

    def is_idempotent(self, _call: object) -> bool:
        return True


class PastToken:
    """Stands in for a live token, as a record tells of it.

    Args:
        record: of its first attempt.
        place: where it was.
        id: of it in the system.
        uid: over all runs.
        weight: how many tokens it stands for.

    Attributes:
        verdicts: {rule: (what it would have done, why)}.
        copies: the tokens that it stands for, beside itself, as far as rules were asked about them.
    """

    _run = _call = None
    _done = False

    def __init__(self, record: Record, place: PastPlace, id: int, uid: str, weight: int) -> None:
        more = record.more
        self.id, self.uid, self.weight = id, uid, weight
        self.operation, self.actor, self.affinity = record.operation, record.actor, record.affinity
        self.parent, self.steps = record.parent, 0
        self.priority, self.tags = record.priority, MappingProxyType(dict(record.tags))
        self.created_at, self.queued_at = record.created, record.queued
        self.started_at: float | None = None
        self.finished_at: float | None = None
        self.deadline = None if more.deadline is None else record.created + more.deadline
        self.due_at = None
        self.key = more.key or uid  # so that no other call has it
        self.verdicts: dict[str, tuple[str, str]] = {}
        self.copies: list[PastToken] = []
        self._place = place
        self._phase = TokenState.QUEUED
        self._end: TokenState | None = None
        self._callbacks: list[Callable[[Any], object]] = []
        policy = SimpleNamespace(deadline=self.deadline, policy=None, call=None) if self.deadline is not None else None
        forecast = Forecast(more.features) if more.features else None
        self._extras: Any = SimpleNamespace(forecast=forecast, hold=None, policy=policy, steered_by="", attempt=1)

    def split(self, ids: Iterator[int]) -> list[PastToken]:
        """Return the tokens that it stands for, beside itself; from now on each stands for itself."""
        for number in range(1, self.weight):
            copy = PastToken.__new__(PastToken)
            copy.__dict__ |= self.__dict__
            copy.id, copy.uid, copy.copies, copy.verdicts = next(ids), f"{self.uid}~{number}", [], dict(self.verdicts)
            copy.weight, copy._callbacks = 1, []
            copy._extras = SimpleNamespace(**vars(self._extras))
            copy._extras.forecast = copied(self._extras.forecast)
            self.copies.append(copy)
        self.weight = 1
        return self.copies

    @property
    def state(self) -> TokenState:
        return self._end or self._phase

    @property
    def attempt(self) -> int:
        found: int = self._extras.attempt
        return found

    def done(self) -> bool:
        return self._end is not None

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        self._callbacks.append(callback)

    def _own_extras(self) -> Any:
        return self._extras

    def begin(self, at: float, attempt: int) -> None:
        """Note that an attempt begins."""
        self.started_at, self._phase, self._extras.attempt = at, TokenState.RUNNING, attempt

    def requeue(self, at: float) -> None:
        """Note that an attempt has ended which another one follows."""
        self.started_at, self.queued_at, self._phase = None, at, TokenState.QUEUED

    def end(self, at: float, state: str) -> None:
        """Note that it has ended."""
        self.finished_at, self._end = at, TokenState(state)
        for callback in self._callbacks:
            callback(self)


class PastSystem:
    """Stands in for the system of a gate.

    Attributes:
        now: seconds since the epoch.
        live: {id: token}.
        predictor: what is expected of tokens.
    """

    policies: Final = None

    def __init__(self) -> None:
        self.now = 0.0
        self.live: dict[int, PastToken] = {}
        self.predictor: Any = None
        self._places: dict[str, PastPlace] = {}

    def clock(self) -> float:
        return self.now

    def place(self, path: str, affinity: str) -> PastPlace:
        """Return the place of a path."""
        found = self._places.get(path)
        if found is None:
            found = self._places[path] = PastPlace(self, path, affinity)
        return found

    def places(self) -> list[PastPlace]:
        return list(self._places.values())


class PastHost:
    """Stands in for the gate that the engine of rules acts on; see `tokengate.predict._host.Host`.

    What rules do is done to nothing but to what their selectors ask for next: priority, tags, and estimates.

    Args:
        system: of the tokens.
        decided: called with a token, a rule, what this would have done, and why.
    """

    def __init__(self, system: PastSystem, decided: Callable[[PastToken, str, str, str], object]) -> None:
        self.system: Any = system
        self._decided = decided
        self._proposals = itertools.count(1)

    async def ask(self, message: Message[Any], _caller: object, /) -> tuple[Outcome, ...]:
        """Do what a message says, as far as selectors can ask for it.

        Raises:
            ProposalMade: it is a dry run.
        """
        if getattr(message, "dry_run", False):
            raise ProposalMade("proposed", next(self._proposals))
        if not isinstance(message, OnTokens) or isinstance(message.select, str):
            return ()
        found = (self.system.live.get(id) for id in message.select)
        return tuple(self._do(message, token) for token in found if token is not None)

    def _do(self, message: OnTokens, token: PastToken) -> Outcome:
        why = ""
        if isinstance(message, Renice):
            token.priority = message.priority
        elif isinstance(message, Retag):
            kept = {name: value for name, value in token.tags.items() if name not in message.remove}
            token.tags = MappingProxyType({**kept, **message.set})
        elif isinstance(message, Estimate):
            self.system.predictor.estimate(token, changes_of(message))
        elif isinstance(message, Limit) and token.affinity != "process":
            why = f"its affinity is {token.affinity}, and only tokens in child processes have limits"
        elif isinstance(message, Reroute) and token.started_at is not None:
            why = "it has begun"
        return Outcome(token.id, token.operation, "refused" if why else "done", why)

    def proposal_state(self, _number: int, /) -> str:
        return ""

    def is_frozen(self) -> bool:
        return False

    def may_end(self) -> bool:
        return True

    def may_steer(self, _token: object, /) -> bool:
        return True

    def utc(self, at: float, /) -> float:
        return at

    def say(self, kind: str, _text: str, token: Any, details: Mapping[str, Any], /) -> None:
        if kind.startswith("intervention.") and token is not None:
            self._decided(token, details["rule"], details["state"], details.get("why", ""))

    def withdraw(self, _number: int, /) -> None: ...

    async def keep(self, _uid: str, _verb: str, _entry: object, /) -> bool:
        """Keep nothing: what is done to the past needs no undoing after a crash."""
        return True
