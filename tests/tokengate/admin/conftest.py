"""What the tests of the admin daemon share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gates, and the daemon, keep what outlives them in a directory of the test: requests of others are recorded."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
