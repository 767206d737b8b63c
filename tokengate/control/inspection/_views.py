"""Rows, pages and arguments of tokens, made without running user code; see `_safe_text.py`."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from inspect import CO_VARARGS, CO_VARKEYWORDS
from itertools import islice
from types import FunctionType, MethodType
from typing import Any, Final, TypeAlias

import attrs

from actors import Token
from actors.lowlevel import NO_TAGS, ActorPlace, CommandCall, OneWay, place_of
from tokengate.control._admission import restricted
from tokengate.control._exceptions import BadRequest
from tokengate.control._safe_text import class_name, is_shown, name_in_words, plain, size_if_known, value_if_shown
from tokengate.control.inspection._policies import held_by
from tokengate.control.inspection._selector import Selector, held_of, seen_parent, state_of, steps_of
from tokengate.control.inspection._turns import in_turns, next_turn, take_long
from tokengate.control.messages import COLUMNS, Argument, PredictionRow, TokenPage, TokenRow

_CHUNK: Final = 1_000  # tokens times (terms + 1) in one turn: a millisecond
_ROWS: Final = 250  # rows that are made in one turn: as long
_SAMPLE: Final = 2_048  # tokens by which it is known between which keys a part of a list is
_chance: Final = random.Random(0)  # one of its own, so that no program that has set a seed gets other numbers

Key: TypeAlias = float | str
_Entry: TypeAlias = tuple[Key, int, Token[Any]]

# --- Rows ------------------------------------------------------------------------------------------------------------


def row_of(token: Token[Any], now: float) -> TokenRow:
    """Return the row of a token in a list.

    Args:
        token: the token; it may end meanwhile, in another thread.
        now: seconds of the system's clock.
    """
    tags, started, held = token.tags, token.started_at, held_of(token)
    by, until = held_by(token, held, now) if held else ("", None)
    predictor = token._place.system.predictor
    expected = None if predictor is None else predictor.expected(token)
    run, memory = (None, None) if expected is None else (expected.run, expected.memory)
    return TokenRow(
        token.id,
        plain(token.operation),
        plain(token.actor),
        plain(token.affinity),
        state_of(token),
        int.__int__(token.priority),
        {} if tags is NO_TAGS else {plain(name): plain(value) for name, value in tags.items()},
        None if token.parent is None else seen_parent(token),
        token.attempt,
        steps_of(token),
        now - token.created_at,
        None if started is None else now - started,
        held,
        by,
        until,
        None if run is None else run.p50,
        None if run is None else run.p95,
        None if memory is None else int(memory.p95),
    )


def prediction_of(token: Token[Any], now: float, *, values: bool) -> PredictionRow | None:
    """Return what is expected of a token; None if that is not known.

    Args:
        token: the token.
        now: seconds of the system's clock.
        values: whether the caller may see values of arguments, of which features are made.
    """
    predictor = token._place.system.predictor
    found = None if predictor is None else predictor.shown(token, now)
    if found is None:
        return None
    run, memory, forecast = found.run, found.memory, token._extras.forecast
    return PredictionRow(
        run_p50=None if run is None else run.p50,
        run_p95=None if run is None else run.p95,
        memory_p50=None if memory is None else int(memory.p50),
        memory_p95=None if memory is None else int(memory.p95),
        failing=found.failure_probability,
        late=found.timeout_probability,
        basis=found.basis,
        n=found.n,
        coverage=found.coverage,
        calibrated=found.calibrated,
        model=found.model,
        factors=dict(found.factors),
        features=dict(forecast.features) if values and forecast is not None else {},
    )


# --- Pages -----------------------------------------------------------------------------------------------------------


def _running_key(token: Token[Any]) -> float:
    started = token.started_at
    return float("-inf") if started is None else -started  # a token that has not begun sorts as the shortest


# {one of `COLUMNS`: its key}
_KEYS: Final[Mapping[str, Callable[[Token[Any]], Key]]] = {
    "id": lambda token: token.id,
    "age": lambda token: -token.created_at,
    "running": _running_key,
    "priority": lambda token: int.__int__(token.priority),
    "operation": lambda token: plain(token.operation),
    "actor": lambda token: plain(token.actor),
    "state": state_of,
    "steps": steps_of,
}


def order_of(column: str) -> tuple[Callable[[Token[Any]], Key], bool]:
    """Return the key of a column, and whether the greatest one comes first, as a `-` before the column says.

    Raises:
        BadRequest: there is no such column.
    """
    key = _KEYS.get(column.removeprefix("-")) if type(column) is str else None
    if key is not None:
        return key, column.startswith("-")
    shown = repr(column[:40]) if type(column) is str else f"a {class_name(type(column))}"
    raise BadRequest(f"sort is {shown}; choose one of {', '.join(COLUMNS)}, or one of them with a '-' before it")


async def page_of(
    tokens: Callable[[], list[Token[Any]]], selector: Selector, sort: str, limit: int, offset: int, now: float
) -> TokenPage:
    """Return a part of the sorted list of the live tokens that a selector matches, and that the caller may see.

    It waits for another turn about every millisecond, for any number of tokens. Tokens that end meanwhile are left out,
    so a page may be shorter than `limit`.

    Args:
        tokens: returns the live tokens.
        selector: the tokens to list.
        sort: one of `COLUMNS`; a `-` before it reverses the order.
        limit: maximum number of rows.
        offset: rows to skip.
        now: seconds of the system's clock.

    Raises:
        BadRequest: an argument has a value that cannot work.
    """
    key, reverse = order_of(sort)
    here = restricted()
    if limit > _CHUNK:
        take_long()
    await next_turn()
    found = tokens()
    live = 0
    matched: list[Token[Any]] = []
    terms = selector.terms + (0 if here is None else 2 + here.terms)
    async for some in in_turns(chunks(found, max(1, 4 * _CHUNK // (1 + 4 * terms)))):
        chunk = some if here is None else list(filter(here.sees, some))
        live += len(chunk)
        if selector.all:
            matched += [token for token in chunk if token._end is None]
        else:
            matched += [token for token in chunk if token._end is None and selector.matches(token, now)]
    del found
    matching = len(matched)
    first, last = min(offset, matching), min(offset + limit, matching)
    if reverse:
        first, last = matching - last, matching - first
    # The ids make all entries differ, so tokens are never compared; with equal keys the lowest id comes first.
    page = await _part_of(matched, _entry_by(key, -1 if reverse else 1), first, last)
    if reverse:
        page.reverse()
    rows: list[TokenRow] = []
    async for token in in_turns(page, _ROWS):
        row = row_of(token, now)
        # Read after the row was made, so that no row shows an end.
        if token._end is None and (here is None or here.sees(token)):
            rows.append(row)
        else:
            matching -= 1
    return TokenPage(tuple(rows), matching, live, offset)


def _entry_by(key: Callable[[Token[Any]], Key], sign: int) -> Callable[[Token[Any]], _Entry]:
    return lambda token: (key(token), sign * token.id, token)


async def _part_of(
    tokens: list[Token[Any]], entry: Callable[[Token[Any]], _Entry], first: int, last: int
) -> list[Token[Any]]:
    """Return those that are from the place `first` to before `last` in the order of their entries.

    A sample tells between which entries these are; only those between are kept and sorted.
    """
    count = len(tokens)
    lowest: _Entry | None = None
    beyond: _Entry | None = None
    if count > 4 * _SAMPLE and last - first < count // 2:
        sample = sorted(map(entry, _chance.choices(tokens, k=_SAMPLE)))
        low, high = (_SAMPLE * place / count for place in (first, last))
        low, high = math.floor(low - _margin(low)), math.ceil(high + _margin(high))
        lowest = sample[low] if low >= 0 else None
        beyond = sample[high] if high < _SAMPLE else None
    while True:
        runs, before, between = [], 0, 0
        async for at in in_turns(range(0, count, _CHUNK)):
            entries = [entry(token) for token in tokens[at : at + _CHUNK]]
            if beyond is not None:
                entries = [one for one in entries if one < beyond]
            if lowest is not None:
                among = [one for one in entries if one >= lowest]
                before += len(entries) - len(among)
                entries = among
            between += len(entries)
            runs.append(sorted(entries))
        if before <= first and before + between >= last:
            break
        lowest = beyond = None  # by chance, once in a million times; or keys have changed
    merged = islice(heapq.merge(*runs), last - before)
    found: list[Token[Any]] = []
    async for part in in_turns(iter(lambda: [token for *_, token in islice(merged, _CHUNK)], [])):
        found += part
    return found[first - before :]


def _margin(place: float) -> float:
    """Return how far from its place in a sample an entry may be: five standard deviations, and some."""
    return 5.0 * math.sqrt(max(0.0, place * (1 - place / _SAMPLE))) + 10


def chunks(tokens: list[Token[Any]], size: int = 1_000) -> Iterator[list[Token[Any]]]:
    """Yield tokens in groups, one for each turn, without the runtime's own."""
    for start in range(0, len(tokens), size):
        yield [token for token in islice(tokens, start, start + size) if not token._place.serves_operators]


