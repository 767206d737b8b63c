"""A random tree under random failure: what the supervisors report and do is compared with what the rules say.

The oracle stands outside: it knows the specs and what it did to the children, keeps a ledger of the tokens it sent, and
reads the children's own diary. `TOKENGATE_SEED` reproduces a run.
"""

from __future__ import annotations

import faulthandler
import os
import random
import threading
from collections import Counter, deque
from contextlib import suppress
from itertools import count
from typing import Any

import pykka
import pytest
import trio
from tiers import in_ci

from actors import TERMINAL, CpuActor, IoActor, TokenGateError
from actors.lowlevel import ActorPlace
from supervisors import ChildEnded, ChildSpec, ChildStarted, Report, RestartScheduled, Supervisor
from supervisors.testing import InjectedCrash, Tree, running

pytestmark = pytest.mark.trio

ACTORS = 500
BREADTH = 6
ACTIONS = 500_000 if os.environ.get("TOKENGATE_TORTURE") == "1" else 2_000
ROUND = 100  # actions between two looks at the whole tree


class Ledger:
    """What children say of themselves: which instances live, and in which order they began and ended."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.serials = count(1)
        self.live: dict[str, list[int]] = {}
        self.order: list[tuple[str, str]] = []

    def began(self, path: str) -> int:
        with self.lock:
            serial = next(self.serials)
            self.live.setdefault(path, []).append(serial)
            self.order.append(("start", path))
            return serial

    def ended(self, path: str, serial: int) -> None:
        with self.lock:
            self.live[path].remove(serial)
            self.order.append(("stop", path))


class _Member:
    stop: Any

    def __init__(self, path: str, ledger: Ledger) -> None:
        super().__init__()
        self.path, self.ledger = path, ledger

    def on_start(self) -> None:
        self.serial = self.ledger.began(self.path)

    def on_stop(self) -> None:
        self.ledger.ended(self.path, self.serial)

    def on_failure(self, *_error: object) -> None:
        self.ledger.ended(self.path, self.serial)

    def on_receive(self, message: Any) -> Any:
        if message == "crash":
            raise InjectedCrash(self.path)
        if message == "finish":
            self.stop()
        return message


class IoMember(_Member, IoActor):
    pass


class CpuMember(_Member, CpuActor):
    pass


class ForeignMember(_Member, pykka.ThreadingActor):
    pass


async def task_member(path: str, ledger: Ledger) -> None:
    serial = ledger.began(path)
    try:
        await trio.sleep_forever()
    finally:
        ledger.ended(path, serial)


class Plan:
    """A drawn tree: which supervisor has which strategy, which child is of which kind and restart."""

    def __init__(self, draw: random.Random, actors: int, breadth: int) -> None:
        self.draw = draw
        self.ledger = Ledger()
        self.specs: dict[str, ChildSpec] = {}  # {path: spec} of all but the root
        self.strategies = {"/": "one_for_one"}  # {path: that of the supervisor there}
        self.members: list[str] = []
        self.children = self._children(0, "", actors, breadth)

    def _children(self, number: int, above: str, actors: int, breadth: int) -> list[ChildSpec]:
        """Draw the children of the actor with a number, in a tree that is numbered level by level and has no gaps."""
        first = number * breadth + 1
        return [
            self._spec(child, f"{above}c{child - first}", actors, breadth)
            for child in range(first, min(first + breadth, actors))
        ]

    def _spec(self, number: int, path: str, actors: int, breadth: int) -> ChildSpec:
        id, draw = path.rpartition("/")[2], self.draw
        children = self._children(number, f"{path}/", actors, breadth)
        if children:
            strategy: Any = draw.choice(["one_for_one", "one_for_all", "rest_for_one"])
            self.strategies[path] = strategy
            spec = Supervisor.child_spec(id, children, strategy=strategy, intensity=draw.choice([1, 3, 1000]))
        else:
            kind = draw.choices([IoMember, task_member, CpuMember, ForeignMember], [5, 3, 2, 1])[0]
            restart: Any = draw.choice(["permanent", "permanent", "transient", "temporary"])
            spec = ChildSpec(id, kind, args=(path, self.ledger), restart=restart)
            self.members.append(path)
        self.specs[path] = spec
        return spec


class Group:
    """What has been told of children that are restarted together: their numbers, in the order of what happened."""

    def __init__(self) -> None:
        self.starts = False  # whether the first has been started
        self.stopped: list[int] = []
        self.started: list[int] = []


class Oracle:
    """Reads the reports one after the other, and holds each against the rules."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.ends: dict[str, ChildEnded] = {}  # {path: its latest end that no start has followed}
        self.told_to_start: set[str] = set()  # since the latest look
        self.told_to_stop: set[str] = set()  # likewise
        self.order: dict[str, list[str]] = {}  # {supervisor: its children, in the order of their start}
        self.latest: dict[str, deque[Report]] = {}  # {supervisor: its reports}
        self.groups: dict[str, Group] = {}  # {supervisor: the latest restart of several}
        self.read = 0

    def check(self, reports: list[Report]) -> None:
        for report in reports[self.read :]:
            self._check_order(report)
            self.latest.setdefault(report.supervisor, deque(maxlen=30)).append(report)
            if isinstance(report, ChildEnded):
                self.ends[report.child] = report
            elif isinstance(report, ChildStarted):
                end = self.ends.pop(report.child, None)
                spec = self.plan.specs.get(report.child)
                if report.restart and spec is not None and report.child not in self.told_to_start:
                    assert spec.restart != "temporary", report
                    if spec.restart == "transient" and self._alone(report):
                        assert end is None or not end.reason.orderly, (report, end)
        self.read = len(reports)
        self.told_to_start.clear()
        self.told_to_stop.clear()

    def _check_order(self, report: Report) -> None:
        """Of children that are restarted together, the last started is stopped first, and they start in order."""
        order = self.order.setdefault(report.supervisor, [])
        if isinstance(report, ChildStarted) and not report.restart:
            if report.child in order:
                order.remove(report.child)
            order.append(report.child)
            self.groups.pop(report.supervisor, None)  # it is a new instance, or the numbers have changed
        if isinstance(report, RestartScheduled) and not self._alone(report):
            self.groups[report.supervisor] = Group()
        group = self.groups.get(report.supervisor)
        if group is None:
            return
        number = order.index(report.child)
        if isinstance(report, ChildStarted):
            group.starts = True
            if report.child not in self.told_to_start:
                group.started.append(number)
                assert group.started == sorted(group.started), self._story(report)
        elif isinstance(report, ChildEnded) and report.child in self.ends:  # its next instance was just being started
            group.starts = True
        elif isinstance(report, ChildEnded) and not group.starts and self._stopped_along(report):
            group.stopped.append(number)
            assert group.stopped == sorted(group.stopped, reverse=True), self._story(report)

    def _story(self, report: Report) -> str:
        before = self.latest[report.supervisor]
        order = self.order[report.supervisor]
        return "\n".join([*map(repr, before), f"then {report}", f"order {order}", f"told to stop {self.told_to_stop}"])

    def _stopped_along(self, end: ChildEnded) -> bool:
        """Tell whether a member was stopped because of another one; a supervisor may have ended so by itself."""
        by_its_supervisor = str(end.reason) == "shutdown" and end.child not in self.told_to_stop
        return by_its_supervisor and end.child in self.plan.members

    def _alone(self, report: Report) -> bool:
        """Tell whether the supervisor restarts a child for its own sake only."""
        return self.plan.strategies.get(report.supervisor) == "one_for_one"


