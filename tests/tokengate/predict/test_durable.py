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
        assert list(kept(models)) == [first.uid]
        seen.predict.closing = lambda _gate: None  # type: ignore[method-assign]
        uid = first.uid

    assert list(kept(models)) == [uid]
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
        assert list(kept(models)) == [uid]

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
