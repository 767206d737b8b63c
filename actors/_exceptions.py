"""Every error that the actors floor raises on purpose."""

from __future__ import annotations

import concurrent.futures

import pykka

from actors import _in_child


class TokenGateError(Exception):
    """Base of all errors of the runtime: one `except` tells them from the errors of your code."""


class ActorDead(TokenGateError, pykka.ActorDeadError):
    """The actor has stopped for good (or its gate has closed): the message was not handled."""


class MailboxFull(TokenGateError):
    """The receiver is behind and the sender may not wait here: send less, or await the send."""


class StartFailed(TokenGateError):
    """The actor's `__init__` or `on_start` raised; the cause is chained and nothing was left registered."""


class NameTaken(TokenGateError):
    """Another live actor has this path: choose another name, or find the one that is there."""


class UnknownActor(TokenGateError, LookupError):
    """No actor has this name or path, or several have: use the full path."""


class IllegalTransition(TokenGateError):
    """A token was asked to make a change of state that its life cycle does not have: a bug of the caller."""


class TokenTerminated(TokenGateError, concurrent.futures.CancelledError):
    """The token was ended from outside before it could complete; the message says by what."""


class TokenExpired(TokenGateError, TimeoutError):
    """A time of the token was over; the message says which.

    Attributes:
        which: `queue_timeout`, `timeout`, `deadline`, or `inherited`: the deadline of the code that sent it.
        seconds: how long the token had.
        left_running: whether its code could not be ended, and runs on.
    """

    def __init__(self, message: str, which: str = "", seconds: float = 0.0, left_running: bool = False) -> None:
        super().__init__(message)
        self.which = which
        self.seconds = seconds
        self.left_running = left_running


class TokenRejected(TokenGateError):
    """The token was refused and none of its code ran.

    Attributes:
        reason: what refused it: `deadline`, `key`, `breaker`, `throttle`, `overload`, or a `transaction` that was
            rolled back; empty: something else, such as a full mailbox.
        retry_after: seconds after which a new call may be accepted; None: unknown.
    """

    def __init__(self, message: str, reason: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


class KeyReused(TokenRejected):
    """A live token of the operation has the same key and other arguments: give each piece of work its own key."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "key")


class BudgetExceeded(TokenGateError, RuntimeError):
    """A cost is beyond the limit of a budget. It is booked: stop what costs more, or raise or reset the budget.

    Attributes:
        name: of the budget.
        key: the key that it is counted for; None if the budget has no keys.
        limit: what may be spent in a period.
        spent: what was spent, this cost included.
        reserved: what attempts that run have reserved.
    """

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
    """The token's code raised something that is no `Exception` (`sys.exit()`, say); it is the cause."""


class WorkerDied(TokenGateError):
    """The child process that ran the token has died, or none could be made for it; the message says how, or why.

    Attributes:
        pid: of the process; 0 when there was none, and the token has not begun.
        exit_code: as `subprocess` has it: below 0, minus the number of the signal; None where it is unknown.
    """

    def __init__(self, message: str, pid: int = 0, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid
        self.exit_code = exit_code


class WorkerError(TokenGateError):
    """Code in a child process raised an error that cannot be rebuilt here; the message has its type and text.

    Attributes:
        type_name: qualified name of the error's class.
        expected: whether the class of the actor lists it in `expected`.
    """

    def __init__(self, message: str, type_name: str = "", expected: bool = False) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.expected = expected


class NotPicklable(TokenGateError, TypeError):
    """A value on its way to or from a child process cannot be pickled; the message names it.

    Attributes:
        expected: whether the value is the answer of code that succeeded.
    """

    expected = False


class LimitExceeded(TokenGateError):
    """The token used more than it may, and its process was killed; the message names the limit and the value.

    Attributes:
        limit: name of the limit, as in `Limits`.
        value: what it was set to.
        expected: whether the class of the actor lists `MemoryError`, which the token's code got, in `expected`.
    """

    expected = False

    def __init__(self, message: str, limit: str = "", value: float = 0.0) -> None:
        super().__init__(message)
        self.limit = limit
        self.value = value


class PlatformWarning(RuntimeWarning):
    """The platform lacks something that was asked for; the message names it, and what happens instead."""


class WaitTimeout(TokenGateError, pykka.Timeout, TimeoutError):
    """The outcome was not there in time; the token goes on, and may be waited for again."""


class WouldBlock(TokenGateError):
    """A blocking wait was tried on the thread of a loop (trio, asyncio), which it would freeze: await instead."""


class DeadlockError(TokenGateError):
    """A step was about to wait for something that waits for this step, or beyond the number of steps that may wait.

    The message names the whole cycle; or the limit, and the chain of waits that has reached it.
    """


class NotDurable(TokenGateError, TypeError):
    """A call or a result cannot be kept on disk, or there is no journal that would: nothing was accepted.

    The message names what cannot be kept, and the remedy.
    """


class TokenInterrupt(BaseException):
    """Raised by `checkpoint()` in a token that was asked to end; let it pass.

    A `BaseException`, so that `except Exception` in the code that it ends does not catch it.
    """


if _in_child.child is not None:
    _in_child.unite_errors(globals(), __name__)
