"""Safe views of tokens: rows, pages, arguments and attributes, made without running a line of user code.

What is shown is read off objects whose class is exactly a built-in one. Of all others only the name of the class is
told, as `type` keeps it, whatever a metaclass says. Classes are looked up by `id`, for their hash may be a
metaclass's, too.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from types import CodeType, FunctionType, MethodType
from typing import Any, Final, TypeAlias

import attrs
import trio

from actors import NO_TAGS, ActorPlace, Token
from actors._ref import Told
from tokengate.control._exceptions import BadRequest
from tokengate.control._selector import Selector, held_of, plain, state_of
from tokengate.control.messages import COLUMNS, Argument, Attribute, TokenPage, TokenRow

MAX_ROWS: Final = 10_000  # of a page
MAX_TEXT: Final = 200  # characters of a value
_MAX_DEPTH: Final = 4  # of containers in each other
_CHUNK: Final = 1_000  # tokens to look at between two checkpoints, over the number of questions to each: a millisecond
_ROWS: Final = 250  # rows to make between two checkpoints: as long

Key: TypeAlias = float | str

# --- Rows ------------------------------------------------------------------------------------------------------------


def row_of(token: Token[Any], now: float) -> TokenRow:
    """Return what a list says of a token.

    Args:
        token: which; it may end meanwhile, in another thread.
        now: seconds of the system's clock.
    """
    tags, started = token.tags, token.started_at
    return TokenRow(
        token.id,
        plain(token.operation),
        plain(token.actor),
        plain(token.affinity),
        state_of(token),
        int.__int__(token.priority),
        {} if tags is NO_TAGS else {plain(name): plain(value) for name, value in tags.items()},
        token.parent,
        token.attempt,
        token.steps,
        now - token.created_at,
        None if started is None else now - started,
        held_of(token),
    )


# --- Pages -----------------------------------------------------------------------------------------------------------


@attrs.frozen
class Order:
    """An order of tokens: by a key, and by id where that is equal.

    Attributes:
        key: what to compare.
        reverse: whether the greatest comes first.
    """

    key: Callable[[Token[Any]], Key]
    reverse: bool


def _running_key(token: Token[Any]) -> float:
    started = token.started_at
    return float("-inf") if started is None else -started  # what has not begun has run for less than anything


# {one of `COLUMNS`: its key}
_KEYS: Final[Mapping[str, Callable[[Token[Any]], Key]]] = {
    "id": lambda token: token.id,
    "age": lambda token: -token.created_at,
    "running": _running_key,
    "priority": lambda token: int.__int__(token.priority),
    "operation": lambda token: plain(token.operation),
    "actor": lambda token: plain(token.actor),
    "state": state_of,
    "steps": lambda token: token.steps,
}


def sort_key(column: str) -> Order:
    """Return the order that a column stands for; a `-` before it turns it around.

    Raises:
        BadRequest: there is no such column.
    """
    if type(column) is str:
        key = _KEYS.get(column.removeprefix("-"))
        if key is not None:
            return Order(key, column.startswith("-"))
    shown = repr(column[:40]) if type(column) is str else f"a {class_name(type(column))}"
    raise BadRequest(f"sort is {shown}; choose one of {', '.join(COLUMNS)}, or one of them with a '-' before it")


async def page_of(
    tokens: Callable[[], list[Token[Any]]], selector: Selector, sort: str, limit: int, offset: int, now: float
) -> TokenPage:
    """Return a part of the sorted list of the live tokens that a selector matches.

    It is a checkpoint, and comes to another one every millisecond or so, however many tokens there are. Tokens that end
    meanwhile are left out, and so a page may be shorter than it would have to be.

    Args:
        tokens: returns the live tokens.
        selector: which ones.
        sort: a column, see `sort_key`.
        limit: rows at most, from 0 to `MAX_ROWS`.
        offset: rows to skip.
        now: seconds of the system's clock.

    Raises:
        BadRequest: an argument has a value that cannot work.
    """
    order = sort_key(sort)
    if type(limit) is not int or not 0 <= limit <= MAX_ROWS:
        raise BadRequest(f"limit is {_shown_number(limit)}; it must be an int from 0 to {MAX_ROWS}")
    if type(offset) is not int or offset < 0:
        raise BadRequest(f"offset is {_shown_number(offset)}; it must be an int of at least 0")
    await trio.lowlevel.checkpoint()
    found = tokens()
    live, matching = len(found), 0
    wanted = min(offset + limit, live)
    # Chunks, each sorted and cut; the ids make the entries differ, so that tokens are never compared.
    runs: list[list[tuple[Key, int, Token[Any]]]] = []
    chunk = max(1, _CHUNK // (1 + selector.terms))
    for start in range(0, live, chunk):
        entries = _entries(islice(found, start, start + chunk), selector, order, now)
        matching += len(entries)
        if runs and wanted <= _CHUNK:
            entries += runs.pop()  # a small page takes one run, so that little is kept meanwhile
        entries.sort(reverse=order.reverse)
        runs.append(entries[:wanted])
        await trio.lowlevel.checkpoint()
    merged = islice(heapq.merge(*runs, reverse=order.reverse), wanted)
    rows: list[TokenRow] = []
    at = 0
    while some := [token for _, _, token in islice(merged, _ROWS)]:
        for token in some[max(0, offset - at) :]:
            row = row_of(token, now)
            if token._end is None:  # looked at after the row was made, so that it says nothing of an end
                rows.append(row)
            else:
                matching -= 1
        at += len(some)
        await trio.lowlevel.checkpoint()
    return TokenPage(tuple(rows), matching, live, offset)


def _entries(
    tokens: Iterable[Token[Any]], selector: Selector, order: Order, now: float
) -> list[tuple[Key, int, Token[Any]]]:
    key, matches, sign = order.key, selector.matches, -1 if order.reverse else 1
    return [(key(token), sign * token.id, token) for token in tokens if token._end is None and matches(token, now)]


def _shown_number(value: object) -> str:
    if type(value) is not int:
        return f"a {class_name(type(value))}"
    return str(value) if value.bit_length() < 64 else "too great"


# --- Arguments and attributes ----------------------------------------------------------------------------------------


def arguments_of(token: Token[Any], show: bool, redacted: frozenset[str]) -> tuple[Argument, ...]:
    """Return the arguments that a token carries; none when it has ended.

    Args:
        token: which.
        show: whether values of built-in types are told, too.
        redacted: names of parameters of which only the type is told. When there are some, that goes for each
            positional argument whose parameter is not known, too.
    """
    # Once each: at the token's end they go. A message for a method that somebody made by hand may have anything there.
    args: Any = token.args
    kwargs: Any = token.kwargs
    call = token._call
    positional = list(args) if type(args) is tuple or type(args) is list else []
    keywords = list(kwargs.items()) if type(kwargs) is dict else []
    names, takes_keywords = _parameters(_function_of(token, call)) if positional or redacted else ((), "")
    shown = []
    for position, value in enumerate(positional):
        name = names[position] if position < len(names) else ""
        secret = name in redacted if name else bool(redacted)
        shown.append(_argument(name or str(position), value, show, secret))
    for keyword, value in keywords:
        name = _name(keyword)
        secret = name in redacted or (takes_keywords in redacted and name not in names)
        shown.append(_argument(name, value, show, secret))
    return tuple(shown)


def attributes_of(values: Mapping[str, object], redacted: frozenset[str] = frozenset()) -> tuple[Attribute, ...]:
    """Return the attributes of an instance, as arguments that may be shown.

    Args:
        values: the instance's `__dict__`, or a copy of it.
        redacted: names of those that are kept back.
    """
    attributes = []
    for key, value in list(values.items()):
        name = _name(key)
        secret = name in redacted
        size, words = (None, None) if secret else (_size(value), _value(value))
        attributes.append(Attribute(name, class_name(type(value)), size, words, secret))
    return tuple(attributes)


def _name(key: object) -> str:
    return plain(key) if issubclass(type(key), str) else value_in_words(key)  # type: ignore[arg-type]


def _argument(name: str, value: object, show: bool, secret: bool) -> Argument:
    kind = class_name(type(value))
    if secret:
        return Argument(name, kind, redacted=True)
    return Argument(name, kind, _size(value), _value(value) if show else None)


def _function_of(token: Token[Any], call: object) -> tuple[object, bool]:
    """Return what a token calls, if that can be told without user code, and whether it is given an instance first."""
    place = token._place
    if not isinstance(place, ActorPlace):
        return call, False
    if type(call) is Told:
        call = call.call
    path = ("on_receive",) if call is None else call
    if type(path) is not tuple or len(path) != 1 or not issubclass(type(path[0]), str):
        return None, False
    found = class_attribute(place.actor_class, plain(path[0]))
    if type(found) is staticmethod:
        return found.__func__, False
    return (found.__func__ if type(found) is classmethod else found), True


def class_attribute(cls: type, name: str) -> object:
    """Return what a class has under a name, as it is written there: no descriptor and no metaclass is asked."""
    for base in type.__dict__["__mro__"].__get__(cls):
        namespace = type.__dict__["__dict__"].__get__(base)
        if name in namespace:
            return namespace[name]
    return None


def _parameters(function_and_bound: tuple[object, bool]) -> tuple[tuple[str, ...], str]:
    """Return the names of a function's positional parameters, and of the one that takes other keywords (or nothing)."""
    function, bound = function_and_bound
    if type(function) is MethodType:
        function, bound = function.__func__, True
    if type(function) is not FunctionType:
        return (), ""
    code: CodeType = function.__code__
    names = [plain(name) for name in code.co_varnames]
    after = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 0x04)  # CO_VARARGS
    takes_keywords = names[after] if code.co_flags & 0x08 else ""  # CO_VARKEYWORDS
    return tuple(names[bound : code.co_argcount]), takes_keywords


