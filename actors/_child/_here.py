"""The one worker of this process, for what user code calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._link import Link
    from ._remote import RemoteToken
    from ._steps import Steps


class Here:
    """Where this code runs.

    Attributes:
        link: to the gate; None outside of a worker.
        steps: those of the running call.
        current: number of the call that has last asked for its token, and that token.
    """

    link: Link | None = None
    steps: Steps | None = None
    current: tuple[int, RemoteToken | None] = 0, None

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
