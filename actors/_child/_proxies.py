"""Counterparts of refs, tokens and operations in a child: each method is a request to the gate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from operator import methodcaller
from typing import Any, Final

from ._current_worker import current_worker
from ._exceptions import WaitTimeout
from ._pickling import exchange_found

_MISSING: Final = object()


class RemoteToken:
    """A token in the gate; `result` and `exception` wait for its end.

    Attributes:
        id: as in the gate.
    """

    def __init__(self, id: int) -> None:
        self.id = id
        self._value: Any = _MISSING

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the outcome and return it, or raise it.

        Raises:
            WaitTimeout: it was not there in `timeout` seconds; the token goes on.
            DeadlockError: the token waits for the running step.
            Exception: the error of the token.
        """
        if self._value is _MISSING:
            self._value = current_worker.ask("result", self.id, timeout)
        return self._value

    def get(self, *, timeout: float | None = None) -> Any:
        """Do as `result` does, under pykka's name for it."""
        return self.result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the outcome and return its exception, or None; waits as `result` does."""
        try:
            self.result(timeout)
        except WaitTimeout as error:
            if not self.done():
                raise
            return error
        except Exception as error:
            return error
        return None

    def done(self) -> bool:
        """Tell whether the outcome is there."""
        return self._value is not _MISSING or bool(current_worker.ask("done", self.id))

    def cancel(self) -> bool:
        """Ask the token to end; return True if it has ended at once."""
        return bool(current_worker.ask("cancel", self.id))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteToken) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Token {self.id}>"


class Ref:
    """The address of an actor: valid across its restarts; two of the same actor are equal.

    Attributes:
        path: names from the root of the tree down, joined by `/`.
    """

    def __init__(self, path: str, class_name: str = "Actor") -> None:
        self.path = path
        self._class_name = class_name

    def is_alive(self) -> bool:
        """Tell whether the actor accepts messages; true while it is being restarted, too."""
        return bool(current_worker.ask("alive", self.path))

    def tell(self, message: Any) -> None:
        """Send a message and expect no answer; wait while the mailbox is full.

        Raises:
            ActorDead: the actor has stopped for good.
        """
        current_worker.ask("tell", self.path, message)

    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any:
        """Send a message and wait for the answer.

        Args:
            message: anything.
            block: False returns the token at once, instead of waiting for its result.
            timeout: seconds to wait for the answer; None waits without limit.

        Raises:
            ActorDead: the actor has stopped.
            WaitTimeout: no answer in time; the token goes on.
            DeadlockError: the actor waits for the running step.
            Exception: what the actor raised.
        """
        if not block:
            return RemoteToken(current_worker.ask("send", self.path, message))
        return current_worker.ask("ask", self.path, message, timeout)

    def do(self, method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> RemoteToken:
        """Send a call of a method of the class, and return its token: `ref.do(Counter.add, 2)`."""
        return RemoteToken(current_worker.ask("call", self.path, (method.__name__,), args, kwargs))

    def stop(self, *, block: bool = True, timeout: float | None = None) -> bool:
        """Stop the actor after all that is in its mailbox; return True if it was alive."""
        return bool(current_worker.ask("stop", self.path, block, timeout))

    def proxy(self) -> Proxy:
        """Return an object with the actor's methods: each call sends a token."""
        return Proxy(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return f"<ActorRef for {self}>"

    def __str__(self) -> str:
        return f"{self._class_name} ({self.path})"


class Proxy:
    """A proxy of an actor; it does not know which attributes the actor has.

    `proxy.method(...)` returns the call's token; `proxy.method.defer(...)` expects no answer; `proxy.attribute` is
    read when its `result()`, or `get()`, is asked for; `proxy.attribute = value` waits until the value is set.
    """

    def __init__(self, actor_ref: Ref, attr_path: tuple[str, ...] = ()) -> None:
        self.actor_ref = actor_ref
        self._attr_path = tuple(attr_path)

    def __getattr__(self, name: str) -> Member:
        if name.startswith("_"):
            raise AttributeError(f"{self} has no attribute {name!r}: names with a leading underscore are private")
        return Member(self.actor_ref, (*self._attr_path, name))

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "actor_ref" or name.startswith("_"):  # the proxy's own
            object.__setattr__(self, name, value)
        else:
            current_worker.ask("set", self.actor_ref.path, (*self._attr_path, name), value)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Proxy)
            and type(self) is type(other)
            and (self.actor_ref, self._attr_path) == (other.actor_ref, other._attr_path)
        )

    def __hash__(self) -> int:
        return hash((self.actor_ref, self._attr_path))

    def __repr__(self) -> str:
        return f"<ActorProxy for {self.actor_ref}, attr_path={self._attr_path!r}>"


