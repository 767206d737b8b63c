"""Commands that show gates, tokens, actors and the tree."""

from __future__ import annotations

import sys

import click

from tokengate.cli._completers import complete_actor, complete_described, complete_token
from tokengate.cli._connection import Connection, connected
from tokengate.cli._derive import command_of, show_answer
from tokengate.cli._errors import Failure, one_line_errors
from tokengate.cli._parameters import SECONDS
from tokengate.cli._token_targets import SELECTORS, joined, nothing_matches, token_id, token_or_actor
from tokengate.cli.commands._follow import every_option, watch_answer
from tokengate.control.messages import (
    COLUMNS,
    Actors,
    CountChildren,
    Describe,
    DescribeActor,
    Info,
    Overview,
    Stack,
    Statistics,
    TokenPage,
    Tokens,
    Tree,
    WhichChildren,
)
from tokengate.control.transport._discovery import find_gates

# A terminal shows as many rows as a person reads, a script gets as many as an answer may have.
_ROWS_ON_TERMINAL, _ROWS = 100, 10_000


@click.command()
@click.option(
    "-o", "--output", type=click.Choice(["table", "wide", "json"]), default="table", help="How to print them."
)
@click.option("--json", "json_wanted", is_flag=True, help="The same as -o json.")
def ls(output: str, json_wanted: bool) -> None:
    """List the gates that run here.

    \b
    tokengate ls
    tokengate ls --json
    """  # noqa: D301  # click wants the backspace itself
    with one_line_errors():
        connection = Connection(None, "json" if json_wanted else output)
        found = find_gates()
        if found or connection.output == "json":
            connection.show(found)
        if not found:
            raise Failure("no gate runs here; start one with 'tokengate run', or 'with Gate():' in Python", 3)


info = command_of(Info, show_answer)
overview = command_of(Overview, show_answer)


@click.command(epilog=SELECTORS)
@click.argument("selector", default="", metavar="[SELECTOR]")
@click.option(
    "-l", "--selector", "more", default="", metavar="SELECTOR", help="A second SELECTOR; tokens must match both."
)
@click.option(
    "--sort",
    type=click.Choice([sign + column for column in COLUMNS for sign in ("", "-")]),
    default="id",
    metavar="COLUMN",
    help=f"One of {', '.join(COLUMNS)}; a - before it reverses the order.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, _ROWS),
    default=None,
    help=f"Maximum number of rows.  [default: {_ROWS_ON_TERMINAL}, and {_ROWS:,} in a pipe]",
)
@click.option("-w", "--watch", "watching", is_flag=True, help="Refresh until Ctrl-C.")
@every_option
@connected
def ps(
    connection: Connection, selector: str, more: str, sort: str, limit: int | None, watching: bool, every: float
) -> None:
    """List live tokens. SELECTOR chooses some; a number is an id.

    \b
    tokengate ps
    tokengate ps 'operation=resize,running>30' --sort -running
    tokengate ps 'affinity=cpu,running>5'    # computations that have run for long
    tokengate ps 'overrun>2'    # that have run for twice their p95, in a gate with Predict
    tokengate ps -w state=paused
    tokengate ps tenant=acme -o wide
    """  # noqa: D301
    chosen = joined(selector, more)
    if limit is None:
        limit = _ROWS_ON_TERMINAL if sys.stdout.isatty() and connection.output != "json" else _ROWS
    question = Tokens(chosen, sort=sort, limit=limit)
    if watching:
        watch_answer(connection, question, every)
        return
    page: TokenPage = connection.ask(question)
    connection.show(page)
    if chosen and not page.matching:
        raise nothing_matches(chosen)


@click.command()
@click.argument("what", callback=token_or_actor, metavar="ID|ACTOR", shell_complete=complete_described)
@connected
def describe(connection: Connection, what: int | str) -> None:
    """Describe one token, or one actor.

    Of a token this shows its arguments, times, policy, what it waits for, and whether it may be steered. Arguments are
    shown as types and sizes, with the values of those that its operation or actor class names in `show`.

    Of an actor, by its path or the last part of it: why its latest eight instances ended, at which token, and whether
    others followed; and what is left of the restarts that its supervisor allows.

    \b
    tokengate describe 42
    tokengate describe 42 --json
    tokengate describe office/mailer
    """  # noqa: D301
    connection.show(connection.ask(Describe(what) if isinstance(what, int) else DescribeActor(what)))


@click.command()
@click.argument("token", callback=token_id, metavar="ID", shell_complete=complete_token)
@connected
def stack(connection: Connection, token: int) -> None:
    """Show the stack of a token, the outermost line first.

    \b
    tokengate stack 42
    tokengate stack 42 --json
    """  # noqa: D301
    connection.show(connection.ask(Stack(token)))


@click.command()
@click.argument("root", default="/", metavar="[PATH]", shell_complete=complete_actor)
@click.option("--system", is_flag=True, help="Add the runtime's own part.")
@click.option("-w", "--watch", "watching", is_flag=True, help="Refresh until Ctrl-C.")
@every_option
@connected
def tree(connection: Connection, root: str, system: bool, watching: bool, every: float) -> None:
    """Show the supervision tree, from PATH down.

    \b
    tokengate tree
    tokengate tree -w
    tokengate tree billing
    """  # noqa: D301
    question = Tree(root=root, system=system)
    if watching:
        watch_answer(connection, question, every)
    else:
        connection.show(connection.ask(question))


@click.command()
@click.argument("name", default="", metavar="[NAME]", shell_complete=complete_actor)
@click.option(
    "--sample",
    type=SECONDS,
    default=0.0,
    metavar="SECONDS",
    help="Observe for so long how busy they are.",
)
@connected
def actors(connection: Connection, name: str, sample: float) -> None:
    """List actors and operations. NAME is a path, the last part of one, or a pattern with *.

    \b
    tokengate actors
    tokengate actors mailer -o wide
    tokengate actors 'front/*' --sample 1
    """  # noqa: D301
    rows = connection.ask(Actors(name=name, sample=sample))
    connection.show(rows)
    if name and not rows:
        raise Failure(f"no actor is named '{name}'; 'tokengate actors' lists them")


@click.command()
@click.argument("name", shell_complete=complete_actor)
@click.option("--on/--off", "on", default=None, help="Count from zero from now on; or stop counting.")
@connected
def stats(connection: Connection, name: str, on: bool | None) -> None:
    """Show what an actor has handled, and how long that took.

    Switch counting on first, with --on. NAME is a path, the last part of one, or a pattern with *.

    \b
    tokengate stats mailer --on
    tokengate stats mailer
    tokengate stats '*' --off
    """  # noqa: D301
    rows = connection.ask(Statistics(name, "show" if on is None else "on" if on else "off"))
    connection.show(rows)
    if not rows:
        raise Failure(f"no actor is named '{name}'; 'tokengate actors' lists them")
    if on is None and all(row.statistics is None for row in rows):
        raise Failure(f"statistics of '{name}' are off; switch them on with 'tokengate stats --on {name}'")


@click.command()
@click.argument("supervisor", shell_complete=complete_actor)
@click.option("--count", is_flag=True, help="Only count them.")
@connected
def children(connection: Connection, supervisor: str, count: bool) -> None:
    """List the children of a supervisor, newest first.

    \b
    tokengate children billing
    tokengate children billing --count
    """  # noqa: D301
    connection.show(connection.ask(CountChildren(supervisor) if count else WhichChildren(supervisor)))
