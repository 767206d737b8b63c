"""`tokengate top`: the live tokens on a whole terminal, and keys that steer them."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

import click
from rich.console import Console
from rich.live import Live

from actors import TokenGateError
from tokengate.cli._connection import Connection, connected
from tokengate.cli._errors import UsageProblem
from tokengate.cli._keys import Keys
from tokengate.cli._top_screen import screen
from tokengate.cli._top_state import HELP, TopState
from tokengate.control._exceptions import Unreachable
from tokengate.control.messages import Info, Message

# Seconds after which a terminal that has changed its size is drawn anew.
_LOOK = 0.2


@click.command(epilog=f"\b\nKeys: {HELP}\nArrows select, too; p also resumes; h shows the keys.")
@click.argument("selector", default="")
@click.option(
    "--every",
    type=click.FloatRange(min=0.05),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often it is refreshed.",
)
@connected
def top(connection: Connection, selector: str, every: float) -> None:
    """Watch and steer live tokens on a whole terminal.

    'tokengate ps --help' tells how to write a SELECTOR.

    \b
    tokengate top
    tokengate top tenant=acme --every 0.5
    """  # noqa: D301  # click wants the backspace itself
    if connection.output == "json" or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageProblem("top needs a terminal, and prints no JSON; 'tokengate ps -w' does without, and does")
    state = TopState(selector="" if selector == "*" else selector)
    _refresh(
        connection, state
    )  # before the screen changes, so that what is wrong at the start is said below the command
    console = Console(highlight=False)
    with (
        _ended_by_sigterm(),
        Keys(sys.stdin.fileno()) as keys,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        _run(connection, state, keys, live, every)


def _run(connection: Connection, state: TopState, keys: Keys, live: Live, every: float) -> None:
    due = time.monotonic() + every
    while not state.closed:
        live.update(screen(state, live.console.height), refresh=True)
        for key in keys.read(max(0.0, min(_LOOK, due - time.monotonic()))):
            question = state.press(key)
            if question is not None:
                _ask(connection, state, question)
        if state.stale or time.monotonic() >= due:
            try:
                _refresh(connection, state)
            except Unreachable:
                raise
            except TokenGateError as error:
                state.refuse(str(error))
            due = time.monotonic() + every


def _ask(connection: Connection, state: TopState, question: Message) -> None:
    try:
        state.answer(connection.ask(question))
    except Unreachable:
        raise
    except TokenGateError as error:
        state.refuse(str(error))


def _refresh(connection: Connection, state: TopState) -> None:
    state.stale = False
    state.show(connection.ask(Info()), connection.ask(state.question))


@contextmanager
def _ended_by_sigterm() -> Generator[None]:
    """Let SIGTERM and SIGHUP end a block as an exception, so that the terminal is put back."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