class Member(Proxy):
    """An attribute of an actor: a method if it is called, else a value, which is read when it is first used."""

    _read: RemoteToken | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> RemoteToken:
        return RemoteToken(current_worker.ask("call", self.actor_ref.path, self._attr_path, args, kwargs))

    def defer(self, *args: Any, **kwargs: Any) -> None:
        """Call the method and expect no answer."""
        current_worker.ask("defer", self.actor_ref.path, self._attr_path, args, kwargs)

    @property
    def _token(self) -> RemoteToken:
        if self._read is None:
            self._read = RemoteToken(current_worker.ask("get", self.actor_ref.path, self._attr_path))
        return self._read

    @property
    def id(self) -> int:
        """Id of the token that reads the attribute."""
        return self._token.id

    def result(self, timeout: float | None = None) -> Any:
        """Read the attribute, and wait for its value."""
        return self._token.result(timeout)

    def get(self, *, timeout: float | None = None) -> Any:
        """Do as `result` does, under pykka's name for it."""
        return self._token.result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Read the attribute, and return the exception that this raised, or None."""
        return self._token.exception(timeout)

    def done(self) -> bool:
        """Tell whether the value is there; the first use starts to read it."""
        return self._token.done()

    def cancel(self) -> bool:
        """Ask the token that reads the attribute to end."""
        return self._token.cancel()


class Operation:
    """A function; its calls are tokens of the gate.

    Attributes:
        name: as in the gate.
        key: identifies it in the gate: its module and name if the gate finds it by these, else a number.
    """

    def __init__(
        self,
        key: int | str,
        name: str,
        priority: int | None = None,
        tags: Mapping[str, str] | None = None,
        identity: str | int | None = None,
    ) -> None:
        self.key = key
        self.name = self.__name__ = name
        self._options = priority, None if tags is None else dict(tags), identity

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it as a token, and wait for its result."""
        return current_worker.ask("direct", self.key, args, kwargs, *self._options)

    call = __call__

    def submit(self, *args: Any, **kwargs: Any) -> RemoteToken:
        """Send a token, and return it at once."""
        return RemoteToken(current_worker.ask("submit", self.key, args, kwargs, *self._options))

    def submit_after(self, seconds: float, /, *args: Any, **kwargs: Any) -> RemoteToken:
        """Send a token that begins after so many seconds, and return it at once."""
        return self.submit_later(seconds, *args, **kwargs)

    def submit_at(self, moment: datetime, /, *args: Any, **kwargs: Any) -> RemoteToken:
        """Send a token that begins at a moment, which has a timezone, and return it at once."""
        return self.submit_later(moment, *args, **kwargs)

    def submit_later(self, when: float | datetime, /, *args: Any, **kwargs: Any) -> RemoteToken:
        """Send a token that begins after so many seconds, or at a moment."""
        return RemoteToken(current_worker.ask("submit", self.key, args, kwargs, *self._options, when))

    def map(self, *iterables: Iterable[Any]) -> list[RemoteToken]:
        """Send a token for each item, as the built-in `map` would call it."""
        return [self.submit(*args) for args in zip(*iterables, strict=False)]

    def with_options(
        self,
        *,
        priority: int | None = None,
        tags: Mapping[str, str] | None = None,
        key: str | int | None = None,
    ) -> Operation:
        """Return the same operation with another priority, more tags, another key that its calls share a run by."""
        own_priority, own_tags, own_key = self._options
        merged = None if tags is None and own_tags is None else {**(own_tags or {}), **(tags or {})}
        priority = own_priority if priority is None else priority
        return Operation(self.key, self.name, priority, merged, own_key if key is None else key)

    def __get__(self, instance: object, owner: type | None = None) -> Operation | BoundOperation:
        return self if instance is None else BoundOperation(self, instance)

    def __repr__(self) -> str:
        return f"<Operation {self.name}>"


class BoundOperation:
    """An operation that is a method, bound to an instance, which is the first argument of each call."""

    def __init__(self, operation: Operation, instance: object) -> None:
        self.__func__ = operation
        self.__self__ = instance

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it as a token, and wait for its result."""
        return self.__func__(self.__self__, *args, **kwargs)

    def submit(self, *args: Any, **kwargs: Any) -> RemoteToken:
        """Send a token, and return it at once."""
        return self.__func__.submit(self.__self__, *args, **kwargs)

    def submit_after(self, seconds: float, /, *args: Any, **kwargs: Any) -> RemoteToken:
        """Send a token that begins after so many seconds, and return it at once."""
        return self.__func__.submit_after(seconds, self.__self__, *args, **kwargs)

    def submit_at(self, moment: datetime, /, *args: Any, **kwargs: Any) -> RemoteToken:
        """Send a token that begins at a moment, which has a timezone, and return it at once."""
        return self.__func__.submit_at(moment, self.__self__, *args, **kwargs)

    def map(self, *iterables: Iterable[Any]) -> list[RemoteToken]:
        """Send a token for each item, as the built-in `map` would call it."""
        return [self.submit(*args) for args in zip(*iterables, strict=False)]

    def with_options(
        self,
        *,
        priority: int | None = None,
        tags: Mapping[str, str] | None = None,
        key: str | int | None = None,
    ) -> BoundOperation:
        """Return the same operation with another priority, more tags, another key that its calls share a run by."""
        return BoundOperation(self.__func__.with_options(priority=priority, tags=tags, key=key), self.__self__)

    def __reduce__(self) -> tuple[Any, ...]:
        return methodcaller("__get__", self.__self__), (self.__func__,)

    def __repr__(self) -> str:
        return f"<bound {self.__func__!r} of {self.__self__!r}>"


exchange_found(RemoteToken, "found_token", lambda token: token.id, RemoteToken)
exchange_found(Ref, "found_ref", lambda ref: ref.path, Ref)
exchange_found(Operation, "found_operation", lambda operation: operation.key, lambda key: Operation(key, "?"))
