"""A table of the states of a rule, by key, of bounded size, which forgets what is as good as new."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, Generic, Protocol, TypeVar

_MOST_KEYS: Final = 100_000
_LOOKS: Final = 2  # states that are looked at for each new key: more can be forgotten than come
_FEW: Final = 1_000  # states of which none is forgotten: keys that come again find theirs


class _State(Protocol):
    def is_new(self, now: float, /) -> bool: ...


S = TypeVar("S", bound=_State)


class States(Generic[S]):
    """The states of a rule, by key: None is that of a rule without keys. The caller has the lock.

    Where there is no room, new keys share one state, and stay there until it is as good as new: what they use is
    counted there. A state that is as good as new may be forgotten at any time: the caller keeps one beyond its lock
    only while something of it is in use (`waiting`, at least).

    Args:
        make: makes the state of a key; it is given None for the shared one.
        most: states at most; as many keys more are known to share one.

    Attributes:
        make: as it was given; may be replaced.
        no_key: tokens without the key, which the rule does not hold.
    """

    __slots__ = ("_most", "_shared", "_sharing", "_states", "make", "no_key")

    def __init__(self, make: Callable[[str | int | None], S], most: int = _MOST_KEYS) -> None:
        self.make, self._most = make, most
        # An OrderedDict finds its first key in constant time, even after removals; a dict does not.
        self._states: OrderedDict[str | int | None, S] = OrderedDict()
        self._shared: S | None = None
        self._sharing: set[str | int | None] = set()  # the keys that were given it
        self.no_key = 0

    def items(self) -> Iterator[tuple[str | int | None, S]]:
        """Iterate over keys and states; the key of the shared one is None."""
        yield from self._states.items()
        if self._shared is not None:
            yield None, self._shared

    def get(self, key: str | int | None, now: float) -> S:
        """Return the state of a key, which is made if there is none."""
        state = self._states.get(key)
        return self._add(key, now) if state is None else state

    def _add(self, key: str | int | None, now: float) -> S:
        few = len(self._states) < min(_FEW, self._most)
        for _ in range(0 if few else min(_LOOKS, len(self._states))):
            other, state = self._states.popitem(last=False)
            if not state.is_new(now):
                self._states[other] = state
        if self._shared is not None and self._shared.is_new(now):
            self._shared = None
            self._sharing.clear()
        known = self._shared is not None and (key in self._sharing or len(self._sharing) >= self._most)
        if not known and len(self._states) < self._most:
            self._states[key] = self.make(key)
            return self._states[key]
        if len(self._sharing) < self._most:
            self._sharing.add(key)
        if self._shared is None:
            self._shared = self.make(None)
        return self._shared
