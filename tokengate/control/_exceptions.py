"""The errors of control; their class names and texts are sent through the socket."""

from __future__ import annotations

from actors import TokenGateError


class ControlError(TokenGateError):
    """Base of the errors of control."""


class BadRequest(ControlError, ValueError):
    """A field of the message has a value that cannot work; the caller must change it."""


class BadSelector(BadRequest):
    """The selector cannot be parsed; the text of the error points at the part."""


class UnknownToken(ControlError, LookupError):
    """No live token has this id: the token has ended, or there never was one."""


class UnknownVerb(ControlError, LookupError):
    """The gate does not answer this verb: it may need a plugin, which the text of the error names."""


class Busy(ControlError):
    """The actor was busy for all the given time; the text of the error names its token."""


class NotSteerable(ControlError):
    """The actor belongs to the runtime, or its class does not allow this verb."""


class Unreachable(ControlError, ConnectionError):
    """No gate answers, or the connection was lost."""


class NoAnswer(Unreachable):
    """The gate is there, and did not answer in time: its system loop hangs, or its process is stopped or overloaded.

    Attributes:
        gate: its name, if it is known.
    """

    def __init__(self, text: str, gate: str = "") -> None:
        super().__init__(text)
        self.gate = gate


class AmbiguousName(ControlError):
    """Several gates have this name, or several run and none was named; name one."""


class RemoteError(ControlError):
    """The gate answered with an error class that this process does not have; the text names it."""


class Refused(ControlError, PermissionError):
    """The caller may not do this; the text says what is missing. Nothing was done."""


class AuditUnavailable(ControlError):
    """It could not be recorded in the audit log, so nothing was done; the text says why."""


class UnknownProposal(ControlError, LookupError):
    """No proposal has this number: there never was one, or it is forgotten."""


class ProposalMade(ControlError):
    """Nothing was done, as the message is a dry run or needs approval; the text has the number of its proposal.

    Attributes:
        number: of the proposal; 0 at a client of the socket, to which errors come as text.
    """

    def __init__(self, text: str, number: int = 0) -> None:
        super().__init__(text)
        self.number = number
