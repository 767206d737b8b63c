"""The cases that OTP's and Akka's users know, one test each, over the kinds of children where the kind matters.

Cases about places and mailboxes alone are where those are tested (`tests/actors`), and some about supervisors in
`test_supervisor.py` and `test_dynamic_supervisor.py`; each has the sentence of the case as its docstring.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
from gated_code import Door, opened_at_the_end, share
from shared_lists import SharedList

from actors import (
    KILLED,
    NORMAL,
    ActorDead,
    AsyncioActor,
    CpuActor,
    DeadLetter,
    IoActor,
    MailboxFull,
    NameTaken,
    ProcessActor,
    StartFailed,
    WaitTimeout,
)
from supervisors import (
    AlreadyPresent,
    AlreadyStarted,
    Backoff,
    BadSpec,
    ChildCounts,
    ChildDeclined,
    ChildEnded,
    ChildIsRunning,
    ChildSpec,
    ChildStarted,
    ChildStartFailed,
    ChildStopFailed,
    DynamicSupervisor,
    GaveUp,
    Ignore,
    NoSuchChild,
    Phase,
    Restart,
    RestartScheduled,
    Supervisor,
    TooManyChildren,
)
from supervisors.testing import Tree, running
from tests.supervisors.kinds import KINDS, MESSAGED, IoChild, child, diary_for, failing

pytestmark = pytest.mark.trio

LIMIT = 30.0

every_kind = pytest.mark.parametrize("kind", KINDS)
every_messaged_kind = pytest.mark.parametrize("kind", MESSAGED)


async def ask(tree: Tree, request: str, *args: Any, of: str = "/") -> Any:
    """Ask a supervisor for something, by the name of its method."""
    with trio.fail_after(LIMIT):
        return await getattr(tree.ref(of).proxy(), request)(*args)


async def statuses(tree: Tree, of: str = "/") -> dict[str, str]:
    """Return {id: phase} of the children of a supervisor, the oldest first."""
    return {info.id: str(info.status) for info in reversed(await ask(tree, "which_children", of=of))}


async def restarts(tree: Tree, of: str = "/") -> dict[str, int]:
    return {info.id: info.restarts for info in reversed(await ask(tree, "which_children", of=of))}


async def injure(tree: Tree, path: str) -> None:
    """Crash a child, and wait until its supervisor has seen it."""
    await tree.crash(path, ZeroDivisionError(path))  # a child process gets it, and need import nothing for that


async def crash(tree: Tree, path: str, times: int = 1) -> None:
    """Crash a child and wait until its supervisor has restarted it, so often."""
    for _ in range(times):
        await injure(tree, path)
        await tree.wait_for(ChildStarted, lambda report: report.restart > 0, child=path)


def door_for(kind: str, make: Callable[[], Door]) -> Door:
    """Return a door that children of a kind can wait at."""
    return share(make()) if kind == "process" else make()


# Start


@every_kind
async def test_each_start_ends_before_the_next_begins(kind: str) -> None:
    """Case 1. Three specs: each `on_start` ends before the next begins."""
    diary = diary_for(kind)
    async with running(*(child(kind, id, diary) for id in "abc")):
        assert [(what, id) for id in "abc" for what in ("start", "started")] == diary


@every_kind
async def test_a_failed_start_stops_those_before_it_in_reverse(kind: str) -> None:
    """Case 2. The third fails to start: the second, then the first, are stopped, and start raises."""
    diary = diary_for(kind)
    with pytest.raises(StartFailed, match=r"'c'.*no") as raised:
        async with running(child(kind, "a", diary), child(kind, "b", diary), child(kind, "c", diary, failing(1))):
            pass

    assert diary[-2:] == [("stop", "b"), ("stop", "a")]
    assert isinstance(raised.value.__cause__, StartFailed)


@every_kind
async def test_a_child_may_decline_to_start(kind: str) -> None:
    """Case 3. A child declines: spec kept, no instance; temporary: spec dropped."""
    declining = failing(1, Ignore)
    async with running(
        child(kind, "a"),
        child(kind, "shy", starting=declining),
        child(kind, "shyer", starting=failing(1, Ignore), restart="temporary"),
        child(kind, "b"),
    ) as tree:
        assert await statuses(tree) == {"a": "running", "shy": "stopped", "b": "running"}
        assert [report.child for report in tree.of(ChildDeclined)] == ["shy", "shyer"]

        assert await ask(tree, "restart_child", "shy") is tree.ref("shy")
        assert await ask(tree, "start_child", child(kind, "c", starting=failing(1, Ignore))) is None


@every_kind
async def test_starting_a_child_that_is_there_is_one_of_two_errors(kind: str) -> None:
    """Case 4. start_child with a running id; with a stopped id: two different errors."""
    async with running(child(kind, "a")) as tree:
        with pytest.raises(AlreadyStarted, match="'a'"):
            await ask(tree, "start_child", child(kind, "a"))
        await ask(tree, "terminate_child", "a")
        with pytest.raises(AlreadyPresent, match=r"'a'.*restart it, or delete it"):
            await ask(tree, "start_child", child(kind, "a"))


# Administration


@every_kind
async def test_terminate_child_twice_is_fine_and_restart_child_undoes_it(kind: str) -> None:
    """Case 5. terminate_child twice: fine both times, spec kept; restart_child then works."""
    diary = diary_for(kind)
    spec = child(kind, "a", diary)
    async with running(spec) as tree:
        await ask(tree, "terminate_child", "a")
        await ask(tree, "terminate_child", "a")
        kept = await ask(tree, "get_child_spec", "a"), await statuses(tree)
        await ask(tree, "restart_child", "a")

        assert (spec, {"a": "stopped"}) == kept
        assert await statuses(tree) == {"a": "running"}
        with pytest.raises(ChildIsRunning, match="terminate it first"):
            await ask(tree, "restart_child", "a")
    assert [what for what, _ in diary] == ["start", "started", "stop"] * 2


@every_kind
async def test_a_child_that_fails_to_restart_is_stopped_as_before(kind: str) -> None:
    """restart_child that fails: the child has no instance and none will come by itself, so that it can be restarted
    again, or deleted; and it stays so when its siblings are restarted."""
    spec = child(kind, "a", starting=failing(2, after=1))
    async with running(spec, child(kind, "b"), strategy="one_for_all") as tree:
        await ask(tree, "terminate_child", "a")
        for _ in range(2):
            with pytest.raises(StartFailed, match="'a'"):
                await ask(tree, "restart_child", "a")
            assert await statuses(tree) == {"a": "stopped", "b": "running"}
        await crash(tree, "b")
        stayed = await statuses(tree)
        await ask(tree, "restart_child", "a")
        restarted = await statuses(tree)

        assert stayed == {"a": "stopped", "b": "running"}
        assert restarted == {"a": "running", "b": "running"}


@every_kind
async def test_a_child_that_fails_to_restart_can_be_deleted(kind: str) -> None:
    """delete_child after a restart_child that failed: the child and its place are gone."""
    async with running(child(kind, "a", starting=failing(1, after=1))) as tree:
        ref = tree.ref("a")
        await ask(tree, "terminate_child", "a")
        with pytest.raises(StartFailed, match="'a'"):
            await ask(tree, "restart_child", "a")
        await ask(tree, "delete_child", "a")

        assert (await statuses(tree), ref.is_alive()) == ({}, False)


@every_kind
async def test_only_a_stopped_child_can_be_deleted(kind: str) -> None:
    """Case 6. delete_child running: error; stopped: fine; unknown: error."""
    async with running(child(kind, "a")) as tree:
        with pytest.raises(ChildIsRunning):
            await ask(tree, "delete_child", "a")
        ref = tree.ref("a")
        await ask(tree, "terminate_child", "a")
        await ask(tree, "delete_child", "a")
        with pytest.raises(NoSuchChild, match="'a'"):
            await ask(tree, "delete_child", "a")

        assert (await statuses(tree), ref.is_alive()) == ({}, False)
        await ask(tree, "start_child", child(kind, "a"))  # the name is free again


async def test_a_call_to_a_supervisor_that_has_ended_fails_at_once(autojump_clock: Any) -> None:
    """Case 7. A call to a dead supervisor fails at once."""
    async with running(Supervisor.child_spec("inner", restart="temporary")) as tree:
        inner = tree.ref("inner")
        await ask(tree, "terminate_child", "inner")
        before = trio.current_time()
        with pytest.raises(ActorDead):
            await inner.proxy().which_children()

        assert before == trio.current_time()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("strategy", "all_for_one"),
        ("auto_shutdown", "always"),
        ("backoff", 3),
        ("max_abandoned", -1),
        ("intensity", -1),
        ("period", 0),
    ],
)
async def test_a_bad_flag_is_refused_before_anything_starts(field: str, value: Any) -> None:
    """Case 8. Each bad spec and flag: the named error."""
    with pytest.raises(BadSpec, match=f"supervisor 'inner': {field} is"):
        Supervisor.child_spec("inner", **{field: value})
    with pytest.raises(BadSpec, match="max_children"):
        DynamicSupervisor.child_spec("inner", max_children=-1)
    with pytest.raises(BadSpec, match="child 'a': significant"):
        ChildSpec("a", IoChild, significant="yes")  # type: ignore[arg-type]
    with pytest.raises(BadSpec, match="backoff: min"):
        Backoff(min=-1)
    with pytest.raises(BadSpec, match="backoff: max"):
        Backoff(min=2, max=1)


@every_kind
async def test_the_counts_of_a_tree_of_two_levels(kind: str) -> None:
    """Case 10. A tree of two levels: which_children newest first, counts right."""
    inner = Supervisor.child_spec("inner", [child(kind, "x"), child(kind, "y")])
    async with running(child(kind, "a"), inner) as tree:
        await ask(tree, "terminate_child", "x", of="inner")

        assert [info.id for info in await ask(tree, "which_children")] == ["inner", "a"]
        assert [info.id for info in await ask(tree, "which_children", of="inner")] == ["y", "x"]
        assert ChildCounts(2, 2, 0, 1, 1) == await ask(tree, "count_children")
        assert ChildCounts(2, 1, 0, 0, 2) == await ask(tree, "count_children", of="inner")


# Restarts


async def let_end(tree: Tree, id: str, end: str) -> None:
    """Let a child end in some way."""
    if end == "error":
        await injure(tree, id)
    elif end == "exit":
        await tree.crash(id, SystemExit(3))
    else:
        tree.ref(id)._place.stop(NORMAL, drain=False, administrative=False)
    await tree.wait_for(ChildEnded, child=id)
    await tree.settle()


@every_kind
@pytest.mark.parametrize("end", ["error", "exit", "normal"])
async def test_what_becomes_of_a_child_that_ends(kind: str, end: str) -> None:
    """Cases 11 to 13. Permanent: restarted after every kind of end; transient: not after an orderly one, but after an
    abnormal one; temporary: never, and its spec is gone."""
    restarts: tuple[Restart, ...] = ("permanent", "transient", "temporary")
    expected = dict.fromkeys(restarts, "running")
    async with running(*(child(kind, id, restart=id) for id in restarts)) as tree:
        for id in restarts:
            await let_end(tree, id, end)
            if id == "permanent" or (id == "transient" and end != "normal"):
                await tree.wait_for(ChildStarted, child=id, restart=1)
            elif id == "transient":
                expected[id] = "stopped"
            else:
                del expected[id]

            assert expected == await statuses(tree)


@every_kind
async def test_one_for_one_leaves_the_siblings_alone(kind: str) -> None:
    """Case 14. one_for_one: the sibling is the same instance after a crash."""
    diary = diary_for(kind)
    async with running(*(child(kind, id, diary) for id in "abc")) as tree:
        before = len(diary)
        await crash(tree, "b")

        assert await restarts(tree) == {"a": 0, "b": 1, "c": 0}
        assert {id for _, id in diary[before:]} == {"b"}


@every_kind
async def test_one_for_all_restarts_all(kind: str) -> None:
    """Case 15. one_for_all: no unsealed old instance lives."""
    diary = diary_for(kind)
    async with running(*(child(kind, id, diary) for id in "abc"), strategy="one_for_all") as tree:
        before = len(diary)
        await injure(tree, "b")
        await tree.wait_for(ChildStarted, child="c", restart=1)
        after = [entry for entry in diary[before:] if entry[0] != "started" and entry != ("stop", "b")]

        assert after == [("stop", "c"), ("stop", "a"), ("start", "a"), ("start", "b"), ("start", "c")]
        assert await restarts(tree) == {"a": 1, "b": 1, "c": 1}
        assert len(tree.of(RestartScheduled)) == 1  # one event counts once


@every_kind
async def test_rest_for_one_restarts_the_later_ones(kind: str) -> None:
    """Case 16. rest_for_one: the first unchanged, the crashed and the later ones new."""
    diary = diary_for(kind)
    async with running(*(child(kind, id, diary) for id in "abcd"), strategy="rest_for_one") as tree:
        before = len(diary)
        await injure(tree, "b")
        await tree.wait_for(ChildStarted, child="d", restart=1)
        after = [entry for entry in diary[before:] if entry[0] != "started" and entry != ("stop", "b")]

        assert after == [("stop", "d"), ("stop", "c"), ("start", "b"), ("start", "c"), ("start", "d")]
        assert await restarts(tree) == {"a": 0, "b": 1, "c": 1, "d": 1}


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@every_kind
async def test_a_temporary_bystander_is_stopped_and_forgotten(kind: str, strategy: Any) -> None:
    """A temporary child that is stopped with a sibling is not started again, and its spec is gone."""
    bystander = child(kind, "guest", restart="temporary")
    async with running(child(kind, "a"), bystander, child(kind, "b"), strategy=strategy) as tree:
        await injure(tree, "a")
        await tree.wait_for(ChildStarted, child="b", restart=1)

        assert await statuses(tree) == {"a": "running", "b": "running"}


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_what_an_administrator_stopped_stays_so_when_its_siblings_are_restarted(strategy: Any) -> None:
    """Only restart_child starts it again; a transient child that has ended by itself comes back with the others."""
    diary: list[Any] = []
    async with running(
        child("io", "a", diary),
        child("io", "held", diary),
        child("io", "done", diary, restart="transient"),
        child("io", "z", diary),
        strategy=strategy,
    ) as tree:
        await ask(tree, "terminate_child", "held")
        await tree.ref("done").call("finish")
        await tree.wait_for(ChildEnded, child="done")
        await injure(tree, "a")
        await tree.wait_for(ChildStarted, child="z", restart=1)

        assert await statuses(tree) == {"a": "running", "held": "stopped", "done": "running", "z": "running"}


async def end(tree: Tree, path: str, how: str) -> None:
    """End the instance of a child, and wait until its supervisor has seen it."""
    if how == "crash":
        await injure(tree, path)
    else:
        await tree.ref(path).call("finish")
    await tree.wait_for(ChildEnded, child=path)
    await tree.settle()


@every_messaged_kind
async def test_a_permanent_child_is_restarted_after_every_kind_of_end(kind: str) -> None:
    """Case 11. permanent: restarted after every kind of end."""
    async with running(child(kind, "a")) as tree:
        for restart, how in enumerate(("crash", "finish"), start=1):
            await end(tree, "a", how)
            if how == "finish":  # else it has been waited past already
                await tree.wait_for(ChildStarted, child="a", restart=restart)

        assert [str(report.reason).partition("(")[0] for report in tree.of(ChildEnded)] == ["error", "normal"]
        assert await restarts(tree) == {"a": 2}


@every_messaged_kind
async def test_a_transient_child_is_restarted_after_an_abnormal_end_only(kind: str) -> None:
    """Case 12. transient: not after an orderly one, but after an abnormal one."""
    async with running(child(kind, "a", restart="transient")) as tree:
        await crash(tree, "a")
        after_crash = await statuses(tree)
        await end(tree, "a", "finish")

        assert after_crash == {"a": "running"}
        assert (await statuses(tree), await restarts(tree)) == ({"a": "stopped"}, {"a": 1})


@every_messaged_kind
@pytest.mark.parametrize("how", ["crash", "finish"])
async def test_a_temporary_child_is_never_restarted_and_its_spec_is_gone(kind: str, how: str) -> None:
    """Case 13. temporary: never, and its spec is gone."""
    async with running(child(kind, "a", restart="temporary")) as tree:
        await end(tree, "a", how)

        assert (await statuses(tree), tree.of(RestartScheduled)) == ({}, [])


async def test_the_third_crash_of_two_allowed_ends_the_supervisor(autojump_clock: Any) -> None:
    """Case 17. intensity 2: the third crash in the window ends the supervisor with shutdown."""
    async with running(child("io", "a"), intensity=2, period=5.0) as tree:
        await crash(tree, "a", 2)
        await injure(tree, "a")

        assert str(await tree.ended) == "shutdown"
        assert [report.child for report in tree.of(GaveUp)] == ["a"]


async def test_the_window_slides(autojump_clock: Any) -> None:
    """Restarts that are older than the period do not count; one that is exactly so old does."""
    async with running(child("task", "a"), intensity=1, period=5.0) as tree:
        for _ in range(4):
            await crash(tree, "a")
            await trio.sleep(5.01)
        await crash(tree, "a")
        await trio.sleep(5.0)
        await injure(tree, "a")

        assert str(await tree.ended) == "shutdown"


@every_kind
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
async def test_a_restart_that_always_fails_ends_the_supervisor(kind: str, strategy: Any) -> None:
    """Case 18. A restart that always fails gives up."""
    starting = failing(float("inf"), after=1)
    children = (child(kind, "a"), child(kind, "b", starting=starting), child(kind, "c"))
    async with running(*children, strategy=strategy, intensity=3, period=3600.0) as tree:
        await injure(tree, "b")

        assert str(await tree.ended) == "shutdown"
        assert len(tree.of(ChildStartFailed, child="b")) == 3


async def test_the_retry_begins_where_the_strategy_says() -> None:
    """With rest_for_one from the child that failed to start; with one_for_all from everything."""
    for strategy, expected in (("rest_for_one", ["a", "b", "b", "c"]), ("one_for_all", ["a", "b", "a", "b", "c"])):
        diary: list[Any] = []
        children = (
            child("io", "a", diary),
            child("io", "b", diary, failing(1, after=1)),
            child("io", "c", diary),
        )
        async with running(*children, strategy=strategy) as tree:
            before = len(diary)
            await injure(tree, "a")
            await tree.wait_for(ChildStarted, child="c", restart=1)

            assert expected == [id for what, id in diary[before:] if what == "start"]


async def test_an_inner_supervisor_that_gives_up_comes_back_with_its_static_children(autojump_clock: Any) -> None:
    """Case 19. An inner supervisor gives up under one_for_all: all inner ones return, with their static children
    only."""
    inner = [Supervisor.child_spec(id, [child("io", f"{id}-static")], intensity=0) for id in ("left", "right")]
    async with running(*inner, strategy="one_for_all") as tree:
        await ask(tree, "start_child", child("io", "added"), of="left")
        added = tree.ref("added")
        await injure(tree, "right-static")
        await tree.wait_for(ChildStarted, child="right", restart=1)

        assert await restarts(tree) == {"left": 1, "right": 1}
        assert await restarts(tree, of="left") == {"left-static": 0}
        assert await restarts(tree, of="right") == {"right-static": 0}
        assert not added.is_alive()


# The end of significant children


async def finish(tree: Tree, path: str) -> None:
    await tree.ref(path).call("finish")
    await tree.wait_for(ChildEnded, child=path)


async def test_significant_children_take_their_supervisor_along() -> None:
    """Case 20. any_significant: a normal end of one stops all; all_significant: only after the last."""
    for flag, needed in (("any_significant", 1), ("all_significant", 2)):
        diary: list[Any] = []
        significant = [child("io", id, diary, restart="transient", significant=True) for id in ("s1", "s2")]
        async with running(child("io", "a", diary), *significant, auto_shutdown=flag) as tree:
            for number in range(1, needed + 1):
                assert not tree.ended.done()
                await finish(tree, f"s{number}")

            assert str(await tree.ended) == "shutdown"
            assert ("stop", "a") in diary


async def test_an_insignificant_end_and_a_restart_stop_nothing() -> None:
    """auto_shutdown looks only at significant children that are not restarted."""
    significant = child("io", "s", restart="transient", significant=True)
    async with running(child("io", "a", restart="transient"), significant, auto_shutdown="any_significant") as tree:
        await finish(tree, "a")
        await crash(tree, "s")

        assert await statuses(tree) == {"a": "stopped", "s": "running"}


async def test_terminating_a_significant_child_stops_nothing_else() -> None:
    """Case 21. terminate_child of a significant child stops nothing else."""
    significant = child("io", "s", restart="temporary", significant=True)
    async with running(child("io", "a"), significant, auto_shutdown="any_significant") as tree:
        await ask(tree, "terminate_child", "s")

        assert await statuses(tree) == {"a": "running"}


async def test_a_significant_child_has_to_fit() -> None:
    """Case 22. significant + permanent, significant + never: refused."""
    with pytest.raises(BadSpec, match="child 'a': significant is True, but a permanent"):
        child("io", "a", significant=True)
    spec = child("io", "a", significant=True, restart="transient")
    with pytest.raises(BadSpec, match="child 'a': significant is True, but auto_shutdown is 'never'"):
        Supervisor.child_spec("inner", [spec])
    async with running() as tree:
        with pytest.raises(BadSpec, match="significant"):
            await ask(tree, "start_child", spec)


# Stopping


class Slow(IoActor):
    """Takes its time to stop."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    async def on_stop(self) -> None:  # type: ignore[override]
        await trio.sleep(self.seconds)


