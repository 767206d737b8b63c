"""Output that cannot be written: characters that the encoding does not have, and full devices."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, TextIO

# Errors of a device that accepts no more output.
_WRITING: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE)


def replace_what_cannot_be_encoded() -> None:
    """Print a question mark for a character that stdout's encoding does not have; on stderr, an escape.

    A stream that was closed before the program began is replaced by one that drops its output.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # until the program ends
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors=errors)


@contextmanager
def failures_told() -> Generator[None]:
    """Flush the output of a block; if that fails, say so in one line on stderr, and exit with 1.

    A pipe that was closed by its reader is not reported.
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
    """Tell whether an error comes from code that writes to the terminal, and not from the user's program."""
    innermost = list(traceback.walk_tb(error.__traceback__))[-1][0]
    package = innermost.f_globals.get("__name__", "").partition(".")[0]
    return error.errno in _WRITING and package in ("click", "rich", "tokengate")


def _flushed(stream: TextIO | None) -> OSError | None:
    """Flush a stream; if that fails, drop its buffer, so that the interpreter does not flush it again at exit."""
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
