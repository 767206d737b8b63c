"""The figures of a gate."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from actors import SystemStatistics, TokenState


@attrs.frozen
class GateStatistics:
    """A gate at one moment.

    Attributes:
        tokens: {state: how many tokens are in it, or ended in it, since the gate was opened}.
        restarts: restarts of actors since then.
        system: figures of the runtime below.
    """

    tokens: Mapping[TokenState, int]
    restarts: int
    system: SystemStatistics