# --- Values ----------------------------------------------------------------------------------------------------------

_NUMBERS: Final = frozenset(map(id, (type(None), bool, float, complex)))  # what they say of themselves is short
_STRINGS: Final = frozenset(map(id, (str, bytes, bytearray)))
# {id of a container's class: how it is written}
_BRACKETS: Final[Mapping[int, tuple[str, str]]] = {
    id(list): ("[", "]"),
    id(tuple): ("(", ")"),
    id(set): ("{", "}"),
    id(frozenset): ("frozenset({", "})"),
    id(dict): ("{", "}"),
}
_SIZED: Final = _STRINGS | _BRACKETS.keys()
_SHOWN: Final = _SIZED | _NUMBERS | {id(int)}


def class_name(cls: type) -> str:
    """Return the qualified name of a class, as `type` keeps it."""
    return plain(type.__dict__["__qualname__"].__get__(cls))


def value_in_words(value: object) -> str:
    """Return a value as Python writes it, up to `MAX_TEXT` characters; or `<Class>` if that is no built-in one."""
    words = _words(value, MAX_TEXT, _MAX_DEPTH)
    return words if len(words) <= MAX_TEXT else words[: MAX_TEXT - 3] + "..."


def _value(value: object) -> str | None:
    return value_in_words(value) if id(type(value)) in _SHOWN else None


