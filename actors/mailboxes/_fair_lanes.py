"""The lanes of a mailbox in which, within a priority, keys take turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from actors.mailboxes._fair_line import FairLine
from actors.mailboxes._lanes import Lanes
from actors.tokens._token import Token


def fair_key(token: Token[Any]) -> str | int | None:
    """Return the key by which a token takes its turn."""
    policy = token._extras.policy
    return None if policy is None else policy.fair_key


def fair_text(token: Token[Any]) -> str | None:
    """Return that key as it is kept on disk."""
    key = fair_key(token)
    return None if key is None else str(key)


class FairLanes(Lanes):
    """Lanes whose tokens take turns by their keys; those that were put first (`append_first`) are ahead of all turns.

    Lane 0 is where senders put tokens without a lock, as always. What else is done here moves them into the line first.

    Args:
        zero: the deque of lane 0.
    """

    __slots__ = ("_inbox", "_line")

    def __init__(self, zero: deque[Token[Any]] | None = None) -> None:
        super().__init__(zero)
        self._inbox: deque[Token[Any]] = deque()  # what is on its way from lane 0 to the line
        self._line: FairLine[Token[Any]] = FairLine(fair_key)

    def __iter__(self) -> Iterator[Token[Any]]:
        yield from super().__iter__()
        yield from {*self._inbox, *self._line}

    def others_in_order(self) -> list[Token[Any]]:
        return sorted([*super().others_in_order(), *self._line], key=lambda token: -token.priority)

    def append(self, token: Token[Any]) -> None:
        self._sort()
        self.append_other(token)

    def append_other(self, token: Token[Any]) -> None:
        self._line.append(token)
        self.others += 1

    def append_first(self, token: Token[Any]) -> None:
        lane = self._lane(token.priority)
        lane[token] = None
        lane.move_to_end(token, last=False)

    def pop(self) -> Token[Any] | None:
        self._sort()
        line, order = self._line, self._order
        if order and (not line or order[0] <= line.first()[0]):
            return self._pop_other(-order[0])
        if not line:
            return None
        self.others -= 1
        return line.pop()

    def pop_oldest_of_lowest(self, newcomer: int) -> Token[Any] | None:
        self._sort()
        victim = self._line.oldest_of_lowest()
        if self._order and (victim is None or -self._order[-1] <= victim.priority):
            victim = next(iter(self._lanes[-self._order[-1]]))
        return victim if victim is not None and victim.priority <= newcomer and self.remove(victim) else None

    def pop_last_behind(self, newcomer: Token[Any], may_leave: Callable[[Token[Any]], bool]) -> Token[Any] | None:
        """Take the last token of the key that has most, if the newcomer's has fewer, or is of higher priority."""
        self._sort()
        last = self._line.last_behind(newcomer)
        return last if last is not None and may_leave(last) and self.remove(last) else None

    def number_of(self, key: Hashable) -> int:
        return self._line.number_of(key)

    def remove(self, token: Token[Any]) -> bool:
        self._sort()
        if self._line.remove(token):
            self.others -= 1
            return True
        return super().remove(token)

    def index(self) -> None:
        self._sort()

    def recover(self) -> None:
        super().recover()
        self._sort()
        self._count()

    def _sort(self) -> None:
        """Move the tokens of lane 0 into the line.

        One C call takes them out; what an exception of a signal handler leaves between the two is for the next call.
        """
        zero, inbox, line = self.zero, self._inbox, self._line
        if not zero and not inbox:
            return
        self.others += len(zero)  # before they leave: no sender is to see room meanwhile
        try:
            inbox.extend(iter(zero.popleft, None))
        except IndexError:
            pass  # it is empty
        while inbox:
            if inbox[0] not in line:
                line.append(inbox[0])
            inbox.popleft()
        self._count()

    def _count(self) -> None:
        self.others = len(self._line) + (sum(map(len, self._lanes.values())) if self._lanes else 0)
