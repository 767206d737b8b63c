"""Answers as objects with a table for their repr."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, overload

import attrs

from tokengate.control.messages import Outcome, Proposed


class Shown(abc.ABC):
    """Base of the wrappers of an answer; their repr is the table of that answer."""

    __slots__ = ()

    @property
    @abc.abstractmethod
    def answer(self) -> Any:
        """The answer of the gate: a class of `tokengate.control.messages`, or a tuple of them."""

    def __repr__(self) -> str:
        from tokengate.control.rendering._tables import as_text  # here: a program without tables needs no rich

        return as_text(self.answer)


@attrs.frozen(repr=False)
class Outcomes(Shown, Sequence[Outcome]):
    """The outcomes of a verb, one for each token; an immutable sequence of `Outcome`."""

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

    @property
    def proposal(self) -> Proposed | None:
        """The proposal that a dry run, or a verb that needs approval, has made; None without one."""
        return next((one.proposal for one in self._outcomes if one.proposal is not None), None)
