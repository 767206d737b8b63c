"""A plugin in the place of `Predict`, which has the same rows in each run: for what shows them."""

from __future__ import annotations

from typing import Any

from tokengate.control.registry import Plugin
from tokengate.errors import BadRequest
from tokengate.predict._kinds import (
    Calibrations,
    InterventionDetails,
    InterventionRow,
    Interventions,
    RuleRow,
    Rules,
    SetModeOfRule,
    ShowIntervention,
    UndoIntervention,
)
from tokengate.predict._outcomes import CalibrationRow

RULE = RuleRow(
    "big-renders", "operation=render,memory.share>0.9", "reroute process", "act", "propose",
    "people have undone 3 of its interventions within an hour", 4, 3.0, 1, 2.0, 600.0, "5/min, 10%",
    at_submit=False, counts={"active": 2, "refused": 1}, acted="2 ended: not known yet",
)  # fmt: skip
MADE = InterventionRow(
    3, "big-renders", "reroute process", "token 17", "render", "7f3a91c2.17", "active", "", 1_790_000_000.0, 125.0
)
EXPLAINED = (
    "matches operation=render, memory.share>0.9 (0.95)",
    "expected: run 2.1 s, 95 of 100 below 8 s (n 812, of the latest 500 95.2 % stayed below; calibrated)",
    "against the operation's usual token: bytes x3.1, tenant=acme x1.2",
)


class Predict(Plugin):
    """Stands in for the plugin of this name.

    Attributes:
        modes: (rule, mode, reason) that were asked for.
        undone: the first intervention that was to be undone; another one has begun.
    """

    def __init__(self) -> None:
        self.modes: list[tuple[str, str, str]] = []
        self.undone: list[int] = []

    def answers(self, _gate: Any, /) -> Predict:
        return self

    async def calibrations(self, message: Calibrations) -> tuple[CalibrationRow, ...]:
        rows = (
            CalibrationRow("parse", "run", 812, 0.952, (0.96, 0.95, 0.946), (), calibrated=True, estimator="line"),
            CalibrationRow("parse", "failing", 812, 0.041, (0.01, 0.04, 0.073), (0.01, 0.05, 0.08), calibrated=True),
            CalibrationRow(
                "render", "run", 120, 0.9, (0.9, 0.9, 0.9), (), calibrated=False, why="120 of 200 records", drifts=1
            ),
        )
        return tuple(row for row in rows if message.select in ("", row.operation))

    async def rules(self, _message: Rules) -> tuple[RuleRow, ...]:
        return (RULE,)

    async def set_mode_of_rule(self, message: SetModeOfRule) -> RuleRow:
        if message.name != RULE.name:
            raise BadRequest(f"there is no rule '{message.name}'; the rules are: {RULE.name}")
        self.modes.append((message.name, message.mode, message.reason))
        return RULE

    async def interventions(self, message: Interventions) -> tuple[InterventionRow, ...]:
        return (MADE,) if message.select in ("", "active") else ()

    async def show_intervention(self, message: ShowIntervention) -> InterventionDetails:
        assert message.number == MADE.number
        before, after = {"affinity": "cpu", "begun": False}, {"affinity": "process", "begun": False}
        undone = "it goes back, unless it has begun"
        return InterventionDetails(MADE, EXPLAINED, before, after, undone, "", "n 2: not known yet", "", 3.0, 18.0)

    async def undo_intervention(self, message: UndoIntervention) -> InterventionRow:
        if self.undone:
            raise BadRequest(f"intervention {message.number} is not undone: it has begun")
        self.undone.append(message.number)
        return MADE
