"""What rules need of their gate, and who they are there."""

from __future__ import annotations

from typing import Any, Final, Protocol

import attrs

from actors import ActorSystem, Token
from tokengate.control._admission import Caller
from tokengate.control.messages import ActorOutcome, Message, Outcome

RULES: Final = Caller("process:interventions", None)
"""Rules, as the sender of their messages."""

UNDOER: Final = attrs.evolve(RULES, is_undo=True)
"""The same, where they undo what they have done."""


_NOTHING_DONE: Final = ("unchanged", "refused", "ended", "unknown", "changed")


class Host(Protocol):
    """What the engine needs of its gate."""

    system: ActorSystem

    async def ask(self, message: Message[Any], caller: Caller, /) -> Any:
        """Send a message to the control actor."""
        ...

    def proposal_state(self, number: int, /) -> str:
        """Return the state of a proposal; empty if it is forgotten."""
        ...

    def withdraw(self, number: int, /) -> None:
        """Let a proposal expire, since nothing is left of what it is about."""
        ...

    def is_frozen(self) -> bool:
        """Tell whether what rules ask for is refused."""
        ...

    def may_end(self) -> bool:
        """Tell whether rules have the right to end tokens."""
        ...

    def may_steer(self, token: Token[Any], /) -> bool:
        """Tell whether rules may act on a token now: they are not frozen, and have the right."""
        ...

    def utc(self, at: float, /) -> float:
        """Return a time of the gate's clock in seconds since the epoch."""
        ...

    def say(self, kind: str, text: str, token: Token[Any] | None, details: dict[str, Any], /) -> None:
        """Publish what has happened."""
        ...

    async def keep(self, uid: str, verb: str, entry: dict[str, Any] | None, /) -> bool:
        """Have on disk what a verb did to a durable token, or None: that this is undone; return whether it is."""
        ...


def outcome_in(answer: Any) -> tuple[bool, str]:
    """Return whether a verb was done, by its answer, and what it says."""
    if isinstance(answer, tuple):
        first = next((one for one in answer if isinstance(one, Outcome)), None)
        return (first is None or first.outcome not in _NOTHING_DONE), "" if first is None else first.note
    if isinstance(answer, ActorOutcome):
        return answer.outcome in ("done", "pending"), answer.note
    return True, ""
