"""One zip with all that is known of a token."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from callers import ANN, Wire, gates_of, grants
from charges import charge
from click.testing import CliRunner
from gated_code import LIMIT

from tokengate import CpuActor, Gate, token
from tokengate.cli import main
from tokengate.control.messages import Message
from tokengate.control.registry._kinds import answer_of
from tokengate.durable import Journal
from tokengate.errors import BadRequest
from tokengate.history import History
from tokengate.history import _context as context
from tokengate.history._postmortem import Postmortem

Opened = Callable[..., tuple[Gate, History]]
Until = Callable[[Callable[[], bool]], None]

CANARY = "canary-5e0c"
_log = logging.getLogger("shop")


def unpacked(path: Path) -> dict[str, Any]:
    """Return {name of a part: its entries, or its value}."""
    with zipfile.ZipFile(path) as zipped:
        texts = {name: zipped.read(name).decode() for name in zipped.namelist()}
    return {
        name: [json.loads(line) for line in text.splitlines()] if name.endswith("jsonl") else json.loads(text)
        for name, text in texts.items()
    }


def is_in(path: Path, text: str) -> bool:
    with zipfile.ZipFile(path) as zipped:
        return any(text.encode() in zipped.read(name) for name in zipped.namelist())


@token
def child(secret: str) -> None:
    _log.info("a child has %s", secret)


@token
def parent(secret: str, *, also: str) -> None:
    _log.warning(f"it is {also}")
    child.submit(secret).result(LIMIT)
    try:
        raise KeyError(secret)
    except KeyError:
        _log.exception("it failed with %s", also)
    raise ValueError(secret)


@token
def grandparent(secret: str) -> int:
    failed = parent.submit(secret, also=secret)
    failed.exception(LIMIT)
    return failed.id


@token(show="*")
def talks(order: int, password: str) -> None:
    _log.warning("order %s, password=%s", order, password)


@token
def holds(secret: str, door: threading.Event) -> None:
    _log.warning("it holds %s", secret)
    door.wait(LIMIT)


def test_all_that_is_known_of_a_token_is_there_and_no_secret(opened: Opened, until: Until, tmp_path: Path) -> None:
    """Case 34: its records and log lines, parents, children, others of its minute; nothing that live views hide."""
    gate, history = opened()
    child.submit("x").result(LIMIT)
    id = grandparent.submit(CANARY).result(LIMIT)
    until(lambda: len(history.records("kind=token.finished")) == 4)

    index = history.postmortem(id, tmp_path / "out.zip")

    found = unpacked(tmp_path / "out.zip")
    assert found["index.json"] == index
    assert index["token"] == f"{gate._stream.run}.{id}"  # type: ignore[union-attr]
    assert [(one["operation"], one["error"]) for one in found["token.jsonl"]] == [("parent", "ValueError")]
    assert [one["operation"] for one in found["parents.jsonl"]] == ["grandparent"]
    assert [one["operation"] for one in found["children.jsonl"]] == ["child"]
    others = [one["operation"] for one in found["minute.jsonl"] if one["kind"] == "token.finished"]
    assert others == ["child", "child"]  # the grandparent ended after it
    assert [(one["level"], one["error"]) for one in found["log.jsonl"]] == [("WARNING", ""), ("ERROR", "KeyError")]
    assert {Path(one["where"].rpartition(":")[0]).name for one in found["log.jsonl"]} == {"test_postmortem.py"}
    assert {one["path"] for one in found["tree.json"]} >= {"/", "$system/control"}
    assert set(found["gate.json"]["versions"]) == {"tokengate", "python", "system"}
    assert set(index["left_out"]) == {"live.json", "arguments", "audit.jsonl", "journal"}
    assert not is_in(tmp_path / "out.zip", CANARY)


def test_a_live_token_is_as_live_views_show_it(opened: Opened, tmp_path: Path, until: Until) -> None:
    """Its description and its stack; values of arguments only where the operation shows them."""
    _, history = opened()
    door = threading.Event()
    held = holds.submit(CANARY, door)
    until(lambda: bool(history._ring.lines(held.id)))

    history.postmortem(held.id, tmp_path / "out.zip")
    door.set()
    held.result(LIMIT)

    found = unpacked(tmp_path / "out.zip")
    assert [one["name"] for one in found["live.json"]["arguments"]] == ["secret", "door"]
    assert found["token.jsonl"] == []
    assert "stack.json" in found
    assert not is_in(tmp_path / "out.zip", CANARY)


def test_the_text_of_a_log_line_is_there_where_all_is_shown(opened: Opened, until: Until, tmp_path: Path) -> None:
    """But for what has the name of a secret."""
    _, history = opened()
    shown = talks.submit(7, CANARY)
    shown.result(LIMIT)
    until(lambda: len(history.records("kind=token.finished")) == 1)

    history.postmortem(shown.id, tmp_path / "out.zip")

    assert [one["text"] for one in unpacked(tmp_path / "out.zip")["log.jsonl"]] == ["order 7, password=***"]
    assert not is_in(tmp_path / "out.zip", CANARY)


class Clerk(CpuActor):
    def log(self, n: int) -> None:
        for number in range(n):
            _log.error("line %d", number)


_PROGRAM = """
import logging, os, sys
from tokengate import Gate, token
from tokengate.history import History

