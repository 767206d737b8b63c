"""Counterparts of the runtime's errors in a child, under the same names; pickling exchanges them.

In the gate some of them have bases of pykka; here they have not, since a child does not import pykka.
"""

from __future__ import annotations

import concurrent.futures

__all__ = [
    "ActorDead",
    "BudgetExceeded",
    "DeadlockError",
    "IllegalTransition",
    "KeyReused",
    "LimitExceeded",
    "MailboxFull",
    "NameTaken",
    "NotDurable",
    "NotPicklable",
    "PlatformWarning",
    "StartFailed",
    "TokenExpired",
    "TokenFailed",
    "TokenGateError",
    "TokenInterrupt",
    "TokenRejected",
    "TokenTerminated",
    "UnknownActor",
    "WaitTimeout",
    "WorkerDied",
    "WorkerError",
    "WouldBlock",
]


class TokenGateError(Exception):
    """Base of all errors of the runtime."""


class ActorDead(TokenGateError):
    """The actor has stopped for good: the message was not handled."""


class MailboxFull(TokenGateError):
    """The mailbox of the receiver is full, and the sender cannot wait."""


class StartFailed(TokenGateError):
    """The actor's `__init__` or `on_start` raised."""


class NameTaken(TokenGateError):
    """Another live actor has this path."""


class UnknownActor(TokenGateError, LookupError):
    """No actor has this name or path, or several have."""


class IllegalTransition(TokenGateError):
    """A change of state that the life cycle of tokens does not have."""


class TokenTerminated(TokenGateError, concurrent.futures.CancelledError):
    """The token was ended before it could complete: cancelled, killed, or its actor was stopped."""


class TokenExpired(TokenGateError, TimeoutError):
    """A time of the token was over; `which`, of so many `seconds`, and whether its code was `left_running`."""

    def __init__(self, message: str, which: str = "", seconds: float = 0.0, left_running: bool = False) -> None:
        super().__init__(message)
        self.which = which
        self.seconds = seconds
        self.left_running = left_running


class TokenRejected(TokenGateError):
    """The token was not accepted, and never ran; the `reason` is a rule, `retry_after` is in seconds."""

    def __init__(self, message: str, reason: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


class KeyReused(TokenRejected):
    """A live token of the operation has the same key and other arguments."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "key")


class BudgetExceeded(TokenGateError, RuntimeError):
    """A cost is beyond the `limit` of the budget with this `name` and `key`; it is booked."""

    def __init__(
        self,
        message: str,
        name: str = "",
        key: str | int | None = None,
        limit: float = 0.0,
        spent: float = 0.0,
        reserved: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.name = name
        self.key = key
        self.limit = limit
        self.spent = spent
        self.reserved = reserved


class TokenFailed(TokenGateError):
    """The token's code raised a `BaseException` that is no `Exception`; it is the cause."""


class WorkerDied(TokenGateError):
    """The child process that ran the token has died, or none could be made for it.

    Attributes:
        pid: of the process; 0 when there was none, and the token has not begun.
        exit_code: as in `subprocess`: below 0, minus the number of the signal; None if it is not known.
    """

    def __init__(self, message: str, pid: int = 0, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid
        self.exit_code = exit_code


class WorkerError(TokenGateError):
    """Code in another process raised an error that cannot be rebuilt here; the message has its type and text.

    Attributes:
        type_name: qualified name of the error's class.
        expected: whether the class of its actor expects it.
    """

    def __init__(self, message: str, type_name: str = "", expected: bool = False) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.expected = expected


class NotPicklable(TokenGateError, TypeError):
    """An object that was to be sent to another process cannot be pickled; the message names it."""

    expected = False


class NotDurable(TokenGateError, TypeError):
    """A call or a result cannot be kept on disk; the message names what, and the remedy."""


class LimitExceeded(TokenGateError):
    """The token exceeded one of its limits, and its process was killed.

    Attributes:
        limit: name of the limit.
        value: the limit.
    """

    expected = False

    def __init__(self, message: str, limit: str = "", value: float = 0.0) -> None:
        super().__init__(message)
        self.limit = limit
        self.value = value


class WaitTimeout(TokenGateError, TimeoutError):
    """The outcome did not come in time; the token goes on, and may be waited for again."""


class WouldBlock(TokenGateError):
    """A blocking wait was tried where it would block a loop."""


class DeadlockError(TokenGateError):
    """A step was about to wait for something that waits for this step."""


class PlatformWarning(RuntimeWarning):
    """This platform does not support what was asked for."""


class TokenInterrupt(BaseException):
    """Raised by `checkpoint()` in a token that is to end; do not catch it."""
