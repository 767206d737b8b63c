"""Case 14: a gate that is killed around the effect of verbs has no effect whose intent is not on record."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from tiers import TORTURE, in_ci

from tokengate.audit._read import read
from tokengate.audit._verify import verify

KILLS = 10
PARTS = 50 if TORTURE else 3

# Calls a command again and again; its effect is a line on stdout, with the number that the reason of its intent has.
PROGRAM = """
import itertools, os, sys
from tokengate import CpuActor, Gate
from tokengate.control import messages as m
from tokengate.types import command

class Writer(CpuActor):
    @command
    def write(self, number: int) -> None:
        os.write(1, b"%d\\n" % number)

with Gate("shop", config=sys.argv[1], control_socket=False) as gate:
    gate.spawn(Writer, name="writer")
    for number in itertools.count(int(sys.argv[2])):
        gate.control.ask(m.Call("writer", "write", (number,), reason=f"number {number}"))
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def config(tmp_path: Path, log: Path) -> Path:
    file = tmp_path / "tokengate.toml"
    file.write_text(f"[[grant]]\nto = 'process'\nrole = 'admin'\n[audit]\npath = {str(log)!r}\n")
    file.chmod(0o600)
    return file


@in_ci
@pytest.mark.parametrize("part", range(PARTS))
def test_a_gate_that_is_killed_has_no_effect_without_an_intent(config: Path, log: Path, seed: int, part: int) -> None:
    """Again and again, after a drawn number of effects, on one log, whose records are whole."""
    random = Random(seed + part)
    done: list[int] = []
    for number in range(KILLS):
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, config, str(number * 1_000)], stdout=subprocess.PIPE, text=True
        )
        assert program.stdout is not None
        with program.stdout:
            done += [int(program.stdout.readline()) for _ in range(random.randint(1, 40))]
            program.send_signal(signal.SIGKILL)
            done += [int(line) for line in program.stdout]
        program.wait()

    intended = {int(one["reason"].split()[1]) for one in read(log) if one["kind"] == "intent"}
    assert len(done) >= KILLS
    assert set(done) <= intended
    assert len(set(done)) == len(done)
    assert verify(log).problems == ()


def test_an_intent_that_was_open_at_the_kill_is_closed_as_unknown(config: Path, log: Path) -> None:
    """On record, by the next gate that writes."""
    program = PROGRAM.replace("os.write(1, ", "os.kill(os.getpid(), 9) or (")
    assert program != PROGRAM
    for _ in range(2):
        ended = subprocess.run([sys.executable, "-c", program, config, "1"], check=False, timeout=60)
        assert ended.returncode == -signal.SIGKILL

    intent, closed, *_ = [one for one in read(log) if one["kind"] in ("intent", "outcome")]
    assert (closed["of"], closed["outcome"]) == (intent["seq"], {"unknown": 1})
