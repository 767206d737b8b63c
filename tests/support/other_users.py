"""Programs that other users run; only root can start them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import programs
import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


@contextmanager
def public_directory() -> Iterator[Path]:
    """Make a directory that all users can enter; those of pytest are closed to them."""
    with tempfile.TemporaryDirectory(prefix="tokengate-") as place:
        Path(place).chmod(0o755)
        yield Path(place)


def run_as(uid: int, gid: int, groups: list[int], code: str, *arguments: str, **variables: str) -> str:
    """Run Python code as another user, and return what it printed; the module of tests uses the fixture `programs`.

    Args:
        uid: of that user.
        gid: the user's group.
        groups: others that the user is in.
        code: of the program, without imports of ours: the user may not read these files. It has the modules `os`,
            `socket`, `sys` and `_discovery`.
        arguments: of the program: `sys.argv[1:]`.
        variables: of its environment.
    """
    imports = "import os, socket, sys\nfrom tokengate.control.transport import _discovery"
    change = f"os.setgroups({groups}); os.setgid({gid}); os.setuid({uid})"
    ended = programs.run("-c", f"{imports}\n{change}\n{code}", *arguments, env={**os.environ, **variables})
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
