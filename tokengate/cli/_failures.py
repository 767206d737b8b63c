"""What a gate would not or could not do, in one line and with the exit code that scripts go by.

The codes are 0 (done), 1 (refused, unknown, ended, nothing matched, or the answer could not be written), 2 (what was
typed cannot be meant), 3 (there is no gate to talk to) and 130 (Ctrl-C).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import click

from actors import TokenGateError
from tokengate.control._exceptions import AmbiguousName, BadRequest, Unreachable

_EXIT_CODES: dict[type[TokenGateError], int] = {Unreachable: 3, BadRequest: 2, AmbiguousName: 2}

# As a shell reports a program that SIGINT ended.
INTERRUPTED = 130


class Failure(click.ClickException):
    """What was asked for was understood and has not been done; the message says why."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(" ".join(message.split()))
        self.exit_code = exit_code  # type: ignore[misc]  # which click declares for the class


@contextmanager
def one_line_errors() -> Generator[None]:
    """Turn errors of control, and Ctrl-C, into what a shell expects."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except TokenGateError as error:
        code = next((code for kind, code in _EXIT_CODES.items() if isinstance(error, kind)), 1)
        raise Failure(str(error), code) from error
