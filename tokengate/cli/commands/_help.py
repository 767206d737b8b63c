"""`tokengate help`: all commands by kind, or one of them."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from tokengate.cli._group import Commands


def _complete_command(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the commands of the group that the words so far lead to."""
    group: click.Command | None = context.find_root().command
    for word in context.params.get("names") or ():
        group = group.get_command(context, word) if isinstance(group, click.Group) else None
    if not isinstance(group, click.Group):
        return []
    found = [(name, group.get_command(context, name)) for name in group.list_commands(context)]
    return [
        CompletionItem(name, help=one.get_short_help_str())
        for name, one in sorted(found)
        if one and name.startswith(incomplete)
    ]


@click.command("help")
@click.argument("names", nargs=-1, metavar="[COMMAND]...", shell_complete=_complete_command)
@click.pass_context
def help_(context: click.Context, names: tuple[str, ...]) -> None:
    """List all commands by kind, or show the help of one.

    \b
    tokengate help
    tokengate help pause
    tokengate help child start
    """  # noqa: D301  # click wants the backspace itself
    found = context.find_root()
    group = found.command
    assert isinstance(group, Commands)
    if not names:
        click.echo(group.all_commands(found))
        return
    for name in names:
        if not isinstance(found.command, click.Group):
            raise click.UsageError(f"'{found.command_path}' has no commands; leave '{name}' out", found)
        _, command, _ = found.command.resolve_command(found, [name])  # or an error with a suggestion
        assert command is not None
        found = click.Context(command, parent=found, info_name=name)
    click.echo(found.get_help())
