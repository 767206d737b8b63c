"""What a journal keeps of one token of this process."""

from __future__ import annotations

import threading
from typing import Any, Final, Protocol

from actors import Reply, TokenState
from tokengate.durable._steps import Caller, Steps

_making_steps: Final = threading.Lock()


class Keeper(Caller, Protocol):
    """The journal that keeps a record."""

    def begin(self, record: Record, token: Any, /) -> bool:
        """Note that an attempt begins, on disk if it must not run twice; return whether that took a wait."""
        ...

    def leave(self, record: Record, token: Any, /) -> None:
        """Note that a token is on disk only."""
        ...

    def keep(self, record: Record, token: Any, /) -> None:
        """Keep a token that is on disk only in memory, too."""
        ...

    def come(self, record: Record, token: Any, /) -> None:
        """Note that it is in memory again."""
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
        is_on_disk: whether the token waits on disk only.
        follows: whether the token does not run, and ends as that does which has this uid.
        fresh: whether no run of it can have recorded a step.
        saved: the state that its attempt has saved for its actor, which is written with its end; None: nothing.
        slot: its slot in the page of the run, while its code may run; 0 without one.
    """

    __slots__ = (
        "_claim",
        "_steps",
        "begun",
        "follows",
        "fresh",
        "has_ended",
        "idempotent",
        "is_accepted",
        "is_on_disk",
        "is_recording",
        "journal",
        "number",
        "recoveries",
        "saved",
        "slot",
    )

    def __init__(self, journal: Keeper, number: int, *, idempotent: bool) -> None:
        self.journal = journal
        self.number = number
        self.idempotent = idempotent
        self.is_accepted = self.has_ended = self.is_recording = self.begun = self.follows = False
        self.fresh = False
        self._steps: Steps | None = None  # of the run that goes on
        self.is_on_disk = False
        self.recoveries = self.slot = 0
        self.saved: Any = None
        self._claim: list[None] = [None]  # the thread that takes it writes the end

    @property
    def uid(self) -> str:
        """Run and id, such as `17.4242`."""
        return text_of(self.number)

    def begin(self, token: Any) -> bool:
        """Note that an attempt begins; return whether that took a wait."""
        if self._steps is not None:
            self._steps, self.fresh = None, False
        self.saved = None
        return self.journal.begin(self, token)

    @property
    def steps(self) -> Steps:
        """The steps of the run that goes on."""
        if self._steps is None:
            with _making_steps:
                if self._steps is None:
                    self._steps = Steps(self.journal, self.number, fresh=self.fresh)
        return self._steps

    def find_step(self, path: str) -> tuple[int, Reply[bytes | None]]:
        """Return the count of a step that begins, and its value; for a child process."""
        return self.steps.find(path)

    def add_step(self, path: str, nth: int, value: bytes) -> Reply[None]:
        """Have the value of a step written."""
        return self.steps.add(path, nth, value)

    def leave(self, token: Any) -> None:
        """Leave the token on disk only."""
        self.is_on_disk = True
        self.journal.leave(self, token)

    def keep(self, token: Any) -> None:
        """Keep the token in memory, too, since something waits for its end."""
        self.journal.keep(self, token)

    def come(self, token: Any) -> None:
        """Note that the token is in memory again."""
        self.is_on_disk = False
        self.journal.come(self, token)

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
