"""Rows on disk and the tokens that stand for them in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from weakref import WeakValueDictionary

import msgspec

from actors import ActorDead, ActorSystem, TokenState
from actors.lowlevel import ActorPlace, DurableToken, OperationPlace, Place
from tokengate.durable import _states as states
from tokengate.durable._checksums import WHOLE
from tokengate.durable._codec import Codec
from tokengate.durable._record import Record
from tokengate.operations._functions import found_at
from tokengate.operations._operation import operation_in
from tokengate.operations._spec import OperationSpec


class Row(NamedTuple):
    """What a token is made of again; its fields are the columns."""

    uid: int
    operation: str
    path: str
    key: str | None
    arguments: bytes
    priority: int
    tags: str
    parent: int | None
    deadline: float | None
    state: int
    attempts: int
    recoveries: int
    whole: int = 1  # 0: bits of the row have changed on disk


COLUMNS: Final = f"{', '.join(Row._fields[:-1])}, {WHOLE}"
"""Of `SELECT`, in the order of a `Row`."""


class Backlog:
    """The rows of a journal that have not ended, and which of them are tokens in memory.

    Args:
        system: of the gate.
        run: number of this opening.
        places: {spec of an operation: its place}; looking up one that is not there yet makes it.
        codec: returns what decodes the calls of a token.
        record: makes the record of a row.
    """

    def __init__(
        self,
        system: ActorSystem,
        run: int,
        places: Mapping[OperationSpec, OperationPlace],
        codec: Callable[[str, DurableToken[Any]], Codec],
        record: Callable[[int, bool], Record],
    ) -> None:
        self._system = system
        self._run = run
        self._places = places
        self._codec = codec
        self._record = record
        self._known: WeakValueDictionary[int, DurableToken[Any]] = WeakValueDictionary()
        self.parked: set[int] = set()  # uids of rows that cannot run here

    def token_of(self, row: Row) -> DurableToken[Any] | None:
        """Return the token of a row: the object that there is, or a new one that is not in its mailbox.

        Returns:
            None if its operation or path is unknown here, or its arguments do not fit; it counts as parked then.
        """
        token = self.known(row.uid)
        if token is None:
            token = self._made(row)
        (self.parked.add if token is None else self.parked.discard)(row.uid)
        return token

    def offer(self, row: Row) -> bool:
        """Put the token of a row into its mailbox, unless it has been there; return False if it is parked."""
        token = self.token_of(row)
        if token is None:
            return False
        if token._phase is TokenState.CREATED:
            try:
                token._place.mailbox.put(token)  # type: ignore[attr-defined]  # a place's
            except ActorDead:
                self.parked.add(row.uid)
                return False
        return True

    def known(self, uid: int) -> DurableToken[Any] | None:
        """Return the object of a token that has not ended, if there is one."""
        token = self._system.live.get(uid & (1 << 40) - 1) if uid >> 40 == self._run else None
        return token if isinstance(token, DurableToken) else self._known.get(uid)

    def _made(self, row: Row) -> DurableToken[Any] | None:
        place, name, call = self._target(row)
        if place is None:
            return None
        token = place.token(name, call, (), {}, row.priority, msgspec.json.decode(row.tags))
        if not isinstance(token, DurableToken):  # it is not durable any more
            self._system.live.pop(token.id)
            return None
        record = self._record(row.uid, place.is_idempotent(call))
        try:
            args, token.kwargs = self._codec(row.operation, token).decode(row.arguments)
        except msgspec.ValidationError:
            self._system.live.pop(token.id)
            return None
        token._args = args[0] if call is None else args
        record.is_accepted, record.begun, record.recoveries = True, row.state == states.BEGUN, row.recoveries
        token.parent, token.record = row.parent, record
        self._known[row.uid] = token
        return token

    def _target(self, row: Row) -> tuple[Place | None, str, Any]:
        """Return the place of a row, and the name and the call of its token there."""
        module, _, name = row.operation.partition(":")
        operation = operation_in(found_at(module, name)) if module in sys.modules else None
        if operation is not None:
            return self._places[operation._spec], operation._name, operation._function
        place = self._system.place_at(row.path)
        if not isinstance(place, ActorPlace) or module != row.path:
            return None, "", None
        return place, f"{place.actor_class.__name__}.{name}", None if name == "on_receive" else (name,)
