"""What rules would have done: the past goes by once more, and they are asked by the code that asks them live."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import attrs

from actors import TokenState
from tokengate.control.messages import Event
from tokengate.control.stream._record import FINISHED, LOST, RETRIED, Record
from tokengate.predict._decision import Trust
from tokengate.predict._engine import Engine
from tokengate.predict._forecast import Forecasts
from tokengate.predict._intervention import RuleState
from tokengate.predict._leaks import LeakWatch
from tokengate.predict._learner import attempt_of, note_loop
from tokengate.predict._ledger import Ledger
from tokengate.predict._models import Models
from tokengate.predict._past import PastHost, PastSystem, PastToken
from tokengate.predict._retry_loops import RetryLoops
from tokengate.predict._rule import Budget, Mode, Rule
from tokengate.predict._steered import SteeredTokens
from tokengate.predict._submit import SubmitRules
from tokengate.predict._undo import Undoing
from tokengate.telemetry._lines import record_of_event

MOST: Final = 1_000_000
"""Records of a backtest, which are all in memory: a kilobyte each."""

_SECOND: Final = 1.0  # from look to look
_UNKNOWN: Final = {
    "memory.share": "limits",
    "gate.saturation": "how full resources were",
    "leak": "the memory of processes",
    "retry_loop": "what calls without a key had as arguments, unless they failed",
    "held": "when tokens were held",
}
"""{field that rules may ask for: what records do not have of it}."""

_OUTCOMES: Final = {
    "active": "acts", "done": "acts", "held back": "left alone, to compare", "proposed": "proposes",
    "observed": "observes", "refused": "refused",
}  # fmt: skip
_AT_SUBMIT: Final = {"act": "acts", "hold back": _OUTCOMES["held back"], "refuse": "refused"}
_OPEN: Final = ("not decided", "refused")  # outcomes that another one may take the place of
_UNCALIBRATED: Final = "what it uses is not calibrated"


@attrs.frozen
class BacktestRow:
    """What a rule would have done to some tokens, and what became of them without it.

    Attributes:
        rule: its name.
        outcome: `acts`, `left alone, to compare`, `not calibrated` (it proposes, since what it uses is not right often
            enough), `proposes`, `observes`, `refused`, `not decided`; `matched`: all of these.
        tokens: how many.
        succeeded: the share of them that completed.
        took: seconds from their submit to their end, the mean.
        why: the most frequent reason.
    """

    rule: str
    outcome: str
    tokens: int
    succeeded: float | None
    took: float | None
    why: str = ""


@attrs.frozen
class Decision:
    """What a rule would have done about one token."""

    rule: str
    uid: str
    operation: str
    outcome: str
    why: str


@attrs.define
class _Tally:
    """Tokens about which a rule has decided the same, and the reasons."""

    n: int = 0
    completed: int = 0
    seconds: float = 0.0
    why: Counter[str] = attrs.field(factory=Counter)

    def add(self, token: PastToken, why: str) -> None:
        self.n += token.weight
        self.completed += token.weight * (token.state is TokenState.COMPLETED)
        self.seconds += token.weight * ((token.finished_at or token.created_at) - token.created_at)
        if why:
            self.why[why] += token.weight


class _Unshaken(Trust):
    """The trust in a rule that did nothing: how tokens ended without it says nothing against it."""

    def note_end(self, completed: bool) -> None:
        """Note nothing."""


class Backtest:
    """Has rules decide about the tokens of the past.

    What they would do has no effect, except on what their selectors ask for next: priority, tags and estimates. So
    tokens end as they did without them.

    Args:
        rules: the rules.
        mode: in which all are; None: each in its own.
        tags: names of the tags that are learned from.
        budget: of all rules together.
        decided: called with each decision, when its token ends.
    """

    def __init__(
        self,
        rules: Iterable[Rule],
        mode: Mode | None,
        tags: tuple[str, ...],
        budget: Budget,
        decided: Callable[[Decision], object] = lambda _decision: None,
    ) -> None:
        self._system = PastSystem()
        system: Any = self._system
        host = PastHost(self._system, self._note)
        self._models = Models(tags, (), notice=lambda *_: None)
        self._loops = RetryLoops()
        self._forecasts = Forecasts(
            system, self._models, tags, self._loops, LeakWatch(), lambda: None, lambda _operation, _why: None
        )
        self._system.predictor = self._forecasts
        self._ledger = ledger = Ledger(host, "act", budget)
        steered = SteeredTokens()
        self._engine = Engine(host, self._forecasts, ledger, Undoing(host, ledger), steered)
        ledger.take(rules, {})
        self._unseen = {one.rule.operation: one.rule.name for one in ledger.states if one.rule.operation is not None}
        for one in self._ledger.states:
            one.mode, one.trust = mode or one.mode, _Unshaken()
        self._submit = SubmitRules(ledger, steered, self._forecasts, host)
        self._decided = decided
        self._copies = itertools.count(-1, -1)  # ids
        self._tallies: dict[tuple[str, str], _Tally] = {}
        self._gaps: dict[str, None] = {}
        self._steered = 0
        self._looks = any(not one.rule.at_submit for one in self._ledger.states)

    async def run(self, events: Iterable[Event]) -> None:
        """Let a part of the past go by; on trio.

        Args:
            events: of one gate, in any order.

        Raises:
            ValueError: there are more than fit into memory.
        """
        records = self._records(events)
        records.sort(key=lambda one: one[0].created)
        due: list[tuple[float, int, bool, Record]] = []  # (when, number, whether it ends then or begins, record)
        look = records[0][0].created + _SECOND if records else 0.0
        coming = iter(enumerate(records))
        following = next(coming, None)
        while following is not None or due:
            if following is not None and (not due or following[1][0].created <= due[0][0]):
                number, (record, uid) = following
                look = await self._look_until(record.created, look)
                self._create(record, uid)
                if record.started is not None:
                    heapq.heappush(due, (record.started, number, False, record))
                heapq.heappush(due, (record.ended, number, True, record))
                following = next(coming, None)
            else:
                at, _, ends, record = heapq.heappop(due)
                look = await self._look_until(at, look)
                (self._end if ends else self._begin)(record)

    def _records(self, events: Iterable[Event]) -> list[tuple[Record, str]]:
        found = []
        for event in events:
            if event.kind in (FINISHED, RETRIED):
                found.append((record_of_event(event), event.uid or ""))
                if len(found) > MOST:
                    raise ValueError(f"there are more than {MOST:,} records; choose fewer, by a shorter --since")
                self._steered += bool(event.steered)
            elif event.kind == LOST:
                self._gaps[event.text] = None
        return found

    async def _look_until(self, at: float, look: float) -> float:
        """Look at tokens each second up to a time, which it is then; return when the next look comes."""
        while look <= at:
            if self._system.live or self._ledger.active or self._submit.active:
                self._system.now = look
                if self._looks:
                    for token in [one for one in self._system.live.values() if one.weight > 1]:
                        self._system.live |= {copy.id: copy for copy in token.split(self._copies)}
                await self._submit.undo_due(look)
                await self._engine.look()
                self._note_undecided()
                look += _SECOND
            else:
                look += _SECOND * ((at - look) // _SECOND + 1)
        self._system.now = at
        return look

    # The life of a token

    def _create(self, record: Record, uid: str) -> None:
        system, weight = self._system, record.weight
        known = system.live.get(record.token)
        if known is not None and known.uid == uid:
            return  # of an earlier attempt
        place = system.place(record.actor, record.affinity)
        token = system.live[record.token] = PastToken(record, place, record.token, uid, weight)
        asked = self._ask(token)
        place.queued += token.weight if not asked else 1
        for copy in token.split(self._copies) if asked else ():
            system.live[copy.id] = copy
            self._ask(copy)
            place.queued += 1

    def _ask(self, token: PastToken) -> bool:
        """Ask the rules of a submit; return whether one has matched."""
        asked: Any = token
        self._submit.ask(asked)
        for rule, did in self._submit.told():
            outcome, why = _AT_SUBMIT.get(did, "observes"), ""
            one = self._ledger.state_of(rule)
            assert one is not None
            missing = self._forecasts.uncalibrated(asked, one.rule.uses)
            if outcome == "observes" and one.in_force(self._ledger.cap) == "act" and missing:
                outcome, why = "not calibrated", f"{_UNCALIBRATED}: {', '.join(missing)}"
            token.verdicts[rule] = outcome, why
            return True
        return False

    def _begin(self, record: Record) -> None:
        token = self._system.live.get(record.token)
        if token is not None:
            token._place.queued -= record.weight
            token._place.running += record.weight
            for one in (token, *token.copies):
                one.begin(record.started or 0.0, record.attempt)

    def _end(self, record: Record) -> None:
        self._learn(record)
        token = self._system.live.get(record.token)
        if token is None:
            return
        place = token._place
        if record.started is None:
            place.queued -= record.weight
        else:
            place.running -= record.weight
        if record.kind == RETRIED:
            place.queued += record.weight
            for one in (token, *token.copies):
                one.requeue(record.ended)
            return
        for one in (token, *token.copies):
            self._system.live.pop(one.id, None)
            one.end(record.ended, record.state)
            self._count(one)

    def _learn(self, record: Record) -> None:
        self._unseen.pop(record.operation, None)
        note_loop(self._loops, record.operation, record.state, record.more)
        if record.started is not None:
            self._models.learn(attempt_of(record, self._forecasts.chosen))

    # What was decided

    def _note(self, token: PastToken, rule: str, state: str, why: str) -> None:
        outcome = _OUTCOMES.get(state)
        if outcome is not None and token.verdicts.get(rule, _OPEN)[0] in _OPEN:  # else this is how it went on
            token.verdicts[rule] = ("not calibrated" if why.startswith(_UNCALIBRATED) else outcome), why

    def _note_undecided(self) -> None:
        """Note the tokens that match a rule which has not decided about them."""
        for one in self._ledger.states:
            for id, since in one.matched.items():
                verdicts = self._system.live[id].verdicts
                if verdicts.get(one.rule.name, _OPEN)[0] == "not decided":
                    verdicts[one.rule.name] = self._undecided(one, since)

    def _count(self, token: PastToken) -> None:
        for rule, (outcome, why) in token.verdicts.items():
            self._tallies.setdefault((rule, outcome), _Tally()).add(token, why)
            self._tallies.setdefault((rule, "matched"), _Tally()).add(token, "")
            self._decided(Decision(rule, token.uid, token.operation, outcome, why))

    def _undecided(self, one: RuleState, since: float) -> tuple[str, str]:
        if self._system.now - since < one.rule.wait:
            return "not decided", f"it matched for less than {one.rule.wait:g} s"
        refused = one.refused
        if refused is not None and refused.at >= since:
            return "refused", refused.why.partition(" (and ")[0]
        return "not decided", "it is in force already, or another rule has acted"

    # What is told

    def rows(self) -> tuple[BacktestRow, ...]:
        """Return what each rule would have done, in the order in which they are asked."""
        return tuple(
            BacktestRow(
                rule, outcome, tally.n, tally.completed / tally.n, tally.seconds / tally.n,
                tally.why.most_common(1)[0][0] if tally.why else "",
            )
            for one in self._ledger.states
            for (rule, outcome), tally in sorted(self._tallies.items(), key=lambda item: -item[1].n)
            if rule == one.rule.name
        )  # fmt: skip

    def lacks(self) -> Sequence[str]:
        """Return what history does not have, so that live rules would have known more."""
        asked = [
            f"rule '{one.rule.name}' asks for {part.name}, and records do not have {_UNKNOWN[part.name]}"
            for one in self._ledger.states
            for part in one.rule.selector.parts
            if part.name in _UNKNOWN and not part.is_tag
        ]
        steered = f"what {self._steered:,} tokens were before they were steered: their priority, tags and place there"
        unseen = [f"there is no record of '{name}', which rule '{rule}' is for" for name, rule in self._unseen.items()]
        return [
            *unseen,
            *asked,
            *self._gaps,
            *([steered] if self._steered else []),
            "guards, idempotence and grants, so rules were asked as if nothing had a guard, all were idempotent, and "
            "process:interventions might end tokens",
        ]
