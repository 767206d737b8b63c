"""Why an actor's instance ended: one value that drives restarts, notices, reports and tests."""

from __future__ import annotations

from typing import Literal

import attrs


def safe_repr(error: BaseException | None) -> str:
    """Return the repr of an exception, whose class may be the user's and whose repr may raise."""
    try:
        return repr(error)
    except BaseException:
        return f"<{type(error).__name__} whose repr raised>"


@attrs.frozen
class ExitReason:
    """How an instance ended.

    Attributes:
        kind: `normal` (by itself), `shutdown` (its supervisor or its system asked), `killed` (it did not stop
            in time and was sealed), `error` (its own code raised), or `noproc` (there was none to end; only
            those who watch a dead actor see that).
        error: the exception, for `error` only.
    """

    kind: Literal["normal", "shutdown", "killed", "error", "noproc"]
    error: BaseException | None = attrs.field(default=None, repr=safe_repr)

    @property
    def orderly(self) -> bool:
        """Whether this end is one that a transient child may have without being restarted."""
        return self.kind in ("normal", "shutdown")

    def __str__(self) -> str:
        return self.kind if self.error is None else f"error({safe_repr(self.error)})"


NORMAL = ExitReason("normal")
SHUTDOWN = ExitReason("shutdown")
KILLED = ExitReason("killed")
NOPROC = ExitReason("noproc")
