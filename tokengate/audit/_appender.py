"""A log while it is written: the end of its chain, and what is done before and after each batch of records."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import attrs

from tokengate.audit._chain import End
from tokengate.audit._disk import Disk
from tokengate.audit._files import Files
from tokengate.audit._opening import find_end
from tokengate.audit._record import Entry, encode

_logger = logging.getLogger("tokengate.audit")


@attrs.define(eq=False)
class Item:
    """An entry on its way to the disk.

    Attributes:
        entry: what is recorded.
        lasts: whether it is kept if it cannot be written.
        wake: called, in the writer's thread, when `seq` or `error` is set; None if no one waits.
        at: when it was made, in seconds since 1970.
        mono: the same, in seconds of the monotonic clock.
        seq: of its record, once that is on disk.
        error: why it could not be written.
        given_up: whether the caller has been told that there is no record.
    """

    entry: Entry
    lasts: bool = True
    wake: Callable[[], object] | None = None
    at: float = attrs.field(factory=time.time)
    mono: float = attrs.field(factory=time.monotonic)
    seq: int = 0
    error: str = ""
    given_up: bool = False


class Appender:
    """Writes batches of records; opens the log with the first. Not thread-safe.

    Args:
        gate: name of the gate.
        places: returns directories for the log; the first is taken that no one else writes to.
        retain: seconds after which a segment is removed; None keeps all.
        disk: makes the calls.

    Attributes:
        end: of the chain; None before the first batch.
        path: the directory; None before the first batch.
    """

    def __init__(self, gate: str, places: Callable[[], Iterable[Path]], retain: float | None, disk: Disk) -> None:
        self.end: End | None = None
        self.path: Path | None = None
        self._gate = gate
        self._places = places
        self._retain = retain
        self._disk = disk
        self._files: Files | None = None
        self._notes: list[Item] = []  # what is still to be recorded of the log itself
        self._expired: list[str] = []  # segments that are removed once that is on record

    def write(self, items: Sequence[Item]) -> list[bytes]:
        """Write records, and return their lines when they are on disk.

        Raises:
            OSError: none of them is; it may be tried again.
        """
        files, end = self._looked_after()
        batch = [*self._notes, *items]
        lines, seqs = [], []
        first = end.seq
        for item in batch:
            seqs.append(end.seq)
            line, end = end.add(encode(item.entry, item.at, item.mono), first)
            lines.append(line)
        if files.append(b"".join(lines)):
            self._expire(files)
        self.end = end
        self._notes = self._notes[len(batch) - len(items) :]
        for item, seq in zip(batch, seqs, strict=True):
            item.seq = seq
        return lines

    def finish(self) -> None:
        """Do what the callers of the last batch need not wait for.

        Raises:
            OSError: it is done before the next batch.
        """
        if self._files is None or self.end is None:
            return
        self._compare(self._files)  # or a changed key would be written over
        self._files.keep(self.end)
        if self._expired and not self._notes:
            self._files.remove(*self._expired)
            self._expired = []
        self._files.make_reserve()

    def close(self) -> None:
        """Close the files."""
        if self._files is not None:
            self._files.close()
        self._files = None

    def _looked_after(self) -> tuple[Files, End]:
        """Return the files and the end of the chain, after looking whether others have changed something."""
        if self._files is not None and not self._files.is_there():
            self.close()
            self._tampered(f"{self.path} is gone, with chain {self.end and self.end.chain}")
        if self._files is None or self.end is None:
            return self._open()
        self._compare(self._files)
        if self._files.key_is_stale:
            self._files.keep(self.end)
        return self._files, self.end

    def _compare(self, files: Files) -> None:
        if difference := files.difference():
            files.stale = files.key_is_stale = True
            self._tampered(difference)

    def _open(self) -> tuple[Files, End]:
        files = self._files = self._first_free()  # at once: a process that is forked meanwhile closes them
        try:
            end, notes = find_end(files)
        except BaseException:
            self.close()
            raise
        for note in notes:
            if note.kind == "tampered":
                self._tampered(note.args["what"])
        opened = Entry(kind="opened", args={"gate": self._gate, "chain": end.chain, "pid": os.getpid()})
        self._notes += map(Item, [opened, *(note for note in notes if note.kind != "tampered")])
        self.end, self.path = end, files.path
        if self._retain is not None and files.age(time.time()) > self._retain / 10:
            files.stale = True  # or a log with few records would never get rid of them
        self._expire(files)
        return files, end

    def _first_free(self) -> Files:
        for place in self._places():
            try:
                return Files(place, self._disk)
            except BlockingIOError:
                pass
        raise BlockingIOError("another process writes to it")

    def _tampered(self, what: str) -> None:
        _logger.error("the audit log of gate '%s' was changed by others: %s", self._gate, what)
        self._notes.append(Item(Entry(kind="tampered", args={"what": what})))

    def _expire(self, files: Files) -> None:
        """Find the segments that are too old; they are removed when that is on record."""
        if self._retain is None or self._expired:
            return
        self._expired, through = files.expired(time.time() - self._retain)
        if self._expired:
            args = {"segments": self._expired, "through": through}
            self._notes.append(Item(Entry(kind="retired", args=args)))
