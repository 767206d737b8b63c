"""The line of each key of a TOML file; the parser of the standard library does not tell it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys of tables and numbers in lists: `("policy", 0, "retry", "attempts")`."""

# What may complete the first lines of a value of several lines; the empty text: the statement is complete.
_ENDS: Final = ("", "]", "]}", "]]", "]}]")


def lines_of(text: str) -> dict[KeyPath, int]:
    """Return the line of each key, of each item of a list, and of each table: {path: line, from 1}.

    The statements are parsed one by one, so it takes as long as parsing the whole. A value of several lines is parsed
    after each of them, with its brackets closed.

    Args:
        text: of a file that can be parsed.
    """
    found: dict[KeyPath, int] = {}
    sizes: dict[KeyPath, int] = {}  # {path of an array of tables: how many there are so far}
    table: KeyPath = ()
    begin, lines = 0, text.split("\n")
    for number, _ in enumerate(lines, 1):
        statement = "\n".join(lines[begin:number])
        for end in _ENDS:
            values = _parsed(f"{statement}\n{end}")
            if values is None:
                continue
            if statement.lstrip().startswith("["):
                table = _header(values, sizes)
                paths: Iterator[KeyPath] = (table[:length] for length in range(1, len(table) + 1))
            else:
                paths = _paths(values, table)
            for path in paths:
                found.setdefault(path, number)
            if not end:
                begin = number
            break
    return found


def _parsed(text: str) -> Mapping[str, Any] | None:
    try:
        return tomllib.loads(text)
    except ValueError:
        return None


def _header(values: Any, sizes: dict[KeyPath, int]) -> KeyPath:
    """Return the path of the table that a header begins."""
    path: KeyPath = ()
    while values:
        [(key, values)] = values.items()
        path = (*path, key)
        if isinstance(values, list):
            [values] = values
            sizes[path] = sizes.get(path, 0) + 1
        if path in sizes:
            path = (*path, sizes[path] - 1)
    return path


def _paths(values: Any, path: KeyPath) -> Iterator[KeyPath]:
    pairs = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in pairs:
        yield (*path, key)
        yield from _paths(value, (*path, key))
