"""The runtime's errors as user code in a child knows them: of the same names, and exchanged when they cross.

pykka's own errors, which some of them are in the gate, are no bases of theirs here, since no child imports pykka.
"""

from __future__ import annotations

import concurrent.futures

__all__ = [
    "ActorDead",
    "DeadlockError",
    "IllegalTransition",
    "LimitExceeded",
    "MailboxFull",
    "NameTaken",
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
    """The receiver is behind, and the sender may not wait."""


class StartFailed(TokenGateError):
    """The actor's `__init__` or `on_start` raised."""


class NameTaken(TokenGateError):
    """Another live actor has this path."""


class UnknownActor(TokenGateError, LookupError):
    """No actor has this name or path, or several have."""


class IllegalTransition(TokenGateError):
    """A token was asked to make a change of state that its life cycle does not have."""


class TokenTerminated(TokenGateError, concurrent.futures.CancelledError):
    """The token was ended by someone else before it could complete."""


class TokenExpired(TokenGateError, TimeoutError):
    """The token missed its deadline."""


class TokenRejected(TokenGateError):
    """The token was refused at the door and never ran."""


class TokenFailed(TokenGateError):
    """The token's code raised something that is no `Exception`; it is the cause."""


class WorkerDied(TokenGateError):
    """The child process that ran the token has died, or none could be made for it.

    Attributes:
        pid: of the process; 0 when there was none, and the token has not begun.
        exit_code: as `subprocess` has it: below 0, minus the number of the signal; None where nobody could tell.
    """

    def __init__(self, message: str, pid: int = 0, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid
        self.exit_code = exit_code


class WorkerError(TokenGateError):
    """Code in another process raised an error that cannot be rebuilt here; the message has its type and text.

    Attributes:
        type_name: qualified name of the error's class.
        expected: whether it is one of those that its actor's class expects.
    """

    def __init__(self, message: str, type_name: str = "", expected: bool = False) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.expected = expected


class NotPicklable(TokenGateError, TypeError):
    """Something that was to go to another process cannot be pickled; the message names it."""

    expected = False


class LimitExceeded(TokenGateError):
    """The token used more than it may, and its process was killed.

    Attributes:
        limit: name of the limit.
        value: what it was set to.
    """

    expected = False

    def __init__(self, message: str, limit: str = "", value: float = 0.0) -> None:
        super().__init__(message)
        self.limit = limit
        self.value = value


class WaitTimeout(TokenGateError, TimeoutError):
    """The outcome was not there in time; the token goes on, and may be waited for again."""


class WouldBlock(TokenGateError):
    """A blocking wait was tried where it would freeze a loop."""


class DeadlockError(TokenGateError):
    """A step was about to wait for something that waits for this step."""


class PlatformWarning(RuntimeWarning):
    """Something that was asked for is not there on this system."""


class TokenInterrupt(BaseException):
    """Raised by `checkpoint()` in a token that someone wants ended; let it pass."""
