"""Durable tokens that rules have changed: what outlives the process is undone at the next opening."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from gated_code import LIMIT
from predictions import Foreseeing

from tokengate import token
from tokengate.durable import Journal
from tokengate.predict import Rule

Open = Callable[..., AbstractContextManager[Foreseeing]]


@token(durable=True, idempotent=True, concurrency=1)
def import_file(name: str) -> str:
    assert may_go_on.wait(LIMIT)
    return name


may_go_on = threading.Event()


@pytest.fixture(autouse=True)
def _held() -> Iterator[None]:
    may_go_on.clear()
    yield
    may_go_on.set()


def rule(do: str, **options: Any) -> Rule:
    select = "operation=import_file,state=queued"
    return Rule(name="late", select=select, do=do, mode="act", budget="99/s, 100%", **options)


def kept(models: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((models / "rules.json").read_text())["tokens"]
    return found


@pytest.mark.parametrize("do", ["renice -5", "retag speed=slow"])
def test_what_a_rule_did_before_a_crash_is_undone_at_the_next_opening(do: str, open_gate: Open, tmp_path: Path) -> None:
    """It stands in the directory of the models before it is done; here the file is as a crash leaves it."""
    journal, models = tmp_path / "journal", tmp_path / "models"
    with open_gate(rule(do, for_=1), plugins=(Journal(journal),), models=models) as seen:
        seen.gate.register(import_file)
        seen.gate.control.suspend("import_file")
        first, _ = [import_file.submit(name) for name in ("a", "b")]
        before = first.priority, dict(first.tags)
        seen.look(0)
        seen.look(2)
        assert (first.priority, dict(first.tags)) != before
        assert list(kept(models)) == [f"{first.uid} {do.split(maxsplit=1)[0]}"]
        seen.predict.closing = lambda _gate: None  # type: ignore[method-assign]
        uid = first.uid

    assert len(kept(models)) == 1
    opened = Journal(journal)
    with open_gate(plugins=(opened,), models=models):
        while kept(models):
            pass
        found = opened.attach(uid)
        assert (found.priority, dict(found.tags)) == before
        may_go_on.set()
        assert found.result(LIMIT) == "a"


def test_what_was_changed_since_stays(open_gate: Open, tmp_path: Path) -> None:
    """An operator's priority is not overwritten by the next opening."""
    journal, models = tmp_path / "journal", tmp_path / "models"
    with open_gate(rule("renice -5", for_=1), plugins=(Journal(journal),), models=models) as seen:
        seen.gate.register(import_file)
        seen.gate.control.suspend("import_file")
        first, _ = [import_file.submit(name) for name in ("a", "b")]
        seen.look(0)
        seen.look(2)
        assert first.priority == -5
        seen.gate.control.renice(first.id, 7)
        seen.predict.closing = lambda _gate: None  # type: ignore[method-assign]
        uid = first.uid
        assert list(kept(models)) == [f"{uid} renice"]

    opened = Journal(journal)
    with open_gate(plugins=(opened,), models=models):
        while kept(models):
            pass
        assert opened.attach(uid).priority == 7
        may_go_on.set()


def test_what_has_ended_is_forgotten(open_gate: Open, tmp_path: Path) -> None:
    """Nothing is left to undo."""
    journal, models = tmp_path / "journal", tmp_path / "models"
    with open_gate(rule("renice -5", for_=1), plugins=(Journal(journal),), models=models) as seen:
        seen.gate.register(import_file)
        seen.gate.control.suspend("import_file")
        first, second = [import_file.submit(name) for name in ("a", "b")]
        seen.look(0)
        seen.look(2)
        seen.gate.control.unsuspend("import_file")
        may_go_on.set()
        assert [one.result(LIMIT) for one in (first, second)] == ["a", "b"]
        seen.look(1)
        seen.look(1)

        assert kept(models) == {}


