"""The figures of a row: from its samples to a JSON line, and from all lines to one table."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from _rows import CORES, OURS, Goal, Row

# What `_sample.py` prints, and the `version` of what it measured.
Sample: TypeAlias = Mapping[str, Any]

Line: TypeAlias = dict[str, Any]


def line_of(row: Row, mode: str, taken: Mapping[str, Sequence[Sample]], left_out: Mapping[str, str]) -> Line:
    """Return the line of a row.

    Args:
        row: the row.
        mode: `free` or `busy`.
        taken: {label: the samples of a side}, as many of each, in the order in which they were taken.
        left_out: {label: why a side has no samples}.
    """
    sides = {label: _side(samples, taken.get(OURS, ())) for label, samples in taken.items()}
    goal = row.goals.get(mode)
    return {
        "workload": row.name,
        "mode": mode,
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "cores": CORES,
        "load": round(os.getloadavg()[0], 1),
        "samples": max(map(len, taken.values()), default=0),
        "unit": row.unit,
        "sides": sides,
        "left_out": dict(left_out),
        "goal": None if goal is None else _text(goal, row.unit),
        "met": None if goal is None else _met(goal, sides),
    }


def table(lines: Sequence[Line]) -> str:
    """Return the lines as a Markdown table, below a sentence on where and how they were measured."""
    return "\n".join([*_head(lines), "", *_rows(lines), *_notes(lines)])


def _side(samples: Sequence[Sample], ours: Sequence[Sample]) -> dict[str, Any]:
    """Return the figures of a side; `times` is our speed as a multiple of its speed, in samples taken side by side."""
    said: dict[str, Any] = {"python": samples[0]["python"], "version": samples[0]["version"]}
    for figure, times in (("figure", "times"), ("cpu", "cpu_times")):
        if figure in samples[0]:
            said[figure] = _spread([one[figure] for one in samples])
            if ours and ours is not samples and figure in ours[0]:
                said[times] = _spread([one[figure] / our[figure] for one, our in zip(samples, ours, strict=True)])
    return said


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        name: float(f"{function(values):.4g}")
        for name, function in (("median", statistics.median), ("min", min), ("max", max))
    }


def _met(goal: Goal, sides: Mapping[str, Any]) -> bool | None:
    """Return whether a goal is met; None if a side that it needs is left out."""
    if goal.peer is None:
        return sides[OURS]["figure"]["median"] <= goal.value if OURS in sides else None
    times = sides.get(goal.peer, {}).get("cpu_times" if goal.cpu else "times")
    return None if times is None else times["median"] >= goal.value


def _text(goal: Goal, unit: str) -> str:
    if goal.peer is None:
        return f"{_number(goal.value)} {unit}"
    return f"{_number(goal.value)} times {goal.peer}{', CPU' if goal.cpu else ''}"


def _number(value: float) -> str:
    """Return three digits of a number: 1,234,567 is 1,230,000, and 0.12345 is 0.123."""
    value = float(f"{value:.3g}")
    return f"{value:,.0f}" if value >= 100 else f"{value:g}"


def _within(spread: Mapping[str, float]) -> str:
    return f"{_number(spread['median'])} ({_number(spread['min'])} to {_number(spread['max'])})"


def _head(lines: Sequence[Line]) -> Iterator[str]:
    def all_of(key: str) -> str:
        return ", ".join(sorted({str(line[key]) for line in lines if line["sides"]}))

    loads = [line["load"] for line in lines]
    yield (
        f"Measured on {all_of('date')} with CPython {all_of('python')} on {all_of('cores')} cores, at a load average of"
        f" {min(loads)} to {max(loads)}: medians of {all_of('samples')} samples, in parentheses the least and the most."
    )
    versions = {
        f"{label} {side['version']}" + (f" on CPython {side['python']}" if side["python"] != line["python"] else "")
        for line in lines
        for label, side in line["sides"].items()
        if side["version"]
    }
    yield f"Versions: {', '.join(sorted(versions))}."


def _rows(lines: Sequence[Line]) -> Iterator[str]:
    several = len({line["python"] for line in lines}) > 1
    columns = ["workload", "mode", *(["Python"] if several else []), OURS, "CPU", "times as fast as", "goal", "met"]
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for line in lines:
        ours = line["sides"].get(OURS, {})
        cells = [
            line["workload"],
            line["mode"],
            *([line["python"]] if several else []),
            f"{_within(ours['figure'])} {line['unit']}" if ours else "left out",
            _number(ours["cpu"]["median"]) if "cpu" in ours else "",
            "; ".join(_peer(label, side) for label, side in line["sides"].items() if "times" in side),
            line["goal"] or "",
            {True: "yes", False: "no", None: ""}[line["met"]],
        ]
        yield f"| {' | '.join(cells)} |"


def _peer(label: str, side: Mapping[str, Any]) -> str:
    cpu = f", CPU {_number(side['cpu']['median'])}" if "cpu" in side else ""
    return f"{label} {_within(side['times'])}: {_number(side['figure']['median'])} us{cpu}"


def _notes(lines: Sequence[Line]) -> Iterator[str]:
    workloads: dict[str, list[str]] = {}
    for line in lines:
        for label, reason in line["left_out"].items():
            workloads.setdefault(f"{label} ({reason})", []).append(line["workload"])
    if workloads:
        yield ""
        yield from (f"* Left out: {what}, of {'; '.join(dict.fromkeys(names))}." for what, names in workloads.items())
