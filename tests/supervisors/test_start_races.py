"""Starts on the callers' threads race what the supervisor does: real threads, and the test's own ledger.

Each race is run 100 times, 10,000 times with TOKENGATE_TORTURE=1. TOKENGATE_SEED brings the delays and the actions of a
run back, not what the machine made of them.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from actors import ActorRef, BaseActor, CpuActor, IoActor, Reply, StartFailed, TokenGateError
from supervisors import (
    ChildEnded,
    ChildSpec,
    ChildStarted,
    ChildStartFailed,
    DynamicSupervisor,
    GaveUp,
    start_at_once,
)

if TYPE_CHECKING:
    from tests.supervisors.conftest import Race, Tree

ROUNDS = 10_000 if os.environ.get("TOKENGATE_TORTURE") == "1" else 100
PATIENCE = 30.0


class Ledger:
    """How many instances live, by the name that they were given."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: Counter[str] = Counter()

    def count(self, name: str, difference: int) -> None:
        with self._lock:
            self._live[name] += difference

    def live(self) -> dict[str, int]:
        with self._lock:
            return {name: number for name, number in self._live.items() if number}


class _Member:
    stop: Any

    def __init__(self, name: str, ledger: Ledger) -> None:
        super().__init__()
        self.name, self.ledger = name, ledger
        ledger.count(name, 1)

    def on_stop(self) -> None:
        self.ledger.count(self.name, -1)

    def on_failure(self, *_error: object) -> None:
        self.ledger.count(self.name, -1)

    def on_receive(self, message: Any) -> Any:
        if message == "crash":
            raise ValueError(message)
        if message == "finish":
            self.stop()
        return message


class CpuMember(_Member, CpuActor):
    """Without an `on_start`, so that it is made on its caller's thread."""


class IoMember(_Member, IoActor):
    pass


class WithHook(CpuMember):
    def on_start(self) -> None:
        pass


class Pool:
    """A dynamic supervisor below a supervisor that restarts it as often as it takes."""

    def __init__(self, tree: Tree, **options: Any) -> None:
        self.tree = tree
        self.ledger = Ledger()
        self.root = tree.start(DynamicSupervisor.child_spec("pool", **options), intensity=10**9).proxy()
        self.ref = tree.ref("pool")
        self.kind: type[BaseActor] = CpuMember if issubclass(tree.worker, CpuActor) else IoMember

    def begin(self, name: str, kind: type[BaseActor] | None = None, **options: Any) -> Reply[Any] | None:
        spec = ChildSpec(name, kind or self.kind, args=(name, self.ledger), **options)
        return start_at_once(self.ref, spec, here=True)

    def start(self, name: str, kind: type[BaseActor] | None = None, **options: Any) -> ActorRef[Any] | None:
        """Start a child at once; return its ref, or None if that was refused, or did not start."""
        started = self.begin(name, kind, **options)
        try:
            return None if started is None else started.result(PATIENCE)
        except TokenGateError:
            return None

    def children(self) -> dict[str, str]:
        """Return the state of each child."""
        return {id: str(info.status) for id, info in self.tree.children("pool").items()}

    def settle(self) -> dict[str, str]:
        """Wait until no child is about to change its state; return the states."""
        ends = time.monotonic() + PATIENCE
        while True:
            for name in self.children():
                with suppress(TokenGateError):  # once it answers, it has handled what it was told before
                    self.tree.ref(f"pool/{name}").ask("settle", timeout=PATIENCE)
            self.tree.settle()
            children = self.children()
            if set(children.values()) <= {"running"}:
                return children
            assert time.monotonic() < ends, (children, self.tree.reports.entries[-8:], self.tree.system.places())

    def places(self) -> set[str]:
        return {place.path for place in self.tree.system.places() if place.path.startswith("pool/")}

    def check(self, *refs: ActorRef[Any] | None) -> None:
        """The supervisor, the ledger and the tree agree on the live instances; a ref is alive if its child runs."""
        children = self.settle()

        assert self.ledger.live() == dict.fromkeys(children, 1)
        assert self.places() == {f"pool/{name}" for name in children}
        assert not self.tree.system.starts
        for ref in refs:
            if ref is not None and ref.is_alive():
                assert ref.path.removeprefix("pool/") in children

    def clear(self) -> None:
        """Stop all children."""
        for name in self.children():
            with suppress(TokenGateError):
                self.ref.proxy().terminate_child(name).result(PATIENCE)


