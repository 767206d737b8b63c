"""Send a queued token to another place: it leaves the one mailbox only when the other one has accepted it."""

from __future__ import annotations

from typing import Any

from actors._exceptions import ActorDead, MailboxFull
from actors.mailboxes._mailbox import ACCEPTED
from actors.places._place import Place, place_of
from actors.tokens._token import Token


def move(token: Token[Any], target: Place) -> bool:
    """Take a token that is queued, or paused in the queue, out of its place's mailbox and put it into another one's.

    It keeps its id, its priority, its tags and its context, and stands at the end of its lane there. One that is asked
    to end on the way ends. Nothing here waits.

    Args:
        token: it.
        target: a place of the same system that has what the token calls.

    Returns:
        whether the target has it; else it had begun or ended, or ended on the way since its old place was closed.

    Raises:
        MailboxFull: the target has no room, whatever its policy; the token is where it was, ahead of the others.
        ActorDead: the target accepts nothing; the token is where it was, ahead of the others.
    """
    source = place_of(token)
    if source is target:
        return token.started_at is None and not token.done()
    if not source.mailbox.take_out(token):
        return False
    token._place = target  # before it can be taken there
    try:
        if target.mailbox.put_moved(token) is not ACCEPTED:
            raise target._full()
    except (ActorDead, MailboxFull):
        token._place = source
        if not source.mailbox.put_back(token):
            source._never_handled(token, "has stopped")
            return False
        raise
    else:
        source.mailbox.moved_out()
    finally:
        # Whoever asks for the end of a token says so, then looks for it in its mailbox; on its way it was in none.
        if token._cancel_requested and not token.done():
            token._cancel(token._cancel_requested)
    return True