async def slow_task(seconds: float) -> None:
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)


slow = pytest.mark.parametrize("start", [Slow, slow_task])


@slow
async def test_infinity_waits_however_long(start: Any, autojump_clock: Any) -> None:
    """Case 23. infinity: waits for a child that takes its time."""
    async with running(ChildSpec("a", start, args=(60.0,), shutdown="infinity")) as tree:
        before = trio.current_time()
        await tree.stop()

        assert trio.current_time() - before == pytest.approx(60)
        assert not tree.of(ChildStopFailed)


@slow
async def test_a_child_that_ignores_its_stop_is_killed(start: Any, autojump_clock: Any) -> None:
    """Case 24. A child that ignores stop is killed at its deadline and reported."""
    async with running(ChildSpec("a", start, args=(60.0,), shutdown=2.0)) as tree:
        before = trio.current_time()
        await tree.stop()

        assert trio.current_time() - before == pytest.approx(2)
        assert [(report.child, report.seconds) for report in tree.of(ChildStopFailed)] == [("a", 2.0)]
        assert [report.reason for report in tree.of(ChildEnded)] == [KILLED]


@slow
async def test_kill_asks_nobody(start: Any, autojump_clock: Any) -> None:
    """Case 25. "kill": ended at once, not reported."""
    async with running(ChildSpec("a", start, args=(60.0,), shutdown="kill")) as tree:
        before = trio.current_time()
        await tree.stop()

        assert (before, []) == (trio.current_time(), tree.of(ChildStopFailed))


