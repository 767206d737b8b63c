"""Turns: the order in which the system loop works for clients, in short pieces.

The answer to a message about very many tokens is made in pieces of a millisecond. The loop, on which supervisors and
timers run as well, runs one piece in every other round, for any number of clients. The next turn goes to the client
with the fewest recent turns, so a single `info` does not wait for the lists of others; jobs that are known to take long
come after the others. One turn in four goes to the client that has waited longest. Among the jobs of one connection,
those without a turn come first, then the oldest, so that its long answers are made one after the other.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Generic, Self, TypeVar

import trio

T = TypeVar("T")

# Number of recent turns by which clients are compared: some ten seconds of work.
_LATEST: Final = 8_192
# One in so many turns goes to the lane that has waited longest.
_FOR_OLDEST: Final = 4


class Turns:
    """Gives turns, one in every other round of the loop; it is used on that loop only."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, None] = {}  # the lanes with jobs that wait, the one that has waited longest first
        self._latest: deque[object] = deque()  # the clients that had them
        self._had: Counter[object] = Counter()  # {client: its part of the latest turns}
        self._giving = False
        self._given = 0

    def lane(self, is_open: Callable[[], bool] = lambda: True, client: object = None) -> Lane:
        """Return a new lane.

        Args:
            is_open: tells whether it may have turns; after a change from False to True, `look` must be called.
            client: the client that it belongs to, which may have several lanes; None for a new client.
        """
        return Lane(self, is_open, object() if client is None else client)

    def look(self) -> None:
        """Continue to give turns if a job of an open lane waits for one."""
        if not self._giving and self._next_lane() is not None:
            self._give_on()

    async def _wait(self, job: Job) -> None:
        lane = job.lane
        if not self._giving and lane.is_open():  # there was no turn in this round yet
            self._note(lane)
            self._give_on()
            if job.begun:
                await trio.lowlevel.checkpoint()
            return
        lane.waiting[job] = trio.lowlevel.current_task()
        self._lanes[lane] = None

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            self._take_out(job)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _give_on(self) -> None:
        self._giving = True
        trio.lowlevel.spawn_system_task(self._give, name="turns of control")

    async def _give(self) -> None:
        try:
            await trio.lowlevel.checkpoint()  # the turn of the job that found none waiting
            while (lane := self._next_lane()) is not None:
                self._note(lane)
                trio.lowlevel.reschedule(self._take_out(lane.next_job()))
                # In the next round the job runs, before or after this task; from then on it may wait again.
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
        finally:
            self._giving = False

    def _next_lane(self) -> Lane | None:
        lanes = (lane for lane in self._lanes if lane.is_open())
        if self._given % _FOR_OLDEST == 0:
            return next(lanes, None)
        return min(lanes, key=lambda lane: (lane.next_job().long, self._had[lane.client]), default=None)

    def _note(self, lane: Lane) -> None:
        # To the end of the line, so that lanes which have had as many turns take them one after the other.
        if lane in self._lanes:
            del self._lanes[lane]
            self._lanes[lane] = None
        self._given += 1
        self._latest.append(lane.client)
        self._had[lane.client] += 1
        if len(self._latest) > _LATEST:
            first = self._latest.popleft()
            self._had[first] -= 1
            if not self._had[first]:
                del self._had[first]

    def _take_out(self, job: Job) -> trio.lowlevel.Task:
        lane = job.lane
        task = lane.waiting.pop(job)
        if not lane.waiting:
            del self._lanes[lane]
        return task


class Lane:
    """The jobs of one connection; made by `Turns.lane`."""

    __slots__ = ("_jobs", "client", "is_open", "turns", "waiting")

    def __init__(self, turns: Turns, is_open: Callable[[], bool], client: object) -> None:
        self.turns = turns
        self.client = client
        self.is_open = is_open
        self.waiting: dict[Job, trio.lowlevel.Task] = {}
        self._jobs = 0

    def job(self) -> Job:
        """Return a new job, the youngest."""
        self._jobs += 1
        return Job(self, self._jobs)

    def next_job(self) -> Job:
        """Return the job that has the next turn of the lane; one must be waiting."""
        return min(self.waiting, key=lambda job: (job.begun, job.long, job.number))


class Job:
    """The work for one message.

    Attributes:
        lane: of its connection.
        number: orders the jobs of a lane by age.
        begun: whether it has had a turn.
        long: whether it is known to take many turns and much memory.
        scope: of the task that answers; cancelled when the answer is not waited for any more.
    """

    def __init__(self, lane: Lane, number: int) -> None:
        self.lane = lane
        self.number = number
        self.begun = self.long = False
        self.scope = trio.CancelScope()

    async def turn(self) -> None:
        """Wait for a turn, which lasts until the task waits for anything.

        It is a checkpoint, except that the first turn may come at once.
        """
        await self.lane.turns._wait(self)
        self.begun = True

    @contextmanager
    def at_work(self) -> Generator[None, Any, None]:
        """Make this the job of `next_turn` in this task."""
        token = _job.set(self)
        try:
            yield
        finally:
            _job.reset(token)


_job: ContextVar[Job | None] = ContextVar("job of control", default=None)


def job_at_work() -> Job | None:
    """Return the job of this task."""
    return _job.get()


def take_long() -> None:
    """Note that the job of this task will take many turns."""
    if (job := _job.get()) is not None:
        job.long = True


async def next_turn() -> None:
    """Wait for the next turn of the job of this task; without a job, this is a checkpoint."""
    job = _job.get()
    if job is None:
        await trio.lowlevel.checkpoint()
    else:
        await job.turn()


class in_turns(Generic[T]):  # noqa: N801  # it is used like a function
    """Iterate over pieces of work: the first ones in this turn, and each other `at_once` in a turn of their own."""

    def __init__(self, pieces: Iterable[T], at_once: int = 1) -> None:
        self._pieces = iter(pieces)
        self._at_once = at_once
        self._given = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        for piece in self._pieces:
            if self._given and self._given % self._at_once == 0:
                await next_turn()
            self._given += 1
            return piece
        raise StopAsyncIteration
