"""`dispatcher = "pinned"`: one thread for life, for objects that belong to the thread that made them."""

from __future__ import annotations

import functools
import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from actors import ActorDead, ActorSystem, CpuActor, ExitReason, TokenState, TokenTerminated
from actors.concurrency._pinned_dispatcher import PinnedDispatcher, PinnedThreads

LIMIT = 30.0


class Pinned(CpuActor):
    dispatcher = "pinned"

    def thread(self) -> threading.Thread:
        return threading.current_thread()


class Diary(Pinned):
    """Keeps notes in a database; no other thread may use its connection."""

    def on_start(self) -> None:
        self.db = sqlite3.connect(":memory:")
        self.db.execute("CREATE TABLE notes (text)")

    def on_stop(self) -> None:
        self.db.close()

    def on_receive(self, message: str) -> None:
        self.db.execute("INSERT INTO notes VALUES (?)", (message,))

    def notes(self) -> list[str]:
        return [text for (text,) in self.db.execute("SELECT text FROM notes")]


def test_a_sqlite3_connection_works_in_every_message(start: Any, race: Any) -> None:
    """Whoever sends, and from which thread, all code of the actor runs on its own one."""
    ref = start(Diary)
    race(*(lambda n=n: [ref.ask(f"{n}") for _ in range(100)] for n in range(4)))
    assert sorted(ref.proxy().notes().result(LIMIT)) == sorted(f"{n}" for n in range(4) for _ in range(100))

    assert ref.stop(timeout=LIMIT)


def test_the_whole_life_of_a_place_is_on_one_thread(system: ActorSystem, until: Any) -> None:
    """`__init__`, hooks, messages, steps of generators, and the next instance's: all on the same thread."""
    seen: list[tuple[str, threading.Thread]] = []

    class Witness(CpuActor):
        dispatcher = "pinned"

        def __init__(self) -> None:
            self._see("__init__")

        def _see(self, what: str) -> None:
            seen.append((what, threading.current_thread()))

        def on_start(self) -> None:
            self._see("on_start")

        def on_stop(self) -> None:
            self._see("on_stop")

        def on_failure(self, *_: object) -> None:
            self._see("on_failure")

        def walk(self) -> Any:
            for _ in range(3):
                self._see("walk")
                yield

        def crash(self) -> None:
            raise RuntimeError

    def restart(place: Any, _reason: ExitReason, administrative: bool) -> None:
        if administrative:
            place.close(ExitReason("shutdown"))
        else:
            place.start()

    place = system.place("shop/witness", Witness, owner=restart)
    assert system.statistics().pinned == 0
    place.start().result(LIMIT)
    place.ref.proxy().walk().result(LIMIT)
    place.ref.proxy().crash().exception(LIMIT)
    place.ref.proxy().walk().result(LIMIT)
    assert system.statistics().pinned == 1
    place.ref.stop(timeout=LIMIT)
    (thread,) = {thread for _, thread in seen}
    thread.join(LIMIT)

    life = ["__init__", "on_start", "walk", "walk", "walk"]
    assert [what for what, _ in seen] == [*life, "on_failure", *life, "on_stop"]
    assert (thread.name, thread.daemon, thread.is_alive()) == ("test-cpu-shop/witness", True, False)
    until(lambda: system.statistics().pinned == 0)


def test_pinned_actors_do_not_share_a_thread(start: Any, system: ActorSystem) -> None:
    """Each has one of its own, and none of the dispatcher's."""
    refs = [start(Pinned) for _ in range(5)]
    threads = [ref.proxy().thread().result(LIMIT) for ref in refs]

    assert len(set(threads)) == system.statistics().pinned == 5
    assert system.dispatcher.statistics().threads == 2


def test_a_start_that_fails_leaves_no_thread(start: Any, until: Any, system: ActorSystem) -> None:
    """Nothing half-started stays."""

    class Broken(CpuActor):
        dispatcher = "pinned"

        def on_start(self) -> None:
            raise RuntimeError("no disk")

    with pytest.raises(Exception, match="no disk"):
        start(Broken)

    until(lambda: system.statistics().pinned == 0)


