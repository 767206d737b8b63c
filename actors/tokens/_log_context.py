"""Log records carry the id of the token and the path of the actor that they come from.

While a system is open, a record factory adds the fields to each record that is made in the process. The factory
that was there before still makes the record, and is put back when the last system closes.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import trio

from actors.concurrency._blocking import TurnOwner, current_turn
from actors.tokens._token import current_token

_RecordFactory = Callable[..., logging.LogRecord]

# The place that a task of trio drains. It is set in the task's own context, which stays the same whatever contexts it
# enters.
drained_place: contextvars.ContextVar[TurnOwner | None] = contextvars.ContextVar("drained_place", default=None)

# {task of asyncio: the place that it drains}; Python 3.11 does not show the context of such a task.
drained_places: WeakKeyDictionary[asyncio.Task[Any], TurnOwner] = WeakKeyDictionary()


class LogContext(logging.Filter):
    """Gives a record the fields `token` (id) and `actor` (path) if it has none; both are None outside of a step.

    Add it to a handler whose format names the fields and that gets records while no system is open, too.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "token") or not hasattr(record, "actor"):
            token, actor = log_fields()
            vars(record).setdefault("token", token)
            vars(record).setdefault("actor", actor)
        return True


def log_fields() -> tuple[int | None, str | None]:
    """Return the id of the token and the path of the actor that the calling code belongs to."""
    token = current_token()
    place = current_turn()
    if place is None and trio.lowlevel.in_trio_task():
        # The runtime's code around a step, and hooks, which may run in the context of another place's token.
        place = trio.lowlevel.current_task().context.get(drained_place)
    elif place is None and asyncio._get_running_loop() is not None:
        task = asyncio.current_task()
        place = None if task is None else drained_places.get(task)
    path = None if place is None else place.path
    if token is None:
        return None, path
    return token.id, path or token.actor


class _Factory:
    """Makes records as the factory before it does, and adds the fields.

    Args:
        before: the factory that makes the record.
    """

    def __init__(self, before: _RecordFactory) -> None:
        self.before = before
        self.active = True

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self.before(*args, **kwargs)
        if self.active:
            # `logging` raises a KeyError for a name in `extra` that the record has already: such names belong to the
            # user.
            extra = sys._getframe(1).f_locals.get("extra") or ()
            token, actor = log_fields()
            if "token" not in extra:
                record.token = token
            if "actor" not in extra:
                record.actor = actor
        return record


_lock = threading.Lock()
_open: list[object] = []  # systems
_installed: list[_Factory] = []  # ours, while a system is open


def install(system: object) -> None:
    """Have records carry the fields until `uninstall` has been called for this system, too."""
    with _lock:
        if not _open:
            factory = _Factory(logging.getLogRecordFactory())
            _installed.append(factory)
            logging.setLogRecordFactory(factory)
        _open.append(system)


def uninstall(system: object) -> None:
    """Undo `install`; a second call changes nothing."""
    with _lock:
        if system not in _open:
            return
        _open.remove(system)
        if _open:
            return
        factory = _installed.pop()
        factory.active = False  # a factory of the program may wrap ours: then ours stays, and only passes records on
        if logging.getLogRecordFactory() is factory:
            logging.setLogRecordFactory(factory.before)
