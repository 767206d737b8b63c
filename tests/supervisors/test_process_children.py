"""Children that are processes: what ends them from outside, and that a kill leaves nothing behind."""

from __future__ import annotations

import os
import signal
from typing import Any

import psutil
import pytest
import trio
from gated_code import LIMIT, opened_at_the_end, share
from shared_lists import SharedList

from actors import KILLED, NORMAL, ProcessActor, StartFailed, WorkerDied
from supervisors import (
    ChildEnded,
    ChildSpec,
    ChildStarted,
    ChildStopFailed,
    DynamicSupervisor,
    GaveUp,
    RestartScheduled,
    Supervisor,
)
from supervisors.testing import Tree, running
from tests.supervisors.kinds import child

pytestmark = pytest.mark.trio


async def pid_of(tree: Tree, path: str) -> int:
    """Return the process of a child's present instance, or of the next one between two."""
    with trio.fail_after(LIMIT):
        pid: int = await tree.ref(path).call(os.getpid)
        return pid


async def pids_of(tree: Tree, *paths: str) -> list[int]:
    return [await pid_of(tree, path) for path in paths]


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def gone(pid: int) -> None:
    """Wait until a process is no more."""
    with trio.fail_after(LIMIT):
        while alive(pid):
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
async def test_a_process_that_is_killed_while_idle_is_restarted_with_its_queue(number: int) -> None:
    """Nobody asks it anything as it dies, and its supervisor knows all the same, and says how it died."""
    diary = SharedList()
    async with running(child("process", "a", diary), child("process", "b")) as tree:
        ref = tree.ref("a")
        first, other = await pids_of(tree, "a", "b")
        ref.actor_inbox.suspend()
        tokens = [ref.ask(message, block=False) for message in ("one", "two")]
        os.kill(first, number)
        with trio.fail_after(LIMIT):
            ended = await tree.wait_for(ChildEnded, child="a")
            await tree.wait_for(ChildStarted, child="a", restart=1)
            ref.actor_inbox.resume()
            for token in tokens:
                await token

        assert isinstance(ended.reason.error, WorkerDied)
        assert (ended.reason.error.pid, ended.reason.error.exit_code) == (first, -number)
        assert signal.Signals(number).name in str(ended.reason.error)
        assert [entry for entry in diary if entry[0] == "a"] == [("a", "one"), ("a", "two")]
        assert await pid_of(tree, "a") != first
        assert await pid_of(tree, "b") == other


async def test_a_process_that_exits_in_a_step_crashes_and_the_next_message_is_handled() -> None:
    """The token that ran says how the process ended; it is not run again, and those behind it are handled."""
    diary = SharedList()

    def leave() -> None:
        diary.append("left")
        os._exit(3)

    async with running(child("process", "a", diary)) as tree:
        ref = tree.ref("a")
        leaving, after = ref.ask(leave, block=False), ref.ask("after", block=False)
        with trio.fail_after(LIMIT):
            with pytest.raises(WorkerDied, match="exited with code 3") as caught:
                await leaving
            await after

        assert caught.value.exit_code == 3
        assert [entry for entry in diary if entry == "left" or entry[0] == "a"] == ["left", ("a", "after")]


async def test_a_process_that_dies_in_its_start_is_a_start_failure() -> None:
    """The cause is the death; those before it are stopped, as after any failed start."""
    diary = SharedList()

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(StartFailed, match=r"SIGKILL") as raised:
        async with running(child("process", "a", diary), child("process", "b", diary, die)):
            pass
    cause: Any = raised.value.__cause__

    assert isinstance(cause, StartFailed)
    assert isinstance(cause.__cause__, WorkerDied)
    assert diary.entries()[-1] == ("stop", "a")


async def test_deaths_count_as_restarts_and_too_many_end_the_supervisor() -> None:
    """intensity 2: the third death within the period is one too many."""
    async with running(child("process", "a"), intensity=2, period=3600.0) as tree:
        for number in range(1, 4):
            os.kill(await pid_of(tree, "a"), signal.SIGKILL)
            with trio.fail_after(LIMIT):
                await tree.wait_for(ChildEnded, child="a")
                if number < 3:
                    await tree.wait_for(ChildStarted, child="a", restart=number)
        with trio.fail_after(LIMIT):
            reason = await tree.ended

        assert str(reason) == "shutdown"
        assert [report.child for report in tree.of(GaveUp)] == ["a"]


@pytest.mark.parametrize(
    ("strategy", "renewed"), [("one_for_one", "b"), ("rest_for_one", "bc"), ("one_for_all", "abc")]
)
async def test_a_death_renews_the_processes_that_the_strategy_says(strategy: Any, renewed: str) -> None:
    """A renewed child has another process, and the old one is gone; the others keep theirs."""
    async with running(*(child("process", id) for id in "abc"), strategy=strategy) as tree:
        before = dict(zip("abc", await pids_of(tree, *"abc"), strict=True))
        os.kill(before["b"], signal.SIGKILL)
        with trio.fail_after(LIMIT):
            await tree.wait_for(ChildStarted, child=renewed[-1], restart=1)
        after = dict(zip("abc", await pids_of(tree, *"abc"), strict=True))
        for id in renewed:
            await gone(before[id])

        assert "".join(id for id in "abc" if before[id] != after[id]) == renewed
        assert len(tree.of(RestartScheduled)) == 1


