"""Processes that are replaced."""

from __future__ import annotations

from typing import Annotated, ClassVar

import attrs
from msgspec import Meta

from tokengate.control.messages._bases import OnActor, Seconds


@attrs.frozen
class Recycle(OnActor):
    """Replace child processes as soon as they are idle.

    What runs in one is finished first, and nothing that is queued is lost. Of an operation these are the processes that
    run its tokens, and those that wait for the next ones, unless `worker` names one of them. The instance of a process
    actor is stopped in order, and started in another process; that does not count as a crash.

    Raises:
        UnknownActor: no actor has this name, or several have.
        NotSteerable: it belongs to the runtime, does not run in child processes, or has no supervisor.
    """

    examples: ClassVar = ("recycle render", "recycle render --worker 4711 --wait 60", "recycle office/model")
    worker: Annotated[
        int | None,
        Meta(
            description="The pid of the only process to replace; `describe` shows that of a token.",
            extra={"metavar": "PID"},
        ),
    ] = attrs.field(default=None, kw_only=True)
    wait: Annotated[
        Seconds, Meta(description="Seconds to wait until they have ended; after that the answer is `pending`.")
    ] = attrs.field(default=1.0, kw_only=True)
