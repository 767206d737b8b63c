"""Draws a trace as SVG: `python docs/pictures/trace.py trace.json trace.svg`.

Without arguments it runs a small gate, exports what its tokens did, and draws `docs/pictures/trace.svg`.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

Item = dict[str, Any]

WIDTH, LEFT, ROW, BAR = 1_000, 120, 22, 16  # pixels
MOST = 14  # lines of tokens
GREY, AMBER, INK = "#c9ced6", "#f0b429", "#243b53"


def colour(name: str) -> str:
    """Return the colour of an operation."""
    return f"hsl({int(hashlib.sha256(name.encode()).hexdigest(), 16) % 360} 55% 62%)"


def slices_of(items: list[Item]) -> Iterator[tuple[Any, int, int, str, int]]:
    """Yield (track, start, end, name, depth) of each slice, in microseconds."""
    opened: dict[Any, list[Item]] = defaultdict(list)
    for item in sorted((one for one in items if one["ph"] in "Xbe"), key=lambda one: one["ts"]):
        if item["ph"] == "X":
            key = (item["pid"], item["tid"])
            around = [one for one in opened[key] if item["ts"] < one["ts"] + one["dur"]]
            opened[key] = [*around, item]
            yield key, item["ts"], item["ts"] + item["dur"], item["name"], len(around)
        elif item["ph"] == "b":
            opened[item["id"]].append(item)
        else:
            begin = opened[item["id"]].pop()
            yield item["id"], begin["ts"], item["ts"], begin["name"], len(opened[item["id"]])


def svg_of(trace: Item) -> str:
    """Return the picture of a trace: the tracks of its workers above the lines of the first tokens."""
    items: list[Item] = trace["traceEvents"]
    names = {(one["pid"], one["tid"]): one["args"]["name"] for one in items if one["name"] == "thread_name"}
    slices = list(slices_of(items))
    begin, end = min(one[1] for one in slices), max(one[2] for one in slices)
    workers = sorted({key for key, *_ in slices if isinstance(key, tuple)}, key=lambda key: names[key])
    starts = {key: start for key, start, _, _, depth in reversed(slices) if isinstance(key, str) and not depth}
    lines = sorted(starts, key=lambda key: starts[key])[:MOST]
    labels = {key: name for key, _, _, name, depth in slices if isinstance(key, str) and not depth}
    rows = {key: 40 + ROW * (number + (number >= len(workers))) for number, key in enumerate([*workers, *lines])}

    def x(at: float) -> float:
        return LEFT + (at - begin) / (end - begin) * (WIDTH - LEFT - 30)

    drawn, texts = [], []
    for key, y in rows.items():
        label = names[key] if isinstance(key, tuple) else labels[key].split(",")[0]
        drawn.append(f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(label)}</text>')
    for key, start, stop, name, depth in sorted(slices, key=lambda one: one[4]):
        if key not in rows or (isinstance(key, str) and not depth):
            continue
        fill = {"queued": GREY, "paused": AMBER}.get(name) or colour(name if name != "run" else labels[key].split()[0])
        y, height = rows[key] + 3 * (depth if isinstance(key, tuple) else 0), BAR
        height -= 6 * (depth if isinstance(key, tuple) else depth - 1)
        y += 3 * (depth - 1) if isinstance(key, str) else 0
        width = max(1.0, x(stop) - x(start))
        text = f"{name}: {(stop - start) / 1e3:.2f} ms"
        drawn.append(
            f'<rect x="{x(start):.1f}" y="{y}" width="{width:.1f}" height="{height}" rx="2" fill="{fill}">'
            f"<title>{escape(text)}</title></rect>"
        )
        if isinstance(key, tuple) and not depth and width > 8 * len(name):
            texts.append(f'<text x="{x(start) + 4:.1f}" y="{y + 12}">{escape(name)}</text>')
    ends: dict[int, Item] = {one["id"]: one for one in items if one["ph"] == "s"}
    for item in (one for one in items if one["ph"] == "f"):
        one = ends[item["id"]]
        x1, y1 = x(one["ts"]), rows[one["pid"], one["tid"]] + BAR / 2
        x2, y2 = x(item["ts"]), rows[item["pid"], item["tid"]] + BAR / 2
        curve = f"M{x1:.1f},{y1} C{x1 + 14:.1f},{y1} {x2 - 14:.1f},{y2} {x2:.1f},{y2}"
        drawn.append(f'<path d="{curve}" fill="none" stroke="{INK}" stroke-width=".8" marker-end="url(#tip)"/>')
    height = max(rows.values()) + ROW + 10
    for tick in range(6):
        at = begin + (end - begin) * tick / 5
        drawn.insert(
            0,
            f'<path d="M{x(at):.1f},30V{height}" stroke="#e4e7eb"/>'
            f'<text x="{x(at):.1f}" y="24" text-anchor="middle">{(at - begin) / 1e3:.1f} ms</text>',
        )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="11" fill="{INK}"><rect width="100%" height="100%" fill="#fff"/><defs>'
        f'<marker id="tip" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="5" markerHeight="5" orient="auto">'
        f'<path d="M0,0L6,3L0,6z" fill="{INK}"/></marker></defs>'
    )
    return "\n".join([head, *drawn, *texts, "</svg>\n"])


def example() -> Item:
    """Return the trace of a small gate: a token that makes others, on threads, a loop and in place."""
    import trio

    from tokengate import Gate, token, wait
    from tokengate.control.messages import Event
    from tokengate.telemetry import Telemetry
    from tokengate.telemetry._trace import write_trace

    @token
    def scale(part: int) -> int:
        return sum(number % (part + 7) for number in range(60_000))

    @token
    def resize(image: int) -> int:
        return scale(image) + scale(image + 1)

    @token(affinity="io")
    async def fetch(image: int) -> int:
        await trio.sleep(0.008 * (1 + image % 3))
        return image

    @token
    def album(images: int) -> int:
        fetched = [fetch.submit(image) for image in range(images)]
        wait(fetched)
        made = [resize.submit(image) for image in range(images)]
        wait(made)
        return len(made)

    events: list[Event] = []
    with Gate("shop", threads=3, plugins=[telemetry := Telemetry(sinks=[events.extend])]):
        album.submit(5).result()
        telemetry.operations()  # so that all is passed on while the threads are there to be named
    file = io.BytesIO()
    write_trace([event for event in events if event.token is not None], file)
    trace: Item = json.loads(file.getvalue())
    return trace


def main(arguments: list[str]) -> None:
    """Draw a trace that was exported, or the example."""
    if arguments:
        source, out = arguments
        trace = json.loads(Path(source).read_bytes())
    else:
        trace, out = example(), str(Path(__file__).with_suffix(".svg"))
    Path(out).write_text(svg_of(trace))


if __name__ == "__main__":
    main(sys.argv[1:])
