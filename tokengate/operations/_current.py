"""The current gate: the one to which a call of an operation goes."""

from __future__ import annotations

import contextvars

from actors import current_token
from tokengate._exceptions import AmbiguousGate, NeedsGate
from tokengate.operations._ports import OpenGate

# Open gates, and those that open lazily, until they are closed.
open_gates: list[OpenGate] = []

parents: list[str] = []  # what became of gates that were opened before this process was forked

# The gates that `with` blocks around this code have opened, the innermost last.
_entered: contextvars.ContextVar[tuple[OpenGate, ...]] = contextvars.ContextVar("entered_gates", default=())


def current_gate() -> OpenGate | None:
    """Return the gate of the running token; else the innermost one entered here; else the only one; else None.

    One that opens lazily counts as open if there is no other.

    Raises:
        AmbiguousGate: several are open and none of these rules chooses one.
    """
    gates = tuple(open_gates)  # another thread may close one
    if len(gates) < 2:  # no choice
        return gates[0] if gates else None
    token = current_token()
    if token is not None:
        for gate in gates:
            if gate._owns(token):
                return gate
    for gate in reversed(_entered.get()):
        if gate in gates:
            return gate
    opened = [gate for gate in gates if gate.state != "new"]
    if len(opened) == 1:
        return opened[0]
    names = [f"'{gate.name}'" for gate in opened or gates]
    are, remedy = "are open" if opened else "open at their first use", "use 'with gate:'"
    if len(set(names)) < len(names):
        remedy += ", or in a cell that runs twice 'gate.open(replace=True)'"
    raise AmbiguousGate(f"several gates {are} ({', '.join(names)}) and this call is within none of them; {remedy}")


def enter(gate: OpenGate) -> None:
    """Make `gate` the innermost one of the current context."""
    _entered.set((*_entered.get(), gate))


def leave(gate: OpenGate) -> None:
    """Undo `enter` in the current context, if it was done there."""
    _entered.set(tuple(known for known in _entered.get() if known is not gate))


def needs_gate(purpose: str) -> NeedsGate:
    """Return the error for a call that needs a gate, when none is open.

    Args:
        purpose: what the gate is needed for.
    """
    remedy = "; ".join(parents) or "use 'with Gate():' around it"
    return NeedsGate(f"no gate is open {purpose}; {remedy}")
