"""Output that cannot be written: characters that a terminal's encoding lacks, and devices that are full."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, TextIO

# What a device says that takes no more.
_WRITING: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE)


def replace_what_cannot_be_encoded() -> None:
    """Have stdout show a question mark for a character that its encoding lacks, and stderr an escape.

    A stream that was closed before the program began takes what is written to it, and drops it.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # until the program ends
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors=errors)


@contextmanager
def failures_told() -> Generator[None]:
    """Write out all that a block prints; where that fails, say so in one line on stderr, and exit with 1.

    A pipe whose reader has gone is no failure to tell.
    """
    ended: SystemExit | None = None
    failure: OSError | None = None
    try:
        yield
    except SystemExit as error:
        ended = error
    except OSError as error:
        if not _is_of_output(error):
            raise
        failure = error
        _flushed(sys.stderr)
    unwritten = _flushed(sys.stdout)
    failure = failure or unwritten
    if failure is not None:
        _tell(failure)
        raise SystemExit((ended and ended.code) or 1)
    if ended is not None:
        raise ended


def _is_of_output(error: OSError) -> bool:
    """Tell whether an error comes from what writes to the terminal, and not from the user's program, say."""
    innermost = list(traceback.walk_tb(error.__traceback__))[-1][0]
    package = innermost.f_globals.get("__name__", "").partition(".")[0]
    return error.errno in _WRITING and package in ("click", "rich", "tokengate")


def _flushed(stream: TextIO | None) -> OSError | None:
    """Flush a stream; when that fails, drop what it holds, so that the interpreter's exit does not try again."""
    try:
        if stream is not None:
            stream.flush()
    except OSError as error:
        _drop(stream)
        return error
    return None


def _drop(stream: TextIO | None) -> None:
    assert stream is not None
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)
        stream.flush()
    except OSError:
        stream.close()


def _tell(failure: OSError) -> None:
    if failure.errno == errno.EPIPE:
        return
    try:
        sys.stderr.write(f"Error: the output could not be written: {failure.strerror}; write it elsewhere\n")
        sys.stderr.flush()
    except OSError:
        _drop(sys.stderr)
