"""Every error that the supervisors floor raises on purpose."""

from __future__ import annotations

from actors import TokenGateError


class BadSpec(TokenGateError, ValueError):
    """A child spec or a supervisor's flag has a value that cannot work; the message names child and field."""


class ChildError(TokenGateError):
    """A request to a supervisor does not fit the state of its child."""


class AlreadyStarted(ChildError):
    """A child with this id is there, and runs or is about to."""


class AlreadyPresent(ChildError):
    """A child with this id is there, without an instance; restart it, or delete it first."""


class NoSuchChild(ChildError, LookupError):
    """The supervisor has no child with this id, or none with this ref."""


class ChildIsRunning(ChildError):
    """The request needs a child without an instance: terminate it first."""


class AlreadyRestarting(ChildError):
    """The child is being restarted: wait, or terminate it to end the restart."""


class TooManyChildren(ChildError):
    """A dynamic supervisor has `max_children` children: terminate one, or raise the limit."""


class Ignore(Exception):
    """Raise it in `__init__` or `on_start`: the actor declines to start, and this is not a failure.

    Its supervisor keeps the spec without an instance (of a temporary child, nothing), and goes on.
    """
