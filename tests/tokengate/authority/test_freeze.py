"""The freeze of interventions: for rules only, at once, and after a restart."""

from __future__ import annotations

import json
import logging
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from people import ANN, RULE, People, grant

from tokengate import Gate
from tokengate.authority import _freeze
from tokengate.control._exceptions import BadRequest, ControlError, Refused
from tokengate.control.transport._discovery import state_directory


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tokengate" / "shop" / "frozen"


def test_a_freeze_needs_a_reason(people: People, frozen: Path) -> None:
    """Others see it on record, and in the file."""
    with pytest.raises(BadRequest, match="freeze needs a reason"):
        people[ANN].freeze()

    assert not frozen.exists()


def test_a_freeze_refuses_at_once_whatever_rules_ask_and_nothing_else(people: People, frozen: Path) -> None:
    """Also a dry run of theirs, and an apply."""
    rule, ann = people[RULE], people[ANN]
    rule.pause("operation=none")
    assert (ann.freeze(reason="a bad prediction"), ann.freeze(reason="again")) == (True, False)
    for ask in (
        lambda: rule.pause("operation=none"), lambda: rule.throttle("operation=none", rate=1),
        lambda: rule.renice("*", 1, dry_run=True), lambda: rule.apply(1), lambda: rule.suspend("none"),
        lambda: rule.propose("renice", {"select": "*", "priority": 1}),
    ):  # fmt: skip
        with pytest.raises(Refused, match="interventions of rules are frozen; 'tokengate unfreeze' ends that"):
            ask()
    assert rule.whoami().frozen
    assert len(rule.actors()) == 2
    ann.pause("operation=none")
    people.process.renice("*", 1)

    assert (ann.unfreeze(), ann.unfreeze(), ann.whoami().frozen, frozen.exists()) == (True, False, False, False)
    rule.pause("operation=none")


def test_it_needs_rights(people: People) -> None:
    """To freeze, `operate`, to unfreeze, `administer`; a rule can do neither while it is frozen."""
    people.grants(grant(ANN, rights=frozenset({"view", "operate"})))
    people[ANN].freeze(reason="a test")
    with pytest.raises(Refused, match="'uid:1001' has not the right 'administer'"):
        people[ANN].unfreeze()
    with pytest.raises(Refused):
        people[RULE].unfreeze()

    assert people.process.unfreeze()