@slow
async def test_a_dynamic_supervisor_stops_its_children_at_once(start: Any, autojump_clock: Any) -> None:
    """Case 26. A dynamic supervisor stops children that need 1, 1 and 5 s with limit 2 s in 2 s, not 4."""
    async with running(DynamicSupervisor.child_spec("pool")) as tree:
        for number, seconds in enumerate((1.0, 1.0, 5.0)):
            spec = ChildSpec(f"c{number}", start, args=(seconds,), shutdown=2.0)
            await ask(tree, "start_child", spec, of="pool")
        before = trio.current_time()
        await tree.stop()

        assert trio.current_time() - before == pytest.approx(2)


@every_kind
async def test_a_dynamic_supervisor_has_a_limit(kind: str) -> None:
    """Case 27. max_children reached: an error."""
    async with running(DynamicSupervisor.child_spec("pool", max_children=2)) as tree:
        for id in "ab":
            await ask(tree, "start_child", child(kind, id), of="pool")
        with pytest.raises(TooManyChildren, match="2"):
            await ask(tree, "start_child", child(kind, "c"), of="pool")
        await ask(tree, "terminate_child", "a", of="pool")
        await ask(tree, "start_child", child(kind, "c"), of="pool")

        assert await statuses(tree, of="pool") == {"b": "running", "c": "running"}


