"""Commands that print until Ctrl-C: streams, and answers that are refreshed."""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from tokengate.cli._completers import complete_actor
from tokengate.cli._connection import Connection, connected
from tokengate.cli._parameters import seconds_option
from tokengate.control.messages import Events, Message, Stream, Trace, Watch

_LONGEST = 86_400.0  # seconds; platforms have a maximum for sleep

every_option = seconds_option("--every", 1.0, "With --watch: time between two answers.")

_count_option = click.option(
    "-n", "--count", type=click.IntRange(min=1), default=None, help="End after so many items.  [default: at Ctrl-C]"
)


def watch_answer(connection: Connection, question: Message[Any], every: float) -> None:
    """Ask repeatedly, and show each answer: on a terminal in place of the last one, else below it."""
    every = min(every, _LONGEST)
    if connection.output == "json" or not sys.stdout.isatty():
        while True:
            connection.show_line(connection.ask(question))
            time.sleep(every)
    with Live(console=Console(highlight=False), screen=True, auto_refresh=False) as live:
        while True:
            live.update(connection.drawn(connection.ask(question)), refresh=True)
            time.sleep(every)


def follow_stream(connection: Connection, stream: Stream, count: int | None) -> None:
    """Print the items of a stream, so many or until Ctrl-C."""
    with contextlib.closing(connection.follow(stream)) as items:
        for item in itertools.islice(items, count):
            connection.show_line(item)


@click.command()
@click.argument("name", shell_complete=complete_actor)
@_count_option
@connected
def trace(connection: Connection, name: str, count: int | None) -> None:
    """Follow the tokens of an actor: queued, started, finished.

    NAME is a path, the last part of one, or a pattern with *.

    \b
    tokengate trace mailer
    tokengate trace 'front/*' --json | jq .text
    """  # noqa: D301
    follow_stream(connection, Trace(name), count)


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Has no effect; accepted as in 'tail -f'.")
@_count_option
@connected
def events(connection: Connection, follow: bool, count: int | None) -> None:  # noqa: ARG001  # see its help
    """Follow the events of a gate.

    These are restarts, supervisors that give up, dead letters, blocked loops.

    \b
    tokengate events
    tokengate events --json >> events.jsonl
    """  # noqa: D301
    follow_stream(connection, Events(), count)


@click.command()
@click.argument("selector", default="")
@_count_option
@connected
def watch(connection: Connection, selector: str, count: int | None) -> None:
    """Follow the tokens that a selector matches.

    Each is queued, started, finished. 'tokengate ps --help' explains SELECTOR.

    \b
    tokengate watch tenant=acme
    tokengate watch operation=resize -n 10
    """  # noqa: D301
    follow_stream(connection, Watch("" if selector == "*" else selector), count)
