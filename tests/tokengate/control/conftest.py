"""What the tests of the control actor share: a gate, and doors in user code."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from gated_code import LIMIT, Door, opened_at_the_end

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
