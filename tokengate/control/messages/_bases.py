"""The bases of messages, and what most of them are answered with: outcomes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

import attrs

WAIT: Final = 0.02
"""Seconds for which a verb waits, unless it is told otherwise, for what it has asked for to come true."""


PATIENT_WAIT: Final = 0.25
"""The same on the command line and in the shell, where people want the last word and not a quick one."""


@attrs.frozen
class Outcome:
    """What a verb did to one token.

    Attributes:
        token: its id.
        operation: what it runs; empty when there is no such token.
        outcome: one word, see `OUTCOMES`.
        note: what else is to be known, in words; may be empty.
    """

    token: int
    operation: str
    outcome: str
    note: str = ""


OUTCOMES: Mapping[str, str] = {
    "paused": "no code of it runs until it is resumed, stepped or ended",
    "pause_requested": "it is paused as soon as its code comes to a point where that is possible",
    "resumed": "it goes on",
    "stepped": "it has run the steps that were asked for, and is paused again",
    "step_requested": "it runs, and is paused again after the steps that were asked for",
    "terminated": "it has ended, and its state is `terminated`",
    "cancel_requested": "it was asked to end at its next yield point, and has not come to one yet",
    "interrupt_requested": "its code is interrupted as soon as it runs Python code again; it has not yet",
    "killed": "it has ended, and the process that ran it was killed",
    "abandoned": "it has ended, and its result goes nowhere, but its code could not be ended, and is left to itself",
    "reniced": "it has the new priority",
    "retagged": "it has the new tags",
    "rerouted": "it is queued at the other place",
    "limited": "it has the new limits",
    "noted": "nothing changes now; the next attempt, if there is one, will go by it",
    "unchanged": "it was so already; nothing was done",
    "refused": "nothing was done, for the reason in the note",
    "ended": "it had come to its own end before; nothing was done",
    "unknown": "there has been no such token",
    "would": "a dry run: it is one of those that would be affected",
}
"""{outcome: what it means}."""


@attrs.frozen
class ActorOutcome:
    """What a verb did to one actor: `done`, `unchanged` (it was so already) or `pending` (it goes on), and a note."""

    actor: str
    outcome: Literal["done", "unchanged", "pending"]
    note: str = ""


@attrs.frozen
class Message:
    """Base of all that the control actor is asked."""

    answer: ClassVar[Any]  # the type of what comes back
    local: ClassVar[bool] = False  # whether it can only be asked within the process


@attrs.frozen(kw_only=True)
class OnTokens(Message):
    """Base of the verbs that do something to tokens; the answer has one outcome for each.

    Attributes:
        selector: which tokens; `*` for all. Either this or `ids`.
        ids: which tokens, by number.
        dry_run: only tell which they are.
        force: do it to protected ones, too.
    """

    answer: ClassVar[Any] = tuple[Outcome, ...]
    selector: str = ""
    ids: tuple[int, ...] = ()
    dry_run: bool = False
    force: bool = False


@attrs.frozen
class OnActor(Message):
    """Base of the verbs that do something to one actor."""

    answer: ClassVar[Any] = ActorOutcome
    name: str


def verb_of(message: type[Message]) -> str:
    """Return what a message is called on the wire and as a function: `which_children` for `WhichChildren`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", message.__name__).lower()
