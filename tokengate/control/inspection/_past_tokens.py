"""Tokens that are no longer live, as far as the system remembers them."""

from __future__ import annotations

from actors import ActorSystem
from tokengate.control._safe_text import plain
from tokengate.control.messages import Outcome


def ended_lately(system: ActorSystem) -> dict[int, Outcome]:
    """Return {id: answer} for tokens that ended otherwise than completed, as far as they are remembered."""
    return {
        known.id: Outcome(known.id, plain(known.operation), "ended", f"it is {known.state} ({known.error})")
        for known in system.ended_lately()
    }


def not_live(system: ActorSystem, id: int) -> Outcome:
    """Return the answer for an id that no live token has, and none that is remembered."""
    if system.is_used(id):
        return Outcome(id, "", "ended", "it has completed, or ended longer ago than is remembered")
    return Outcome(id, "", "unknown", "there has been no token with this id")
