"""A file that is read again decides at once and as a whole, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from callers import ANN, BOB, OWN, Wire, control_actor, grants
from gated_code import LIMIT

from tokengate import Gate
from tokengate.authority._authority import Authority
from tokengate.control import BadRequest
from tokengate.control import messages as m
from tokengate.control._exceptions import ControlError, Refused
from tokengate.policy._policies import policies_in

Open = Callable[..., Gate]

FIRST = grants((f"uid:{ANN}", "viewer operate")) + "[[throttle]]\nselect = 'tenant=acme'\nrate = 5\n"
SECOND = grants((f"uid:{BOB}", "viewer operate")) + "[[throttle]]\nselect = 'tenant=free'\nrate = 5\n"


@pytest.fixture
def gate(open_gate: Open) -> Gate:
    return open_gate(FIRST)


@pytest.fixture
def wire(gate: Gate) -> Iterator[Wire]:
    with Wire(gate) as connected:
        yield connected


def allowed(wire: Wire, user: int) -> bool:
    try:
        wire.ask(m.Freeze(reason="why"), f"uid:{user}", user)
    except Refused:
        return False
    return True


def said(gate: Gate) -> Any:
    """Return what the file has said to a gate."""
    authority = control_actor(gate)._authorizer
    assert isinstance(authority, Authority)
    policies = policies_in(gate._open_system)
    limits = [(one.name, dict(one.limits)) for one in policies.selected.all()]
    return policies.blocks, policies.flags, limits, authority.rights, authority._bulk, authority._expires


def test_a_reload_takes_a_right_away(gate: Gate, wire: Wire, file: Path) -> None:
    """Case 6. The next request of the same connection is refused, and one of another user is not."""
    assert (allowed(wire, ANN), allowed(wire, BOB)) == (True, False)

    file.write_text(SECOND)
    gate.control.reload()

    assert (allowed(wire, ANN), allowed(wire, BOB)) == (False, True)
    assert [one.name for one in policies_in(gate._open_system).selected.all()] == ["tenant=free"]


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ("[[policy]]\nselect = 'operation=work'\ntimeout = 'x'\n", r"9: policy\[0\]\.timeout is 'x'; "),
        ("[[grant]]\nto = 'user:no such user'\nrole = 'view'\n", r"8: grant\[1\]\.to is 'user:no such user'; "),
        ("[approvals]\nbulk = 'many'\n", r"8: approvals\.bulk is 'many'; "),
        ("[control]]\n", "7: this is no TOML"),
    ],
)
def test_a_wrong_file_changes_nothing(gate: Gate, wire: Wire, file: Path, wrong: str, problem: str) -> None:
    """Case 6. Neither rights nor policies, whichever section is wrong; the error has its line."""
    before = said(gate)
    file.write_text(SECOND + wrong)

    with pytest.raises(BadRequest, match=f"^{file}:{problem}"):
        gate.control.reload()

    assert said(gate) == before
    assert (allowed(wire, ANN), allowed(wire, BOB)) == (True, False)


def test_a_file_that_cannot_be_taken_changes_nothing(gate: Gate, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if that is found only when its rights are prepared, or the selectors of its throttles."""
    before = said(gate)
    file.write_text(SECOND)
    for broken in ("authority._authority.Rights", "control.steering._policies.selection_of"):
        with monkeypatch.context() as patched:
            patched.setattr(f"tokengate.{broken}", lambda *_: int("no number"))
            with pytest.raises(ControlError, match="a bug"):
                gate.control.reload()
        assert said(gate) == before


def test_a_section_that_is_gone_says_nothing_any_more(gate: Gate, wire: Wire, file: Path) -> None:
    """Without a grant, this user is allowed everything again, and others nothing."""
    file.write_text(f"{FIRST}[approvals]\nbulk = 7\nexpires = 5\n")
    gate.control.reload()
    assert said(gate)[4:] == (7, 5.0)
    assert (allowed(wire, OWN), allowed(wire, ANN)) == (False, True)

    file.write_text("")
    gate.control.reload()
    assert said(gate)[4:] == (0, 900.0)
    assert (allowed(wire, OWN), allowed(wire, ANN)) == (True, False)


# --- This user and root may always ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("principal", "owner", "expected"),
    [
        (f"uid:{OWN}", OWN, True),
        ("uid:0", 0, True),
        ("api:ci", OWN, False),
        ("api:ci", 0, False),
        (f"uid:{ANN}", ANN, False),
        (f"uid:{BOB}", BOB, True),
    ],
)
def test_this_user_and_root_may_always_reload(open_gate: Open, principal: str, owner: int, expected: bool) -> None:
    """Also with a grant that leaves them out, or gives `administer` in a part only; their API tokens may not."""
    gate = open_gate(
        grants((f"uid:{ANN}", "operator"), (f"uid:{BOB}", "admin"), (f"uid:{OWN}", "admin", "tenant=acme"))
    )
    with Wire(gate) as wire:
        if expected:
            assert wire.ask(m.Reload(), principal, owner)["file"]
        else:
            with pytest.raises(Refused):
                wire.ask(m.Reload(), principal, owner)
    assert gate.control.reload().file


# --- A directory service that hangs -----------------------------------------------------------------------------------


def test_names_are_looked_up_beside_the_system_loop(
    gate: Gate, wire: Wire, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate answers others meanwhile. What the file said last holds, since reloads are done in their order."""
    asked, answer = threading.Event(), threading.Event()

    def look_up(_name: str) -> Any:
        asked.set()
        assert answer.wait(LIMIT)
        return SimpleNamespace(pw_uid=BOB)

    monkeypatch.setattr("pwd.getpwnam", look_up)
    monkeypatch.setattr("tokengate.config._names._SECONDS", LIMIT)
    reloads = [threading.Thread(target=gate.control.reload) for _ in range(2)]
    try:
        file.write_text(grants(("user:bob", "operator")))
        reloads[0].start()
        assert asked.wait(LIMIT)
        file.write_text(grants((f"uid:{OWN}", "operator")))
        reloads[1].start()
        for _ in range(100):
            assert gate.control.info().name == "shop"
        assert (allowed(wire, ANN), allowed(wire, BOB), allowed(wire, OWN)) == (True, False, False)
    finally:
        answer.set()
        for one in reloads:
            one.join(LIMIT)
    assert (allowed(wire, ANN), allowed(wire, BOB), allowed(wire, OWN)) == (False, False, True)


def test_a_reload_gives_up_a_directory_service_that_does_not_answer(
    gate: Gate, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has changed then, nor when it answers at last; the next one is read as any other."""
    answer, ended = threading.Event(), threading.Event()

    def look_up(_name: str) -> Any:
        assert answer.wait(LIMIT)
        ended.set()
        return SimpleNamespace(pw_uid=BOB)

    before, text = said(gate), file.read_text()
    file.write_text(grants(("user:bob", "operator")))
    with monkeypatch.context() as patched:
        patched.setattr("pwd.getpwnam", look_up)
        patched.setattr("tokengate.config._names._SECONDS", LIMIT)
        patched.setattr("tokengate.control.steering._policies._READ_SECONDS", 0.01)
        try:
            with pytest.raises(BadRequest, match=r"was not read within 0\.01 s, and nothing has changed; see whether"):
                gate.control.reload()
        finally:
            answer.set()
        assert ended.wait(LIMIT)
    assert said(gate) == before
    file.write_text(text + "[approvals]\nbulk = 7\n")
    gate.control.reload()
    assert said(gate)[4] == 7
