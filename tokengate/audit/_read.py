"""Records read back, whether they are what was written or not; sealing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import msgspec

from tokengate.audit._chain import RECORD, End
from tokengate.audit._files import FIRST_KEY, content, opened, segments_in
from tokengate.audit._record import MAX_LINE

T = TypeVar("T")

_BLOCK: Final = 256 * 1024  # bytes that are read at once


def read(directory: Path) -> Iterator[dict[str, Any]]:
    """Return the records of a log, the oldest first; damaged lines are left out, and `verify` names them.

    Raises:
        OSError: the log cannot be read.
    """
    for name in segments_in(directory):
        for line in content(directory, name).splitlines():
            found: dict[str, Any] | None = decoded(line, dict)
            if found is not None:
                yield found


def newest(directory: Path, through: int) -> Iterator[bytes]:
    """Return the lines of a log up to a seq, the newest first; they are read in blocks, as far as they are asked for.

    Raises: as `read` does.
    """
    for name in reversed(segments_in(directory)):
        with opened(directory, name) as file:
            first = RECORD.match(file.read(100))
            if first is None or int(first[1]) <= through:
                yield from _up_to(file, through)


def _up_to(file: IO[bytes], through: int) -> Iterator[bytes]:
    for line in _backwards(file):
        found = RECORD.match(line)
        if found is not None and int(found[1]) <= through:
            yield line


def decoded(line: bytes, kind: type[T]) -> T | None:
    """Return what a line says as an object of a class; None if it cannot be. Lone surrogates are question marks."""
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        text = json.dumps(json.loads(line), ensure_ascii=False)
        return msgspec.json.decode(text.encode(errors="replace"), type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _backwards(file: IO[bytes]) -> Iterator[bytes]:
    at, rest = file.seek(0, os.SEEK_END), b""
    while at:
        size = min(at, _BLOCK)
        at = file.seek(at - size)
        rest, *lines = (file.read(size) + rest).split(b"\n")
        yield from reversed(lines)
        if len(rest) > MAX_LINE:  # which no record is
            rest = b""
    yield rest


def first_key(directory: Path) -> str:
    """Return the text of the first key, which `verify` needs.

    Raises:
        FileNotFoundError: the log is sealed, or there is none.
        ValueError: the key is damaged.
    """
    return End.parse(content(directory, FIRST_KEY)).text().decode()


def seal(directory: Path) -> str:
    """Remove the first key from a log, and return its text, for a safe elsewhere: `verify` needs it from now on.

    Raises: as `first_key` does.
    """
    text = first_key(directory)
    with (directory / FIRST_KEY).open("r+b", buffering=0) as file:
        file.write(b"0" * len(text))
        os.fsync(file.fileno())
    (directory / FIRST_KEY).unlink()
    return text
