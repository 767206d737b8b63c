"""Who of many has something to say: descriptors that are waited for at once, on one thread."""

from __future__ import annotations

import select
import selectors
from typing import Any, Final, Protocol

READ: Final = 1
WRITE: Final = 2


class Poller(Protocol):
    """Descriptors and what they are called, until they are forgotten."""

    can_mute: bool

    def add(self, descriptor: int, source: Any, events: int = READ) -> None:
        """Wait for a descriptor, or for other events of one that is waited for already."""

    def forget(self, descriptor: int) -> None:
        """Wait for a descriptor no more; it may be unknown."""

    def wait(self, seconds: float | None) -> list[tuple[Any, int]]:
        """Return who has something to say within some seconds: (source, events)."""
        ...

    def mute(self, descriptor: int) -> bool:
        """Let another thread wait for a descriptor, until it is added again; any thread may say so.

        Returns:
            False when nobody waits for it: then it stays so.
        """
        ...

    def close(self) -> None:
        """Let go of it."""


class _EpollPoller:
    """With epoll, which takes changes from one thread while another one waits."""

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
        said = self._epoll.poll(-1 if seconds is None else seconds)
        known = ((self._sources.get(descriptor), mask) for descriptor, mask in said)
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
    """With what the platform has instead."""

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
        raise NotImplementedError("what is waited for cannot be changed by another thread here")

    def close(self) -> None:
        self._selector.close()


def new_poller() -> Poller:
    """Return the best that the platform has."""
    return _EpollPoller() if hasattr(select, "epoll") else _SelectorPoller()
