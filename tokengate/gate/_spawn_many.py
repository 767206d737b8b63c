"""The arguments and the outcomes of many starts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, Final, TypeAlias

from actors import ActorRef, Reply, StartFailed, TokenGateError
from supervisors import ChildSpec

Starts: TypeAlias = Sequence[tuple[ChildSpec, Reply[Any]]]

# Maximum number of starts that are under way at once.
AT_ONCE: Final = 64


def arguments_of_each(
    each: int | Iterable[Mapping[str, Any]], names: Iterable[str] | None
) -> list[tuple[Mapping[str, Any], str | None]]:
    """Return the own keyword arguments and the name of each actor.

    Raises:
        TypeError: the keyword arguments of an actor are no mapping, or `each` is neither a number nor an iterable.
        ValueError: the number is below 0, or there are more names than actors, or fewer.
    """
    if isinstance(each, int) and each < 0:
        raise ValueError(f"each is {each}; it must be a number of actors of at least 0")
    if not isinstance(each, int | Iterable):
        raise TypeError(f"each is {each!r}; it must be a number of actors, or the keyword arguments of each")
    own: list[Mapping[str, Any]] = [{}] * each if isinstance(each, int) else list(each)
    for one in own:
        if not isinstance(one, Mapping):
            raise TypeError(f"each has {one!r}; it must be a number of actors, or the keyword arguments of each")
    if names is None:
        return list(zip(own, repeat(None), strict=False))
    given = list(names)
    if len(given) != len(own):
        raise ValueError(f"names has {len(given)} names for {len(own)} actors; give one for each, or none")
    return list(zip(own, given, strict=True))


def in_groups(specs: Sequence[ChildSpec]) -> Iterator[Sequence[ChildSpec]]:
    """Yield the specs in groups, each of which starts at once."""
    for first in range(0, len(specs), AT_ONCE):
        yield specs[first : first + AT_ONCE]


def refs_of(starts: Starts, before: int, number: int) -> list[ActorRef[Any]]:
    """Return the refs of actors whose starts are over.

    Args:
        starts: of one group.
        before: how many have started in the groups before.
        number: of all actors.

    Raises:
        TokenGateError: an actor did not start; the first such error, with a note of how many did.
    """
    refs: list[ActorRef[Any]] = []
    failed: TokenGateError | None = None
    for spec, start in starts:
        try:
            refs.append(started(spec, start.result()))
        except TokenGateError as error:
            failed = failed or error
    if failed is not None:
        failed.add_note(f"{before + len(refs)} of {number} actors have started, and run on")
        raise failed
    return refs


def started(spec: ChildSpec, ref: ActorRef[Any] | None) -> ActorRef[Any]:
    """Return the ref of an actor that has started; raise `StartFailed` if it has declined."""
    if ref is None:
        raise StartFailed(f"actor '{spec.id}' did not start: it declined (Ignore)")
    return ref
