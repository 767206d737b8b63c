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
