"""Policies are tested on threads and loops by default; CI adds their child processes, which take longest to start."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiers import in_ci

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the cases of child processes to CI."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and item.path.parent == HERE and "process" in callspec.id:
            item.add_marker(in_ci)