# --- Arguments -------------------------------------------------------------------------------------------------------


def arguments_of(token: Token[Any], show: Collection[str]) -> tuple[Argument, ...]:
    """Return the arguments of a token; none when it has ended.

    Args:
        token: the token.
        show: names of the parameters whose values are added, if they are of built-in types; or `*`. The name of
            `*args` or `**kwargs` is for all arguments that it takes.
    """
    # Each is read once, since the token's end removes them. A message that user code has made may have any object here.
    args: Any = token.args
    kwargs: Any = token.kwargs
    call = token._call
    positional = list(args) if type(args) is tuple or type(args) is list else []
    keywords = list(kwargs.items()) if type(kwargs) is dict else []
    parameters = _parameters(*_function_of(token, call))
    found = []
    for position, value in enumerate(positional):
        known = position < len(parameters.positional)
        name = parameters.positional[position] if known else str(position)
        found.append(_argument(name, value, is_shown(name if known else parameters.rest or name, show)))
    for keyword, value in keywords:
        name = name_in_words(keyword)
        shown = is_shown(name, show)
        if show != "*" and name not in parameters.names:
            shown = shown or parameters.keywords in show
        found.append(_argument(name, value, shown))
    return tuple(found)


def _argument(name: str, value: object, shown: bool) -> Argument:
    words = value_if_shown(value) if shown else None
    return Argument(name, class_name(type(value)), size_if_known(value), words)


