"""What is on record of the messages that come through the door, and what is refused if it cannot be."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callers import ANN, BOB, Wire, grants
from gated_code import Door
from people import RULE, People

from tokengate import CpuActor, Gate, checkpoint, token
from tokengate.audit._read import read
from tokengate.control import messages as m
from tokengate.errors import AuditUnavailable, Refused

Open = Callable[..., Gate]
Until = Callable[[Callable[[], bool]], None]

ADMIN = grants(("uid:0 uid:10001 uid:10002", "admin"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tokengate" / "shop" / "audit"


def records(gate: Gate, directory: Path, *doors: Door) -> list[dict[str, Any]]:
    """Return what is on record once the gate has closed."""
    for door in doors:
        door.open()
    gate.close(drain=False)
    return [one for one in read(directory) if one["kind"] not in ("opened", "closed")]


@token
def wait(door: Door) -> None:
    door.pass_through()


@token
def spin() -> None:
    while True:
        checkpoint()


def test_a_verb_is_on_record_before_it_acts_and_its_outcome_after(
    open_gate: Open, door: Door, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The intent has ids, reason, and what the verb changes; the outcome names the intent."""
    gate = open_gate(ADMIN)
    sent = wait.submit(door)
    seen: list[list[dict[str, Any]]] = []
    renice = "tokengate.control.steering._steering.renice"
    monkeypatch.setattr(renice, lambda token, priority: seen.append(list(read(directory))) or _renice(token, priority))
    gate.control.renice("operation=wait", 7, reason="more urgent")
    intent, outcome = records(gate, directory, door)

    [before] = seen
    assert before[-1] == intent
    assert (intent["kind"], intent["verb"], intent["principal"]) == ("intent", "renice", "process")
    assert (intent["selector"], intent["targets"]) == ("operation=wait", {"count": 1, "ids": str(sent.id)})
    assert (intent["reason"], intent["args"], intent["before"]) == ("more urgent", {"priority": 7}, {str(sent.id): 0})
    assert (outcome["kind"], outcome["of"], outcome["after"]) == ("outcome", intent["seq"], {str(sent.id): 7})
    assert sum(outcome["outcome"].values()) == 1


def _renice(token: Any, priority: int) -> m.Outcome:
    token.priority = priority
    return m.Outcome(token.id, "wait", "noted")


def test_viewing_writes_nothing(open_gate: Open, door: Door, directory: Path) -> None:
    """Case 20: not even the directory."""
    gate = open_gate(ADMIN)
    sent = wait.submit(door)
    control = gate.control
    for look in (
        control.info, control.tokens, control.actors, control.tree, control.throttles, control.policies,
        control.proposals, control.whoami, lambda: control.describe(sent), lambda: control.stack(sent),
        lambda: control.statistics("*wait"),
    ):  # fmt: skip
        look()
    door.open()
    gate.close(drain=False)

    assert not directory.exists()


def test_a_refusal_is_on_record_and_those_that_follow_are_counted(open_gate: Open, directory: Path) -> None:
    """Case 19, in small: by principal."""
    gate = open_gate(grants(("uid:10001", "viewer")))
    with Wire(gate) as wire:
        for _ in range(50):
            with pytest.raises(Refused):
                wire.ask(m.Freeze(reason="x"), f"uid:{ANN}", ANN)
    first, *others = records(gate, directory)

    assert (first["kind"], first["verb"], first["principal"], first["via"]) == (
        "refused",
        "freeze",
        "uid:10001",
        "http",
    )
    assert "has not the right 'operate'" in first["reason"]
    assert [one["outcome"] for one in others] == [{"refused": 49}]


def test_a_forged_request_on_behalf_of_others_is_on_record(open_gate: Open, directory: Path) -> None:
    """Case 3: with the principal of its sender."""
    gate = open_gate(ADMIN)
    with Wire(gate) as wire, pytest.raises(Refused, match="is no principal"):
        wire.ask(m.Whoami(), "process", 0)
    [refused] = records(gate, directory)

    assert (refused["kind"], refused["principal"], refused["verb"]) == ("refused", "uid:0", "whoami")


def test_without_grants_a_request_on_behalf_of_others_begins_the_log(open_gate: Open, directory: Path) -> None:
    """What came before is not on record; what follows is, and goes on if it cannot be."""
    gate = open_gate()
    gate.control.freeze(reason="before")
    with Wire(gate) as wire:
        wire.ask(m.Whoami(), "uid:0", 0)
    gate.control.unfreeze()
    intent, outcome = records(gate, directory)

    assert (intent["verb"], outcome["outcome"]) == ("unfreeze", {"done": 1})


