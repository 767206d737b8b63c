"""One request of a child process, until it is answered.

All of it runs on the host's thread, which never blocks: where a thread of the gate would wait, for room in a mailbox or
for an outcome, the host's thread is called back.
"""

from __future__ import annotations

import contextvars
import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

from actors._exceptions import ActorDead, DeadlockError, MailboxFull, TokenFailed, TokenRejected, WaitTimeout
from actors._exit_reason import safe_repr
from actors.mailboxes._mailbox import Put
from actors.places._place import Place, place_of
from actors.tokens._token import DurableToken, Token, _current
from actors.tokens._waits_for import waiting_for, with_chain

if TYPE_CHECKING:
    from actors.concurrency._future import Reply
    from actors.processes.workers._deadlines import Deadline
    from actors.processes.workers._worker import Worker

T = TypeVar("T")

# Seconds that a token waits for something that needs no process, before its turn is lent: lending may start a process.
_GRACE_SECONDS: Final = 0.005


class RequestHost(Protocol):
    """The process host: requests are answered on its thread."""

    def call_soon(self, fn: Callable[[], object], /) -> None: ...

    def call_later(self, seconds: float, fn: Callable[[], object], /) -> Deadline: ...

    def want_room(self, worker: Worker, /) -> None: ...

    def reclaim(self, worker: Worker, /) -> None: ...


class RequestServer(Protocol):
    """Receives requests, and sends their answers."""

    @property
    def host(self) -> RequestHost: ...

    def guard(self, request: Request, fn: Callable[[], object], /) -> None: ...

    def reply(self, request: Request, value: Any, /) -> bool: ...

    def reply_error(self, request: Request, error: BaseException, /) -> None: ...

    def over(self, request: Request, /) -> None: ...


class RequestDrain(Protocol):
    """The drain of the token that makes a request."""

    def lend_turn(self, worker: Worker, why: object, /) -> None: ...

    def take_turn_back(self, worker: Worker, why: object, /) -> None: ...

    def go_on(self, worker: Worker, /) -> None: ...


