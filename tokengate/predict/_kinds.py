"""The nouns of prediction: rules, interventions, and how right predictions were."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

import attrs
from msgspec import Meta

from tokengate.control.messages import Change, Listing, Message
from tokengate.control.registry._kinds import Kind, declare
from tokengate.predict._outcomes import CalibrationRow

_PLUGIN: Final = "Predict()"
_SPARSE: Final = {"sparse": True}
_WIDE: Final = {"wide": True}
_SPARE: Final = {"spare": True}


@attrs.frozen
class Calibrations(Listing[CalibrationRow]):
    """Show how right predictions were: coverage of the latest 500, in all and by thirds, drift, and what answers.

    Raises:
        Refused: the caller may not see all tokens.
    """

    command: ClassVar[str] = "calibration"
    examples: ClassVar = ("calibration", "calibration parse")
    select: Annotated[str, Meta(description="Name of an operation, or a pattern; empty for all.")] = ""


@attrs.frozen
class RuleRow:
    """A rule.

    Attributes:
        name: its name.
        select: the tokens that it is for.
        do: what it does.
        mode: as its file or the code says.
        in_force: its mode now, which operators, the cap for all and lost trust change.
        why: why that is another one, or what it names that the gate does not have yet; empty if neither is so.
        meant: tokens that match now.
        left: targets that its budget is enough for in this minute; None: it has no budget.
        active: interventions of it that are in force.
        waits: seconds for which a token must have matched.
        lasts: seconds after which what it did is undone.
        budget: as text.
        at_submit: whether it is asked when a token is submitted.
        counts: {what it did, or would have done: how often}.
        acted: what became of tokens that it acted on, as text.
        held_back: what became of those that it left alone, to compare.
    """

    name: str
    select: str = attrs.field(metadata=_SPARE)
    do: str
    mode: str
    in_force: str
    why: str = attrs.field(metadata=_SPARSE)
    meant: int
    left: float | None
    active: int
    waits: float = attrs.field(metadata=_WIDE)
    lasts: float = attrs.field(metadata=_WIDE)
    budget: str = attrs.field(metadata=_WIDE)
    at_submit: bool = attrs.field(metadata=_WIDE)
    counts: dict[str, int] = attrs.field(metadata=_WIDE)
    acted: str = attrs.field(default="", metadata=_WIDE)
    held_back: str = attrs.field(default="", metadata=_WIDE)


@attrs.frozen
class Rules(Listing[RuleRow]):
    """List the rules: their modes, the tokens that they mean now, and what is left of their budgets.

    Raises:
        BadRequest: there is no such rule.
        Refused: the caller may not see all tokens.
    """

    examples: ClassVar = ("rules", "rules mode big-renders propose")
    select: Annotated[str, Meta(description="Name of a rule, or a pattern; empty for all.")] = ""


@attrs.frozen
class SetModeOfRule(Change[RuleRow]):
    """Give a rule another mode, until its file says another one; this also ends that it observes for lack of trust.

    Raises:
        BadRequest: there is no such rule, or it cannot have this mode.
    """

    right: ClassVar[str] = "administer"
    examples: ClassVar = ("rules mode big-renders propose",)
    name: Annotated[str, Meta(description="Its name, as `rules` lists it.")]
    mode: Annotated[
        Literal["observe", "propose", "act"],
        Meta(description="`observe` writes down what it would do, `propose` makes proposals, `act` does it."),
    ]


@attrs.frozen
class InterventionRow:
    """What a rule has done about one token, or would have done.

    Attributes:
        number: from 1.
        rule: name of the rule.
        verb: with its arguments.
        target: what it is done to.
        operation: of the token.
        uid: of the token.
        state: `observed`, `proposed`, `applied`, `denied`, `held back`, `active`, `done`, `ended`, `undone`, `expired`
            or `refused`.
        why: why it is no more than that; or what has ended it.
        at: seconds since the epoch.
        undone_in: seconds until it is undone; None: it is not in force.
        proposal: number of its proposal; None: it has none.
    """

    number: int
    rule: str
    verb: str
    target: str
    operation: str = attrs.field(metadata=_WIDE)
    uid: str = attrs.field(metadata=_WIDE)
    state: str
    why: str = attrs.field(metadata=_SPARSE)
    at: float = attrs.field(metadata=_SPARE)
    undone_in: float | None = attrs.field(default=None, metadata=_SPARSE)
    proposal: int | None = attrs.field(default=None, metadata=_SPARSE)


@attrs.frozen
class Interventions(Listing[InterventionRow]):
    """List the latest interventions, and all that are in force.

    Raises:
        BadRequest: there is no such rule or state.
        Refused: the caller may not see all tokens.
    """

    examples: ClassVar = ("interventions", "interventions show 3", "interventions undo 3")
    select: Annotated[str, Meta(description="Name of a rule, or a state; empty for all.")] = ""


@attrs.frozen
class InterventionDetails:
    """Everything that is known of an intervention.

    Attributes:
        row: its row in a list.
        explained: why its rule has matched, and what was expected of the token, a line each.
        before: the values before.
        set: the values that it has set.
        undo: what undoing it does.
        token: what became of the token; empty while it lives.
        acted: what became of the tokens that its rule acted on, as text.
        held_back: what became of those that it left alone, to compare.
        left: targets for which the budget of the rule is enough in this minute; None: it has no budget.
        left_of_gate: the same of the budget of all rules.
    """

    row: InterventionRow
    explained: tuple[str, ...]
    before: dict[str, Any]
    set: dict[str, Any]
    undo: str
    token: str
    acted: str
    held_back: str
    left: float | None
    left_of_gate: float | None


@attrs.frozen
class ShowIntervention(Message[InterventionDetails]):
    """Show one intervention: why it was decided, the values before, what undoing it does, and what others came to.

    Raises:
        BadRequest: there is none with this number.
        Refused: the caller may not see all tokens.
    """

    right: ClassVar[str] = "view"
    examples: ClassVar = ("interventions show 3",)
    number: Annotated[int, Meta(description="Its number, as `interventions` lists it.", ge=1)]


@attrs.frozen
class UndoIntervention(Change[InterventionRow]):
    """Undo an intervention, if its values are still the ones that it has set.

    Raises:
        BadRequest: there is none with this number, or nothing of it can be undone.
    """

    examples: ClassVar = ("interventions undo 3",)
    number: Annotated[int, Meta(description="Its number, as `interventions` lists it.", ge=1)]


RULE: Final = declare(Kind("rule", RuleRow, Rules, (SetModeOfRule,), plugin=_PLUGIN, derived=False))
INTERVENTION: Final = declare(
    Kind(
        "intervention",
        InterventionRow,
        Interventions,
        (ShowIntervention, UndoIntervention),
        plugin=_PLUGIN,
        derived=False,
    )
)
CALIBRATION: Final = declare(Kind("calibration", CalibrationRow, Calibrations, (), plugin=_PLUGIN, derived=False))
