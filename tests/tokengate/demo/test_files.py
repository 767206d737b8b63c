"""Reading what is in memory already."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tokengate.demo._files import read_cached

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing can be read like that")


def test_a_file_just_written_is_read_whole_or_left_to_a_thread(tmp_path: Path) -> None:
    """Never a part of it; what a file system cannot promise is None."""
    content = os.urandom(300_000)
    (tmp_path / "file").write_bytes(content)

    assert read_cached(str(tmp_path / "file")) in (content, None)


def test_an_empty_file_and_a_pipe_are_left_to_a_thread(tmp_path: Path) -> None:
    """A size of nothing may be anything; opening a pipe must not wait for its writer."""
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")

    assert [read_cached(str(tmp_path / name)) for name in ("empty", "pipe")] == [None, None]


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    """As with any other way of reading."""
    with pytest.raises(FileNotFoundError):
        read_cached(str(tmp_path / "missing"))
