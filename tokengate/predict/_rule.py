"""Rules: a selector, a verb, and how far the verb goes by itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, cast, get_args

import attrs

from actors import TokenGateError
from tokengate._exceptions import BadPolicy
from tokengate.control._units import seconds_in
from tokengate.control.inspection._selector import Selector, Term, parse, quoted
from tokengate.predict._action import Action, action_of
from tokengate.predict._arguments import is_path

Mode: TypeAlias = Literal["observe", "propose", "act"]

MODES: Final[tuple[Mode, ...]] = get_args(Mode)
"""The one that goes least far first."""

TARGETS: Final[Mapping[str, str]] = {
    "run.p50": "run",
    "run.p95": "run",
    "overrun": "run",
    "memory.p95": "memory",
    "memory.share": "memory",
    "failing": "failing",
    "late": "late",
}
"""{field of a selector: the prediction that must be calibrated before a rule acts by it}."""

MEASURED: Final = ("gate.saturation", "retry_loop", "leak")
"""The fields that are measured, so that nothing must be calibrated."""

_KNOWN_AT_SUBMIT: Final = frozenset(
    {"operation", "actor", "affinity", "priority", "parent", "run.p50", "run.p95", "memory.p95", "memory.share"}
    | {"failing", "late", "gate.saturation", "retry_loop"}
)
_OF_PLACES: Final = frozenset({"operation", "actor", "affinity", "priority"})
_LONGEST: Final = 86_400.0  # seconds for which an intervention lasts at most
_BUDGET: Final = re.compile(r"\s*([0-9]{1,6})\s*/\s*(s|min|m|h)\s*(?:,\s*([0-9]{1,3}(?:\.[0-9]+)?)\s*%\s*)?")
_ROUNDING: Final = 1e-9  # 29 % of 100 are 29
_PER: Final = {"s": 60.0, "m": 1.0, "min": 1.0, "h": 1 / 60}


@attrs.frozen
class Budget:
    """How much rules may do.

    Attributes:
        targets: of which they may act on so many in a minute.
        share: of the running tokens that may be under their interventions at once, 0 to 1.
    """

    targets: float
    share: float

    @classmethod
    def of(cls, text: object, owner: str, default: float = 0.1) -> Budget:
        """Parse a budget, such as `5/min, 10%`.

        Raises:
            BadPolicy: it cannot be read.
        """
        found = _BUDGET.fullmatch(text) if isinstance(text, str) else None
        if found is None or float(found[3] or 0) > 100:
            raise BadPolicy(owner, "budget", text, "write targets and a share, such as '5/min, 10%'")
        if not float(found[1]):
            raise BadPolicy(owner, "budget", text, "0 allows nothing; write at least 1/h, or use mode observe")
        return cls(float(found[1]) * _PER[found[2]], float(found[3]) / 100 if found[3] else default)

    def most(self, running: int) -> int:
        """Return how many of so many running tokens may be under interventions at once."""
        return max(int(self.share * running + _ROUNDING), 1 if running >= 10 and self.share else 0)

    def __str__(self) -> str:
        return f"{self.targets:g}/min, {self.share * 100:g}%"


def _seconds(name: str, value: object, owner: str) -> float:
    try:
        seconds = seconds_in(value) if isinstance(value, str) else value
    except ValueError:
        seconds = None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= _LONGEST:
        raise BadPolicy(owner, name, value, "write a time of at most 24h, such as '30s' or '10m'")
    return float(seconds)


@attrs.frozen(kw_only=True)
class Rule:
    """A selector of live tokens, a verb, and how far that goes by itself.

    Attributes:
        name: of the rule, unique in its gate.
        select: which tokens; it may ask for what is predicted.
        do: one verb with its arguments, such as `renice -1`, `reroute process` or `throttle rate=5/s`.
        mode: `observe` only writes down what it would do; `propose` makes a proposal that a person applies; `act` does
            it.
        for_: seconds for which a token must have matched, or text such as `2s`; `for` in a file.
        expires: seconds after which what was done is undone, or text; 24 hours at most.
        budget: targets a minute and the share of running tokens, such as `5/min, 10%`; `renice`, `retag` and `estimate`
            have none.
        unattended: whether it ends tokens, or has them compensated, without a person.
        selector, action, limit: the select, do and budget as they were read.
        uses: the predictions that must be calibrated before it acts.
        operation: the one whose tokens it is for; None: those of several.
        at_submit: whether it is asked when a token is submitted, before that is queued.
        terms: its terms about places, priorities and tags, as a selector; empty: it has none.

    Raises:
        BadPolicy: a value cannot work; it names the field, the value and the remedy.
    """

    name: str
    select: str
    do: str
    mode: Mode = "observe"
    for_: float | str = 0.0
    expires: float | str = "10m"
    budget: str = "5/min, 10%"
    unattended: bool = False

    selector: Selector = attrs.field(init=False, eq=False, repr=False)
    action: Action = attrs.field(init=False, eq=False, repr=False)
    limit: Budget = attrs.field(init=False, eq=False, repr=False)
    uses: frozenset[str] = attrs.field(init=False, eq=False, repr=False)
    operation: str | None = attrs.field(init=False, eq=False, repr=False)
    at_submit: bool = attrs.field(init=False, eq=False, repr=False)
    terms: str = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        def wrong(field: str, value: object, remedy: str) -> BadPolicy:
            return BadPolicy(owner, field, value, remedy)

        def put(field: str, value: Any) -> None:
            object.__setattr__(self, field, value)

        owner = "Rule"
        if not isinstance(self.name, str) or not re.fullmatch(r"[\w.-]{1,60}", self.name):
            raise wrong("name", self.name, "use letters, digits, '-', '_' and '.', 60 at most, such as 'big-renders'")
        owner = f"Rule '{self.name}'"
        if self.mode not in MODES:
            raise wrong("mode", self.mode, f"use one of {', '.join(MODES)}")
        if not isinstance(self.unattended, bool):
            raise wrong("unattended", self.unattended, "use true or false")
        if not isinstance(self.select, str) or not self.select.strip():
            raise wrong("select", self.select, "write which tokens; '*' stands for all")
        try:
            put("selector", parse(self.select))
        except TokenGateError as error:
            raise wrong("select", self.select, str(error)) from None
        try:
            put("action", action_of(self.do))
        except ValueError as error:
            raise wrong("do", self.do, str(error)) from None
        put("for_", _seconds("for", self.for_, owner))
        put("expires", _seconds("expires", self.expires, owner))
        if not self.expires:
            raise wrong("expires", self.expires, "write a time above 0, such as '10m'")
        put("limit", Budget.of(self.budget, owner))
        verb, parts = self.action.verb, [part for part in self.selector.parts if not part.is_tag]
        put("uses", frozenset(TARGETS[part.name] for part in parts if part.name in TARGETS))
        put("operation", next((part.value for part in parts if part.name == "operation" and part.is_exact), None))
        for part in parts:
            if part.name in ("operation", "actor") and part.is_exact and not is_path(part.value):
                remedy = f"no {part.name} can be called '{part.value}': no part of a name is empty"
                raise wrong("select", self.select, remedy)
        known = all(part.name in _KNOWN_AT_SUBMIT for part in parts)
        put("terms", _terms(self.selector))
        put("at_submit", known and not self.for_ and self.action.kind.is_free)
        if verb == "throttle" and not self.terms:
            remedy = "a throttle needs a term about operation, actor, affinity, priority or a tag"
            raise wrong("select", self.select, remedy)
        if self.unattended and not self.action.kind.is_ending:
            raise wrong("unattended", self.unattended, f"only terminate and compensate have it, not {verb}")
        if self.at_submit and self.mode == "propose":
            remedy = (
                "this rule is asked at submit, which cannot wait for a person: use observe or act, or give it a 'for'"
            )
            raise wrong("mode", self.mode, remedy)

    @property
    def wait(self) -> float:
        """Seconds for which a token must have matched."""
        return cast("float", self.for_)

    @property
    def lasts(self) -> float:
        """Seconds after which what was done is undone."""
        return cast("float", self.expires)


def _terms(selector: Selector) -> str:
    parts = [part for part in selector.parts if part.is_tag or part.name in _OF_PLACES]
    texts = (f"{_name(part)}{part.op}{quoted(part.value)}" for part in parts)
    return parse(",".join(texts)).text if parts else ""


def _name(part: Term) -> str:
    return f"tag.{quoted(part.name)}" if part.is_tag else part.name
