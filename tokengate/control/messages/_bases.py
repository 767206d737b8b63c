"""The bases of messages, and outcomes, which are the answers of most of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Final, Generic, Literal, TypeAlias, TypeVar, get_args, get_origin

import attrs
from msgspec import Meta

from tokengate.control.messages._targets import selected

A_co = TypeVar("A_co", covariant=True)
Row = TypeVar("Row")

WAIT: Final = 0.02
"""Seconds that a verb waits for its effect, unless the message has another `wait`."""


PATIENT_WAIT: Final = 0.25
"""The same on the command line and in the console, where a final answer is worth more than a quick one."""


Seconds: TypeAlias = Annotated[float, Meta(ge=0, le=3600, extra={"metavar": "SECONDS"})]
"""A time for which a message may delay its answer."""


RIGHTS: Final = (
    "view",
    "arguments",
    "operate",
    "terminate",
    "override",
    "state",
    "call",
    "approve",
    "audit",
    "administer",
    "break_glass",
)
"""What a caller may be allowed to do; each verb needs one of these."""


MAX_REASON: Final = 500
"""Characters of a reason, and of what is on fire."""


Target: TypeAlias = Literal["gate", "tokens", "place", "places", "throttle", "proposal"]


@attrs.frozen
class Proposed:
    """A proposal as the answer has it that was made instead of doing it.

    Attributes:
        number: for `apply` and `approve`.
        digest: SHA-256 of what it does, in hexadecimal digits.
        expires: seconds since the epoch.
    """

    number: int
    digest: str
    expires: float


@attrs.frozen
class Outcome:
    """What a verb did to one token.

    Attributes:
        token: its id.
        operation: what it runs; empty when there is no such token.
        outcome: a key of `OUTCOMES`.
        note: details as text; may be empty.
        proposal: of the first token of a proposal: that one.
    """

    token: int
    operation: str
    outcome: str
    note: str = ""
    proposal: Proposed | None = None


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
    "estimated": "it has the new estimate",
    "preempted": "its attempt has ended, and it is queued for another one",
    "preempt_requested": "it will be queued again when its code reaches a point where its attempt can end",
    "retried": "its next attempt begins as soon as it may",
    "not_retried": "no further attempt of it follows",
    "extended": "it has more time",
    "noted": "nothing changes now; the next attempt, if there is one, will use it",
    "rolling_back": "the transaction that it is a member of is being rolled back",
    "unchanged": "it was so already, and nothing was done",
    "refused": "nothing was done, for the reason in the note",
    "ended": "it had ended before, and nothing was done",
    "unknown": "no token has had this id",
    "would": "a dry run: it would be affected",
    "awaiting": "nothing was done: another person must approve it, see the proposal",
    "changed": "nothing was done: it is no longer what the proposal is about",
}
"""{outcome: what it means}."""


@attrs.frozen
class ActorOutcome:
    """What a verb did to one actor.

    Attributes:
        actor: its path.
        outcome: `done`, `unchanged` (it was so already), `pending` (not done yet), `would` (a dry run), `awaiting`
            (another person must approve it) or `changed` (it is no longer what the proposal is about).
        note: details as text; may be empty.
        proposal: of `would` and `awaiting`.
    """

    actor: str
    outcome: Literal["done", "unchanged", "pending", "would", "awaiting", "changed"]
    note: str = ""
    proposal: Proposed | None = None


@attrs.frozen
class Message(Generic[A_co]):
    """Base of all messages to the control actor. Each is a verb; its brackets say the type of the answer.

    The docstring of a message is the help of its verb, and each field an argument, with its description and bounds in a
    `Meta`. Methods, commands, the wire and its checks, and the schema are derived from them.
    """

    right: ClassVar[str]  # that a caller needs: one of `RIGHTS`
    verb_name: ClassVar[str] = ""  # name of the verb, if that is not the name of the class
    command: ClassVar[str] = ""  # its name on the command line, if that is another one
    examples: ClassVar[tuple[str, ...]] = ()  # command lines, without `tokengate`
    unrecorded: ClassVar[tuple[str, ...]] = ()  # arguments that carry values of a program: only names are recorded
    target: ClassVar[Target] = "gate"  # what it is about, by which selectors of grants decide
    local: ClassVar[bool] = False  # whether only code of the gate's own process can send it

    @property
    def needed(self) -> str:
        """The right that this very message needs."""
        return self.right

    @property
    def changes(self) -> bool:
        """Whether this very message changes something."""
        return isinstance(self, Change)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        right = getattr(cls, "right", None)
        if right not in RIGHTS:
            raise TypeError(f"right of {cls.__name__} is {right!r}; it must be one of {', '.join(RIGHTS)}")


@attrs.frozen
class Change(Message[A_co]):
    """Base of the verbs that change something.

    Raises:
        Refused: the caller may not do it.
        AuditUnavailable: it cannot be recorded, so nothing was done.
    """

    right: ClassVar[str] = "operate"
    takes: ClassVar[tuple[str, ...]] = ("reason", "force", "dry_run", "break_glass")  # of these fields
    reason: Annotated[
        str,
        Meta(
            description="Why, for the record; `force` needs it.",
            extra={"metavar": "TEXT"},
            extra_json_schema={"maxLength": MAX_REASON},
        ),
    ] = attrs.field(default="", kw_only=True)
    force: Annotated[bool, Meta(description="Include what has the guard `force`.")] = attrs.field(
        default=False, kw_only=True
    )
    dry_run: Annotated[bool, Meta(description="Change nothing; make a proposal of it, which `apply` does.")] = (
        attrs.field(default=False, kw_only=True)
    )
    break_glass: Annotated[
        str,
        Meta(
            description="What is on fire: act at once where approval is needed.",
            extra={"metavar": "TEXT"},
            extra_json_schema={"maxLength": MAX_REASON, "pattern": r"^(?![\s\S])|\S[\s\S]{8,}\S"},
        ),
    ] = attrs.field(default="", kw_only=True)


ENVELOPE: Final = tuple(field.name for field in attrs.fields(Change))
"""The fields of `Change`, which the wire has beside the arguments."""


@attrs.frozen
class Listing(Message[tuple[Row, ...]]):
    """Base of the verbs that list the rows of a noun."""

    right: ClassVar[str] = "view"
    select: Annotated[str, Meta(description="Which rows; empty for all.")] = ""


@attrs.frozen
class OnOne(Change[Row]):
    """Base of the verbs that change one thing, by its name; the answer is its row."""

    name: Annotated[str, Meta(description="Its name, as the list has it.")]


@attrs.frozen
class OnTokens(Change[tuple[Outcome, ...]]):
    """Base of the verbs that change tokens.

    Returns:
        An outcome for each token; `OUTCOMES` explains them.

    Raises:
        BadSelector: the selector cannot be read.
        BadRequest: `select` names no token, or an argument has a value that cannot work.
    """

    target: ClassVar[Target] = "tokens"
    select: Annotated[
        Annotated[str, Meta(extra_json_schema={"pattern": r"\S"})] | tuple[int, ...],
        Meta(description="Which tokens: ids, tokens, handles, or a selector (`*` for all)."),
    ] = attrs.field(converter=selected)


def _seconds(wait: float | None) -> float:
    return WAIT if wait is None else wait


@attrs.frozen
class Waiting(OnTokens):
    """Base of the verbs whose effect on tokens may take a while.

    Returns:
        An outcome for each token, as soon as it is done or `wait` is over; `OUTCOMES` explains them. Without `wait`,
        or with None, it is that of the `Control`: 0.02 unless it was made with another one, 0.25 in the console.
    """

    wait: Annotated[
        Seconds,
        Meta(description="Seconds to wait until it is done; after that, the outcome says that it was requested."),
    ] = attrs.field(default=WAIT, converter=_seconds, kw_only=True)


@attrs.frozen
class OnActor(Change[ActorOutcome]):
    """Base of the verbs that change one actor.

    Raises:
        UnknownActor: no actor has this name, or several have.
        NotSteerable: it belongs to the runtime.
    """

    target: ClassVar[Target] = "place"
    name: Annotated[str, Meta(description="The actor's path, or the last part of it; `tokengate actors` lists them.")]


def verb_of(message: type[Message[Any]]) -> str:
    """Return the name of a message's verb, on the wire and as a function: `which_children` for `WhichChildren`."""
    return message.verb_name or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", message.__name__).lower()


def by_verb(messages: Iterable[type[Message[Any]]]) -> dict[str, type[Message[Any]]]:
    """Return {verb: its message}.

    Raises:
        ValueError: a class is not decorated, or two have the same verb.
    """
    found: dict[str, type[Message[Any]]] = {}
    for message in messages:
        if "__attrs_attrs__" not in vars(message):
            raise ValueError(f"{message.__name__} has no @attrs.frozen, which makes fields of its annotations")
        other = found.setdefault(verb_of(message), message)
        if other is not message:
            names = f"{other.__name__} and of {message.__name__}"
            raise ValueError(f"'{verb_of(message)}' is the verb of {names}; give one of them another name")
    return found


def answer_of(message: Any) -> Any:
    """Return the type of a message's answer: what the brackets of its base say."""
    kind, given = get_origin(message) or message, get_args(message)
    if kind is Message:
        return given[0]
    bases = kind.__dict__.get("__orig_bases__", kind.__bases__)
    said = answer_of(next(base for base in bases if issubclass(get_origin(base) or base, Message)))
    return said if not given else given[0] if isinstance(said, TypeVar) else said[given]