@every_kind
async def test_a_dynamic_child_can_be_terminated_by_reference(kind: str) -> None:
    """Case 28. terminate_child by reference, twice: fine, then not found."""
    async with running(DynamicSupervisor.child_spec("pool")) as tree:
        ref = await ask(tree, "start_child", child(kind, "a"), of="pool")
        await ask(tree, "terminate_child", ref, of="pool")
        with pytest.raises(NoSuchChild):
            await ask(tree, "terminate_child", ref, of="pool")


# Time


async def test_a_backoff_grows_up_to_a_limit_and_begins_anew(autojump_clock: Any) -> None:
    """Case 41. backoff: doubles, is capped, is reset."""
    backoff = Backoff(min=1.0, max=4.0, factor=2.0, jitter=0.0, reset_after=10.0)
    async with running(child("io", "a"), backoff=backoff, intensity=100) as tree:
        await crash(tree, "a", 4)
        await trio.sleep(10.0)
        before = trio.current_time()
        await crash(tree, "a")

        assert [report.delay for report in tree.of(RestartScheduled)] == [1.0, 2.0, 4.0, 4.0, 1.0]
        assert [report.attempt for report in tree.of(RestartScheduled)] == [1, 2, 3, 4, 1]
        assert trio.current_time() - before == pytest.approx(1)


