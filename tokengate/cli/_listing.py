"""Groups of commands whose name alone is one of them: `list`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from tokengate.cli._derive import command_of, show_answer


class Listing(click.Group):
    """A group whose command `list` is meant if its first argument is none of its commands.

    The gate may be named before the command, too: `tokengate rules -g shop mode stuck act`.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = {*self.list_commands(ctx), *self.get_help_option_names(ctx)}
        of_gate = 2 if args[:1] in (["-g"], ["--gate"]) else 1 if args and args[0].startswith("--gate=") else 0
        if of_gate and args[of_gate : of_gate + 1] and args[of_gate] in known:
            args = [args[of_gate], *args[:of_gate], *args[of_gate + 1 :]]
        listed = args[0] not in known if args else not ctx.resilient_parsing
        return super().parse_args(ctx, ["list", *args] if listed else args)


class DerivedGroup(Listing):
    """A group whose commands are derived from messages of a room, which is imported when one of them is wanted.

    Args:
        room: the module of the messages.
        verbs: {command: class of its message}.
        options: those of a group.
    """

    def __init__(self, *, room: str, verbs: Mapping[str, str], **options: Any) -> None:
        super().__init__(**options)
        self._room = room
        self._verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's
        return list(self._verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's
        if cmd_name not in self._verbs:
            return None
        message = getattr(importlib.import_module(self._room), self._verbs[cmd_name])
        return command_of(message, show_answer, name=cmd_name)
