"""The verbs about a journal that no gate has open: under its lock, through the door of the gate that had it last."""

from __future__ import annotations

import itertools
import math
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from threading import Thread
from types import MappingProxyType, SimpleNamespace
from typing import Any, Final, NamedTuple, TypeVar

import attrs
import msgspec
import trio

from actors import Reply
from tokengate._exceptions import BadStateDirectory, JournalDamaged
from tokengate.authority._authority import Authority
from tokengate.authority._file import APPROVALS, AUDIT, GRANTS
from tokengate.config._file import find_file, read_file
from tokengate.control._admission import Caller, admission
from tokengate.control._exceptions import BadRequest, ProposalMade
from tokengate.control._validation import checked
from tokengate.control.inspection._selector import parse
from tokengate.control.messages import Message, verb_of
from tokengate.control.registry._kinds import kind_of
from tokengate.durable import _kinds as k
from tokengate.durable._codec import Codec
from tokengate.durable._files import OwnedDirectory
from tokengate.durable._fork import ForkAnswers
from tokengate.durable._listed import Listed
from tokengate.durable._run import begin_run
from tokengate.durable._salvage import finish_salvage, salvage
from tokengate.durable._schedule_times import Times
from tokengate.durable._schedules import _COLUMNS, Schedules, _State
from tokengate.durable._store import DATABASE, reader
from tokengate.durable._writer import Writer
from tokengate.policy._policies import PlaceName

T = TypeVar("T")

_CLOSE_SECONDS: Final = 60.0
_LAST: Final = "SELECT run, gate, config, audit FROM runs WHERE gate IS NOT NULL ORDER BY run DESC LIMIT 1"


def ask(directory: Path, message: Message[Any]) -> Any:
    """Answer a verb about the journal of a directory.

    Raises:
        BadStateDirectory: there is none, or it belongs to another user.
        JournalInUse: a gate has it.
        Refused, AuditUnavailable: the gate that had it last would not let this user do it, or record it.
        TokenGateError: of the verb.
    """
    try:
        owner = os.stat(directory / DATABASE)
    except OSError as error:
        remedy = "name the directory of Journal(directory), as its owner or root"
        raise BadStateDirectory(str(directory), f"it has no journal: {error.strerror}", remedy) from None
    user, group = os.geteuid(), os.getegid()
    if user == 0:  # what root makes here is the gate's
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)
    try:
        with closing(_ClosedJournal(OwnedDirectory(directory, "offline"))) as journal:
            return trio.run(
                _answered, checked(message), journal, Caller(f"uid:{user}", user, frozenset(os.getgroups()), "offline")
            )
    finally:
        if user == 0:
            os.seteuid(user)
            os.setegid(group)


async def _answered(message: Message[Any], journal: Any, caller: Caller) -> Any:
    door = _door(journal.last)
    answer, error = None, None
    try:
        admission = await door.admit(message, caller)
        with admission.at_work():
            try:
                of_schedules = kind_of(type(message)) is k.SCHEDULE
                room = _StoredSchedules(journal) if of_schedules else _ClosedAnswers(journal)
                answer = await getattr(room, verb_of(type(message)))(admission.message)
            except BaseException as raised:
                error = raised
                raise
            finally:
                admission.done(answer, error)
    except sqlite3.DatabaseError as damage:
        remedy = f"'tokengate journal salvage --state-dir {journal.directory}' copies what is whole"
        raise JournalDamaged(f"journal {journal.directory} is damaged: {damage}; {remedy}") from damage
    except ProposalMade:
        raise ProposalMade(
            "nothing was done: a dry run, which you may do; without a gate, there is no proposal", 0
        ) from None
    finally:
        door.recorder.close()
    return answer


class _LastRun(NamedTuple):
    """The opening of a journal that names who may do what, and where that is recorded."""

    run: int = 0
    gate: str = "offline"
    config: str | None = None
    audit: str | None = None


def _door(last: _LastRun) -> Authority:
    """Return the door of the gate that had a journal last."""
    nothing: Any = SimpleNamespace(
        clock=time.monotonic, live={}, system_host=None, place_at=lambda _path: None, publish=lambda _event: None
    )
    door = Authority(nothing, last.gate)
    if last.config is not None:
        config = read_file(Path(last.config), parse, only=(GRANTS, APPROVALS, AUDIT))
        door.prepare(config)()
    if last.audit is not None:
        door.recorder.record_to(Path(last.audit), None, strict=door.recorder.log is not None)
    return door


