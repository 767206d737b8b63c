"""`tokengate demo`: index Python sources with a service hierarchy."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

import click
import msgspec
from rich.console import Console

from tokengate import Gate
from tokengate.cli._errors import INTERRUPTED, UsageProblem
from tokengate.cli._signals import Stopping, stop_on_signals
from tokengate.demo import (
    Outcome,
    Serial,
    as_json,
    differences,
    find_sources,
    make_screen,
    print_outcome,
    run_indexer,
    run_serially,
    standard_library,
)
from tokengate.demo._actors import Report
from tokengate.demo._screen import note_of, settled
from tokengate.types import GateStatistics


@click.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--crash", "crashes", type=click.IntRange(min=0), default=0, help="Crash actors N times.", metavar="N")
@click.option("--seed", type=int, default=0, help="Decides when they crash, and which.", show_default=True)
@click.option("--verify", is_flag=True, help="Compute the same in a plain loop, and compare.")
@click.option("--json", "json_wanted", is_flag=True, help="Print one JSON object and nothing else on stdout.")
def demo(path: Path | None, crashes: int, seed: int, verify: bool, json_wanted: bool) -> None:
    """Index Python sources, to see tokens and supervisors work.

    PATH is a directory with sources; without it, the standard library is indexed. Readers, parsers and an index work
    under a supervisor, and every piece of work is a token. Ctrl-C stops the demo in order, with a report.

    \b
    tokengate demo                              # watch it work
    tokengate demo --crash 20 --seed 7 --verify # break it, and see that nothing is lost
    """  # noqa: D301  # click wants the backspace itself
    root = path or standard_library()
    paths = _sources(root)
    console = Console(stderr=json_wanted)
    warnings.simplefilter("ignore", SyntaxWarning)  # of the sources
    if not logging.getLogger().isEnabledFor(logging.WARNING):
        logging.getLogger("tokengate").setLevel(logging.CRITICAL)  # crashes are expected, and counted in the report
    with stop_on_signals() as stopping:
        outcome = _index(console, paths, crashes, seed, stopping)
        serial = _serial(console, paths, stopping) if verify and outcome.finished else None
    differing = [] if serial is None else differences(outcome, serial)
    if json_wanted:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(as_json(outcome, serial, differing))) + b"\n")
    else:
        print_outcome(console, outcome, root)
        if serial is not None:
            _print_comparison(console, outcome, serial, differing)
    if stopping.asked:
        raise SystemExit(INTERRUPTED)
    if differing or outcome.crashes != crashes or outcome.shutdown.abandoned:
        raise SystemExit(1)


def _sources(root: Path) -> list[str]:
    if not root.exists():
        raise UsageProblem(f"{root} does not exist; give a directory with Python sources")
    if not root.is_dir():
        raise UsageProblem(f"{root} is a file; give a directory with Python sources")
    paths = find_sources(root)
    if not paths:
        raise UsageProblem(f"there is no *.py file below {root}; give a directory with Python sources")
    return paths


def _index(console: Console, paths: list[str], crashes: int, seed: int, stopping: Stopping) -> Outcome:
    def opened(gate: Gate) -> None:
        stopping.gate = gate

    with make_screen(console, "indexing", len(paths)) as screen:

        def look(report: Report, statistics: GateStatistics) -> None:
            screen.show(settled(report), note_of(statistics))

        outcome = run_indexer(paths, crashes=crashes, seed=seed, look=look, opened=opened)
        look(outcome.report, outcome.statistics)
    stopping.gate = None
    return outcome


def _serial(console: Console, paths: list[str], stopping: Stopping) -> Serial | None:
    try:
        with make_screen(console, "verifying", len(paths)) as screen:
            return run_serially(paths, lambda done: screen.show(done, "in a plain loop"))
    except KeyboardInterrupt:
        if not stopping.asked:
            raise
        return None


def _print_comparison(console: Console, outcome: Outcome, serial: Serial, differing: list[str]) -> None:
    ratio = serial.seconds / outcome.seconds
    console.print(
        f"serial loop: {serial.seconds:.2f} s; tokens: {outcome.seconds:.2f} s; ratio {ratio:.2f}", highlight=False
    )
    for line in differing:
        console.print(f"[red]differs[/] {line}", highlight=False)
    if not differing:
        files = len(serial.measures) + len(serial.failures)
        console.print(f"[green]verified[/]: all {files} files and all totals are identical", highlight=False)
