"""Takes the pictures of the admin page: `python docs/pictures/admin.py`.

It runs `examples/shop.py`, in which the check of an order runs away, and the admin daemon, both with directories of
their own; logs in, and has the Chromium of the system (`/usr/bin/chromium`, driven by playwright) take
`docs/pictures/admin-{overview,tokens,drawer,proposal}-{light,dark}.png`. All that it starts has ended when it ends.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Page, sync_playwright

HERE: Final = Path(__file__).parent
CHROMIUM: Final = "/usr/bin/chromium"
SIZE: Final = {"width": 1_200, "height": 800}  # pixels
ORDER: Final = 120  # the one whose check runs away; it takes the shop about a minute to get there
STUCK: Final = "operation=check_fraud,running>5s"


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command of TokenGate; end it as Ctrl-C does."""
    command, log = [sys.executable, "-m", "tokengate", *words], subprocess.DEVNULL
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)


def asked(*words: str) -> Any:
    """Return what a command of TokenGate prints as JSON."""
    command = [sys.executable, "-m", "tokengate", *words, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def until(true: Callable[[], object]) -> None:
    """Ask each second until something is so."""
    end = time.monotonic() + 300
    while not true():
        if time.monotonic() > end:
            sys.exit("the shop does not get there")
        time.sleep(1)


def pictures(page: Page, gate: str) -> Iterator[str]:
    """Yield the name of each picture when the page shows it."""
    (token,) = asked("ps", STUCK)["rows"]
    page.locator("#head nav").wait_for()
    for name, query, shown in (
        ("overview", "screen=overview", ".chart canvas"),
        ("tokens", "", "#rows [data-id]"),
        ("drawer", f"open={token['id']}", "#drawer .stack"),
    ):
        page.goto(f"/?gate={gate}&{query}")
        page.locator(shown).first.wait_for()
        page.wait_for_timeout(2_500)  # the bars and charts of the next tick
        yield name
    page.goto(f"/?gate={gate}")
    page.locator(f"#rows [data-id='{token['id']}']").wait_for()
    for id in (token["id"], token["parent"]):
        page.locator(f"#rows [data-id='{id}'] td.pick").click()
    page.locator("#actions [data-verb=terminate]").click()
    page.locator("#dialog [name=reason]").fill("the check of this order never ends")
    page.locator("#dialog form button.strong").click()
    page.locator("#dialog #proposal").wait_for()
    page.wait_for_timeout(500)
    yield "proposal"


def with_palette(picture: bytes) -> bytes:
    """Return a PNG of 8-bit RGB or RGBA, as Chromium writes it, with at most 256 colours."""
    width, height, rows = _rows_of(picture)
    pixels = Counter(row[at : at + 3] for row in rows for at in range(0, 3 * width, 3))
    palette = [colour for colour, _ in pixels.most_common(256)]
    near = {one: min(range(len(palette)), key=lambda at, of=one: _distance(palette[at], of)) for one in pixels}
    lines = (b"\0" + bytes(near[row[at : at + 3]] for at in range(0, 3 * width, 3)) for row in rows)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            (b"PLTE", b"".join(palette)),
            (b"IDAT", zlib.compress(b"".join(lines), 9)),
            (b"IEND", b""),
        )
    )


def _distance(one: bytes, other: bytes) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def _rows_of(picture: bytes) -> tuple[int, int, list[bytes]]:
    """Return width, height, and the rows of a PNG, three bytes a pixel."""
    at, packed = 8, b""
    while at < len(picture):
        (size,), kind = struct.unpack(">I", picture[at : at + 4]), picture[at + 4 : at + 8]
        data = picture[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            width, height, _, kind_of_colour = struct.unpack(">IIBB", data[:10])
        packed += data if kind == b"IDAT" else b""
        at += 12 + size
    depth = {2: 3, 6: 4}[kind_of_colour]  # bytes a pixel
    raw, before, rows = zlib.decompress(packed), bytearray(depth * width), []
    for start in range(0, len(raw), 1 + depth * width):
        row = bytearray(raw[start + 1 : start + 1 + depth * width])
        for one in range(len(row)):
            left, above = row[one - depth] if one >= depth else 0, before[one]
            corner = before[one - depth] if one >= depth else 0
            row[one] = (row[one] + (0, left, above, (left + above) // 2, _paeth(left, above, corner))[raw[start]]) & 255
        rows.append(bytes(row if depth == 3 else (value for place, value in enumerate(row) if place % 4 < 3)))
        before = row
    return width, height, rows


def _paeth(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    return min((left, above, corner), key=lambda one: abs(guess - one))


def main() -> None:
    """Run the shop and the daemon, and take the pictures."""
    with tempfile.TemporaryDirectory(prefix="tg-") as place:
        os.environ.update(TOKENGATE_RUNTIME_DIR=f"{place}/run", XDG_STATE_HOME=f"{place}/state")
        shop = ("run", str(HERE.parent.parent / "examples" / "shop.py:gate"), "--", "--runaway", str(ORDER))
        with running(*shop, "--telemetry", f"{place}/shop"), running("admin", "--port", "0", "--json") as daemon:
            assert daemon.stdout is not None
            url = json.loads(daemon.stdout.readline())["url"]
            until(lambda: asked("ps", STUCK))
            (gate,) = (Path(one["path"]).stem for one in asked("ls"))
            with sync_playwright() as playwright:
                options = ["--no-sandbox"] if os.geteuid() == 0 else []
                chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
                pages = {}
                for theme in ("light", "dark"):
                    context = chromium.new_context(viewport=SIZE, color_scheme=theme, base_url=url)
                    pages[theme] = context.new_page()
                    pages[theme].goto(asked("admin", "login")["url"])
                for names in zip(*(pictures(page, gate) for page in pages.values()), strict=True):
                    for theme, page in pages.items():
                        (HERE / f"admin-{names[0]}-{theme}.png").write_bytes(with_palette(page.screenshot()))
                chromium.close()
            asked("kill", "operation=check_fraud")


if __name__ == "__main__":
    main()
