"""What the tests of the admin daemon share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from admin_site import Served, served

from tokengate import Gate


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gates, and the daemon, keep what outlives them in a directory of the test: requests of others are recorded."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("shop") as opened:
        yield opened


@pytest.fixture
def site(gate: Gate) -> Iterator[Served]:
    with served() as opened:
        yield opened
