"""Consent to calls: a call that needs it waits at the door of its place, in no mailbox, until it is agreed to."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from inspect import Signature
from typing import Any, Final, Protocol, cast

from actors import Token, TokenRejected
from actors.lowlevel import place_of, system_of
from tokengate.policy._rules import Delay

MOST: Final = 16_384
"""Bytes that the arguments of a call may have, so that a person can read them, and no loop is held up."""

_DEEPEST: Final = 50  # lists and dicts in each other


class Unreadable(Exception):
    """An argument has no canonical form; the text says which one, and why."""


class Asks(Protocol):
    """What asks people for their consent; its methods may be called on any thread."""

    def ask(self, call: WaitingCall, /) -> None:
        """Ask for consent to a call, which is then told by `agree` or `refuse`."""
        ...

    def withdraw(self, call: WaitingCall, /) -> None:
        """Ask no longer: the call has ended otherwise."""
        ...


class WaitingCall:
    """A call at the door. `leave` may be called on any thread, and the other methods on the system loop.

    Args:
        token: of the call.
        read: returns {name: value} of its arguments, of JSON's types; raises `Unreadable`.
        asks: asks for the consent.

    Attributes:
        token: of the call.
        arguments: {name: value}, of JSON's types.
        number: of the proposal; None before there is one.

    Raises:
        TokenRejected: its arguments have no canonical form.
    """

    __slots__ = ("_asks", "_read", "_ticket", "arguments", "number", "token")

    def __init__(self, token: Token[Any], read: Callable[[], dict[str, Any]], asks: Asks) -> None:
        self.token = token
        self.number: int | None = None
        self._read = read
        self._asks = asks
        self._ticket = [None]  # the code that takes it out decides what becomes of the call
        try:
            self.arguments = read()
        except Unreadable as error:
            raise refused(token, f"it needs consent to its arguments, and {error}") from None

    @property
    def waits(self) -> bool:
        """Whether the call still waits."""
        return bool(self._ticket)

    @property
    def is_filed(self) -> bool:
        """Whether a proposal says that it waits."""
        return self.number is not None

    def ask(self) -> None:
        """Ask for the consent, once the call is at the door."""
        self._asks.ask(self)

    def leave(self) -> bool:
        """Take the call from the door; return whether it was there: then the caller is to end it."""
        left = self._take()
        if left:
            self._asks.withdraw(self)
        return left

    def agree(self) -> str:
        """Send the call to its mailbox, since it is agreed to; return why not, empty if it is there."""
        token = self.token
        if not self._take():
            return "it had ended before"
        place, now = place_of(token), system_of(place_of(token)).clock()
        if not self._is_as_asked():
            return self._reject("its arguments have changed since consent was asked for")
        token.queued_at = now
        if not place.mailbox.put_again(token, Delay(now, None), comes=True):
            return self._reject("its mailbox is full, or has closed", "overload")
        if token._extras.cancel_requested:  # code that asked it to end meanwhile has found it nowhere
            token._cancel(token._extras.cancel_requested)
        elif token._extras.hold is not None:
            place.drain.hold_changed(token)
        return ""

    def refuse(self, why: str) -> None:
        """End the call, if it still waits: no person agrees to it."""
        if self._take():
            self._reject(why)

    def _is_as_asked(self) -> bool:
        try:
            return canonical(self._read()) == canonical(self.arguments)
        except Unreadable:
            return False

    def _reject(self, why: str, reason: str = "consent") -> str:
        place_of(self.token).reject(self.token, refused(self.token, why, reason))
        return why

    def _take(self) -> bool:
        try:
            self._ticket.pop()
        except IndexError:
            return False
        policy = self.token._extras.policy
        if policy is not None:
            policy.call = None  # a circle otherwise, which the collector alone would free
        return True


def refused(token: Token[Any], why: str, reason: str = "consent") -> TokenRejected:
    """Return the error of a call that is not agreed to."""
    policy = token._extras.policy
    if policy is not None:
        policy.reason = reason
    return TokenRejected(f"{token._describe()} was refused: {why}", reason)


def canonical(arguments: Mapping[str, Any]) -> str:
    """Return arguments as JSON with sorted keys."""
    return json.dumps(arguments, sort_keys=True, separators=(",", ":"))


def named(signature: Signature | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return {name: value} of the arguments of a call, copied, of JSON's types; no code of other classes is run.

    Args:
        signature: of the function; None if it has none.
        args: positional arguments.
        kwargs: keyword arguments.

    Raises:
        Unreadable: one has no such form, or they are too long.
    """
    try:
        given: Mapping[str, Any] = {} if signature is None else signature.bind(*args, **kwargs).arguments
    except TypeError:  # they do not fit, as the call itself will say
        given = {}
    given = given or {**{f"argument {number}": value for number, value in enumerate(args, 1)}, **kwargs}
    room = _Room()
    return {name: room.plain(name, value, 0) for name, value in given.items()}


class _Room:
    """What is left of the length that arguments may have."""

    def __init__(self) -> None:
        self._left = MOST

    def plain(self, name: str, value: Any, depth: int) -> Any:
        """Return a copy of an argument, or of a part of it, of JSON's types."""
        kind = type(value)
        if kind is str:
            self._take(name, value)
            return value
        if value is None or kind is bool or (kind is int and _fits(value)) or (kind is float and math.isfinite(value)):
            self._take(name, repr(value))
            return value
        problem = f"{kind.__name__} {'in it' if depth else 'is none of its types'}"
        if kind in (int, float):
            problem = "a number that is not finite, or has more than 64 bits"
        elif depth == _DEEPEST:
            problem = f"more than {_DEEPEST} lists and dicts in each other"
        elif kind is list or kind is tuple:
            self._take(name, "")
            return [self.plain(name, one, depth + 1) for one in tuple(value)]
        elif kind is dict:
            self._take(name, "")
            entries = cast("dict[Any, Any]", value.copy())
            if all(type(key) is str for key in entries):
                return {self.plain(name, key, depth): self.plain(name, one, depth + 1) for key, one in entries.items()}
            problem = "a key that is no text"
        raise Unreadable(
            f"'{name}' has no form in JSON: {problem}; pass numbers, texts, booleans, None, lists and dicts of these"
        )

    def _take(self, name: str, text: str) -> None:
        try:
            self._left -= len(text.encode()) + 1
        except UnicodeEncodeError:
            raise Unreadable(f"'{name}' has no form in JSON: a text with half of a character in it") from None
        if self._left < 0:
            raise Unreadable(f"up to '{name}' they are longer than {MOST:,} bytes; pass where the data is instead")


def _fits(number: int) -> bool:
    return -(2**63) <= number < 2**63
