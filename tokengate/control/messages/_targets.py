"""Targets: how callers name the tokens that a verb is for."""

from __future__ import annotations

import abc
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from actors import Token
from tokengate.control._exceptions import BadRequest
from tokengate.control.messages._token_rows import TokenRow


class Identified(abc.ABC):
    """Base of what stands for one token."""

    __slots__ = ()

    @property
    @abc.abstractmethod
    def id(self) -> int:
        """The token's number."""


_MOST_DIGITS: Final = 20  # of an id in text; Python refuses to read some thousands

OneToken: TypeAlias = int | Token[Any] | Identified | TokenRow
"""A token: its id, itself, its handle, or its row in a list."""

Target: TypeAlias = OneToken | str | Iterable[OneToken]
"""Tokens: one, or several; or a selector (`*` for all). A string of digits is an id."""


def selected(target: Target) -> str | tuple[int, ...]:
    """Return the selector that a target is, or else its ids.

    Raises:
        BadRequest: it names no token.
    """
    if type(target) is tuple and {*map(type, target)} <= {int}:
        return target
    if isinstance(target, str):
        if not target.strip():
            raise BadRequest("an empty selector would name every token; write '*' if you mean all of them")
        return (id_of(target),) if target.strip().isdecimal() else target
    if isinstance(target, Iterable) and not isinstance(target, Token):  # a token can be iterated over, as in pykka
        return tuple(id_of(one) for one in target)
    return (id_of(target),)


def id_of(token: OneToken | str) -> int:
    """Return the id of a token.

    Raises:
        BadRequest: the argument is not a token.
    """
    if isinstance(token, (Token, Identified, TokenRow)):
        return token.id
    if isinstance(token, str) and token.strip().isdecimal() and len(token) <= _MOST_DIGITS:
        return int(token)
    if not isinstance(token, int) or isinstance(token, bool):
        given = repr(token)
        given = given if len(given) <= 60 else f"{given[:60]}..."
        raise BadRequest(f"expected a token, got {given}; give its id, a Token, or one of those that tokens() lists")
    return token
