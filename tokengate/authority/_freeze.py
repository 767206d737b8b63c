"""The freeze of interventions: whether all that rules ask for is refused, also after a restart of the gate."""

from __future__ import annotations

import json
import logging
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from tokengate.control._exceptions import ControlError
from tokengate.control.inspection._off_loop import OffLoop

_logger = logging.getLogger("tokengate.authority")

_SECONDS: Final = 5.0  # that a disk may take
_NAME: Final = "frozen"
_REMEDY: Final = "see to its disk and its mode, or set XDG_STATE_HOME to another directory and open the gate again"


class Freeze:
    """The freeze of a gate. It is on while there is a file `frozen`, which is looked for when it is first needed.

    Args:
        directory: of the file; both are made when they are needed.

    Attributes:
        problem: why the file could not be read, in which case the freeze counts as on; empty if it could.
    """

    def __init__(self, directory: Path) -> None:
        self.problem = ""
        self._directory = directory
        self._is_on: bool | None = None  # None: the file was not read yet
        self._lock = trio.Lock()
        self._disk = OffLoop("freeze", 1)

    async def is_on(self) -> bool:
        """Tell whether what rules ask for is refused."""
        if self._is_on is None:
            async with self._lock:
                if self._is_on is None:
                    await self._read()
        return self.holds

    @property
    def holds(self) -> bool:
        """Whether what rules ask for is refused, as far as is known: what was not looked for counts as on."""
        return self._is_on is not False

    async def begin(self, principal: str, reason: str) -> bool:
        """Refuse what rules ask for, from now on; return whether that is new.

        Raises:
            ControlError: the file cannot be written, so that the freeze ends with this run of the gate.
        """
        self._is_on = True
        async with self._lock:
            try:
                said = {"at": time.time(), "principal": principal, "reason": reason}
                return await self._off_loop(lambda: self._write(json.dumps(said).encode()))
            except OSError as error:
                raise self._error(
                    "rules are frozen now, but not after a restart, since {} cannot be made", error
                ) from None
            finally:
                self._is_on = True  # an `end` may have come in between

    async def end(self) -> bool:
        """Let rules act again; return whether they were frozen.

        Raises:
            ControlError: the file cannot be removed, so they are frozen still.
        """
        async with self._lock:
            try:
                removed = await self._off_loop(self._remove)
            except OSError as error:
                raise self._error("rules are frozen still, since {} cannot be removed", error) from None
            was, self._is_on, self.problem = removed or self._is_on is True, False, ""
        return was

    async def _read(self) -> None:
        try:
            found = await self._off_loop(self._exists)
            self.problem = ""
            if self._is_on is None:  # it may have begun meanwhile
                self._is_on = found
                if found:
                    _logger.warning(
                        "rules are frozen from before, by '%s'; 'tokengate unfreeze' ends that", self._directory / _NAME
                    )
        except OSError as error:
            before, self.problem = self.problem, str(self._error("{} cannot be read", error))
            if not before:
                _logger.error("rules count as frozen: %s", self.problem)

    async def _off_loop(self, function: Callable[[], bool]) -> bool:
        found = await self._disk.run(_SECONDS, function)
        if found is None:
            raise TimeoutError(f"its disk has not answered for {_SECONDS:g} s")
        return found

    def _error(self, text: str, error: OSError) -> ControlError:
        named = text.format(f"'{self._directory / _NAME}'")
        return ControlError(f"{named}: {error.strerror or error}; {_REMEDY}")

    # On a thread

    def _exists(self) -> bool:
        try:
            os.lstat(self._directory / _NAME)
        except FileNotFoundError:
            return False
        return True

    def _write(self, text: bytes) -> bool:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(folder)
            if found.st_uid not in (os.geteuid(), 0) or stat.S_IMODE(found.st_mode) & 0o077:
                raise PermissionError(0, "its directory is open to others, or belongs to one; chmod 700")
            try:
                file = os.open(_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
            except FileExistsError:
                return False
            with open(file, "wb") as opened:
                opened.write(text)
                opened.flush()
                os.fsync(file)
            os.fsync(folder)
            return True
        finally:
            os.close(folder)

    def _remove(self) -> bool:
        try:
            os.unlink(self._directory / _NAME)
            folder = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return True
