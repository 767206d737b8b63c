"""The rules that are asked when a token is submitted, before it is queued: they change it in its sender's thread."""

from __future__ import annotations

import math
import threading
from collections import Counter
from types import MappingProxyType
from typing import Any, Final

import attrs

from actors import Token, TokenGateError
from actors.lowlevel import DurableToken, place_of
from tokengate.control.messages import Change
from tokengate.predict._decision import Case, decide
from tokengate.predict._engine import live_at
from tokengate.predict._forecast import Forecasts
from tokengate.predict._host import UNDOER, Host
from tokengate.predict._intervention import RuleState
from tokengate.predict._ledger import End, Ledger
from tokengate.predict._steered import Steered, SteeredTokens
from tokengate.predict._undo import changed_since

_AT_ONCE: Final = 1_000  # tokens of one message that undoes


class SubmitRules:
    """Asks the rules that need no look about each new token.

    Args:
        ledger: the rules.
        steered: the tokens that they have changed at submit.
        forecasts: what is expected of tokens.
        host: the gate.
    """

    def __init__(
        self,
        ledger: Ledger,
        steered: SteeredTokens,
        forecasts: Forecasts,
        host: Host,
    ) -> None:
        self._ledger = ledger
        self._forecasts = forecasts
        self._host = host
        self._clock = host.system.clock
        self._lock = threading.RLock()  # a finalizer that runs here may end a token
        self._steered = steered
        self.is_closing = False
        self._told: Counter[tuple[str, str]] = Counter()  # {(rule, what was done): tokens, since that was told}

    def ask(self, token: Token[Any]) -> None:
        """Ask the rules about a new token; the first one that matches decides."""
        states = self._ledger.at_submit
        if not states or self.is_closing or isinstance(token, DurableToken):
            return  # a durable one is looked at once it is on disk: what is done to it must be known after a crash
        now = self._clock()
        for one in states:
            rule = one.rule
            if rule.operation in (None, token.operation) and rule.selector.matches(token, now):
                self._decide(token, one, now)
                return

    def _decide(self, token: Token[Any], one: RuleState, now: float) -> None:
        place, operation, rule, ledger = place_of(token), token.operation, one.rule, self._ledger
        uncalibrated = self._forecasts.uncalibrated(token, rule.uses)
        mode = one.in_force(ledger.cap)
        case = Case(token.uid, place.properties.guard, begun=False, uncalibrated=uncalibrated)
        # Half of the live tokens is no bound for renice: those that stand back wait, so they soon are most of what
        # lives, and the next long one would pass them all.
        is_bounded = rule.action.verb != "renice"
        live = 1 + live_at(place, operation) if is_bounded else 0  # without the lock: the mailbox has its own
        with self._lock:
            if is_bounded:
                touched = self._steered.touched(operation) + ledger.active.touched(operation)
                case = attrs.evolve(case, live=live, touched=touched)
            verdict = decide(rule, mode, case, one.spent, ledger.spent, now)
            does = verdict.do if verdict.do in ("act", "hold back", "refuse") else "observe"
            if does == "act" and not self._host.may_steer(token):
                does = "refuse"
            self._told[rule.name, does] += 1
            one.count(_STATES[does], ledger.cap)
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
        self._steered.add(Steered(one, token.operation, target, before, action.values(target), ends))

    def _follow(self, token: Token[Any], rule: str, group: str) -> None:
        id = token.id

        def note(token: Token[Any]) -> None:
            with self._lock:
                self._steered.remove(id)
            self._ledger.ends.append(End.of(token, rule, group))

        token.add_done_callback(note)

    def told(self) -> dict[tuple[str, str], int]:
        """Return {(rule, what was done): tokens} since the latest call."""
        with self._lock:
            told, self._told = self._told, Counter()
        return dict(told)

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
            found = self._steered.take_due(math.inf if all else now)
        for at in range(0, len(found), _AT_ONCE):
            await self._undo(found[at : at + _AT_ONCE])

    async def _undo(self, found: list[Steered]) -> None:
        """Undo what was done to tokens, those with the same values together."""
        messages: dict[str, tuple[Change[Any], list[Steered]]] = {}
        for one in found:
            message = one.one.rule.action.undo(one.target, one.before, one.set)
            if message is not None:
                alike = repr(attrs.evolve(message, select=(0,)))  # type: ignore[call-arg]
                messages.setdefault(alike, (message, []))[1].append(one)
        for message, those in messages.values():
            by_id = {one.target.id: one for one in those}

            def check(token: Token[Any], by_id: dict[int, Steered] = by_id) -> str:
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
