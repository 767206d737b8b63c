"""The overview of a gate: what a person asks first, found without a scan of what is queued."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Any, Final

from actors import ActorSystem, Token
from actors.lowlevel import SYSTEM, ActorPlace, Place
from supervisors import ChildEnd, ends_at
from tokengate.control._admission import Admission, restricted
from tokengate.control.inspection._counters import Counts
from tokengate.control.inspection._processes import memory_of
from tokengate.control.inspection._queries import actor_row, end_rows, has_own_process, waits_of
from tokengate.control.inspection._turns import in_turns
from tokengate.control.inspection._views import row_of
from tokengate.control.messages import GateInfo, GateOverview, LargeRow, RestartRow, TokenRow, WaitRow

_AT_ONCE: Final = 100  # places that are looked at in one turn
_FEW: Final = 5  # rows of a kind
_WAITS: Final = 10
_RESTARTS: Final = 8
_HELD: Final = 50  # tokens of a mailbox that are held of which one is shown, if the caller may see it


async def overview_of(system: ActorSystem, info: GateInfo, counts: Counts) -> GateOverview:
    """Return the overview of a gate, of what the caller may see.

    Args:
        system: of the gate.
        info: its figures.
        counts: the statistics of its places.
    """
    here, now = restricted(), system.clock()
    running: list[Token[Any]] = []
    waiting = list(system.senders.copy())
    full: list[tuple[float, str, Place]] = []
    ends: list[tuple[float, str, ChildEnd]] = []
    async for place in in_turns(system.places(), _AT_ONCE):
        if place.serves_operators or place.path.startswith(SYSTEM):
            continue
        running += place.drain.running()
        waiting += place.mailbox.some_held(_HELD)
        if here is not None and not here.sees_place(place):
            continue
        if size := place.mailbox.size:
            full.append((size / place.mailbox.capacity, place.path, place))
        if isinstance(place, ActorPlace):
            ends += [(end.at, place.path, end) for end in ends_at(place) if end.restarted or end.delay is not None]
    waiting += [token for token in running if _is_held_up(token)]

    def by_time(token: Token[Any]) -> tuple[bool, float]:
        return _is_held_up(token), token.started_at or now

    longest = heapq.nsmallest(_FEW, await _seen(running, here), by_time)
    oldest = heapq.nsmallest(_WAITS, await _seen(list(dict.fromkeys(waiting)), here), lambda token: token.created_at)
    of_process = [token for token in running if here is None or has_own_process(token, here)]
    large = heapq.nlargest(_FEW, await memory_of(of_process), lambda one: one[0])

    def rows(tokens: Iterable[Token[Any]]) -> Iterator[tuple[Token[Any], TokenRow]]:
        """Yield the rows of tokens that the caller may still see."""
        return ((one, row_of(one, now)) for one in tokens if one._end is None and (here is None or here.sees(one)))

    waits = [WaitRow(row, tuple(waits_of(token))) for token, row in rows(oldest)]
    return GateOverview(
        info=info,
        longest=tuple(row for _, row in rows(longest)),
        largest=tuple(LargeRow(row, size) for size, token in large for _, row in rows((token,))),
        waits=tuple(one for one in waits if one.waits_for or one.row.held),
        fullest=tuple(actor_row(place, counts) for *_, place in heapq.nlargest(_FEW, full, lambda one: one[:2])),
        restarts=tuple(
            RestartRow(path, *end_rows((end,), path, here))
            for _, path, end in heapq.nlargest(_RESTARTS, ends, lambda one: one[:2])
        ),
    )


def _is_held_up(token: Token[Any]) -> bool:
    """Tell whether a token that runs waits for others, or for operators."""
    return bool(token._extras.waits) or token._extras.hold is not None


async def _seen(tokens: list[Token[Any]], here: Admission | None) -> list[Token[Any]]:
    """Return those of some tokens that the caller may see."""
    if here is None:
        return tokens
    return [one async for one in in_turns(tokens, max(1, 1_000 // (3 + here.terms))) if here.sees(one)]