async def act(tree: Tree, plan: Plan, oracle: Oracle, tokens: list[Any]) -> None:
    """Do one random thing to one random member."""
    draw = plan.draw
    path = draw.choice(plan.members)
    try:
        place: Any = tree.system.find(path)
    except TokenGateError:  # a temporary one that is gone, or one below a supervisor that is being restarted
        return
    what = draw.choices(["message", "crash", "finish", "kill", "terminate", "restart", "ask"], [60, 8, 3, 1, 2, 4, 5])[
        0
    ]
    takes_messages = plan.specs[path].start is not task_member
    if what in ("message", "crash", "finish") and takes_messages:
        tokens.append(place.ref.ask(what, block=False))
    elif what == "crash":
        await tree.crash(path) if place.can_drain() else None
    elif what in ("terminate", "restart", "ask"):
        supervisor = tree.ref(path.rpartition("/")[0] or "/")
        request = {"terminate": "terminate_child", "restart": "restart_child", "ask": "which_children"}[what]
        if what == "restart":
            oracle.told_to_start.add(path)
        if what == "terminate":
            oracle.told_to_stop.add(path)
        arguments = () if what == "ask" else (path.rpartition("/")[2],)
        with suppress(TokenGateError):  # it is being restarted itself
            tokens.append(getattr(supervisor.proxy(), request)(*arguments))


