"""The file of what must be known after a restart: rules that lost trust, and durable tokens that rules have changed."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_logger = logging.getLogger("tokengate.predict")

_NAME: Final = "rules.json"
_MOST: Final = 4 * 2**20  # bytes


class Kept:
    """What is kept of the rules of a gate.

    Args:
        directory: of the file, which is there; None keeps nothing.

    Attributes:
        trust: {rule: why it only observes}.
        tokens: {uid of a durable token: what was done to it}.
    """

    def __init__(self, directory: Path | None) -> None:
        self.trust: dict[str, str] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        self._path = None if directory is None else directory / _NAME
        self._lock = threading.Lock()
        if self._path is not None and self._path.exists():
            self._read(self._path)

    def _read(self, path: Path) -> None:
        try:
            if path.stat().st_size > _MOST:
                raise ValueError(f"it has more than {_MOST:,} bytes")
            found = json.loads(path.read_text())
            trust, tokens = found["trust"], found["tokens"]
            if not all(isinstance(one, str) for one in trust.values()) or not all(map(_is_entry, tokens.values())):
                raise ValueError("it is of another form")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _logger.error("'%s' cannot be read (%s), so what rules did before is not undone; remove it", path, error)
            return
        self.trust, self.tokens = trust, tokens

    def set_token(self, uid: str, entry: Mapping[str, Any] | None) -> None:
        """Keep what was done to a durable token, on disk when this returns; None: it is undone, or over."""
        with self._lock:
            if entry is None and self.tokens.pop(uid, None) is None:
                return
            if entry is not None:
                self.tokens[uid] = dict(entry)
            self._write()

    def set_trust(self, rule: str, lost: str) -> None:
        """Keep why a rule only observes; empty: it does not."""
        with self._lock:
            if self.trust.get(rule, "") == lost:
                return
            self.trust.pop(rule, None)
            if lost:
                self.trust[rule] = lost
            self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        text = json.dumps({"format": 1, "trust": self.trust, "tokens": self.tokens}, sort_keys=True)
        new = self._path.with_suffix(".new")
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(file, "w") as opened:
            opened.write(text)
            opened.flush()
            os.fdatasync(opened.fileno())
        new.replace(self._path)


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(name), str) for name in ("rule", "verb"))
        and all(isinstance(entry.get(name), dict) for name in ("before", "set"))
    )