def test_two_rules_on_one_token_are_both_undone_after_a_crash(open_gate: Open, tmp_path: Path) -> None:
    """Each verb is kept by itself."""
    journal, models = tmp_path / "journal", tmp_path / "models"
    select = "operation=import_file,state=queued"
    rules = [
        Rule(name=do.split(maxsplit=1)[0], select=select, do=do, mode="act", budget="99/s, 100%", for_=1)
        for do in ("renice -5", "retag speed=slow")
    ]
    with open_gate(*rules, plugins=(Journal(journal),), models=models) as seen:
        seen.gate.register(import_file)
        seen.gate.control.suspend("import_file")
        first, *_ = [import_file.submit(name) for name in "abcdef"]
        for _ in range(4):
            seen.look(1)
        assert (first.priority, dict(first.tags)) == (-5, {"speed": "slow"})
        seen.predict.closing = lambda _gate: None  # type: ignore[method-assign]
        uid = first.uid

    opened = Journal(journal)
    with open_gate(plugins=(opened,), models=models):
        while kept(models):
            pass
        found = opened.attach(uid)
        assert (found.priority, dict(found.tags)) == (0, {})
        may_go_on.set()


def test_a_token_is_not_changed_if_that_cannot_be_kept(
    open_gate: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full; the gate and its looks go on."""

    def full(*_args: Any) -> None:
        raise OSError(28, "No space left on device")

    with open_gate(rule("renice -5", for_=1), plugins=(Journal(tmp_path / "j"),), models=tmp_path / "m") as seen:
        seen.gate.register(import_file)
        seen.gate.control.suspend("import_file")
        tokens = [import_file.submit(name) for name in "abcd"]
        seen.look(0)
        monkeypatch.setattr("tokengate.predict._kept.os.fdatasync", full)
        seen.look(2)
        seen.look(2)

        assert [one.priority for one in tokens] == [0, 0, 0, 0]
        assert set(seen.states()) == {"refused"}
        assert len(seen.predict._open.active) == 0
        monkeypatch.undo()
        may_go_on.set()
        seen.gate.control.unsuspend("import_file")


def test_rules_at_submit_look_at_durable_tokens_once_they_are_on_disk(open_gate: Open, tmp_path: Path) -> None:
    """So that what they did is undone after a crash, too."""
    wanted = Rule(name="r", select="operation=import_file,run.p50>2s", do="renice -5", mode="act")
    options: dict[str, Any] = {"plugins": (Journal(tmp_path / "j"),), "models": tmp_path / "m"}
    with open_gate(wanted, run={"import_file": 9.0}, **options) as seen:
        seen.gate.register(import_file)
        seen.gate.control.suspend("import_file")
        first, second = [import_file.submit(name) for name in "ab"]
        assert (first.priority, second.priority) == (0, 0)
        seen.look(1)

        assert first.priority == -5
        assert len(kept(tmp_path / "m")) == 1
        may_go_on.set()
        seen.gate.control.unsuspend("import_file")


TOKEN = {"uid": "1.1", "rule": "r", "verb": "renice -1", "before": {"priority": 0}, "set": {"priority": -1}}
DAMAGED: dict[str, bytes] = {
    "no JSON": b"{",
    "no text": b"\xff\xfe",
    "too deep": b"[" * 200_000,
    "a list": b"[]",
    "an unknown verb": json.dumps({"trust": {}, "tokens": {"x": TOKEN | {"verb": "explode"}}}).encode(),
    "no uid": json.dumps({"trust": {}, "tokens": {"x": TOKEN | {"uid": "x"}}}).encode(),
    "too large": b" " * (4 * 2**20 + 1),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_of_rules_is_told_and_the_gate_opens(
    damage: str, open_gate: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It says what is lost, and what to do."""
    models = tmp_path / "models"
    models.mkdir(mode=0o700)
    (models / "rules.json").write_bytes(DAMAGED[damage])
    with open_gate(models=models) as seen:
        assert seen.gate.control.info().state == "open"

    assert "what rules did before is not undone; remove it" in caplog.text
