"""Commands about proposals, the freeze of interventions, and the caller."""

from __future__ import annotations

import sys

import attrs
import click

from tokengate.cli._connection import Connection
from tokengate.cli._derive import command_of, show_answer
from tokengate.cli._errors import Failure, UsageProblem
from tokengate.cli.commands._steer import check_done
from tokengate.control.messages import (
    Applied,
    Apply,
    Approve,
    Deny,
    Freeze,
    ProposalDetails,
    ShowProposal,
    Unfreeze,
    Whoami,
)


def _approve(connection: Connection, message: Approve) -> None:
    if not message.digest:
        show = f"'tokengate proposal show {message.number}'"
        if not _on_terminal():
            raise UsageProblem(f"approve needs --digest with the first 8 digits, as {show} prints them")
        details: ProposalDetails = connection.ask(ShowProposal(message.number))
        connection.show(details)
        if not click.confirm("Approve it?"):
            raise Failure(f"proposal {message.number} is not approved")
        message = attrs.evolve(message, digest=details.row.digest)
    show_answer(connection, message)


def _on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _apply(connection: Connection, message: Apply) -> None:
    done: Applied = connection.ask(message)
    connection.show(done)
    check_done(done.outcomes)
    for one in done.actors:
        if one.outcome == "changed":
            raise Failure(f"proposal {message.number} was not done: {one.note}")


def _freeze(connection: Connection, message: Freeze) -> None:
    also = ", and what they have done is being undone" if message.revert else ""
    _say(connection, connection.ask(message), f"what rules ask for is refused{also}", f"it was refused already{also}")


def _unfreeze(connection: Connection, message: Unfreeze) -> None:
    _say(connection, connection.ask(message), "rules act again", "rules were not frozen")


def _say(connection: Connection, new: bool, now: str, before: str) -> None:
    connection.show(new if connection.output == "json" else now if new else before)


whoami = command_of(Whoami, show_answer)
approve = command_of(Approve, _approve)
apply = command_of(Apply, _apply)
deny = command_of(Deny, show_answer)
freeze = command_of(Freeze, _freeze)
unfreeze = command_of(Unfreeze, _unfreeze)
