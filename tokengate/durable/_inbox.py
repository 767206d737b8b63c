"""The inbox of a journal: calls of other processes of the user, as files, which the writer moves into the database."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec

from tokengate.durable._codec import LARGEST
from tokengate.durable._submit import INBOX

SECONDS: Final = 0.1
"""Between two looks."""
_AT_ONCE: Final = 1_000  # files of one transaction
_TICK: Final = 10**8  # nanoseconds in which two changes of a folder may have the same time

_logger = logging.getLogger("tokengate.durable")


@attrs.frozen
class Call:
    """The text of a file."""

    operation: str
    arguments: tuple[list[Any], dict[str, Any]]
    key: str
    priority: int = 0
    tags: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class InboxRefused:
    """A file of the inbox could not be read as a call; it was moved to `inbox/bad`.

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
        directory: of the journal.
        gate: name of the gate.
        publish: publishes an event.
    """

    def __init__(self, directory: Path, gate: str, publish: Callable[[object], object]) -> None:
        self._folder = directory / INBOX
        self._new = self._folder / "new"
        self._gate = gate
        self._publish = publish
        self._seen = -1  # time of the last change of the folder, in nanoseconds, when it was found empty

    def waiting(self) -> list[str]:
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

    def move(
        self, db: sqlite3.Connection, names: list[str], submit: Callable[[sqlite3.Connection, Call], object]
    ) -> None:
        """Submit the calls of files, within a transaction of the writer; each by itself.

        Args:
            db: the connection.
            names: of the files.
            submit: writes the row of a call; raises `ValueError` or `TypeError` for one that it refuses.
        """
        for name in names:
            try:
                submit(db, self._read(name))
            except FileNotFoundError:  # removed by hand
                pass
            except (ValueError, TypeError, OSError) as error:
                self._put_aside(name, f"{type(error).__name__}: {error}")

    def forget(self, names: list[str]) -> None:
        """Remove files whose rows are on disk; if the process dies before that, their keys are taken."""
        for name in names:
            (self._new / name).unlink(missing_ok=True)

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
        try:
            os.rename(self._new / name, bad / name)
        except OSError:
            _logger.exception("a file of the inbox cannot be moved: %s", self._new / name)
            return
        _logger.error("a file of the inbox is no call, and is in %s: %s", bad / name, why)
        self._publish(InboxRefused(self._gate, name, why))
