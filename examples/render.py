"""A picture of the Mandelbrot set: pure Python that computes, on all cores, in processes that may die.

    python examples/render.py                                    # in the terminal
    python examples/render.py --size 1200x800 --out picture.ppm

Every row is a process token. Let some of them take their process along, as a fault in a C library would. The gate says
so (`WorkerDied`) and never runs a row twice by itself, for it cannot know what a function has done by then; here it is
harmless, so the loop below submits such a row again. The picture is the same, byte for byte.

    python examples/render.py --crash 0.2 --seed 7

Or let a row never end. Its limit of processor time ends it, wherever it is (`LimitExceeded`), and the row stays empty.

    python examples/render.py --runaway 12 --cpu-time 0.5
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import attrs

from tokengate import Gate, Limits, Token, token
from tokengate.errors import LimitExceeded, WorkerDied

SHADES = " .:-=+*#%@"


@attrs.frozen
class Picture:
    """What is drawn: pixels, and how many turns a point gets to escape."""

    width: int
    height: int
    depth: int

    def point(self, x: int, y: int) -> complex:
        return complex(3.0 * x / self.width - 2.2, 2.4 * y / self.height - 1.2)


def draw(picture: Picture, y: int, fault: str) -> bytes:
    """Draw a row: for each point, how late it escapes, from 0 to 255."""
    if fault == "crash":
        os.abort()  # as a fault in a C library would
    while fault == "runaway":
        pass
    row = bytearray()
    for x in range(picture.width):
        c, z, turns = picture.point(x, y), 0j, 0
        while abs(z) <= 2 and turns < picture.depth:
            z = z * z + c
            turns += 1
        row.append(round(255 * math.log1p(turns) / math.log1p(picture.depth)))
    return bytes(row)


def render(
    picture: Picture, *, crash: float = 0.0, runaway: int | None = None, cpu_time: float = 10.0, seed: int = 0
) -> tuple[list[bytes], int, list[int]]:
    """Return the rows, how many processes have died, and which rows are empty."""
    chance = random.Random(seed)
    row = token(affinity="process", limits=Limits(cpu_time=cpu_time))(draw)

    def submit(y: int) -> Token[bytes]:
        return row.submit(picture, y, "runaway" if y == runaway else "crash" if chance.random() < crash else "")

    rows: list[bytes] = []
    died, empty = 0, []
    with Gate("render"):
        tokens = [submit(y) for y in range(picture.height)]
        for y in range(picture.height):
            while len(rows) == y:
                try:
                    rows.append(tokens[y].result())
                except WorkerDied:
                    died += 1
                    tokens[y] = submit(y)
                except LimitExceeded as error:
                    print(error, file=sys.stderr)
                    empty.append(y)
                    rows.append(bytes(picture.width))
    return rows, died, empty


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="78x24", help="WIDTHxHEIGHT in pixels, or in characters (default: 78x24)")
    parser.add_argument("--depth", type=int, default=1_000, help="turns that a point gets to escape (default: 1,000)")
    parser.add_argument("--out", type=Path, help="write it there, as PPM, and not into the terminal")
    parser.add_argument("--crash", type=float, default=0.0, help="so many of the rows take their process along, of 1")
    parser.add_argument("--seed", type=int, default=0, help="of which rows these are")
    parser.add_argument("--runaway", type=int, help="a row that never ends")
    parser.add_argument("--cpu-time", type=float, default=10.0, help="seconds that a row may take (default: 10)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    chosen = options(arguments)
    width, height = map(int, chosen.size.split("x"))
    started = time.perf_counter()
    rows, died, empty = render(
        Picture(width, height, chosen.depth),
        crash=chosen.crash,
        runaway=chosen.runaway,
        cpu_time=chosen.cpu_time,
        seed=chosen.seed,
    )
    if chosen.out is not None:
        pixels = b"".join(bytes((value, value // 2, 255 - value)) for row in rows for value in row)
        chosen.out.write_bytes(b"P6 %d %d 255\n%s" % (width, height, pixels))
    else:
        for row in rows:
            print("".join(SHADES[value * (len(SHADES) - 1) // 255] for value in row).rstrip())
    seconds = time.perf_counter() - started
    print(f"{height} rows in {seconds:.2f} s; {died} processes died; empty rows: {empty or 'none'}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
