"""Streams of gates, which equal readers share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol


class Reader(AsyncIterator[bytes], Protocol):
    """What one reader gets of a stream: its items, each as JSON of an `Event`.

    It ends as the stream does. Waiting for an item may be cancelled, as `asyncio.timeout` does: no item is lost by
    that, and the reader may go on.

    Raises:
        Problem: while an item is waited for: the gate has gone, or has ended the stream with an error.
    """

    def take_lost(self) -> int:
        """Return how many items were left out since this was last asked, here and by the gate, and count from 0."""
        ...
