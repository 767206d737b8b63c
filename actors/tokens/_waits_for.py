"""The graph of waits: an edge for each wait of a step, and a search for a cycle before a step waits.

A token that runs goes on when what it waits for has ended. A token that is queued at an actor goes on when the one
that the actor handles has ended. A full mailbox has room when the actor goes on. A chain of these that leads back to
its start is a deadlock.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Final, Protocol

from actors._exceptions import DeadlockError
from actors.concurrency._blocking import NO_CONTEXT
from actors.tokens._extras import NO_EXTRAS, Extras
from actors.tokens._ports import Awaited, Receiver

# Tokens of a long chain that an error names at each end.
_SHOWN: Final = 5


class WaitingToken(Protocol):
    """A token, as the search for a cycle sees it."""

    @property
    def id(self) -> int: ...

    @property
    def operation(self) -> str: ...

    @property
    def actor(self) -> str: ...

    @property
    def _place(self) -> Receiver: ...

    @property
    def _extras(self) -> Extras: ...

    def _own_extras(self) -> Extras: ...


def waiting_for(waiter: WaitingToken | None, awaited: Awaited) -> AbstractContextManager[None]:
    """Mark a block of code in which a token's step waits; outside of a step it does nothing.

    Raises:
        DeadlockError: the wait would close a cycle: `awaited` waits for this step. Or the code in the block has raised
            one, since too many steps wait: then it is raised with the tokens that wait for this one.
    """
    return NO_CONTEXT if waiter is None else _Wait(waiter, awaited)


class _Wait:
    """A block of code in which a token's step waits; a class, since a generator would take three times as long."""

    __slots__ = ("_awaited", "_waiter")

    def __init__(self, waiter: WaitingToken, awaited: Awaited) -> None:
        self._waiter = waiter
        self._awaited = awaited

    def __enter__(self) -> None:
        waiter, awaited = self._waiter, self._awaited
        # The edge is there before the search: of two steps that close a cycle at once, the later one sees it.
        begin_wait(waiter, awaited)
        try:
            cycle = _find_cycle(waiter, awaited)
            if cycle:
                names = " -> ".join(_names(cycle))
                raise DeadlockError(
                    f"waiting here would never end, since each of these waits for the next: {names} -> "
                    f"'{waiter.actor}'; let one of them send without waiting for the answer (tell, or block=False)"
                )
        except BaseException:
            end_wait(waiter, awaited)
            raise

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        try:
            if isinstance(error, DeadlockError):  # so many steps wait that this one may not
                raise with_chain(error, self._waiter) from None
        finally:
            end_wait(self._waiter, self._awaited)


def begin_wait(waiter: WaitingToken, awaited: Awaited) -> None:
    """Note that a token's step waits for something."""
    extras = waiter._extras
    (waiter._own_extras() if extras is NO_EXTRAS else extras).add_wait(awaited)
    throttles = waiter._place.system.throttles
    if throttles.grants:
        throttles.note_waits(waiter)


def end_wait(waiter: WaitingToken, awaited: Awaited) -> None:
    """Undo one `begin_wait`."""
    waiter._extras.remove_wait(awaited)
    throttles = waiter._place.system.throttles
    if throttles.grants:
        throttles.note_waits(waiter)


def with_chain(error: DeadlockError, waiter: WaitingToken) -> DeadlockError:
    """Return an error about too many waits with the tokens that wait for this one, each for the next."""
    live = list(waiter._place.system.live.values())
    waited_by = {awaited: token for token in live for awaited in tuple(token._extras.waits)}
    chain: dict[WaitingToken, None] = {}  # the last of all comes first
    token: WaitingToken | None = waiter
    while token is not None and token not in chain:
        chain[token] = None
        token = waited_by.get(token)
    names = _names(chain)[::-1]
    if len(names) > 2 * _SHOWN:
        names[_SHOWN:-_SHOWN] = [f"{len(names) - 2 * _SHOWN} more"]
    return DeadlockError(f"{error}; each of these waits for the next: {' -> '.join(names)}")


def _names(tokens: Iterable[WaitingToken]) -> list[str]:
    return [f"'{token.actor}' ({token.operation}, token {token.id})" for token in tokens]


def _find_cycle(waiter: WaitingToken, awaited: Awaited) -> list[WaitingToken]:
    """Return the tokens from `waiter` on, each of which waits for the next, if they lead back to it; else nothing."""
    reached_from: dict[WaitingToken, WaitingToken] = {}
    edges = [(waiter, awaited)]
    while edges:
        source, awaited = edges.pop()
        for token in awaited.held_up_by():
            if token is waiter:
                cycle = [source]
                while cycle[-1] is not waiter:
                    cycle.append(reached_from[cycle[-1]])
                return cycle[::-1]
            if token not in reached_from:
                reached_from[token] = source
                edges.extend((token, further) for further in tuple(token._extras.waits))
    return []
