"""What the tests of `tokengate mcp` share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gated_code import LIMIT

from tokengate import Gate


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gates keep what outlives them in a directory of the test: what a client of MCP does is recorded."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("shop", threads=2, shutdown=LIMIT) as opened:
        yield opened
        opened.control.terminate("*", force=True, reason="over", break_glass="the test is over")