def test_a_start_racing_the_stop_of_the_supervisor_leaves_no_instance(tree: Tree, race: Race) -> None:
    """Either the child is stopped with the others, or it is refused; nothing of it stays."""
    pool = Pool(tree)
    for _ in range(ROUNDS):
        stop = pool.root.terminate_child
        first, second, _ = race(
            lambda: pool.start("a"),
            lambda: pool.start("b"),
            lambda: stop("pool").result(PATIENCE),  # noqa: B023
        )

        assert pool.ledger.live() == {}
        assert pool.places() == set()
        assert not any(ref.is_alive() for ref in (first, second) if ref is not None)
        pool.root.restart_child("pool").result(PATIENCE)


def test_a_start_racing_the_supervisor_giving_up_leaves_no_instance_without_a_supervisor(
    tree: Tree, race: Race
) -> None:
    """A crash too many ends the supervisor with its children; another one follows, and knows its own only."""
    pool = Pool(tree, intensity=0)
    for number in range(1, ROUNDS + 1):
        bad = pool.start("bad")
        assert bad is not None
        first, second, _ = race(lambda: pool.start("a"), lambda: pool.start("b"), lambda: bad.tell("crash"))  # noqa: B023
        tree.wait_for_restart("pool", number)

        pool.check(first, second)
        pool.clear()
    assert len(tree.reports.of(GaveUp)) == ROUNDS


def test_a_start_racing_the_kill_of_its_supervisor_is_answered(tree: Tree, race: Race) -> None:
    """An instance that is made as its supervisor is killed is not left in the tree."""
    pool = Pool(tree, shutdown="kill")
    for _ in range(ROUNDS):
        kill = pool.root.terminate_child
        refs = race(
            lambda: pool.start("a"),
            lambda: pool.start("b"),
            lambda: kill("pool").result(PATIENCE),  # noqa: B023
        )

        assert pool.places() == set()
        assert not any(ref.is_alive() for ref in refs if ref is not None)
        pool.root.restart_child("pool").result(PATIENCE)


def test_one_of_several_starts_under_a_name_succeeds(tree: Tree, race: Race) -> None:
    """Two starts at once, and one by a request."""
    pool = Pool(tree)
    spec = ChildSpec("a", pool.kind, args=("a", pool.ledger))

    def request() -> ActorRef[Any] | None:
        try:
            ref: ActorRef[Any] = pool.ref.proxy().start_child(spec).result(PATIENCE)
        except TokenGateError:
            return None
        return ref

    for _ in range(ROUNDS):
        refs = [ref for ref in race(lambda: pool.start("a"), lambda: pool.start("a"), request) if ref is not None]

        assert len(refs) == 1
        pool.check(*refs)
        pool.clear()


def test_a_start_racing_the_end_of_its_child_leaves_one_instance_or_none(tree: Tree, race: Race) -> None:
    """By a request to the supervisor, and by one to the actor, which both find it by its name."""
    pool = Pool(tree)

    def terminate() -> None:
        with suppress(TokenGateError):
            pool.ref.proxy().terminate_child("a").result(PATIENCE)

    def stop() -> None:
        with suppress(TokenGateError):
            tree.ref("pool/a").stop(timeout=PATIENCE)

    for _ in range(ROUNDS):
        ref, _, _ = race(lambda: pool.start("a"), terminate, stop)

        pool.check(ref)
        pool.clear()


