"""What follows from the end of a child: pure decisions, from what is known at that moment.

The tables are those of OTP's `supervisor.erl`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from actors import ExitReason

Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
AutoShutdown: TypeAlias = Literal["never", "any_significant", "all_significant"]


def is_restarted(restart: Restart, reason: ExitReason) -> bool:
    """Return whether a child that ended by itself is restarted."""
    return restart == "permanent" or (restart == "transient" and not reason.orderly)


def affected(strategy: Strategy, ids: Sequence[str], id: str) -> list[str]:
    """Return the children that are stopped and started again when one of them is to be restarted.

    Args:
        strategy: of the supervisor.
        ids: of all its children, in the order of their start.
        id: of the one that ended, or that could not be started again.
    """
    if strategy == "one_for_one":
        return [id]
    if strategy == "one_for_all":
        return list(ids)
    return list(ids[ids.index(id) :])


def shuts_down(auto_shutdown: AutoShutdown, significant: bool, significant_left: int) -> bool:
    """Return whether a supervisor ends because a child has ended by itself and is not restarted.

    Args:
        auto_shutdown: of the supervisor.
        significant: whether the child is.
        significant_left: significant children that run, or are being started again.
    """
    if not significant or auto_shutdown == "never":
        return False
    return auto_shutdown == "any_significant" or not significant_left
