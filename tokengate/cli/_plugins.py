"""Commands of plugins: for each noun one that lists, and a group of what can be done to one.

A command line is a process of its own, so it imports the modules that declare the nouns: those of our own rooms, and
those that the environment variable `TOKENGATE_PLUGINS` names. It does so when such a command is wanted, or all are.
"""

from __future__ import annotations

from collections.abc import Container

import click

from tokengate.cli._derive import commands_of
from tokengate.cli._errors import UsageProblem
from tokengate.control.registry._kinds import kinds
from tokengate.control.registry._modules import import_nouns


def import_plugins() -> None:
    """Import the modules that declare nouns.

    Raises:
        UsageProblem: one that the variable names cannot be imported.
    """
    try:
        import_nouns()
    except ImportError as error:
        raise UsageProblem(str(error)) from None


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
