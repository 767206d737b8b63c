"""Which tests run: the default ones, those that CI adds (`CI` is set), and the long tier (`TOKENGATE_TORTURE=1`)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

TORTURE = os.environ.get("TOKENGATE_TORTURE") == "1"

IN_CI = TORTURE or bool(os.environ.get("CI"))

in_ci = pytest.mark.skipif(
    not IN_CI,
    reason="a storm or a benchmark, which CI runs: CI=true or TOKENGATE_TORTURE=1",
)


def leave_processes_to_ci(items: Iterable[pytest.Item], folder: Path) -> None:
    """Leave the cases of child processes, which take longest to start, to CI, of tests that are in a folder.

    Args:
        items: the tests; those of other folders stay as they are.
        folder: the folder.
    """
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and item.path.parent == folder and "process" in callspec.id:
            item.add_marker(in_ci)
