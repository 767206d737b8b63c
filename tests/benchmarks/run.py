"""Measures the paths that users take, beside the libraries that they could take instead, and prints one table.

Each sample is taken in a fresh process. Ours and those of the peers alternate, so that other work of the machine
affects all of them; a ratio is that of samples taken side by side, and the table has the median of the ratios. There
are two modes: in the free mode all cores are idle, in the busy mode all but one are kept busy by processes that spin.
Beside each elapsed time stands the processor time of the same operation, of all threads and child processes.

    python tests/benchmarks/run.py                                        # the whole table; half an hour
    python tests/benchmarks/run.py --rows spawn tell --mode free --samples 3
    python tests/benchmarks/run.py --json > lines                         # a line for each row and mode
    python tests/benchmarks/run.py --from lines other-lines               # the table of what was measured before

Peers that the project itself does not need are installed into an environment under the user's cache when they are first
measured. One that cannot be installed is named and left out. Measure on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from _peers import PACKAGES, Missing, output_of, package_of, python_for
from _report import Line, Sample, line_of, table
from _rows import CORES, OURS, ROWS, Row

HERE = Path(__file__).parent
SECONDS = 300.0  # for one sample

# Spins as long as its parent lives.
SPIN = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(1_000_000):
        pass
"""


class Failed(Exception):
    """A sample could not be taken; the text says why."""


@contextmanager
def child(*command: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process in a group of its own, which Ctrl-C does not reach, and kill the whole group at the end."""
    pipe = subprocess.PIPE
    # An interrupt while the process is made would lose it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            yield process
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # all of it has ended
            process.wait()


@contextmanager
def busy() -> Iterator[None]:
    """Keep all cores but one busy."""
    with ExitStack() as stack:
        for _ in range(max(1, CORES - 1)):
            stack.enter_context(child(sys.executable, "-c", SPIN, str(os.getpid())))
        yield


def sample(label: str, path: str, number: int, install: bool) -> Sample:
    """Take a sample of a side in a fresh process.

    Raises:
        Missing: something that the side needs is not installed.
        Failed: the process failed, or did not end in time.
    """
    package = package_of(label)
    python = python_for(package, install) if package in PACKAGES else sys.executable
    with child(python, str(HERE / "_sample.py"), path, str(number)) as process:
        try:
            output, errors = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed(f"a sample took longer than {SECONDS:g} s") from None
    if process.returncode:
        last = (errors.strip() or f"exit status {process.returncode}").splitlines()[-1]
        raise (Missing if last.startswith("ModuleNotFoundError") else Failed)(last)
    return {"version": version_of(label), **json.loads(output.splitlines()[-1])}


@functools.cache
def version_of(label: str) -> str | None:
    """Return the version of what a side measures, ours with the commit; None if it is part of Python."""
    try:
        if label != OURS:
            return PACKAGES.get(package_of(label)) or importlib.metadata.version(label)
        commit = output_of("git", "-C", str(HERE), "describe", "--always", "--dirty", "--exclude", "*")
        return f"{importlib.metadata.version('tokengate-runtime')} {commit}".strip()
    except importlib.metadata.PackageNotFoundError:
        return None


def measure(row: Row, mode: str, samples: int, scale: float, install: bool) -> tuple[Line, list[str]]:
    """Return the line of a row, and the labels of sides that failed."""
    number = max(4, round(row.number * scale))
    taken: dict[str, list[Sample]] = {label: [] for label in row.sides}
    left_out: dict[str, str] = {}
    failed = []
    with busy() if mode == "busy" else nullcontext():
        for round_ in range(samples):
            # Each side is first in every other round, so that none always comes after the same one.
            for label in list(taken) if round_ % 2 else reversed(list(taken)):
                try:
                    taken[label].append(sample(label, row.sides[label], number, install))
                except (Missing, Failed) as error:
                    del taken[label]
                    left_out[label] = str(error)
                    if isinstance(error, Failed):
                        failed.append(label)
                print(".", end="", file=sys.stderr, flush=True)
    return line_of(row, mode, taken, left_out), failed


def chosen(options: argparse.Namespace) -> list[tuple[Row, str]]:
    """Return each row that was asked for with each mode."""
    modes = ["free", "busy"] if options.mode == "both" else [options.mode]
    wanted = [text.lower() for text in options.rows]
    rows = [row for row in ROWS if not wanted or any(text in row.name.lower() for text in wanted)]
    # What is not a time is the same in both modes.
    return [(row, mode) for row in rows for mode in modes if mode == "free" or row.unit == "us"]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=[], metavar="TEXT", help="rows whose name has one of these texts")
    parser.add_argument("--mode", choices=("free", "busy", "both"), default="both", help="(default: both)")
    parser.add_argument("--samples", type=int, default=5, help="samples of each side (default: 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="multiple of the number of operations (default: 1)")
    parser.add_argument("--json", action="store_true", help="print a JSON line for each row and mode, and no table")
    parser.add_argument(
        "--from", nargs="+", type=Path, dest="files", metavar="FILE", help="measure nothing; read lines"
    )
    parser.add_argument("--list", action="store_true", help="name the rows and do nothing")
    parser.add_argument("--no-install", action="store_false", dest="install", help="leave out peers not yet installed")
    options = parser.parse_args()
    if options.samples < 1 or options.scale <= 0:
        parser.error(f"--samples is {options.samples}, --scale is {options.scale}; both must be more than 0")
    if not chosen(options):
        parser.error(f"no row has one of the texts {options.rows} in its name; --list names the rows")
    return options


def main() -> int:
    options = parse()
    if options.list:
        print(*dict.fromkeys(row.name for row, _ in chosen(options)), sep="\n")
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the children as Ctrl-C does
    lines: list[Line] = [json.loads(line) for file in options.files or () for line in file.read_text().splitlines()]
    status = 0
    try:
        for position, (row, mode) in enumerate([] if options.files else (rows := chosen(options)), 1):
            print(f"{position} of {len(rows)}: {row.name}, {mode} ", end="", file=sys.stderr, flush=True)
            line, failed = measure(row, mode, options.samples, options.scale, options.install)
            print(file=sys.stderr)
            for label in failed:
                print(f"{row.name}, {mode}: {label} failed: {line['left_out'][label]}", file=sys.stderr)
                status = 1
            lines.append(line)
            if options.json:
                print(json.dumps(line), flush=True)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        status = 130
    if lines and not options.json:
        print(table(lines))
    return status


if __name__ == "__main__":
    sys.exit(main())
