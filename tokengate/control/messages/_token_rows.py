"""Tokens as they are listed and described."""

from __future__ import annotations

from typing import Final

import attrs

from actors import Guard

HELD: Final = ("paused", "pause_requested", "throttled", "delayed", "joined", "consent", "recording")
"""What may hold a token: an operator; a throttle or a budget; the time of its next attempt; the token that runs for it;
another operator, who has not agreed yet; the journal."""


@attrs.frozen
class TokenRow:
    """A token in a list.

    Attributes:
        id: its number.
        operation: what it runs.
        actor: path of the place that has it.
        affinity: `io`, `asyncio`, `cpu` or `process`.
        state: as in its life cycle; a token stays `running` between the request of a pause and the pause.
        priority: higher goes first.
        tags: its labels.
        parent: id of the token that made it, or None; if your grants have selectors, of a live one that you may see.
        attempt: 1 for the first run.
        steps: how many of its steps have begun.
        age: seconds since it was made.
        running: seconds since it began to run, or None.
        held: what keeps it from beginning, or from going on: one of `HELD`; else empty.
        held_by: the rule that does, where there are several, as text.
        until: seconds until that ends; None if it is not known, or nothing holds it.
        run_p50, run_p95: seconds that it is expected to run, below which half and 95 of 100 such tokens stay; None if
            that is not known, as in a gate without `Predict`.
        memory_p95: bytes that it is expected to use at most, likewise.
    """

    id: int
    operation: str
    actor: str
    affinity: str
    state: str
    priority: int
    tags: dict[str, str]
    parent: int | None
    attempt: int
    steps: int
    age: float
    running: float | None
    held: str = ""
    held_by: str = ""
    until: float | None = None
    run_p50: float | None = None
    run_p95: float | None = None
    memory_p95: int | None = None


@attrs.frozen
class TokenPage:
    """A part of a list of tokens.

    Attributes:
        rows: the tokens of this page.
        matching: number of tokens that the selector matches, on all pages.
        live: number of tokens that have not ended.
        offset: number of matching tokens before this page.
    """

    rows: tuple[TokenRow, ...]
    matching: int
    live: int
    offset: int


@attrs.frozen
class Argument:
    """An argument of a token, as far as it can be shown without running user code.

    Attributes:
        name: its position (`0`) or its keyword.
        type: name of its class.
        size: its length, for built-in types that have one; else None.
        value: the value as text, if the operation or actor class shows it and its type is built in; else None.
    """

    name: str
    type: str
    size: int | None = None
    value: str | None = None


@attrs.frozen
class TokenProcess:
    """The child process that runs a token, at one moment.

    Attributes:
        pid: its number.
        stopped: whether it is stopped, because the token is paused.
        cpu_time: seconds of processor time that it has used, user and system.
        memory: bytes of its resident memory.
        threads: their number.
        open_files: paths of the regular files that it has open.
        children: pids of the processes that it has started.
    """

    pid: int
    stopped: bool
    cpu_time: float
    memory: int
    threads: int
    open_files: tuple[str, ...]
    children: tuple[int, ...]


@attrs.frozen
class PredictionRow:
    """What is expected of a token; while it runs, given that it has run so long.

    Attributes:
        run_p50, run_p95: seconds that it runs, below which half and 95 of 100 such tokens stay; None: not known.
        memory_p50, memory_p95: bytes at its peak, likewise.
        failing: probability that it fails, from 0 to 1; None: not known.
        late: probability that its time is over before it ends; None: not known, or it has no deadline.
        basis: what this was made from: some of `features`, `tags`, `operation` and `operator`.
        n: how many attempts were learned from.
        coverage: share of the latest 500 whose run stayed below its p95; None before the first.
        calibrated: whether these figures have been right often enough to act by them.
        model: what answers, with its version.
        factors: {what: by how much it makes this token's run longer than the operation's usual one}.
        features: {name: number}, by which it is predicted; none if the caller may not see values of arguments.
    """

    run_p50: float | None
    run_p95: float | None
    memory_p50: int | None
    memory_p95: int | None
    failing: float | None
    late: float | None
    basis: tuple[str, ...]
    n: int
    coverage: float | None
    calibrated: bool
    model: str
    factors: dict[str, float]
    features: dict[str, float]


@attrs.frozen
class TokenDescription:
    """Everything that is known of one token.

    Attributes:
        row: its row in a list.
        arguments: its arguments.
        children: ids of live tokens that were made in its steps.
        created_at, queued_at, started_at: seconds of the system's clock; None until then.
        paused_for: seconds for which it has been paused so far.
        stopped_clock: of these, seconds that do not count for its time limits.
        waits_for: what its code waits for now, as text; or the token that runs for it.
        thread: name of the thread that runs it now, or None; always None in a child process.
        cpu_share: share of the last 10 ms that this thread has computed, from 0 to 1, or its process, on all cores
            together, from 0 up; None where unknown.
        memory: bytes of resident memory of its process; None where unknown, as in a thread.
        guard: what ending, pausing and lower limits need: nothing (`none`), or `force`, which `approval` needs, too;
            with `never`, no verb changes it.
        idempotent: whether it does no harm to run it twice.
        policy: what it is held to, {field: value as text}, and the source of each that is not the code.
        deadline: seconds until its time is over for good; None: never.
        attempts: the attempts that have ended, as text.
        predicted: what is expected of it; None if that is not known, as in a gate without `Predict`.
        process: the child process that runs it now, or None.
        limits: {name of a limit, as in `Limit`: bytes or seconds}, for the limits that are set.
    """

    row: TokenRow
    arguments: tuple[Argument, ...]
    children: tuple[int, ...]
    created_at: float
    queued_at: float | None
    started_at: float | None
    paused_for: float
    stopped_clock: float
    waits_for: tuple[str, ...]
    thread: str | None
    cpu_share: float | None
    memory: int | None
    guard: Guard
    idempotent: bool
    policy: dict[str, str]
    process: TokenProcess | None = None
    limits: dict[str, float] = attrs.field(factory=dict)
    deadline: float | None = None
    attempts: tuple[str, ...] = ()
    predicted: PredictionRow | None = None
