"""The tokens of a mailbox that stand beside its lanes: paused by an operator, kept back by throttles, or released."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from actors.mailboxes._lanes import Lanes
from actors.mailboxes._line import Line
from actors.tokens._token import Token


class HeldTokens:
    """Tokens that no drainer sees in the lanes. For one thread at a time: the mailbox has a lock for that.

    Attributes:
        paused: tokens that operators have paused, in the order of the pauses.
        throttled: tokens that throttles keep back.
        released: tokens that throttles have let go, which are taken before those of the lanes.
    """

    __slots__ = ("paused", "released", "throttled")

    def __init__(self) -> None:
        self.paused: dict[Token[Any], None] = {}
        self.throttled = Line()
        self.released = Lanes()

    def __len__(self) -> int:
        return len(self.paused) + len(self.throttled) + len(self.released)

    def __iter__(self) -> Iterator[Token[Any]]:
        """Iterate over the tokens: first the throttled ones in order, then the paused ones, then the released ones."""
        yield from self.throttled
        yield from self.paused
        yield from self.released

    def remove_unpaused(self, token: Token[Any]) -> bool:
        """Remove a throttled or released token; return whether it was here."""
        return self.throttled.remove(token) or self.released.remove(token)

    def pop(self, lanes: Lanes) -> Token[Any] | None:
        """Take the next token of a queue: the first one that is released, unless one in the lanes has priority."""
        token = self.released.pop()
        if token is None:
            return lanes.pop()
        other = lanes.pop()
        if other is None:
            return token
        if other.priority > token.priority:
            self.released.append_first(token)
            return other
        lanes.append_first(other)
        return token
