"""What the sender of a message may do with it; the code that answers asks for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from contextvars import Token as Variable
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import attrs

from actors import Token
from actors.lowlevel import Place
from tokengate.control.messages import HealthPart, Message, OnTokens, Outcome

if TYPE_CHECKING:  # here, so that a gate without a file loads no parser of files
    from tokengate.config._file import Config
    from tokengate.control.stream._record import Record
    from tokengate.policy._policies import PlaceName

Via: TypeAlias = Literal["process", "socket", "http", "offline"]

Found: TypeAlias = "Token[Any] | Outcome"
"""A token that a verb is for, or the outcome for what is no live token."""

Guarded: TypeAlias = Callable[[Token[Any]], str]
"""Returns what refusals call a verb for a token whose guard counts; empty if the guard does not count."""


@attrs.frozen(cache_hash=True)  # grants are looked up by it
class Caller:
    """The sender of a message, as its way in knows it; nothing of it is read from what a client says.

    Attributes:
        principal: `process`, `process:interventions`, `uid:1000`, `api:ci`.
        owner: the user behind it; None for rules.
        groups: of that user.
        via: the way in.
        peer: pid of the client.
        sender: the client that has sent it for the caller; None if it is the caller itself.
        rights: those that it may use at most; None: all that it has.
        request: id of the message for the record; empty: the gate counts.
        is_undo: whether it undoes what a rule has done, which goes on while rules are frozen.
        check: is asked about each token just before something is done to it: why nothing is to be done; empty: it may.
    """

    principal: str
    owner: int | None
    groups: frozenset[int] = frozenset()
    via: Via = "process"
    peer: int | None = None
    sender: Caller | None = None
    rights: frozenset[str] | None = None
    request: str = attrs.field(default="", eq=False)
    is_undo: bool = attrs.field(default=False, eq=False)
    check: Callable[[Token[Any]], str] | None = attrs.field(default=None, eq=False)

    @property
    def can_be_frozen(self) -> bool:
        """Whether the freeze of interventions is for it."""
        return self.is_rule and not self.is_undo

    @property
    def is_rule(self) -> bool:
        """Whether it is a rule of the gate, and not code or a person."""
        return self.owner is None

    @property
    def is_of_user(self) -> bool:
        """Whether it is a user, or an API token of one."""
        if self.owner is None:
            return False
        return self.principal == f"uid:{self.owner}" or (self.principal.startswith("api:") and len(self.principal) > 4)


class Closable(Protocol):
    """A stream that can be ended."""

    def close(self) -> None: ...


class Admission:
    """What a caller may do with its message; this one may see and do all, and nothing is recorded.

    Attributes:
        message: what was admitted, which may have more terms than what was sent.
        caller: the sender of the message.
        answer: the answer, if the message was answered at the door; else None.
    """

    answer: Any = None

    def __init__(self, message: Message[Any], caller: Caller) -> None:
        self.message = message
        self.caller = caller

    @property
    def sees_all(self) -> bool:
        """Whether the caller may see everything: its right `view` has no selector."""
        return True

    @property
    def terms(self) -> int:
        """How many terms of selectors `sees` may compare for a token, by which work is divided into turns."""
        return 0

    @property
    def sight(self) -> str:
        """The selectors of what the caller may see, as text; empty: everything."""
        return ""

    def sees(self, token: Token[Any]) -> bool:  # noqa: ARG002
        """Tell whether the caller may see a token, now."""
        return True

    def sees_record(self, record: Record) -> bool:  # noqa: ARG002
        """Tell whether the caller may see the record of a token."""
        return True

    def sees_place(self, place: Place | PlaceName | str) -> bool:  # noqa: ARG002
        """Tell whether the caller may see an actor or operation, with its figures; one that ended by its path."""
        return True

    def shows(self, token: Token[Any]) -> bool:  # noqa: ARG002
        """Tell whether the caller may see the values of those arguments that the token's place shows."""
        return True

    def shows_place(self, place: Place) -> bool:  # noqa: ARG002
        """Tell whether the caller may see the values of those attributes that an actor shows."""
        return True

    def reaches(self, token: Token[Any]) -> bool:  # noqa: ARG002
        """Tell whether the caller has the right to do this to a token, now."""
        return True

    def covers(self, select: str) -> bool:  # noqa: ARG002
        """Tell whether the caller may do this to all tokens of a selector: it has all terms of a grant."""
        return True

    def on_change(self, stream: Closable) -> None:
        """Have a stream closed as soon as the caller has other rights."""

    def reach(self, place: Place | PlaceName | str) -> None:
        """Raise `Refused` if the caller may not do this to an actor or operation; asked just before it is done."""

    async def plan(self, message: OnTokens, found: Sequence[Found], guarded: Guarded) -> list[Found]:  # noqa: ARG002
        """Decide for each token, and record what will be done; return the tokens to act on, and outcomes of others."""
        return list(found)

    def judge(self, token: Token[Any], doing: str) -> Outcome | None:  # noqa: ARG002
        """Return the refusal of a verb for a token; asked again just before it is done.

        Args:
            token: the token.
            doing: what the refusal calls a verb for which the guard counts; empty for others.
        """
        return None

    def elsewhere(self, token: Token[Any], place: Place) -> Outcome | None:  # noqa: ARG002
        """Return the refusal to move a token to a place at which the caller may not do so."""
        return None

    def done(self, answer: object, error: BaseException | None) -> None:
        """Record what came of it."""

    @contextmanager
    def at_work(self) -> Generator[None]:
        """Make this the admission of the code of a block."""
        before = self.enter()
        try:
            yield
        finally:
            self.leave(before)

    def enter(self) -> Variable[Admission]:
        """Make this the admission until `leave`, which takes what this returns."""
        return _admission.set(self)

    def leave(self, before: Variable[Admission]) -> None:
        """Undo `enter`."""
        _admission.reset(before)


_admission: ContextVar[Admission] = ContextVar("admission of a message of control")


def admission() -> Admission:
    """Return what the sender of the message may do that is being answered.

    Raises:
        LookupError: no message is being answered here.
    """
    return _admission.get()


def restricted() -> Admission | None:
    """Return what the caller may see whose message is being answered; None if that is all, or if none is answered."""
    found = _admission.get(None)
    return None if found is None or found.sees_all else found


Perform: TypeAlias = Callable[[Message[Any], Admission], Awaitable[Any]]
"""Answers a message that was admitted."""

Ask: TypeAlias = Callable[[Message[Any], Caller, Callable[[Admission], None]], Awaitable[Any]]
"""Answers a message of a caller, if it is let in at the door; the function is called with its admission."""


class Authorizer(Protocol):
    """The door: decides about each message, whatever way it came in."""

    def refusal(self, caller: Caller) -> str:
        """Return why a connection is refused; empty if it is not."""
        ...

    async def admit(self, message: Message[Any], caller: Caller) -> Admission:
        """Let a message in.

        Raises:
            Refused: the caller may not do it.
            AuditUnavailable: it cannot be recorded.
            BadRequest: reason, dry run, force or break glass have values that cannot work.
            ProposalMade: a proposal was made instead, which the type of the answer cannot say.
        """
        ...

    def prepare(self, config: Config) -> Callable[[], None]:
        """Return a function that has a file decide who may do what, at once.

        Not on the system loop, since it may take a while; the function is called there.

        Raises:
            BadConfig: it cannot be used.
        """
        ...

    def health(self) -> Iterable[HealthPart]:
        """Return its parts of the gate's health; must not block."""
        ...

    def answers(self, perform: Perform, ask: Ask) -> Sequence[object]:
        """Return objects with the methods that answer its own verbs."""
        ...
