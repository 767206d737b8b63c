"""Commands about the past: of a gate that runs, or from the files of one that does not."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from tokengate.cli._connection import Connection, connected
from tokengate.cli._errors import Failure
from tokengate.cli._listing import Listing
from tokengate.control.inspection._selector import RECORD_FIELDS, doubts
from tokengate.control.messages import Event
from tokengate.control.stream._events import json_of
from tokengate.control.stream._record import LOST

if TYPE_CHECKING:
    from tokengate.history._reader import Reader

_ROWS_ON_TERMINAL, _ROWS = 100, 10_000
_AT_ONCE = 10_000  # events of an answer

dir_option = click.option(
    "--dir",
    "directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Read the files of History(DIR) instead of asking a gate; it need not run.",
)
_WHEN = "a date and time, or how long ago: 90s, 2h, 7d"


@click.group(cls=Listing)
def history() -> None:
    """List what tokens did, or show one token.

    This is read from the files that the plugin History keeps.

    'tokengate history' is short for 'tokengate history list'.

    \b
    tokengate history --since 2h
    tokengate history 'operation=charge,state=failed' --since 1d --json
    tokengate history show 7f3a91c2.4242
    tokengate history --dir /var/lib/shop 'run>10s'
    """  # noqa: D301  # click wants the backspace itself


@history.command("list")
@click.argument("selector", default="", metavar="[SELECTOR]")
@click.option("--since", default="", metavar="TIME", help=f"From then on: {_WHEN}.")
@click.option("--until", default="", metavar="TIME", help=f"Until then: {_WHEN}.")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, _ROWS),
    default=None,
    help=f"The newest ones, so many.  [default: {_ROWS_ON_TERMINAL}, and {_ROWS:,} in a pipe]",
)
@dir_option
@connected
def list_(
    connection: Connection, selector: str, since: str, until: str, limit: int | None, directory: Path | None
) -> None:
    """List the newest records, the newest last, and what is missing between them.

    SELECTOR is that of 'tokengate ps', for attempts that have ended; it may also have run, wait, held, cpu, memory,
    finished (how long ago), error, reason, key, kind, gate_run. Without it, what else has happened is listed, too.

    \b
    tokengate history list --since 2h
    tokengate history 'operation=charge,state=failed' --since 1d
    tokengate history kind=supervisor.* --until 1h --json
    """  # noqa: D301
    from tokengate.history._kinds import HistoryRecords  # here, as below: other commands need it not

    if limit is None:
        limit = _ROWS_ON_TERMINAL if sys.stdout.isatty() and connection.output != "json" else _ROWS
    with progress() as told:
        if directory is None:
            found: Sequence[Event] = connection.ask(HistoryRecords(selector, since, until, limit))
        else:
            found = reader_of(directory, told).records(selector, since=since, until=until, limit=limit)
    _show(connection, found)
    if len(found) >= limit:
        click.echo(f"These are the newest {limit:,}; for older ones use --until, or a larger --limit.", err=True)
    if all(one.kind == LOST for one in found):
        what = "; ".join(["history has no such record", *doubts(selector, RECORD_FIELDS)])
        raise Failure(f"{what}; try a longer --since, or another SELECTOR")


@history.command()
@click.argument("name", metavar="ID")
@dir_option
@connected
def show(connection: Connection, name: str, directory: Path | None) -> None:
    """Show one token: its attempts, samples and events, in order of time.

    ID is its uid, which is unique over all runs of all gates, or its id.

    \b
    tokengate history show 7f3a91c2.4242
    tokengate history show 4242 --dir /var/lib/shop --json
    """  # noqa: D301
    from tokengate.history._kinds import ShowHistoryRecord

    with progress() as told:
        read = connection.ask if directory is None else lambda asked: reader_of(directory, told).show(asked.name)
        found: Sequence[Event] = read(ShowHistoryRecord(name))
    _show(connection, found)


@click.command()
@click.argument("name", default="", metavar="[NAME]")
@click.option("--since", default="", metavar="TIME", help=f"From history instead, from then on: {_WHEN}.")
@dir_option
@connected
def operations(connection: Connection, name: str, since: str, directory: Path | None) -> None:
    """Show the figures of operations, of now or since a time.

    These are tokens by state, rate, times, memory and queue. NAME may be a pattern with *. The plugin Telemetry has
    those of now, the plugin History those of the past.

    \b
    tokengate operations
    tokengate operations resize
    tokengate operations --since 1d
    tokengate operations --since 7d --dir /var/lib/shop
    """  # noqa: D301
    from tokengate.telemetry._kinds import Operations

    with progress() as told:
        if directory is None:
            found = connection.ask(Operations(name, since=since))
        else:
            found = reader_of(directory, told).operations(name, since)
    connection.show(found)
    if name and not found:
        raise Failure(f"no operation matches {name!r}; 'tokengate operations' lists those that have ended tokens")


def reader_of(directory: Path, told: Callable[[int], object]) -> Reader:
    from tokengate.history._files import files_in
    from tokengate.history._reader import Reader

    folder = directory / "history" if (directory / "history").is_dir() else directory
    if not files_in(folder):
        raise Failure(f"{directory} has no history; name the directory that History(DIRECTORY) was given")
    return Reader(folder, told)


def events_of_gate(connection: Connection, since: str) -> Iterator[Event]:
    """Return the events that a gate has in its history, asked for in parts, the newest first."""
    from tokengate.history._kinds import HistoryRecords
    from tokengate.history._reader import moment

    begin = datetime.fromtimestamp(moment(since, time.time()) or 0.0, UTC).isoformat()
    found: dict[tuple[str, int, str], Event] = {}
    until = ""
    while True:
        part = connection.ask(HistoryRecords("", since=begin, until=until, limit=_AT_ONCE))
        known = len(found)
        found |= {(one.gate_run, one.seq, one.kind): one for one in part}
        if len(part) < _AT_ONCE or len(found) == known:
            return iter(sorted(found.values(), key=lambda one: one.at))
        until = datetime.fromtimestamp(min(one.at for one in part if one.kind != LOST), UTC).isoformat()


def _show(connection: Connection, found: Sequence[Event]) -> None:
    if connection.output != "json":
        connection.show(found)
        return
    for event in found:
        connection.show_line(json_of(event))


@contextlib.contextmanager
def progress() -> Generator[Callable[[int], object]]:
    """Show on a terminal that history is read; yield what is told how many files are left."""
    if not sys.stderr.isatty():
        yield lambda _left: None
        return
    with Console(stderr=True).status("reading history") as status:
        yield lambda left: status.update(f"reading history, {left} files left")
