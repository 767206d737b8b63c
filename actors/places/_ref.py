"""References to actors: the rest of the program holds these instead of actors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeAlias, TypeVar, cast, overload

import attrs
import pykka
import pykka.messages
from pykka.messages import _ActorStop

from actors._exceptions import DeadlockError, MailboxFull, WaitTimeout, WouldBlock
from actors.concurrency._blocking import loop_here
from actors.concurrency._future import Later, Reply
from actors.places._proxy import ActorProxy
from actors.places._watch import Down, Watch
from actors.tokens._lifecycle import TokenState
from actors.tokens._token import Token

if TYPE_CHECKING:
    from actors.mailboxes._mailbox import Mailbox
    from actors.places._actor_place import ActorPlace

A = TypeVar("A", bound="pykka.Actor")
P = ParamSpec("P")
T = TypeVar("T")

# Returned by a method whose token has the final value as its result: a coroutine, a generator, or a `Later`.
Answer: TypeAlias = Coroutine[Any, Any, T] | Generator[Any, Any, T] | Later[T]

_PROXY_MESSAGES = frozenset((pykka.messages.ProxyCall, pykka.messages.ProxyGetAttr, pykka.messages.ProxySetAttr))


class ActorRef(pykka.ActorRef[A]):
    """The address of an actor: valid across its restarts, and safe to pass around.

    There is one for each place, so two refs are equal when they are the same object.
    """

    def __init__(self, place: ActorPlace) -> None:
        self._place = place
        self.actor_class: type[A] = place.actor_class  # type: ignore[assignment]  # a cast would cost a call

    @property
    def path(self) -> str:
        """Names from the root of the tree down, joined by `/`."""
        return self._place.path

    @property
    def actor_urn(self) -> str:  # type: ignore[override]
        """A globally unique name; it stays the same across restarts."""
        return self._place.urn

    @property
    def actor_inbox(self) -> Mailbox:  # type: ignore[override]
        """The mailbox of the actor's place."""
        return self._place.mailbox

    @property
    def actor_stopped(self) -> threading.Event:  # type: ignore[override]
        """Set while the actor accepts no messages and has no instance; cleared when the place is started again."""
        return self._place.stopped

    @property
    def _actor_weakref(self) -> Callable[[], A | None]:  # type: ignore[override]
        """For pykka's own proxy, which gets the instance from it."""
        return lambda: cast("A | None", self._place.instance)

    def is_alive(self) -> bool:
        """Tell whether the actor accepts messages; true while it is being restarted, too."""
        return self._place.is_alive()

    def tell(self, message: Any) -> None:
        """Send a message and expect no answer; wait while the mailbox is full.

        Raises:
            ActorDead: the actor has stopped for good.
            MailboxFull: the mailbox is full and the sender may not wait here.
        """
        if type(message) is _ActorStop:
            self._place.stop(drain=True, administrative=False)
            return
        token = self._token_of_tell(message)
        policy = token._extras.policy
        if policy is not None:
            policy.outlive_sender()
        self._place.send(token)
        error = token._error
        if error is not None and token._end is TokenState.REJECTED:
            if isinstance(error, MailboxFull) and self._place.mailbox.overflow == "drop_newest":
                return  # dropped by the overflow policy, and reported as a dead letter
            try:
                raise error
            finally:
                del error, token  # the error references this frame, which must not reference the error

    @overload
    def ask(self, message: Any, *, block: Literal[False], timeout: float | None = None) -> Token[Any]: ...

    @overload
    def ask(self, message: Any, *, block: Literal[True], timeout: float | None = None) -> Any: ...

    @overload
    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any: ...

    def ask(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, message: Any, *, block: bool = True, timeout: float | None = None
    ) -> Any:
        """Send a message and wait for the answer.

        Args:
            message: anything; `pykka.messages.ProxyCall` calls a method.
            block: False returns the token at once, instead of waiting for its result.
            timeout: seconds to wait for the answer; None waits for ever.

        Raises:
            ActorDead: the actor has stopped, before or after the message came.
            WaitTimeout: no answer in time; the token goes on.
            WouldBlock: this is the thread of a loop; nothing was sent. Use `await ref.call(message)`.
            DeadlockError: the actor waits, directly or indirectly, for the step that asks; the message is withdrawn.
            Exception: what the actor raised.
        """
        if type(message) is _ActorStop:
            return self.stop(block=block, timeout=timeout)
        if block and (loop := loop_here()):
            raise WouldBlock(
                f"asking '{self.path}' would block the {loop} loop of this thread; use 'await ref.call(...)'"
            )
        token = self._place.send(self._token(message))
        if not block:
            return token
        try:
            return token.result(timeout)
        except DeadlockError:
            token.cancel()  # no code would receive its answer
            raise
        except WaitTimeout:
            if token.done():
                raise
            raise WaitTimeout(f"actor '{self.path}' did not answer {token.operation} within {timeout} s") from None
        finally:
            del token  # as in `tell`

    @overload
    def do(self, method: Callable[Concatenate[A, P], Answer[T]], /, *args: P.args, **kwargs: P.kwargs) -> Token[T]: ...

    @overload
    def do(self, method: Callable[Concatenate[A, P], T], /, *args: P.args, **kwargs: P.kwargs) -> Token[T]: ...

    def do(self, method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Token[Any]:
        """Send a call of a method of the class, and return its token: `ref.do(Counter.add, 2)`.

        The method is looked up by its name, so a subclass's own is called. The token of a refused call is `rejected`.

        Raises:
            TypeError: the actor's class does not have the method.
        """
        return self._place.send(self._token_of_call(method, args, kwargs, method=True))

    @overload
    async def call(self, method: Callable[Concatenate[A, P], Answer[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    @overload
    async def call(self, method: Callable[Concatenate[A, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    @overload
    async def call(self, message: Any, /) -> Any: ...

    async def call(self, message: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Ask as `ask` does, but await room in the mailbox and the answer (trio and asyncio).

        In the loop of an idle io or asyncio actor, a handler that cannot wait runs in the calling task. Cancelling the
        wait does not cancel the message.

        Args:
            message: a message, or a method as for `do`: `await ref.call(Counter.add, 2)`.
            args: positional arguments of the method.
            kwargs: keyword arguments of the method.

        Raises:
            TypeError: there are arguments, but the actor's class does not have the method.
        """
        place = self._place
        if args or kwargs or callable(message):
            token = self._token_of_call(message, args, kwargs, method=bool(args or kwargs))
        else:
            token = self._token(message)
        call_here = place.drain.call_here
        if call_here is None or not await call_here(token):
            await place.send_async(token)
        try:
            if not token._done:
                return await token
            return token._value if token._error is None else token.result()
        except DeadlockError:
            token.cancel()
            raise
        finally:
            del token  # as in `tell`

    @overload
    def stop(self, *, block: Literal[True] = True, timeout: float | None = None) -> bool: ...

    @overload
    def stop(self, *, block: Literal[False], timeout: float | None = None) -> pykka.Future[bool]: ...

    @overload
    def stop(self, *, block: bool = True, timeout: float | None = None) -> bool | pykka.Future[bool]: ...

    def stop(self, *, block: bool = True, timeout: float | None = None) -> bool | pykka.Future[bool]:
        """Close the intake, let the actor handle all accepted messages, and end it; it is not restarted.

        Returns:
            True when this call found the actor alive, else False; or, not blocking, a future of that.

        Raises:
            WaitTimeout: it had not ended in time; it goes on stopping.
        """
        alive = self.is_alive()
        loop = loop_here()
        if block and loop and not self._place.runs_this_code():
            raise WouldBlock(f"stopping '{self.path}' would block the {loop} loop of this thread; use block=False")
        reply = self._place.stop(drain=True, administrative=True, here=not loop)
        if not block:
            return reply.map(lambda _reason: alive)
        if not self._place.runs_this_code():  # an actor cannot wait for its own end
            reply.result(timeout)
        return alive

    @overload
    def watch(self) -> Reply[Down]: ...

    @overload
    def watch(self, callback: Callable[[Down], object]) -> Watch: ...

    def watch(self, callback: Callable[[Down], object] | None = None) -> Reply[Down] | Watch:
        """Watch the actor: get a `Down` at each end of an instance, and at the end of its place.

        For a dead actor the `Down` comes at once, with the reason `noproc`. In an actor, `self.watch(ref)` delivers it
        as a message.

        Args:
            callback: called with each `Down`, on the thread where the end happens, so it must be quick; an exception is
                logged. None returns a reply with the first `Down` only.

        Returns:
            the watch, which can be cancelled; without a callback, a reply.
        """
        if callback is not None:
            watch = Watch(self._place, callback)
            watch.begin()
            return watch
        reply: Reply[Down] = Reply()
        Watch(self._place, reply._set, once=True).begin()
        return reply

    def proxy(self) -> ActorProxy[A]:
        """Return an object with methods that send calls to the actor, each of them a token."""
        return ActorProxy(actor_ref=self)

    def _token(self, message: Any) -> Token[Any]:
        place = self._place
        if type(message) not in _PROXY_MESSAGES:
            return place.token(place.receive, None, message)
        name = place.actor_class.__name__
        path = message.attr_path
        operation = f"{name}.{path[0] if len(path) == 1 else '.'.join(path)}"
        if isinstance(message, pykka.messages.ProxyCall):
            return place.token(operation, tuple(path), message.args, message.kwargs)
        return place.token(operation, message, ())

    _token_of_tell = _token

    def _token_of_call(
        self, message: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, method: bool
    ) -> Token[Any]:
        """Return the token of a call if the message is a method of the actor's class, else the token of a message.

        Raises:
            TypeError: `method` is true, and the class does not have it.
        """
        if method or callable(message):
            cls = self._place.actor_class
            name = _name_in(cls, message)
            if name is not None and callable(message):
                return self._place.token(f"{cls.__name__}.{name}", (name,), args, kwargs)
            if method:
                raise TypeError(f"{message!r} is no method of {cls.__name__}; write ref.do({cls.__name__}.method, ...)")
        return self._token(message)

    def __repr__(self) -> str:
        return f"<ActorRef for {self}>"

    def __str__(self) -> str:
        return f"{self.actor_class.__name__} ({self.path}, {self.actor_urn})"


def _name_in(cls: type, method: object) -> str | None:
    """Return the name under which a class, or one of its bases, has a method; None if none of them has it."""
    name = getattr(method, "__name__", None)
    if type(name) is str and getattr(cls, name, None) == method:
        return name
    return next((name for base in cls.__mro__ for name, value in vars(base).items() if value is method), None)


@attrs.frozen(eq=False)
class OneWay:
    """Marks a one-way token, for which the sender expects no answer, where that makes a difference.

    Attributes:
        call: the call of the token without the mark.
    """

    call: Any


@attrs.frozen
class CommandCall:
    """The call of a method that is marked as a command; no other method or attribute is found by its name."""

    name: str


class ForeignRef(ActorRef[A]):
    """The address of an actor that was written for pykka, which only one-way messages can crash."""

    def _token_of_tell(self, message: Any) -> Token[Any]:
        token = self._token(message)
        token._args, token._call = token.args, OneWay(token._call)
        return token
