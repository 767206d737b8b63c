"""What the tests of authority share: gates with a file of grants, and people that ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from callers import gates_of
from gated_code import LIMIT, Door, opened_at_the_end
from people import People

from tokengate import Gate

Open = Callable[..., Gate]


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gates keep what outlives them in a directory of the test, whose disk may take its time."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("tokengate.authority._freeze._SECONDS", LIMIT)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of `open_gate`, which only its user may write."""
    made = tmp_path / "tokengate.toml"
    made.touch(0o600)
    return made


@pytest.fixture
def open_gate(tmp_path: Path) -> Iterator[Open]:
    """Open gates named `shop` with a text as their file, which are closed at the end."""
    with gates_of(tmp_path / "tokengate.toml", threads=2) as open_:
        yield open_


@pytest.fixture
def gate(open_gate: Open) -> Gate:
    """An open gate with two CPU threads, without grants and without a socket."""
    return open_gate(control_socket=False)


@pytest.fixture
def people(gate: Gate) -> People:
    """Those who may do everything in the gate, and code of the process."""
    return People(gate)


@pytest.fixture
def doors(open_gate: Open) -> Iterator[Callable[[], Door]]:  # they are open before the gate closes
    """Make doors that are open before the gate closes, whatever failed."""
    with opened_at_the_end() as make:
        yield make


@pytest.fixture
def door(doors: Callable[[], Door]) -> Door:
    return doors()
