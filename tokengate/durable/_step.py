"""`step`: what it has returned for a durable token is on disk, and is not called again when the token runs again."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar, cast

import msgspec

from actors import NotDurable, Reply, Token, WouldBlock, current_token
from actors.lowlevel import DurableToken, ask_gate, loop_here, made_by, submits_to_gate
from tokengate.durable._codec import decoder_of_results, encode_result, is_same
from tokengate.durable._record import Record
from tokengate.durable._steps import WITHIN, shown
from tokengate.operations._functions import is_coroutine_function

P = ParamSpec("P")
T = TypeVar("T")

# The token whose step this code is in, and what the names of steps within that begin with.
_within: ContextVar[tuple[object, str]] = ContextVar("step", default=(None, ""))


def step(name: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function once for a durable token, however often that runs: what it returns is on disk before this does.

    A second run of the token gets the value from there, without the call. It is found by its name and count, in the
    order of the calls of `step` with that name; steps that run at the same time should have names of their own. An
    error is not recorded: the next run calls the function again. In code that runs for no durable token, and in
    threads that this has started itself, the function is called, and nothing else happens.

    Args:
        name: printable text; a step within another one has a count of its own there.
        function: a plain function, whose value JSON can hold, and its return annotation turns into what it was; or a
            coroutine function: then this returns an awaitable (trio and asyncio).
        args: positional arguments.
        kwargs: keyword arguments.

    Raises:
        ValueError: the name is empty, or not printable.
        NotDurable: the value would not come back as it is; or the token has had 10,000 steps.
        WouldBlock: this is the thread of a loop, and the function is no coroutine function.
        JournalFailed: the value cannot be written; the function may have been called.
    """
    if not (isinstance(name, str) and name and name.isprintable()):
        raise ValueError(f"the name of a step is {name!r}; it must be printable text")
    token = current_token()
    log = _log_of(token)
    if log is None:
        return function(*args, **kwargs)
    is_async = is_coroutine_function(function)
    if not is_async and (loop := loop_here()):
        raise WouldBlock(
            f"step '{name}' would block this {loop} loop until it is on disk; give it a coroutine function"
        )
    owner, prefix = _within.get()
    path = prefix + name if owner is token else name
    found = log.find(path)
    if found is None:  # in a child process, which asks its gate whether the token is durable
        return function(*args, **kwargs)
    one = _Step(token, log, path, *found, function)
    call = partial(function, *args, **kwargs)
    return cast("T", one.awaited(cast("Any", call))) if is_async else one.run(call)


class Log(Protocol):
    """What keeps the steps of a token."""

    def find(self, path: str, /) -> tuple[int, Reply[bytes | None]] | None:
        """Return the count of a step that begins, and its value, None if there is none yet; None: nothing is kept."""
        ...

    def add(self, path: str, nth: int, value: bytes, /) -> Reply[None]:
        """Have a value written."""
        ...


class _Step:
    """One step."""

    def __init__(
        self, token: Any, log: Log, path: str, nth: int, found: Reply[bytes | None], function: Callable[..., Any]
    ) -> None:
        self._token, self._log, self._path, self._nth, self._found = token, log, path, nth, found
        self._function = function

    def run(self, call: Callable[[], T]) -> T:
        value = self._found.result()
        if value is not None:
            return cast("T", self._decoded(value))
        with self._inside():
            result = call()
        self._log.add(self._path, self._nth, self._encoded(result)).result()
        return result

    async def awaited(self, call: Callable[[], Awaitable[T]]) -> T:
        value = await self._wait(self._found)
        if value is not None:
            return cast("T", self._decoded(value))
        with self._inside():
            result = await call()
        await self._wait(self._log.add(self._path, self._nth, self._encoded(result)))
        return result

    async def _wait(self, reply: Reply[Any]) -> Any:
        token = self._token
        if reply.done() or not isinstance(token, Token):
            return reply.result()
        token.lend_turn()
        try:
            return await reply
        finally:
            token.take_turn_back()

    @contextmanager
    def _inside(self) -> Generator[None]:
        before = _within.set((self._token, f"{self._path}{WITHIN}{self._nth}{WITHIN}"))
        try:
            yield
        finally:
            _within.reset(before)

    def _encoded(self, value: object) -> bytes:
        """Return a value as JSON.

        Raises:
            NotDurable: it would not come back as it is.
        """
        name = shown(self._path, self._nth)
        text = encode_result(f"step {name}", value)
        try:
            back = self._decoded(text)
        except msgspec.ValidationError as error:
            raise NotDurable(f"the result of step {name} cannot be kept: {error}") from error
        if not is_same(value, back):
            raise NotDurable(
                f"the result of step {name}, a {type(value).__qualname__}, would not come back as it is; "
                "annotate what its function returns"
            )
        return text

    def _decoded(self, text: bytes) -> Any:
        return decoder_of_results(self._function)(text)


def key_of_child(token: DurableToken[Any], operation: str, arguments: bytes) -> str | None:
    """Return the key of a durable token that the code of another one makes without one: its next run finds it by that.

    Args:
        token: the token, which has not begun.
        operation: its name on disk.
        arguments: its arguments on disk.
    """
    parent = made_by(token)
    if not isinstance(parent, DurableToken) or not isinstance(parent.record, Record) or token._context is None:
        return None
    owner, prefix = token._context.get(_within, (None, ""))
    call = b"%s\0%s\0%s" % ((prefix if owner is parent else "").encode(), operation.encode(), arguments)
    digest = hashlib.blake2b(call, digest_size=16).hexdigest()
    return f"child/{parent.record.uid}/{digest}/{parent.record.steps.next('/' + digest)}"


class _InGate:
    """The steps of the token of this child process, which its gate keeps."""

    def find(self, path: str) -> tuple[int, Reply[bytes | None]] | None:
        found = ask_gate("step", path)
        return None if found is None else (found[0], _done(found[1]))

    def add(self, path: str, nth: int, value: bytes) -> Reply[None]:
        ask_gate("step_done", path, nth, value)
        return _done(None)


def _done(value: T) -> Reply[T]:
    reply: Reply[T] = Reply()
    reply._set(value)
    return reply


def _log_of(token: object) -> Log | None:
    if isinstance(token, DurableToken):
        return token.record.steps if isinstance(token.record, Record) else None
    return _InGate() if token is not None and not isinstance(token, Token) and submits_to_gate() else None
