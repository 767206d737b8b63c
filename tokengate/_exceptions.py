"""Every error that the gate raises on purpose."""

from __future__ import annotations

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


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # of a foreign class, or of an int with too many digits
        text = object.__repr__(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
