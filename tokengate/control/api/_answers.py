"""Answers as objects that look, in a console, like the table of them."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, overload

import attrs

from tokengate.control.messages import Outcome


class Shown(abc.ABC):
    """Base of what wraps an answer of the gate and looks, in a REPL, like the table of it."""

    __slots__ = ()

    @property
    @abc.abstractmethod
    def answer(self) -> Any:
        """What the gate has said: a class of `tokengate.control.messages`, or a tuple of such."""

    def __repr__(self) -> str:
        from tokengate.control.rendering._tables import (
            as_text,  # only here: a program that prints no table needs no rich
        )

        return as_text(self.answer)


@attrs.frozen(repr=False)
class Outcomes(Shown, Sequence[Outcome]):
    """What a verb did, token by token; an immutable sequence of `Outcome`."""

    _outcomes: tuple[Outcome, ...]

    @property
    def answer(self) -> tuple[Outcome, ...]:
        return self._outcomes

    @overload
    def __getitem__(self, index: int) -> Outcome: ...
    @overload
    def __getitem__(self, index: slice) -> Outcomes: ...
    def __getitem__(self, index: int | slice) -> Outcome | Outcomes:
        return Outcomes(self._outcomes[index]) if isinstance(index, slice) else self._outcomes[index]

    def __len__(self) -> int:
        return len(self._outcomes)
