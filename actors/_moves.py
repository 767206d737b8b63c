"""Send a queued token to another place."""

from __future__ import annotations

from typing import Any

from actors._exceptions import ActorDead
from actors._mailbox import ACCEPTED
from actors._place import Place
from actors._token import Token


def move(token: Token[Any], target: Place) -> bool:
    """Take a queued token out of its place's mailbox and put it into another one's.

    Returns:
        whether it was queued; else nothing has changed.

    Raises:
        MailboxFull: the target has no room; the token is where it was.
        ActorDead: the target accepts nothing; the token is where it was.
    """
    source = token._place
    if not source.mailbox.withdraw(token):
        return False
    token._place = target
    try:
        if target.mailbox.put(token) is not ACCEPTED:
            raise target._full()
    except BaseException:
        token._place = source
        source.give_back(token)
        raise
    return True


__all__ = ["ActorDead", "move"]
