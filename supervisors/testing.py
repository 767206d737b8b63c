"""A kit for testing trees of supervisors, in virtual time.

`running` starts a tree on the test's own trio loop, on which system loop and io loop run as well, and whose clock is
the system's. Under `trio.testing.MockClock(autojump_threshold=0)` (pytest-trio's fixture `autojump_clock`) a backoff
of an hour takes no time, as long as all is trio: CPU actors run on real threads, which no mock clock knows of.

    async def test_a_crash_of_the_cache_restarts_it(autojump_clock):
        async with running(ChildSpec("cache", Cache)) as tree:
            await tree.crash("cache")
            await tree.wait_for(ChildStarted, child="cache", restart=1)
            tree.assert_order(ChildStarted, ChildEnded, RestartScheduled, ChildStarted)
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio
import trio.testing

from actors import SHUTDOWN, ActorRef, ActorSystem, ExitReason, Reply
from actors.lowlevel import ROOT, ActorPlace, Crash
from supervisors._child_spec import ChildSpec
from supervisors._reports import Report
from supervisors._supervisor import Supervisor

__all__ = ["InjectedCrash", "Tree", "running"]

R = TypeVar("R", bound=Report)


class InjectedCrash(Exception):
    """What a child dies of when a test crashes it."""


class Tree:
    """A tree that runs; made by `running`.

    Attributes:
        system: the runtime below it.
        reports: what its supervisors have reported so far, in order.
        ended: how the root has ended, once it has.
    """

    def __init__(self, system: ActorSystem, children: tuple[ChildSpec, ...], options: dict[str, Any]) -> None:
        self.system = system
        self.reports: list[Report] = []
        self.ended: Reply[ExitReason] = Reply()
        self._changed = trio.Event()
        self._read = 0  # reports that `wait_for` has gone past
        system.subscribe(self._note)
        self._root = system.place(ROOT, Supervisor, (children,), options, owner=self._root_ended)

    def ref(self, path: str = ROOT) -> ActorRef[Any]:
        """Return the ref of the actor with this path, or with this name if only one has it; by default, the root's."""
        return self._place(path).ref

    async def crash(self, path: str, error: BaseException | None = None) -> None:
        """End the instance at a path as if its own code had raised, and wait until its supervisor has seen it.

        Args:
            path: of a child that runs.
            error: what it dies of; None takes an `InjectedCrash`.
        """
        place = self._place(path)
        down = place.ref.watch()
        place.signal(Crash(error or InjectedCrash(path)))
        await down
        await self.settle()

    async def wait_for(self, kind: type[R], condition: Callable[[R], bool] | None = None, **fields: Any) -> R:
        """Wait for the next report of a kind, after the one that was waited for last, and return it.

        Args:
            kind: its class.
            condition: what it must fulfil besides.
            fields: attributes and the values that they must have.
        """
        while True:
            while self._read < len(self.reports):
                report = self.reports[self._read]
                self._read += 1
                if isinstance(report, kind) and _matches(report, fields) and (condition is None or condition(report)):
                    return report
            await self._changed.wait()

    def of(self, kind: type[R], **fields: Any) -> list[R]:
        """Return the reports of a kind so far, with these values."""
        return [report for report in self.reports if isinstance(report, kind) and _matches(report, fields)]

    def assert_order(self, *kinds: type[Report], child: str | None = None) -> None:
        """Raise `AssertionError` unless the reports so far, of one child or of all, are of these kinds."""
        reports = [report for report in self.reports if child in (None, report.child)]
        names = [type(report).__name__ for report in reports]
        expected = [kind.__name__ for kind in kinds]
        if names != expected:
            raise AssertionError(f"expected {expected}, got {names}: {reports}")

    async def settle(self) -> None:
        """Wait until every task waits for something: what was asked of supervisors has been dealt with."""
        await trio.testing.wait_all_tasks_blocked()

    async def stop(self) -> None:
        """Stop the tree in order."""
        await self._root.stop(SHUTDOWN, drain=False, administrative=False)

    async def _start(self) -> None:
        await self._root.start()

    def _place(self, path: str) -> ActorPlace:
        place = self.system.find(path)
        assert isinstance(place, ActorPlace)
        return place

    def _root_ended(self, place: ActorPlace, reason: ExitReason, _administrative: bool) -> None:
        place.close(reason)
        self.ended._set(reason)

    def _note(self, event: object) -> None:
        if isinstance(event, Report):
            self.reports.append(event)
            changed, self._changed = self._changed, trio.Event()
            changed.set()


@asynccontextmanager
async def running(*children: ChildSpec, **options: Any) -> AsyncGenerator[Tree]:
    """Start a supervisor with these children on the calling trio loop; stop it, and close everything, at the end.

    Args:
        children: specs, in the order of their start.
        options: of the `Supervisor` at the root.

    Raises:
        StartFailed: a child did not start.
        BadSpec: a child or an option cannot work.
    """
    clock = trio.lowlevel.current_clock().current_time  # unlike `trio.current_time`, for any thread
    system = ActorSystem("test", threads=1, clock=clock, blocked_after=None)
    await system.system_host.attach()
    await system.io_host.attach()
    try:
        await trio.to_thread.run_sync(system.open)
        tree = Tree(system, children, options)
        await tree._start()
        yield tree
        await tree.stop()
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(system.close, 0.0)


def _matches(report: Report, fields: dict[str, Any]) -> bool:
    return all(getattr(report, name) == value for name, value in fields.items())
