"""One request of a child process, from when it is heard until it is answered.

All of it happens on the host's thread, which is never held up: what a thread of the gate would wait for (room in a
mailbox, an outcome) comes back to here as a call.
"""

from __future__ import annotations

import contextvars
import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

from actors._exceptions import ActorDead, MailboxFull, TokenFailed, TokenRejected, WaitTimeout
from actors._exit_reason import safe_repr
from actors.mailboxes._mailbox import Put
from actors.places._place import Place, place_of
from actors.tokens._token import Token, _current
from actors.tokens._waits_for import waiting_for

if TYPE_CHECKING:
    from actors.concurrency._future import Reply
    from actors.processes.workers._deadlines import Deadline
    from actors.processes.workers._worker import Worker

T = TypeVar("T")

# Seconds that a token waits for what needs no process before its turn is lent: that may have a process made.
_GRACE_SECONDS: Final = 0.005


class RequestHost(Protocol):
    """The host of the child processes, on whose thread requests are answered."""

    def call_soon(self, fn: Callable[[], object], /) -> None: ...

    def call_later(self, seconds: float, fn: Callable[[], object], /) -> Deadline: ...

    def want_room(self, worker: Worker, /) -> None: ...

    def reclaim(self, worker: Worker, /) -> None: ...


class RequestServer(Protocol):
    """What has received a request, and sends its answer."""

    @property
    def host(self) -> RequestHost: ...

    def guard(self, request: Request, fn: Callable[[], object], /) -> None: ...

    def reply(self, request: Request, value: Any, /) -> bool: ...

    def reply_error(self, request: Request, error: BaseException, /) -> None: ...

    def over(self, request: Request, /) -> None: ...


class RequestDrain(Protocol):
    """The drain that runs the token whose code asks."""

    def lend_turn(self, worker: Worker, why: object, /) -> None: ...

    def take_turn_back(self, worker: Worker, why: object, /) -> None: ...

    def go_on(self, worker: Worker, /) -> None: ...


