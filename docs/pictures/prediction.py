"""Draws how right predictions were, and what shortest first saves: `python docs/pictures/prediction.py [SECONDS]`.

It works on the files of the demo (the standard library) with three operations, runs `examples/shop.py` for some
seconds with many customers, and predicts each attempt before it learns it, by what predicts in a gate: that is
`docs/pictures/coverage.svg`. It then runs `tests/benchmarks/shortest_first.py` once, which takes two minutes, for
`docs/pictures/shortest-first.svg`. The numbers of both are printed. All that it starts has ended when it ends.
"""

from __future__ import annotations

import ast
import math
import os
import platform
import random
import statistics
import sys
import time
from bisect import insort
from collections import defaultdict
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import attrs

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent.parent
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "tests" / "benchmarks")]

from tokengate import Gate, token  # noqa: E402
from tokengate.demo import find_sources, standard_library  # noqa: E402
from tokengate.demo._measure import Unmeasurable, measure  # noqa: E402
from tokengate.predict import Predict  # noqa: E402
from tokengate.telemetry import Telemetry  # noqa: E402

CUSTOMERS: Final = 20
SHOWN: Final = ("read_file", "parse_file", "measure_file", "charge_card", "Orders.place", "Payments.charge")
PLAIN, OURS, INK, GREY, BAND = "#d9822b", "#2f6fb5", "#243b53", "#c9ced6", "#e3f0dc"


# --- Runs ---------------------------------------------------------------------------------------------------------


def _bytes(path: str) -> dict[str, float]:
    return {"bytes": os.path.getsize(path)}


@token(features=_bytes)
def read_file(path: str) -> int:
    """Read a file."""
    return len(Path(path).read_bytes())


@token(features=_bytes)
def parse_file(path: str) -> bool:
    """Parse a file; tell whether it is Python."""
    try:
        ast.parse(Path(path).read_bytes())
    except (SyntaxError, ValueError):
        return False
    return True


@token(features=_bytes)
def measure_file(path: str) -> bool:
    """Do what the demo does with a file; tell whether it is Python."""
    try:
        measure(Path(path).read_bytes())
    except Unmeasurable:
        return False
    return True


def of_demo() -> list[Any]:
    """Return the events of three operations on the files of the demo, which come in an order at random."""
    events: list[Any] = []
    paths = find_sources(standard_library())
    random.Random(1).shuffle(paths)
    with Gate("demo", threads=1, control_socket=False, plugins=[Telemetry(sinks=[events.extend]), Predict()]):
        for path in paths:
            for operation in (read_file, parse_file, measure_file):
                operation.submit(path).result()
    return events


def of_shop(seconds: float) -> list[Any]:
    """Return the events of the shop with many customers."""
    from shop import make_gate

    events: list[Any] = []
    plugins = [Telemetry(sinks=[events.extend]), Predict(tags=("tenant",))]
    with make_gate([f"customer-{number}" for number in range(1, CUSTOMERS + 1)], plugins=plugins) as gate:
        gate.wait(seconds)
    return events


# --- How right predictions were -----------------------------------------------------------------------------------


@attrs.frozen
class Judged:
    """An attempt that was predicted before it was learned.

    Attributes:
        p50: what was expected, seconds.
        covered: whether it stayed below its p95.
        plain: the same of the p95 of all attempts of the operation before it.
        loss: the pinball loss at p50, of logs.
        plain_loss: the same.
    """

    p50: float
    covered: bool
    plain: bool
    loss: float
    plain_loss: float


