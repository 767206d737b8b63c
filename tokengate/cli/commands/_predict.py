"""Commands about predictions, rules and interventions."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import CompletionItem

from tokengate.cli._completers import complete_name
from tokengate.cli._connection import Connection, connected
from tokengate.cli._errors import Failure
from tokengate.cli._listing import DerivedGroup

_ROOM: Final = "tokengate.predict._kinds"


def _complete_operation(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from tokengate.predict._kinds import Calibrations  # here, as below: other commands need it not

    found = complete_name(Calibrations)(context, parameter, incomplete)
    return list({one.value: one for one in found}.values())


@click.command()
@click.argument("operation", default="", metavar="[OPERATION]", shell_complete=_complete_operation)
@connected
def calibration(connection: Connection, operation: str) -> None:
    """Show how right predictions were.

    Rules act only by what was right often enough. Of durations and memory COVERAGE is the share of the latest 500
    attempts that stayed below their p95, in all and of the lowest, the middle and the highest third of the predicted
    values; 95 % of all, and of each third, is right. Of failure and lateness it is the share that was seen, beside what
    was predicted in each third.

    OPERATION may be a pattern with *. -o wide shows more.

    \b
    tokengate calibration
    tokengate calibration parse
    tokengate calibration 'index.*' --json
    """  # noqa: D301  # click wants the backspace itself
    from tokengate.predict._kinds import Calibrations

    found = connection.ask(Calibrations(operation))
    connection.show(found)
    if operation and not found:
        raise Failure(f"nothing was learned of an operation '{operation}'; 'tokengate calibration' lists the others")


rules = DerivedGroup(
    name="rules",
    room=_ROOM,
    verbs={"list": "Rules", "mode": "SetModeOfRule"},
    help="""List the rules, or give one another mode.

    MODE is that of the file or the code, IN FORCE is the one that counts now; WHY says why that is another one. MEANT
    is the number of tokens that match now, LEFT what is left of the budget of this minute. -o wide shows more.

    'tokengate rules' is short for 'tokengate rules list'. 'tokengate ps SELECTOR' lists the tokens that a rule means.

    \b
    tokengate rules
    tokengate rules 'big-*' -o wide
    tokengate rules mode big-renders propose --reason 'it was right for a week'
    """,
)

interventions = DerivedGroup(
    name="interventions",
    room=_ROOM,
    verbs={"list": "Interventions", "show": "ShowIntervention", "undo": "UndoIntervention"},
    help="""List what rules did or would do, show why, or undo it.

    SELECTOR is the name of a rule, a pattern of names, or a state, such as active.

    'tokengate interventions' is short for 'tokengate interventions list'. 'tokengate freeze --revert' undoes all that
    are in force, and has rules act no more.

    \b
    tokengate interventions
    tokengate interventions active
    tokengate interventions show 3
    tokengate interventions undo 3 --reason 'it is needed today'
    """,
)
