"""What a journal keeps of one token of this process."""

from __future__ import annotations

from typing import Any, Protocol

from actors import TokenState


class Keeper(Protocol):
    """The journal that keeps a record."""

    def begin(self, record: Record, token: Any, /) -> bool:
        """Note that an attempt begins, on disk if it must not run twice; return whether that took a wait."""
        ...

    def end(self, record: Record, token: Any, state: TokenState, value: Any, error: BaseException | None, /) -> None:
        """Have the end written; then the token ends."""
        ...


class Record:
    """The `record` of a durable token.

    Args:
        journal: that keeps it.
        number: its uid as a number: run << 40 | id.
        idempotent: whether it may run twice.

    Attributes:
        is_accepted: whether it is on disk.
        has_ended: whether its end is on disk, or is left to the next opening.
        is_recording: whether its end is on its way to the disk.
        recoveries: deaths of processes in which it had begun.
        begun: whether it is on disk that it may have begun.
        follows: whether the token does not run, and ends as that does which has this uid.
    """

    __slots__ = (
        "_claim",
        "begun",
        "follows",
        "has_ended",
        "idempotent",
        "is_accepted",
        "is_recording",
        "journal",
        "number",
        "recoveries",
    )

    def __init__(self, journal: Keeper, number: int, *, idempotent: bool) -> None:
        self.journal = journal
        self.number = number
        self.idempotent = idempotent
        self.is_accepted = self.has_ended = self.is_recording = self.begun = self.follows = False
        self.recoveries = 0
        self._claim: list[None] = [None]  # the thread that takes it writes the end

    @property
    def uid(self) -> str:
        """Run and id, such as `17.4242`."""
        return text_of(self.number)

    def begin(self, token: Any) -> bool:
        """Note that an attempt begins; return whether that took a wait."""
        return self.journal.begin(self, token)

    def end(self, token: Any, state: TokenState, value: Any, error: BaseException | None) -> bool:
        """Have the end written, once."""
        try:
            self._claim.pop()
        except IndexError:
            return False
        self.is_recording = True
        self.journal.end(self, token, state, value, error)
        return True


def text_of(number: int) -> str:
    """Return a uid as text."""
    return f"{number >> 40}.{number & (1 << 40) - 1}"


def number_of(uid: str) -> int:
    """Return the number of a uid.

    Raises:
        ValueError: it is none.
    """
    run, _, id = uid.partition(".")
    if not (run.isdecimal() and id.isdecimal() and int(run) < 1 << 23 and int(id) < 1 << 40):
        raise ValueError(f"uid is {uid!r}; it must be a run and an id, such as '17.4242'")
    return int(run) << 40 | int(id)
