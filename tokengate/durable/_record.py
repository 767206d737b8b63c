"""What a journal keeps of one token of this process."""

from __future__ import annotations

import threading
from typing import Any, Final, Protocol, TypeAlias

from actors import Reply, TokenState
from tokengate.control._uids import text_of
from tokengate.durable._codec import encode_result
from tokengate.durable._steps import Caller, Steps

_making_steps: Final = threading.Lock()

Ending: TypeAlias = tuple[TokenState, Any, BaseException | None, bytes]
"""The end of a token: state, result, error, and the result as JSON."""


class Keeper(Caller, Protocol):
    """The journal that keeps records: it does what their methods of these names say."""

    def beginning(self, record: Record, token: Any, /) -> Reply[None] | None: ...

    def puts_off(self, record: Record, token: Any, error: BaseException, /) -> bool: ...

    def try_again(self, record: Record, token: Any, at: float, /) -> bool: ...

    def leave(self, record: Record, token: Any, /) -> None: ...

    def keep(self, record: Record, token: Any, /) -> None: ...

    def come(self, record: Record, token: Any, /) -> None: ...

    def begin(self, record: Record, token: Any, /) -> None: ...

    def undo_beginning(self, record: Record, attempt: int, /) -> None: ...

    def changed(self, record: Record, token: Any, /) -> None: ...

    def end(self, record: Record, token: Any, /) -> None: ...

    def take_back(self, record: Record, /) -> bool: ...


class Record:
    """The `record` of a durable token.

    Args:
        journal: that keeps it.
        number: its uid as a number: run << 40 | id.
        idempotent: whether it may run twice.

    Attributes:
        is_accepted: whether it is on disk.
        due: the wall time before which it is not to be in its mailbox; None: now.
        refusal: why it is not; None if it is, or that is not known yet.
        acceptance: set when that is known; None afterwards.
        recoveries: deaths of processes in which it had begun.
        begun: the attempt that has begun, or of which it is on disk that it may have; 0: none.
        pending: set when the beginning is on disk that is being written.
        is_on_disk: whether the token waits on disk only.
        follows: whether the token does not run, and ends as that does which has this uid.
        found: what is to be known of that one, until it is; None: nothing, or it runs itself.
        fresh: whether no run of it can have recorded a step.
        saved: the state that its attempt has saved for its actor, which is written with its end; None: nothing.
    """

    __slots__ = (
        "_endings",
        "_steps",
        "acceptance",
        "begun",
        "due",
        "follows",
        "found",
        "fresh",
        "idempotent",
        "is_accepted",
        "is_on_disk",
        "journal",
        "number",
        "pending",
        "recoveries",
        "refusal",
        "saved",
        "write",
    )

    def __init__(self, journal: Keeper, number: int, *, idempotent: bool) -> None:
        self.journal = journal
        self.number = number
        self.idempotent = idempotent
        self.is_accepted = self.is_on_disk = self.follows = self.fresh = False
        self.due: float | None = None
        self.refusal: BaseException | None = None
        self.acceptance: Reply[None] | None = None
        self.write: Any = None  # that of the acceptance
        self.pending: Reply[None] | None = None
        self.begun = self.recoveries = 0
        self.found: Any = None
        self.saved: Any = None
        self._steps: Steps | None = None  # of the run that goes on
        self._endings: list[Ending] = []  # the first one is its end

    @property
    def uid(self) -> str:
        """Run and id, such as `17.4242`."""
        return text_of(self.number)

    @property
    def ending(self) -> Ending | None:
        """Its end, as it is written or was."""
        return self._endings[0] if self._endings else None

    @property
    def is_recording(self) -> bool:
        """Whether its end is on its way to the disk, or there."""
        return bool(self._endings)

    def take_back(self) -> bool:
        """Take it out of what is to be written; return False if that is too late."""
        return self.journal.take_back(self)

    def beginning(self, token: Any) -> Reply[None] | None:
        """Have the beginning written, if it must be on disk first; return what is set then."""
        return self.journal.beginning(self, token)

    def begin(self, token: Any) -> None:
        """Note that the code begins now."""
        if self._steps is not None:
            self._steps, self.fresh = None, False
        self.saved = None
        self.journal.begin(self, token)

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

    def puts_off(self, token: Any, error: BaseException) -> bool:
        """Put the token off if an error of its code asks for that; return whether it does."""
        return self.journal.puts_off(self, token, error)

    def try_again(self, token: Any, at: float) -> bool:
        """Write that a further attempt follows, at a time of the clock; return whether the token waits on disk."""
        return self.journal.try_again(self, token, at)

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

    def undo_beginning(self, attempt: int) -> None:
        """Have it written that an attempt has not begun after all, or is over and another one follows."""
        if self.begun == attempt:
            self.begun = 0
            self.journal.undo_beginning(self, attempt)

    def changed(self, token: Any) -> None:
        """Note that the priority, the tags or the place of the token have changed."""
        self.journal.changed(self, token)

    def encode(self, token: Any, value: Any) -> bytes:
        """Return a result as JSON; raises `NotDurable`."""
        return encode_result(token.operation, value)

    def claim(self, token: Any, ending: Ending) -> bool:
        """Make this the end of the token, unless it has another one; return whether it is."""
        if self._endings:
            return False
        self._endings.append(ending)
        if self._endings[0] is not ending:
            return False
        token._context = None  # what has taken it finds that it has ended
        return True

    def end(self, token: Any, state: TokenState, value: Any, error: BaseException | None, result: bytes) -> bool:
        """Have the end written, once."""
        if not self.claim(token, (state, value, error, result)):
            return False
        self.journal.end(self, token)
        return True

    def complete_end(self, token: Any) -> None:
        """Have the end written again: what did so was interrupted."""
        if self._endings:
            self.journal.end(self, token)
