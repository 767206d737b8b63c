"""Why a child has ended: its latest ends, as plain values, so that they keep no token and no error alive."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Final

import attrs

from actors import ExitReason

_KEPT: Final = 8  # ends of a child
_LONGEST: Final = 500  # characters of a reason


@attrs.frozen
class ChildEnd:
    """An end of a child's instance, or an attempt to start it again that failed.

    Attributes:
        at: when, in seconds since the epoch.
        reason: the `ExitReason` as text, up to 500 characters of it.
        error: name of the error's class; empty if it was no error.
        token: (id, operation) of the token that crashed the instance, or with which it was killed; None without one.
        restarted: whether another instance has started since.
        delay: seconds for which its supervisor has put off the restart; None if it has scheduled none.
    """

    at: float
    reason: str
    error: str = ""
    token: tuple[int, str] | None = None
    restarted: bool = False
    delay: float | None = None


class Ends:
    """The latest eight ends of a child; made when its first instance ends.

    Attributes:
        was_at: (id, operation) of the token with which an instance ends just now.
    """

    __slots__ = ("_kept", "was_at")

    def __init__(self) -> None:
        self.was_at: tuple[int, str] | None = None
        self._kept: deque[ChildEnd] = deque(maxlen=_KEPT)

    def add(self, reason: ExitReason) -> None:
        """Note an end."""
        text = str(reason)
        if len(text) > _LONGEST:
            text = f"{text[: _LONGEST - 3]}..."
        error = "" if reason.error is None else _class_name(type(reason.error))
        self._kept.append(ChildEnd(time.time(), text, error, self.was_at))
        self.was_at = None

    def change_latest(self, **changes: Any) -> None:
        """Note what has followed from the latest end, if there is one."""
        if self._kept:
            self._kept.append(attrs.evolve(self._kept.pop(), **changes))

    def listed(self) -> tuple[ChildEnd, ...]:
        """Return them, the oldest first."""
        return tuple(self._kept)


def _class_name(cls: type) -> str:
    """Return the name of a class as `type` stores it: a metaclass may have one of its own, which is user code."""
    return str.__str__(type.__dict__["__qualname__"].__get__(cls))
