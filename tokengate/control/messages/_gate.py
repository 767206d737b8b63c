"""The gate: its figures at one moment."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from tokengate.control.messages._bases import Message


@attrs.frozen
class Processes:
    """The child processes of a gate at one moment.

    Attributes:
        workers: how many there are.
        busy: of these, those that run tokens of operations, or are an actor's.
        spares: of these, those that wait for work.
        started: how many were made since the gate was opened.
        died: of these, those that have died, and were not to.
        pids: the numbers of those that live.
    """

    workers: int
    busy: int
    spares: int
    started: int
    died: int
    pids: tuple[int, ...]


@attrs.frozen
class GateInfo:
    """A gate at one moment.

    Attributes:
        name: its own.
        pid: of its process.
        version: of TokenGate there.
        python: version of Python there.
        state: `open` or `closing`.
        uptime: seconds since it was opened.
        tokens: {state: how many tokens are in it, or ended in it}.
        actors: how many places of actors there are.
        restarts: of actors, since it was opened.
        threads: CPU threads that actors share.
        blocked: of these, threads that wait, are paused, or block unseen.
        abandoned: names of threads whose code could not be ended.
        pauses_running_code: whether a plain function can be paused while it runs on a thread (Python 3.12 and later).
        processes: its child processes; None if it has needed none yet.
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


@attrs.frozen
class Info(Message):
    """Tell how the gate is."""

    answer: ClassVar[Any] = GateInfo
