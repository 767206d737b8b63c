"""What stands beside the records of a token: its log lines, and what its gate was opened with."""

from __future__ import annotations

import logging
import platform
import re
from collections import deque
from pathlib import Path
from typing import Any, Final

from actors import ActorSystem
from actors.lowlevel import place_of
from tokengate.config._file import read_file
from tokengate.control._safe_text import SECRETS, class_name, plain
from tokengate.control._version import own_version
from tokengate.control.inspection._selector import parse
from tokengate.control.stream._record import Batch
from tokengate.history._kinds import LogLine

KEPT: Final = 1_000
"""Log lines of tokens."""

# A term or value with the name of a secret: `api_key='...'`, `password=x`.
_SECRET: Final = re.compile(
    rf"""([\w.-]*(?:{"|".join(SECRETS)})[\w.-]*["']?\s*[!=:]+\s*)('[^']*'|"[^"]*"|[^\s,]+)""", re.IGNORECASE
)


class LogRing:
    """Keeps the latest log lines of the tokens of a gate until it closes; a sink of the stream, which tells it of that.

    A line has its text only where the operation or actor shows everything: `show="*"`. Others have the place in the
    code, since a text may have values of arguments in it; and of an error, its class.

    Args:
        system: of the gate.
        clock: returns seconds since the epoch, from those of the log.
    """

    name = "log lines"
    lost = 0

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._lines: deque[LogLine] = deque(maxlen=KEPT)
        self._handler = _Handler(self._note)
        logging.getLogger().addHandler(self._handler)

    def lines(self, token: int) -> tuple[LogLine, ...]:
        """Return those of a token, the newest last."""
        return tuple(line for line in tuple(self._lines) if line.token == token)

    def take(self, batch: Batch, /) -> None:
        """Take nothing: log lines come another way."""

    def close(self, _seconds: float, /) -> str:
        """Keep no more lines."""
        logging.getLogger().removeHandler(self._handler)
        return ""

    def _note(self, record: logging.LogRecord) -> None:
        id = getattr(record, "token", None)
        token = self._system.live.get(id) if type(id) is int else None
        if token is None:  # of no token, of another gate, or of one that has ended
            return
        error = record.exc_info[0] if record.exc_info else None
        is_shown = place_of(token).properties.show == "*"
        self._lines.append(
            LogLine(
                at=record.created, level=record.levelname, logger=record.name, token=token.id, actor=plain(token.actor),
                where=f"{record.pathname}:{record.lineno}", error="" if error is None else class_name(error),
                text=without_secrets(plain(record.getMessage())) if is_shown else None,
            )
        )  # fmt: skip


class _Handler(logging.Handler):
    """Passes log records on; an error in that is reported as those of other handlers are."""

    def __init__(self, note: Any) -> None:
        super().__init__()
        self._note = note

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._note(record)
        except Exception:
            self.handleError(record)


def without_secrets(text: str) -> str:
    """Return a text with `***` for what follows the name of a secret."""
    return _SECRET.sub(r"\1***", text)


def versions() -> dict[str, str]:
    """Return {what: its version} of what a gate runs on."""
    return {"tokengate": own_version(), "python": platform.python_version(), "system": platform.platform()}


def configuration(path: Path | None) -> list[str]:
    """Return the values of a `tokengate.toml`, a line each: no comments, and no values with names of secrets."""
    if path is None:
        return []
    found = []
    for line, name, value in read_file(path, parse).values():
        shown = "***" if _SECRET.match(f"{name.rpartition('.')[2]}=x") else without_secrets(plain(repr(value)))
        found.append(f"{path.name}:{line}: {name} = {shown}")
    return found