def test_it_survives_a_restart_of_the_gate(frozen: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By a file that only this user can read, which says since when, and why; the next gate warns of it once."""
    with Gate("shop", control_socket=False) as gate:
        gate.control.freeze(reason="a bad\nprediction")
    said = json.loads(frozen.read_text())
    assert (said["principal"], said["reason"]) == ("process", "a bad\nprediction")
    assert [stat.S_IMODE(one.stat().st_mode) for one in (frozen, frozen.parent)] == [0o600, 0o700]
    for _ in range(2):
        with Gate("shop", control_socket=False) as gate:
            people = People(gate)
            with pytest.raises(Refused, match="frozen"):
                people[RULE].pause("operation=none")
            assert gate.control.whoami().frozen
    warnings = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert warnings == [f"rules are frozen from before, by '{frozen}'; 'tokengate unfreeze' ends that"] * 2
    with Gate("other", control_socket=False) as gate:
        assert not gate.control.whoami().frozen
    with Gate("shop", control_socket=False) as gate:
        assert gate.control.unfreeze()
    with Gate("shop", control_socket=False) as gate:
        assert not gate.control.whoami().frozen


def test_a_gate_that_is_not_frozen_writes_nothing(people: People, frozen: Path) -> None:
    """Nor does it look, before a rule or a person asks."""
    people[RULE].pause("operation=none")
    people[ANN].whoami()

    assert not frozen.parent.parent.exists()


def test_a_freeze_that_cannot_be_written_holds_and_says_so(people: People, frozen: Path) -> None:
    """The error names the file and the remedy; it is tried again with the next freeze."""
    frozen.parent.parent.parent.mkdir()
    frozen.parent.parent.write_text("in the way")
    with pytest.raises(
        ControlError, match=f"frozen now, but not after a restart, since '{frozen}' cannot be made: .*set "
    ):
        people[ANN].freeze(reason="a test")
    assert people[ANN].whoami().frozen
    frozen.parent.parent.unlink()

    assert (people[ANN].freeze(reason="a test"), frozen.exists()) == (True, True)


def test_a_directory_that_others_can_write_to_has_no_freeze(people: People, frozen: Path) -> None:
    """They could end it."""
    frozen.parent.mkdir(parents=True, mode=0o700)
    frozen.parent.chmod(0o770)

    with pytest.raises(ControlError, match="open to others"):
        people[ANN].freeze(reason="a test")


def test_a_link_in_the_place_of_its_directory_is_not_followed(people: People, frozen: Path, tmp_path: Path) -> None:
    """Nothing is written at its other end."""
    frozen.parent.parent.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    frozen.parent.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ControlError, match="cannot be made"):
        people[ANN].freeze(reason="a test")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_what_cannot_be_read_counts_as_frozen(
    people: People, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, frozen: Path
) -> None:
    """For rules; the log says so once, and it is read again with each request."""

    def fail(_path: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(_freeze.os, "lstat", fail)
        for _ in range(2):
            with pytest.raises(Refused, match=f"'{frozen}' cannot be read: Permission denied; see to its disk"):
                people[RULE].pause("operation=none")
        assert people[ANN].whoami().frozen
    assert [one.levelno for one in caplog.records if one.name == "tokengate.authority"] == [logging.ERROR]

    assert not people[ANN].whoami().frozen
    people[RULE].pause("operation=none")


def test_a_freeze_during_the_first_look_is_not_forgotten(
    people: People, monkeypatch: pytest.MonkeyPatch, until: Callable[[Callable[[], bool]], None]
) -> None:
    """The look found none, and comes too late."""
    reached, go = threading.Event(), threading.Event()
    lstat, freeze = os.lstat, people.authority.freeze

    def hang(path: Any) -> Any:
        reached.set()
        assert go.wait(30)
        return lstat(path)

    monkeypatch.setattr(_freeze.os, "lstat", hang)
    looker = threading.Thread(target=people[ANN].whoami)
    looker.start()
    assert reached.wait(30)
    answers: list[object] = []
    monkeypatch.setattr(freeze, "_write", lambda _text: not answers.append(freeze._is_on))
    asker = threading.Thread(target=lambda: people[ANN].freeze(reason="a test"))
    asker.start()
    until(lambda: freeze._is_on is True)
    go.set()
    looker.join(30)
    asker.join(30)

    assert answers == [True]


def test_a_disk_that_hangs_delays_nothing_else(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop of control goes on; the rule is refused already."""
    reached, go = threading.Event(), threading.Event()
    fsync = os.fsync

    def hang(file: int) -> None:
        reached.set()
        assert go.wait(30)
        fsync(file)

    monkeypatch.setattr(_freeze.os, "fsync", hang)
    answers: list[bool] = []
    asker = threading.Thread(target=lambda: answers.append(people[ANN].freeze(reason="a test")))
    asker.start()
    try:
        assert reached.wait(30)
        with pytest.raises(Refused, match="frozen"):
            people[RULE].pause("operation=none")
        assert people[ANN].whoami().frozen
    finally:
        go.set()
        asker.join(30)
    assert answers == [True]


@pytest.mark.parametrize(("gate", "directory"), [("shop", "shop"), ("..", "_."), (".x", "_x"), ("a b/"[:3], "a_b")])
def test_the_directory_of_a_gate_has_its_name(gate: str, directory: str, tmp_path: Path) -> None:
    """Whatever that is."""
    assert state_directory(gate) == tmp_path / "state" / "tokengate" / directory
