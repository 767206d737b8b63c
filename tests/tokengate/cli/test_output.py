"""Output that cannot be written, or that the terminal's encoding lacks."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fake_gate import FakeGate, row

from tokengate.cli import _gate_option, main
from tokengate.control.messages import Info, Message, TokenPage, Tokens, Tree, TreeRow

FULL = Path("/dev/full")
TOLD = "Error: the output could not be written: No space left on device; write it elsewhere\n"

TREE = (
    TreeRow(0, "/", "/", "Supervisor", "running", "", 0, "one_for_one", 0, (), False),
    TreeRow(1, "/a", "a", "Café", "running", "permanent", 0, "", 0, (), False),
)
PAGE = TokenPage((row(7, tags={"x": "漢é"}),), 1, 1, 0)
ANSWERS: dict[type[Message], Any] = {Tokens: PAGE, Tree: TREE, Info: None}

needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")


def call(monkeypatch: pytest.MonkeyPatch, stdout: Any, *arguments: str) -> int | str | None:
    """Run a command line with this stdout, and return its exit code."""
    monkeypatch.setattr(_gate_option, "connect", FakeGate(ANSWERS).connect)
    monkeypatch.setattr(sys, "stdout", stdout)
    with pytest.raises(SystemExit) as ended:
        main(list(arguments), prog_name="tokengate")
    return ended.value.code


COMMANDS = (["--help"], ["ps", "--help"], ["--version"], ["completion", "bash"], ["ps"], ["ps", "--json"], ["tree"])


@needs_full
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("buffered", [True, False], ids=["buffered", "unbuffered"])
def test_a_full_device_is_told_in_one_line(
    arguments: list[str], buffered: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr, with an exit code that scripts notice, for whatever is printed."""
    raw = FULL.open("wb", buffering=-1 if buffered else 0)
    with io.TextIOWrapper(raw, "utf-8", write_through=not buffered) as full:  # type: ignore[type-var]
        code = call(monkeypatch, full, *arguments)

    assert code == 1
    assert capsys.readouterr().err == TOLD


@needs_full
@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["demo", "--json", str(Path(__file__).parents[3] / "tokengate" / "demo")]],
    ids=lambda arguments: arguments[0],
)
def test_a_failure_that_shows_only_at_the_end_is_told_too(arguments: list[str]) -> None:
    """What is in the buffer is written by the command itself, and not by the interpreter's exit, which cannot say."""
    with FULL.open("wb") as full:
        command = [sys.executable, "-m", "tokengate", *arguments]
        done = subprocess.run(command, check=False, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)

    assert done.returncode == 1
    assert done.stderr.splitlines(keepends=True)[-1] == TOLD
    assert "Traceback" not in done.stderr


class Gone(io.RawIOBase):
    """A pipe that nobody reads any more."""

    def writable(self) -> bool:
        return True

    def write(self, _data: object) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_pipe_that_nobody_reads_is_no_error_to_tell(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`tokengate ps | head -1` ends quietly."""
    pipe = io.TextIOWrapper(io.BufferedWriter(Gone()), "utf-8")
    code = call(monkeypatch, pipe, *arguments)
    try:
        pipe.close()
    except BrokenPipeError:
        pass

    assert code == 1
    assert capsys.readouterr().err == ""


@needs_full
def test_the_exit_code_of_a_command_that_failed_stays(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own error is told, too."""
    with FULL.open("w") as full:
        full.write("before")
        code = call(monkeypatch, full, "nope")
    told = capsys.readouterr().err

    assert code == 2
    assert "No such command 'nope'" in told
    assert told.endswith(TOLD)


def test_an_error_that_is_not_of_the_output_is_no_error_of_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours has its traceback; so has the user's program."""
    gate = FakeGate({Tokens: PermissionError(13, "no")})
    monkeypatch.setattr(_gate_option, "connect", gate.connect)

    with pytest.raises(PermissionError):
        main(["ps"], prog_name="tokengate")


@pytest.mark.parametrize("charset", ["latin-1", "utf-8"])
def test_a_tree_has_guides_that_the_terminal_can_show(charset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ASCII where the encoding has no better ones, and the text around it is the same."""
    monkeypatch.setattr(_gate_option, "connect", FakeGate(ANSWERS).connect)
    result = CliRunner(charset=charset).invoke(main, ["tree"], prog_name="tokengate")

    assert result.exit_code == 0
    guide = {"latin-1": "`-- ", "utf-8": "└── "}[charset]
    assert result.stdout_bytes.decode(charset).splitlines()[1].startswith(f"{guide}a  Café")


def test_a_character_that_the_terminal_lacks_is_a_question_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table stays a table; JSON is UTF-8 everywhere, and loses nothing."""
    monkeypatch.setattr(_gate_option, "connect", FakeGate(ANSWERS).connect)
    runner = CliRunner(charset="latin-1")
    table = runner.invoke(main, ["ps"], prog_name="tokengate")
    data = runner.invoke(main, ["ps", "--json"], prog_name="tokengate")

    assert table.exit_code == data.exit_code == 0
    assert table.stdout_bytes.decode("latin-1").splitlines()[1].endswith("x=?é")
    assert json.loads(data.stdout_bytes)["rows"][0]["tags"] == {"x": "漢é"}


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_stream_that_is_closed_takes_everything(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As with Python's own `print`: nothing is written, and nothing is wrong."""
    code = call(monkeypatch, None, *arguments)
    if sys.stdout is not None:  # `--help` and `--version` need none
        sys.stdout.close()

    assert code in (0, None)
