"""The one worker of this process, for what user code calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._connection import Link
    from ._proxies import RemoteToken
    from ._yield_points import Steps


class Here:
    """Where this code runs.

    Attributes:
        link: to the gate; None outside of a worker.
        steps: those of the running call.
        current: number of the call that has last asked for its token, and that token.
        own_token: returns the token of a gate that was opened here, in whose step this code runs; None for none. It is
            there once the runtime itself is imported here, and so is the next one.
        own_checkpoint: is a step point of that token.
    """

    link: Link | None = None
    steps: Steps | None = None
    current: tuple[int, RemoteToken | None] = 0, None
    own_token: Callable[[], Any] | None = None
    own_checkpoint: Callable[[], None] | None = None

    def ask(self, *item: Any) -> Any:
        """Ask the gate for something, and wait for the answer.

        Raises:
            RuntimeError: this is no worker.
            BaseException: what the gate answers with.
        """
        link = self.link
        if link is None:
            raise RuntimeError("this is no child process of a gate, and there is nobody to ask")
        return link.ask(item)


here = Here()