@token
def child(secret):
    raise ValueError(secret)

@token
def parent(secret):
    logging.warning("it is %s", secret)
    child.submit(secret).exception(30)
    raise ValueError(secret)

with Gate("shop", plugins=[history := History(sys.argv[1])], config=sys.argv[2], control_socket=False):
    failed = parent.submit(os.environ["API_KEY"])
    failed.exception(30)
    while not (found := history.records("operation=parent,kind=token.finished")):
        pass
    print(found[0].uid, flush=True)
    sys.stdin.read()
"""


def test_the_files_of_a_dead_gate_are_enough(tmp_path: Path) -> None:
    """Case 34: it was killed; no secret of arguments, errors, environment or configuration is in the zip."""
    config, out = tmp_path / "tokengate.toml", tmp_path / "out.zip"
    config.write_text(
        f"# the key is {CANARY}\n[[flag]]\nselect = 'api_key={CANARY},operation=parent'\nmode = 'observe'\n"
    )
    environment = {**os.environ, "API_KEY": CANARY}
    command = [sys.executable, "-c", _PROGRAM, str(tmp_path), str(config)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as program:
        assert program.stdout is not None
        uid = program.stdout.readline().decode().strip()
        program.send_signal(signal.SIGKILL)

    nowhere = str(tmp_path / "nowhere")

    result = CliRunner().invoke(
        main, ["postmortem", uid, "--dir", str(tmp_path), "--audit", nowhere, "-o", str(out), "--json"]
    )

    assert result.exit_code == 0, result.output
    found = unpacked(out)
    assert json.loads(result.stdout) == {"file": str(out), **found["index.json"]}
    assert [one["uid"] for one in found["token.jsonl"] if one["kind"] == "token.finished"] == [uid]
    assert [one["operation"] for one in found["children.jsonl"] if one["kind"] == "token.finished"] == ["child"]
    assert found["gate.json"]["configuration"] == [
        "tokengate.toml:3: flag[0].select = 'api_key=***,operation=parent'",
        "tokengate.toml:4: flag[0].mode = 'observe'",
    ]
    left_out = found["index.json"]["left_out"]
    assert {"arguments", "log.jsonl", "tree.json", "figures.json"} <= set(left_out)
    assert f"{nowhere}: No such file or directory; --audit names another" in left_out["audit.jsonl"]
    assert not is_in(out, CANARY)
    assert not is_in(out, "API_KEY")


@pytest.fixture
def granted(tmp_path: Path) -> Iterator[Callable[[str], tuple[Gate, History]]]:
    with gates_of(tmp_path / "tokengate.toml") as open_:

        def opened(text: str) -> tuple[Gate, History]:
            history = History(tmp_path)
            return open_(text, plugins=[history]), history

        yield opened


@pytest.mark.parametrize(
    ("role", "missing"),
    [
        (("viewer",), {"audit.jsonl", "log.jsonl", "arguments"}),
        (("viewer", "operation=parent"), {"audit.jsonl", "log.jsonl", "arguments", "gate.json"}),
        (("view arguments audit",), set()),
    ],
)
def test_a_part_that_the_caller_may_not_see_is_named(
    granted: Callable[[str], tuple[Gate, History]],
    until: Until,
    role: tuple[str, ...],
    missing: set[str],
    tmp_path: Path,
) -> None:
    """It needs `view`, and for some parts `arguments` and `audit`; a grant's selector holds for records."""
    gate, history = granted(grants((f"uid:{ANN}", *role)))  # type: ignore[arg-type]
    id = grandparent.submit(CANARY).result(LIMIT)
    until(lambda: len(history.records("kind=token.finished")) == 3)
    with Wire(gate) as wire:

        def ask(message: Message[Any]) -> Any:
            return msgspec.convert(wire.ask(message, f"uid:{ANN}", ANN), answer_of(type(message)))

        postmortem = Postmortem(ask)
        postmortem.collect(str(id))
        with (tmp_path / "out.zip").open("wb") as file:
            postmortem.write(file)

    found = unpacked(tmp_path / "out.zip")
    left_out = found["index.json"]["left_out"]
    assert {part for part in ("audit.jsonl", "log.jsonl", "gate.json") if part in left_out} == missing - {"arguments"}
    assert not set(found) & missing
    assert bool(found["parents.jsonl"]) is (len(role) == 1)
    assert [one["operation"] for one in found["token.jsonl"]] == ["parent"]


