"""The group of all commands: its help shows those that are used most, `tokengate help` shows all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from tokengate._installation import interrupt_at_ctrl_c
from tokengate.cli._errors import INTERRUPTED
from tokengate.cli._output import failures_told


class Commands(click.Group):
    """A group whose commands have kinds, and whose output is written completely, or an error says that it is not.

    Attributes:
        kinds: {kind: its commands}, in the order of `tokengate help`.
        most_used: the commands that `tokengate --help` shows.
    """

    kinds: Mapping[str, tuple[click.Command, ...]]
    most_used: tuple[click.Command, ...]

    def add(self, kinds: Mapping[str, tuple[click.Command, ...]], most_used: tuple[click.Command, ...]) -> None:
        """Add the commands of all kinds."""
        self.kinds, self.most_used = kinds, most_used
        for commands in kinds.values():
            for command in commands:
                self.add_command(command)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or next(
            (command for command in self._of_plugins(ctx) if command.name == cmd_name), None
        )

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *(command.name or "" for command in self._of_plugins(ctx))]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if args[0].startswith("-"):
                raise
            remedy = "If it is one of a plugin, TOKENGATE_PLUGINS must name its module."
            raise click.UsageError(f"{error.format_message()} {remedy}", ctx) from None

    def main(self, *args: Any, **kwargs: Any) -> Any:
        interrupt_at_ctrl_c()
        with failures_told():
            return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # before the command itself handles it, as while its room is imported
            raise SystemExit(INTERRUPTED) from None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name in ("-g", "--gate"):
                raise click.UsageError(f"{error.option_name} follows the command: tokengate ps -g NAME", ctx) from None
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        with formatter.section("Commands"):
            self._write(self.most_used, formatter)
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text("'tokengate help' lists all commands, 'tokengate help COMMAND' shows one of them.")

    def all_commands(self, ctx: click.Context) -> str:
        """Return the help that lists the commands by kind."""
        formatter = ctx.make_formatter()
        for kind, commands in {**self.kinds, "Plugins": tuple(self._of_plugins(ctx))}.items():
            if not commands:
                continue
            with formatter.section(kind):
                self._write(commands, formatter)
        formatter.write_paragraph()
        formatter.write_text("'tokengate help COMMAND' shows the arguments, options and examples of a command.")
        formatter.write_text("Commands of plugins are here when TOKENGATE_PLUGINS names the modules of these.")
        return formatter.getvalue().rstrip("\n")

    def _of_plugins(self, ctx: click.Context) -> list[click.Command]:
        """Return the commands of plugins; none if a module cannot be imported while a word is completed."""
        from tokengate.cli._plugins import plugin_commands  # here: other commands need it not

        try:
            return plugin_commands(self.commands)
        except click.ClickException:
            if ctx.resilient_parsing:
                return []
            raise

    def _write(self, commands: Iterable[click.Command], formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.commands))
        room = formatter.width - width - 6
        formatter.write_dl(
            [((command.name or "").ljust(width), command.get_short_help_str(room)) for command in commands]
        )
