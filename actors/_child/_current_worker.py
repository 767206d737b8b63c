"""The one worker of this process, for what user code calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._connection import Connection
    from ._proxies import RemoteToken
    from ._yield_points import YieldPoints


class CurrentWorker:
    """Where this code runs.

    Attributes:
        connection: to the gate; None outside of a worker.
        yield_points: of the running call.
        last_token: number of the call that has last asked for its token, and that token.
        own_token: returns the token of a gate that was opened here, in whose step this code runs; None for none. It is
            there once the runtime itself is imported here, and so is the next one.
        own_checkpoint: is a step point of that token.
    """

    connection: Connection | None = None
    yield_points: YieldPoints | None = None
    last_token: tuple[int, RemoteToken | None] = 0, None
    own_token: Callable[[], Any] | None = None
    own_checkpoint: Callable[[], None] | None = None

    def ask(self, *item: Any) -> Any:
        """Ask the gate for something, and wait for the answer.

        Raises:
            RuntimeError: this is no worker.
            BaseException: what the gate answers with.
        """
        connection = self.connection
        if connection is None:
            raise RuntimeError("this is no child process of a gate, and there is nobody to ask")
        return connection.ask(item)


current_worker = CurrentWorker()
