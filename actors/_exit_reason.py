"""Why an actor's instance ended: one value that drives restarts, notices, reports and tests."""

from __future__ import annotations

from typing import Literal

import attrs


@attrs.frozen
class ExitReason:
    """How an instance ended.

    Attributes:
        kind: `normal` (by itself), `shutdown` (its supervisor or its system asked), `killed` (it did not stop
            in time and was sealed), or `error` (its own code raised).
        error: the exception, for `error` only.
    """

    kind: Literal["normal", "shutdown", "killed", "error"]
    error: BaseException | None = None

    @property
    def orderly(self) -> bool:
        """Whether this end is one that a transient child may have without being restarted."""
        return self.kind in ("normal", "shutdown")

    def __str__(self) -> str:
        return self.kind if self.error is None else f"error({self.error!r})"


NORMAL = ExitReason("normal")
SHUTDOWN = ExitReason("shutdown")
KILLED = ExitReason("killed")
