"""What races of policies share: seeded chance, and a stage."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from interleave import Grain, Stage
from raced_policies import playing


@pytest.fixture
def chance(seed: int) -> random.Random:
    return random.Random(seed)


@pytest.fixture(params=["line", "call"])
def stage(request: pytest.FixtureRequest, chance: random.Random) -> Iterator[Stage]:
    """Runs functions under drawn schedules, with switches in the runtime and in the room of policies."""
    grain: Grain = request.param
    with playing(chance, grain) as opened:
        yield opened
