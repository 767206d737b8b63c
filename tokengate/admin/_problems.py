"""Errors as HTTP has them: problem details, RFC 9457."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tokengate.control._exceptions import BadRequest

_NAMES: Final[Mapping[int, str]] = {
    403: "Refused",
    404: "NoSuchChild UnknownActor UnknownPlugin UnknownProposal UnknownToken UnknownVerb",
    409: """AlreadyPresent AlreadyRestarting AlreadyStarted AmbiguousGate AmbiguousName BudgetExceeded Busy ChildError
        ChildIsRunning CompensationFailed ControlError DeadlockError GateState IllegalTransition JournalDamaged
        JournalInUse KeyReused LeftInJournal LimitExceeded MailboxFull NameTaken NeedsGate NewerFormat NotRecovered
        NotSteerable PatchedProgram ProposalMade StartFailed TokenExpired TokenFailed TokenGateError TokenRejected
        TokenTerminated TooManyChildren WorkerDied WorkerError WouldBlock""",
    422: """BadArguments BadConfig BadOperation BadPolicy BadRequest BadSelector BadSpec BatchMismatch NotDurable
        NotPicklable""",
    500: "InternalError RemoteError",
    503: "ActorDead AuditUnavailable BadStateDirectory JournalFailed JournalFull NoAnswer Unreachable WaitTimeout",
}

STATUS: Final[Mapping[str, int]] = {name: status for status, names in _NAMES.items() for name in names.split()}
"""{name of an error of a gate: status}; those of rooms that are not ours are refusals, 409."""


class Problem(Exception):
    """An answer that is an error.

    Args:
        status: of HTTP.
        name: of the error, for `type`: `urn:tokengate:error:NAME`.
        detail: a line for a person: what, with which value.
        remedy: what to do about it; may be empty.
        headers: further headers.
    """

    def __init__(
        self, status: int, name: str, detail: str, remedy: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.name = name
        self.detail = detail
        self.remedy = remedy
        self.headers = dict(headers or {})

    @property
    def text(self) -> str:
        """Detail and remedy in a line."""
        return f"{self.detail}; {self.remedy}" if self.remedy else self.detail


def problem_of(name: str, text: str) -> Problem:
    """Return the problem for an error of a gate: the text up to the last `; ` is the detail, the rest the remedy."""
    detail, _, remedy = text.rpartition("; ")
    return Problem(STATUS.get(name, 409), name, detail or text, remedy if detail else "")


def as_problem(error: Problem | BadRequest) -> Problem:
    """Return an error of a gate, or of a message that cannot be sent to it, as a problem."""
    return error if isinstance(error, Problem) else problem_of("BadRequest", str(error))


def read_as(kind: Any, said: bytes) -> Any:
    """Return an answer of a gate as a type.

    Raises:
        Problem: it is none of these (503): it comes from another version, or from what is no gate.
    """
    try:
        return msgspec.json.decode(said, type=kind)
    except msgspec.DecodeError:
        text = "the gate answers with what this daemon cannot read"
        raise Problem(503, "BadAnswer", text, "use one version of TokenGate for both") from None