class Request:
    """A request of a child, and the state of its answer.

    Args:
        requests: sends the answer.
        worker: the child.
        number: of the request.
        call: number of the call that has made the request.
        token: of that call; None for a hook of an actor.
    """

    __slots__ = (
        "_awaited",
        "_edges",
        "_grace",
        "_limit",
        "_requests",
        "_then",
        "_unsent",
        "_waiting",
        "call",
        "number",
        "over",
        "token",
        "worker",
    )

    def __init__(
        self, requests: RequestServer, worker: Worker, number: int, call: int, token: Token[Any] | None
    ) -> None:
        self.worker = worker
        self.number = number
        self.call = call
        self.token = token
        self.over = False
        self._requests = requests
        self._unsent: Token[Any] | None = None  # waits for room in its mailbox
        self._awaited: Reply[Any] | None = None
        self._then: Callable[[], object] | None = None  # called after either
        self._limit: Deadline | None = None  # ends the wait
        self._grace: Deadline | None = None  # lends the turn, if the wait goes on
        self._waiting = False  # whether the token is marked as waiting
        self._edges: ExitStack | None = None  # removes the token's entry in the waits-for graph

    # In the name of the code that asks

    def run(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call a function as the code that asks would: in its context, with its token as the current one."""
        token = self.token
        if token is None:
            return contextvars.Context().run(fn, *args, **kwargs)
        context = token._context
        if context is None:
            raise _ended(token)
        # A copy: what is set here is for this call only, and two threads cannot be in one context at once.
        context = context.copy()
        context.run(_current.set, token)
        return context.run(fn, *args, **kwargs)

    def check_token(self) -> None:
        """Raise `ActorDead` if the token that asks has ended: its requests are not carried out any more."""
        token = self.token
        if token is not None and (token.done() or token._context is None):
            raise _ended(token)

    def is_of(self, place: Place) -> bool:
        """Tell whether the code that asks runs in a place, so that it cannot wait for the place."""
        if self.token is not None and self.token._place is place:
            return True
        return self.worker.own and getattr(self.worker.holder, "place", None) is place

    # Sending

    def send(self, token: Token[Any], then: Callable[[], object]) -> None:
        """Put a token into its mailbox as soon as there is room, then call `then`: the token is queued, or rejected."""
        self._unsent, self._then = token, then
        self._offer()

    def _offer(self) -> None:
        token = self._unsent
        if token is None:
            return  # it was given up meanwhile
        self._stop_waiting()
        place = place_of(token)
        try:
            if place.system.guarded:
                place.system.check_intake(token)
            governor = place.governor
            if governor is not None:
                run = governor.at_door(token)
                if run is None:
                    self._unsent = None
                    self._continue()
                    return
                token = self._unsent = run
            put = place.mailbox.put(token)
            if put is Put.FULL and (isinstance(token, DurableToken) or not self._cannot_wait_for(place)):
                put = place.mailbox.put(token, self._on_room)
                if put is Put.FULL:
                    self._begin_waiting(place)
                    return
            if put is not Put.ACCEPTED:
                raise place._full("an actor cannot wait for itself" if put is Put.FULL else "")
        except (ActorDead, MailboxFull, TokenRejected) as error:
            place.reject(token, error)
        self._unsent = None
        self._continue()

    def _cannot_wait_for(self, place: Place) -> bool:
        return place.mailbox.concurrency == 1 and self.is_of(place)

    def _on_room(self) -> None:
        self._requests.host.call_soon(lambda: self._requests.guard(self, self._offer))

    def _reject_unsent(self) -> None:
        token, self._unsent = self._unsent, None
        if token is not None:
            place_of(token).mailbox.forget_sender(self._on_room)
            place_of(token).reject(token, TokenRejected(f"{token._describe()} was given up by its sender"))

    # Waiting

    def wait_for(
        self,
        awaited: Reply[Any],
        timeout: float | None,
        then: Callable[[], object],
        late: Callable[[], str] | None = None,
    ) -> None:
        """Call `then` when an outcome is there, or answer with `WaitTimeout`.

        Args:
            awaited: the token or reply with the outcome.
            timeout: seconds at most; None waits without limit.
            then: is called when the outcome is there.
            late: returns the text of the `WaitTimeout`, if not the usual one.

        Raises:
            DeadlockError: `awaited` waits for the code that asks.
        """
        self._then = then
        if awaited.done():
            self._continue()
            return
        seconds = None if timeout in (None, math.inf) else max(0.0, float(timeout))
        self._awaited = awaited
        if seconds == 0.0:
            self._time_out(awaited, timeout, late)
            return
        self._begin_waiting(awaited)
        awaited.add_done_callback(self._on_outcome)
        if seconds is not None:
            self._limit = self._requests.host.call_later(seconds, lambda: self._time_out(awaited, timeout, late))

    def _on_outcome(self, _reply: object) -> None:
        self._requests.host.call_soon(self._continue_with_outcome)

    def _continue_with_outcome(self) -> None:
        if self._awaited is not None:
            self._forget_awaited()
            self._continue()

    def _time_out(self, awaited: Reply[Any], timeout: float | None, late: Callable[[], str] | None) -> None:
        if self._awaited is not awaited or awaited.done():
            return
        why = late() if late is not None else f"no outcome of {awaited._describe()} after {timeout} s"
        self.fail(WaitTimeout(why))

    def _forget_awaited(self) -> None:
        awaited, self._awaited = self._awaited, None
        limit, self._limit = self._limit, None
        if awaited is not None:
            awaited._discard_callback(self._on_outcome)
        if limit is not None:
            limit.cancel()
        self._stop_waiting()

    def _continue(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            self._requests.guard(self, then)

    # While the token waits, its turn is lent, and the waits-for graph has an edge from it

    def _begin_waiting(self, awaited: Place | Reply[Any]) -> None:
        token = self.token
        if token is None:
            return
        place = place_of(awaited) if isinstance(awaited, Token) else awaited if isinstance(awaited, Place) else None
        edges = ExitStack()
        if isinstance(awaited, Token | Place):
            edges.enter_context(waiting_for(token, awaited))
        self._edges = edges
        self._waiting = True
        token.add_done_callback(self._token_ended)
        if place is not None and place.affinity == "process" and not place.exclusive:  # it needs what this one has
            self._lend()
        else:
            self._grace = self._requests.host.call_later(_GRACE_SECONDS, self._lend_late)

    def _lend_late(self) -> None:
        self._requests.guard(self, self._lend)

    def _lend(self) -> None:
        """Lend the turn of the token, and take back the calls that its worker has not started.

        Raises:
            DeadlockError: so many tokens wait already that no process is left for the one that this one waits for.
        """
        token, worker, host = self.token, self.worker, self._requests.host
        if token is None or token.done():
            return
        try:
            _drain_of(token).lend_turn(worker, self)
        except DeadlockError as error:
            raise with_chain(error, token) from None
        if len(worker.inflight) > 1:  # these are not to wait as well
            host.call_soon(lambda: host.reclaim(worker))

    def _stop_waiting(self) -> None:
        token = self.token
        if token is None or not self._waiting:
            return
        self._waiting = False
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        edges, self._edges = self._edges, None
        if edges is not None:
            edges.close()
        _drain_of(token).take_turn_back(self.worker, self)
        token._discard_callback(self._token_ended)

    def _token_ended(self, token: Token[Any]) -> None:
        self._requests.host.call_soon(lambda: self._on_token_ended(token))

    def _on_token_ended(self, token: Token[Any]) -> None:
        self.fail(_ended(token))
        _drain_of(token).go_on(self.worker)  # it was sent nothing while its turn was lent

    # Answering

    def answer(self, value: Any = None) -> bool:
        """Send a value, unless the request is answered; tell whether the child gets it."""
        return self._end() and self._requests.reply(self, value)

    def answer_with(self, reply: Reply[Any], value_of: Callable[[Any], object]) -> None:
        """Send what a function makes of the value of a reply, or its error."""
        if reply._error is None:
            self.answer(value_of(reply._value))
        else:
            self.fail(reply._error)

    def answer_as(self, token: Token[Any], *, plainly: bool = False) -> bool:
        """Send the outcome of a token, as `Token.result` would return or raise it; tell whether that is a value.

        Args:
            token: one that has ended.
            plainly: whether a `BaseException` that is no `Exception` is sent as it is, not as `TokenFailed`.
        """
        error = token._error
        if error is None:
            return self.answer(token._value)
        if plainly or isinstance(error, Exception):
            self.fail(error)
        else:
            failed = TokenFailed(f"{token._describe()} raised {safe_repr(error)}")
            failed.__cause__ = error
            self.fail(failed)
        return False

    def fail(self, error: BaseException) -> None:
        """Send an error, unless the request is answered."""
        if self._end():
            self._requests.reply_error(self, error)

    def give_up(self) -> None:
        """End without an answer: the child is dead."""
        self._end()

    def _end(self) -> bool:
        if self.over:
            return False
        self.over = True
        self._then = None
        self._forget_awaited()
        self._reject_unsent()
        self._requests.over(self)
        return True


def _drain_of(token: Token[Any]) -> RequestDrain:
    return cast("RequestDrain", token._place.drain)


def _ended(token: Token[Any]) -> ActorDead:
    return ActorDead(f"{token._describe()} has ended: what its code asks for is not done")
