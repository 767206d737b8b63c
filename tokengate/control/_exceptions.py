"""Every error that control answers with on purpose; its class name and text travel over the socket."""

from __future__ import annotations

from actors import TokenGateError


class ControlError(TokenGateError):
    """Base of what is wrong with a question, or with the way it was sent."""


class BadRequest(ControlError, ValueError):
    """The question cannot be meant: a field has a value that cannot work."""


class BadSelector(BadRequest):
    """The selector cannot be read; the message points at the part."""


class UnknownToken(ControlError, LookupError):
    """There is no live token with this id: it has ended, or there never was one."""


class Busy(ControlError):
    """The actor was at work for all the time that was given; the message names the token."""


class NotSteerable(ControlError):
    """The actor is the runtime's own, or its class does not allow this."""


class Unreachable(ControlError, ConnectionError):
    """There is no gate to talk to, or it went away."""


class AmbiguousName(ControlError):
    """Several gates run; say which one."""


class RemoteError(ControlError):
    """The gate answered with an error that this side does not know; the message says which."""
