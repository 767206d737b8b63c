"""Errors of the user, in one line and with the exit code that shells expect."""

from __future__ import annotations

import click


class UsageProblem(click.ClickException):
    """What was asked for cannot be done; the message says what to give instead."""

    exit_code = 2
