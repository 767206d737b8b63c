"""Interventions: what rules have done, or would have done, and why, in words and numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping
from typing import Any, Final, Literal, TypeAlias

import attrs

from tokengate.control._units import in_bytes
from tokengate.control.inspection._selector import Selector
from tokengate.predict._action import Action
from tokengate.predict._arguments import Values
from tokengate.predict._decision import Group, Spent, Trust, mode_of
from tokengate.predict._outlook import Outlook
from tokengate.predict._rule import Mode, Rule
from tokengate.predict._rule_verbs import Target

State: TypeAlias = Literal[
    "observed", "proposed", "applied", "denied", "held back", "active", "done", "ended", "undone", "expired", "refused"
]

_RESTS: Final = 1_000  # targets that rest, after which those are forgotten that do no more

OVER: Final = ("applied", "denied", "done", "ended", "undone", "expired")
"""The states that change no more."""


@attrs.define(eq=False)
class Intervention:
    """What a rule has done about one token, or would have done.

    Attributes:
        number: from 1.
        rule: name of the rule.
        action: the verb with its arguments.
        target: what it is done to.
        uid: of the token that it was decided for.
        operation: of that token.
        at: seconds since the epoch.
        state: what became of it.
        why: why it is no more than that; or what has ended it.
        explained: lines that say why the rule has matched, and what was expected of the token.
        before: the values before.
        set: the values that it has set.
        ends: when it is undone, by the gate's clock.
        proposal: number of its proposal; 0: none.
        ended: what became of the token, once it has ended.
        holds: whether it is about a token that runs, or about what several share.
    """

    number: int
    rule: str
    action: Action
    target: Target
    uid: str
    operation: str
    at: float
    state: State
    why: str = ""
    explained: tuple[str, ...] = ()
    before: Values = attrs.field(factory=dict)
    set: Values = attrs.field(factory=dict)
    ends: float = 0.0
    proposal: int = 0
    ended: str = ""
    holds: bool = True

    @property
    def verb(self) -> str:
        """What it does, as text."""
        return self.action.text


class RuleState:
    """A rule in force, and what it has done.

    Args:
        rule: the rule.
        before: what the rule of this name was until now: it goes on with what that has decided, spent and lost.

    Attributes:
        rule: the rule.
        persisting: what must match a token for what was done to it to stay: the selector without what the verb changes.
        mode: the one that an operator, or else the rule, has given it.
        trust: whether it may do what its mode says.
        spent: what it has used of its budget.
        matched: {token id: since when it has matched}.
        missed: {number of an intervention: since when its token has not matched}.
        once: ids of the tokens that it has decided about for good.
        rests: {name of a target: until when nothing more is done to it}, of what several tokens share.
        refused: the latest intervention that was refused by a budget or the freeze; it stands for all that follow.
        refusals: how many it stands for.
        groups: what became of tokens that it acted on, and of those that it left alone.
        done: {(its mode, state): interventions}.
        stopped: the time of the look in which it was refused, and so looks at no more tokens.
        meant: tokens that match now, as of the latest look at all of them.
        counting: those of the look that is under way.
    """

    def __init__(self, rule: Rule, before: RuleState | None = None) -> None:
        self.rule = rule
        self.persisting = persisting(rule)
        self.mode: Mode = rule.mode
        if before is not None and before.rule.mode == rule.mode and not (rule.at_submit and before.mode == "propose"):
            self.mode = before.mode  # an operator has set it, and the file says no other one
        self.trust = Trust()
        self.spent = Spent(rule.limit)
        self.matched: dict[int, float] = {}
        self.missed: dict[int, float] = {}
        self.once: set[int] = set()
        self.rests: dict[str, float] = {}
        self.refused: Intervention | None = None
        self.refusals = 0
        self.groups: Mapping[str, Group] = {"act": Group(), "hold back": Group()}
        self.done: Counter[tuple[Mode, str]] = Counter()
        if before is not None:
            self.once, self.trust, self.rests = before.once, before.trust, before.rests
            self.spent.take(before.spent)
        self.stopped: float | None = None
        self.meant = self.counting = 0

    def rest(self, target: str, now: float) -> None:
        """Do nothing more to what several tokens share, for as long as what was done would have lasted."""
        if len(self.rests) >= _RESTS:
            self.rests = {name: until for name, until in self.rests.items() if until > now}
        self.rests[target] = now + self.rule.lasts

    def forget_all_but(self, live: Container[int]) -> None:
        """Forget tokens that have ended."""
        for gone in [id for id in self.matched if id not in live]:
            del self.matched[gone]
        self.once = {id for id in self.once if id in live}

    def count(self, state: str, cap: Mode) -> None:
        """Count what it did, or would have done, in the mode that it has below a cap for all rules."""
        self.done[self.in_force(cap), state] += 1

    @property
    def counts(self) -> dict[str, int]:
        """Return {state: interventions}."""
        found: Counter[str] = Counter()
        for (_, state), number in list(self.done.items()):
            found[state] += number
        return dict(found)

    def in_force(self, cap: Mode) -> Mode:
        """Return its mode, below a cap for all rules."""
        return mode_of(self.mode, cap, self.trust)

    def why(self, cap: Mode, *, frozen: bool) -> str:
        """Return why it does less than its file says, or another mode than that; empty if it does neither."""
        if self.trust.lost:
            return self.trust.lost
        mode = self.in_force(cap)
        if frozen and mode != "observe":
            return "interventions of rules are frozen; 'tokengate unfreeze' ends that"
        if mode != self.mode:
            return f"Predict(mode='{cap}') is the most for all rules"
        if mode == "act" and self.rule.action.kind.is_ending and not self.rule.unattended:
            return f"it proposes: {self.rule.action.verb} by itself needs 'unattended = true'"
        return "" if self.mode == self.rule.mode else "an operator has set it"


_CHANGED: Final = {
    "renice": ("priority",),
    "estimate": ("run.p50", "run.p95", "memory.p95", "memory.share", "overrun", "late"),
    "limit": ("memory.share",),
    "reroute": ("affinity", "actor", "memory.share"),
    "pause": ("state", "held"),
    "suspend": ("held",),
    "throttle": ("held",),
}
"""{verb: the fields of selectors that it changes}."""


def persisting(rule: Rule) -> Selector:
    """Return the selector of a rule without the terms about what its verb changes."""
    verb, changed = rule.action.verb, _CHANGED.get(rule.action.verb, ())
    tags = rule.action.args["set"] if verb == "retag" else ()
    return rule.selector.without(lambda part: part.name in (tags if part.is_tag else changed))


def explain(rule: Rule, read: Any, outlook: Outlook | None, features: Mapping[str, float]) -> tuple[str, ...]:
    """Return why a rule has matched a token, a line each.

    Args:
        rule: the rule.
        read: returns the value of a field of the rule, None if it is not known.
        outlook: what was expected of the token before it ran.
        features: of the token.
    """
    terms = []
    for part in rule.selector.parts:
        value = None if part.is_tag else read(part.name)
        now = "" if value is None else f" ({_number(part.name, value)})"
        terms.append(f"{part.name}{part.op}{part.value}{now}")
    lines = [f"matches {', '.join(terms) or '*'}"]
    if outlook is not None:
        lines.append(_expected(outlook))
        if outlook.factors:
            factors = ", ".join(f"{name} x{value:.2g}" for name, value in outlook.factors.items())
            lines.append(f"against the operation's usual token: {factors}")
    if features:
        lines.append(f"features: {', '.join(f'{name}={value:g}' for name, value in features.items())}")
    return tuple(lines)


def _expected(outlook: Outlook) -> str:
    parts = []
    if outlook.run is not None:
        parts.append(f"run {outlook.run.p50:.3g} s, 95 of 100 below {outlook.run.p95:.3g} s")
    if outlook.memory is not None:
        parts.append(f"memory {in_bytes(outlook.memory.p50)}, 95 of 100 below {in_bytes(outlook.memory.p95)}")
    if outlook.failing is not None:
        parts.append(f"fails with {outlook.failing * 100:.2g} %")
    covered = "" if outlook.coverage is None else f", of the latest 500 {outlook.coverage * 100:.1f} % stayed below"
    calibrated = "calibrated" if "run" in outlook.calibrated else "not calibrated"
    return f"expected: {'; '.join(parts) or 'nothing is known'} (n {outlook.n}{covered}; {calibrated})"


def _number(field: str, value: Any) -> str:
    if not isinstance(value, int | float):
        return str(value)
    if field.startswith("memory.p"):
        return in_bytes(value)
    return f"{value:.3g} s" if field in ("run.p50", "run.p95", "age", "running") else f"{value:.3g}"
