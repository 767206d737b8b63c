"""What the tests of the control actor share: a gate, doors in user code, and tokens of every kind that run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from gated_code import LIMIT, Door, opened_at_the_end
from running_tokens import KINDS, Kind

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
