"""What other processes of the user submit with: files in the inbox of a journal; no connection, no thread."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Final

import attrs
import msgspec

from actors import NotDurable
from tokengate._exceptions import BadStateDirectory
from tokengate.control._uids import text_of
from tokengate.durable import _states as states
from tokengate.durable._checksums import CHANGED_BITS, WHOLE
from tokengate.durable._codec import LARGEST, encode_plain
from tokengate.durable._files import sync
from tokengate.durable._store import DATABASE, reader

INBOX: Final = "inbox"

# The row with a key, of whichever operation: its operations are found in the index, one look for each.
_FIND: Final = """
WITH RECURSIVE named(operation) AS (
    SELECT min(operation) FROM tokens WHERE key IS NOT NULL
    UNION ALL
    SELECT (SELECT min(operation) FROM tokens WHERE key IS NOT NULL AND operation > named.operation)
    FROM named WHERE operation IS NOT NULL)
SELECT uid, operation, key, state, attempts, accepted, ended, result, error, WHOLE FROM tokens
JOIN named USING (operation) WHERE key = ? ORDER BY uid DESC LIMIT 1
""".replace("WHOLE", WHOLE)


@attrs.frozen
class Call:
    """The text of a file of the inbox."""

    operation: str
    arguments: tuple[list[Any], dict[str, Any]]
    key: str
    priority: Annotated[int, msgspec.Meta(ge=-(1 << 62), le=1 << 62)] = 0
    tags: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Submitted:
    """A row of the journal, as another process sees it.

    Attributes:
        uid: of the token.
        operation, key: of the call.
        state: `delayed`, `queued`, `begun`, `parked`, or how it has ended.
        attempts: that have begun, as far as they are on disk.
        accepted, ended: seconds since 1970; `ended` is None until it has.
        result: what JSON holds of it; None until it has completed.
        error: class and text; None unless it has failed.
    """

    uid: str
    operation: str
    key: str
    state: str
    attempts: int
    accepted: float
    ended: float | None
    result: Any
    error: str | None


class Submitter:
    """Submits durable calls to the gate of a directory, which need not be open; safe after a fork, and in any thread.

    Args:
        directory: of the journal.

    Raises:
        BadStateDirectory: no journal has been there.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory).absolute()
        self._inbox = self._directory / INBOX
        if not (self._directory / DATABASE).exists():
            remedy = "open a gate with Journal(directory) there once"
            raise BadStateDirectory(str(self._directory), "it has no journal", remedy)

    def submit(
        self, operation: str, /, *args: Any, key: str | int | None = None, priority: int = 0,
        tags: Mapping[str, str] | None = None, **kwargs: Any,
    ) -> str:  # fmt: skip
        """Write a call, and return its key when it is on disk; the gate takes it within 0.1 seconds, or once it opens.

        A call with a key that the journal has is one with the token of that key, and does not run again.

        Args:
            operation: `module:qualified name`, or `path:method` of an actor.
            args: positional arguments: values of JSON, which the annotations of the function turn into others.
            key: what names the work; None: a new one.
            priority: higher goes first.
            tags: labels.
            kwargs: arguments by keyword.

        Raises:
            NotDurable: an argument, or an option, has no form in JSON; they are too large; or the name cannot be one.
            OSError: it cannot be written; nothing was submitted.
        """
        place, _, method = operation.rpartition(":")
        if not place or not method:
            raise NotDurable(
                f"operation is {operation!r}; it must be 'module:qualified name', or 'path:method' of an actor"
            )
        name = f"{time.time_ns():020}-{secrets.token_hex(8)}"
        key = name if key is None or key == "" else str(key)
        try:
            text = encode_plain(Call(operation, (list(args), kwargs), key, priority, tags or {}))
            msgspec.json.decode(text, type=Call)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise NotDurable(f"arguments of '{operation}', or its options, have no form in JSON: {error}") from error
        if len(text) > LARGEST:
            raise NotDurable(f"arguments of '{operation}' have {len(text):,} bytes; at most {LARGEST:,} can be kept")
        fresh, new = self._inbox / "tmp", self._inbox / "new"
        for folder in (self._inbox, fresh, new):
            folder.mkdir(mode=0o700, exist_ok=True)
        file = os.open(fresh / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.rename(fresh / name, new / name)
        except BaseException:
            (fresh / name).unlink(missing_ok=True)
            raise
        sync(new)
        return key

    def look(self, key: str) -> Submitted | None:
        """Return the row with a key; None if the gate has not taken the call yet, or has removed the row.

        Raises:
            sqlite3.Error: the journal cannot be read.
        """
        with closing(reader(self._directory)) as db:
            row = db.execute(_FIND, (key,)).fetchone()
        if row is None:
            return None
        uid, operation, key, state, attempts, accepted, ended, result, error, is_whole = row
        if not is_whole:
            state, result, error = states.FAILED, None, f"NotRecovered: {CHANGED_BITS}"
        value = None if result is None else msgspec.json.decode(result)
        return Submitted(text_of(uid), operation, key, states.NAMES[state], attempts, accepted, ended, value, error)


def submit_to(directory: str | os.PathLike[str]) -> Submitter:
    """Return what submits to the journal of a directory, from another process of its user; see `Submitter`."""
    return Submitter(directory)
