"""Forks of durable tokens: new ones that take over the steps before one of them, perhaps with other arguments."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from functools import partial

import msgspec

from actors import NotDurable
from tokengate.control._admission import admission
from tokengate.control._exceptions import BadRequest, Refused
from tokengate.control._uids import number_of, text_of
from tokengate.durable import _kinds as k
from tokengate.durable._codec import Codec
from tokengate.durable._listed import Listed
from tokengate.durable._new_rows import submit_row
from tokengate.durable._ports import OpenedJournal
from tokengate.durable._steps import WITHIN, shown
from tokengate.durable._verbs import JournalAnswers

_STEPS = "SELECT name, nth, seq, crc IS checksum(uid, name, nth, seq, value) FROM steps WHERE uid = ? ORDER BY seq"
_TAKE_OVER = (
    "INSERT INTO steps(uid, name, nth, seq, value) SELECT ?, name, nth, seq, value FROM steps "
    "WHERE uid = ? AND name = ? AND nth = ?"
)


class ForkAnswers(JournalAnswers):
    """The answers about a journal, with that of `durable-token fork`.

    Args:
        journal: the journal, which a gate has open.
    """

    def __init__(self, journal: OpenedJournal) -> None:
        super().__init__(journal)
        self._opened = journal

    async def fork_durable_token(self, message: k.ForkDurableToken) -> k.DurableTokenRow:
        try:
            number = number_of(message.name)
        except ValueError as error:
            raise BadRequest(str(error)) from None
        found = await self._listed(text_of(number), 1)
        if not found:
            raise BadRequest(f"there is no durable token '{message.name}'; 'tokengate durable-tokens' lists them")
        row = found[0]
        if not row.whole:
            raise BadRequest(
                f"bits of durable token {message.name} have changed on disk, so its arguments may be wrong; "
                "submit its work anew"
            )
        admission().reach(row.place)
        arguments = await self._read(partial(_arguments_of, row.uid))
        if message.set:
            arguments = await self._run(partial(_with, self._codec_of(row), arguments, message.set))
        new = await self._journal.call(partial(self._fork, row, arguments, _path_of(message.from_)))
        await self._run(partial(self._journal.offer_new, [new]))
        return (await self._listed(text_of(new), 1))[0].token_row()

    def _fork(self, row: Listed, arguments: bytes, step: tuple[str, int], db: sqlite3.Connection) -> int:
        """Write the new token, with the steps that it takes over; return its uid."""
        recorded = db.execute(_STEPS, (row.uid,)).fetchall()
        name, nth = step
        end = next((seq for path, number, seq, _ in recorded if (path, number) == step), None)
        inside = f"{name}{WITHIN}{nth}{WITHIN}"
        taken = [
            (path, number, whole)
            for path, number, seq, whole in recorded
            if (end is None or seq < end) and (path, number) != step and not path.startswith(inside)
        ]
        if damaged := next((each for each in taken if not each[2]), None):
            raise BadRequest(
                f"bits of the value of step {shown(*damaged[:2])} have changed on disk; fork from a step before it"
            )
        tags = {**row.tags, "fork": text_of(row.uid)}
        new, _ = submit_row(
            self._journal, db, row.operation, arguments, tags=tags, priority=row.priority, path=row.path
        )
        db.executemany(_TAKE_OVER, [(new, row.uid, path, number) for path, number, _ in taken])
        return new

    def _codec_of(self, row: Listed) -> Codec:
        """Return what encodes the calls of a row.

        Raises:
            BadRequest: what it calls is not known here.
            Refused: the caller may not see its arguments.
        """
        place, _, call = self._opened.backlog.target(row.operation, row.path)
        if place is None:
            raise BadRequest(f"'{row.operation}' is not known here, so its arguments cannot be set")
        if not admission().shows_place(place):
            raise Refused(f"you need the right 'arguments' for '{row.path}' to set some of them")
        try:
            return self._opened.codec(row.operation, place, call)
        except msgspec.ValidationError as error:
            raise BadRequest(f"arguments of '{row.operation}' cannot be set: {error}") from None


def _arguments_of(uid: int, db: sqlite3.Connection) -> bytes:
    return bytes(db.execute("SELECT arguments FROM tokens WHERE uid = ?", (uid,)).fetchone()[0])


def _path_of(text: str) -> tuple[str, int]:
    """Return the path and the count of a step: `load`, `load 2`, or `import 0 > load 2` for one within another."""
    parts = []
    for part in text.split(" > "):
        name, _, number = part.strip().rpartition(" ")
        parts.append((name, int(number)) if name and number.isdecimal() else (part.strip(), 0))
    *outer, (name, nth) = parts
    path = "".join(f"{each}{WITHIN}{number}{WITHIN}" for each, number in outer) + name
    if not name:
        raise BadRequest("say from which step on, such as --from 'load 2'")
    return path, nth


def _with(codec: Codec, arguments: bytes, changes: Mapping[str, str]) -> bytes:
    """Return the arguments of a call with other values for some; each is JSON, or else a text.

    Raises:
        BadRequest: there is no such argument, or it does not fit.
    """
    names = codec.names
    for name, text in changes.items():
        if name not in names:
            raise BadRequest(f"'{codec.name}' has no argument '{name}'; it has {', '.join(names) or 'none'}")
        arguments = _with_one(codec, names.index(name), name, arguments, text)
    return arguments


def _with_one(codec: Codec, at: int, name: str, arguments: bytes, text: str) -> bytes:
    problem: Exception | None = None
    for read in (msgspec.json.decode, str):
        args, kwargs = msgspec.json.decode(arguments)
        try:
            value = read(text)
            if at < len(args):
                args[at] = value
            else:
                kwargs[name] = value
            return codec.encode(*codec.decode(msgspec.json.encode([args, kwargs])))
        except (msgspec.DecodeError, NotDurable) as error:  # of which a ValidationError is one
            problem = problem if isinstance(problem, msgspec.ValidationError) else error
    raise BadRequest(f"argument '{name}' of '{codec.name}' cannot be '{text}': {problem}")
