"""Programs that other users run; only root can start them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
LIMIT: Final = 120.0  # seconds; reached only when a test fails

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


def run_as(
    uid: int, gid: int, groups: list[int], code: str, *arguments: str, imports: str = "", **variables: str
) -> str:
    """Run Python code as another user, and return what it printed.

    Args:
        uid: of that user.
        gid: the user's group.
        groups: others that the user is in.
        code: of the program.
        arguments: of the program: `sys.argv[1:]`.
        imports: what it imports; root does so, since the user may not read our files.
        variables: of its environment.
    """
    change = f"import os, sys; os.setgroups({groups}); os.setgid({gid}); os.setuid({uid})"
    ended = subprocess.run(
        [sys.executable, "-c", f"{imports}\n{change}\n{code}", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