class Stubborn(ProcessActor):
    """Is at a door when it is told to stop: in its `on_stop`, or in a step; it has a process of its own beside it."""

    def __init__(self, door: Any, companion: bool = False) -> None:
        import subprocess

        super().__init__()
        self.door = door
        self.other = subprocess.Popen(["sleep", "3600"]) if companion else None

    def on_receive(self, message: Any) -> Any:
        import os

        if message == "wait":
            self.door.pass_through()
        return os.getpid(), self.other and self.other.pid

    def on_stop(self) -> None:
        self.door.pass_through()


@pytest.mark.parametrize("where", ["on_stop", "step"])
async def test_a_process_that_ignores_its_stop_is_killed_at_its_deadline(where: str) -> None:
    """It is reported, what it has started goes with it, and nobody is left behind or counted as abandoned."""
    with opened_at_the_end() as make:
        door = share(make())
        async with running(ChildSpec("a", Stubborn, args=(door, True), shutdown=0.01)) as tree:
            pid, companion = await tree.ref("a").call("who")
            waiting = tree.ref("a").ask("wait", block=False) if where == "step" else None
            if waiting is not None:
                await trio.to_thread.run_sync(door.wait_reached)
            with trio.fail_after(LIMIT):
                await tree.stop()
            await gone(pid)
            await gone(companion)

            assert [(report.child, report.seconds) for report in tree.of(ChildStopFailed)] == [("a", 0.01)]
            assert [report.reason for report in tree.of(ChildEnded)] == [KILLED]
            assert tree.system.statistics().abandoned == ()
            assert waiting is None or waiting.exception() is not None


async def test_kill_asks_no_process() -> None:
    """`shutdown="kill"`: no hook runs, and it is not reported."""
    with opened_at_the_end() as make:
        door = share(make())
        async with running(ChildSpec("a", Stubborn, args=(door,), shutdown="kill")) as tree:
            pid, _ = await tree.ref("a").call("who")
            with trio.fail_after(LIMIT):
                await tree.stop()
            await gone(pid)

            assert (door.reached.is_set(), tree.of(ChildStopFailed)) == (False, [])


async def test_a_dynamic_supervisor_stops_its_processes_at_once() -> None:
    """All of them are in their `on_stop` at the same time."""
    with opened_at_the_end() as make:
        doors = [share(make()) for _ in range(3)]
        async with running(DynamicSupervisor.child_spec("pool")) as tree:
            for number, door in enumerate(doors):
                spec = ChildSpec(f"c{number}", Stubborn, args=(door,), shutdown="infinity")
                with trio.fail_after(LIMIT):
                    await tree.ref("pool").proxy().start_child(spec)
            with trio.fail_after(LIMIT):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(tree.stop)
                    for door in doors:
                        await trio.to_thread.run_sync(door.wait_reached)
                    for door in doors:
                        door.open()

            assert tree.of(ChildStopFailed) == []


async def test_a_restarted_supervisor_has_new_processes() -> None:
    """Places, and so refs, are the same; the processes of before are gone."""
    inner = Supervisor.child_spec("inner", [child("process", "x"), child("process", "y")], intensity=0)
    async with running(inner) as tree:
        ref = tree.ref("inner/x")
        before = await pids_of(tree, "inner/x", "inner/y")
        os.kill(before[0], signal.SIGKILL)
        with trio.fail_after(LIMIT):
            await tree.wait_for(ChildStarted, child="inner", restart=1)
        after = await pids_of(tree, "inner/x", "inner/y")
        for pid in before:
            await gone(pid)

        assert not {*before} & {*after}
        assert ref is tree.ref("inner/x")


async def test_watchers_hear_of_a_killed_process_and_of_its_end_for_good() -> None:
    """A death is an error with its cause, and a restart ends no watch."""
    downs: list[Any] = []
    async with running(child("process", "a")) as tree:
        tree.ref("a").watch(downs.append)
        pid = await pid_of(tree, "a")
        os.kill(pid, signal.SIGKILL)
        with trio.fail_after(LIMIT):
            await tree.wait_for(ChildStarted, child="a", restart=1)
        await pid_of(tree, "a")
        tree.ref("a")._place.stop(NORMAL, drain=False, administrative=False)
        with trio.fail_after(LIMIT):
            await tree.wait_for(ChildStarted, child="a", restart=2)

    assert [(down.reason.kind, type(down.reason.error)) for down in downs[:2]] == [
        ("error", WorkerDied),
        ("normal", type(None)),
    ]
    assert [down.closed for down in downs] == [False] * (len(downs) - 1) + [True]


async def test_a_process_actor_may_watch_its_siblings() -> None:
    """The `Down` that it gets is a message like another, with the reason and the child's own kind of ref."""
    seen = SharedList()

    class Watcher(ProcessActor):
        def on_receive(self, message: Any) -> Any:
            if hasattr(message, "tell"):
                self.watch(message)
            else:
                seen.append((type(message).__name__, message.path, message.reason.kind, message.closed))

    async with running(child("process", "a"), ChildSpec("w", Watcher)) as tree:
        with trio.fail_after(LIMIT):
            await tree.ref("w").call(tree.ref("a"))
        os.kill(await pid_of(tree, "a"), signal.SIGKILL)
        with trio.fail_after(LIMIT):
            await tree.wait_for(ChildStarted, child="a", restart=1)
            await tree.ref("w").call(tree.ref("a"))  # handled after the word that came before it

    assert seen[0] == ("Down", "a", "error", False)
