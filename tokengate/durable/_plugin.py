"""The plugin: keeps durable tokens on disk."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, overload

from actors import CpuActor, Token
from supervisors import ChildSpec
from tokengate._exceptions import BadConfig, JournalFailed, Problem
from tokengate.config._file import Config
from tokengate.control.messages import HealthPart
from tokengate.control.registry._plugin import Plugin
from tokengate.durable import _retention
from tokengate.durable._config import JOURNAL, SCHEDULES, are_names
from tokengate.durable._events import JournalChanged
from tokengate.durable._files import OwnedDirectory
from tokengate.durable._fork import ForkAnswers
from tokengate.durable._inbox import SECONDS, Inbox
from tokengate.durable._journal import OpenJournal
from tokengate.durable._keys import attach
from tokengate.durable._kinds import DeadLetterVerbs, JournalVerbs, ScheduleVerbs
from tokengate.durable._new_rows import prepare_rows
from tokengate.durable._run import begin_run
from tokengate.durable._schedule import Schedule
from tokengate.durable._schedules import Schedules, checked
from tokengate.durable._store import damaged, is_damage
from tokengate.durable._verbs import answers_of
from tokengate.durable._writer import Writer

_CLOSE_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 1.0  # between two looks whether it can write


class JournalActor(CpuActor):
    """The part of the runtime's tree that stands for the journal: it stops last, and closes it then."""

    def __init__(self, journal: Journal) -> None:
        self._plugin = journal

    def on_stop(self) -> None:
        """Write what is left."""
        self._plugin._close()


