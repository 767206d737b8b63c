"""Sends log records of a child to the gate, where loggers handle them."""

from __future__ import annotations

import logging
import pickle
from typing import TYPE_CHECKING, Any, Final

from . import _wire

if TYPE_CHECKING:
    from ._connection import Connection
    from ._yield_points import YieldPoints

_ATOMS: Final = (str, int, float, bool, bytes, complex, type(None))
_MOST_DEEP: Final = 8

_formatter: Final = logging.Formatter()


class GateHandler(logging.Handler):
    """Sends log records to the gate, as text and plain values.

    Args:
        connection: to the gate.
        yield_points: of the running call.
    """

    def __init__(self, connection: Connection, yield_points: YieldPoints) -> None:
        super().__init__()
        self._connection = connection
        self._yield_points = yield_points
        self.root_level = logging.NOTSET  # the level that was last set here

    def set_root_level(self, level: int) -> None:
        """Set the level of the root logger, which loggers without a level of their own have."""
        self.root_level = level
        logging.root.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            payload = pickle.dumps(plain_record(record), pickle.HIGHEST_PROTOCOL)
            self._connection.send(_wire.LOG, self._yield_points.number, 0, payload)
        except ConnectionError:
            pass  # the gate has ended
        except Exception:
            self.handleError(record)


def plain_record(record: logging.LogRecord) -> dict[str, Any]:
    """Return the attributes of a record, with all values that are not plain replaced by text."""
    attributes = vars(record).copy()
    attributes["msg"] = record.getMessage()
    attributes["args"] = None
    if record.exc_info and not record.exc_text:
        attributes["exc_text"] = _formatter.formatException(record.exc_info)
    attributes["exc_info"] = None
    return {name: _plain(value) for name, value in attributes.items()}


def _plain(value: Any, depth: int = 0) -> Any:
    kind = type(value)
    if kind in _ATOMS:
        return value
    if depth < _MOST_DEEP:
        if kind in (list, tuple, set, frozenset):
            return kind(_plain(item, depth + 1) for item in value)
        if kind is dict:
            return {_plain(key, depth + 1): _plain(item, depth + 1) for key, item in value.items()}
    try:
        return repr(value)
    except Exception:
        return f"<{kind.__name__} whose repr raised>"
