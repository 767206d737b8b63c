"""The plugin: writes the history of its gate, and reads it back."""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import Any, ClassVar, Final

from tokengate.control._units import bytes_in, seconds_in
from tokengate.control.messages import Event, HealthPart
from tokengate.control.registry._plugin import Plugin
from tokengate.history._context import LogRing, configuration, versions
from tokengate.history._files import prepare
from tokengate.history._kinds import Opening
from tokengate.history._postmortem import Postmortem
from tokengate.history._reader import Reader
from tokengate.history._verbs import HistoryVerbs
from tokengate.history._writer import Writer
from tokengate.telemetry import Telemetry
from tokengate.telemetry._kinds import OperationRow
from tokengate.telemetry._out_file import written

_LARGEST: Final = 10**18  # of finite numbers


class History(Plugin):
    """Keeps what tokens did on disk, best effort, and says what is missing.

    Its files are in `history/` of the directory: SQLite, one for each opening of a gate and day, or for 64 MiB.

    Args:
        directory: that of the gate's state; gates may share it.
        retention: how long files are kept: seconds, or text such as `7d`.
        max_bytes: of all files: bytes, or text such as `512MiB`.
        rows_per_second: of ordinary attempts as many have a row; each stands for several then. Others have one always.

    Raises:
        ValueError: an argument has a value that cannot work.
    """

    needs: ClassVar[tuple[type[Plugin], ...]] = (Telemetry,)

    def __init__(
        self,
        directory: str | os.PathLike[str],
        retention: float | str = "7d",
        max_bytes: int | str = "512MiB",
        rows_per_second: int = 2_000,
    ) -> None:
        if not isinstance(directory, str | os.PathLike) or not str(directory) or "\0" in str(directory):
            raise ValueError(f"directory of History is {directory!r}; it must be the path of a directory")
        self._directory = Path(directory)
        self._retention = seconds_in(retention) if isinstance(retention, str) else retention
        size = bytes_in(max_bytes) if isinstance(max_bytes, str) else max_bytes
        for name, value, least, most in (
            ("retention", self._retention, 1, math.inf),
            ("max_bytes", size, 2**20, _LARGEST),
            ("rows_per_second", rows_per_second, 0, _LARGEST),
        ):
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                raise ValueError(f"{name} of History is {value!r}; it must be a number, {least:,} or more")
        self._max_bytes, self._a_second = int(size), int(rows_per_second)
        self._writer: Writer | None = None

    def observer(self, gate: Any, /) -> None:
        """Begin to write.

        Raises:
            BadStateDirectory: the directory cannot be used.
        """
        telemetry: Telemetry = gate.plugin(Telemetry)
        self._opening = Opening(gate._stream.run, versions(), tuple(configuration(gate._config_file)))
        self._writer = Writer(
            prepare(self._directory), gate._stream, gate._system.clock,
            retention=self._retention, most=self._max_bytes, a_second=self._a_second,
            samples_of=telemetry.samples, closed=self._record, opening=self._opening,
        )  # fmt: skip
        telemetry.past = self._reader.operations
        gate._stream.attach(self._writer)
        self._ring = LogRing(gate._system)
        gate._stream.attach(self._ring)

    def health(self, _gate: Any, /) -> tuple[HealthPart]:
        """Return whether records were lost; history never fails, since it is best effort."""
        writer = self._writer
        why = "it is not open" if writer is None else writer.failing
        if writer is not None and writer.lost and not why:
            why = f"{writer.lost:,} records were lost"
        return (HealthPart("history", "degraded" if why else "ok", why=why),)

    def answers(self, _gate: Any, /) -> HistoryVerbs:
        """Return what answers the verbs about history."""
        return HistoryVerbs(self._reader, self._ring, self._opening)

    @property
    def _reader(self) -> Reader:
        return Reader(self._directory / "history")

    def records(
        self, select: str = "*", *, since: float | str | None = None, until: float | str | None = None,
        limit: int = 1_000,
    ) -> list[Event]:  # fmt: skip
        """Return the newest records that match, in order of time, and what is missing between them; see `watch`.

        Blocks while files are read. What has just ended is there after 0.3 seconds.

        Args:
            select: a selector of records.
            since: how long ago, in seconds or as text (`2h`); or a date and time (`2026-11-30T08:00`).
            until: the same.
            limit: how many, at most.

        Raises:
            BadSelector, BadRequest: an argument cannot work.
        """
        return self._reader.records(select, since=since, until=until, limit=limit)

    def show(self, token: str | int) -> list[Event]:
        """Return what is known of a token, in order of time.

        Args:
            token: its uid, or its id, which may be of several runs.

        Raises:
            BadRequest: nothing is known of it.
        """
        return self._reader.show(str(token))

    def postmortem(self, token: str | int, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Write one zip with all that is known of a token; return its index, which says what was left out, and why.

        Args:
            token: its uid, or its id.
            path: of the zip.

        Raises:
            BadRequest: nothing is known of it, or its id is of several runs.
            OSError: the zip cannot be written.
        """
        found = Postmortem(self.gate.control.ask)
        found.collect(str(token))
        with written(Path(path)) as file:
            found.write(file)
        return found.index

    def operations(self, since: float | str | None = None, name: str = "") -> tuple[OperationRow, ...]:
        """Return figures of operations over whole minutes: exact counts, and estimates of times.

        Args:
            since: as above.
            name: of one operation, or a pattern; empty for all.

        Raises:
            BadRequest: `since` cannot be read.
        """
        return self._reader.operations(name, since)

    def _record(self, path: Path) -> None:
        """Have the audit log, if there is one, know what is in a file that was closed."""
        authority = self.gate._authority
        if authority is not None and (log := authority.recorder.log) is not None:
            from tokengate.audit import Entry  # here, since few gates have a log

            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            log.add(Entry(kind="history", args={"file": str(path), "sha256": digest}))