def test_an_id_of_several_runs_is_not_guessed(opened: Opened, until: Until, tmp_path: Path) -> None:
    """The error names the tokens, of which one must be given."""
    for _ in range(2):
        with Gate("shop", plugins=[history := History(tmp_path)], shutdown=LIMIT):
            child.submit("x").result(LIMIT)
    gate, history = opened()

    with pytest.raises(BadRequest, match=r"token 1 is of several runs: [0-9a-f]{8}\.1, [0-9a-f]{8}\.1; give one"):
        history.postmortem(1, tmp_path / "out.zip")
    with pytest.raises(BadRequest, match="history knows no token 99"):
        history.postmortem(99, tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()
    assert gate.state == "open"


def test_only_this_user_may_read_the_zip(opened: Opened, until: Until, tmp_path: Path) -> None:
    """And what is not written completely is not there."""
    _, history = opened()
    child.submit("x").result(LIMIT)
    until(lambda: len(history.records("kind=token.finished")) == 1)

    history.postmortem(1, tmp_path / "out.zip")
    with pytest.raises(FileNotFoundError):
        history.postmortem(1, tmp_path / "none" / "out.zip")

    assert stat.S_IMODE((tmp_path / "out.zip").stat().st_mode) == 0o600
    assert {one.name for one in tmp_path.iterdir()} == {"out.zip", "history"}


def test_log_lines_are_kept_until_the_gate_closes(tmp_path: Path) -> None:
    """The latest 1,000 of its own tokens, and no handler is left behind."""

    handlers = list(logging.getLogger().handlers)
    with (
        Gate("other", plugins=[other := History(tmp_path / "b")], shutdown=LIMIT),
        Gate("shop", plugins=[history := History(tmp_path / "a")], shutdown=LIMIT) as gate,
    ):
        gate.spawn(Clerk).proxy().log(context.KEPT + 10).get()
        lines = list(history._ring._lines)
        assert not other._ring._lines

    assert len(lines) == context.KEPT
    assert len({one.token for one in lines}) == 1
    assert logging.getLogger().handlers == handlers


def test_a_gate_without_history_names_it(opened: Opened) -> None:
    """As for each verb of a plugin."""
    with Gate("plain", shutdown=LIMIT):
        result = CliRunner().invoke(main, ["postmortem", "1", "-o", "x.zip", "-g", "plain"])

    assert result.exit_code == 1
    assert "plugins=[History(directory)]" in result.stderr


def test_a_durable_token_has_its_row_of_the_journal(tmp_path: Path, until: Until) -> None:
    """By its uid, in a later run of the gate, and from the files of both rooms; also if history knows nothing of it."""
    ledger = str(tmp_path / CANARY)
    history, journal = History(tmp_path), Journal(tmp_path)
    with Gate("shop", plugins=[history, journal], control_socket=False):
        with pytest.raises(ValueError, match="no bank"):
            charge.submit(ledger, CANARY).result(LIMIT)
        until(lambda: len(history.records("operation=charge")) == 1)
        (row,) = journal.dead_letters.list()
    again = History(tmp_path)
    with Gate("shop", plugins=[again, Journal(tmp_path)], control_socket=False):
        index = again.postmortem(row.uid, tmp_path / "out.zip")
    found = unpacked(tmp_path / "out.zip")
    offline = CliRunner().invoke(
        main, ["postmortem", row.uid, "-o", str(tmp_path / "files.zip"), "--dir", str(tmp_path)]
    )
    shutil.rmtree(tmp_path / "history")
    with Gate("shop", plugins=[last := History(tmp_path), Journal(tmp_path)], control_socket=False):
        only_row = last.postmortem(row.uid, tmp_path / "row.zip")

    assert index["token"] == row.uid
    assert [(one["uid"], one["state"]) for one in found["journal.jsonl"]] == [(row.uid, "failed")]
    assert [one["error"] for one in found["token.jsonl"]] == ["ValueError"]
    assert not is_in(tmp_path / "out.zip", CANARY)
    assert offline.exit_code == 0, offline.output
    assert [one["uid"] for one in unpacked(tmp_path / "files.zip")["journal.jsonl"]] == [row.uid]
    assert (only_row["parts"]["journal.jsonl"], only_row["parts"]["token.jsonl"]) == (1, 0)
