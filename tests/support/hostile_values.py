"""Values that raise as soon as any code of theirs is called."""

from __future__ import annotations

from typing import Any


def never(*_args: object, **_kwargs: object) -> Any:
    raise AssertionError("user code ran")


class LoudClass(type):
    """A metaclass with methods that must not be called."""

    __hash__ = __eq__ = __str__ = __repr__ = __getattribute__ = __instancecheck__ = __subclasscheck__ = never  # type: ignore[assignment]


class Loud(metaclass=LoudClass):
    """A value with methods that must not be called."""

    __hash__ = __eq__ = __str__ = __repr__ = __len__ = __bool__ = __getattribute__ = __iter__ = __format__ = never  # type: ignore[assignment]
    __sizeof__ = __index__ = __int__ = __lt__ = __gt__ = __getitem__ = __contains__ = never  # type: ignore[assignment]


class LoudList(list[Any]):
    __repr__ = __len__ = __iter__ = __getitem__ = never  # type: ignore[assignment]


class LoudKey(Loud):
    __hash__ = object.__hash__
