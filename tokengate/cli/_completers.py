"""Completion of arguments: names in the live gate; nothing without a gate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import click
from click.shell_completion import CompletionItem

from actors.lowlevel import AFFINITIES
from tokengate.cli import _gate_option
from tokengate.cli._gate_option import offer
from tokengate.control.messages import Actors, Message, Tokens
from tokengate.control.registry._kinds import kind_of

Completer: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

# Maximum seconds for a completion.
_PATIENCE = 1.0


def complete_token(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the ids of live tokens, the newest first."""
    page = _ask(context, Tokens(sort="-id", limit=100))
    return offer(((str(row.id), f"{row.operation} {row.state}") for row in page.rows) if page else (), incomplete)


def complete_actor(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the paths of actors."""
    return offer(((row.path, f"{row.kind} {row.status}") for row in _ask(context, Actors()) or ()), incomplete)


def complete_described(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the ids of live tokens, and the paths of actors."""
    return [*complete_token(context, parameter, incomplete), *complete_actor(context, parameter, incomplete)]


def complete_destination(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the affinities, and the paths of actors."""
    affinities = ((affinity, "affinity") for affinity in AFFINITIES)
    return [*offer(affinities, incomplete), *complete_actor(context, parameter, incomplete)]


def complete_name(message: type[Message[Any]]) -> Completer:
    """Return what offers the argument `name` of a verb: names of its noun, or else paths of actors."""
    kind = kind_of(message)
    if kind is None:
        return complete_actor

    def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return offer(((name, kind.noun) for name in kind.names(_ask(context, kind.rows()) or ())), incomplete)

    return complete


def _ask(context: click.Context, message: Message[Any]) -> Any:
    try:
        client = _gate_option.connect(context.params.get("gate"), _PATIENCE)
        try:
            return client.ask(message)
        finally:
            client.close()
    except Exception:  # the user is typing: completion must not show errors
        return None
