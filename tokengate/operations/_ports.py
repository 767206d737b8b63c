"""What operations ask of an open gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from actors import ActorSystem, Token
from actors.lowlevel import OperationPlace

if TYPE_CHECKING:
    from tokengate.operations._operation import OperationSpec


class OpenGate(Protocol):
    """A gate that is open, as operations see it."""

    name: str

    @property
    def _open_system(self) -> ActorSystem: ...
    def _owns(self, token: Token[Any]) -> bool: ...
    def _owns_system(self, system: ActorSystem) -> bool: ...
    def _place_of(self, spec: OperationSpec) -> OperationPlace: ...
    def _disown(self) -> None: ...
    def close(self, timeout: float | None = None, *, drain: bool = True) -> object: ...