async def test_a_supervisor_answers_while_it_waits_to_restart(autojump_clock: Any) -> None:
    """Between two attempts the child is `restarting`; it can be terminated, and the supervisor can stop."""
    async with running(child("io", "a"), child("io", "b"), backoff=Backoff(min=3600, max=3600)) as tree:
        before = trio.current_time()
        await injure(tree, "a")
        await injure(tree, "b")
        first = await statuses(tree)
        await ask(tree, "terminate_child", "a")

        assert (
            first,
            await statuses(tree),
        ) == ({"a": "restarting", "b": "restarting"}, {"a": "stopped", "b": "restarting"})
        await tree.stop()
        assert before == trio.current_time()


@every_kind
async def test_a_supervisor_answers_while_a_child_hangs(kind: str) -> None:
    """A start that hangs holds up nobody but who asked for it: others are started, the hanging one can be ended."""
    go = threading.Event()
    blocking = kind in ("cpu", "foreign", "process")

    def hang() -> None:
        go.wait(LIMIT)

    def hang_for_ever() -> None:
        signal.pause()

    class Hanging(IoActor):
        async def on_start(self) -> None:  # type: ignore[override]
            await trio.sleep_forever()

    class HangingInAsyncio(AsyncioActor):
        async def on_start(self) -> None:  # type: ignore[override]
            await asyncio.get_running_loop().create_future()

    async def hanging(*, task_status: Any) -> None:
        await trio.sleep_forever()

    starts: dict[str, Any] = {"io": Hanging, "asyncio": HangingInAsyncio, "task": hanging}
    spec = (
        child(kind, "slow", starting=hang_for_ever if kind == "process" else hang, shutdown=0.01)
        if blocking
        else ChildSpec("slow", starts[kind], shutdown=0.01)
    )
    async with running(child(kind, "a")) as tree:
        starting = tree.ref().proxy().start_child(spec)
        await ask(tree, "start_child", child(kind, "b"))
        during = await statuses(tree)
        await ask(tree, "terminate_child", "slow")
        with pytest.raises(StartFailed):
            await starting
        go.set()

        assert during == {"a": "running", "slow": "starting", "b": "running"}
        assert await statuses(tree) == {"a": "running", "b": "running"}


