"""Throttles: how fast, and how many at once, tokens of some kind may begin.

A mailbox asks when a drainer takes a token. A token that may not begin yet is set aside in its mailbox and waits in the
throttle, which lets it go there again in its turn; higher priorities first, as everywhere. Of two locks the mailbox's is
taken first: nothing here calls a mailbox with the lock held.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import trio

from actors._lanes import Lanes
from actors._lifecycle import TokenState
from actors._token import Token

if TYPE_CHECKING:
    from actors._mailbox import Mailbox
    from actors._trio_host import TrioHost

# Seconds that a rate may be behind, and make good: whoever lets tokens go is woken a little late each time.
_CATCH_UP = 0.1


class Throttle:
    """A limit for the tokens that `matches` says it is for.

    Args:
        name: what operators call it.
        matches: tells whether a token is meant; quick, and runs no code of users.
        rate: tokens that may begin in a second; None sets no limit.
        concurrency: tokens that may run at once; None sets no limit.
    """

    __slots__ = ("_next_at", "concurrency", "let", "matches", "name", "rate", "waiting")

    def __init__(
        self, name: str, matches: Callable[[Token[Any]], bool], rate: float | None, concurrency: int | None
    ) -> None:
        self.name = name
        self.matches = matches
        self.rate = rate
        self.concurrency = concurrency
        self.waiting = Lanes()
        self.let: set[int] = set()  # ids of tokens that it has let go, and that have not ended
        self._next_at = -math.inf  # when the next token may begin, by the rate

    def takes(self, now: float) -> bool:
        """Use up what one more token needs to begin; tell whether there is so much."""
        if self.concurrency is not None and len(self.let) >= self.concurrency:
            return False
        if self.rate is not None:
            if self._next_at > now:
                return False
            self._next_at = max(self._next_at, now - _CATCH_UP) + 1 / self.rate
        return True

    def give_back(self) -> None:
        """Undo `takes`, for a token that did not need it."""
        if self.rate is not None:
            self._next_at -= 1 / self.rate

    def due_at(self) -> float:
        """Return when the next one that waits may begin, as far as the rate is concerned; `inf` if that is not it."""
        full = self.concurrency is not None and len(self.let) >= self.concurrency
        return self._next_at if self.rate is not None and self.waiting and not full else math.inf


class Throttles:
    """All throttles of a system.

    Args:
        host: the loop on which tokens are let go that wait for their time.
        clock: the system's.
    """

    def __init__(self, host: TrioHost, clock: Callable[[], float]) -> None:
        self._host = host
        self._clock = clock
        self._lock = threading.Lock()
        self._all: tuple[Throttle, ...] = ()
        self._sleep: trio.CancelScope | None = None  # that ends when the next token is due; touched on the loop only

    def __bool__(self) -> bool:
        return bool(self._all)

    def all(self) -> tuple[Throttle, ...]:
        """Return those that hold, in the order in which they were added."""
        return self._all

    def add(self, throttle: Throttle, running: Iterable[Token[Any]]) -> None:
        """Let a throttle hold from now on.

        Args:
            throttle: it.
            running: tokens that have begun, of which those that match count for its concurrency.
        """
        began = [token for token in running if throttle.matches(token)]
        with self._lock:
            throttle.let.update(token.id for token in began)
            self._all = (*self._all, throttle)
        for token in began:
            token.add_done_callback(self._ended)

    def remove(self, throttle: Throttle) -> None:
        """End a throttle, and let go all that waits in it."""
        with self._lock:
            self._all = tuple(one for one in self._all if one is not throttle)
            waiting = []
            while (token := throttle.waiting.pop()) is not None:
                waiting.append(token)
        _let_begin(waiting)

    def admit(self, token: Token[Any]) -> bool:
        """Tell whether a token may begin; else it waits in the throttle that says no. Its mailbox has its lock."""
        let = False
        kept_by: Throttle | None = None
        with self._lock:
            now = self._clock()
            for throttle in self._all:
                if token.id in throttle.let or not throttle.matches(token):
                    continue
                if throttle.waiting or not throttle.takes(now):
                    throttle.waiting.append(token)
                    kept_by = throttle
                    break
                throttle.let.add(token.id)
                let = True
        if let:
            token.add_done_callback(self._ended)
        if kept_by is not None and kept_by.rate is not None:
            self._host.call_soon(self._look)
        return kept_by is None

    def renice(self, token: Token[Any], priority: int) -> bool:
        """Give a token that waits here another priority; tell whether one does."""
        with self._lock:
            for throttle in self._all:
                if throttle.waiting.remove(token):
                    token.priority = priority
                    throttle.waiting.append(token)
                    return True
        return False

    def _ended(self, token: Token[Any]) -> None:
        with self._lock:
            for throttle in self._all:
                throttle.let.discard(token.id)
        self._let_go()

    def _let_go(self) -> None:
        """Let go as many of those that wait as may begin."""
        let: list[Token[Any]] = []
        with self._lock:
            now = self._clock()
            for throttle in self._all:
                while throttle.waiting and throttle.takes(now):
                    token = throttle.waiting.pop()
                    if token is None or token._end is not None or token._phase is not TokenState.QUEUED:
                        throttle.give_back()  # it has ended, or is paused and will ask again
                        continue
                    throttle.let.add(token.id)
                    let.append(token)
        for token in let:
            token.add_done_callback(self._ended)
        for token in _let_begin(let):  # somebody has withdrawn it in between: it needs nothing any more
            with self._lock:
                for throttle in self._all:
                    throttle.let.discard(token.id)
        if any(throttle.due_at() < math.inf for throttle in self._all):
            self._host.call_soon(self._look)

    # On the loop

    def _look(self) -> None:
        if self._sleep is None:
            self._sleep = trio.CancelScope()
            self._host.start_task(self._serve, "throttles")
        else:
            self._sleep.deadline = self._wake_at()

    async def _serve(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._wake_at()) as self._sleep:
                await trio.sleep_forever()
            self._let_go()

    def _wake_at(self) -> float:
        """Return when the next token is due, in the loop's time."""
        with self._lock:
            due = min((throttle.due_at() for throttle in self._all), default=math.inf)
        return trio.current_time() + max(0.0, due - self._clock())


def _let_begin(tokens: list[Token[Any]]) -> list[Token[Any]]:
    """Have tokens queued again in their mailboxes; return those that were not kept back there."""
    by_mailbox: dict[Mailbox, list[Token[Any]]] = {}
    for token in tokens:
        by_mailbox.setdefault(token._place.mailbox, []).append(token)
    lost: list[Token[Any]] = []
    for mailbox, those in by_mailbox.items():
        let = set(mailbox.let_begin(those))
        lost.extend(token for token in those if token not in let)
    return lost
