"""`tokengate health`: its table, and its exit codes, by which the probes of containers go (case 19)."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import programs
import pytest
from click.testing import CliRunner
from fake_gate import loaded, run
from gated_code import LIMIT, opened_at_the_end
from tiers import in_ci

from tokengate import Gate
from tokengate.cli import main
from tokengate.control import ControlClient, find_gate
from tokengate.control._exceptions import NoAnswer, Refused, Unreachable
from tokengate.control.messages import Health, HealthPart, HealthReport, Info

Until = Callable[[Callable[[], bool]], None]

FULL = HealthPart("mailbox front/box", "failed", 1_000_000_000.0, "4 of 4 tokens, and rejects others")
READY = HealthReport("shop", True, True, (HealthPart("system loop"),))
NOT_READY = HealthReport("shop", True, False, (HealthPart("system loop"), FULL))
HUNG = HealthReport.of_hung("shop")


@pytest.mark.parametrize(
    ("options", "answer", "code"),
    [
        ([], READY, 0),
        ([], NOT_READY, 1),
        ([], HUNG, 1),
        ([], NoAnswer("shop does not answer", "shop"), 1),
        ([], Unreachable("no gate runs here"), 3),
        ([], Refused("you may not"), 1),
        (["--live"], READY, 0),
        (["--live"], NOT_READY, 0),
        (["--live"], HUNG, 1),
        (["--live"], NoAnswer("shop does not answer", "shop"), 1),
        (["--live"], Unreachable("no gate runs here"), 3),
    ],
)
def test_the_exit_code_says_whether_it_is_ready_or_live(
    monkeypatch: pytest.MonkeyPatch, options: list[str], answer: Any, code: int
) -> None:
    """0: it is, 1: it is not, 3: there is no gate."""
    gate, result = run(monkeypatch, ["health", *options], {Health: answer})

    assert result.exit_code == code
    assert (gate.asked, gate.open) == ([Health()], 0)


def test_the_parts_are_a_table_and_the_last_line_says_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """With --json it is the report."""
    _, table = run(monkeypatch, ["health"], {Health: NOT_READY})
    _, json = run(monkeypatch, ["health", "--json"], {Health: NOT_READY})
    head, loop, box, last = table.stdout.splitlines()

    assert head.split() == ["PART", "STATUS", "SINCE", "WHY"]
    assert loop.split() == ["system", "loop", "ok", "-", "-"]
    assert box.startswith("mailbox front/box  failed  2001-09-0")
    assert box.endswith("4 of 4 tokens, and rejects others")
    assert last == "shop: live, not ready"
    assert loaded(json)["parts"][1] == {
        "name": FULL.name, "status": "failed", "since": 1_000_000_000.0, "why": FULL.why,
    }  # fmt: skip


def test_the_help_has_an_example_of_probes() -> None:
    text = CliRunner().invoke(main, ["health", "--help"]).stdout

    assert "livenessProbe:  {exec: {command: [tokengate, health, --live]}, timeoutSeconds: 5}" in text
    assert "readinessProbe: {exec: {command: [tokengate, health]}, timeoutSeconds: 5}" in text


# --- In processes ----------------------------------------------------------------------------------------------------

SERVICE = """
import sys, threading
from tokengate import CpuActor, Gate

class Box(CpuActor):
    capacity, overflow = 1, "reject"
    def on_receive(self, message):
        began.set()
        done.wait()

began, done = threading.Event(), threading.Event()
with Gate("probed", threads=2) as gate:
    print("open", flush=True)
    for line in sys.stdin:
        if line == "fill\\n":
            box = gate.spawn(Box)
            box.tell(1)
            began.wait()
            box.tell(2)
        elif line == "hang\\n":
            gate._system.system_host.later(done.wait)
        elif line == "go on\\n":
            done.set()
        print(line, end="", flush=True)
"""


def probe(*options: str) -> int:
    """Return the exit code of `tokengate health`."""
    return programs.run("-m", "tokengate", "health", "-g", "probed", *options).returncode


def test_a_gate_whose_system_loop_hangs_is_not_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says nothing to those that connect; the table says so."""
    with Gate("hung", threads=2) as gate, opened_at_the_end() as doors:
        door = doors()
        gate._system.system_host.later(door.pass_through)
        door.wait_reached()
        monkeypatch.setattr("tokengate.control.transport._discovery._HELLO_SECONDS", 0.05)
        result = CliRunner().invoke(main, ["health", "-g", "hung", "--live"])

    assert result.exit_code == 1
    assert "system loop  failed  -      no answer within 1 s" in result.stdout
    assert result.stdout.endswith("hung: not live, not ready\n")


def test_a_gate_that_hangs_after_its_hello_is_not_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client says so, a second after it has asked; other questions to it are an error."""
    with (
        Gate("hung", threads=2) as gate,
        ControlClient(find_gate("hung").path, timeout=LIMIT) as client,
        opened_at_the_end() as doors,
    ):
        door = doors()
        gate._system.system_host.later(door.pass_through)
        door.wait_reached()
        monkeypatch.setattr("tokengate.control.transport._client.ANSWER_SECONDS", 0.05)
        report = client.ask(Health())
        client._timeout = 0.05
        with pytest.raises(NoAnswer, match="did not answer 'info' within"):
            client.ask(Info())

    assert report == HealthReport.of_hung("hung")


@in_ci
@pytest.mark.usefixtures("programs")
def test_a_gate_in_another_process_is_probed(until: Until) -> None:
    """Ready, then only live, then hung, ready again, stopped (SIGSTOP), and gone."""
    assert (probe(), probe("--live")) == (3, 3)
    gate = programs.Program("-c", SERVICE, piped=True)

    def tell(line: str) -> None:
        assert gate.stdin is not None
        gate.stdin.write(f"{line}\n")
        gate.stdin.flush()
        assert gate.stdout.readline() == f"{line}\n"

    assert gate.stdout.readline() == "open\n"
    until(lambda: (probe(), probe("--live")) == (0, 0))
    tell("fill")
    until(lambda: (probe(), probe("--live")) == (1, 0))
    tell("hang")
    assert (probe(), probe("--live")) == (1, 1)
    tell("go on")
    until(lambda: (probe(), probe("--live")) == (0, 0))
    gate.send_signal(signal.SIGSTOP)
    assert (probe(), probe("--live")) == (1, 1)
    gate.send_signal(signal.SIGCONT)
    gate.communicate()

    assert gate.wait() == 0
    assert (probe(), probe("--live")) == (3, 3)