def test_a_start_racing_the_close_of_its_system_is_answered(chance: random.Random, race: Race) -> None:
    """No caller waits for ever, and no instance begins to work afterwards."""
    from actors import SHUTDOWN, ActorSystem
    from actors.lowlevel import ROOT

    for _ in range(max(10, ROUNDS // 10)):
        system = ActorSystem("race", threads=2)
        system.open()
        root = system.place(ROOT, DynamicSupervisor, (), {}, owner=lambda place, reason, _: place.close(reason))
        supervisor = root.start().result(PATIENCE)
        ledger = Ledger()

        def begin(name: str, supervisor: Any = supervisor, ledger: Ledger = ledger) -> ActorRef[Any] | None:
            kind = chance.choice([CpuMember, WithHook, IoMember])
            spec = ChildSpec(name, kind, args=(name, ledger))
            started = start_at_once(supervisor, spec, here=True)
            try:
                return None if started is None else started.result(PATIENCE)
            except StartFailed:
                return None
            except TokenGateError:
                return None

        refs = race(lambda: begin("a"), lambda: begin("b"), lambda: system.close(PATIENCE))  # noqa: B023

        for ref in refs[:2]:
            if ref is not None:
                assert ref.ask("message", block=False).exception(PATIENCE) is not None
        root.close(SHUTDOWN)


def test_random_actions_of_many_threads_keep_the_rules(tree: Tree, chance: random.Random) -> None:
    """Starts of both ways, crashes, ends and requests, and now and then an end of the supervisor itself.

    At rest, what the supervisor says is what lives; each child's reports come in order.
    """
    pool, names = Pool(tree, intensity=10**9), [f"n{number}" for number in range(8)]
    kinds = [pool.kind, pool.kind, WithHook]

    def act(draw: random.Random) -> None:
        name = draw.choice(names)
        restart: Any = draw.choice(["permanent", "transient", "temporary"])
        what = draw.choices(
            ["start", "request", "crash", "finish", "stop", "terminate", "ask", "end"], [8, 2, 3, 2, 2, 2, 2, 0.1]
        )[0]
        with suppress(TokenGateError):
            if what == "start":
                pool.start(name, draw.choice(kinds), restart=restart)
            elif what == "request":
                spec = ChildSpec(name, draw.choice(kinds), args=(name, pool.ledger), restart=restart)
                pool.ref.proxy().start_child(spec).result(PATIENCE)
            elif what in ("crash", "finish"):
                tree.ref(f"pool/{name}").tell(what)
            elif what == "stop":
                tree.ref(f"pool/{name}").stop(timeout=PATIENCE)
            elif what == "terminate":
                pool.ref.proxy().terminate_child(name).result(PATIENCE)
            elif what == "ask":
                pool.children()
            else:
                pool.root.renew_child("pool").result(PATIENCE)

    def work(draw: random.Random) -> None:
        for _ in range(ROUNDS // 4):
            act(draw)

    for _ in range(4):
        draws = [random.Random(chance.random()) for _ in range(4)]
        with ThreadPoolExecutor(4) as threads:
            for done in [threads.submit(work, draw) for draw in draws]:
                done.result(12 * PATIENCE)
        pool.check()
    tree.stop()

    assert pool.ledger.live() == {}
    for name in names:
        check_order([report for report in tree.reports.entries if getattr(report, "child", "") == f"pool/{name}"])


def check_order(reports: list[Any]) -> None:
    """Between two starts of a child there is an end, unless the child is another one, after a request for its end."""
    running = False
    for number, report in enumerate(reports):
        latest = "\n".join(map(repr, reports[max(0, number - 8) : number + 2]))
        if isinstance(report, ChildStarted):
            assert not running, latest
            running = True
        elif isinstance(report, ChildEnded):
            running = False
        elif isinstance(report, ChildStartFailed):
            assert not running, latest
