"""Moves a queued token to another place; it returns to its mailbox if the other one does not accept it."""

from __future__ import annotations

from typing import Any

from actors._exceptions import ActorDead, MailboxFull
from actors.mailboxes._mailbox import ACCEPTED
from actors.places._place import Place, place_of
from actors.tokens._token import DurableToken, Token


def note_change(token: Token[Any]) -> None:
    """Have it written that the priority, the tags or the place of a token have changed, if it is on disk."""
    if isinstance(token, DurableToken) and token.record is not None:
        token.record.changed(token)


def move(token: Token[Any], target: Place) -> bool:
    """Move a token that is queued, or paused in the queue, from its place's mailbox to the mailbox of another place.

    It keeps its id, its priority, its tags and its context, and goes to the end of its lane there, held to the rules of
    that place. If it is asked to end on the way, it ends. The call does not wait.

    Args:
        token: the token to move.
        target: a place of the same system that can run the token's call.

    Returns:
        True when the target has it; False when it had begun or ended, or ended on the way because its old place was
        closed.

    Raises:
        MailboxFull: the target has no room, whatever its overflow policy; the token is back at the head of its lane.
        ActorDead: the target accepts nothing; the token is back at the head of its lane.
    """
    source = place_of(token)
    if source is target:
        return token.started_at is None and not token.done()
    if not source.mailbox.take_out(token):
        return False
    policy = token._extras.policy
    token._place = target  # before it can be taken there
    try:
        if policy is not None:
            policy.follow(token, target)
        if target.mailbox.put_moved(token) is not ACCEPTED:
            raise target._full()
    except (ActorDead, MailboxFull):
        token._place = source
        if policy is not None:
            policy.follow(token, source)
        if not source.mailbox.put_back(token):
            source._never_handled(token, "has stopped")
            return False
        raise
    else:
        source.mailbox.moved_out()
        note_change(token)
    finally:
        # `cancel` sets the request, then looks for the token in its mailbox. On its way it was in none, so check here.
        if token._extras.cancel_requested and not token.done():
            token._cancel(token._extras.cancel_requested)
    return True
