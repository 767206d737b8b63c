"""The dispatcher: threads that are always free to run steps."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import attrs
import pytest

from actors import ActorSystem, Reply
from actors.concurrency._dispatcher import CpuThread, Dispatcher
from actors.concurrency._stall_watch import StallWatch

LIMIT = 30.0


@attrs.define(eq=False)
class Quanta:
    """A runnable of several quanta."""

    work: Callable[[], object]
    left: int = 1
    done: Reply[None] = attrs.field(factory=Reply)

    def run(self, _thread: threading.Thread) -> bool:
        self.work()
        self.left -= 1
        if not self.left:
            self.done._set()
        return self.left > 0


@pytest.fixture
def dispatcher() -> Iterator[Dispatcher]:
    made = Dispatcher("pool", 2)
    made.open()
    yield made

    assert made.close(time.monotonic() + LIMIT) == []


def test_what_is_submitted_runs_until_it_has_had_enough(dispatcher: Dispatcher) -> None:
    """A runnable is queued again as long as it asks for that."""
    runs: list[int] = []
    quanta = Quanta(lambda: runs.append(1), left=5)
    dispatcher.submit(quanta)
    quanta.done.result(LIMIT)

    assert len(runs) == 5


def test_as_many_run_at_once_as_there_are_threads(dispatcher: Dispatcher) -> None:
    """Two meet at a barrier."""
    barrier = threading.Barrier(2)
    both = [Quanta(lambda: barrier.wait(LIMIT)) for _ in range(2)]
    for quanta in both:
        dispatcher.submit(quanta)
    for quanta in both:
        quanta.done.result(LIMIT)

    assert dispatcher.statistics().threads == 2


def test_threads_are_named_daemons(dispatcher: Dispatcher) -> None:
    """A thread that can't be ended must not keep the process, and can be told by its name."""
    seen: list[threading.Thread] = []
    quanta = Quanta(lambda: seen.append(threading.current_thread()))
    dispatcher.submit(quanta)
    quanta.done.result(LIMIT)
    (thread,) = seen

    assert (thread.daemon, thread.name.startswith("pool-")) == (True, True)


def test_a_wait_on_a_thread_of_the_pool_starts_a_spare(dispatcher: Dispatcher) -> None:
    """Three that wait leave two free threads."""
    outcome: Reply[str] = Reply()
    waiters = [Quanta(lambda: outcome.result(LIMIT)) for _ in range(3)]
    for quanta in waiters:
        dispatcher.submit(quanta)
    barrier = threading.Barrier(2)
    both = [Quanta(lambda: barrier.wait(LIMIT)) for _ in range(2)]
    for quanta in both:
        dispatcher.submit(quanta)
    for quanta in both:
        quanta.done.result(LIMIT)
    assert dispatcher.statistics().blocked == 3
    outcome._set("x")
    for quanta in waiters:
        quanta.done.result(LIMIT)

    assert dispatcher.statistics().blocked == 0