def check_tree(tree: Tree, plan: Plan) -> None:
    """At rest: what runs is what the supervisors say, one instance each, and the order of starts was kept."""
    running_paths = set()
    for place in tree.system.places():
        if isinstance(place, ActorPlace) and place.path in plan.members and place.can_drain():
            running_paths.add(place.path)
    live = {path: serials for path, serials in plan.ledger.live.items() if serials}

    assert all(len(serials) == 1 for serials in live.values()), live
    assert set(live) == running_paths


@in_ci
async def test_a_random_tree_under_random_failure_keeps_the_rules() -> None:
    """Nobody is restarted who should not be, each token has one terminal state, no instance is left behind."""
    faulthandler.cancel_dump_traceback_later()  # the long tier takes longer
    seed = int(os.environ.get("TOKENGATE_SEED") or random.SystemRandom().randrange(2**32))
    print(f"TOKENGATE_SEED={seed}")
    draw = random.Random(seed)
    plan = Plan(draw, ACTORS, BREADTH)
    oracle, tokens, ends = Oracle(plan), list[Any](), Counter[str]()
    async with running(*plan.children, intensity=10**9) as tree:
        for _ in range(ACTIONS // ROUND):
            for _ in range(ROUND):
                await act(tree, plan, oracle, tokens)
            for token in tokens:
                with trio.fail_after(60):
                    await token.wait()
                ends[token.state] += 1
                assert token.state in TERMINAL
            tokens.clear()
            await quiet(tree)
            oracle.check(tree.reports)
            check_tree(tree, plan)
            if not plan.draw.randrange(20):  # put life back into a tree of which much has ended for good
                await revive(tree, plan, oracle)
        expected, before = await stop_order(tree, "/"), len(plan.ledger.order)
        await tree.stop()
        stops = [path for what, path in plan.ledger.order[before:] if what == "stop"]

    assert not any(plan.ledger.live.values())
    assert expected == stops
    assert ends["completed"] > ACTIONS / 10


async def stop_order(tree: Tree, path: str) -> list[str]:
    """Return the paths of the members that run below a supervisor, the last started first."""
    paths = []
    for info in await tree.ref(path).proxy().which_children():
        if info.status == "running":
            paths += await stop_order(tree, info.path) if info.supervisor else [info.path]
    return paths


async def quiet(tree: Tree) -> None:
    """Wait until no supervisor has anything left to do."""
    while True:
        reports = len(tree.reports)
        await tree.settle()
        if reports == len(tree.reports) and all(map(at_rest, tree.system.places())) and not await busy(tree):
            return
        await trio.sleep(0.001)  # the threads of the other actors need the interpreter too


async def busy(tree: Tree) -> bool:
    """Tell whether a supervisor is about to start or stop a child."""
    supervisors = [
        place
        for place in tree.system.places()
        if isinstance(place, ActorPlace) and issubclass(place.actor_class, Supervisor) and place.can_drain()
    ]
    for place in supervisors:
        try:
            children = await place.ref.proxy().which_children()
        except TokenGateError:  # it has ended meanwhile
            return True
        if any(info.status in ("starting", "stopping", "restarting") for info in children):
            return True
    return False


def at_rest(place: Any) -> bool:
    return not place.mailbox.active and not place.mailbox.size and not place.mailbox.signals()


async def revive(tree: Tree, plan: Plan, oracle: Oracle) -> None:
    """Start every child again that has no instance."""
    for path, spec in plan.specs.items():
        above = path.rpartition("/")[0] or "/"
        try:
            supervisor = tree.ref(above)
            known = {info.id for info in await supervisor.proxy().which_children()}
            oracle.told_to_start.add(path)
            if spec.id in known:
                await supervisor.proxy().restart_child(spec.id)
            else:
                await supervisor.proxy().start_child(spec)
        except TokenGateError:
            pass  # it runs, or what is above it does not
