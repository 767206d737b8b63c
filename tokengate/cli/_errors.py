"""Errors in one line, with the exit codes that scripts go by.

The codes are 0 (done), 1 (refused, unknown, ended, nothing matched, or the answer could not be written), 2 (wrong
arguments), 3 (no gate answers), 4 (another person must approve it) and 130 (Ctrl-C).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import click

from actors import TokenGateError
from tokengate.control._exceptions import AmbiguousName, BadRequest, ProposalMade, Unreachable

_EXIT_CODES: dict[type[TokenGateError], int] = {Unreachable: 3, BadRequest: 2, AmbiguousName: 2}

AWAITING = 4

# As a shell reports a program that SIGINT ended.
INTERRUPTED = 130


class UsageProblem(click.ClickException):
    """The arguments cannot work; the message says what to give instead."""

    exit_code = 2


class Failure(click.ClickException):
    """The gate did not do what was asked for; the message says why."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(" ".join(message.split()))
        self.exit_code = exit_code  # type: ignore[misc]  # which click declares for the class


@contextmanager
def one_line_errors() -> Generator[None]:
    """Turn errors of control, and Ctrl-C, into what a shell expects; a dry run has done what it should."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except ProposalMade as error:
        click.echo(str(error), err=True)
    except TokenGateError as error:
        code = next((code for kind, code in _EXIT_CODES.items() if isinstance(error, kind)), 1)
        raise Failure(str(error), code) from error
