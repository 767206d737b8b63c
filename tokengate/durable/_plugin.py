"""The plugin: keeps durable tokens on disk."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Final

from actors import CpuActor
from supervisors import ChildSpec
from tokengate.control.registry._plugin import Plugin
from tokengate.durable._files import OwnedDirectory
from tokengate.durable._journal import OpenJournal
from tokengate.durable._recovery import begin_run, go_on
from tokengate.durable._store import connect, reader
from tokengate.durable._writer import Writer

_CLOSE_SECONDS: Final = 5.0


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
        directory: that of the journal; one gate at a time has it.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)
        self._journal: OpenJournal | None = None
        self._owned: OwnedDirectory | None = None

    def journal(self, gate: Any, /) -> OpenJournal:
        """Open the files."""
        self._owned = OwnedDirectory(self._directory, gate.name)
        db = connect(self._directory)
        run = begin_run(db, gate.name)
        writer = Writer(db, f"{gate.name}-journal", lambda _error: gate.request_stop())
        self._journal = OpenJournal(gate._system, run, writer, gate._operations)
        self._journal.open()
        return self._journal

    def child(self, _gate: Any, /) -> ChildSpec:
        """Return the spec of its actor."""
        return ChildSpec("journal", JournalActor, args=(self,), restart="temporary")

    def opened(self, _gate: Any, /) -> None:
        """Go on with what earlier runs have left."""
        assert self._journal is not None
        db = reader(self._directory)
        try:
            go_on(self._journal, db)
        finally:
            db.close()

    def _close(self) -> None:
        if self._journal is not None:
            self._journal.close(time.monotonic() + _CLOSE_SECONDS)
        if self._owned is not None:
            self._owned.close()
