"""The mailbox of a place with durable tokens: a window on those that are on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors.mailboxes._mailbox import ACCEPTED, Drainer, Mailbox, Put
from actors.tokens._lifecycle import TokenState
from actors.tokens._token import DurableToken, Token


class DurableMailbox(Mailbox):
    """A mailbox that takes a durable token once it is on disk, and leaves it there while it is full.

    A durable token that is new to the journal finds it full: its sender has the token accepted, and puts it again.
    """

    __slots__ = ("_asks_for_room",)

    def __init__(self, owner: str, **options: Any) -> None:
        super().__init__(owner, **options)
        self._asks_for_room = False  # whether the journal is called when there is room

    def put(self, token: Token[Any], room: Callable[[], object] | None = None) -> Put:
        if not isinstance(token, DurableToken):
            return super().put(token, room)
        if token.record is None or not token.record.is_accepted:
            return Put.FULL
        journal = token._place.system.journal
        put = super().put(token)
        if put is Put.FULL:
            token._phase = TokenState.QUEUED
            token.queued_at = token._place.system.clock()
            journal.left_on_disk(token)
            return ACCEPTED
        return put

    def enter_with(self, drainer: Drainer, token: Token[Any]) -> bool:
        return not isinstance(token, DurableToken) and super().enter_with(drainer, token)
