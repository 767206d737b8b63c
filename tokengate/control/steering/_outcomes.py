"""What came of a verb, token by token, and the waiting for what is on its way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs
import trio

from actors import Reply, Token
from tokengate.control._safe_text import plain
from tokengate.control.inspection._turns import next_turn
from tokengate.control.messages import Outcome

NOT_BEGUN: Final = "it is about to begin, or its sender waits for room"


def outcome(token: Token[Any], word: str, note: str = "") -> Outcome:
    """Return what a verb did to a token."""
    return Outcome(token.id, plain(token.operation), word, note)


def ended(token: Token[Any]) -> Outcome:
    """Return the answer for a token that had come to its end before the verb came."""
    return outcome(token, "ended", f"it is {token.state}")


@attrs.frozen
class Pending:
    """A token that is on its way to what a verb wants.

    Attributes:
        reached: comes when it may be there.
        conclude: tells how far it is.
    """

    reached: Reply[Any]
    conclude: Callable[[], Outcome]


async def settle(steps: list[Outcome | Pending], wait: float) -> tuple[Outcome, ...]:
    """Wait for those that are on their way, for so many seconds in all, and return what came of each, in order."""
    with trio.move_on_after(max(0.0, wait)):
        for one in steps:
            if isinstance(one, Pending):
                await Reply.wait(one.reached)
    outcomes = []
    for number, one in enumerate(steps):
        outcomes.append(one if isinstance(one, Outcome) else one.conclude())
        if number % 100 == 99:
            await next_turn()
    return tuple(outcomes)
