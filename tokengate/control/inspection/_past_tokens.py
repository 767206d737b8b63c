"""Tokens that are no longer live, as far as the system remembers them."""

from __future__ import annotations

from actors import ActorSystem
from tokengate.control._admission import admission
from tokengate.control._safe_text import plain
from tokengate.control.messages import Outcome


def ended_lately(system: ActorSystem) -> dict[int, Outcome]:
    """Return {id: outcome} of the tokens that failed or were ended, as far as they are remembered.

    Their tags are not, so a caller whose view has a selector is told of none.
    """
    if not admission().sees_all:
        return {}
    return {
        known.id: Outcome(known.id, plain(known.operation), "ended", f"it is {known.state} ({known.error})")
        for known in system.ended_lately()
    }


def not_live(system: ActorSystem, id: int) -> Outcome:
    """Return the outcome for an id of no live and no remembered token, or of one that the caller may not see."""
    if not admission().sees_all:
        return Outcome(id, "", "unknown", "no live token that you may see has this id")
    if system.is_used(id):
        return Outcome(id, "", "ended", "it has completed, or its end is too long ago to be remembered")
    return Outcome(id, "", "unknown", "no token has had this id")