def test_without_a_section_nothing_is_on_record(open_gate: Open, directory: Path) -> None:
    """A gate of one user needs no log."""
    gate = open_gate()
    gate.control.freeze(reason="x")
    gate.close()

    assert not directory.exists()


def test_what_cannot_be_recorded_is_refused_but_looking_and_releasing_go_on(
    open_gate: Open, door: Door, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The directory of the log is a file. Break glass goes on, once it is in the log of the process."""
    (tmp_path / "audit").write_text("")
    gate = open_gate(f"{ADMIN}[audit]\npath = {str(tmp_path / 'audit')!r}\n")
    control = gate.control
    one, other = wait.submit(door), spin.submit()
    for act in (
        lambda: control.terminate(one, reason="x"), lambda: control.pause(one), lambda: control.retag(one, {"a": "b"}),
        lambda: control.throttle("a=b", rate=1), lambda: control.suspend("operations/wait"),
    ):  # fmt: skip
        with pytest.raises(AuditUnavailable):
            act()
    assert (one.done(), dict(one.tags), control.throttles()) == (False, {}, ())

    assert len(control.tokens()) == 2
    assert [done.outcome for done in control.resume(one)] == ["unchanged"]
    assert control.unsuspend("operations/wait").outcome == "unchanged"
    assert control.lift("a=b") == ()
    with caplog.at_level(logging.WARNING, "tokengate.audit"):
        [done] = control.terminate(other, break_glass="the disk of the log is gone", wait=60)
    assert done.outcome == "terminated"
    assert "the disk of the log is gone" in caplog.text


def test_values_are_never_on_record_and_who_has_read_them_is(open_gate: Open, directory: Path) -> None:
    """Case 22, for the log: names and types only."""

    class Counter(CpuActor):
        show = ("total",)
        total = 0

        def on_start(self) -> None:
            self.total = 0

    gate = open_gate(ADMIN)
    gate.spawn(Counter, name="counter")
    gate.control.set_state("counter", total="a canary")
    assert gate.control.get_state("counter")["total"] == "a canary"
    gate.find("$system/control").ask(m.GetState("counter"))
    found = records(gate, directory)

    assert "canary" not in str(found)
    assert [(one["kind"], one["verb"]) for one in found] == [
        ("intent", "set_state"), ("outcome", "set_state"), ("read", "visit"), ("read", "get_state"),
    ]  # fmt: skip
    assert found[0]["args"]["values"] == ["total"]


def test_what_becomes_of_a_guarded_proposal_is_on_record(open_gate: Open, door: Door, directory: Path) -> None:
    """Made, approved, applied; a dry run that needs nothing is not."""

    @token(guard="approval")
    def guarded(door: Door) -> None:
        door.pass_through()

    gate = open_gate(ADMIN)
    sent = guarded.submit(door)
    door.wait_reached()
    with Wire(gate) as wire:
        wire.ask(m.Terminate(sent.id, dry_run=False, reason="stuck"), f"uid:{ANN}", ANN)
        [row] = wire.ask(m.Proposals(), f"uid:{ANN}", ANN)
        wire.ask(m.Approve(row["number"], digest=row["digest"]), f"uid:{BOB}", BOB)
        wire.ask(m.Apply(row["number"], wait=0), f"uid:{ANN}", ANN)
    found = records(gate, directory, door)

    assert [(one["kind"], one["verb"], one.get("principal")) for one in found] == [
        ("proposal", "terminate", "uid:10001"),
        ("intent", "approve", "uid:10002"), ("outcome", "approve", "uid:10002"),
        ("intent", "terminate", "uid:10001"), ("outcome", "terminate", "uid:10001"),
    ]  # fmt: skip
    assert {one["proposal"] for one in found if "proposal" in one} == {row["number"]}


def test_what_a_rule_does_is_on_record_with_its_principal(people: People, tmp_path: Path) -> None:
    people.authority.recorder.record_to(tmp_path / "log", None, strict=True)
    people[RULE].throttle("a=b", rate=1, reason="predicted")
    people.authority.recorder.close()
    intent, _ = [one for one in read(tmp_path / "log") if one["kind"] not in ("opened", "closed")]

    assert (intent["principal"], intent.get("owner"), intent["selector"]) == ("process:interventions", None, "a=b")
