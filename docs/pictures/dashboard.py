"""Draws the dashboard as SVG: `python docs/pictures/dashboard.py [SECONDS]`.

It runs the gallery of docs/telemetry.md, lets Prometheus (the program `prometheus`) scrape it each second, asks
Prometheus for what the panels of docs/dashboards/grafana.json show, and draws `docs/pictures/dashboard.svg`.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
SCRAPED: Final = "127.0.0.1:9464"  # the port of the gallery
CONFIG: Final = f"""
global: {{scrape_interval: 1s}}
scrape_configs: [{{job_name: gallery, static_configs: [{{targets: ["{SCRAPED}"]}}]}}]
"""

Line = tuple[str, list[tuple[float, float]]]
"""What a line is, and its points: (time, value)."""

SCALE: Final = 46.0  # pixels of a unit of the grid, in width
ROW: Final = 24.0  # in height
COLOURS: Final = ("#2f6fde", "#d64545", "#f0a202", "#3a9d5d", "#8e5bd0", "#199e9e", "#8a6d3b", "#6b7785")
INK: Final = "#243b53"
PALE: Final = "#e4e7eb"


@contextmanager
def running(command: list[str], folder: str) -> Iterator[None]:
    """Run a program in a folder; end it as Ctrl-C does."""
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def asked(address: str, expression: str, begin: float, end: float) -> list[dict[str, Any]]:
    """Return the series of an expression, from Prometheus."""
    query = urllib.parse.urlencode({"query": expression, "start": begin, "end": end, "step": 1})
    with urllib.request.urlopen(f"http://{address}/api/v1/query_range?{query}") as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return found


def lines_of(panel: dict[str, Any], address: str, begin: float, end: float) -> list[Line]:
    """Return the lines of a panel."""
    found: list[Line] = []
    for target in panel["targets"]:
        expression = target["expr"].replace("$__rate_interval", "10s")
        expression = re.sub(r'"\$\w+"', '".*"', expression)
        for series in asked(address, expression, begin, end):
            labels: dict[str, str] = series["metric"]
            name = re.sub(r"\{\{(\w+)\}\}", lambda match, of=labels: of.get(match[1], ""), target["legendFormat"])
            points = [(at, float(value)) for at, value in series["values"] if value != "NaN"]
            if points:
                found.append((name, points))
    return found


def shown(value: float, unit: str) -> str:
    """Return a value with its unit."""
    if unit == "bytes":
        return f"{value / 2**20:.0f} MiB"
    if unit == "percentunit":
        return f"{value:.0%}"
    if unit == "s":
        return f"{value:.1f} s" if value >= 1 else f"{value * 1000:.3g} ms"
    return f"{value:.3g}" + ("/s" if unit == "ops" else "")


def drawn(panel: dict[str, Any], lines: list[Line], begin: float, end: float) -> Iterator[str]:
    """Yield a panel."""
    grid, unit = panel["gridPos"], panel["fieldConfig"]["defaults"].get("unit", "short")
    left, top = grid["x"] * SCALE + 6, grid["y"] * ROW + 6
    width, height = grid["w"] * SCALE - 12, grid["h"] * ROW - 12
    most = max((value for _, points in lines for _, value in points), default=0.0) or 1.0
    x0, y0, x1, y1 = left + 52, top + 28, left + width - 8, top + height - 34

    yield f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="4" fill="#fff" stroke="{PALE}"/>'
    yield f'<text x="{left + 8}" y="{top + 17}" font-weight="bold">{escape(panel["title"])}</text>'
    for part in (0.0, 0.5, 1.0):
        y = y1 - part * (y1 - y0)
        yield f'<path d="M{x0},{y:.1f}H{x1}" stroke="{PALE}"/>'
        yield f'<text x="{x0 - 5}" y="{y + 3:.1f}" text-anchor="end">{shown(part * most, unit)}</text>'
    at = x0
    for number, (name, points) in enumerate(sorted(lines)):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(
            f"{x0 + (moment - begin) / (end - begin) * (x1 - x0):.1f},{y1 - value / most * (y1 - y0):.1f}"
            for moment, value in points
        )
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.4"/>'
        if at < x1 - 30:
            yield f'<rect x="{at:.0f}" y="{y1 + 14}" width="8" height="8" fill="{colour}"/>'
            yield f'<text x="{at + 11:.0f}" y="{y1 + 22}">{escape(name)}</text>'
        at += 20 + 5.6 * len(name)


def svg_of(dashboard: dict[str, Any], address: str, begin: float, end: float) -> str:
    """Return the picture of a dashboard."""
    panels: list[dict[str, Any]] = dashboard["panels"]
    width = max(one["gridPos"]["x"] + one["gridPos"]["w"] for one in panels) * SCALE
    height = max(one["gridPos"]["y"] + one["gridPos"]["h"] for one in panels) * ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="10" fill="{INK}"><rect width="100%" height="100%" fill="#f5f7fa"/>'
    ]
    for panel in panels:
        parts += drawn(panel, lines_of(panel, address, begin, end), begin, end)
    return "\n".join([*parts, "</svg>\n"])


def main(arguments: list[str]) -> None:
    """Run the gallery and Prometheus for some seconds, and draw."""
    seconds = float(arguments[0]) if arguments else 120.0
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        sys.exit("the program 'prometheus' is not installed; Debian has it in the package of this name")
    dashboard = json.loads((HERE.parent / "dashboards" / "grafana.json").read_text())
    page = (HERE.parent / "telemetry.md").read_text()
    (gallery,) = re.findall(r'```py\n("""A gallery.*?)```', page, re.DOTALL)
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        Path(folder, "gallery.py").write_text(gallery.replace("/tmp/gallery", folder))
        Path(folder, "prometheus.yml").write_text(CONFIG)
        scraper = [prometheus, "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
        scraper.append(f"--web.listen-address={address}")
        with running([sys.executable, "gallery.py"], folder), running(scraper, folder):
            begin = time.time() + 10.0
            time.sleep(10.0 + seconds)
            picture = svg_of(dashboard, address, begin, begin + seconds)
    (HERE / "dashboard.svg").write_text(picture)


if __name__ == "__main__":
    main(sys.argv[1:])
