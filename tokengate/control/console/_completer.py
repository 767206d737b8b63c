"""Completion of lines in the console: pure, except for a query to the gate."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from rlcompleter import Completer
from typing import Any

import attrs

from actors import TokenState
from tokengate.control.messages import VERBS, Actors, Message, OnTokens, Tokens
from tokengate.control.registry._kinds import ALL_VERBS, Kind, kind_of
from tokengate.control.registry._verbs import metas_of


@attrs.frozen
class Live:
    """Names in a gate at one moment: ids, operations, and paths of actors."""

    ids: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    actors: tuple[str, ...] = ()


def look(ask: Callable[[Message[Any]], Any]) -> Live:
    """Ask a gate for its names, the newest tokens first; there are none if it does not answer."""
    try:
        rows = ask(Tokens(sort="-id", limit=200)).rows
        paths = tuple(row.path for row in ask(Actors()))
    except Exception:  # completion must not show errors; the next verb shows them
        return Live()
    return Live(tuple(str(row.id) for row in rows), tuple(sorted({row.operation for row in rows})), paths)


def names_of(kind: Kind, ask: Callable[[Message[Any]], Any]) -> list[str]:
    """Ask a gate for the names of a noun of a plugin; there are none if it does not answer."""
    try:
        return kind.names(ask(kind.rows()))
    except Exception:  # as above
        return []


# Characters that separate words. Paths and values of selectors are words, so `/`, `-` and `.` are not among them; nor
# are quotes, since readline would close a string by itself after the only matching word.
DELIMITERS = " \t\n()[]{}:;,=!<>+*%|&"

_FIELDS = (
    "operation=", "actor=", "state=", "affinity=", "held=", "id=", "priority=", "parent=", "age>", "running>",
    "run.p50>", "run.p95>", "memory.p95>", "memory.share>", "failing>", "late>", "gate.saturation>", "overrun>",
    "retry_loop=", "leak=",
)  # fmt: skip
_ARGUMENTS = {verb: metas_of(message) for verb, message in VERBS.items()}
_KEYWORDS: Mapping[str, tuple[str, ...]] = {
    name: meta["choices"] for metas in _ARGUMENTS.values() for name, meta in metas.items() if "choices" in meta
}
"""{argument of a verb: its possible values}."""


def _verbs_with(*arguments: str) -> set[str]:
    return {verb for verb, metas in _ARGUMENTS.items() if {*arguments} & {*metas}}


_ON_TOKEN = {"token", *_verbs_with("token"), *(verb for verb, one in VERBS.items() if issubclass(one, OnTokens))}
_SELECTING = {"ps", *_verbs_with("select")}
_ON_ACTOR = {"actor", *_verbs_with("name", "root")}


def completions(
    line: str,
    text: str,
    namespace: Mapping[str, Any],
    live: Callable[[], Live],
    names: Callable[[Kind], Sequence[str]] = lambda _kind: (),
) -> list[str]:
    """Return the completions of the last word of a line.

    Args:
        line: the text before the cursor.
        text: its last word, by `DELIMITERS`; may be empty.
        namespace: the names of the console.
        live: returns the names in the gate; called only where one of these is possible.
        names: returns those of a noun of a plugin; called only where one of these is possible.
    """
    if not line.strip():
        return ["    "]
    verb, string, keyword = _context(line)
    kind = kind_of(ALL_VERBS[verb]) if verb in ALL_VERBS and not keyword else None
    if string is not None:
        quote = text[:1] if text[:1] in ("'", '"') else ""
        words = names(kind) if kind else _in_string(verb, string, keyword, live)
        return [quote + word for word in _starting(text.removeprefix(quote), words)]
    found: list[str] = []
    if verb in _ON_TOKEN and not keyword:
        found = _starting(text, live().ids)
    elif kind and not text:
        found = [f'"{name}"' for name in names(kind)]
    elif verb in _ON_ACTOR and not keyword and not text:
        found = [f'"{path}"' for path in live().actors]
    elif keyword in _KEYWORDS and verb in (*VERBS, "ps") and not text:
        found = [f'"{value}"' for value in _KEYWORDS[keyword]]
    if text:
        completer = Completer(dict(namespace))
        found += completer.attr_matches(text) if "." in text else completer.global_matches(text)
    return found


def _in_string(verb: str, string: str, keyword: str, live: Callable[[], Live]) -> Sequence[str]:
    if keyword == "actor":
        return live().actors
    if keyword in _KEYWORDS:
        return _KEYWORDS[keyword]
    if verb in _ON_ACTOR:
        return live().actors
    if verb not in _SELECTING:
        return ()
    term = re.fullmatch(r"\s*(\w+)\s*!?=.*", string.rpartition(",")[2])
    match term[1] if term else "":
        case "":
            return _FIELDS
        case "operation":
            return live().operations
        case "actor":
            return live().actors
        case "state":
            return [str(state) for state in TokenState]
        case "retry_loop":
            return ("yes", "no")
        case "leak":
            return ("suspected", "confirmed")
        case "id":
            return live().ids
        case field:
            return _KEYWORDS.get(field, ())


def _context(line: str) -> tuple[str, str | None, str]:
    """Return the call in which a line ends, the open string at its end, and the keyword of that argument."""
    opened: list[str] = []  # the name before each open bracket
    quote, start = "", 0
    for i, char in enumerate(line):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote, start = char, i + 1
        elif char in "([{":
            before = re.search(r"(\w+)\s*$", line[:i])
            opened.append(before[1] if before and char == "(" else "")
        elif char in ")]}" and opened:
            opened.pop()
    verb = next((name for name in reversed(opened) if name), "")
    keyword = re.search(r"(\w+)\s*=\s*$" if quote else r"(\w+)\s*=\s*\w*$", line[: start - 1] if quote else line)
    return verb, line[start:] if quote else None, keyword[1] if keyword and opened else ""


def _starting(text: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if word.startswith(text)]
