"""Values that are passed on and not shown. A child process has the same class."""

from __future__ import annotations

from typing import Any, Generic, NoReturn, TypeVar, final

T = TypeVar("T")


@final
class Secret(Generic[T]):
    """A value that no text shows: `Secret("hunter2")` prints as `Secret(***)`.

    Two are equal when their values are; for texts and bytes, how long the comparison takes does not tell where they
    differ. A secret can be hashed if its value can, and pickled: whoever can read the pickle can read the value. JSON
    has no form for it.

    Args:
        value: to be passed on.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """Return the value."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        mine: object = self._value
        theirs: object = other._value
        if isinstance(mine, str | bytes) and isinstance(theirs, str | bytes):
            from hmac import compare_digest  # here: few child processes need it

            return isinstance(mine, str) is isinstance(theirs, str) and compare_digest(_bytes(mine), _bytes(theirs))
        return bool(mine == theirs)

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> tuple[Any, ...]:
        return Secret, (self._value,)

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("Secret has no subclasses: they could show its value")


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
