"""The outcomes of a verb, one for each token, and the wait for pending ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs
import trio

from actors import Reply, Token
from tokengate.control._safe_text import plain
from tokengate.control.inspection._turns import in_turns
from tokengate.control.messages import OUTCOMES, Outcome

NOT_BEGUN: Final = "it is about to begin, or its sender waits for room in the mailbox"


def outcome(token: Token[Any], word: str, note: str = "") -> Outcome:
    """Return an outcome of a token; the word is one of `OUTCOMES`."""
    if word not in OUTCOMES:
        raise ValueError(f"'{word}' is no outcome; write one of {', '.join(OUTCOMES)}, or add it to OUTCOMES")
    return Outcome(token.id, plain(token.operation), word, note)


def ended(token: Token[Any]) -> Outcome:
    """Return the outcome of a token that had ended before the verb came."""
    return outcome(token, "ended", f"it is {token.state}")


@attrs.frozen
class Pending:
    """An effect of a verb that has begun and is not complete.

    Attributes:
        reached: comes when the effect may be complete.
        conclude: returns the outcome so far.
    """

    reached: Reply[Any]
    conclude: Callable[[], Outcome]


async def settle(steps: list[Outcome | Pending], wait: float) -> tuple[Outcome, ...]:
    """Wait for the pending ones, for so many seconds in all, and return all outcomes in order."""
    with trio.move_on_after(max(0.0, wait)):
        for one in steps:
            if isinstance(one, Pending):
                await Reply.wait(one.reached)
    return tuple([one if isinstance(one, Outcome) else one.conclude() async for one in in_turns(steps, 100)])
