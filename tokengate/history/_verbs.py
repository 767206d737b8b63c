"""The answers of a gate with history; its files are read in threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from tokengate.control._admission import Admission, admission, restricted
from tokengate.control._exceptions import ControlError, Refused
from tokengate.control.inspection._off_loop import OffLoop
from tokengate.control.messages import Event
from tokengate.control.stream._record import Entry, Happening, Record
from tokengate.history._context import LogRing
from tokengate.history._kinds import HistoryRecords, LogLine, Opening, ShowHistoryRecord, ShowOpening, ShowTokenLog
from tokengate.history._reader import Reader

A = TypeVar("A")

_SECONDS: Final = 60.0  # for a reading
_threads: Final = OffLoop("reading of history", 2)


class HistoryVerbs:
    """The verbs about history.

    Args:
        reader: of its directory.
        ring: the log lines of tokens.
        opening: of this gate.
    """

    def __init__(self, reader: Reader, ring: LogRing, opening: Opening) -> None:
        self._reader = reader
        self._ring = ring
        self._opening = opening

    async def history_records(self, message: HistoryRecords) -> tuple[Event, ...]:
        read = partial(
            self._reader.records, message.select, since=message.since, until=message.until, limit=message.limit
        )
        return tuple(await _read(partial(read, sees=_sight())))

    async def show_history_record(self, message: ShowHistoryRecord) -> tuple[Event, ...]:
        return tuple(await _read(partial(self._reader.show, message.name, sees=_sight())))

    async def show_token_log(self, message: ShowTokenLog) -> tuple[LogLine, ...]:
        if not admission().covers(""):
            raise Refused("log lines may have values of arguments; they need the right 'arguments' without a selector")
        return self._ring.lines(message.token)

    async def show_opening(self, message: ShowOpening) -> Opening:
        if restricted() is not None:
            raise Refused("what a gate was opened with needs the right 'view' without a selector")
        if message.gate_run in ("", self._opening.gate_run):
            return self._opening
        return await _read(partial(self._reader.opening, message.gate_run))


def _sight() -> Callable[[Entry], bool] | None:
    """Return what tells whether the caller may see an entry; None if that is all."""
    here = restricted()
    return None if here is None else partial(_sees, here)


def _sees(here: Admission, one: Entry) -> bool:
    about = one.about if isinstance(one, Happening) else one
    if isinstance(about, Record):
        return here.sees_record(about)
    return about == "place" and here.sees_place(one.actor)


async def _read(function: Callable[[], A]) -> A:
    found = await _threads.run(_SECONDS, function)
    if found is None:
        raise ControlError(f"history took more than {_SECONDS:g} s; give a shorter time, with since")
    return found