def judged(events: Sequence[Any], tags: Sequence[str]) -> dict[str, list[Judged]]:
    """Predict each attempt, and then learn it; return {operation: its attempts}."""
    from tokengate.predict._learner import attempt_of
    from tokengate.predict._models import Models
    from tokengate.telemetry._lines import record_of_event

    models = Models(tags, notice=lambda *_: None)
    before: dict[str, list[float]] = defaultdict(list)
    found: dict[str, list[Judged]] = defaultdict(list)
    for event in events:
        if event.kind != "token.finished" or event.run is None:
            continue
        attempt = attempt_of(record_of_event(event), lambda of: {name: of[name] for name in tags if name in of})
        outlook, value, known = models.outlook(attempt.sample), max(event.run, 1e-6), before[event.operation]
        if outlook is not None and outlook.run is not None and not attempt.cut_short:
            plain = known[min(len(known) - 1, math.ceil(0.95 * (len(known) + 1)) - 1)]
            found[event.operation].append(
                Judged(
                    outlook.run.p50,
                    value <= outlook.run.p95,
                    value <= plain,
                    abs(math.log(value / outlook.run.p50)) / 2,
                    abs(math.log(value / known[len(known) // 2])) / 2,
                )
            )
        models.learn(attempt)
        insort(known, value)
    return found


def thirds(of: Sequence[Judged]) -> Iterator[Sequence[Judged]]:
    """Yield the lowest, the middle and the highest third of the predicted values."""
    ordered = sorted(of, key=lambda one: one.p50)
    for part in range(3):
        yield ordered[len(of) * part // 3 : len(of) * (part + 1) // 3]


def coverage(of: Sequence[Judged]) -> tuple[float, float]:
    """Return the percent that stayed below p95: of the predictions, and of one quantile."""
    return 100 * statistics.mean(one.covered for one in of), 100 * statistics.mean(one.plain for one in of)


# --- Pictures -----------------------------------------------------------------------------------------------------


def picture(width: int, height: int, drawn: Sequence[str]) -> str:
    """Return a picture of what is drawn."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}"><rect width="100%" height="100%" fill="#fff"/>'
    )
    return "\n".join([head, *drawn, "</svg>\n"])


def text(x: float, y: float, said: str, anchor: str = "start", **more: str) -> str:
    """Return a text at a place."""
    extra = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(said)}</text>'


def of_coverage(found: dict[str, list[Judged]]) -> str:
    """Return the picture: a row for each operation, with a dot for each third."""
    left, right, row, top = 150, 780, 54, 70
    least = 60.0

    def x(percent: float) -> float:
        return left + (max(least, percent) - least) / (100 - least) * (right - left)

    names = [name for name in SHOWN if name in found]
    bottom = top + row * len(names)
    drawn = [
        text(left, 22, "Attempts that stayed below their p95, by thirds of what was predicted", font_size="14"),
        f'<circle cx="{left + 6}" cy="40" r="5" fill="{OURS}"/>',
        text(left + 16, 44, "predicted"),
        f'<circle cx="{left + 96}" cy="40" r="5" fill="#fff" stroke="{PLAIN}" stroke-width="2"/>',
        text(left + 106, 44, "one quantile of the operation"),
        f'<rect x="{x(87):.1f}" y="{top - 8}" width="{x(100) - x(87):.1f}" height="{bottom - top + 4}" fill="{BAND}"/>',
        f'<path d="M{x(95):.1f},{top - 8}V{bottom - 4}" stroke="{INK}" stroke-dasharray="3 3"/>',
    ]
    for percent in range(int(least), 101, 10):
        said = f"{percent} %" if percent > least else f"{percent} % or less"
        drawn += [
            f'<path d="M{x(percent):.1f},{top - 8}V{bottom - 4}" stroke="{GREY}" stroke-width=".6"/>',
            text(x(percent), bottom + 14, said, "middle"),
        ]
    for number, name in enumerate(names):
        y = top + row * number
        drawn += [
            text(left - 12, y + 18, name, "end", font_weight="bold"),
            text(left - 12, y + 32, f"{len(found[name]):,} attempts", "end", font_size="10"),
        ]
        for place, (label, part) in enumerate(zip(("short", "", "long"), thirds(found[name]), strict=True)):
            ours, plain = coverage(part)
            at = y + 6 + 14 * place
            tip = f"{name}, third {place + 1}: predicted {ours:.1f} %, one quantile {plain:.1f} %"
            drawn += [
                f"<g><title>{escape(tip)}</title>"
                f'<path d="M{x(plain):.1f},{at}H{x(ours):.1f}" stroke="{GREY}" stroke-width="2"/>'
                f'<circle cx="{x(plain):.1f}" cy="{at}" r="5" fill="#fff" stroke="{PLAIN}" stroke-width="2"/>'
                f'<circle cx="{x(ours):.1f}" cy="{at}" r="5" fill="{OURS}"/></g>',
                text(right + 12, at + 4, label, font_size="10"),
            ]
    return picture(860, bottom + 28, drawn)


def of_shortest_first(fifo: Sequence[float], ruled: Sequence[float], said: Sequence[str]) -> str:
    """Return the picture: how many of 100 calls have which slowdown."""
    left, right, top, bottom = 70, 780, 70, 330
    most = 10 ** math.ceil(math.log10(max(*fifo, *ruled)))

    def x(place: int) -> float:
        return left + (right - left) * place / 100

    def y(value: float) -> float:
        return bottom - (bottom - top) * math.log10(max(1.0, value)) / math.log10(most)

    def line(values: Sequence[float], colour: str) -> str:
        points = " ".join(f"{x(place):.1f},{y(value):.1f}" for place, value in enumerate(values, start=1))
        return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5"/>'

    drawn = [
        text(left, 22, "Slowdown, (wait + run) / run, of 100 calls, from the least to the largest", font_size="14"),
        *(text(left, 42 + 15 * number, line) for number, line in enumerate(said)),
    ]
    for power in range(round(math.log10(most)) + 1):
        drawn += [
            f'<path d="M{left},{y(10**power):.1f}H{right}" stroke="{GREY}" stroke-width=".6"/>',
            text(left - 8, y(10**power) + 4, f"{10**power:,}", "end"),
        ]
    drawn += [text(x(place), bottom + 18, f"{place}", "middle") for place in range(0, 101, 10)]
    drawn += [line(fifo, PLAIN), line(ruled, OURS)]
    drawn += [
        text(x(30), y(fifo[29]) - 8, "first in, first out", fill=PLAIN),
        text(x(62), y(ruled[61]) + 22, "the slowest fifth reniced", fill=OURS),
    ]
    return picture(860, bottom + 30, drawn)


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> None:
    """Run all, draw both, and print the numbers."""
    import shortest_first

    seconds = float(arguments[0]) if arguments else 60.0
    say(f"{time.strftime('%Y-%m-%d')}, CPython {platform.python_version()}, load {os.getloadavg()[0]:.1f}")
    found = judged(of_demo(), ()) | judged(of_shop(seconds), ("tenant",))
    for name in SHOWN:
        of = found.get(name, [])
        if of:
            ours, plain = coverage(of)
            parts = list(map(coverage, thirds(of)))
            loss, plain_loss = statistics.mean(one.loss for one in of), statistics.mean(one.plain_loss for one in of)
            say(
                f"{name}: {len(of)} attempts, coverage {ours:.1f} ({', '.join(f'{one:.1f}' for one, _ in parts)}), "
                f"of one quantile {plain:.1f} ({', '.join(f'{one:.1f}' for _, one in parts)}); "
                f"loss {loss:.3f}, of one quantile {plain_loss:.3f}"
            )
    (HERE / "coverage.svg").write_text(of_coverage(found))
    fifo, ruled = shortest_first.pair("files")
    slowdown, longest = ruled["slowdown"] / fifo["slowdown"], ruled["longest"] / fifo["longest"]
    said = f"mean slowdown {slowdown:.2f} and longest wait {longest:.2f} times those of first in, first out"
    say(said)
    (HERE / "shortest-first.svg").write_text(of_shortest_first(fifo["slowdowns"], ruled["slowdowns"], [said]))


if __name__ == "__main__":
    main(sys.argv[1:])
