"""Why an actor's instance ended: one value that drives restarts, notices, reports and tests."""

from __future__ import annotations

from typing import Literal

import attrs


def safe_repr(error: BaseException | None) -> str:
    """Return the repr of an exception, even if it is of a user's class with a `__repr__` that raises."""
    try:
        return repr(error)
    except BaseException:
        return f"<{type(error).__name__} whose repr raised>"


@attrs.frozen(repr=False)
class ExitReason:
    """How an instance ended.

    The text of the error is made here, on the thread that raised it: supervisors show reasons, and must not run the
    `__repr__` of a user's exception on their loop.

    Attributes:
        kind: `normal` (by itself), `shutdown` (its supervisor or its system asked), `killed` (it did not stop in time
            and was sealed), `error` (its own code raised), or `noproc` (there was no instance to end; only watches of a
            dead actor get this).
        error: the exception, for `error` only.
    """

    kind: Literal["normal", "shutdown", "killed", "error", "noproc"]
    error: BaseException | None = None
    _words: str = attrs.field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        words = self.kind if self.error is None else f"error({safe_repr(self.error)})"
        object.__setattr__(self, "_words", words)

    @property
    def orderly(self) -> bool:
        """Whether this end is one that a transient child may have without being restarted."""
        return self.kind in ("normal", "shutdown")

    def __str__(self) -> str:
        return self._words

    def __repr__(self) -> str:
        return f"<ExitReason {self._words}>"


NORMAL = ExitReason("normal")
SHUTDOWN = ExitReason("shutdown")
KILLED = ExitReason("killed")
NOPROC = ExitReason("noproc")
