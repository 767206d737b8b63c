"""Commands that change an actor, or a child of a supervisor."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from tokengate.cli._approval import WAIT_APPROVAL
from tokengate.cli._completers import complete_actor
from tokengate.cli._connection import Connection, connected
from tokengate.cli._derive import command_of, parameters_of, show_answer
from tokengate.cli._errors import AWAITING, UsageProblem
from tokengate.cli._parameters import seconds_option
from tokengate.control.messages import (
    Call,
    Change,
    DeleteChild,
    Drain,
    GetState,
    Recycle,
    Restart,
    RestartChild,
    SetState,
    Stop,
    Suspend,
    TerminateChild,
    Unsuspend,
)

_NAME_HELP = "NAME is an actor's path, or the last part of it; 'tokengate actors' lists them."

_name_argument = click.argument("name", shell_complete=complete_actor)

_wait_option = seconds_option("--wait", 5.0, "Time to wait for it.")


suspend = command_of(Suspend, show_answer)
unsuspend = command_of(Unsuspend, show_answer)
drain = command_of(Drain, show_answer)
restart = command_of(Restart, show_answer)
recycle = command_of(Recycle, show_answer)
state = command_of(GetState, show_answer)


@click.command(params=[*parameters_of(Change), WAIT_APPROVAL], epilog=_NAME_HELP)
@_name_argument
@click.option("--now", is_flag=True, help="Do not handle what is queued.")
@_wait_option
@connected
def stop(
    connection: Connection, /, name: str, now: bool, wait: float, wait_approval: float | None, **said: Any
) -> None:
    """Stop an actor in order; it is not started again.

    \b
    tokengate stop mailer
    tokengate stop mailer --now
    """  # noqa: D301
    connection.wait_approval = wait_approval
    show_answer(connection, Stop(name, drain=not now, wait=wait, **said))


@click.command("set", params=parameters_of(Change), epilog=_NAME_HELP)
@_name_argument
@click.argument("pairs", nargs=-1, required=True, metavar="ATTRIBUTE=JSON...")
@_wait_option
@connected
def set_state(connection: Connection, /, name: str, pairs: tuple[str, ...], wait: float, **said: Any) -> None:
    """Set attributes of an actor's instance to values in JSON.

    They are set between two of its steps.

    \b
    tokengate set counter count=0 'names=["a", "b"]'
    tokengate set mailer 'host="localhost"'
    """  # noqa: D301
    show_answer(connection, SetState(name, values=dict(map(_parsed, pairs)), wait=wait, **said))


def _parsed(pair: str) -> tuple[str, Any]:
    attribute, equals, text = pair.partition("=")
    if not equals or not attribute.isidentifier():
        raise UsageProblem(f"'{pair}' is not ATTRIBUTE=JSON, such as count=0")
    if not text.strip():
        raise UsageProblem(f"'{pair}' has no value; write it as JSON, such as {attribute}=0 or '{attribute}=\"text\"'")
    try:
        return attribute, msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise UsageProblem(
            f"the value of {attribute} is not JSON: {text}; strings have quotes: '{attribute}=\"text\"'"
        ) from None


@click.command(
    params=parameters_of(Change),
    epilog=_NAME_HELP,
    context_settings={"ignore_unknown_options": True},  # for a number below zero
)
@_name_argument
@click.argument("method", metavar="COMMAND")
@click.argument("args", nargs=-1, metavar="[VALUE]...")
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="An argument by name; may be given again.")
@_wait_option
@connected
def call(
    connection: Connection,
    /,
    name: str,
    method: str,
    args: tuple[str, ...],
    pairs: tuple[str, ...],
    wait: float,
    **said: Any,
) -> None:
    """Call a command of an actor.

    Commands are the methods that its class marks with @command. Their annotations say how each VALUE is read: as text,
    or else as JSON.

    \b
    tokengate call inventory restock tea 5
    tokengate call inventory restock tea --set count=5
    """  # noqa: D301
    kwargs = dict(_named(pair) for pair in pairs)
    called = connection.ask(Call(name, method, args, kwargs, wait=wait, text=True, **said))
    connection.show(called)
    if called.error or called.proposal is not None:
        raise SystemExit(1 if called.error else AWAITING)


def _named(pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not equals or not name:
        raise UsageProblem(f"--set '{pair}' is not NAME=VALUE, such as --set count=5")
    return name, value


@click.group()
def child() -> None:
    """Start, stop or remove a child of a supervisor.

    'tokengate children' lists them.

    \b
    tokengate child stop office mailer
    tokengate child start office mailer
    """  # noqa: D301


child.add_command(command_of(RestartChild, show_answer, name="start"))
child.add_command(command_of(TerminateChild, show_answer, name="stop"))
child.add_command(command_of(DeleteChild, show_answer, name="forget"))
