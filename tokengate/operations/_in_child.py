"""Operations of modules that a child process imports: calls submitted there go to the gate that made the process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from actors.lowlevel import gates_operation


class PlaceInParent:
    """Stands for the place of an operation in the gate of this child process.

    Args:
        key: by which the gate finds the operation, `module:qualified name`.

    Attributes:
        identity: the key that its tokens share one run by.
        when: the seconds by which its tokens are put off, or the moment when they begin; None: they are not put off.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self.identity: str | int | None = None
        self.when: float | datetime | None = None

    def token(
        self,
        name: str,
        _function: object,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        priority: int,
        tags: Mapping[str, str],
    ) -> Callable[[], Any]:
        """Return a function that submits the call, and returns its token."""
        operation = gates_operation(self._key, name, priority, tags, self.identity)
        if self.when is not None:
            return partial(operation.submit_later, self.when, *args, **kwargs)
        return partial(operation.submit, *args, **kwargs)

    def send(self, submit: Callable[[], Any]) -> Any:
        """Submit a call."""
        return submit()

    async def send_async(self, submit: Callable[[], Any]) -> Any:
        """Submit a call; the loop waits for the gate's answer, which is quick unless the mailbox is full."""
        return submit()
