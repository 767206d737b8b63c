"""What control asks of the gate above it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from actors import ActorSystem
from actors.lowlevel import OperationPlace


class SocketServer(Protocol):
    """The server of a gate's control socket, as the gate sees it."""

    path: Path | None

    def disown(self) -> None:
        """Leave the socket to the parent, in a forked child."""


class ControlledGate(Protocol):
    """An open gate, as its control actor sees it."""

    name: str
    _control_server: SocketServer | None

    @property
    def _open_system(self) -> ActorSystem: ...
    @property
    def state(self) -> str: ...
    @property
    def uptime(self) -> float: ...
    @property
    def restarts(self) -> int: ...
    def _place_with(self, place: OperationPlace, affinity: str) -> OperationPlace: ...
