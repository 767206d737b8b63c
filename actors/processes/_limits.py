"""Limits of one token in a child process: memory, processor time, wall time."""

from __future__ import annotations

from typing import Any, Final

import attrs

# {name of a limit: its unit}
UNITS: Final = {"memory": "bytes", "address_space": "bytes", "cpu_time": "s", "wall_time": "s"}


def _check(_limits: Limits, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    whole = UNITS[attribute.name] == "bytes"
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not value > 0:
        kind = "an int of bytes" if whole else "a number of seconds"
        raise ValueError(f"limit {attribute.name} is {value!r}; it must be {kind} above 0, or None")


@attrs.frozen
class Limits:
    """Limits of one token while a child process runs it; None is no limit.

    Attributes:
        memory: bytes of resident memory of the process. It is measured every 20 ms, and may be exceeded for that long.
        address_space: bytes of address space of the process (`RLIMIT_AS`). The system refuses it more, and the token's
            code gets a `MemoryError`. Libraries reserve far more address space than they use.
        cpu_time: seconds of processor time of the process, counted from the token's start.
        wall_time: seconds from the token's start; a pause counts, unless the clock was stopped for it.
    """

    memory: int | None = attrs.field(default=None, validator=_check)
    address_space: int | None = attrs.field(default=None, validator=_check)
    cpu_time: float | None = attrs.field(default=None, validator=_check)
    wall_time: float | None = attrs.field(default=None, validator=_check)

    def __bool__(self) -> bool:
        return any(getattr(self, name) is not None for name in UNITS)


NO_LIMITS: Final = Limits()
