"""Answers that equal askers share."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final

import attrs

_EACH: Final = 1.0  # seconds at least from the making of an answer to the next
_PART: Final = 20  # of the time, one in so many may be spent on making it
_UNASKED: Final = 5.0  # seconds that an answer is kept and not asked for
_ROOM: Final = 16 * 2**20  # bytes of all answers


@attrs.define
class _Snapshot:
    """An answer, or the making of it."""

    making: asyncio.Task[bytes]
    began: float
    asked: float
    due: float = math.inf  # when it may be made anew
    askers: int = 0


class Snapshots:
    """Answers by their keys: each is made at most once a second, and during a twentieth of the time at most."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, _Snapshot] = OrderedDict()  # the one that was asked for last is the last
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    async def get(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, bytes]]) -> bytes:
        """Return an answer; callers that ask at once wait for one making, and share its error, which is not kept.

        Args:
            key: equal for callers that may share it.
            make: makes it; not called if there is one that is new enough.
        """
        now = asyncio.get_running_loop().time()
        found = self._known.get(key)
        if found is None or (found.making.done() and now >= found.due):
            self._forget(key)
            found = self._known[key] = _Snapshot(asyncio.create_task(make()), now, now)
            found.making.add_done_callback(lambda _: self._made(key, found))
        found.asked = now
        self._known.move_to_end(key)
        found.askers += 1
        try:
            return await asyncio.shield(found.making)
        finally:
            found.askers -= 1
            if not found.askers and not found.making.done():
                found.making.cancel()
                self._forget(key, found)

    async def close(self) -> None:
        """Forget all."""
        makings = [one.making for one in self._known.values()]
        for making in makings:
            making.cancel()
        await asyncio.gather(*makings, return_exceptions=True)
        for key in list(self._known):
            self._forget(key)
        if self._timer is not None:
            self._timer.cancel()

    def _made(self, key: Hashable, made: _Snapshot) -> None:
        if made.making.cancelled() or made.making.exception() is not None:
            self._forget(key, made)
        elif self._known.get(key) is made:
            took = asyncio.get_running_loop().time() - made.began
            made.due = made.began + max(_EACH, _PART * took)
            self._bytes += len(made.making.result())
            self._tidy()

    def _forget(self, key: Hashable, only: _Snapshot | None = None) -> None:
        found = self._known.get(key)
        if found is not None and only in (None, found):
            del self._known[key]
            if found.due < math.inf:
                self._bytes -= len(found.making.result())

    def _tidy(self) -> None:
        """Forget what was not asked for lately, and what is too much; come back for the rest."""
        loop, left = asyncio.get_running_loop(), math.inf
        for key, one in list(self._known.items()):
            if one.due < math.inf and (one.asked + _UNASKED <= loop.time() or self._bytes > _ROOM):
                self._forget(key, one)
            elif one.due < math.inf:
                left = one.asked + _UNASKED
                break
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if left == math.inf else loop.call_at(left, self._tidy)
