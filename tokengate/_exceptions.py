"""Every error that the gate raises on purpose."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from actors import TokenGateError


class NeedsGate(TokenGateError, RuntimeError):
    """No gate is open, and this needs one: use `with Gate():` around it."""


class AmbiguousGate(TokenGateError, RuntimeError):
    """Several gates are open, and the call is within none of them: call from within `with gate:` or from a token."""


class GateState(TokenGateError, RuntimeError):
    """The gate is not open yet, was opened before, or has closed."""


class PatchedProgram(TokenGateError, RuntimeError):
    """gevent or eventlet has replaced the threads and sockets of this program: start it without them."""


class BadOperation(TokenGateError, TypeError):
    """`@token` was put on something that it cannot run, or with options that contradict the function."""


class UnknownPlugin(TokenGateError, LookupError):
    """The gate has no plugin of this class: give it one with `Gate(plugins=[...])`."""


class BadPolicy(TokenGateError, ValueError):
    """A value of a policy cannot work; the message names it and the remedy.

    Attributes:
        place: what has the field: the class, the operation, or the file and line.
        field: such as `attempts`, or `policy[0].retry.attempts`.
        value: what was given.
        remedy: what to write instead.
    """

    def __init__(self, place: str, field: str, value: object, remedy: str) -> None:
        super().__init__(f"{field} of {place} is {_short(value)}; {remedy}")
        self.place = place
        self.field = field
        self.value = value
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.place, self.field, self.value, self.remedy)


@attrs.frozen
class Problem:
    """An error in a file.

    Attributes:
        line: where it is, from 1; 0: the file cannot be read.
        field: such as `policy[0].retry.attempts`; empty if the file cannot be parsed.
        value: what is there; None: nothing.
        remedy: what to write instead.
    """

    line: int
    field: str
    value: object
    remedy: str

    def __str__(self) -> str:
        found = "missing" if self.value is None else _short(self.value)
        return f"{self.field} is {found}; {self.remedy}" if self.field else self.remedy


class BadConfig(BadPolicy):
    """The file cannot be used, and nothing has changed; the message has each of its errors, with the line.

    Attributes:
        path: of the file.
        problems: its errors, in the order of the lines; the attributes of `BadPolicy` are those of the first.
    """

    def __init__(self, path: str | os.PathLike[str], problems: tuple[Problem, ...]) -> None:
        self.path = os.fspath(path)
        self.problems = problems
        first = problems[0]
        super().__init__(self._where(first), first.field, first.value, first.remedy)
        self.args = ("\n".join(f"{self._where(one)}: {one}" for one in problems),)

    def _where(self, problem: Problem) -> str:
        return f"{self.path}:{problem.line}" if problem.line else self.path

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.problems)


class BadStateDirectory(TokenGateError, OSError):
    """A directory in which a gate is to keep files cannot be used, so the gate does not open: take the remedy.

    Attributes:
        path: of the directory.
        reason: why it cannot be used.
        remedy: what to do.
    """

    def __init__(self, path: str, reason: str, remedy: str) -> None:
        super().__init__(f"{path} cannot be used: {reason}; {remedy}")
        self.path = path
        self.reason = reason
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.reason, self.remedy)


class JournalFailed(TokenGateError, RuntimeError):
    """The journal cannot write any more, so the gate accepts no durable calls and is to be closed.

    A call that waited for it may have been accepted: submit it again, with the same key.
    """


class JournalFull(TokenGateError, RuntimeError):
    """The disk of the journal is full, and the call was not accepted: make space."""


class JournalInUse(TokenGateError, RuntimeError):
    """Another gate has the directory of the journal: close it, or name another directory.

    Attributes:
        path: of the directory.
        gate: name of that gate; empty while it only begins to open.
        pid: its process.
        since: when it was opened, in seconds since the epoch.
    """

    def __init__(self, path: str, gate: str, pid: int, since: float) -> None:
        when = datetime.fromtimestamp(since, UTC)
        owner = f"gate '{gate}' of process {pid}, since {when:%Y-%m-%d %H:%M:%S} UTC" if gate else "another gate"
        super().__init__(f"{path} is in use by {owner}; close it, or name another directory")
        self.path = path
        self.gate = gate
        self.pid = pid
        self.since = since

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.gate, self.pid, self.since)


class JournalDamaged(TokenGateError, RuntimeError):
    """The files of the journal are damaged or incomplete, and were left as they are: salvage what is whole.

    Attributes:
        missing: how many of its last commits are not there.
    """

    def __init__(self, message: str, missing: int = 0) -> None:
        super().__init__(message)
        self.missing = missing

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.args[0], self.missing)


class NewerFormat(TokenGateError, RuntimeError):
    """The files of the journal were written by a later version: use that one."""


class LeftInJournal(TokenGateError, RuntimeError):
    """The token is on disk, and goes on at the next opening of its journal; this object of it ends here.

    Attributes:
        uid: of the token; `journal.attach(uid)` returns it there.
    """

    def __init__(self, uid: str) -> None:
        super().__init__(f"token {uid} is left in the journal, and goes on when that is opened again")
        self.uid = uid

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.uid,)


class NotRecovered(TokenGateError, RuntimeError):
    """The token does not run again after the death of the process: it is a dead letter, which operators may retry.

    Attributes:
        reason: `may_have_run`, `poison` or `corrupt`.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.args[0], self.reason)


class BatchMismatch(TokenGateError, ValueError):
    """The function of a batch has not returned one result for each of its tokens: all of these have failed.

    Attributes:
        given: how many it was given.
        returned: how many it has returned; None: no series of values.
    """

    def __init__(self, message: str, given: int = 0, returned: int | None = None) -> None:
        super().__init__(f"{message}; return a list with one result, or one exception object, for each")
        self.given = given
        self.returned = returned

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.args[0].rpartition("; ")[0], self.given, self.returned)


class CompensationFailed(TokenGateError, ExceptionGroup[Exception]):
    """A rollback could not undo everything: the transaction is stuck until an operator repeats or skips what is left.

    Its exceptions are the error of the block, if there was one, and those of the compensations.
    """

    def derive(self, excs: Sequence[Any], /) -> Any:  # narrower than its overloads in the base
        """Return a group of some of the exceptions."""
        return CompensationFailed(self.message, excs)


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # of a foreign class, or of an int with too many digits
        text = object.__repr__(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
