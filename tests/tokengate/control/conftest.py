"""What the tests of the control actor share: a gate, doors in user code, and tokens of every kind that run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from turners import KINDS, LIMIT, Door, Kind

from tokengate import Gate


@pytest.fixture
def gate() -> Iterator[Gate]:
    """An open gate with two CPU threads."""
    with Gate("control", threads=2, control_socket=False, shutdown=LIMIT) as opened:
        yield opened
        opened.control.lift("*")
        opened.close(drain=False)


@pytest.fixture
def doors(gate: Gate) -> Iterator[Callable[[], Door]]:
    """Make doors that are open before the gate closes, whatever failed."""
    made: list[Door] = []

    def make() -> Door:
        made.append(Door())
        return made[-1]

    yield make
    for one in made:
        one.open()


@pytest.fixture
def door(doors: Callable[[], Door]) -> Door:
    return doors()


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name.replace(" ", "-"))
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each way to have a token run."""
    chosen: Kind = request.param
    return chosen
