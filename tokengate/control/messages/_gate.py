"""The gate: its figures and its health at one moment."""

from __future__ import annotations

from typing import ClassVar, Final, Literal, TypeAlias

import attrs

from actors import ProcessStatistics
from actors.lowlevel import Share
from tokengate.control.messages._actors import ActorRow
from tokengate.control.messages._bases import Message
from tokengate.control.messages._supervisors import EndRow
from tokengate.control.messages._token_rows import TokenRow

Processes: TypeAlias = ProcessStatistics
"""The child processes of a gate at one moment."""


@attrs.frozen
class GateInfo:
    """A gate at one moment.

    Attributes:
        name: its name.
        pid: of its process.
        version: of TokenGate in that process.
        python: version of Python in that process.
        state: `open` or `closing`.
        uptime: seconds since it was opened.
        tokens: {state: number of tokens that are in it, or ended in it}.
        actors: number of actors.
        restarts: number of restarts since it was opened.
        threads: number of CPU threads, which actors and operations share.
        blocked: how many of these wait, are paused, or block in other calls.
        abandoned: names of threads with code that could not be ended.
        pauses_running_code: whether a plain function can be paused while it runs on a thread (Python 3.12 and later).
        processes: its child processes; None if none was needed yet.
        cores: that it may use, by which its pools are sized, and where the number is from.
        memory: bytes that it may use, and where the number is from.
        sight: what the caller may see, as selectors; empty: everything. Otherwise `tokens` and `actors` are the numbers
            of live tokens and of actors that it may see; `restarts`, `threads`, `blocked`, `abandoned`, `processes`,
            `gc_thresholds`, `cores` and `memory` are of the whole process, and left out: 0, empty or None.
        gc_thresholds: the thresholds of Python's garbage collector in its process; `Gate(gc="tuned")` raises them.
    """

    name: str
    pid: int
    version: str
    python: str
    state: str
    uptime: float
    tokens: dict[str, int]
    actors: int
    restarts: int
    threads: int
    blocked: int
    abandoned: tuple[str, ...]
    pauses_running_code: bool
    processes: Processes | None = None
    gc_thresholds: tuple[int, ...] = ()
    cores: Share | None = None
    memory: Share | None = None
    sight: str = ""


@attrs.frozen
class Info(Message[GateInfo]):
    """Show figures of a gate: tokens by state, threads, restarts."""

    right: ClassVar = "view"
    examples: ClassVar = ("info", "info -g shop --json")


@attrs.frozen
class LargeRow:
    """A token of a child process, with the bytes of resident memory of that."""

    row: TokenRow
    memory: int


@attrs.frozen
class WaitRow:
    """A token that cannot go on, with what it waits for, as text; what holds it back stands in its row."""

    row: TokenRow
    waits_for: tuple[str, ...]


@attrs.frozen
class RestartRow:
    """An end of an instance that a restart followed, or is to follow.

    Attributes:
        actor: its path.
        end: when and why.
    """

    actor: str
    end: EndRow


@attrs.frozen
class GateOverview:
    """A gate at one moment, with what needs a look; of what the caller may see.

    Attributes:
        info: its figures.
        longest: the five tokens that have run for the longest time; before those that wait for others, or are paused,
            the ones that others may wait for.
        largest: the five of child processes with the most memory.
        waits: up to ten tokens that cannot go on, the oldest first: those that run and wait for others or are paused,
            those that wait for room in a mailbox, and the first ones that throttles and operators hold in each mailbox.
        fullest: the five actors and operations with the fullest mailboxes.
        restarts: the latest eight restarts, the last one first.
    """

    info: GateInfo
    longest: tuple[TokenRow, ...] = ()
    largest: tuple[LargeRow, ...] = ()
    waits: tuple[WaitRow, ...] = ()
    fullest: tuple[ActorRow, ...] = ()
    restarts: tuple[RestartRow, ...] = ()


@attrs.frozen
class Overview(Message[GateOverview]):
    """Show a gate at a glance, and what needs a look."""

    right: ClassVar = "view"
    examples: ClassVar = ("overview", "overview -g shop --json")


ANSWER_SECONDS: Final = 1.0
"""Seconds after which a gate counts as hung that has not said how it is."""


@attrs.frozen
class HealthPart:
    """The health of one part of a gate.

    Attributes:
        name: of the part.
        status: `ok`; `degraded`: it works, and needs a look; `failed`: it does not do what it is for.
        since: when it entered this status, in UTC seconds: as far as that is known, else when it was first seen in it;
            None if it was so at the first question.
        why: what is wrong, as text; empty if it is ok, and for a caller that may not see everything.
    """

    name: str = attrs.field(validator=attrs.validators.instance_of(str))
    status: Literal["ok", "degraded", "failed"] = attrs.field(
        default="ok", validator=attrs.validators.in_(("ok", "degraded", "failed"))
    )
    since: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.instance_of((int, float)))
    )
    why: str = attrs.field(default="", validator=attrs.validators.instance_of(str))


@attrs.frozen
class HealthReport:
    """The health of a gate.

    Attributes:
        gate: its name.
        live: whether its system loop answers.
        ready: whether no part has failed.
        parts: its parts.
    """

    gate: str
    live: bool
    ready: bool
    parts: tuple[HealthPart, ...]

    @classmethod
    def of_hung(cls, gate: str) -> HealthReport:
        """Return the report of a gate that does not answer, which its client makes."""
        why = f"no answer within {ANSWER_SECONDS:g} s"
        return cls(gate, False, False, (HealthPart("system loop", "failed", None, why),))


@attrs.frozen
class Health(Message[HealthReport]):
    """Show whether a gate is live and ready, and how its parts are.

    It is live if its system loop answers within a second, and ready if no part has failed.
    """

    right: ClassVar = "view"
    examples: ClassVar = ("health", "health --live", "health -g shop --json")
