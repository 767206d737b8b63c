"""The gate, as rules need it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import trio

from actors import ActorSystem, Token
from actors.lowlevel import SYSTEM
from tokengate.authority._grants import Scope
from tokengate.authority._proposals import Proposal
from tokengate.control._actor import ask_as
from tokengate.control._admission import Caller
from tokengate.control.messages import Message
from tokengate.predict._host import RULES
from tokengate.predict._kept import Kept

_CONTROL: Final = f"{SYSTEM}/control"


class GateHost:
    """A gate, as rules need it; see `Host`.

    Args:
        gate: the gate.
        kept: what is kept of what rules did to durable tokens.
        say: publishes what has happened.
    """

    def __init__(
        self, gate: Any, kept: Kept, say: Callable[[str, str, Token[Any] | None, dict[str, Any]], None]
    ) -> None:
        self._gate = gate
        self._kept = kept
        self._say = say
        self.system: ActorSystem = gate._system

    async def ask(self, message: Message[Any], caller: Caller, /) -> Any:
        return await ask_as(self._gate.find(_CONTROL), message, caller)

    def proposal_state(self, number: int, /) -> str:
        found = self._proposal(number)
        return "" if found is None else found.state

    def withdraw(self, number: int, /) -> None:
        found = self._proposal(number)
        if found is not None:
            self._gate._authority.proposals.end(found)

    def _proposal(self, number: int) -> Proposal | None:
        return next((one for one in self._gate._authority.proposals if one.number == number), None)

    def is_frozen(self) -> bool:
        return self._gate._authority.freeze.holds  # type: ignore[no-any-return]

    def may_end(self) -> bool:
        return self._gate._authority.rights.scope(RULES, "terminate") is not None

    def may_steer(self, token: Token[Any], /) -> bool:
        authority = self._gate._authority
        scope: Scope | None = authority.rights.scope(RULES, "operate")
        if scope is None or self.is_frozen():
            return False
        return scope.everywhere or scope.has(token, self.system.clock())

    def utc(self, at: float, /) -> float:
        return self._gate._stream.utc(at)  # type: ignore[no-any-return]

    def say(self, kind: str, text: str, token: Token[Any] | None, details: dict[str, Any], /) -> None:
        self._say(kind, text, token, details)

    async def keep(self, uid: str, verb: str, entry: dict[str, Any] | None, /) -> bool:
        kept = self._kept
        if entry is None and not kept.tokens:
            return True
        return await trio.to_thread.run_sync(kept.set_token, uid, verb, entry)