def _function_of(token: Token[Any], call: object) -> tuple[object, bool]:
    """Return the function of a token, if it is found without user code, and whether it takes an instance first."""
    place = place_of(token)
    if not isinstance(place, ActorPlace):
        return call, False
    if type(call) is OneWay:
        call = call.call
    path = ("on_receive",) if call is None else (call.name,) if type(call) is CommandCall else call
    if type(path) is not tuple or len(path) != 1 or not issubclass(type(path[0]), str):
        return None, False
    found = class_attribute(place.actor_class, plain(path[0]))
    if type(found) is staticmethod:
        return found.__func__, False
    return (found.__func__ if type(found) is classmethod else found), True


def class_attribute(cls: type, name: str) -> object:
    """Return the attribute of a class as it was defined, without calling descriptors or the metaclass."""
    for base in type.__dict__["__mro__"].__get__(cls):
        namespace = type.__dict__["__dict__"].__get__(base)
        if name in namespace:
            return namespace[name]
    return None


@attrs.frozen
class _Parameters:
    """The names of a function's parameters, as far as they are known.

    Attributes:
        positional: those that take positional arguments.
        names: these, and those that take keyword arguments only.
        rest: the name of its `*args`; empty if it has none.
        keywords: the name of its `**kwargs`; None if it has none.
    """

    positional: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    rest: str = ""
    keywords: str | None = None


def _parameters(function: object, bound: bool) -> _Parameters:
    """Return the parameters of a function, without the first one if it is bound."""
    if type(function) is MethodType:
        function, bound = function.__func__, True
    if type(function) is not FunctionType:
        return _Parameters()
    code = function.__code__
    variables = map(plain, code.co_varnames)
    positional = tuple(islice(variables, code.co_argcount))[bound:]
    names = (*positional, *islice(variables, code.co_kwonlyargcount))
    rest = next(variables) if code.co_flags & CO_VARARGS else ""
    return _Parameters(positional, names, rest, next(variables) if code.co_flags & CO_VARKEYWORDS else None)
