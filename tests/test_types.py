"""Types are part of the interface: an operation keeps its signature, a token its result type, a verb its message's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiers import in_ci

EXAMPLES = [
    Path(__file__).parent / name
    for name in ("typing_examples.py", "control_typing_examples.py", "support/tallies_typing_examples.py")
]


@pytest.mark.parametrize(
    "checker",
    [
        pytest.param(["mypy", "--strict"], id="mypy", marks=in_ci),
        pytest.param(["pyright", "--pythonpath", sys.executable], id="pyright", marks=in_ci),
    ],
)
def test_a_type_checker_agrees_with_the_examples(checker: list[str]) -> None:
    """Each `assert_type` holds, and each line marked as an error is one."""
    pytest.importorskip(checker[0], reason="type checkers come with the 'dev' extra")
    done = subprocess.run(
        [sys.executable, "-m", *checker, *map(str, EXAMPLES)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=Path(__file__).parent.parent,
    )

    assert done.returncode == 0, done.stdout + done.stderr
