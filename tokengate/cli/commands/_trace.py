"""`tokengate trace-export`: what tokens have done, as a file for a viewer of traces."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click
import msgspec

from tokengate.cli._errors import UsageProblem, one_line_errors
from tokengate.control.rendering._cells import plain


@click.command("trace-export")
@click.argument("selector", default="")
@click.option("--from", "source", metavar="FILE", required=True, help="Events, a JSON object a line; - for stdin.")
@click.option("-o", "--out", metavar="FILE", required=True, type=click.Path(path_type=Path), help="Where to write it.")
@click.option("--json", "json_wanted", is_flag=True, help="Print one JSON object about it.")
def trace_export(selector: str, source: str, out: Path, json_wanted: bool) -> None:
    """Write a Chrome trace of tokens, for Perfetto.

    chrome://tracing shows it, too. Tokens have lines with their attempts: queued, paused, running. Workers are tracks
    with the runs, with arrows from parents to children. The file says what it lacks, and so does the command.

    SELECTOR chooses tokens, as that of 'tokengate history' does; events of no token are always there.

    \b
    tokengate watch --kind token --json > events.jsonl
    tokengate trace-export --from events.jsonl -o trace.json
    tokengate trace-export 'operation=resize,run>1s' --from events.jsonl -o trace.json
    """  # noqa: D301  # click wants the backspace itself
    from tokengate.telemetry._lines import chosen, events_of  # here: other commands need none of these
    from tokengate.telemetry._trace import write_trace

    lacks: list[str] = []
    unfinished = out.with_name(f".{out.name}.{os.getpid()}")
    with one_line_errors():
        try:
            with _opened(source) as lines, unfinished.open("xb") as file:
                events = chosen(events_of(_shown(lines), source, lacks), selector, time.time())
                summary = write_trace(events, file, lacks)
            unfinished.replace(out)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise UsageProblem(f"{error.filename}: {error.strerror}") from None
            raise UsageProblem(str(plain(str(error)))) from None
        finally:
            unfinished.unlink(missing_ok=True)
    if json_wanted:
        click.echo(msgspec.json.encode({"file": str(out), **summary._asdict()}))
        return
    click.echo(
        f"{plain(str(out))}: {summary.attempts:,} attempts, {summary.slices:,} slices, {summary.arrows:,} arrows, "
        f"{summary.instants:,} other events"
    )
    for text in summary.lacks:
        click.echo(f"it lacks {plain(text)}")


def _opened(source: str) -> IO[bytes]:
    return sys.stdin.buffer if source == "-" else open(source, "rb")  # the caller closes it


def _shown(lines: IO[bytes]) -> Iterator[bytes]:
    """Return lines, and show on a terminal how many were read."""
    if not sys.stderr.isatty():
        yield from lines
        return
    bar: Any
    with click.progressbar(length=os.fstat(lines.fileno()).st_size, label="reading", file=sys.stderr) as bar:
        unseen = 0
        for line in lines:
            yield line
            unseen += len(line)
            if unseen > 1_000_000:
                bar.update(unseen)
                unseen = 0
        bar.update(unseen)
