"""Decisions: what a rule does about a token that it matches. Pure: data and times go in, a verdict comes out."""

from __future__ import annotations

import hashlib
from collections import deque
from typing import Final, Literal, TypeAlias

import attrs

from actors import Guard
from tokengate.predict._rule import MODES, Budget, Mode, Rule

Word: TypeAlias = Literal["observe", "propose", "act", "hold back", "refuse"]

HELD_BACK: Final = 5
"""Of 100 tokens that a rule would act on, so many are left alone, so that both groups can be compared."""

LEAST: Final = 20
"""Tokens of a group below which nothing is said of it."""

_UNDOS: Final = 3  # by people within an hour, after which a rule only observes
_HOUR: Final = 3600.0
_MINUTE: Final = 60.0


@attrs.frozen
class Verdict:
    """What is to be done, and why it is not more; `of_budget` if a budget is spent, for other tokens, too."""

    do: Word
    why: str = ""
    of_budget: bool = False


@attrs.frozen
class Case:
    """A token that a rule matches.

    Attributes:
        uid: of the token.
        guard: of the token.
        begun: whether it has begun.
        idempotent: whether it does no harm to run it twice.
        uncalibrated: those of the predictions that the rule uses which are not calibrated.
        live: live tokens of its operation.
        touched: of these, the others that are under interventions of rules.
        running: running tokens of the gate.
        held: of these, those that are under interventions of rules that need a budget.
        held_by_rule: of these, those of this rule.
        may_end: whether rules have the right to end tokens.
    """

    uid: str
    guard: Guard = "none"
    begun: bool = True
    idempotent: bool = False
    uncalibrated: tuple[str, ...] = ()
    live: int = 2
    touched: int = 0
    running: int = 10
    held: int = 0
    held_by_rule: int = 0
    may_end: bool = False


def is_held_back(rule: str, uid: str) -> bool:
    """Tell whether a rule leaves a token alone for comparison; known before anything of the token is."""
    digest = hashlib.blake2b(f"{rule}\0{uid}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) % 100 < HELD_BACK


class Spent:
    """How many targets a budget was spent on within a minute.

    Args:
        budget: the budget.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._at: deque[float] = deque()

    def left(self, now: float) -> float:
        """Return for how many targets it is enough."""
        while self._at and self._at[0] <= now - _MINUTE:
            self._at.popleft()
        return self.budget.targets - len(self._at)

    def take(self, before: Spent) -> None:
        """Go on with what another budget was spent on."""
        self._at = before._at

    def spend(self, now: float) -> None:
        """Spend it on one target."""
        self._at.append(now)


class Trust:
    """Whether a rule may do what its mode says: it observes once what it did was undone, or did no good.

    Attributes:
        lost: why it observes; empty: it does not have to.
    """

    def __init__(self, lost: str = "") -> None:
        self.lost = lost
        self._undone: deque[float] = deque(maxlen=_UNDOS)
        self._ends: deque[bool] = deque(maxlen=LEAST)

    def note_undo(self, now: float) -> None:
        """Note that a person has undone what the rule did."""
        self._undone.append(now)
        if len(self._undone) == _UNDOS and now - self._undone[0] <= _HOUR:
            self.lost = f"people have undone {_UNDOS} of its interventions within an hour"

    def note_end(self, completed: bool) -> None:
        """Note how a token ended that the rule has acted on."""
        self._ends.append(completed)
        if len(self._ends) == LEAST and sum(self._ends) < LEAST / 2:
            self.lost = f"of the latest {LEAST} tokens that it acted on only {sum(self._ends)} have completed"

    def restore(self) -> None:
        """Trust the rule again, since a person has raised it."""
        self.lost = ""
        self._undone.clear()
        self._ends.clear()


def mode_of(mode: Mode, cap: Mode, trust: Trust) -> Mode:
    """Return the mode in force of a rule with a mode, below a cap for all."""
    if trust.lost:
        return "observe"
    return MODES[min(MODES.index(mode), MODES.index(cap))]


def decide(rule: Rule, mode: Mode, case: Case, of_rule: Spent, of_gate: Spent, now: float) -> Verdict:
    """Decide what a rule does about a token, and spend its budgets on that.

    Args:
        rule: the rule.
        mode: the one in force.
        case: the token.
        of_rule: the budget of the rule.
        of_gate: that of all rules together.
        now: seconds.
    """
    verb = rule.action.kind
    if case.guard == "never":
        return Verdict("refuse", "its guard is 'never', so no rule touches it")
    if mode == "observe":
        return Verdict("observe")
    why = "" if mode == "propose" else _why_not_alone(rule, case)
    acts = mode == "act" and not why
    touches = acts and verb.of != "process"  # which is done once nothing runs there
    if touches and 2 * (case.touched + 1) > case.live:
        why = "half of an operation's live tokens is the most"
        return Verdict("refuse", f"{why}: {case.touched} of {case.live} are under interventions")
    if not verb.is_free:
        for spent, held, whose in ((of_rule, case.held_by_rule, "the rule"), (of_gate, case.held, "the gate")):
            budget = spent.budget
            if spent.left(now) < 1:
                why = f"the budget of {whose} is spent: {budget.targets:g} targets a minute"
                return Verdict("refuse", why, of_budget=True)
            most = budget.most(case.running)
            if touches and case.begun and held + 1 > most:
                share = f"{budget.share * 100:g} % of {case.running} running tokens is {most}"
                why = f"the budget of {whose} is spent: {held} are under interventions, and {share}"
                return Verdict("refuse", why, of_budget=True)
    if acts and is_held_back(rule.name, case.uid):
        return Verdict("hold back", f"{HELD_BACK} of 100 are left alone, to compare them")
    if not verb.is_free:
        of_rule.spend(now)
        of_gate.spend(now)
    return Verdict("act" if acts else "propose", why)


def _why_not_alone(rule: Rule, case: Case) -> str:
    """Return why a rule in mode `act` needs a person for a token; empty if it does not."""
    verb = rule.action.verb
    if case.uncalibrated:
        return f"what it uses is not calibrated: {', '.join(case.uncalibrated)}"
    if case.guard in ("force", "approval"):
        return f"the token's guard is '{case.guard}', and rules never force"
    if verb == "preempt" and not case.idempotent:
        return "preempt runs it again, and its operation is not idempotent"
    is_ending = rule.action.kind.is_ending
    if is_ending and not rule.unattended:
        return f"{verb} by itself needs 'unattended = true'"
    if is_ending and not case.may_end:
        return f"{verb} by itself needs a grant of the right 'terminate' to 'process:interventions'"
    return ""


@attrs.define
class Group:
    """What became of the tokens of one group: those that a rule acted on, or those that it left alone.

    Attributes:
        n: tokens that have ended.
        completed: of these, those that completed.
        seconds: from their making to their end, all together.
    """

    n: int = 0
    completed: int = 0
    seconds: float = 0.0

    def add(self, completed: bool, seconds: float) -> None:
        """Count a token."""
        self.n += 1
        self.completed += completed
        self.seconds += seconds

    def __str__(self) -> str:
        if self.n < LEAST:
            return f"{self.n} ended: not known yet"
        share, mean = self.completed / self.n, self.seconds / self.n
        return f"{self.n} ended, {share * 100:.0f} % completed, {mean:.3g} s from submit to end"
