"""The token: the message that carries a call, its life cycle and its result, in one slotted object."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from actors._exceptions import TokenInterrupt, TokenTerminated
from actors._lifecycle import TERMINAL, TRANSITIONS, TokenState, check_transition
from actors._reply import Reply

if TYPE_CHECKING:
    from actors._mailbox import Mailbox
    from actors._place import Place
    from actors._system import ActorSystem

T = TypeVar("T")

NO_TAGS: Final[Mapping[str, str]] = MappingProxyType({})

# The token whose step this context belongs to. Set inside the context captured for the token and never
# reset there, so that no token keeps its predecessors alive.
_current: contextvars.ContextVar[Token[Any] | None] = contextvars.ContextVar("current_token", default=None)


def current_token() -> Token[Any] | None:
    """Return the token in whose step this code runs, or None outside of any."""
    return _current.get()


def checkpoint() -> None:
    """Let a long plain function be ended here: a bounded piece of its work is done.

    Raises:
        TokenInterrupt: somebody has cancelled the running token, or its gate is closing; let it pass.
    """
    token = _current.get()
    if token is not None and (token._cancel_requested or token._done):
        raise TokenInterrupt(f"{token._describe()} was asked to end")


@attrs.define(slots=True, eq=False, repr=False)
class Token(Reply[T]):
    """One call: what is to be done, where, for whom, how far it is, and what came of it.

    Times are seconds of the system's clock, None until they are known. A token is given out by `submit`,
    by a proxy's methods and by `ask(block=False)`; it is not made by hand.

    Attributes:
        id: a small integer, unique in its system.
        operation: what runs: a function's name, or `Class.method`, or `Class.on_receive`.
        args: positional arguments; empty again once the token has ended.
        kwargs: keyword arguments; empty again once the token has ended.
        priority: higher goes first; any int.
        tags: labels that selectors match.
        affinity: `io` (a trio task) or `cpu` (a thread).
        actor: path of the place whose mailbox took it.
        parent: id of the token in whose step this one was made, or None.
        created_at, queued_at, started_at, finished_at: when it came to each.
        state: where it is in its life cycle.
        attempt: 1 for the first run.
        steps: how many steps of it have begun.
    """

    id: int
    operation: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    priority: int
    tags: Mapping[str, str]
    parent: int | None
    created_at: float
    _call: Any  # what the place resolves to the code to run
    _context: contextvars.Context | None
    _place: Place
    _system: ActorSystem
    state: TokenState = attrs.field(default=TokenState.CREATED, init=False)
    attempt: int = attrs.field(default=1, init=False)
    steps: int = attrs.field(default=0, init=False)
    queued_at: float | None = attrs.field(default=None, init=False)
    started_at: float | None = attrs.field(default=None, init=False)
    finished_at: float | None = attrs.field(default=None, init=False)
    _mailbox: Mailbox | None = attrs.field(default=None, init=False)  # the one it is queued in, under its lock
    _cancel_requested: str = attrs.field(default="", init=False)  # why it shall end, once somebody wants that
    _waits: int = attrs.field(default=0, init=False)  # tasks of its code that await other tokens

    @property
    def actor(self) -> str:
        return self._place.path

    @property
    def affinity(self) -> str:
        return self._place.affinity

    async def wait(self) -> None:
        """Wait until the outcome is there, and leave it unread (trio and asyncio).

        A token whose code waits here for another one gives its turn away.
        """
        waiter = _current.get()
        if self._done or waiter is None:
            await Reply.wait(self)
            return
        waiter._waits += 1
        if waiter._waits == 1:
            waiter._place.step_waits()
        try:
            await Reply.wait(self)
        finally:
            waiter._waits -= 1
            if not waiter._waits:
                waiter._place.step_resumes()

    def cancel(self) -> bool:
        """Ask for the token's end.

        A queued token ends now. A running one is asked, and ends as `terminated` at its next yield point
        (a trio checkpoint, a generator's `yield`, `checkpoint()`), if it has one.

        Returns:
            True when this call ended it; False when it runs (watch its state) or had ended.
        """
        return self._cancel("it was cancelled")

    def _cancel(self, why: str) -> bool:
        if self._done:
            return False
        self._cancel_requested = why
        mailbox = self._mailbox
        if mailbox is not None and mailbox.withdraw(self):
            return self._finish(TokenState.TERMINATED, error=TokenTerminated(f"{self._describe()} never ran: {why}"))
        self._place.drain.cancel(self)
        return False

    def _begin(self) -> None:
        """Enter the state `running`: in the mailbox's hands when it is taken, or on the thread of a direct call."""
        if TokenState.RUNNING not in TRANSITIONS[self.state]:
            check_transition(self.state, TokenState.RUNNING)
        self.state = TokenState.RUNNING
        self.started_at = self._system.clock()
        self.steps += 1

    def _finish(self, state: TokenState, value: Any = None, error: BaseException | None = None) -> bool:
        """Enter a terminal state, unless somebody else was faster; tell whether this call did.

        The claim is the removal from the system's table of live tokens, which is atomic: whoever removes it
        writes the outcome, and nobody else ever does.
        """
        if self._mailbox is not None:
            self._mailbox.withdraw(self)  # who is not queued any more by now is running
        if state not in TRANSITIONS[self.state]:
            if self.state in TERMINAL:
                return False
            check_transition(self.state, state)
        system = self._system
        if system.live.pop(self.id, None) is None:
            return False
        self._value = value
        self._error = error
        self.finished_at = system.clock()
        # What the token carried in is let go of, so that a chain of tokens keeps no history alive.
        self.args = ()
        self.kwargs = NO_TAGS
        self._context = None
        self._call = None
        self.state = state
        self._done = True
        if state is not TokenState.COMPLETED:
            system.note_uncompleted(state)
        if system.on_token_finished is not None:
            system.tell(system.on_token_finished, self)
        if self._callbacks is not None:
            self._run_callbacks()
        return True

    def _terminate(self, why: str) -> bool:
        return self._finish(TokenState.TERMINATED, error=TokenTerminated(f"{self._describe()} was ended: {why}"))

    def _describe(self) -> str:
        return f"token {self.id} ({self.operation} of actor '{self._place.path}')"

    def __repr__(self) -> str:
        return f"<Token {self.id} {self.operation} {self.state}>"
