"""Files for operators."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import IO

import pytest

from tokengate.telemetry._out_file import written


def fail_after_half(file: IO[bytes]) -> None:
    file.write(b"half")
    raise ZeroDivisionError


def test_a_file_is_replaced_when_all_is_written(tmp_path: Path) -> None:
    """Only this user may read it; after an error the old one is as it was, and nothing else is left."""
    out = tmp_path / "trace.json"
    out.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), written(out) as file:
        fail_after_half(file)
    assert out.read_bytes() == b"old"

    with written(out) as file:
        file.write(b"new")
        assert out.read_bytes() == b"old"

    assert out.read_bytes() == b"new"
    assert out.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [out]


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    """The link may be anywhere, and its target need not be there yet."""
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    with written(link) as file:
        file.write(b"text")

    assert link.is_symlink()
    assert target.read_bytes() == b"text"


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    """So is a device, such as /dev/null."""
    pipe, got = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    with written(pipe) as file:
        file.write(b"text")
    reader.join()

    assert got == [b"text"]
    assert pipe.is_fifo()


def test_what_cannot_be_written_is_named_as_it_was_given(tmp_path: Path) -> None:
    """And not by the name of the file that is to take its place."""
    with pytest.raises(OSError, match="No such file") as raised, written(tmp_path / "no" / "trace.json"):
        pass

    assert raised.value.filename == str(tmp_path / "no" / "trace.json")


def test_a_dash_is_stdout(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """No file is made."""
    with written(Path("-")) as file:
        file.write(b"text")

    assert capfdbinary.readouterr().out == b"text"
