"""The bases of messages, and outcomes, which are the answers of most of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

import attrs

WAIT: Final = 0.02
"""Seconds that a verb waits for its effect, unless the message has another `wait`."""


PATIENT_WAIT: Final = 0.25
"""The same on the command line and in the console, where a final answer is worth more than a quick one."""


@attrs.frozen
class Outcome:
    """What a verb did to one token.

    Attributes:
        token: its id.
        operation: what it runs; empty when there is no such token.
        outcome: a key of `OUTCOMES`.
        note: details as text; may be empty.
    """

    token: int
    operation: str
    outcome: str
    note: str = ""


OUTCOMES: Mapping[str, str] = {
    "paused": "its code does not run until it is resumed, stepped or ended",
    "pause_requested": "it will be paused when its code reaches a point where that is possible",
    "resumed": "it runs on",
    "stepped": "it ran the steps, and is paused again",
    "step_requested": "it runs, and will be paused again after the steps",
    "terminated": "it has ended, and its state is `terminated`",
    "cancel_requested": "it will end at its next yield point, which it has not reached yet",
    "interrupt_requested": "its code will be interrupted when it runs Python code again",
    "killed": "it has ended, and the process that ran it was killed",
    "abandoned": "it has ended and its result is dropped, but its code could not be ended and runs on",
    "reniced": "it has the new priority",
    "retagged": "it has the new tags",
    "rerouted": "it is queued at the other place",
    "limited": "it has the new limits",
    "noted": "nothing changes now; the next attempt, if there is one, will use it",
    "unchanged": "it was so already, and nothing was done",
    "refused": "nothing was done, for the reason in the note",
    "ended": "it had ended before, and nothing was done",
    "unknown": "no token has had this id",
    "would": "a dry run: it would be affected",
}
"""{outcome: what it means}."""


@attrs.frozen
class ActorOutcome:
    """What a verb did to one actor: `done`, `unchanged` (it was so already) or `pending` (not done yet); and a note."""

    actor: str
    outcome: Literal["done", "unchanged", "pending"]
    note: str = ""


@attrs.frozen
class Message:
    """Base of all messages to the control actor."""

    answer: ClassVar[Any]  # the type of the answer
    local: ClassVar[bool] = False  # whether only code of the gate's own process can send it


@attrs.frozen(kw_only=True)
class OnTokens(Message):
    """Base of the verbs that change tokens; the answer has an outcome for each token.

    Attributes:
        selector: which tokens; `*` for all. Either this or `ids`.
        ids: which tokens, by number.
        dry_run: change nothing, and answer which tokens would be affected.
        force: include protected tokens.
    """

    answer: ClassVar[Any] = tuple[Outcome, ...]
    selector: str = ""
    ids: tuple[int, ...] = ()
    dry_run: bool = False
    force: bool = False


@attrs.frozen
class OnActor(Message):
    """Base of the verbs that change one actor."""

    answer: ClassVar[Any] = ActorOutcome
    name: str


def verb_of(message: type[Message]) -> str:
    """Return the name of a message's class on the wire and as a function: `which_children` for `WhichChildren`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", message.__name__).lower()
