"""The places of operations whose tokens are durable."""

from __future__ import annotations

from typing import Any

from actors.drains._asyncio_operation_drain import TokenCall
from actors.kinds._operation_place import AsyncioOperationPlace, OperationPlace, Turn
from actors.places._durable_place import DurablePlace
from actors.tokens._token import Token


class DurableOperationPlace(DurablePlace, OperationPlace):
    """Where the durable tokens of one function are queued and run; a direct call queues, too."""

    __slots__ = ()

    def turn_here(self, token: Token[Any]) -> Turn | None:  # noqa: ARG002
        return None


class DurableAsyncioOperationPlace(DurableOperationPlace, AsyncioOperationPlace):
    """The same, in asyncio loops."""

    __slots__ = ()

    def awaited_turn(self, token: Token[Any]) -> TokenCall | None:  # noqa: ARG002
        return None