async def test_a_killed_supervisor_restarts_nothing_any_more(autojump_clock: Any) -> None:
    """What it was about to do ends with it, and so does not disturb its next instance."""
    del autojump_clock
    backoff = Backoff(min=100, max=100, jitter=0)
    inner = Supervisor.child_spec("inner", [child("io", "a")], backoff=backoff, shutdown="kill")
    async with running(inner) as tree:
        await injure(tree, "inner/a")
        await tree.wait_for(RestartScheduled, child="inner/a")
        await ask(tree, "terminate_child", "inner")
        await ask(tree, "restart_child", "inner")
        before = len(tree.reports)
        await trio.sleep(200)

        assert tree.reports[before:] == []
        assert await statuses(tree, "inner") == {"a": "running"}


# Places and mailboxes


@every_messaged_kind
async def test_what_is_queued_survives_a_crash_in_order(kind: str) -> None:
    """Case 44. Queued tells survive a crash and are handled by the new instance, in order; the failing one is not."""
    diary = diary_for(kind)
    async with running(child(kind, "a", diary)) as tree:
        ref = tree.ref("a")
        await ref.call("before")
        for message in ("one", ValueError("two"), "three", "four"):
            ref.tell(message)
        await tree.wait_for(ChildStarted, child="a", restart=1)
        await ref.call("last")

        assert [what for id, what in diary if id == "a"] == ["before", "one", "three", "four", "last"]


Words = list[tuple[str, bool]]


async def end_in_order(tree: Tree, path: str) -> None:
    """Let a child end in order, by itself, and wait until its supervisor has seen it."""
    tree.ref(path)._place.stop(NORMAL, drain=False, administrative=False)
    await tree.wait_for(ChildEnded, child=path)
    await tree.settle()


async def stop_by_ref(tree: Tree, path: str) -> None:
    """Stop a child as whoever has its ref may."""
    tree.ref(path).stop(block=False)
    await tree.wait_for(ChildEnded, child=path)
    await tree.settle()


async def terminate(tree: Tree, path: str) -> None:
    """Have a child stopped by its supervisor."""
    above, _, id = path.rpartition("/")
    await ask(tree, "terminate_child", id, of=above or "/")


# {how child `a` ends: (its spec's options, its supervisor's, what is done, what a watcher is told: (reason, closed))}
ENDS: dict[str, tuple[dict[str, Any], dict[str, Any], Callable[[Tree], Any], Words]] = {
    "temporary, crashed": ({"restart": "temporary"}, {}, lambda t: injure(t, "a"), [("error", True)]),
    "temporary, finished": ({"restart": "temporary"}, {}, lambda t: end_in_order(t, "a"), [("normal", True)]),
    "temporary, terminated": ({"restart": "temporary"}, {}, lambda t: terminate(t, "a"), [("shutdown", True)]),
    "temporary, stopped by its ref": ({"restart": "temporary"}, {}, lambda t: stop_by_ref(t, "a"), [("normal", True)]),
    "temporary, killed": (
        {"restart": "temporary", "shutdown": "kill"},
        {},
        lambda t: terminate(t, "a"),
        [("killed", True)],
    ),
    "temporary, stopped with a sibling": (
        {"restart": "temporary"},
        {"strategy": "one_for_all"},
        lambda t: crash(t, "b"),
        [("shutdown", True)],
    ),
    "temporary, renewed": (
        {"restart": "temporary"},
        {},
        lambda t: ask(t, "renew_child", "a"),
        [("shutdown", False), ("shutdown", True)],
    ),
    "transient, finished": (
        {"restart": "transient"},
        {},
        lambda t: end_in_order(t, "a"),
        [("normal", False), ("shutdown", True)],
    ),
    "transient, crashed": (
        {"restart": "transient"},
        {},
        lambda t: injure(t, "a"),
        [("error", False), ("shutdown", True)],
    ),
    "permanent, finished": ({}, {}, lambda t: end_in_order(t, "a"), [("normal", False), ("shutdown", True)]),
    "permanent, stopped with a sibling": (
        {},
        {"strategy": "one_for_all"},
        lambda t: crash(t, "b"),
        [("shutdown", False), ("shutdown", True)],
    ),
    "permanent, terminated": ({}, {}, lambda t: terminate(t, "a"), [("shutdown", False), ("shutdown", True)]),
    "permanent, given up": ({}, {"intensity": 0}, lambda t: injure(t, "a"), [("error", False), ("shutdown", True)]),
    "permanent, its supervisor gives up": ({}, {"intensity": 0}, lambda t: injure(t, "b"), [("shutdown", True)]),
    "permanent, killed at the end": ({"shutdown": "kill"}, {}, lambda _t: trio.sleep(0), [("killed", True)]),
    "permanent, until the end": ({}, {}, lambda _t: trio.sleep(0), [("shutdown", True)]),
}


# What a supervisor decides is the same for all kinds; how an instance ends is not.
KINDS_AND_ENDS = [
    *((kind, how) for kind in ("io", "cpu") for how in ENDS),
    *(
        (kind, how)
        for kind in ("task", "foreign", "process")
        for how in ("temporary, crashed", "temporary, terminated", "temporary, killed", "transient, finished")
    ),
]


