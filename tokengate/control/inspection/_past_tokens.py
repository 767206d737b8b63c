"""Tokens that are no longer live, as far as the system remembers them."""

from __future__ import annotations

from actors import ActorSystem
from tokengate.control._safe_text import plain
from tokengate.control.messages import Outcome


def ended_lately(system: ActorSystem) -> dict[int, Outcome]:
    """Return {id: outcome} of the tokens that failed or were ended, as far as they are remembered."""
    return {
        known.id: Outcome(known.id, plain(known.operation), "ended", f"it is {known.state} ({known.error})")
        for known in system.ended_lately()
    }


def not_live(system: ActorSystem, id: int) -> Outcome:
    """Return the outcome for an id of no live and no remembered token."""
    if system.is_used(id):
        return Outcome(id, "", "ended", "it has completed, or its end is too long ago to be remembered")
    return Outcome(id, "", "unknown", "no token has had this id")
