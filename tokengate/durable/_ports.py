"""Protocols of the journal, as its parts use it; properties here are attributes of the classes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from actors import ActorSystem, Token
from actors.lowlevel import DurableToken, Place
from tokengate.durable._backlog import Backlog
from tokengate.durable._codec import Codec
from tokengate.durable._record import Keeper
from tokengate.durable._row import Row
from tokengate.durable._steps import Caller
from tokengate.durable._ticker import Ticker
from tokengate.durable._writer import Writer


class NotesDue(Protocol):
    """What looks at the rows that are due later."""

    def note(self, due: float, /) -> None:
        """Note that a row is due at a wall time; on the thread of the writer."""
        ...


class Attaches(Protocol):
    """What knows the tokens of rows."""

    def attach(self, number: int, /) -> Token[Any]: ...


class TimedJournal(Caller, Protocol):
    """A journal with its clocks, in seconds."""

    def wall(self) -> float: ...

    def boot_clock(self) -> float:
        """Return seconds that go on while the machine sleeps, whatever is done to the wall clock."""
        ...


class StoredJournal(Caller, Protocol):
    """A journal whose rows are read and written, by the gate that has it open or without one."""

    @property
    def directory(self) -> Path: ...

    @property
    def run(self) -> int: ...

    @property
    def system(self) -> ActorSystem: ...

    @property
    def aliases(self) -> Mapping[str, str]: ...

    @property
    def due(self) -> NotesDue: ...

    @property
    def parked(self) -> Collection[int]:
        """The uids of rows that cannot run here, beside those that are marked so."""
        ...

    @property
    def trouble(self) -> str:
        """Why nothing can be written, or accepted; empty if all can."""
        ...

    def wall(self) -> float: ...

    def in_memory(self) -> int:
        """Return how many of its tokens are in memory."""
        ...

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """Return a connection that reads, for a `with`; not on a loop."""
        ...

    def offer_new(self, uids: Sequence[int], /) -> None:
        """Offer the rows with these uids that are queued."""
        ...


class OpenedJournal(StoredJournal, TimedJournal, Keeper, Protocol):
    """A journal that a gate has open."""

    @property
    def gate(self) -> Any: ...

    @property
    def tokens(self) -> Attaches: ...

    @property
    def backlog(self) -> Backlog: ...

    @property
    def ticker(self) -> Ticker: ...

    @property
    def writer(self) -> Writer: ...

    @property
    def is_closing(self) -> bool: ...

    def codec(self, name: str, place: Place, call: Any, /) -> Codec:
        """Return what encodes and decodes the calls with a name on disk, and their results."""
        ...

    def offer(self, row: Row, /) -> bool:
        """Put the token of a queued row into its mailbox."""
        ...

    def later(self, function: Callable[..., object], /, *args: Any) -> None:
        """Call a function on the thread on which tokens end."""
        ...

    def leave_behind(self, token: DurableToken[Any], /) -> None:
        """End the object of a token that goes on at the next opening."""
        ...
