"""What the tests of authority share: a gate, tokens of every kind in it, and people that ask it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gated_code import LIMIT, Door, opened_at_the_end
from people import People
from running_tokens import KINDS, Kind

from tokengate import Gate


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gates keep what outlives them in a directory of the test, whose disk may take its time."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("tokengate.authority._freeze._SECONDS", LIMIT)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """An open gate with two CPU threads."""
    with Gate("shop", threads=2, control_socket=False, shutdown=LIMIT) as opened:
        yield opened
        opened.close(drain=False)


@pytest.fixture
def people(gate: Gate) -> People:
    """Those who may do everything in the gate, and code of the process."""
    return People(gate)


@pytest.fixture
def doors(gate: Gate) -> Iterator[Callable[[], Door]]:
    """Make doors that are open before the gate closes, whatever failed."""
    with opened_at_the_end() as make:
        yield make


@pytest.fixture
def door(doors: Callable[[], Door]) -> Door:
    return doors()


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name.replace(" ", "-"))
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each way to have a token run."""
    chosen: Kind = request.param
    return chosen
