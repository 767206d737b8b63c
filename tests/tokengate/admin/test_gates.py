"""Connections to gates: answers and streams stay JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from callers import OWN

from tokengate import Gate
from tokengate.admin._gates import Gates
from tokengate.admin._principal import Principal
from tokengate.admin._problems import Problem
from tokengate.control import messages as m

OWNER = Principal(f"uid:{OWN}", OWN)


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("shop") as opened:
        yield opened


def test_a_message_is_answered_on_behalf_of_its_principal(gate: Gate) -> None:
    """The gate knows the principal, the way in `http`, and no more rights than the ceiling leaves."""

    async def ask() -> tuple[object, Problem]:
        gates = Gates()
        (entry,) = await gates.listed()
        viewer = Principal(f"uid:{OWN}", OWN, rights=frozenset({"view"}))
        said = json.loads(await gates.ask(entry.name, m.Whoami(), viewer))
        with pytest.raises(Problem) as raised:
            await gates.ask(entry.name, m.Pause("*"), viewer)
        await gates.close()
        return said, raised.value

    said, problem = asyncio.run(ask())

    assert (said["via"], said["rights"]) == ("http", {"view": "*"})  # type: ignore[index]
    assert (problem.status, problem.name) == (403, "Refused")
