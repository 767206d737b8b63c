"""What a function of a notebook refers to, so that it is sent anew when a cell has defined that again."""

from __future__ import annotations

import operator
import sys
from functools import cached_property, partial
from types import CellType, FunctionType, MethodType
from typing import Any, Final

from cloudpickle import cloudpickle as _internals

_MOST: Final = 1_000  # objects that are followed, and elements of a collection

_MISSING: Final = object()

_WRAPPERS: Final = (staticmethod, classmethod, property, cached_property, MethodType, partial)

_INSIDE: Final = ("__func__", "__self__", "fget", "fset", "fdel", "func", "args", "keywords")  # what wrappers refer to

_COLLECTIONS: Final = (dict, list, tuple, set, frozenset)


class Definitions:
    """What a function refers to by names of `__main__`, directly and through functions, classes and data there.

    Only an interactive `__main__`, which is no file, is followed: of a notebook, or a shell of Python.

    Args:
        function: that a child process gets by value.
    """

    def __init__(self, function: object) -> None:
        self._parts: list[tuple[object, tuple[object, ...]]] = []  # (object, what it refers to)
        if hasattr(sys.modules.get("__main__"), "__file__"):
            return
        known, following = {id(function)}, [function]
        while following and len(known) < _MOST:
            one = following.pop()
            parts = _parts_of(one)
            if parts:
                self._parts.append((one, parts))
            for part in parts:
                if id(part) not in known:
                    known.add(id(part))
                    following.append(part)

    def changed(self) -> bool:
        """Tell whether one of the objects refers to others now."""
        return any(not _same(_parts_of(one), parts) for one, parts in self._parts)


def _same(parts: tuple[object, ...], others: tuple[object, ...]) -> bool:
    return len(parts) == len(others) and all(map(operator.is_, parts, others))


def _parts_of(one: Any) -> tuple[object, ...]:
    """Return what an object refers to, if that may be changed by a cell of a notebook."""
    kind = type(one)
    if kind in _COLLECTIONS:
        return (*one, *one.values()) if kind is dict else tuple(one) if len(one) <= _MOST else ()
    if kind is FunctionType:
        names = _internals._extract_code_globals(one.__code__) if one.__module__ == "__main__" else ()
        return (*(one.__globals__.get(name, _MISSING) for name in names), *(one.__closure__ or ()), one.__code__)
    if kind is CellType:
        return _contents(one)
    if kind in _WRAPPERS:
        return tuple(getattr(one, name) for name in _INSIDE if hasattr(one, name))
    if issubclass(kind, type):
        return tuple(vars(one).values()) if one.__module__ == "__main__" else ()
    return (kind, *getattr(one, "__dict__", {}).values()) if kind.__module__ == "__main__" else ()


def _contents(cell: CellType) -> tuple[object, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # it is empty
        return ()
