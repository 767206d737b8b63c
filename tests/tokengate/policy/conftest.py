"""Policies are tested on threads and loops by default; CI adds their child processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiers import leave_processes_to_ci


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the cases of child processes to CI."""
    leave_processes_to_ci(items, Path(__file__).parent)
