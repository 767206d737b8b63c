"""Commands of plugins: for each noun one that lists, and a group of what can be done to one.

A command line is a process of its own, so it imports the modules that declare the nouns: those of our own rooms, and
those that the environment variable `TOKENGATE_PLUGINS` names. It does so when such a command is wanted, or all are.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Container
from typing import Final

import click

from tokengate.cli._derive import commands_of
from tokengate.cli._errors import UsageProblem
from tokengate.cli._run_target import command_line, load_module
from tokengate.control.registry._kinds import kinds

_VARIABLE: Final = "TOKENGATE_PLUGINS"

_ROOMS: Final = ("tokengate.telemetry._kinds", "tokengate.history._kinds")
"""The modules of our own rooms that declare nouns."""


def import_plugins() -> None:
    """Import the modules that declare nouns.

    Raises:
        UsageProblem: one that the variable names cannot be imported.
    """
    named = os.environ.get(_VARIABLE, "").split(",")
    for module in (*_ROOMS, *filter(None, map(str.strip, named))):
        _import(module)


@functools.cache  # a file would be run again, and declare other classes
def _import(module: str) -> None:
    try:
        with command_line(module, sys.argv[1:]):
            load_module(module)
    except UsageProblem as error:
        raise UsageProblem(f"{error.message}; {_VARIABLE} names it") from None
    except SystemExit as error:  # of a program, whose exit code would be that of the command
        raise UsageProblem(f"cannot import '{module}': it ends with {error!r}; {_VARIABLE} names it") from None


def plugin_commands(taken: Container[str]) -> list[click.Command]:
    """Import the modules that declare nouns, and return the commands of these.

    Args:
        taken: names of other commands.

    Raises:
        UsageProblem: a module cannot be imported, or a noun has the name of another command.
    """
    import_plugins()
    found = [command for kind in kinds() if kind.plugin and kind.derived for command in commands_of(kind)]
    for command in found:
        if (command.name or "") in taken:
            raise UsageProblem(f"'{command.name}' is a command of TokenGate and a noun of a plugin; rename the noun")
    return found
