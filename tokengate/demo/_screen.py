"""What the demo shows: a live bar on a terminal, plain lines elsewhere, tables at the end, JSON for scripts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tokengate import TokenState
from tokengate.demo._actors import Report
from tokengate.demo._indexer import Outcome, Serial
from tokengate.types import GateStatistics

# Seconds between two plain lines.
_LINE_EVERY = 1.0

_TOP_FAILURES = 10


class Screen(Protocol):
    """Where progress is shown."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def show(self, done: int, note: str) -> None: ...


class LiveScreen:
    """A progress bar that is redrawn in place."""

    def __init__(self, console: Console, title: str, total: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
        )
        self._task = self._progress.add_task(title, total=total, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, done: int, note: str) -> None:
        self._progress.update(self._task, completed=done, note=note)


class LineScreen:
    """A line now and then, for logs and pipes."""

    def __init__(self, console: Console, title: str, total: int) -> None:
        self._console = console
        self._title = title
        self._total = total
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def show(self, done: int, note: str) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _LINE_EVERY
            _say(self._console, f"{self._title} {done}/{self._total} {note}".rstrip())


def make_screen(console: Console, title: str, total: int) -> Screen:
    """Return the screen that fits the console."""
    return (LiveScreen if console.is_terminal else LineScreen)(console, title, total)


def settled(report: Report) -> int:
    """Return how many files are indexed or have failed."""
    return report.stages.get("indexed", 0) + report.stages.get("failed", 0)


def note_of(statistics: GateStatistics) -> str:
    """Return counts by state, and restarts, for a progress line."""
    counts = [f"{state} {count}" for state, count in statistics.tokens.items() if count]
    return " · ".join([*counts, *([f"restarts {statistics.restarts}"] if statistics.restarts else [])])


def print_outcome(console: Console, outcome: Outcome, root: Path) -> None:
    """Print the tables of a run."""
    report, totals = outcome.report, outcome.report.totals
    if totals is not None and totals.most_complex:
        table = Table(title="Most complex functions", title_justify="left")
        for name, justify in (("complexity", "right"), ("function", "left"), ("where", "left")):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        for function in totals.most_complex:
            where = f"{_below(function.path, root)}:{function.line}"
            table.add_row(str(function.complexity), escape(function.function), escape(where))
        console.print(table)
    _print_failures(console, report.failures, root)
    if totals is not None:
        _say(
            console,
            f"{totals.files:,} files measured, {len(report.failures)} failed: {totals.lines:,} lines, "
            f"{totals.functions:,} functions, {totals.classes:,} classes, {totals.imports:,} imports",
        )
    states = ", ".join(f"{count:,} {state}" for state, count in outcome.statistics.tokens.items() if count)
    _say(console, f"tokens: {states}; restarts: {outcome.statistics.restarts}")
    _say(console, f"{outcome.seconds:.2f} s, {outcome.tokens_per_second:,.0f} tokens per second")
    if not outcome.finished:
        stages = ", ".join(f"{count} {stage}" for stage, count in sorted(report.stages.items()))
        console.print(f"[yellow]stopped before the end[/]; files: {stages}", highlight=False)
    for name in outcome.shutdown.abandoned:
        console.print(f"[red]left behind[/]: thread {escape(name)}", highlight=False)


def _print_failures(console: Console, failures: Mapping[str, str], root: Path) -> None:
    if not failures:
        return
    _say(console, f"Files that failed ({len(failures)}):")
    for path, reason in list(failures.items())[:_TOP_FAILURES]:
        _say(console, f"  {_below(path, root)}: {reason}")
    if len(failures) > _TOP_FAILURES:
        _say(console, f"  ... and {len(failures) - _TOP_FAILURES} more (--json lists all)")


def _say(console: Console, line: str) -> None:
    """Print a line as it is, however long."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _below(path: str, root: Path) -> str:
    return str(Path(path).relative_to(root)) if Path(path).is_relative_to(root) else path


def as_json(outcome: Outcome, serial: Serial | None, differing: list[str]) -> dict[str, Any]:
    """Return a run as one JSON object: seconds are floats, tokens are {state: count}."""
    report, totals = outcome.report, outcome.report.totals
    answer: dict[str, Any] = {
        "files": sum(report.stages.values()),
        "stages": dict(report.stages),
        "failures": dict(report.failures),
        "tokens": {str(state): outcome.statistics.tokens.get(state, 0) for state in TokenState},
        "restarts": outcome.statistics.restarts,
        "crashes": outcome.crashes,
        "seconds": round(outcome.seconds, 3),
        "tokens_per_second": round(outcome.tokens_per_second, 1),
        "finished": outcome.finished,
        "abandoned": list(outcome.shutdown.abandoned),
    }
    if totals is not None:
        answer["totals"] = {
            "files": totals.files,
            "lines": totals.lines,
            "tokens": totals.tokens,
            "functions": totals.functions,
            "classes": totals.classes,
            "imports": totals.imports,
        }
        answer["most_complex"] = [
            {"path": f.path, "function": f.function, "line": f.line, "complexity": f.complexity}
            for f in totals.most_complex
        ]
    if serial is not None:
        answer["verified"] = not differing
        answer["differences"] = differing
        answer["serial_seconds"] = round(serial.seconds, 3)
        answer["ratio_to_serial"] = round(serial.seconds / outcome.seconds, 3)
    return answer
