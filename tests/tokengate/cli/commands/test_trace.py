"""`tokengate trace-export`, from files."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
from chrome_traces import check_trace
from click.testing import CliRunner, Result
from gated_code import LIMIT

from tokengate import Gate, token
from tokengate.cli import main
from tokengate.control.messages import Event
from tokengate.history import History
from tokengate.telemetry import Telemetry

EVENT = (
    '{"v":1,"seq":%d,"kind":"token.finished","at":1800000000.%d,"gate":"shop","gate_run":"7f3a91c2","token":%d,'
    '"uid":"7f3a91c2.%d","operation":"%s","actor":"operations/%s","affinity":"cpu","attempt":1,"state":"completed",'
    '"age":0.5,"wait":0.2,"run":0.3,"held":0,"worker":"shop-cpu-%d","weight":1}\n'
)


def line(id: int, operation: str = "resize") -> str:
    return EVENT % (id, id, id, id, operation, operation, id)


def run(*arguments: object, stdin: str = "") -> Result:
    return CliRunner().invoke(main, ["trace-export", *map(str, arguments)], input=stdin, prog_name="tokengate")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_text(line(1) + line(2, "charge"))
    return path


def test_a_file_of_events_becomes_a_trace(source: Path, tmp_path: Path) -> None:
    """It keeps the rules of the format; the command says what is in it."""
    out = tmp_path / "trace.json"

    result = run("--from", source, "-o", out)

    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out}: 2 attempts, 8 slices, 0 arrows, 0 other events\n"
    assert set(check_trace(out.read_bytes()).lines) == {"7f3a91c2.1", "7f3a91c2.2"}
    assert {path.name for path in tmp_path.iterdir()} == {"events.jsonl", "trace.json"}


def test_the_summary_is_json_if_that_is_asked_for(source: Path, tmp_path: Path) -> None:
    """Times are seconds since the epoch."""
    source.write_text(source.read_text() + '{"v":1,"seq":9,')

    answer = json.loads(run("--from", source, "-o", tmp_path / "trace.json", "--json").stdout)

    assert (answer["file"], answer["attempts"], answer["since"]) == (str(tmp_path / "trace.json"), 2, 1799999999.6)
    assert answer["lacks"] == [f"the last line of {source}, which is not whole"]


def test_what_a_trace_lacks_is_printed(source: Path, tmp_path: Path) -> None:
    """As the file says it."""
    source.write_text(line(1).replace('"weight":1', '"weight":5'))

    result = run("--from", source, "-o", tmp_path / "trace.json")

    assert result.stdout.splitlines()[1:] == ["it lacks 4 ordinary attempts, for which others stand: see their weight"]


def test_a_selector_chooses_tokens(source: Path, tmp_path: Path) -> None:
    """And events come from stdin."""
    out = tmp_path / "trace.json"

    result = run("operation=charge", "--from", "-", "-o", out, stdin=source.read_text())

    assert result.exit_code == 0, result.output
    assert set(check_trace(out.read_bytes()).lines) == {"7f3a91c2.2"}


@pytest.mark.parametrize(
    ("arguments", "text", "said"),
    [
        (("--since", "1h"), line(1), "give --since TIME, for events of history, or --from FILE"),
        ((), line(1) + "42\n", "line 2: Expected `object`, got `int`; each line must be an event"),
        (("running>1",), line(1), "'running' is "),
        (("state=runing",), line(1), "it is one of"),
    ],
)
def test_what_cannot_be_read_leaves_no_file(tmp_path: Path, arguments: tuple[str, ...], text: str, said: str) -> None:
    """The file that was there stays as it was."""
    source, out = tmp_path / "events.jsonl", tmp_path / "trace.json"
    source.write_text(text)
    out.write_text("before")

    result = run(*arguments, "--from", source, "-o", out)

    assert (result.exit_code, out.read_text()) == (2, "before")
    assert said in result.stderr
    assert len(list(tmp_path.iterdir())) == 2


def test_files_that_are_not_there_are_named(source: Path, tmp_path: Path) -> None:
    """Both of them."""
    missing = tmp_path / "none" / "trace.json"

    assert f"{missing}: No such file" in run("--from", source, "-o", missing).stderr
    assert "is a directory" in run("--from", source, "-o", "/").stderr
    assert f"{missing}: No such file" in run("--from", missing, "-o", tmp_path / "trace.json").stderr


def test_a_line_without_an_end_is_read_in_pieces(tmp_path: Path) -> None:
    """A file of another kind is refused, and not read into memory as a whole."""
    result = run("--from", "/dev/zero", "-o", tmp_path / "trace.json")

    assert result.exit_code == 2
    assert "/dev/zero, line 1: " in result.stderr
    assert not list(tmp_path.iterdir())


@token
def fails(n: int) -> None:
    raise ValueError(n)


@token
def works(n: int) -> None:
    fails.submit(n).exception(LIMIT)


def written(out: Path) -> list[Any]:
    """Return the items of a trace, in an order that does not depend on that of its events."""
    return sorted(json.loads(out.read_bytes())["traceEvents"], key=str)


def test_the_trace_of_history_is_that_of_the_same_events(
    tmp_path: Path, until: Callable[[Callable[[], bool]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 21: of a gate that runs, in parts; of its files; and of JSON lines of `history` and of the stream."""
    monkeypatch.setattr("tokengate.cli.commands._history._AT_ONCE", 7)
    seen: list[Event] = []
    source, dead = tmp_path / "stream.jsonl", ("--dir", tmp_path)
    outs = {name: tmp_path / f"{name}.json" for name in ("gate", "files", "lines", "stream")}
    plugins = [Telemetry(sinks=[seen.extend]), History(tmp_path)]
    with Gate("traced", plugins=plugins, shutdown=LIMIT) as gate:
        for number in range(10):
            works.submit(number).result(LIMIT)
        until(lambda: len(gate.plugin(History).records("kind=token.finished")) == 20)
        asked = run("--since", "1h", "-g", "traced", "-o", outs["gate"])
    known = [attrs.asdict(one) for one in seen]
    source.write_bytes(
        b"".join(
            msgspec.json.encode({name: value for name, value in one.items() if value is not None}) + b"\n"
            for one in known
        )
    )
    listed = CliRunner().invoke(main, ["history", *map(str, dead), "--json"], prog_name="tokengate")

    results = [
        run("--since", "1h", *dead, "-o", outs["files"]),
        run("--from", "-", "-o", outs["lines"], stdin=listed.stdout),
        run("--from", source, "-o", outs["stream"]),
    ]

    assert [one.exit_code for one in (asked, *results)] == [0] * 4, (asked.output, [one.output for one in results])
    assert written(outs["files"]) == written(outs["lines"])
    checked = {name: check_trace(out.read_bytes()) for name, out in outs.items()}
    assert len(checked["gate"].lines) == 20
    for one in checked.values():
        assert set(one.lines) == set(checked["gate"].lines)
        assert sorted(one.arrows) == sorted(checked["gate"].arrows)
        for id, line in one.lines.items():
            for found, expected in zip(line, checked["gate"].lines[id], strict=True):
                assert (found.name, found.within) == (expected.name, expected.within)
                assert abs(found.start - expected.start) <= 2  # history rounds to microseconds
                assert abs(found.end - expected.end) <= 2


def test_progress_is_shown_on_a_terminal(source: Path, tmp_path: Path) -> None:
    """And only there."""
    master, slave = pty.openpty()
    with os.fdopen(master, "rb", buffering=0) as shown:
        with os.fdopen(slave, "wb") as terminal:
            command = [
                sys.executable,
                "-m",
                "tokengate",
                "trace-export",
                "--from",
                source,
                "-o",
                tmp_path / "trace.json",
            ]
            subprocess.run(command, stderr=terminal, stdout=subprocess.DEVNULL, check=True)

        assert b"100%" in shown.read(4_096)
