"""What a rollback undoes, and in which order; and what a compensation is given."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

import attrs

from tokengate.policy._attempt import End

T = TypeVar("T")


class Effect(enum.Enum):
    """What the code of a member has done, as far as its attempts tell."""

    NONE = "none"  # it never ran
    FAILED = "failed"  # it raised an error, each time
    UNKNOWN = "unknown"  # at least one attempt was ended, or lost, somewhere in its code
    COMPLETED = "completed"
    RUNS = "runs"  # it was left behind, and has not returned


_SAID_NO: Final = (End.FAILED, End.CRASHED)


def effect_of(ends: Sequence[End]) -> Effect:
    """Return what code has done.

    Args:
        ends: how each of its attempts ended, those of a fallback and those that did not begin left out.
    """
    if not ends:
        return Effect.NONE
    if ends[-1] is End.COMPLETED:
        return Effect.COMPLETED
    if ends[-1] is End.LEFT_BEHIND:
        return Effect.RUNS
    return Effect.FAILED if all(end in _SAID_NO for end in ends) else Effect.UNKNOWN


@attrs.frozen
class Ended:
    """A member that has ended.

    Attributes:
        id: of the token.
        order: greater than that of each member that began before it.
        effect: what its code has done.
        on_any: whether it is undone after an error, too.
    """

    id: int
    order: int
    effect: Effect
    on_any: bool = False


def is_undone(effect: Effect, *, on_any: bool) -> bool:
    """Tell whether a rollback undoes a member, now or when its code has returned."""
    return effect is not Effect.NONE and (effect is not Effect.FAILED or on_any)


def steps_of(members: Iterable[Ended]) -> tuple[list[int], list[int]]:
    """Return the ids of the members to undo now, the one that began last first; and of those whose code runs on."""
    undone = [one for one in members if is_undone(one.effect, on_any=one.on_any)]
    undone.sort(key=lambda one: one.order, reverse=True)
    now = [one.id for one in undone if one.effect is not Effect.RUNS]
    return now, [one.id for one in undone if one.effect is Effect.RUNS]


@attrs.define(eq=False)
class Undo:
    """How the tokens of an operation are undone; its variants in gates share it.

    Attributes:
        operation: the compensation; None if they are not undone.
        on_any: whether those that raised an error are undone, too.
    """

    operation: Any = None
    on_any: bool = False


@attrs.frozen
class Done(Generic[T]):
    """The call that a compensation undoes.

    Attributes:
        args: its positional arguments.
        kwargs: its keyword arguments.
        result: what it returned; None if it did not complete.
        state: `completed`, `failed`, `expired` or `terminated`: how its code ended. Unless that is `completed`, it is
            unknown how far it came.
        key: its identity key; None if it has none.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: T
    state: str
    key: str | int | None = None
