"""What the shell offers when Tab is pressed: names that the live gate knows, and nothing without a gate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

from actors.lowlevel import AFFINITIES
from tokengate.cli import _connection
from tokengate.control.messages import Actors, Message, Tokens

# Whoever presses Tab waits for no more than this, in seconds.
_PATIENCE = 1.0


def complete_gate(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the gates that run; several of one name with their pids."""
    try:
        found = _connection.gates()
    except Exception:  # the user is typing: nothing that goes wrong here may show
        return []
    names = [gate.name for gate in found]
    return _offer(
        ((gate.name if names.count(gate.name) == 1 else gate.address, f"pid {gate.pid}") for gate in found), incomplete
    )


def complete_token(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the ids of live tokens, the newest first."""
    page = _ask(context, Tokens(sort="-id", limit=100))
    return _offer(((str(row.id), f"{row.operation} {row.state}") for row in page.rows) if page else (), incomplete)


def complete_actor(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the paths of actors."""
    return _offer(((row.path, f"{row.kind} {row.status}") for row in _ask(context, Actors()) or ()), incomplete)


def complete_destination(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the affinities, and the paths of actors."""
    affinities = ((affinity, "affinity") for affinity in AFFINITIES)
    return [*_offer(affinities, incomplete), *complete_actor(context, parameter, incomplete)]


def _ask(context: click.Context, message: Message) -> Any:
    try:
        client = _connection.connect(context.params.get("gate"), _PATIENCE)
        try:
            return client.ask(message)
        finally:
            client.close()
    except Exception:  # the user is typing: nothing that goes wrong here may show
        return None


def _offer(found: Iterable[tuple[str, str]], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(value, help=help) for value, help in found if value.startswith(incomplete)]
