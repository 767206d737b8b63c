"""The inbox of a journal: calls of other processes of the user, as files, which the writer moves into the database."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from functools import partial
from typing import Final

import attrs
import msgspec

from tokengate.control._uids import text_of
from tokengate.durable._codec import LARGEST
from tokengate.durable._new_rows import submit_row
from tokengate.durable._ports import OpenedJournal
from tokengate.durable._submit import INBOX, Call

SECONDS: Final = 0.1
"""Between two looks."""
_AT_ONCE: Final = 1_000  # files of one transaction
_TICK: Final = 10**8  # nanoseconds in which two changes of a folder may have the same time

_logger = logging.getLogger("tokengate.durable")


@attrs.frozen
class InboxRefused:
    """A file of the inbox is no call, or has the key of another one; it was moved to `inbox/bad`.

    Attributes:
        gate: name of the gate.
        file: its name.
        why: what is wrong with it.
    """

    gate: str
    file: str
    why: str


class Inbox:
    """The files that other processes have left for a journal.

    Args:
        journal: the open journal.
    """

    def __init__(self, journal: OpenedJournal) -> None:
        self._journal = journal
        self._folder = journal.directory / INBOX
        self._new = self._folder / "new"
        self._seen = -1  # time of the last change of the folder, in nanoseconds, when it was found empty

    def take(self) -> None:
        """Move the files that are there into the database, and offer their tokens; on the thread of the ticker."""
        while names := self._waiting():
            uids, bad = self._journal.call(partial(self._submit, names)).result()
            for name in names:  # if the process dies before this, their keys are taken
                if name not in bad:
                    (self._new / name).unlink(missing_ok=True)
            for name, why in bad.items():
                self._put_aside(name, why)
            self._journal.offer_new(uids)

    def _waiting(self) -> list[str]:
        """Return the names of the oldest files; one call of the system while there are none."""
        try:
            changed = os.stat(self._new).st_mtime_ns
            if changed == self._seen:
                return []
            names = sorted(os.listdir(self._new))
        except FileNotFoundError:
            return []
        if not names and time.time_ns() - changed > _TICK:
            self._seen = changed
        return names[:_AT_ONCE]

    def _submit(self, names: list[str], db: sqlite3.Connection) -> tuple[list[int], dict[str, str]]:
        """Submit the calls of files, within a transaction; return the uids of the new rows, and {bad file: why}."""
        uids: list[int] = []
        bad: dict[str, str] = {}
        for name in names:
            try:
                call = self._read(name)
            except FileNotFoundError:  # removed by hand
                continue
            except (ValueError, OSError, RecursionError) as error:
                bad[name] = str(error)
                continue
            place, _, _ = call.operation.rpartition(":")
            uid, is_new = submit_row(
                self._journal, db, call.operation, msgspec.json.encode(call.arguments), key=call.key, tags=call.tags,
                priority=call.priority, path=place if "/" in place else "",
            )  # fmt: skip
            if is_new:
                uids.append(uid)
                continue
            (text,) = db.execute("SELECT arguments FROM tokens WHERE uid = ?", (uid,)).fetchone()
            if msgspec.json.decode(text) != list(call.arguments):
                bad[name] = f"token {text_of(uid)} has its key, '{call.key}', and other arguments"
        return uids, bad

    def _read(self, name: str) -> Call:
        file = os.open(self._new / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(file, "rb") as stream:
            text = stream.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} bytes")
        return msgspec.json.decode(text, type=Call)

    def _put_aside(self, name: str, why: str) -> None:
        bad = self._folder / "bad"
        bad.mkdir(mode=0o700, exist_ok=True)
        os.rename(self._new / name, bad / name)
        _logger.error("a file of the inbox is no call to be taken, and was moved to %s: %s", bad / name, why)
        gate = self._journal.gate.name
        self._journal.system.publish(InboxRefused(gate, name, why))
