"""The directory of a journal: its checks, and the lock of the one gate that has it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any, Final

from tokengate._exceptions import JournalInUse
from tokengate.audit._directory import opened_directory

_LOCK: Final = "owner.lock"


class OwnedDirectory:
    """The directory of a journal, which is locked as long as this is open.

    Args:
        path: of the directory; made if it does not exist.
        gate: name of the gate.

    Raises:
        JournalInUse: another gate has it.
        OSError: it cannot be used.
    """

    def __init__(self, path: Path, gate: str) -> None:
        os.close(opened_directory(path))
        self.path = path
        self._lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = self._owner()
            os.close(self._lock)
            raise JournalInUse(
                f"{path} is in use by gate '{owner.get('gate')}' of process {owner.get('pid')}; "
                "close it, or name another directory"
            ) from None
        os.ftruncate(self._lock, 0)
        text = json.dumps({"gate": gate, "pid": os.getpid(), "since": time.time()})
        os.pwrite(self._lock, text.encode(), 0)

    def _owner(self) -> dict[str, Any]:
        try:
            found = json.loads(os.pread(self._lock, 4096, 0))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def close(self) -> None:
        """Give the lock back."""
        os.close(self._lock)