class Journal(Plugin):
    """Keeps durable tokens on disk: what was accepted is not lost when the process dies.

    Args:
        directory: that of the journal; one gate at a time has it. None: `[journal]` of the gate's file names it.
        retention: seconds for which a token is kept that has ended, and its key is taken; dead letters are kept until
            an operator decides about them.
        aliases: {name of an operation that was renamed, such as `"shop.old:charge"`: its name now}.
        schedules: what is submitted by the clock, beside each `[[schedule]]` of the file.

    Raises:
        ValueError: an argument has a value that cannot work.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        retention: float = 86_400.0,
        aliases: Mapping[str, str] | None = None,
        schedules: Iterable[Schedule] = (),
    ) -> None:
        if not isinstance(retention, int | float) or not 0 <= retention < math.inf:
            raise ValueError(f"retention of the journal is {retention!r}; it must be a number of seconds")
        for old, new in (aliases or {}).items():
            if not are_names((old, new)):
                raise ValueError(
                    f"aliases of the journal has {old!r}: {new!r}; write names, such as 'shop.old:pay': 'shop:charge'"
                )
        self._retention = retention
        self._aliases = dict(aliases or {})
        self._directory = Path() if directory is None else Path(directory)
        self._has_directory = directory is not None
        self._own_schedules = checked(schedules)
        self._file_schedules: tuple[Schedule, ...] = ()
        self._schedules: Schedules | None = None
        self._journal: OpenJournal | None = None
        self._told = ""  # what is wrong with it, as subscribers know

    def prepare(self, config: Config, /) -> Callable[[], Iterable[str]]:
        """Return a function that has a file decide about the schedules, and at first about the journal."""
        own = {one.name for one in self._own_schedules}
        remedy = "a schedule of the code has this name; use a different one"
        entries = config.of(SCHEDULES)
        if problems := tuple(
            Problem(one.line, "name of [[schedule]]", one.schedule.name, remedy)
            for one in entries
            if one.schedule.name in own
        ):
            raise BadConfig(config.path, problems)
        rows = config.of(JOURNAL)

        def take() -> Iterable[str]:
            before = {one.name: one.spec for one in self._file_schedules}
            self._file_schedules = tuple(one.schedule for one in entries)
            now = {one.name: one.spec for one in self._file_schedules}
            if self._schedules is None:
                for row in rows:
                    if row.directory is not None:
                        self._directory, self._has_directory = row.directory, True
                    self._retention = self._retention if row.retention is None else row.retention
                    self._aliases.update(row.aliases or {})
            elif before != now:
                self._schedules.take((*self._own_schedules, *self._file_schedules))
            changed = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
            return [f"schedule {name}: {'changed' if name in now else 'removed'}" for name in sorted(changed)]

        return take

    def journal(self, gate: Any, /) -> OpenJournal:
        """Open the files.

        Raises:
            ValueError: neither the code nor the file of the gate has named a directory.
        """
        if not self._has_directory:
            raise ValueError(
                f"the journal of gate '{gate.name}' has no directory; write Journal(directory), or directory in the "
                "section [journal] of its file"
            )
        owned = OwnedDirectory(self._directory, gate.name)
        try:
            log = gate._authority.recorder.log
            run = begin_run(owned, gate.name, gate._config_file, None if log is None else log.place)
        except BaseException:
            owned.close()
            raise
        journal = None
        try:
            prepare_rows(run, self._aliases)
            journal = OpenJournal(gate, run, Writer(run, f"{gate.name}-journal", self._failed), self._aliases)
            journal.open()
        except BaseException as error:
            if journal is None:
                run.close(well=False)
            else:
                journal.abandon()
            if is_damage(error):
                raise damaged(self._directory, str(error)) from error
            raise
        self._journal, self._schedules = journal, Schedules(journal)
        return journal

    @property
    def schedules(self) -> ScheduleVerbs:
        """The verbs about schedules: `journal.schedules.pause("nightly")`."""
        return ScheduleVerbs(self.gate.control)

    @property
    def directory(self) -> Path:
        """Where its files are."""
        return self._directory

    @property
    def dead_letters(self) -> DeadLetterVerbs:
        """The verbs about dead letters: `journal.dead_letters.retry("operation=charge", reason=...)`."""
        return DeadLetterVerbs(self.gate.control)

    @property
    def rows(self) -> JournalVerbs:
        """The verbs about what is on disk: `journal.rows.tokens("state=parked")`, `journal.rows.check()`."""
        return JournalVerbs(self.gate.control)

    def answers(self, _gate: Any, /) -> object:
        """Return what answers the verbs of the journal."""
        assert self._journal is not None
        return answers_of(ForkAnswers(self._journal), self._schedules)

    def health(self, _gate: Any, /) -> tuple[HealthPart]:
        """Return whether it can write, and whether all its tokens can run here."""
        if self._journal is None:
            return (HealthPart("journal", "failed", None, "it is not open"),)
        if trouble := self._journal.trouble:
            return (HealthPart("journal", "failed", None, trouble),)
        parked = len(self._journal.parked)
        some = "1 token" if parked == 1 else f"{parked:,} tokens"
        why = f"{some} cannot run here: 'tokengate durable-tokens state=parked'" if parked else ""
        return (HealthPart("journal", "degraded" if parked else "ok", None, why),)

    def child(self, _gate: Any, /) -> ChildSpec:
        """Return the spec of its actor."""
        return ChildSpec("journal", JournalActor, args=(self,), restart="temporary")

    def opened(self, _gate: Any, /) -> None:
        """Go on with what earlier runs have left."""
        assert self._journal is not None
        assert self._schedules is not None
        self._journal.transactions.roll_back_left()
        self._journal.due.open()
        self._journal.go_on()
        self._journal.watch_parked()
        self._journal.ticker.every(_retention.SECONDS, _retention.Retention(self._journal, self._retention).look)
        inbox = Inbox(self._journal)
        inbox.take()
        self._journal.ticker.every(SECONDS, inbox.take)
        self._journal.ticker.every(_LOOK_SECONDS, self._tell)
        self._schedules.open((*self._own_schedules, *self._file_schedules))

    @overload
    def attach(self, uid: str, /) -> Token[Any]: ...
    @overload
    def attach(self, operation: Callable[..., Any] | str, /, *, key: str | int) -> Token[Any]: ...
    def attach(self, what: Any, /, *, key: str | int | None = None) -> Token[Any]:
        """Return a token of a row on disk: the one that runs, or one that ends as that does, or has ended.

        Args:
            what: a uid, such as `"17.4242"`; or, with a key, an operation or its name, `"module:qualified name"`.
            key: the key.

        Raises:
            LookupError: there is no such row; ended ones are removed after the retention of the journal.
            ValueError: the uid is none.
            WouldBlock: on the thread of a loop, which must not read the disk.
            JournalFailed: no gate is open with this journal.
        """
        if self._journal is None:
            raise JournalFailed("the journal is not open: open a gate with it first")
        return attach(self._journal, what, key)

    def _failed(self, _error: BaseException) -> None:
        self._tell()
        self.gate.request_stop()

    def _tell(self) -> None:
        """Have it published that the journal cannot write, or can again; on any thread."""
        journal = self._journal
        if journal is not None and (why := journal.trouble) != self._told:
            self._told = why
            journal.later(partial(journal.system.publish, JournalChanged("", str(journal.directory), why)))

    def _close(self) -> None:
        if self._journal is not None:
            self._journal.close(time.monotonic() + _CLOSE_SECONDS)
