"""Selectors over rows: what they match, and what a grant lets a caller see."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from callers import ANN, Wire, gates_of, grants

from tokengate import Gate, token
from tokengate.control import parse
from tokengate.control.inspection._selector import RECORD_FIELDS
from tokengate.errors import BadSelector, ControlError, Refused
from tokengate.history import History
from tokengate.history._kinds import HistoryRecords, ShowHistoryRecord
from tokengate.telemetry._kinds import Operations

Opened = Callable[..., tuple[Gate, History]]
Until = Callable[[Callable[[], bool]], None]


@token
def work(x: int) -> int:
    return x


@token
def calls(x: int) -> int:
    made: int = work.with_options(tags={"tenant": "acme"}).submit(x).result()
    return made


@token
def inverse(x: int) -> int:
    return 1 // x


@token
def hold(event: threading.Event) -> None:
    event.wait(60)


@token(affinity="io")
async def other(x: int) -> int:
    return x


def test_each_term_means_of_rows_what_it_means_of_live_tokens(opened: Opened, until: Until) -> None:
    """Case 33: the same tokens match, while they run and afterwards."""
    gate, history = opened()
    event = threading.Event()
    tokens = [
        hold.with_options(tags={"tenant": tenant}, priority=priority).submit(event)
        for tenant, priority in (("acme", 0), ("acme", 5), ("bolt", 5))
    ]
    ids = {one.id for one in tokens}
    asked = [
        "operation=hold", "operation!=hold", "operation=h*d", "actor=hold", "actor=operations/*", "affinity=cpu",
        "affinity!=cpu", f"id={tokens[0].id}", f"id>{tokens[0].id}", "priority=5", "priority<5", "priority!=5",
        "parent=*", "parent!=*", "tenant=acme", "tenant!=acme", "tenant=*", "tag.tenant=b*", "other=*", "age>=0",
        "operation=hold,tenant=acme,priority>0", "*",
    ]  # fmt: skip
    try:
        live = {text: {row.id for row in gate.control.tokens(text)} & ids for text in asked}
    finally:
        event.set()
    for one in tokens:
        one.result(30)
    until(lambda: len(history.records("operation=hold")) == 3)
    past = {text: {one.token for one in history.records(text)} & ids for text in asked}

    assert past == live
    assert {frozenset(found) for found in live.values()} > {frozenset()}


def test_terms_that_only_records_have(opened: Opened, until: Until) -> None:
    """run, wait, held, error, reason, kind, gate_run, finished; `running` is an error that names `run`."""
    _gate, history = opened()
    good, bad = work.submit(1), inverse.submit(0)
    for one in (good, bad):
        one.exception(30)
    until(lambda: len(history.records("kind=token.finished")) == 2)
    run = history.records()[0].gate_run
    asked = {
        "run>=0": 2, "run>1h": 0, "wait<1h": 2, "held>0": 0, "error=ZeroDivisionError": 1, "error=*": 1,
        "error!=*": 1, "state=failed": 1, "state!=failed,kind=token.*": 1, f"gate_run={run}": 2, "gate_run=x": 0,
        "finished<1h": 2, "finished>1h": 0, "steps=1": 2, "attempt=1": 2, "key=*": 1, "cpu>1h": 0, "memory>0": 0,
    }  # fmt: skip
    found = {text: sum(one.kind == "token.finished" for one in history.records(text)) for text in asked}

    assert found == asked
    with pytest.raises(BadSelector, match=r"'running' is of live tokens.*use run"):
        history.records("running>1")


def test_what_was_predicted_is_asked_of_rows_in_a_gate_that_predicts_nothing_too(opened: Opened, until: Until) -> None:
    """Records keep what was said of them, whatever this gate can say; what was not predicted never matches."""
    _gate, history = opened()
    sent = hold.submit(event := threading.Event())
    said = SimpleNamespace(features={}, said={"run.p95": 1e-9, "late": 0.9})
    sent._own_extras().forecast = said  # type: ignore[assignment]
    event.set()
    for one in (sent, work.submit(1)):
        one.result(30)
    until(lambda: len(history.records("kind=token.finished")) == 2)
    asked = {"late>80%": 1, "late<=1": 1, "late=*": 1, "late!=*": 1, "overrun>1": 1, "run.p95<1ms": 1, "failing>0": 0}

    assert {text: len(history.records(f"kind=token.finished,{text}")) for text in asked} == asked


def test_what_is_left_to_sqlite_agrees_with_the_selector(opened: Opened, until: Until) -> None:
    """A pushed-down term chooses the same rows as its test."""
    gate, history = opened()
    for number in range(20):
        work.submit(number).result(30)
    other.submit(1).result(30)
    until(lambda: len(history.records("kind=token.finished")) == 21)
    for text in ("operation=w*", "operation!=work", "operation=none", "state=completed,operation=other", "kind=*.f*"):
        selector: Any = parse(text, RECORD_FIELDS)
        matching = [
            one
            for one in history.records("kind=token.finished")
            if all(part.fits(str(getattr(one, part.name))) for part in selector.parts)
        ]

        assert [one.seq for one in history.records(text) if one.state] == [one.seq for one in matching]
    assert gate.state == "open"


@pytest.fixture
def granted(tmp_path: Path) -> Iterator[Callable[..., tuple[Gate, History]]]:
    with gates_of(tmp_path / "tokengate.toml") as open_:

        def opened(text: str) -> tuple[Gate, History]:
            history = History(tmp_path)
            return open_(text, plugins=[history]), history

        yield opened


def test_a_grants_selector_holds_for_the_past(granted: Callable[..., tuple[Gate, History]], until: Until) -> None:
    """Case 33: rows of other tokens are not there, figures over all tokens are refused."""
    gate, history = granted(grants((f"uid:{ANN}", "viewer", "tenant=acme")))
    mine = work.with_options(tags={"tenant": "acme"}).submit(1)
    theirs = work.with_options(tags={"tenant": "bolt"}).submit(2)
    for one in (mine, theirs):
        one.result(30)
    until(lambda: len(history.records("operation=work")) == 2)
    with Wire(gate) as wire:

        def ask(message: Any) -> Any:
            return wire.ask(message, f"uid:{ANN}", ANN)

        seen = ask(HistoryRecords("operation=work"))
        everything = ask(HistoryRecords(""))
        shown = ask(ShowHistoryRecord(str(mine.id)))
        with pytest.raises(ControlError, match="knows no token"):
            ask(ShowHistoryRecord(str(theirs.id)))
        with pytest.raises(Refused):
            ask(Operations(since="1h"))

    assert [one["token"] for one in seen] == [mine.id]
    assert {one.get("token") for one in everything} <= {mine.id, None}
    assert [one["token"] for one in shown] == [mine.id]


def test_past_records_do_not_tell_what_the_caller_may_not_see(
    granted: Callable[..., tuple[Gate, History]], until: Until
) -> None:
    """Case 33: neither who has made a token, nor how many records of others are missing."""
    gate, history = granted(grants((f"uid:{ANN}", "viewer", "tenant=acme")))
    theirs = calls.with_options(tags={"tenant": "bolt"}).submit(1)
    theirs.result(30)
    history._writer._gaps["the disk"] = [time.time(), time.time(), 4_242]  # type: ignore[union-attr]
    until(lambda: bool(history.records("kind=telemetry.lost")))
    with Wire(gate) as wire:

        def ask(message: Any) -> Any:
            return wire.ask(message, f"uid:{ANN}", ANN)

        seen = ask(HistoryRecords("*"))
        made = ask(HistoryRecords(f"parent={theirs.id}"))

    (mine,) = (one for one in seen if one["kind"] == "token.finished")
    assert mine["parent"] is None
    assert [one["kind"] for one in made] == ["telemetry.lost"]
    assert "4,242" not in str(seen) + str(made)
    assert "4242" not in str(seen) + str(made)
    known = next(one for one in history.records("operation=work") if one.state)
    assert known.parent == theirs.id