class Request:
    """What a child has asked, and how far the answer is.

    Args:
        requests: who knows of it until it is over.
        worker: the child.
        number: of the request.
        call: number of the call whose code asks.
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
        self._then: Callable[[], object] | None = None  # what comes after either
        self._limit: Deadline | None = None  # when the wait is given up
        self._grace: Deadline | None = None  # when the turn is lent, if the wait is still on
        self._waiting = False  # whether the code of the token is known to wait
        self._edges: ExitStack | None = None  # while it is, where others see it

    # What the code does

    def run(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call something of the runtime's as the code that asks would: in its context, and as its token."""
        token = self.token
        if token is None:
            return contextvars.Context().run(fn, *args, **kwargs)
        context = token._context
        if context is None:
            raise _ended(token)
        # A copy, because what it sets is for this call, and because two threads cannot be in one context at once.
        context = context.copy()
        context.run(_current.set, token)
        return context.run(fn, *args, **kwargs)

    def check_token(self) -> None:
        """Raise `ActorDead` if the token has ended whose code asks: then nothing of that is done any more."""
        token = self.token
        if token is not None and (token.done() or token._context is None):
            raise _ended(token)

    def is_of(self, place: Place) -> bool:
        """Tell whether the code that asks is a place's own, so that it cannot wait for the place."""
        if self.token is not None and self.token._place is place:
            return True
        return self.worker.own and getattr(self.worker.holder, "place", None) is place

    # Sending

    def send(self, token: Token[Any], then: Callable[[], object]) -> None:
        """Put a token into its mailbox as soon as there is room, and go on with it: `queued`, or `rejected`."""
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
            put = place.mailbox.put(token)
            if put is Put.FULL and not self._may_not_wait_for(place):
                put = place.mailbox.put(token, self._room)
                if put is Put.FULL:
                    self._begin_waiting(place)
                    return
            if put is not Put.ACCEPTED:
                raise place._full("an actor cannot wait for itself" if put is Put.FULL else "")
        except (ActorDead, MailboxFull) as error:
            place._reject(token, error)
        self._unsent = None
        self._go_on()

    def _may_not_wait_for(self, place: Place) -> bool:
        return place.mailbox.concurrency == 1 and self.is_of(place)

    def _room(self) -> None:
        self._requests.host.call_soon(lambda: self._requests.guard(self, self._offer))

    def _take_back_unsent(self) -> None:
        token, self._unsent = self._unsent, None
        if token is not None:
            place_of(token).mailbox.forget_sender(self._room)
            place_of(token)._reject(token, TokenRejected(f"{token._describe()} was given up by its sender"))

    # Waiting

    def wait_for(
        self,
        awaited: Reply[Any],
        timeout: float | None,
        then: Callable[[], object],
        late: Callable[[], str] | None = None,
    ) -> None:
        """Go on when an outcome is there; or answer with `WaitTimeout`.

        Args:
            awaited: what it is the outcome of.
            timeout: seconds, at most; None waits for ever.
            then: what comes after it.
            late: what the `WaitTimeout` says, if not the usual.

        Raises:
            DeadlockError: it waits for the code that would wait for it.
        """
        self._then = then
        if awaited.done():
            self._go_on()
            return
        seconds = None if timeout in (None, math.inf) else max(0.0, float(timeout))
        self._awaited = awaited
        if seconds == 0.0:
            self._too_late(awaited, timeout, late)
            return
        self._begin_waiting(awaited)
        awaited.add_done_callback(self._arrived)
        if seconds is not None:
            self._limit = self._requests.host.call_later(seconds, lambda: self._too_late(awaited, timeout, late))

    def _arrived(self, _reply: object) -> None:
        self._requests.host.call_soon(self._on_arrival)

    def _on_arrival(self) -> None:
        if self._awaited is not None:
            self._let_go_of_awaited()
            self._go_on()

    def _too_late(self, awaited: Reply[Any], timeout: float | None, late: Callable[[], str] | None) -> None:
        if self._awaited is not awaited or awaited.done():
            return
        why = late() if late is not None else f"no outcome of {awaited._describe()} after {timeout} s"
        self.fail(WaitTimeout(why))

    def _let_go_of_awaited(self) -> None:
        awaited, self._awaited = self._awaited, None
        limit, self._limit = self._limit, None
        if awaited is not None:
            awaited._discard_callback(self._arrived)
        if limit is not None:
            limit.cancel()
        self._stop_waiting()

    def _go_on(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            self._requests.guard(self, then)

    # That the token waits: its turn is somebody else's meanwhile, and nobody waits for it in a circle

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
        token.add_done_callback(self._token_over)
        if place is not None and place.affinity == "process" and not place.exclusive:  # it needs what this one has
            self._lend()
        else:
            self._grace = self._requests.host.call_later(_GRACE_SECONDS, self._lend)

    def _lend(self) -> None:
        """Let others have what the token keeps from them as it waits."""
        token, worker, host = self.token, self.worker, self._requests.host
        if token is None or token.done():
            return
        _drain_of(token).lend_turn(worker, self)
        if len(worker.inflight) > 1:  # what it has in hand beside that is not to wait as well
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
        token._discard_callback(self._token_over)

    def _token_over(self, token: Token[Any]) -> None:
        self._requests.host.call_soon(lambda: self._on_token_over(token))

    def _on_token_over(self, token: Token[Any]) -> None:
        self.fail(_ended(token))
        _drain_of(token).go_on(self.worker)  # which was sent nothing as long as its turn was lent

    # Answering

    def answer(self, value: Any = None) -> bool:
        """Send a value, unless it is answered; tell whether the child gets it."""
        return self._end() and self._requests.reply(self, value)

    def answer_as(self, token: Token[Any], *, plainly: bool = False) -> bool:
        """Send the outcome of a token, as its `result` would return or raise it; tell whether the child has a value.

        Args:
            token: one that has ended.
            plainly: whether what is no `Exception` is raised as it is.
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
        """Send an error, unless it is answered."""
        if self._end():
            self._requests.reply_error(self, error)

    def give_up(self) -> None:
        """Answer nothing any more: the child is dead."""
        self._end()

    def _end(self) -> bool:
        if self.over:
            return False
        self.over = True
        self._then = None
        self._let_go_of_awaited()
        self._take_back_unsent()
        self._requests.over(self)
        return True


def _drain_of(token: Token[Any]) -> RequestDrain:
    return cast("RequestDrain", token._place.drain)


def _ended(token: Token[Any]) -> ActorDead:
    return ActorDead(f"{token._describe()} has ended: what its code asks for is not done")
