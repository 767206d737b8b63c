"""What actors have saved: the latest state of each path, in memory and on disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

from actors import BaseActor, NotDurable, Token, current_token
from actors.lowlevel import ActorPlace, DurableToken, Status
from tokengate._exceptions import JournalDamaged
from tokengate.durable._checksums import whole
from tokengate.durable._codec import Codec
from tokengate.durable._writer import SAVE, Also

Saved: TypeAlias = tuple[int, bytes]
"""A state as JSON, after the number of its `save` in this run: the greater one is the later one."""


class SavedStates:
    """The states of actors.

    They are read from the disk as the journal opens, so that hooks on loops find them without a wait; from then on,
    what is in memory is what the latest message to end has saved, and its commit follows.

    Args:
        db: the journal's connection, before the writer has it.
        directory: that of the journal, for errors.
        write: has statements of this kind written, in a commit of their own.
    """

    def __init__(self, db: sqlite3.Connection, directory: Path, write: Callable[[Also], object]) -> None:
        self._directory = directory
        self._write = write
        self._numbers = count(1)
        self._damaged: set[str] = set()  # paths
        self._states: dict[str, Saved] = {}  # {path: what the messages that have ended have left}
        self._codecs: dict[str, Codec] = {}  # {path: what encodes its state}
        for path, value, is_whole in db.execute(f"SELECT path, value, {whole(db, 'saved')} FROM saved"):
            self._states[path] = 0, value
            if not is_whole:
                self._damaged.add(path)

    def of(self, place: ActorPlace, default: Any, kind: Any) -> Any:
        """Return the state of an actor, as a value of a type; what it saves from now on must be of that type.

        Raises:
            JournalDamaged: its bits have changed on disk.
            ValidationError: it is not of that type.
        """
        path = place.path
        codec = self._codecs[path] = _codec_of(path, kind)
        if path in self._damaged or (self._damaged and path not in self._states):  # it may be the path that has changed
            what = (
                f"what actor '{path}' has saved" if path in self._damaged else "what some actor has saved, maybe this,"
            )
            raise JournalDamaged(
                f"{self._directory}: bits of {what} have changed on disk, so actor '{path}' does not start; "
                "they were left as they are: take them from a backup, or remove the row from the table 'saved'"
            )
        found = self._states.get(path)
        return default if found is None else codec.decode(found[1])[0][0]

    def note(self, actor: BaseActor, value: Any) -> None:
        """Keep a state that an actor saves, until its message ends; in a hook, write it.

        Raises:
            NotDurable: it would not come back as it is.
            RuntimeError: the actor is not at work at its place any more.
        """
        place, token = actor._place, current_token()
        codec = self._codecs.get(place.path) or _codec_of(place.path, Any)
        try:
            saved = next(self._numbers), codec.encode((value,), {})
        except NotDurable as error:
            raise NotDurable(
                f"the state that actor '{place.path}' saves would not come back as it is, {type(value).__name__}: give "
                f"its type, self.saved(default, type=...); {error}"
            ) from error
        if token is None or token._place is not place or token.done():
            token = None
        elif isinstance(token, DurableToken) and token.record is not None and not token.record.is_recording:
            token.record.saved = saved
            return
        elif not isinstance(token, DurableToken):
            token.add_done_callback(partial(self._ended, place, saved))
            return
        if place.instance is not actor and not (token is None and place.status is Status.STARTING):
            raise RuntimeError(f"this instance of actor '{place.path}' does not run any more, and saves nothing")
        self._write(self.commit(place.path, None, saved))

    def _ended(self, place: ActorPlace, saved: Saved, token: Token[Any]) -> None:
        """Write what a message has saved that is not durable, unless it has crashed its actor."""
        error = token._error
        if not (place.system.is_sealed(token) or (error is not None and place.crashes(token, error))):
            self._write(self.commit(place.path, None, saved))

    def commit(self, path: str, uid: int | None, saved: Saved) -> Also:
        """Make a state that of its path, and return what writes it; nothing if a later one is there already.

        Args:
            path: of the actor.
            uid: number of the token that has saved it; None: it was a hook, or a message that is not durable.
            saved: the state.
        """
        before = self._states.get(path)
        if before is not None and before[0] > saved[0]:
            return ()
        self._states[path] = saved
        self._damaged.discard(path)
        return ((SAVE, (path, uid, saved[1])),)


def _codec_of(path: str, kind: Any) -> Codec:
    def state(value: Any) -> None: ...

    state.__annotations__ = {"value": kind}
    return Codec(f"the state of actor '{path}'", state)
