"""What all tests of the audit log get."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller waits longer than this machine may stop a thread."""
    monkeypatch.setattr("tokengate.audit._log.SECONDS", 60.0)
    monkeypatch.setattr("tokengate.audit._writer.SECONDS", 60.0)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The directory of a log, which is not there yet."""
    return tmp_path / "audit"