def test_a_runnable_that_raises_is_logged_and_costs_no_thread(
    dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    """Even a SystemExit from the runtime's own code ends no thread."""

    def broken() -> None:
        raise SystemExit

    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            dispatcher.submit(Quanta(broken))
        good = Quanta(int)
        dispatcher.submit(good)
        good.done.result(LIMIT)
    barrier = threading.Barrier(2)
    both = [Quanta(lambda: barrier.wait(LIMIT)) for _ in range(2)]
    for quanta in both:
        dispatcher.submit(quanta)
    for quanta in both:
        quanta.done.result(LIMIT)

    assert len([record for record in caplog.records if "could not run" in record.getMessage()]) == 5


def test_close_names_the_threads_that_are_still_at_work() -> None:
    """After the deadline it returns; the thread goes when its code returns."""
    pool = Dispatcher("late", 1)
    pool.open()
    entered, leave = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        leave.wait(LIMIT)

    pool.submit(Quanta(block))
    assert entered.wait(LIMIT)
    late = pool.close(time.monotonic())
    leave.set()

    assert late == ["late-0"]


class LateThread(CpuThread):
    """A thread that gets no processor for its end before it has been waited for twice."""

    def __init__(self, target: Callable[[CpuThread], object], name: str) -> None:
        super().__init__(target, name)
        self.waits: list[float] = []
        self.may_end = threading.Event()

    def run(self) -> None:
        super().run()
        assert self.may_end.wait(LIMIT)

    def gone(self, deadline: float) -> bool:
        self.waits.append(deadline)
        if len(self.waits) == 2:
            self.may_end.set()
            deadline += LIMIT
        return super().gone(deadline)


def test_close_waits_for_idle_threads_beyond_its_deadline() -> None:
    """Nothing keeps them from ending but a machine that has other work."""
    pool = Dispatcher("idle", 2, LateThread)
    pool.open()

    assert pool.close(time.monotonic()) == []


def test_an_idle_thread_keeps_nothing_alive(
    dispatcher: Dispatcher, until: Callable[[Callable[[], bool]], None]
) -> None:
    """What has run can be collected."""
    import gc
    import weakref

    quanta = Quanta(int)
    dispatcher.submit(quanta)
    quanta.done.result(LIMIT)
    watched = weakref.ref(quanta)
    del quanta

    def gone() -> bool:
        gc.collect()
        return watched() is None

    until(gone)


def test_spares_come_for_threads_that_block_unseen_and_go_again(
    system: ActorSystem, until: Callable[[Callable[[], bool]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps that use no CPU time while there is work do not hold the others up, however many they are."""
    monkeypatch.setattr("actors.concurrency._dispatcher._SPARE_IDLE", 0.1)
    pool = system.dispatcher
    leave = threading.Event()
    blocking = [Quanta(lambda: leave.wait(LIMIT)) for _ in range(pool.size + 3)]
    for quanta in blocking:
        pool.submit(quanta)
    last = Quanta(leave.set)
    pool.submit(last)
    for quanta in (*blocking, last):
        quanta.done.result(LIMIT)

    def back_to_its_size() -> bool:
        figures = pool.statistics()
        return (figures.threads, figures.blocked) == (pool.size, 0)

    until(back_to_its_size)


@attrs.define(eq=False)
class FakeThread:
    """A thread at work, with a CPU time that the test sets."""

    quantum: int = 0
    seconds: float = 0.0
    busy: bool = True

    def cpu_seconds(self) -> float:
        return self.seconds


@attrs.define
class FakePool:
    members: list[FakeThread]
    runnable: list[object] = attrs.Factory(lambda: [object()])
    stalled: set[FakeThread] = attrs.Factory(set)
    helped: int = 0

    def threads(self) -> list[FakeThread]:
        return self.members

    def waiting(self) -> list[object]:
        return list(self.runnable)

    def set_stalled(self, threads: set[FakeThread]) -> None:
        self.stalled = threads

    def help(self) -> None:
        self.helped += 1


def test_a_thread_is_stalled_when_it_used_no_cpu_time_in_one_quantum_while_others_wait() -> None:
    """One that computes, that began another quantum, that is idle, or that nobody waits for is not."""
    blocks, computes, changes, idle = (FakeThread() for _ in range(4))
    idle.busy = False
    pool = FakePool([blocks, computes, changes, idle])
    watch = StallWatch(cast("Any", pool), cast("Any", None), lambda: False)
    watch.look()
    assert not pool.stalled

    computes.seconds += 0.02
    changes.quantum += 1
    watch.look()
    assert pool.stalled == {blocks}

    pool.runnable.clear()
    watch.look()
    assert not pool.stalled


@pytest.mark.parametrize(("used", "looks"), [(0.0, 1), (0.0001, 5)])
def test_while_the_process_computes_a_thread_that_used_a_little_gets_more_time(used: float, looks: int) -> None:
    """It may be waiting for the interpreter lock, which costs a little; one that sleeps uses nothing at all."""
    thread = FakeThread()
    pool = FakePool([thread])
    watch = StallWatch(cast("Any", pool), cast("Any", None), lambda: True)
    watch.look()
    taken = 0
    while not pool.stalled:
        thread.seconds += used
        watch.look()
        taken += 1

    assert taken == looks
    assert pool.helped == 1


@pytest.mark.parametrize(
    ("used", "contended", "new_quantum", "helped"),
    [
        (0.0, False, True, True),
        (0.0, True, True, True),
        (0.02, False, True, False),
        (0.0001, True, False, False),
        (0.0001, True, True, True),
    ],
    ids=["blocks", "blocks beside others", "computes", "is starved", "goes on, but blocks"],
)
def test_what_waits_from_one_look_to_the_next_is_helped_unless_threads_compute_or_are_starved(
    used: float, contended: bool, new_quantum: bool, helped: bool
) -> None:
    """All that waits gets a thread then, since one that replaces another may block as well."""
    thread = FakeThread()
    pool = FakePool([thread])
    watch = StallWatch(cast("Any", pool), cast("Any", None), lambda: contended)
    watch.look()
    thread.seconds += used
    thread.quantum += new_quantum
    pool.runnable.append(object())  # others may come
    watch.look()
    assert pool.helped == helped

    before = pool.helped
    pool.runnable[:] = [object()]
    watch.look()
    assert pool.helped == before
