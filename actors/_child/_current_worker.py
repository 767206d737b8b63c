"""The worker of this process, for the functions and objects that user code uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._connection import Connection
    from ._yield_points import YieldPoints


class CurrentWorker:
    """The worker of this process.

    Attributes:
        connection: to the gate; None outside of a worker.
        yield_points: of the running call.
        last_token: number of the latest call that asked for its token, and that `RemoteToken`, or None.
        own_token: the runtime's `current_token`, for a gate that user code opens in this process; None until the
            runtime is imported here.
        own_checkpoint: the runtime's `checkpoint`; likewise.
    """

    connection: Connection | None = None
    yield_points: YieldPoints | None = None
    last_token: tuple[int, Any] = 0, None
    own_token: Callable[[], Any] | None = None
    own_checkpoint: Callable[[], None] | None = None

    def ask(self, *item: Any) -> Any:
        """Make a request to the gate, and wait for the answer.

        Raises:
            RuntimeError: this process is no worker.
            BaseException: the error that the gate has answered with.
        """
        connection = self.connection
        if connection is None:
            raise RuntimeError("this process is no child process of a gate, and has no gate to ask")
        return connection.ask(item)


current_worker = CurrentWorker()