def _size(value: Any) -> int | None:
    return len(value) if id(type(value)) in _SIZED else None


def _words(value: Any, room: int, depth: int) -> str:
    """Write a value in `room` characters and a few; what does not fit is not even looked at."""
    kind = type(value)
    if id(kind) in _NUMBERS:
        return repr(value)
    if kind is int:
        return repr(value) if value.bit_length() <= 4 * MAX_TEXT else f"(an int of {value.bit_length()} bits)"
    if id(kind) in _STRINGS:
        return repr(value[:room]) + ("..." if len(value) > room else "")
    if id(kind) not in _BRACKETS:
        return f"<{class_name(kind)}>"
    opening, closing = _BRACKETS[id(kind)]
    if not depth:
        return f"{opening}...{closing}"
    try:
        # A copy of its beginning, made in one go: other threads may change it.
        items = list(islice(value.items() if kind is dict else value, room))
    except RuntimeError:  # it grew in that very moment
        return f"{opening}...{closing}"
    if not items and (kind is set or kind is frozenset):
        return f"{kind.__name__}()"
    return _items(items, kind, room, depth)


def _items(items: list[Any], kind: type, room: int, depth: int) -> str:
    opening, closing = _BRACKETS[id(kind)]
    parts: list[str] = []
    left = room
    for item in items:
        if left <= 0:
            parts.append("...")
            break
        if kind is dict:
            key = _words(item[0], left, depth - 1)
            part = f"{key}: {_words(item[1], max(1, left - len(key)), depth - 1)}"
        else:
            part = _words(item, left, depth - 1)
        parts.append(part)
        left -= len(part) + 2
    comma = "," if kind is tuple and len(parts) == 1 else ""
    return f"{opening}{', '.join(parts)}{comma}{closing}"
