"""Tokens that are not live: those that wait on disk only, and ended ones, as far as the system remembers them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

from actors import ActorSystem, Token
from tokengate.control._admission import admission
from tokengate.control._safe_text import plain
from tokengate.control._uids import is_uid, text_of
from tokengate.control.inspection._off_loop import OffLoop
from tokengate.control.messages import Outcome

_SECONDS: Final = 5.0  # that a disk may take
_disk: Final = OffLoop("rows of tokens", 2)


async def on_disk(system: ActorSystem, ids: Iterable[int]) -> Mapping[int, Token[Any]]:
    """Return {id: token} of the ids that are not live, and of numbers of uids, as far as these wait in the journal."""
    wanted = [id for id in ids if id not in system.live]
    if system.journal is None or not wanted:
        return {}
    return await _disk.run(_SECONDS, partial(system.journal.find, wanted)) or {}


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
    if is_uid(id):
        why = f"no token waits here with this uid; 'durable-tokens {text_of(id)}' shows its row"
        return Outcome(id, "", "unknown", why)
    if system.is_used(id):
        return Outcome(id, "", "ended", "it has completed, or its end is too long ago to be remembered")
    return Outcome(id, "", "unknown", "no token has had this id")
