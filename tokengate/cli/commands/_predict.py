"""Commands about predictions, rules and interventions."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
from click.shell_completion import CompletionItem

from actors import TokenGateError
from tokengate.cli._completers import complete_name
from tokengate.cli._connection import Connection, connected
from tokengate.cli._errors import Failure, UsageProblem, one_line_errors
from tokengate.cli._gate_option import gate_option
from tokengate.cli._listing import DerivedGroup
from tokengate.cli._out_file import out_option, tell
from tokengate.cli.commands._history import dir_option, events_of_gate, progress, reader_of
from tokengate.control.messages import Event
from tokengate.control.rendering._cells import plain

if TYPE_CHECKING:
    from tokengate.predict._rule import Rule

_ROOM: Final = "tokengate.predict._kinds"

_since_option = click.option(
    "--since", default="7d", show_default=True, metavar="TIME",
    help="From then on: a date and time, or how long ago: 90s, 2h, 7d.",
)  # fmt: skip
_tag_option = click.option(
    "--tag", "tags", multiple=True, metavar="NAME", help="A tag that is learned from, as in Predict(tags=); or several."
)


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

    MODE is that of the file or the code, IN FORCE is the one that counts now; WHY says why that is another one, or what
    a rule names that the gate does not have, which may be a slip. MEANT is the number of tokens that match now, LEFT
    what is left of the budget of this minute. -o wide shows more.

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


@click.group()
def predict() -> None:
    """Try predictions and rules on history.

    This is read from the files that the plugin History keeps, and nothing is changed.

    \b
    tokengate predict evaluate --since 7d
    tokengate predict backtest tokengate.toml --since 1d
    tokengate predict export --since 30d -o records.jsonl
    """  # noqa: D301  # click wants the backspace itself


@predict.command()
@_since_option
@_tag_option
@click.option(
    "--estimator", "estimators", multiple=True, metavar="MODULE:NAME",
    help="An estimator of your own, as in Predict(estimators=): its class, or one; file.py:NAME works, too.",
)  # fmt: skip
@dir_option
@connected
def evaluate(
    connection: Connection, since: str, tags: tuple[str, ...], estimators: tuple[str, ...], directory: Path | None
) -> None:
    """Show how right predictions would have been.

    Each attempt is predicted, compared, and learned, in order of time, by what predicts live. COVERAGE is the share
    that stayed below its p95: 95 % is right; WORST is that of the worst 500 in a row, THIRDS those of the lowest, the
    middle and the highest third of the predicted values. OVER is p95 as a multiple of the value: less is better. LOSS
    is the pinball loss at p50, of logs, PLAIN the same of one quantile for each operation: less is better. Below the
    table stands of each --estimator whether it is better than the best that is built in; the best one answers.

    \b
    tokengate predict evaluate
    tokengate predict evaluate --since 1d --tag tenant --dir /var/lib/shop
    tokengate predict evaluate --estimator mine.py:Mine --json
    """  # noqa: D301
    from tokengate.predict._replay import Evaluation  # here, as below: other commands need it not

    found = Evaluation(tags, [_estimator(name) for name in estimators])
    with _past(connection, directory, since) as events:
        found.run(events)
    rows, probabilities = found.rows(), found.probabilities()
    verdicts = list(found.verdicts(rows))
    if not rows:
        raise Failure("no attempt of that time was predicted: an operation needs 30 records; try a longer --since")
    if connection.output == "json":
        told = {"evaluation": rows, "probabilities": probabilities, "verdicts": verdicts, "missing": found.lacks()}
        connection.show(told)
        return
    connection.show(rows)
    if verdicts:
        click.echo("\n" + "\n".join(str(plain(line)) for line in verdicts))
    if probabilities:
        click.echo("\nprobabilities of failure and of lateness, the latest 500 of each operation")
        connection.show(probabilities)
    _tell(found.lacks())


@predict.command()
@click.argument("file", type=click.Path(path_type=Path))
@_since_option
@_tag_option
@click.option(
    "--mode", type=click.Choice(["file", "observe", "propose", "act"]), default="act", show_default=True,
    help="The mode of all rules; 'file': each has its own.",
)  # fmt: skip
@click.option("--budget", default="20/min, 10%", show_default=True, help="That of all rules, as in Predict(budget=).")
@click.option("--tokens", is_flag=True, help="Print what would have been decided about each token, an object a line.")
@dir_option
@connected
def backtest(
    connection: Connection, file: Path, since: str, tags: tuple[str, ...], mode: str, budget: str, tokens: bool,
    directory: Path | None,
) -> None:  # fmt: skip
    """Show what the rules of a file would have done.

    FILE is a tokengate.toml; of it only the rules are read. The past goes by once more, and the rules are asked by what
    asks them live: at submit, or once a second, within their budgets. Predictions are made from the records of the time
    from --since to that moment. What rules would do has no effect, so SUCCEEDED and TOOK (from submit to end) are what
    tokens came to without it.

    \b
    tokengate predict backtest tokengate.toml --since 1d
    tokengate predict backtest rules.toml --mode file --dir /var/lib/shop
    tokengate predict backtest rules.toml --tokens | jq 'select(.outcome == "acts").uid'
    """  # noqa: D301
    import trio  # here, as below: other commands need none of these

    from tokengate._exceptions import BadPolicy
    from tokengate.predict._backtest import Backtest
    from tokengate.predict._rule import Budget, Mode

    rules = _rules_in(file)
    chosen: Mode | None = None if mode == "file" else mode  # type: ignore[assignment]
    late = [rule.name for rule in rules if rule.at_submit and chosen == "propose"]
    if late:
        raise UsageProblem(f"rule '{late[0]}' is asked at submit, which cannot wait for a person; use another --mode")
    encode: Callable[[object], bytes] = msgspec.json.encode
    told = (lambda one: click.echo(encode(one))) if tokens else lambda _one: None
    try:
        found = Backtest(rules, chosen, tags, Budget.of(budget, "--budget"), told)
    except BadPolicy as error:
        raise UsageProblem(f"--budget is {budget!r}; {error.remedy}") from None
    with _past(connection, directory, since) as events:
        trio.run(found.run, events)
    if tokens:
        return
    if connection.output == "json":
        connection.show({"rules": found.rows(), "missing": found.lacks()})
        return
    connection.show(found.rows())
    _tell(found.lacks())


@predict.command()
@_since_option
@out_option
@dir_option
@gate_option
@click.option("--json", "json_wanted", is_flag=True, help="Print one JSON object about it.")
def export(since: str, out: Path, directory: Path | None, gate: str | None, json_wanted: bool) -> None:
    """Write what predictions are made from, as JSON lines.

    A line is an attempt: its operation, tags and features, and what it took; or it says that records are missing, and
    when. Arguments and results are not in it.

    \b
    tokengate predict export --since 30d -o records.jsonl
    tokengate predict export --dir /var/lib/shop -o - | jq 'select(.operation == "parse").features'
    """  # noqa: D301
    from tokengate.predict._replay import export as write
    from tokengate.telemetry._out_file import written

    with one_line_errors(), Connection(gate, "json") as connection:
        try:
            with _past(connection, directory, since, gate) as events, written(out) as file:
                counts = write(events, file)
        except OSError as error:
            if isinstance(error, TokenGateError):  # some of them are errors of the system, too: a refusal
                raise
            raise UsageProblem(f"{error.filename or out}: {error.strerror}") from None
    if json_wanted:
        tell(out, msgspec.json.encode({"file": str(out), **counts}))
        return
    attempts = counts.pop("attempts")
    tell(out, f"{plain(str(out))}: {attempts:,} attempts")
    for what, count in counts.items():
        if count:
            tell(out, f"{count:,} {what}")


@contextmanager
def _past(
    connection: Connection, directory: Path | None, since: str, gate: str | None = None
) -> Generator[Iterator[Event]]:
    """Yield the events of one gate, from its files or as it answers.

    Args:
        connection: to the gate.
        directory: of the files; None: the gate is asked.
        since: from when on.
        gate: whose, if the files are of several.
    """
    gate = gate or click.get_current_context().params.get("gate")
    with progress() as told:
        try:
            if directory is not None:
                with closing(reader_of(directory, told).events(since)) as events:
                    yield _of_one(events, gate)
            else:
                name = connection.gate
                yield (one for one in events_of_gate(connection, since) if one.gate in ("", name))
        except ValueError as error:
            if isinstance(error, TokenGateError):
                raise
            raise UsageProblem(str(plain(str(error)))) from None


def _of_one(events: Iterable[Event], gate: str | None) -> Iterator[Event]:
    """Yield the events of one gate.

    Raises:
        UsageProblem: they are of several, and none was chosen.
    """
    first = gate and gate.partition("@")[0]
    for event in events:
        if event.gate and event.gate != first:
            if gate:
                continue
            if first:
                raise UsageProblem(f"this history is of the gates '{first}' and '{event.gate}'; choose one with --gate")
            first = event.gate
        yield event


def _rules_in(file: Path) -> Sequence[Rule]:
    from tokengate._exceptions import BadConfig
    from tokengate.config._file import read_file
    from tokengate.control.inspection._selector import parse
    from tokengate.predict._rules_file import RULES

    try:
        found = read_file(file, parse, only=(RULES,)).of(RULES)
    except BadConfig as error:
        click.echo("\n".join(str(plain(line)) for line in str(error).splitlines()), err=True)
        raise SystemExit(2) from None
    if not found:
        raise UsageProblem(f"{file} has no rules; write them as [[rule]]")
    return found


def _estimator(name: str) -> Any:
    from tokengate.cli._run_target import load_object

    found = load_object(name)
    made = found() if isinstance(found, type) else found
    if getattr(made, "target", None) not in ("run", "memory") or not hasattr(made, "predict"):
        raise UsageProblem(f"'{name}' is no estimator; it needs target ('run' or 'memory'), learn and predict")
    return made


def _tell(lacks: Iterable[str]) -> None:
    for text in lacks:
        click.echo(f"missing: {plain(text)}", err=True)
