"""Programs that are one archive, with the runtime in it: their child processes run out of it, too."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from tiers import in_ci

import tokengate

ROOT = Path(tokengate.__file__).parents[1]

PROGRAM = """
import os, sys, time
import actors
import shop
from tokengate import Gate, ProcessActor, token

class Counter(ProcessActor):
    def add(self, number): return shop.add_one(number)

@token(affinity="process")
def run(number): return shop.add_one(number), os.getpid()

@token(affinity="process")
def spin(file):
    os.mkdir(file)  # which runs no Python code
    while True: pass

with Gate("zipped", processes=1, control_socket=False) as gate:
    number, pid = run.submit(1).result(60)
    print(number, pid != os.getpid(), os.path.dirname(os.path.dirname(actors.__file__)) == os.path.abspath(sys.argv[0]))
    print(gate.spawn(Counter).proxy().add(2).get(timeout=120))
    spinning = spin.submit(sys.argv[1])
    while not os.path.exists(sys.argv[1]): time.sleep(0.001)
    while not (frames := gate.control.stack(spinning.id).frames): pass  # its process may not get a core for a moment
    print([frame.function for frame in frames])
    gate.close(0)  # the one that spins is killed
"""


@in_ci
def test_the_program_of_an_archive_has_child_processes(tmp_path: Path) -> None:
    """They find the runtime, the modules of the program and its main module as it does; stacks have its code only."""
    archive = tmp_path / "app.pyz"
    with zipfile.ZipFile(archive, "w") as out:
        for package in ("actors", "supervisors", "tokengate"):
            for file in (ROOT / package).rglob("*"):
                if file.is_file() and "__pycache__" not in file.parts:
                    out.write(file, file.relative_to(ROOT))
        out.writestr("shop.py", "def add_one(number): return number + 1\n")
        out.writestr("__main__.py", PROGRAM)
    done = subprocess.run(
        [sys.executable, str(archive), str(tmp_path / "spins")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "2 True True\n3\n['spin']\n"), done.stderr
