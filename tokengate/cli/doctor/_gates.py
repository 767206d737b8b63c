"""Checks of the directory of control sockets, and of the gates that run here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tokengate.cli.doctor._result import Result
from tokengate.control._exceptions import ControlError
from tokengate.control._version import own_version
from tokengate.control.messages import GateInfo, Info
from tokengate.control.transport._client import ControlClient
from tokengate.control.transport._discovery import (
    FoundGate,
    check_directory,
    find_gates,
    runtime_directory,
    socket_files,
)

_SECONDS: Final = 3.0  # for a gate's answer

_NAME = "control directory"


def check_control_directory(directory: Path | None = None) -> Iterator[Result]:
    """Check that gates can make control sockets, and remove the sockets of gates that have ended.

    Args:
        directory: of the sockets; None takes the one that gates of this user have.
    """
    place = runtime_directory() if directory is None else directory
    try:
        check_directory(place, enters=True)
    except FileNotFoundError:
        above = next(folder for folder in place.parents if folder.exists())
        if os.access(above, os.W_OK | os.X_OK):
            yield Result(_NAME, "ok", f"{place}, which the first gate makes")
        else:
            yield Result(_NAME, "failed", f"{place} cannot be made: {above} is not writable", _REMEDY)
        return
    except (ControlError, OSError) as error:
        what, _, remedy = str(error).partition("; ")
        yield Result(_NAME, "failed", what, remedy or _REMEDY)
        return
    status = place.stat()
    if status.st_uid != os.geteuid():
        yield Result(_NAME, "ok", f"{place} of user {status.st_uid}, for gates of that user only")
        return
    if not os.access(place, os.W_OK | os.X_OK):
        yield Result(_NAME, "failed", f"{place} is not writable", _REMEDY)
        return
    before = set(socket_files(place))
    find_gates(place)
    stale = len(before - set(socket_files(place)))
    removed = f"; stale sockets removed: {stale}" if stale else ""
    group = f"; open to group {status.st_gid}, for gates whose file names it" if status.st_mode & 0o050 else ""
    yield Result(_NAME, "ok", f"{place}{group}{removed}")


_REMEDY: Final = "set TOKENGATE_RUNTIME_DIR to a short path of a directory that is yours alone (mode 0700)"


def check_gates(directory: Path | None = None) -> Iterator[Result]:
    """Check that each gate of this user answers, and is of this version.

    Args:
        directory: of the sockets; None takes the one that gates of this user have.
    """
    try:
        gates = find_gates(directory)
    except ControlError:
        return  # which `check_control_directory` reports
    if not gates:
        yield Result("gates", "ok", "no gate runs here now")
    for gate in gates:
        yield _check_gate(gate)


def _check_gate(gate: FoundGate) -> Result:
    name = f"gate {gate.address}"
    remedy = f"its process may be stopped ('kill -CONT {gate.pid}' continues it) or overloaded"
    if not gate.answers:
        return Result(name, "warning", "does not answer", remedy)
    try:
        with ControlClient(gate.path, timeout=_SECONDS) as client:
            info: GateInfo = client.ask(Info())
    except ControlError as error:
        return Result(name, "warning", f"does not answer: {error}", remedy)
    found = f"TokenGate {info.version}, Python {info.python}, {info.state}"
    if info.version != own_version():
        return Result(name, "warning", f"{found}; this is TokenGate {own_version()}", "use the same version for both")
    return Result(name, "ok", found)
