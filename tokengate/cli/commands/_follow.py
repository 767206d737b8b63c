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

from tokengate.cli._connection import Connection, connected
from tokengate.cli._parameters import seconds_option
from tokengate.control.messages import KINDS, Message, Stream, Watch
from tokengate.control.stream._events import json_of

_LONGEST = 86_400.0  # seconds; platforms have a maximum for sleep

every_option = seconds_option("--every", 1.0, "With --watch: time between two answers.")

_count_option = click.option(
    "-n", "--count", type=click.IntRange(min=1), default=None, help="End after so many events.  [default: at Ctrl-C]"
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
    """Print the events of a stream, so many or until Ctrl-C."""
    with contextlib.closing(connection.follow(stream)) as events:
        for event in itertools.islice(events, count):
            connection.show_line(json_of(event) if connection.output == "json" else event)


_KINDS = "\n".join(f"{kind}: {what}." for kind, what in KINDS.items())


@click.command(epilog=f"\b\nThe kinds of events:\n{_KINDS}")
@click.argument("selector", default="")
@click.option(
    "--kind", "kinds", metavar="KIND", multiple=True, help="Only these kinds, or those that begin with it; see below."
)
@_count_option
@connected
def watch(connection: Connection, selector: str, kinds: tuple[str, ...], count: int | None) -> None:
    """Follow what happens in a gate.

    With a SELECTOR, these are the events of tokens that it matches, at that moment; without one, all other events and
    dead letters. 'tokengate ps --help' explains selectors; those of events also have error, reason, kind, key, gate_run
    and the times run, wait, held, cpu.

    \b
    tokengate watch
    tokengate watch tenant=acme,error=*
    tokengate watch actor=mailer --kind token.finished -n 10
    tokengate watch --kind supervisor --json >> restarts.jsonl
    """  # noqa: D301
    follow_stream(connection, Watch(selector, kinds=kinds), count)