def test_sealing_abandons_the_thread_and_a_restart_gets_a_new_one(system: ActorSystem, door: Any, until: Any) -> None:
    """The thread is named among the abandoned, serves nothing any more, and goes when its code returns."""

    class Stuck(Pinned):
        def block(self) -> str:
            door.pass_through()
            return "late"

    place = system.place("stuck", Stuck, owner=lambda *_: None)
    place.start().result(LIMIT)
    first = place.ref.proxy().thread().result(LIMIT)
    token = place.ref.proxy().block()
    queued = place.ref.proxy().thread()
    door.wait_reached()
    place.terminate_running("the test says so")
    assert token.state is TokenState.TERMINATED
    place.start().result(LIMIT)
    second = queued.result(LIMIT)
    assert second is not first
    assert system.statistics().abandoned == ("test-cpu-stuck",)
    assert (second.name, system.statistics().pinned) == ("test-cpu-stuck-2", 2)
    door.open()
    first.join(LIMIT)

    assert not first.is_alive()
    assert isinstance(token.exception(), TokenTerminated)
    assert place.ref.proxy().thread().result(LIMIT) is second


def test_closing_the_system_ends_pinned_threads_and_names_those_that_stay(
    door: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle one goes; one in code that can't be ended is named, and goes when that returns."""
    monkeypatch.setattr("actors.concurrency._loop_host._LOOK_SECONDS", LIMIT)  # loops that are held up are not named

    class Stuck(Pinned):
        def block(self) -> None:
            door.pass_through()

    own = ActorSystem("own", threads=1)
    own.open()
    idle = own.start_actor(Pinned, (), {}).proxy().thread().result(LIMIT)
    stuck = own.start_actor(Stuck, (), {})
    token = stuck.proxy().block()
    door.wait_reached()
    late = own.close(0.0)
    idle.join(LIMIT)
    door.open()

    assert late == (f"own-cpu-{stuck.path}",)
    assert not idle.is_alive()
    assert token.state is TokenState.TERMINATED
    with pytest.raises(ActorDead):
        stuck.ask("too late")


@pytest.mark.parametrize("wrong", ["Pinned", None, True])
def test_a_wrong_dispatcher_is_refused_with_what_there_is(start: Any, wrong: Any) -> None:
    """The error names the class, the value and the choice."""

    class Wrong(CpuActor):
        dispatcher = wrong

    with pytest.raises(ValueError, match=rf"dispatcher of Wrong is {wrong!r}; choose 'shared' or 'pinned'"):
        start(Wrong)


@attrs.define(eq=False)
class Work:
    """A runnable of one quantum."""

    work: Callable[[], object]
    done: threading.Event = attrs.field(factory=threading.Event)

    def run(self, _thread: threading.Thread) -> bool:
        try:
            self.work()
        finally:
            self.done.set()
        return False


def test_a_runnable_that_raises_is_logged_and_costs_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    """A bug of the runtime ends no thread."""
    threads = PinnedThreads()
    pinned = PinnedDispatcher("one", threads)

    def broken() -> None:
        raise SystemExit

    with caplog.at_level(logging.ERROR):
        for work in (broken, int):
            one = Work(work)
            pinned.submit(one)
            assert one.done.wait(LIMIT)
    assert len(threads) == 1
    assert threads.close(time.monotonic() + LIMIT) == []

    assert [record.getMessage().partition(" Work")[0] for record in caplog.records] == ["one could not run"]


@pytest.mark.parametrize("begun", [True, False])
def test_what_comes_after_the_end_is_run_and_keeps_no_thread(begun: bool) -> None:
    """Nobody waits for ever for a late message to a place, and no thread stays for it."""
    threads = PinnedThreads()
    pinned = PinnedDispatcher("one", threads)
    if begun:
        pinned.submit(Work(int))
    assert threads.close(time.monotonic() + LIMIT) == []
    late = Work(int)
    pinned.submit(late)
    assert late.done.wait(LIMIT)

    assert threads.close(time.monotonic() + LIMIT) == []


def test_no_runnable_is_lost_when_the_thread_goes(race: Any, yielding: Any, seed: int, rounds: Any) -> None:
    """A submit that races the end finds the thread, or gets a new one."""
    chance = random.Random(seed)
    for _ in range(rounds(50)):
        threads = PinnedThreads()
        pinned = PinnedDispatcher("one", threads)
        works = [Work(int) for _ in range(3)]
        with yielding(chance):
            race(*(functools.partial(pinned.submit, work) for work in works), pinned.close)

        assert all(work.done.wait(LIMIT) for work in works)
        assert threads.close(time.monotonic() + LIMIT) == []