@pytest.mark.parametrize(("kind", "how"), KINDS_AND_ENDS)
async def test_each_end_is_told_once_and_the_last_one_as_such(kind: str, how: str) -> None:
    """Case 40. watch: one Down for each end of an instance; the one after which no instance can follow has `closed`; if
    that is known only later (given up while restarting), one more Down, `closed`, follows."""
    options, flags, act, expected = ENDS[how]
    downs: list[Any] = []
    async with running(child(kind, "a", **options), child(kind, "b"), **flags) as tree:
        tree.ref("a").watch(downs.append)
        with trio.fail_after(LIMIT):
            await act(tree)
            await tree.settle()

    assert [(down.reason.kind, down.closed) for down in downs] == expected


async def crash_inner(tree: Tree) -> None:
    """Crash a supervisor, and wait until its child is started again."""
    await injure(tree, "inner")
    await tree.wait_for(ChildStarted, child="inner", restart=1)


# {how `inner/a` ends: (the spec of its supervisor, what is done, what a watcher is told)}
ENDS_BELOW: dict[str, tuple[Callable[[ChildSpec], ChildSpec], Callable[[Tree], Any], Words]] = {
    "with a supervisor that is temporary": (
        lambda a: Supervisor.child_spec("inner", [a], restart="temporary"),
        lambda t: terminate(t, "inner"),
        [("shutdown", True)],
    ),
    "with a supervisor that is killed for good": (
        lambda a: Supervisor.child_spec("inner", [a], restart="temporary", shutdown="kill"),
        lambda t: terminate(t, "inner"),
        [("killed", True)],
    ),
    "with a supervisor that can be restarted": (
        lambda a: Supervisor.child_spec("inner", [a]),
        lambda t: terminate(t, "inner"),
        [("shutdown", False), ("shutdown", True)],
    ),
    "with a supervisor that is restarted": (
        lambda a: Supervisor.child_spec("inner", [a], intensity=0),
        crash_inner,
        [("shutdown", False), ("shutdown", True)],
    ),
    "with the whole tree": (
        lambda a: Supervisor.child_spec("inner", [a]),
        lambda _t: trio.sleep(0),
        [("shutdown", True)],
    ),
}


@pytest.mark.parametrize("kind", ["io", "cpu"])
@pytest.mark.parametrize("how", ENDS_BELOW)
async def test_the_end_of_a_supervisor_is_the_last_of_its_children_if_it_is_its_own(kind: str, how: str) -> None:
    """Case 40. A child that ends with its supervisor ends for good if that does, and may come back with it if not."""
    make, act, expected = ENDS_BELOW[how]
    downs: list[Any] = []
    async with running(make(child(kind, "a"))) as tree:
        tree.ref("inner/a").watch(downs.append)
        with trio.fail_after(LIMIT):
            await act(tree)
            await tree.settle()

    assert [(down.reason.kind, down.closed) for down in downs] == expected


# {how `pool/a` ends, whose supervisor is a dynamic one: (when it is restarted, what is done, what a watcher is told)}
ENDS_IN_POOL: dict[str, tuple[Any, Callable[[Tree], Any], Words]] = {
    "transient, finished": ("transient", lambda t: end_in_order(t, "pool/a"), [("normal", True)]),
    "transient, crashed": ("transient", lambda t: injure(t, "pool/a"), [("error", False), ("shutdown", True)]),
    "permanent, terminated": ("permanent", lambda t: terminate(t, "pool/a"), [("shutdown", True)]),
    "permanent, stopped by its ref": ("permanent", lambda t: stop_by_ref(t, "pool/a"), [("normal", True)]),
    "permanent, its supervisor ends": ("permanent", lambda t: terminate(t, "pool"), [("shutdown", True)]),
    "permanent, renewed": (
        "permanent",
        lambda t: ask(t, "renew_child", "a", of="pool"),
        [("shutdown", False), ("shutdown", True)],
    ),
    "permanent, its supervisor crashes": ("permanent", lambda t: injure(t, "pool"), [("shutdown", True)]),
}


@pytest.mark.parametrize("kind", ["io", "cpu"])
@pytest.mark.parametrize("how", ENDS_IN_POOL)
async def test_a_child_whose_spec_goes_with_it_ends_for_good(kind: str, how: str) -> None:
    """Case 40. A dynamic supervisor starts again what crashed, and nothing else."""
    restart, act, expected = ENDS_IN_POOL[how]
    downs: list[Any] = []
    async with running(DynamicSupervisor.child_spec("pool")) as tree:
        await ask(tree, "start_child", child(kind, "a", restart=restart), of="pool")
        tree.ref("pool/a").watch(downs.append)
        with trio.fail_after(LIMIT):
            await act(tree)
            await tree.settle()

    assert [(down.reason.kind, down.closed) for down in downs] == expected


@every_kind
async def test_a_child_that_never_starts_again_is_closed_when_its_supervisor_gives_up(kind: str) -> None:
    """Case 40. One Down for its end; one more when it is known that no instance can follow."""
    downs: list[Any] = []
    async with running(child(kind, "a", starting=failing(9, after=1)), intensity=2, period=3600.0) as tree:
        tree.ref("a").watch(downs.append)
        with trio.fail_after(LIMIT):
            await injure(tree, "a")
            await tree.ended

    assert [(down.reason.kind, down.closed) for down in downs] == [("error", False), ("shutdown", True)]


@every_kind
async def test_who_watches_the_dead_is_answered_at_once_and_who_unwatches_never(kind: str) -> None:
    """Case 40. watch: at once if already dead; none after unwatch."""
    async with running(child(kind, "a")) as tree:
        ref = tree.ref("a")
        ref.watch(lambda _down: pytest.fail("unwatched")).cancel()
        await ask(tree, "terminate_child", "a")
        kept = ref.watch()
        await ask(tree, "delete_child", "a")
        deleted = ref.watch()

        assert [(down.reason.kind, down.closed) for down in (await kept, await deleted)] == [
            ("noproc", False),
            ("noproc", True),
        ]


