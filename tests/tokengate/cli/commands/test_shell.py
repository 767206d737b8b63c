"""`tokengate shell`, as it is typed, for a real gate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tokengate import ChildSpec, CpuActor, Gate
from tokengate.cli.commands._shell import shell


class Counter(CpuActor):
    show = ("count",)

    def __init__(self) -> None:
        self.count = 5


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    monkeypatch.setenv("TOKENGATE_RUNTIME_DIR", str(tmp_path))
    with Gate("shop", children=[ChildSpec("counter", Counter)]) as opened:
        yield opened


def run(*arguments: str, script: str | None = None) -> Result:
    return CliRunner().invoke(shell, arguments, input=script)


def test_a_script_comes_from_a_pipe(gate: Gate) -> None:
    """Neither a banner nor a prompt is between the answers."""
    result = run(script="actor('counter').state()\n'end'\n")

    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["counter", "(Counter)"],
        ["NAME", "TYPE", "SIZE", "VALUE"],
        ["count", "int", "-", "5"],
        ["'end'"],
    ]
    assert result.stderr == ""


@pytest.mark.parametrize("arguments", [["shop"], ["-g", "shop"], ["shop", "--gate", "shop"], []])
def test_a_line_comes_from_the_command_line(gate: Gate, arguments: list[str]) -> None:
    """`-c` runs one line; the gate is named by an argument or an option, or is the only one."""
    result = run(*arguments, "-c", "set_state('counter', count=7)")

    assert result.exit_code == 0
    assert result.stdout.startswith("counter: done")
    assert gate.control.get_state("counter") == {"count": 7}


def test_a_statement_that_raises_ends_it_with_1(gate: Gate) -> None:
    """A script can be relied upon: what follows a mistake is left out."""
    result = run("-c", "token(404); print('on')")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("UnknownToken: ")


def test_exit_ends_it_with_its_code(gate: Gate) -> None:
    """`exit(5)` is what it is everywhere."""
    assert run("-c", "raise SystemExit(5)").exit_code == 5


def test_a_gate_that_is_not_there_ends_it_with_3(gate: Gate) -> None:
    """In one line, which says what is there instead."""
    result = run("till", "-c", "ps()")

    assert result.exit_code == 3
    assert "no gate 'till'" in result.stderr


def test_two_names_are_one_too_many(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """NAME and -g contradict each other; a NAME goes before the environment's."""
    assert run("till", "-g", "shop", "-c", "1").exit_code == 2

    monkeypatch.setenv("TOKENGATE_GATE", "till")
    assert run("shop", "-c", "1").exit_code == 0
