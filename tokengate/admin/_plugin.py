"""The plugin: has the admin daemon run."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, Final

import tokengate.admin._config  # noqa: F401  # which has a section
from actors import StartFailed
from tokengate.admin._client import runs
from tokengate.admin._extra import check_extra
from tokengate.control._exceptions import ControlError
from tokengate.control.registry import Plugin
from tokengate.control.transport._discovery import make_directory
from tokengate.telemetry import Telemetry

LOG: Final = "admin.log"

_LINGERS: Final = 600.0  # seconds for which the daemon stays after its last gate
_LAUNCH: Final = 60.0  # seconds until its process is made
_START: Final = Path(__file__).with_name("_start.py")

_logger = logging.getLogger("tokengate.admin")


class Admin(Plugin):
    """Starts the admin daemon when the gate opens, unless one runs: a process of its own, for all gates of this user.

    The daemon reads the gate's file, outlives the gate, and ends ten minutes after the last gate of this user. With
    this plugin the gate has an audit log. If the daemon cannot be started, the gate works without it, and logs why.

    Raises:
        StartFailed: when the gate opens: a package is missing.
    """

    needs: ClassVar[tuple[type[Plugin], ...]] = (Telemetry,)
    recorded: ClassVar[bool] = True

    def observer(self, gate: Any, /) -> None:
        """Start the daemon."""
        try:
            check_extra()
        except ModuleNotFoundError as error:
            raise StartFailed(f"plugin Admin: {error}") from None
        if not gate._control_socket or runs():
            return
        try:
            _start(gate._config_file, gate._socket_group)
        except (ControlError, OSError, subprocess.SubprocessError) as error:
            _logger.error("the admin daemon was not started: %s; run 'tokengate admin'", error)


def _start(config: Path | None, group: int | None) -> None:
    """Start the daemon in a process that is no child of this one, and has none of its descriptors."""
    path = make_directory(None, group) / LOG
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        arguments = (str(path), str(_LINGERS), "" if config is None else str(config.absolute()))
        subprocess.run(
            [sys.executable, "-P", str(_START), *arguments],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, check=True, timeout=_LAUNCH,
        )  # fmt: skip
    finally:
        os.close(log)
