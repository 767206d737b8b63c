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
from tokengate.cli._parameters import seconds_option
from tokengate.cli.top._asker import Answer, Asker
from tokengate.cli.top._keys import Keys
from tokengate.cli.top._screen import screen
from tokengate.cli.top._state import HELP, TopState
from tokengate.control._exceptions import Unreachable
from tokengate.control.messages import Info

# Seconds after which a terminal that has changed its size is drawn anew.
_LOOK = 0.2


@click.command(epilog=f"\b\nKeys: {HELP}\nArrows select, too; p also resumes; h shows the keys.")
@click.argument("selector", default="")
@seconds_option("--every", 1.0, "How often it is refreshed.", least=0.05)
@connected
def top(connection: Connection, selector: str, every: float) -> None:
    """Watch and steer live tokens on a whole terminal.

    'tokengate ps --help' explains SELECTOR.

    \b
    tokengate top
    tokengate top tenant=acme --every 0.5
    """  # noqa: D301  # click wants the backspace itself
    if connection.output == "json" or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageProblem("top needs a terminal, and prints no JSON; 'tokengate ps -w' does without, and does")
    state = TopState(selector="" if selector == "*" else selector)
    # Before the screen changes, so that what is wrong at the start is said below the command.
    state.show(connection.ask(Info()), connection.ask(state.question))
    console = Console(highlight=False)
    with (
        _ended_by_sigterm(),
        Keys(sys.stdin.fileno()) as keys,
        Live(console=console, screen=True, auto_refresh=False) as live,
        Asker(connection) as asker,
    ):
        _run(asker, state, keys, live, every)


def _run(asker: Asker, state: TopState, keys: Keys, live: Live, every: float) -> None:
    due = time.monotonic() + every
    while not state.closed:
        live.update(screen(state, live.console.height), refresh=True)
        patience = min(_LOOK, due - time.monotonic()) if state.silence is None else _LOOK
        for key in keys.read(max(0.0, patience), asker):
            question = state.press(key)
            if question is not None:
                asker.ask(question)
        while (answer := asker.take()) is not None:
            _take(state, answer)
            due = time.monotonic() + every
        if asker.silence is None and (state.stale or time.monotonic() >= due):
            state.stale = False
            asker.ask(Info(), state.question)
        state.silence = asker.silence


def _take(state: TopState, answer: Answer) -> None:
    """Show an answer, or the error that it is; raise one that says that there is no gate any more."""
    if isinstance(answer.error, Unreachable):
        raise answer.error
    refresh = len(answer.questions) > 1
    if refresh and answer.questions[-1] != state.question:
        return  # the user wants to see something else by now, which is asked for next
    if isinstance(answer.error, TokenGateError):
        state.refuse(str(answer.error))
    elif answer.error is not None:
        raise answer.error
    elif refresh:
        state.show(*answer.answers)
    else:
        state.answer(*answer.answers)


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
