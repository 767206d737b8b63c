"""Targets: how callers name the tokens that a verb is for."""

from __future__ import annotations

import abc
import re
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from actors import Token
from tokengate.control._exceptions import BadRequest
from tokengate.control._uids import uid_in
from tokengate.control.messages._token_rows import TokenRow


class Identified(abc.ABC):
    """Base of what stands for one token."""

    __slots__ = ()

    @property
    @abc.abstractmethod
    def id(self) -> int:
        """The token's number."""


_ID: Final = re.compile(r"[0-9]{1,20}")

OneToken: TypeAlias = int | Token[Any] | Identified | TokenRow
"""A token: its id, itself, its handle, or its row in a list."""

Target: TypeAlias = OneToken | str | Iterable[OneToken]
"""Tokens: one, or several; or a selector (`*` for all). A string of digits is an id; `17.4242` is a uid on disk."""


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
        return (id_of(target),) if target.strip().isdecimal() or number_in(target) is not None else target
    if isinstance(target, Iterable) and not isinstance(target, Token):  # a token can be iterated over, as in pykka
        return tuple(id_of(one) for one in target)
    return (id_of(target),)


def number_in(text: str) -> int | None:
    """Return the id, or the number of the uid, that a text is; None: it is neither."""
    text = text.strip()
    return int(text) if _ID.fullmatch(text) else uid_in(text)


def id_of(token: OneToken | str) -> int:
    """Return the id of a token; for the uid of a durable one the number that stands for it, 2**40 or more.

    Raises:
        BadRequest: the argument is not a token.
    """
    if isinstance(token, (Token, Identified, TokenRow)):
        return token.id
    if isinstance(token, str) and (number := number_in(token)) is not None:
        return number
    if not isinstance(token, int) or isinstance(token, bool):
        given = repr(token)
        given = given if len(given) <= 60 else f"{given[:60]}..."
        raise BadRequest(f"expected a token, got {given}; give its id, a Token, or one of those that tokens() lists")
    return token
