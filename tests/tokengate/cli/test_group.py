"""The group of all commands."""

from __future__ import annotations

import click
from click.testing import CliRunner

from tokengate.cli._group import Commands


def test_ctrl_c_before_a_command_handles_it_ends_the_program_quietly() -> None:
    """With the exit code that it has later; a command imports its room first, say."""

    @click.command
    def slow() -> None:
        raise KeyboardInterrupt

    group = Commands("tokengate", commands=[slow])
    done = CliRunner().invoke(group, ["slow"])

    assert (done.exit_code, done.output) == (130, "")
