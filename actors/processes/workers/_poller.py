"""A poller: one thread waits for many file descriptors at once, with epoll where the platform has it."""

from __future__ import annotations

import select
import selectors
from typing import Any, Final, Protocol

READ: Final = 1
WRITE: Final = 2


class Poller(Protocol):
    """Waits for file descriptors, each of which has a source: the object that it belongs to."""

    can_mute: bool  # whether `mute` works

    def add(self, descriptor: int, source: Any, events: int = READ) -> None:
        """Wait for events of a descriptor; of one that was added before, for these events only."""

    def forget(self, descriptor: int) -> None:
        """Wait for a descriptor no more; one that was never added is ignored."""

    def wait(self, seconds: float | None) -> list[tuple[Any, int]]:
        """Wait for events, some seconds at most; None waits without limit. Return (source, events) of each."""
        ...

    def mute(self, descriptor: int) -> bool:
        """Report no events of a descriptor until it is added again; any thread may call this.

        Returns:
            False when the descriptor is not waited for.
        """
        ...

    def close(self) -> None:
        """Close it."""


class _EpollPoller:
    """With epoll, which one thread may change while another one waits."""

    can_mute = True

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sources: dict[int, Any] = {}

    def add(self, descriptor: int, source: Any, events: int = READ) -> None:
        mask = (select.EPOLLIN if events & READ else 0) | (select.EPOLLOUT if events & WRITE else 0)
        self._sources[descriptor] = source
        try:
            self._epoll.modify(descriptor, mask)
        except FileNotFoundError:
            self._epoll.register(descriptor, mask)

    def forget(self, descriptor: int) -> None:
        if self._sources.pop(descriptor, None) is not None:
            try:
                self._epoll.unregister(descriptor)
            except FileNotFoundError:
                pass  # it was closed before

    def wait(self, seconds: float | None) -> list[tuple[Any, int]]:
        ready = self._epoll.poll(-1 if seconds is None else seconds)
        known = ((self._sources.get(descriptor), mask) for descriptor, mask in ready)
        readable = ~select.EPOLLOUT
        return [
            (source, (READ if mask & readable else 0) | (WRITE if mask & select.EPOLLOUT else 0))
            for source, mask in known
            if source is not None
        ]

    def mute(self, descriptor: int) -> bool:
        try:
            self._epoll.modify(descriptor, 0)
        except OSError:
            return False
        return True

    def close(self) -> None:
        self._epoll.close()


class _SelectorPoller:
    """With `selectors`, for platforms without epoll."""

    can_mute = False

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def add(self, descriptor: int, source: Any, events: int = READ) -> None:
        try:
            self._selector.modify(descriptor, events, source)
        except KeyError:
            self._selector.register(descriptor, events, source)

    def forget(self, descriptor: int) -> None:
        try:
            self._selector.unregister(descriptor)
        except (KeyError, ValueError):
            pass  # it was unknown

    def wait(self, seconds: float | None) -> list[tuple[Any, int]]:
        return [(key.data, events) for key, events in self._selector.select(seconds)]

    def mute(self, descriptor: int) -> bool:
        raise NotImplementedError("only epoll can be changed by another thread")

    def close(self) -> None:
        self._selector.close()


def new_poller() -> Poller:
    """Return the best poller of the platform."""
    return _EpollPoller() if hasattr(select, "epoll") else _SelectorPoller()
