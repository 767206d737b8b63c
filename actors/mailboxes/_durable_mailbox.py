"""The mailbox of a place with durable tokens: a window on those that are on disk."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias, TypeGuard

from actors.mailboxes._fair_lanes import fair_text
from actors.mailboxes._mailbox import ACCEPTED, Drainer, Mailbox, Put
from actors.mailboxes._rule import Rule
from actors.tokens._lifecycle import TokenState
from actors.tokens._token import DurableToken, Token

Position: TypeAlias = tuple[float, int]
"""Where a row stands among those of its fair key: its negated priority, and the number of its uid."""

FIRST: Final[Position] = (float("-inf"), 0)


class DurableMailbox(Mailbox):
    """A mailbox that has at most `capacity` durable tokens in memory, and leaves the others on disk.

    A durable token that is new to the journal finds it full: its sender has the token accepted, and puts it again. Of
    those that wait, the tokens in memory go before the rows on disk, by priority and then by uid; with fair keys, those
    of each key do. So a new token is left on disk behind a row of its priority or of a higher one; else it displaces,
    in a full mailbox, one that is to go later. What counts as a sender that waits for room, while rows are on disk, has
    the journal read them.
    """

    __slots__ = ("_left", "_reads", "_rest", "_wants_rows")

    def __init__(self, owner: str, **options: Any) -> None:
        super().__init__(owner, **options)
        self._rest: dict[str | None, Position] = {}  # {fair key: the first place where a row may be on disk}
        self._left: dict[str | None, Position] = {}  # the same of tokens left on disk since the journal began to read
        self._reads = False  # whether the journal reads rows, or was asked to
        self._wants_rows: Callable[[], object] | None = None  # has it read them
        self._low_water = self.capacity // 2

    def put(self, token: Token[Any], room: Callable[[], object] | None = None) -> Put:
        if isinstance(token, DurableToken):
            record = token.record
            if record is None or not record.is_accepted:
                return self._begin_acceptance(token, room)
            if record.follows:
                token._place.system.journal.join(token)
                return ACCEPTED
            if record.due is not None and self.put_off(token):
                return ACCEPTED
            if self._rest:
                return self._put_slowly(token, room)
        return super().put(token, room)

    def _begin_acceptance(self, token: DurableToken[Any], room: Callable[[], object] | None) -> Put:
        """Refuse a token that is not on disk; with `room`, have it accepted: that is called when it is known."""
        if self._closed:
            raise self._dead(token)
        if token.record is not None and token.record.refusal is not None:
            raise token.record.refusal
        if room is not None:
            token._place.begin_acceptance(token, room)  # type: ignore[attr-defined]  # a `DurablePlace`
        return Put.FULL

    def put_again(self, token: Token[Any], delay: Rule, *, comes: bool = False) -> bool:
        record = token.record if isinstance(token, DurableToken) else None
        if record is not None and record.try_again(token, getattr(delay, "at", 0.0)):
            return True
        return super().put_again(token, delay, comes=comes)

    def put_off(self, token: DurableToken[Any]) -> bool:
        """Leave a token, which is in no mailbox, on disk until it is due; return False if that is so by now."""
        with self._lock:
            record: Any = token.record
            if record.due is None:
                return False
            token._phase = TokenState.QUEUED
            if token.queued_at is None:
                token.queued_at = token._place.system.clock()
            record.leave(token)
            return True

    def note_due(self, token: DurableToken[Any]) -> None:
        """Note that the time of a token has come, which may not be left on disk yet."""
        with self._lock:
            record: Any = token.record
            record.due = None

    def enter_with(self, drainer: Drainer, token: Token[Any]) -> bool:
        return not isinstance(token, DurableToken) and super().enter_with(drainer, token)

    def renice(self, token: Token[Any], priority: int) -> bool:
        drainer: Drainer | None = None
        with self._lock:
            if was_on_disk := _is_on_disk(token):
                self._remove(token)
                token.priority = priority
                self._insert(token)
                drainer = self._missing()
        if not was_on_disk:
            return super().renice(token, priority)
        self._follow_up(drainer=drainer)
        return True

    def put_moved(self, token: Token[Any]) -> Put:
        if not isinstance(token, DurableToken) or token._phase is TokenState.PAUSED:
            return super().put_moved(token)
        return self._put_durable(token)

    def set_fair(self, fair: bool) -> None:
        super().set_fair(fair)
        # Keys take turns among the tokens in memory: each that begins is replaced at once, by one of its key if it can.
        self._low_water = self.capacity - 1 if fair else self.capacity // 2

    def disown(self) -> None:
        super().disown()
        self._rest = {}

    # For the journal

    @property
    def is_full(self) -> bool:
        """Whether a new token may have to wait on disk."""
        return bool(self._rest) or self.size >= self.capacity

    def drop_oldest(self) -> bool:
        """Drop the oldest token of the lowest priority in memory; return whether there was one."""
        with self._lock:
            victim = self._oldest_of_lowest(sys.maxsize)
            self._removed += victim is not None
        if victim is not None:
            self._on_drop(victim)
        return victim is not None

    def expect(self, rows: Mapping[str | None, Position], ask: Callable[[], object]) -> None:
        """Note, for fair keys, the first place where rows may be on disk; `ask` has them read from now on."""
        with self._lock:
            self._wants_rows, self._reads = ask, True
            for key, position in rows.items():
                self._note_rest(key, position)

    def offer(self, token: DurableToken[Any]) -> None:
        """Put a token that waits on disk only where it belongs, unless it has come already.

        Raises:
            ActorDead: the mailbox is closed; nothing changed.
        """
        with self._lock:
            if not _is_on_disk(token):
                return
            if self._closed:
                raise self._dead(token)
            self._remove(token)
            self._insert(token)
            drainer = self._missing()
        self._follow_up(drainer=drainer)

    def begin_reading(self) -> tuple[int, list[tuple[str | None, Position, int]]]:
        """Return for how many tokens there is room; and keys, where to read, and how many tokens of them are here."""
        with self._lock:
            self._reads = True
            self._left = {}
            room = 0 if self._emptied else max(0, self.capacity - self._size())
            first = min(self._rest.values(), default=FIRST)[0]
            number_of = self._lanes.number_of
            return room, [(key, at, number_of(key)) for key, at in self._rest.items() if at[0] == first]

    def come(self, tokens: Sequence[DurableToken[Any]]) -> int:
        """Take tokens of rows into memory, in order, as far as there is room; return how many were looked at."""
        came, index = 0, 0
        with self._lock:
            for index, token in enumerate(tokens):  # noqa: B007
                if self._emptied or self._size() >= self.capacity:
                    break
                if _is_on_disk(token):
                    token.record.come(token)  # type: ignore[union-attr]
                    self._lanes.append(token)
                    came += 1
            else:
                index = len(tokens)
            drainers = self._enter_missing(came)
        for drainer in drainers:
            self._wake(drainer)
        return index

    def end_reading(self, rest: Mapping[str | None, Position | None]) -> bool:
        """Note, for the fair keys that were read, where the rest begins; None: there was none.

        Returns:
            whether there are rows, and room for them: then the journal is to read on.
        """
        with self._lock:
            for key, position in rest.items():
                del self._rest[key]
                if position is not None:
                    self._note_rest(key, position)
            for key, position in self._left.items():
                self._note_rest(key, position)
            self._reads = bool(self._rest and self._size() <= self._low_water and not self._emptied)
            self._ask_for_rows()
            return self._reads

    # All below but for the first runs under the lock

    def _put_slowly(self, token: Token[Any], room: Callable[[], object] | None) -> Put:
        if not isinstance(token, DurableToken):
            return super()._put_slowly(token, room)
        put = self._put_durable(token)
        system = token._place.system
        if put is ACCEPTED and system.on_token_queued is not None:
            system.tell(system.on_token_queued, token)
        return put

    def _put_durable(self, token: Token[Any]) -> Put:
        if self._lock._is_owned():
            return Put.LATER
        with self._lock:
            if self._closed:
                raise self._dead(token)
            token._phase = TokenState.QUEUED
            token.queued_at = token._place.system.clock()
            self._insert(token)
            drainer = self._missing()
        self._follow_up(drainer=drainer)
        return ACCEPTED

    def _insert(self, token: Token[Any]) -> None:
        """Put a token into the lanes, or leave it on disk, or another one in its place."""
        rest = self._rest.get(fair_text(token))
        if rest is not None and -token.priority >= rest[0]:
            self._leave(token)
        elif self._size() < self.capacity:
            self._lanes.append(token)
        else:
            last = self._lanes.pop_last_behind(token, _may_leave)
            if last is not None and self._throttles is not None:
                self._throttles.forget((last,))
            self._leave(token if last is None else last)
            if last is not None:
                self._lanes.append(token)

    def _leave(self, token: Token[Any]) -> None:
        """Leave a token on disk; without a holder it is gone from memory."""
        record: Any = token.record  # type: ignore[attr-defined]  # it is a durable one
        key, position = fair_text(token), (-token.priority, record.number)
        self._note_rest(key, position)
        self._left[key] = min(position, self._left.get(key, position))
        record.leave(token)
        if self._wants_rows is None:
            self._wants_rows = partial(token._place.system.journal.room_in, token._place)
        self._ask_for_rows()

    def _note_rest(self, key: str | None, position: Position) -> None:
        self._rest[key] = min(position, self._rest.get(key, position))

    def _ask_for_rows(self) -> None:
        """Have the journal called when there is room for what is on disk."""
        ask = self._wants_rows
        if self._rest and not self._reads and ask is not None and not self._emptied:
            if self._senders is None:
                self._senders = deque()
            if ask not in self._senders:
                self._senders.append(ask)
                self._set_flags()

    def _remove(self, token: Token[Any]) -> bool:
        if _is_on_disk(token):
            token.record.come(token)  # type: ignore[union-attr]
            return True
        return super()._remove(token)


def _is_on_disk(token: Token[Any]) -> TypeGuard[DurableToken[Any]]:
    return isinstance(token, DurableToken) and token.record is not None and token.record.is_on_disk


def _may_leave(token: Token[Any]) -> bool:
    """Tell whether a queued token may be on disk only: what an attempt has left of it is in memory."""
    return isinstance(token, DurableToken) and token.started_at is None
