"""What the tests of gates share: time for a busy machine to end threads, every kind of token, a stage for races."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from gated_code import LIMIT, Door
from interleave import Grain, Stage
from raced_policies import playing
from running_tokens import KINDS, Kind
from tiers import in_ci

from actors.mailboxes._mailbox import Drainer, Mailbox
from actors.processes._operation_drain import OperationSlot


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave generators in child processes to CI; functions and methods there, and generators here, are in every run."""
    for item in items:
        kind = item.callspec.params.get("kind") if hasattr(item, "callspec") else None
        if isinstance(kind, Kind) and kind.process and "generator" in kind.name:
            item.add_marker(in_ci)


@pytest.fixture(autouse=True)
def _patient_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate that closes waits for its threads as long as they need, so that none is named that was only late.

    It looks at a process as long, too.
    """
    monkeypatch.setattr("tokengate.gate._gate._ANSWER_SECONDS", LIMIT)
    monkeypatch.setattr("tokengate.gate._gate._THREADS_SECONDS", LIMIT)
    monkeypatch.setattr("actors.processes._process_host._STILL_SECONDS", LIMIT)
    monkeypatch.setattr("tokengate.control.inspection._processes._LOOK_SECONDS", LIMIT)


@pytest.fixture
def impatient(_patient_gates: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate that closes gives up soon; on a busy machine it may end or leave behind what is only late, too."""
    monkeypatch.setattr("tokengate.gate._gate._THREADS_SECONDS", 0.05)


@pytest.fixture
def late_look(monkeypatch: pytest.MonkeyPatch) -> Door:
    """The door at which a worker of an operation that has ended its last token waits before it takes one."""
    take, door = Mailbox.take, Door()

    def take_late(mailbox: Mailbox, drainer: Drainer) -> Any:
        if isinstance(drainer, OperationSlot) and not mailbox.size:
            door.pass_through()
        return take(mailbox, drainer)

    monkeypatch.setattr(Mailbox, "take", take_late)
    return door


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name.replace(" ", "-"))
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each way to have a token run."""
    chosen: Kind = request.param
    return chosen


@pytest.fixture
def chance(seed: int) -> random.Random:
    return random.Random(seed)


@pytest.fixture(params=["line", "call"])
def stage(request: pytest.FixtureRequest, chance: random.Random) -> Iterator[Stage]:
    """Runs functions under drawn schedules, with switches in the runtime and in the room of policies."""
    grain: Grain = request.param
    with playing(chance, grain) as opened:
        yield opened
