"""What operations ask of an open gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from actors import ActorSystem, Token
from actors.lowlevel import OperationPlace
from tokengate.operations._spec import OperationSpec


class OpenGate(Protocol):
    """A gate that is open, as operations see it."""

    name: str

    @property
    def state(self) -> str: ...
    @property
    def _open_system(self) -> ActorSystem: ...
    @property
    def _operations(self) -> Mapping[OperationSpec, OperationPlace]: ...
    def _owns(self, token: Token[Any]) -> bool: ...
    def _owns_system(self, system: ActorSystem) -> bool: ...
    async def _await_first_use(self) -> None: ...
    def _disown(self) -> None: ...
    def close(self, timeout: float | None = None, *, drain: bool = True) -> object: ...
