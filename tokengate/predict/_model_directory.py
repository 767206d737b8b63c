"""The directory of the models of a gate: locked while the gate is open, read then, and written from time to time."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from typing import Final

from tokengate._exceptions import BadStateDirectory
from tokengate.audit._directory import opened_directory, unusable
from tokengate.predict._model_files import read_models, write_models
from tokengate.predict._models import Models

_logger = logging.getLogger("tokengate.predict")

_ANOTHER: Final = "name another directory"


class ModelDirectory:
    """The directory in which a gate keeps what it has learned.

    Args:
        path: of the directory; it is made when it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = -1  # descriptor of the directory, with a lock, while the gate is open

    def open(self, models: Models, gate: str) -> None:
        """Lock the directory, and read what it has into models; what is wrong with it is logged.

        Args:
            models: of the gate.
            gate: its name.

        Raises:
            BadStateDirectory: the directory cannot be used, or another gate that is open uses it.
        """
        try:
            self._file = opened_directory(self.path)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            why = "a gate that is open keeps what it has learned there"
            raise BadStateDirectory(str(self.path), why, _ANOTHER) from None
        except OSError as error:
            raise unusable(self.path, error, _ANOTHER) from error
        for problem in read_models(self.path, models, gate):
            _logger.error("%s; predictions are made without it", problem)

    def save(self, models: Models, gate: str) -> None:
        """Write what was learned; on a thread that may block."""
        try:
            write_models(self.path, models, gate)
        except OSError as error:
            _logger.error("what was learned could not be written to '%s': %s", self.path, error)

    def close(self) -> None:
        """Let other gates have the directory."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)
