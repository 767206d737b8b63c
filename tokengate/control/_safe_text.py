"""Values as text, made without running user code.

Only objects with exactly a built-in class are shown. Of other objects only the name of the class is shown, as `type`
stores it, since a metaclass may have a `__name__` of its own. Classes are compared by identity, since a metaclass may
have an `==` and a hash of its own.

The attributes of an actor in a child process are read there, and the child does not import this package: the functions
are pickled by value, with everything that they refer to. So they may only use built-in names, the standard library and
the rest of this file, and nothing that is valid in one process only (an `id`, for example).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any, Final, TypeAlias

MAX_TEXT: Final = 200  # characters of a value
_MAX_DEPTH: Final = 4  # of containers in each other

_NUMBERS: Final = (type(None), bool, float, complex)  # their repr is short
_STRINGS: Final = (str, bytes, bytearray)
# (a container's class, how it begins, how it ends)
_BRACKETS: Final = (
    (list, "[", "]"),
    (tuple, "(", ")"),
    (set, "{", "}"),
    (frozenset, "frozenset({", "})"),
    (dict, "{", "}"),
)

SECRETS: Final = (
    "password", "passwd", "secret", "token", "api_key", "authorization", "cookie", "credential", "private_key",
)  # fmt: skip
"""What a name has that is not shown by `*`."""

Looked: TypeAlias = tuple[str, str, int | None, str | None]
"""The fields of `messages.Attribute`: name, type, size, value as text."""


def plain(text: str) -> str:
    """Return a text as exactly a `str`, without calling methods that a subclass overrides."""
    return text if type(text) is str else str.__str__(text)


def printable(text: str, kept: str = "") -> str:
    """Return a text with escapes for characters that are not printed, such as ESC and U+202E, but for those to keep."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in kept else ascii(one)[1:-1] for one in text)


def class_name(cls: type) -> str:
    """Return the qualified name of a class, as `type` stores it."""
    return plain(type.__dict__["__qualname__"].__get__(cls))


def name_in_words(key: object) -> str:
    """Return a key as text: itself, if it is text."""
    return plain(key) if issubclass(type(key), str) else value_in_words(key)  # type: ignore[arg-type]


def value_in_words(value: object) -> str:
    """Return the repr of a value, up to `MAX_TEXT` characters; or `<Class>` if its class is not a built-in one.

    In a dict, so are values under a key with the name of a secret.
    """
    words = _words(value, MAX_TEXT, _MAX_DEPTH)
    return words if len(words) <= MAX_TEXT else words[: MAX_TEXT - 3] + "..."


def value_if_shown(value: object) -> str | None:
    """Return a value as text if its class is a built-in one; else None."""
    kind = type(value)
    shown = kind is int or _brackets(kind) is not None or any(kind is one for one in (*_NUMBERS, *_STRINGS))
    return value_in_words(value) if shown else None


def size_if_known(value: Any) -> int | None:
    """Return the length of a value if its class is a built-in one that has lengths; else None."""
    kind = type(value)
    return len(value) if _brackets(kind) is not None or any(kind is one for one in _STRINGS) else None


def is_shown(name: str, show: Collection[str]) -> bool:
    """Tell whether the value of an argument or attribute is shown.

    Args:
        name: of the argument or attribute.
        show: the names of those that are shown; or `*`: all, but for those with the name of a secret.
    """
    if show == "*":
        return not _is_secret(name)
    return name in show


def _is_secret(name: str) -> bool:
    return any(secret in name.lower() for secret in SECRETS)


def look_at(values: Mapping[Any, object], show: Collection[str]) -> list[Looked]:
    """Return attributes as they may be shown, including names that begin with `_`.

    Args:
        values: the instance's `__dict__`, or a copy of it.
        show: the names of those whose values are shown; or `*`.
    """
    looked: list[Looked] = []
    for key, value in list(values.items()):
        name = name_in_words(key)
        words = value_if_shown(value) if is_shown(name, show) else None
        looked.append((name, class_name(type(value)), size_if_known(value), words))
    return looked


def _brackets(kind: type) -> tuple[str, str] | None:
    for one, opening, closing in _BRACKETS:
        if kind is one:
            return opening, closing
    return None


def _words(value: Any, room: int, depth: int) -> str:
    """Write a value in about `room` characters; the rest is not read."""
    kind = type(value)
    if any(kind is one for one in _NUMBERS):
        return repr(value)
    if kind is int:
        return repr(value) if value.bit_length() <= 4 * MAX_TEXT else f"(an int of {value.bit_length()} bits)"
    if any(kind is one for one in _STRINGS):
        return repr(value[:room]) + ("..." if len(value) > room else "")
    brackets = _brackets(kind)
    if brackets is None:
        return f"<{class_name(kind)}>"
    opening, closing = brackets
    if not depth:
        return f"{opening}...{closing}"
    try:
        # A copy of its beginning, made in one call: other threads may change it.
        items = list(islice(value.items() if kind is dict else value, room))
    except RuntimeError:  # another thread changed it during the copy
        return f"{opening}...{closing}"
    if not items and (kind is set or kind is frozenset):
        return f"{kind.__name__}()"
    comma = "," if kind is tuple and len(items) == 1 else ""
    return f"{opening}{', '.join(_parts(items, kind, room, depth))}{comma}{closing}"


def _parts(items: list[Any], kind: type, room: int, depth: int) -> list[str]:
    parts: list[str] = []
    left = room
    for item in items:
        if left <= 0:
            parts.append("...")
            break
        if kind is dict:
            key = _words(item[0], left, depth - 1)
            hidden = type(item[0]) is str and _is_secret(item[0])
            value = f"<{class_name(type(item[1]))}>" if hidden else _words(item[1], max(1, left - len(key)), depth - 1)
            part = f"{key}: {value}"
        else:
            part = _words(item, left, depth - 1)
        parts.append(part)
        left -= len(part) + 2
    return parts
