"""What control asks of the gate above it, and of what carries its messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from actors import ActorSystem
from actors.lowlevel import OperationPlace
from tokengate.control.messages import Event
from tokengate.operations._spec import OperationSpec

if TYPE_CHECKING:  # here, so that a command of the command line loads no engine of policies
    from tokengate.control.stream._stream import Stream
    from tokengate.policy._transaction import Transactions


class Source(Protocol):
    """A stream of a gate: `next` waits for an item; `close`, in any thread, ends the stream."""

    def __iter__(self) -> Iterator[Event]: ...
    def __next__(self) -> Event: ...
    def close(self) -> None: ...


class SocketServer(Protocol):
    """The server of a gate's control socket, as the gate sees it."""

    path: Path | None

    def disown(self) -> None:
        """Leave the socket to the parent, in a forked child."""


class ControlledGate(Protocol):
    """An open gate, as its control actor sees it."""

    name: str
    _control_server: SocketServer | None
    _transactions: Transactions | None  # None before the first one
    _stream: Stream | None  # None before it is opened

    @property
    def _open_system(self) -> ActorSystem: ...
    @property
    def _config_file(self) -> Path | None: ...
    @property
    def _socket_group(self) -> int | None: ...
    @property
    def _plugins(self) -> Sequence[Any]: ...
    @property
    def _operations(self) -> Mapping[OperationSpec, OperationPlace]: ...
    @property
    def state(self) -> str: ...
    @property
    def uptime(self) -> float: ...
    @property
    def restarts(self) -> int: ...
    def _place_with(self, place: OperationPlace, affinity: str) -> OperationPlace: ...
