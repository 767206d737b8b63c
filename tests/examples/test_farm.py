"""The farm: what its front page promises."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from people import CARA
from predictions import Foreseeing, foreseeing

from actors import Token, TokenState
from tokengate import Policy

FARM = Path(__file__).parents[2] / "examples" / "farm.py"


@pytest.fixture
def farm(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, freshly imported; annotations are looked up in it by its name."""
    spec = importlib.util.spec_from_file_location("farm", FARM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "farm", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def seen(farm: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Foreseeing]:
    """A gate with the rules of the farm, in which each render is expected to take a second."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("tokengate.predict._decision.is_held_back", lambda _rule, _uid: False)
    with foreseeing(monkeypatch, farm.SHORT_FIRST, run={"render": 1.0}, config=farm.RULES) as seen:
        yield seen


def running(farm: ModuleType, number: int) -> list[Token[int]]:
    """Return renders that hang."""
    tokens = [farm.render.submit(1, 1.0, True) for _ in range(number)]
    while any(one.started_at is None for one in tokens):
        pass
    return tokens


def states(seen: Foreseeing, rule: str) -> list[str]:
    return [one.state for one in seen.all if one.rule == rule]


def test_what_will_take_long_waits_behind_the_others(farm: ModuleType, seen: Foreseeing) -> None:
    """The rule in the code acts as a render is submitted, and for half a minute at most."""
    held = running(farm, farm.MACHINES)
    long = farm.render.submit(400, 1.0)
    seen.models.run["render"] = 0.001
    short = farm.render.submit(1, 1.0)

    assert (long.priority, short.priority) == (-1, 0)
    seen.look(31)
    assert long.priority == 0
    for one in (*held, long, short):
        one.cancel()


def test_a_render_that_hangs_is_ended_by_a_person_to_whom_that_was_proposed(farm: ModuleType, seen: Foreseeing) -> None:
    """The rule has not the right to end it, and needs none to propose it."""
    one, other = running(farm, 2)
    seen.look(10)
    assert states(seen, "stuck") == []  # it has to match for a second
    seen.look(1)
    assert states(seen, "stuck") == ["proposed"] * 2
    assert one.state is TokenState.RUNNING

    seen.people[CARA].apply(seen.all[0].proposal)
    assert isinstance(one.exception(), Exception)
    assert str(one.state) == "terminated"
    seen.look(1)
    assert states(seen, "stuck") == ["applied", "proposed"]
    other.cancel()


def test_what_will_be_late_is_only_written_down(farm: ModuleType, seen: Foreseeing) -> None:
    """Its priority stays, until a person has the rule act."""
    held = running(farm, farm.MACHINES)
    seen.models.run["render"] = 100.0
    late = farm.render.with_options(policy=Policy(deadline=20)).submit(1, 1.0)
    before = late.priority
    seen.look()

    assert states(seen, "late-first") == ["observed"]
    assert late.priority == before
    for one in (*held, late):
        one.cancel()


@pytest.mark.parametrize("arguments", [(), ("--without",)])
def test_it_says_what_became_of_its_renders(
    farm: ModuleType, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """A last line sums up."""
    farm.main(["--seconds", "0.3", *arguments])
    last: Any = capsys.readouterr().out.splitlines()[-1]

    assert int(last.split()[0]) > 0
    assert "slowdown" in last
