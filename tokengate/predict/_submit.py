"""The rules that are asked when a token is submitted, before it is queued: they change it in its sender's thread."""

from __future__ import annotations

import heapq
import math
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

import attrs

from actors import Token, TokenGateError, TokenState
from actors.lowlevel import DurableToken, place_of
from tokengate.control.messages import Change
from tokengate.predict._action import Target, Values
from tokengate.predict._decision import Case, decide
from tokengate.predict._engine import UNDOER, End, Engine, Host, changed_since, live_at
from tokengate.predict._forecast import Forecasts
from tokengate.predict._intervention import RuleState

_SPARE: Final = 1_000  # tokens that have ended, and still have a place in the order of ends
_AT_ONCE: Final = 1_000  # tokens of one message that undoes


@attrs.frozen
class _Steered:
    """A token that a rule has changed."""

    one: RuleState
    operation: str
    target: Target
    before: Values
    set: Values
    ends: float


class SubmitRules:
    """Asks the rules that need no look about each new token.

    Args:
        engine: decides by the rules.
        forecasts: what is expected of tokens.
        host: the gate.
        clock: of the gate.
    """

    def __init__(self, engine: Engine, forecasts: Forecasts, host: Host, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._forecasts = forecasts
        self._host = host
        self._clock = clock
        self._lock = threading.RLock()  # a finalizer that runs here may end a token
        self._steered: dict[int, _Steered] = {}  # {token id: what was done to it}
        self._due: list[tuple[float, int]] = []  # a heap of (when it is undone, token id)
        self._touched: defaultdict[str, set[int]] = defaultdict(set)  # {operation: ids of live tokens, as changed}
        self.is_closing = False
        self._told: Counter[tuple[str, str]] = Counter()  # {(rule, what was done): tokens, since that was told}

    def ask(self, token: Token[Any]) -> None:
        """Ask the rules about a new token; the first one that matches decides."""
        states = self._engine.at_submit
        if not states or self.is_closing or isinstance(token, DurableToken):
            return  # a durable one is looked at once it is on disk: what is done to it must be known after a crash
        now = self._clock()
        for one in states:
            rule = one.rule
            if rule.operation in (None, token.operation) and rule.selector.matches(token, now):
                self._decide(token, one, now)
                return

    def _decide(self, token: Token[Any], one: RuleState, now: float) -> None:
        place, operation, rule, engine = place_of(token), token.operation, one.rule, self._engine
        uncalibrated = engine.uncalibrated(token, rule)
        mode = one.in_force(engine.cap)
        case = Case(token.uid, place.properties.guard, begun=False, uncalibrated=uncalibrated)
        # Half of the live tokens is no bound for renice: those that stand back wait, so they soon are most of what
        # lives, and the next long one would pass them all.
        is_bounded = rule.action.verb != "renice"
        live = 1 + live_at(place, operation) if is_bounded else 0  # without the lock: the mailbox has its own
        with self._lock:
            if is_bounded:
                touched = len(self._touched[operation]) + engine.active.touched(operation)
                case = attrs.evolve(case, live=live, touched=touched)
            verdict = decide(rule, mode, case, one.spent, engine.spent, now)
            does = verdict.do if verdict.do in ("act", "hold back", "refuse") else "observe"
            if does == "act" and not self._host.may_steer(token):
                does = "refuse"
            self._told[rule.name, does] += 1
            one.count(_STATES[does], engine.cap)
            if does in ("act", "hold back"):
                self._follow(token, rule.name, does)  # first: what an interrupt leaves is undone, too
            if does == "act":
                self._change(token, one, now)

    def _change(self, token: Token[Any], one: RuleState, now: float) -> None:
        action = one.rule.action
        target = action.target(token, "")
        before = action.values(target)
        if action.verb == "renice":
            token.priority = action.args["priority"]
        elif action.verb == "retag":
            token.tags = MappingProxyType({**token.tags, **action.args["set"]})
        else:
            self._forecasts.estimate(token, action.args)
        token._own_extras().steered_by = UNDOER.principal
        ends = now + one.rule.lasts
        self._steered[token.id] = _Steered(one, token.operation, target, before, action.values(target), ends)
        heapq.heappush(self._due, (ends, token.id))
        if len(self._due) > 2 * len(self._steered) + _SPARE:  # most of these tokens have ended
            self._due = [(one.ends, id) for id, one in self._steered.items()]
            heapq.heapify(self._due)
        self._touched[token.operation].add(token.id)

    def _follow(self, token: Token[Any], rule: str, group: str) -> None:
        created, operation, id = token.created_at, token.operation, token.id

        def note(token: Token[Any]) -> None:
            with self._lock:
                self._steered.pop(id, None)
                self._touched[operation].discard(id)
            completed = token.state is TokenState.COMPLETED
            seconds = (token.finished_at or created) - created
            self._engine.ends.append(End(rule, group, 0, completed, str(token.state), seconds))

        token.add_done_callback(note)

    def told(self) -> dict[tuple[str, str], int]:
        """Return {(rule, what was done): tokens} since the latest call."""
        with self._lock:
            told, self._told = self._told, Counter()
        return dict(told)

    def holds(self, id: int, verb: str) -> bool:
        """Tell whether a token is as a rule has changed it at submit, by a verb."""
        steered = self._steered.get(id)
        return steered is not None and steered.one.rule.action.verb == verb

    def touched(self, operation: str) -> int:
        """Return how many live tokens of an operation are as a rule has changed them."""
        return len(self._touched[operation])

    @property
    def active(self) -> int:
        """How many live tokens are as a rule has changed them."""
        return len(self._steered)

    async def undo_due(self, now: float, *, all: bool = False) -> None:
        """Undo what was done to tokens whose time is over.

        Args:
            now: seconds of the gate's clock.
            all: whether to do so for all, since the gate closes or rules are frozen.
        """
        with self._lock:
            found = self._take_due(math.inf if all else now)
        for at in range(0, len(found), _AT_ONCE):
            await self._undo(found[at : at + _AT_ONCE])

    def _take_due(self, now: float) -> list[_Steered]:
        found: list[_Steered] = []
        while self._due and self._due[0][0] <= now:
            _, id = heapq.heappop(self._due)
            steered = self._steered.pop(id, None)
            if steered is not None:
                self._touched[steered.operation].discard(id)
                found.append(steered)
        return found

    async def _undo(self, found: list[_Steered]) -> None:
        """Undo what was done to tokens, those with the same values together."""
        messages: dict[str, tuple[Change[Any], list[_Steered]]] = {}
        for one in found:
            message = one.one.rule.action.undo(one.target, one.before, one.set)
            if message is not None:
                alike = repr(attrs.evolve(message, select=(0,)))  # type: ignore[call-arg]
                messages.setdefault(alike, (message, []))[1].append(one)
        for message, those in messages.values():
            by_id = {one.target.id: one for one in those}

            def check(token: Token[Any], by_id: dict[int, _Steered] = by_id) -> str:
                one = by_id[token.id]
                return changed_since(one.one.rule.action.values(one.target), one.set, token)

            try:
                await self._host.ask(
                    attrs.evolve(message, select=tuple(by_id), reason="the time of a rule is over"),  # type: ignore[call-arg]
                    attrs.evolve(UNDOER, check=check),
                )
            except TokenGateError as error:
                self._host.say("intervention.refused", f"what rules did at submit is not undone: {error}", None, {})


_STATES: Final = {"act": "active", "hold back": "held back", "refuse": "refused", "observe": "observed"}
