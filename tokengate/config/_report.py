"""The errors of a file, collected while its sections are parsed."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

from actors import TokenGateError
from tokengate._exceptions import Problem
from tokengate.config._lines import KeyPath, lines_of

ParseSelector: TypeAlias = Callable[[str, Collection[str] | None], Any]
"""`parse` of `tokengate.control.inspection._selector`: selectors are part of control, which is above this room."""


class Report:
    """The errors of a file.

    Args:
        text: of the file.
        parse_selector: parses selectors.

    Attributes:
        problems: the errors, in the order in which they were found.
    """

    def __init__(self, text: str, parse_selector: ParseSelector) -> None:
        self.problems: list[Problem] = []
        self._text = text
        self._parse_selector = parse_selector

    @functools.cached_property
    def _lines(self) -> Mapping[KeyPath, int]:
        return lines_of(self._text)

    def line(self, path: KeyPath) -> int:
        """Return the line of a value, from 1; of one that is missing, that of its table."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def wrong(self, path: KeyPath, value: object, remedy: str) -> None:
        """Add an error.

        Args:
            path: of the value.
            value: what is there; None: nothing.
            remedy: what to write instead.
        """
        self.problems.append(Problem(self.line(path), name_of(path), value, remedy))

    def refuse(self, path: KeyPath, why: str) -> None:
        """Add an error of the file as a whole, at a section.

        Args:
            path: of the section.
            why: what is wrong, and the remedy.
        """
        self.problems.append(Problem(self.line(path), "", None, why))

    def selector(self, path: KeyPath, value: object, fields: Collection[str] | None = None) -> str:
        """Return a selector in its normal form; add an error, and return an empty text, if it cannot be parsed.

        Args:
            path: of the selector.
            value: its text; None: there is none.
            fields: those that it may use, and no tags; None: all fields, and tags.
        """
        if not isinstance(value, str) or not value.strip():
            self.wrong(path, value, "use a text, such as 'operation=charge*'; '*' stands for all")
            return ""
        try:
            return str(self._parse_selector(value, fields).text)
        except TokenGateError as error:
            self.wrong(path, value, str(error))
            return ""


def name_of(path: KeyPath) -> str:
    """Return a path as text: `policy[0].retry.attempts`."""
    keys = (key if re.fullmatch(r"[\w-]+", key, re.ASCII) else json.dumps(key) for key in map(str, path))
    parts = (f"[{key}]" if isinstance(part, int) else f".{key}" for part, key in zip(path, keys, strict=True))
    return "".join(parts).removeprefix(".")
