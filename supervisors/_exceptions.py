"""Every error that the supervisors floor raises on purpose."""

from __future__ import annotations

from actors import TokenGateError


class BadSpec(TokenGateError, ValueError):
    """A child spec or a supervisor's flag has a value that cannot work; the message names child and field."""


class ChildError(TokenGateError):
    """A request to a supervisor does not fit the state of the child it names."""
