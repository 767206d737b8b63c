"""The audit log of a gate."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import trio

from tokengate.audit._appender import Appender
from tokengate.audit._disk import Disk
from tokengate.audit._files import default_directory
from tokengate.audit._record import Entry, encode
from tokengate.audit._writer import SECONDS, Writer
from tokengate.control._exceptions import AuditUnavailable

_logger = logging.getLogger("tokengate.audit")
_NUMBERS = 99  # live gates of one name


class AuditLog:
    """Records of what was asked for, by whom, and what became of it. Nothing is on disk before the first.

    A second live gate of the same name has a directory of its own, `NAME~2`; so has another log of this process.

    Args:
        directory: of the log; None for that of the gate's name.
        gate: its name.
        strict: whether what cannot be recorded is refused.
        retain: seconds after which a segment is removed, on record; None keeps all.
        alone: whether no other directory is taken if another process writes to this one.
        disk: makes the calls that may fail.
        told: called with lines that are on disk, in the thread that writes.
    """

    def __init__(
        self,
        directory: Path | None,
        gate: str,
        *,
        strict: bool,
        retain: float | None = None,
        alone: bool = False,
        disk: Disk | None = None,
        told: Callable[[list[bytes]], object] = len,
    ) -> None:
        self._directory = directory
        self._gate = gate
        self._strict = strict
        self._numbers = 1 if alone else _NUMBERS
        self._appender = Appender(gate, self._places, retain, disk or Disk())
        self._writer = Writer(gate, self._appender, told)
        self._warned = False

    @property
    def path(self) -> Path | None:
        """The directory; None before the first record."""
        return self._appender.path

    @property
    def place(self) -> Path:
        """The directory; before the first record, the one that is tried first."""
        return self.path or next(self._places())

    @property
    def health(self) -> str:
        """Empty; or why it cannot write."""
        return self._writer.health

    @property
    def failing_for(self) -> float | None:
        """Seconds for which it cannot write, as far as they are known; None if it can."""
        return self._writer.failing_for

    async def intend(self, entry: Entry) -> int:
        """Record what is about to be done, and return the seq of the record when it is on disk.

        If the log is not strict, and it cannot be recorded, return 0, after one warning. A cancelled wait leaves either
        no record, or one with the outcome `unavailable`.

        Raises:
            AuditUnavailable: it cannot be written, or is not on disk after two seconds; so nothing must be done.
        """
        try:
            return await self._recorded(entry, lasts=False)
        except AuditUnavailable as error:
            if self._strict:
                raise
            self._warn(error)
            return 0

    async def release(self, entry: Entry) -> int:
        """Record what goes on while the disk fails: a release, or what breaks the glass.

        Returns:
            the seq of the record; 0 if it is in memory, and is written later. What breaks the glass is in the log of
            the process then.

        Raises:
            AuditUnavailable: too many records are in memory, and it does not break the glass.
        """
        try:
            seq = await self._recorded(entry, lasts=True)
        except AuditUnavailable as error:
            if self._strict and not entry.break_glass:
                raise
            self._warn(error)
            seq = 0
        if not seq and entry.break_glass:
            text = encode(entry, time.time(), time.monotonic()).decode()
            _logger.warning("this breaks the glass of gate '%s', and is not in its audit log yet: %s", self._gate, text)
        return seq

    def add(self, entry: Entry) -> None:
        """Have a record written with the next intent, or after a second; never blocks."""
        try:
            self._writer.put(entry)
        except AuditUnavailable:  # it is counted, and the count is recorded
            pass

    def refused(self, entry: Entry) -> None:
        """Record a refusal, or a failed login; of a principal's that follow in ten seconds, how many there were."""
        try:
            self._writer.refuse(entry)
        except AuditUnavailable:  # as above
            pass

    def close(self, seconds: float = 2.0) -> None:
        """Write what is left, and a last head; a disk that hangs is left alone after so many seconds. Blocks."""
        self._writer.close(seconds)

    def disown(self) -> None:
        """Leave the files to the parent, in a forked child, where there is no thread that writes."""
        self._appender.close()

    async def _recorded(self, entry: Entry, *, lasts: bool) -> int:
        if lasts and self._writer.hangs:
            self._writer.put(entry)
            return 0
        over = trio.Event()
        item = self._writer.put(entry, partial(_set, trio.lowlevel.current_trio_token(), over), lasts=lasts)
        try:
            with trio.move_on_after(SECONDS):
                await over.wait()
        except BaseException:  # the caller is cancelled, and does not act
            if seq := self._writer.settle(item):
                self.add(Entry(kind="outcome", of=seq, outcome={"unavailable": 1}))
            raise
        seq = self._writer.settle(item)
        if not seq and not lasts:
            raise self._writer.unavailable(item.error or f"the disk has not answered for {SECONDS:g} s")
        return seq

    def _warn(self, error: AuditUnavailable) -> None:
        if not self._warned:
            self._warned = True
            _logger.warning("%s; what is not recorded is done nevertheless, and this is not said again", error)

    def _places(self) -> Iterator[Path]:
        for number in range(1, self._numbers + 1):
            suffix = f"~{number}" if number > 1 else ""
            if self._directory is None:
                yield default_directory(self._gate + suffix)
            else:
                yield self._directory.with_name(self._directory.name + suffix)


def _set(token: trio.lowlevel.TrioToken, event: trio.Event) -> None:
    try:
        token.run_sync_soon(event.set)
    except trio.RunFinishedError:  # no one waits any more
        pass
