"""People that ask a gate, each as if through a connection of its own, for tests of authority."""

from __future__ import annotations

from typing import Any, Final

from tokengate import Gate
from tokengate.authority._authority import Authority
from tokengate.authority._decide import ROLES
from tokengate.authority._grants import Grant, Rights
from tokengate.control import messages as m
from tokengate.control._actor import ControlActor, _Asked
from tokengate.control._admission import Caller
from tokengate.control.api._control import Control
from tokengate.control.inspection._selector import parse
from tokengate.gate._gate import CONTROL

ANN: Final = Caller("uid:1001", 1001, via="socket")
BEN: Final = Caller("uid:1002", 1002, via="socket")
CARA: Final = Caller("uid:1003", 1003, via="socket")
ROOT: Final = Caller("uid:0", 0, via="socket")
RULE: Final = Caller("process:interventions", None)


def grant(*callers: Caller, rights: frozenset[str] = ROLES["admin"], select: str = "") -> Grant:
    """Return a grant for the owners of callers."""
    owners = frozenset(caller.owner for caller in callers if caller.owner is not None)
    return Grant(1, owners, frozenset(), frozenset(), rights, parse(select) if select else None)


class People:
    """The control of a gate for each of several callers; they may do everything, until `grants` says otherwise.

    Args:
        gate: the gate.

    Attributes:
        actor: the control actor of the gate.
        authority: its door.
        process: code of the gate's process.
    """

    def __init__(self, gate: Gate) -> None:
        self.actor: ControlActor = gate._system.find(CONTROL).instance  # type: ignore[union-attr]
        self._ref: Any = gate.find(CONTROL)
        authority = self.actor._authorizer
        assert isinstance(authority, Authority)
        self.authority: Authority = authority
        self.process = gate.control
        self.grants(grant(ANN, BEN, CARA, ROOT))

    def grants(self, *grants: Grant) -> None:
        """Give these rights and no others."""
        self.authority.rights = Rights(grants, 0)

    def __getitem__(self, caller: Caller) -> Control:
        """Return the control of a caller."""

        def ask(message: m.Message[Any]) -> Any:
            return self._ref.ask(_Asked(message, self.actor._program.job(), caller))

        return Control(ask, lambda _stream: iter(()), local=True)  # type: ignore[arg-type, return-value]