@pytest.mark.parametrize("kind", ["cpu", "foreign", "process"])
async def test_an_actor_that_stops_while_it_is_asked_leaves_nobody_waiting(kind: str) -> None:
    """Case 42. A call to an actor that stops while handling it: an error, never a hang."""
    with opened_at_the_end() as make_door:
        door = door_for(kind, make_door)
        async with running(child(kind, "a", shutdown=0.01)) as tree:
            token = tree.ref("a").ask(door.pass_through, block=False)
            await trio.to_thread.run_sync(door.wait_reached)
            await ask(tree, "terminate_child", "a")
            error = token.exception()
            door.open()

            assert error is not None


async def test_a_full_mailbox_keeps_its_size_and_its_order() -> None:
    """Case 29. Bounded mailbox: the 11th of 10 goes to dead letters, size stays 10, the first comes out first."""

    class Small(IoActor):
        capacity, overflow = 10, "reject"
        seen: list[int] = []  # noqa: RUF012

        def on_receive(self, message: int) -> None:
            self.seen.append(message)

    letters: list[Any] = []
    async with running(ChildSpec("a", Small)) as tree:
        tree.system.subscribe(lambda event: letters.append(event) if isinstance(event, DeadLetter) else None)
        ref = tree.ref("a")
        for number in range(10):
            ref.tell(number)
        with pytest.raises(MailboxFull):
            ref.tell(10)
        size = ref.actor_inbox.size
        await tree.settle()

        assert (10, 1, list(range(10))) == (size, len(letters), Small.seen)


@every_messaged_kind
async def test_a_dead_actor_answers_at_once(kind: str) -> None:
    """Case 36. tell to a dead actor raises; ask fails at once, not at its timeout."""
    async with running(child(kind, "a")) as tree:
        ref = tree.ref("a")
        await ask(tree, "terminate_child", "a")
        with pytest.raises(ActorDead):
            ref.tell("x")
        with pytest.raises(ActorDead):
            await ref.call("x")


async def test_a_name_is_given_once() -> None:
    """Case 43. A name already taken: an error."""
    async with running(child("io", "a"), DynamicSupervisor.child_spec("pool")) as tree:
        with pytest.raises(AlreadyStarted):
            await ask(tree, "start_child", child("io", "a"))
        tree.system.place("pool/x", IoChild, ("x", []))
        with pytest.raises(NameTaken, match="pool/x"):
            await ask(tree, "start_child", child("io", "x"), of="pool")


@pytest.mark.parametrize("base", [CpuActor, ProcessActor])
async def test_a_child_may_ask_its_stopping_supervisor(base: Any) -> None:
    """Case 45. A child that asks its stopping supervisor gets an error, not a deadlock."""
    errors: Any = SharedList()
    patience = LIMIT

    class Asking(base):  # type: ignore[misc]
        def on_receive(self, message: Any) -> None:
            self.root = message

        def on_stop(self) -> None:
            try:
                self.root.proxy().which_children().result(patience)
            except Exception as error:
                errors.append(type(error).__name__)

    async with running(ChildSpec("a", Asking), child("io", "b")) as tree:
        await tree.ref("a").call(tree.ref())
        await tree.stop()

    assert errors == ["ActorDead"]


@pytest.mark.parametrize("kind", ["cpu", "foreign", "process"])
async def test_an_ask_that_times_out_says_whom_and_how_long(kind: str) -> None:
    """Case 39. An ask that times out names the target and the time; a late reply becomes a dead letter."""
    with opened_at_the_end() as make_door:
        door = door_for(kind, make_door)
        async with running(child(kind, "a")) as tree:
            ref = tree.ref("a")

            def ask_too_briefly() -> None:
                with pytest.raises(WaitTimeout, match=r"'a' did not answer .* within 0.01 s"):
                    ref.ask(door.pass_through, timeout=0.01)

            await trio.to_thread.run_sync(ask_too_briefly)
            door.open()
            await ref.call("next")


async def test_the_phases_are_what_operators_read() -> None:
    """A child starts, runs, stops, is stopped, or is being restarted."""
    assert {"starting", "running", "stopping", "restarting", "stopped"} == set(Phase)


class Sluggish(IoActor):
    """Takes a second to start again, and half a second to stop."""

    def __init__(self, starts: list[str]) -> None:
        super().__init__()
        self.starts = starts

    async def on_start(self) -> None:  # type: ignore[override]
        self.starts.append("begun")
        if len(self.starts) > 1:
            await trio.sleep(1.0)

    async def on_stop(self) -> None:  # type: ignore[override]
        await trio.sleep(0.5)


async def test_a_child_that_is_being_restarted_when_its_supervisor_stops_is_stopped_too(autojump_clock: Any) -> None:
    """Even when siblings after it take their time: no instance outlives its supervisor or is in the way of the next."""
    starts: list[str] = []
    office = Supervisor.child_spec(
        "office", [ChildSpec("clerk", Sluggish, args=(starts,)), ChildSpec("slow", Sluggish, args=([],))]
    )
    async with running(office) as tree:
        await injure(tree, "clerk")
        assert starts == ["begun", "begun"]
        await ask(tree, "terminate_child", "office")
        left = tree.system.find("office/clerk").can_drain()
        await ask(tree, "restart_child", "office")

        assert (left, await statuses(tree, "office")) == (False, {"clerk": "running", "slow": "running"})
