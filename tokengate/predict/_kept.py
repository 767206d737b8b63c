"""The file of what must be known after a restart: rules that lost trust, and durable tokens that rules have changed."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tokengate.audit._directory import NO_LINK
from tokengate.control._uids import number_of
from tokengate.predict._action import action_of

_logger = logging.getLogger("tokengate.predict")

_NAME: Final = "rules.json"
_MOST: Final = 4 * 2**20  # bytes
_UNREAD: Final = "'%s' cannot be read (%s), so what rules did before is not undone; remove it"
MOST_TOKENS: Final = 1_000
"""Durable tokens that rules may have changed at once."""


class Kept:
    """What is kept of the rules of a gate.

    Args:
        directory: of the file, which is there; None keeps nothing.

    Attributes:
        trust: {rule: why it only observes}.
        tokens: {uid of a durable token and verb: what was done to it}.
    """

    def __init__(self, directory: Path | None) -> None:
        self.trust: dict[str, str] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        self._path = None if directory is None else directory / _NAME
        self._lock = threading.Lock()
        self._has_failed = False  # the latest write
        if self._path is not None:
            self._read(self._path)

    def _read(self, path: Path) -> None:
        try:
            file = os.open(path, os.O_RDONLY | NO_LINK)
        except FileNotFoundError:
            return
        except OSError as error:
            _logger.error(_UNREAD, path, error.strerror)
            return
        try:
            data = os.read(file, _MOST + 1)
            if len(data) > _MOST:
                raise ValueError(f"it has more than {_MOST:,} bytes")
            found = json.loads(data)
            trust, tokens = found["trust"], found["tokens"]
            if not all(isinstance(one, str) for one in trust.values()) or not all(map(_is_entry, tokens.values())):
                raise ValueError("it is of another form")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            _logger.error(_UNREAD, path, error)
            return
        finally:
            os.close(file)
        self.trust, self.tokens = trust, tokens

    def set_token(self, uid: str, verb: str, entry: Mapping[str, Any] | None) -> bool:
        """Keep what a verb did to a durable token, on disk when this returns; None: it is undone, or over.

        Returns:
            whether it is kept. False: the disk fails, or too many are.
        """
        with self._lock:
            key = f"{uid} {verb}"
            before = self.tokens.get(key)
            if entry is None and before is None:
                return True
            if entry is not None and (self._path is None or (before is None and len(self.tokens) >= MOST_TOKENS)):
                return self._path is None
            self.tokens.pop(key, None)
            if entry is not None:
                self.tokens[key] = {"uid": uid, **entry}
            if self._write():
                return True
            if entry is not None:
                del self.tokens[key]
            return False

    def set_trust(self, rule: str, lost: str) -> None:
        """Keep why a rule only observes; empty: it does not."""
        with self._lock:
            self.trust.pop(rule, None)
            if lost:
                self.trust[rule] = lost
            self._write()

    def _write(self) -> bool:
        path = self._path
        if path is None:
            return True
        try:
            new = path.with_suffix(".new")
            file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | NO_LINK, 0o600)
            with open(file, "wb") as opened:
                opened.write(json.dumps({"format": 1, "trust": self.trust, "tokens": self.tokens}).encode())
                opened.flush()
                os.fdatasync(file)
            new.replace(path)
        except OSError as error:
            if not self._has_failed:
                _logger.error(
                    "'%s' cannot be written: %s; rules change no durable token meanwhile", path, error.strerror
                )
            self._has_failed = True
            return False
        self._has_failed = False
        return True


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), str) for name in ("uid", "rule", "verb")):
        return False
    action_of(entry["verb"])
    number_of(entry["uid"])
    return all(isinstance(entry.get(name), dict) for name in ("before", "set"))
