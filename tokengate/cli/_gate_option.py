"""The gate of a command: its option `-g`, what Tab offers for it, and the way to that gate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ParamSpec

import click
from click.shell_completion import CompletionItem

from tokengate.control.transport._client import ControlClient
from tokengate.control.transport._discovery import find_gate, find_gates

P = ParamSpec("P")


def connect(name: str | None, timeout: float = 10.0) -> ControlClient:
    """Connect to the gate of this name, pid or name@pid; to the only one that runs for None. See `ControlClient`.

    Raises:
        Unreachable: no such gate answers.
        AmbiguousName: several do.
    """
    return ControlClient(find_gate(name).path, timeout=timeout)


def gate_option(command: Callable[P, None]) -> Callable[P, None]:
    """Give a command the option `-g`, whose value is the argument `gate`."""
    return click.option(
        "-g",
        "--gate",
        envvar="TOKENGATE_GATE",
        show_envvar=True,
        metavar="NAME",
        shell_complete=complete_gate,
        help="Name, pid or name@pid of the gate, when several run.",
    )(command)


def complete_gate(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the gates that run here; those with the same name as name@pid."""
    try:
        found = find_gates()
    except Exception:  # the user is typing: completion must not show errors
        return []
    names = [gate.name for gate in found]
    return offer(
        ((gate.name if names.count(gate.name) == 1 else gate.address, f"pid {gate.pid}") for gate in found), incomplete
    )


def offer(found: Iterable[tuple[str, str]], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(value, help=help) for value, help in found if value.startswith(incomplete)]
