"""`tokengate trace-export`: what tokens have done, as a file for a viewer of traces."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

import click
import msgspec

from actors import TokenGateError
from tokengate.cli._connection import Connection
from tokengate.cli._errors import UsageProblem, one_line_errors
from tokengate.cli._gate_option import gate_option
from tokengate.cli._out_file import out_option, tell
from tokengate.cli.commands._history import dir_option, events_of_gate, progress, reader_of
from tokengate.control.rendering._cells import plain

_LONGEST: Final = 2**24  # bytes of a line


@click.command("trace-export")
@click.argument("selector", default="")
@click.option("--since", metavar="TIME", help="From history, from then on: a date and time, or how long ago: 30s, 2h.")
@click.option("--from", "source", metavar="FILE", help="From events, a JSON object a line; - for stdin.")
@out_option
@dir_option
@gate_option
@click.option("--json", "json_wanted", is_flag=True, help="Print one JSON object about it.")
def trace_export(
    selector: str, since: str | None, source: str | None, out: Path, directory: Path | None, gate: str | None,
    json_wanted: bool,
) -> None:  # fmt: skip
    """Write a Chrome trace of tokens, for Perfetto.

    chrome://tracing shows it, too. Tokens have lines with their attempts: queued, paused, running. Workers are tracks
    with the runs, with arrows from parents to children. The file says what it lacks, and so does the command.

    SELECTOR chooses tokens, as that of 'tokengate history' does; events of no token are always there.

    \b
    tokengate trace-export --since 30s -o trace.json
    tokengate trace-export 'operation=resize,run>1s' --since 1h --dir /var/lib/shop -o trace.json
    tokengate watch --kind token --json > events.jsonl
    tokengate trace-export --from events.jsonl -o trace.json
    """  # noqa: D301  # click wants the backspace itself
    from tokengate.telemetry._lines import chosen, events_of  # here: other commands need none of these
    from tokengate.telemetry._out_file import written
    from tokengate.telemetry._trace import write_trace

    if (since is None) == (source is None):
        raise UsageProblem("give --since TIME, for events of history, or --from FILE, for those of a file")
    lacks: list[str] = []
    with one_line_errors(), ExitStack() as opened:
        try:
            if source is not None:
                events = events_of(_shown(opened.enter_context(_opened(source))), source, lacks)
            elif directory is not None:
                events = reader_of(directory, opened.enter_context(progress())).events(since)
            else:
                opened.enter_context(progress())
                events = events_of_gate(opened.enter_context(Connection(gate, "json")), since or "")
            with written(out) as file:
                summary = write_trace(chosen(events, selector, time.time()), file, lacks)
        except (OSError, ValueError) as error:
            if isinstance(error, TokenGateError):
                raise
            if isinstance(error, OSError) and error.filename is not None:
                raise UsageProblem(f"{error.filename}: {error.strerror}") from None
            raise UsageProblem(str(plain(str(error)))) from None
    if json_wanted:
        tell(out, msgspec.json.encode({"file": str(out), **summary._asdict()}))
        return
    tell(
        out,
        f"{plain(str(out))}: {summary.attempts:,} attempts, {summary.slices:,} slices, {summary.arrows:,} arrows, "
        f"{summary.instants:,} other events",
    )
    for text in summary.lacks:
        tell(out, f"it lacks {plain(text)}")


def _opened(source: str) -> IO[bytes]:
    return sys.stdin.buffer if source == "-" else open(source, "rb")  # the caller closes it


def _shown(file: IO[bytes]) -> Iterator[bytes]:
    """Return the lines of a file, and show on a terminal how much was read; what is longer than any line in pieces."""
    lines = iter(partial(file.readline, _LONGEST), b"")
    if not sys.stderr.isatty():
        yield from lines
        return
    bar: Any
    with click.progressbar(length=os.fstat(file.fileno()).st_size, label="reading", file=sys.stderr) as bar:
        yield from _counted(lines, bar.update)


def _counted(lines: Iterator[bytes], update: Callable[[int], object]) -> Iterator[bytes]:
    unseen = 0
    for line in lines:
        yield line
        unseen += len(line)
        if unseen > 1_000_000:
            update(unseen)
            unseen = 0
    update(unseen)