class _ClosedJournal:
    """A journal that no gate has open. What changes it begins a run, in which no token runs."""

    parked: tuple[int, ...] = ()
    trouble = ""
    aliases: Mapping[str, str] = MappingProxyType({})  # a renamed operation is found when its token is to run

    def __init__(self, owned: OwnedDirectory) -> None:
        self.directory = owned.path
        self._owned = owned
        self._is_open = True
        self._writer: Writer | None = None
        finish_salvage(self.directory)
        try:
            with self.reading() as db:
                self.last = _LastRun(*(db.execute(_LAST).fetchone() or ()))
        except sqlite3.DatabaseError:  # it is damaged, which each verb but a salvage says
            self.last = _LastRun(config=_text(find_file()))
        self.run = self.last.run
        self.system: Any = SimpleNamespace(ids=itertools.count(1))
        self.due: Any = SimpleNamespace(note=lambda _due: None)

    def close(self) -> None:
        """Write what is left, and give the lock back."""
        if self._writer is not None:
            self._writer.close(time.monotonic() + _CLOSE_SECONDS)
        elif self._is_open:
            self._owned.close()
        self._is_open = False

    def reading(self) -> closing[sqlite3.Connection]:
        """Return a connection that reads, for a `with`."""
        return closing(reader(self.directory))

    def call(self, function: Callable[[sqlite3.Connection], T]) -> Reply[T]:
        """Have a function called within a transaction of the writer."""
        if self._writer is None:
            last = self.last
            run = begin_run(self._owned, last.gate, _path(last.config), _path(last.audit))
            self.run = run.number
            self._writer = Writer(run, "journal", lambda _error: None)
            self._writer.open()
        return self._writer.call(function)

    def wall(self) -> float:
        """Return the wall time."""
        return time.time()

    def in_memory(self) -> int:
        """Return how many of its tokens are in memory: none."""
        return 0

    def offer_new(self, uids: Sequence[int]) -> None:
        """Leave tokens to the next opening."""

    def offer(self, row: object) -> None:
        """Leave a token to the next opening."""


class _ClosedAnswers(ForkAnswers):
    """The answers about a journal that no gate has open."""

    def _shows(self, path: str) -> bool:  # noqa: ARG002  # as its base
        """Tell whether the caller may see the arguments of all tokens: which operations show theirs is not on disk."""
        here: Any = admission()
        scope = here.scope("arguments")
        return scope is not None and scope.everywhere

    async def salvage_journal(self, _message: k.SalvageJournal) -> k.JournalSalvaged:
        journal: Any = self._journal
        journal.close()  # it is locked again by what follows
        found = await trio.to_thread.run_sync(salvage, journal.directory)
        return k.JournalSalvaged(found.kept, found.damaged, found.commits, found.missing, str(found.old))

    def _codec_of(self, row: Listed) -> Codec:  # noqa: ARG002
        raise BadRequest("arguments are set while a gate has the journal open: their types are in its code")


class _Stored:
    """A schedule as the journal has it: with its times, and what it submits."""

    def __init__(self, name: str, spec: str) -> None:
        self.name, self.spec = name, spec
        self.operation, arguments, self.priority, self.tags, times = msgspec.json.decode(spec)
        self.arguments = arguments.encode()
        self.times = Times(**times)


class _StoredSchedules(Schedules):
    """The schedules of a journal that no gate has open; nothing is submitted that was not asked for."""

    def __init__(self, journal: Any) -> None:
        super().__init__(journal)
        self._now = lambda: Thread(target=self._tick).start()
        with journal.reading() as db:
            rows = db.execute(f"SELECT name, spec, {', '.join(_COLUMNS)} FROM schedules WHERE spec IS NOT NULL")
            for name, spec, *state in rows.fetchall():
                one = _State(_Stored(name, spec), *state)  # type: ignore[arg-type]
                due = next(one.schedule.times.after(one.last, one.last), math.inf)
                self._states[name] = attrs.evolve(one, look=due)

    def _look(self) -> None:
        """Leave what is due to the next opening."""

    def _place(self, operation: str) -> PlaceName:
        name = operation.rpartition(":")[2]
        return PlaceName(name, f"operations/{name}", "")


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
