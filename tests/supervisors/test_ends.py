"""Why children have ended: what a supervisor keeps of it, and for how long."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
from tiers import in_ci
from trio.testing import MockClock

from actors import CpuActor
from supervisors import (
    Backoff,
    ChildEnd,
    ChildEnded,
    ChildSpec,
    ChildStarted,
    DynamicSupervisor,
    GaveUp,
    RestartScheduled,
    RestartWindow,
    Supervisor,
    ends_at,
)
from supervisors.testing import Tree, running
from tests.supervisors.kinds import IoChild, child, diary_for, failing

if TYPE_CHECKING:
    from tests.supervisors.conftest import Tree as ThreadsTree

LIMIT = 30.0


async def ends_of(tree: Tree, id: str, of: str = "/") -> tuple[ChildEnd, ...]:
    """Return what a supervisor says of the ends of a child."""
    with trio.fail_after(LIMIT):
        infos = await tree.ref(of).proxy().which_children()
    [ends] = [info.ends for info in infos if info.id == id]
    return ends


async def crash(tree: Tree, path: str, message: Any = None, restart: int = 1) -> Any:
    """Crash a child in a token, wait until it has been restarted, and return the token."""
    token = tree.ref(path).ask(ValueError(path) if message is None else message, block=False)
    with trio.fail_after(LIMIT):
        with pytest.raises(Exception):  # noqa: B017, PT011  # also that of a process that dies
            await token
        await tree.wait_for(ChildStarted, child=path, restart=restart)
    return token


def are_plain(values: Iterable[Any]) -> bool:
    """Tell whether values are of built-in types, those in tuples as well."""
    known = str, int, float, bool, type(None)
    return all(are_plain(one) if type(one) is tuple else type(one) in known for one in values)


@pytest.mark.trio
@pytest.mark.parametrize("kind", ["io", "asyncio", "cpu", "process"])
async def test_an_end_names_its_error_and_its_token(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the time, and what came of it; in values of built-in types, which keep no token and no error alive."""
    monkeypatch.setattr("supervisors._ends.time", SimpleNamespace(time=lambda: 1_000.5))
    async with running(child(kind, "a"), child(kind, "b")) as tree:
        token = await crash(tree, "a")

        assert await ends_of(tree, "b") == ()
        [end] = await ends_of(tree, "a")
        [ended] = tree.of(ChildEnded, child="a")
        assert end == ChildEnd(1_000.5, str(ended.reason), "ValueError", (token.id, token.operation), True, 0.0)
        assert "ValueError('a')" in end.reason
        assert are_plain(attrs.astuple(end, recurse=False))


@in_ci
@pytest.mark.trio
async def test_a_process_that_dies_names_the_token_that_it_ran() -> None:
    """And none, if it dies in none."""
    async with running(child("process", "a"), intensity=5) as tree:
        token = await crash(tree, "a", partial(signal.raise_signal, signal.SIGKILL))
        await tree.crash("a")
        with trio.fail_after(LIMIT):
            await tree.wait_for(ChildStarted, child="a", restart=2)

        first, second = await ends_of(tree, "a")
        assert (first.error, first.token) == ("WorkerDied", (token.id, token.operation))
        assert (second.error, second.token) == ("InjectedCrash", None)


@pytest.mark.trio
async def test_the_latest_eight_ends_are_kept() -> None:
    """However many there were, and however long their errors are."""
    async with running(child("io", "a"), intensity=100) as tree:
        tokens = [await crash(tree, "a", ValueError("x" * 10_000), number) for number in range(1, 11)]

        ends = await ends_of(tree, "a")
        assert [end.token for end in ends] == [(token.id, token.operation) for token in tokens[-8:]]
        assert {len(end.reason) for end in ends} == {500}


@pytest.mark.trio
async def test_a_child_that_has_never_ended_has_nothing_made_for_it() -> None:
    """Memory and time are spent at the first end."""
    async with running(child("io", "a"), child("io", "b")) as tree:
        await crash(tree, "a")

        keepers: list[Any] = [tree._place(id).keeper for id in ("a", "b")]
        assert [keeper.ends is None for keeper in keepers] == [False, True]
        assert ends_at(tree._place("b")) == ()


async def _delayed() -> list[tuple[bool, float | None]]:
    backoff = Backoff(min=60.0, max=600.0, factor=2.0, jitter=0.0)
    async with running(child("io", "a", starting=failing(1, after=1)), backoff=backoff) as tree:
        seen = []
        await tree.crash("a")
        for _ in range(2):
            await tree.settle()
            seen += [(end.restarted, end.delay) for end in (await ends_of(tree, "a"))[-1:]]
            await trio.sleep(130.0)
        ends = await ends_of(tree, "a")
        assert [end.error for end in ends] == ["InjectedCrash", "StartFailed"]
        return seen + [(end.restarted, end.delay) for end in ends]


def test_an_end_has_the_delay_of_its_restart_before_it_comes_and_a_failed_restart_is_one_more_end() -> None:
    """`restarted` says whether the instance has started; a restart that fails has a reason of its own."""
    first, second, *ends = trio.run(_delayed, clock=MockClock(autojump_threshold=0))

    assert [first, second] == [(False, 60.0), (False, 120.0)]
    assert ends == [(False, 60.0), (True, 120.0)]


@pytest.mark.trio
async def test_siblings_that_are_restarted_along_have_ended_in_order() -> None:
    """They were at no token, and share the delay."""
    async with running(child("io", "a"), child("io", "b"), strategy="one_for_all") as tree:
        await crash(tree, "a")
        with trio.fail_after(LIMIT):
            await tree.wait_for(ChildStarted, child="b", restart=1)

        [end] = await ends_of(tree, "b")
        assert (end.reason, end.error, end.token, end.restarted, end.delay) == ("shutdown", "", None, True, 0.0)


@pytest.mark.trio
async def test_ends_outlive_the_instance_of_a_supervisor_that_has_given_up() -> None:
    """They say why it has; the window of its next instance is a new one."""
    inner = Supervisor.child_spec("inner", [child("io", "a")], intensity=1)
    async with running(inner) as tree:
        await crash(tree, "inner/a")
        window = await tree.ref("inner").proxy().restart_window()
        assert (window.used, window.allowed, window.period) == (1, 1, 5.0)
        assert 0.0 <= window.frees_in <= 5.0
        await tree.crash("inner/a")
        with trio.fail_after(LIMIT):
            await tree.wait_for(ChildStarted, child="inner", restart=1)

        assert len(tree.of(GaveUp, child="inner/a")) == 1
        [own] = await ends_of(tree, "inner")
        assert (own.reason, own.restarted) == ("shutdown", True)
        ends = await ends_of(tree, "a", "inner")
        assert [(end.error, end.restarted, end.delay) for end in ends] == [
            ("ValueError", True, 0.0),
            ("InjectedCrash", True, None),
        ]
        assert await tree.ref("inner").proxy().restart_window() == RestartWindow(0, 1, 5.0, None)


@pytest.mark.trio
async def test_a_child_of_a_killed_supervisor_has_been_killed() -> None:
    """It is known as well when its own supervisor had no time to see it."""
    inner = Supervisor.child_spec("inner", [child("io", "a")], shutdown="kill")
    async with running(inner, child("io", "b"), strategy="one_for_all") as tree:
        await crash(tree, "b")  # the later sibling: the others have started again before it

        assert [(end.reason, end.restarted) for end in await ends_of(tree, "inner")] == [("killed", True)]
        assert [(end.reason, end.restarted) for end in await ends_of(tree, "a", "inner")] == [("killed", True)]


@pytest.mark.trio
async def test_what_a_request_ends_has_ended_in_order() -> None:
    """A later request that starts it again counts as a restart without a delay."""
    async with running(child("io", "a")) as tree:
        root = tree.ref().proxy()
        with trio.fail_after(LIMIT):
            await root.terminate_child("a")
            [stopped] = await ends_of(tree, "a")
            await root.restart_child("a")
            await root.renew_child("a")

        assert (stopped.reason, stopped.restarted, stopped.delay) == ("shutdown", False, None)
        ends = await ends_of(tree, "a")
        assert [(end.reason, end.restarted, end.delay) for end in ends] == [("shutdown", True, None)] * 2


@pytest.mark.trio
async def test_a_dynamic_child_that_is_gone_for_good_leaves_nothing() -> None:
    """The next child of its name begins without ends; one that is restarted keeps them."""
    async with running(DynamicSupervisor.child_spec("pool")) as tree:
        pool = tree.ref("pool").proxy()
        with trio.fail_after(LIMIT):
            for restart in ("temporary", "permanent"):
                await pool.start_child(ChildSpec("a", IoChild, args=("a", diary_for("io"), None), restart=restart))
                place = tree._place("pool/a")
                assert ends_at(place) == ()
                if restart == "temporary":
                    token = tree.ref("pool/a").ask(ValueError("a"), block=False)
                    with pytest.raises(ValueError, match="a"):
                        await token
                    await tree.wait_for(ChildEnded, child="pool/a")
                    await tree.settle()
                    assert ends_at(place) == ()
        await crash(tree, "pool/a")
        assert [end.restarted for end in ends_at(place)] == [True]


class Hanging(CpuActor):
    """Holds its thread in code that nobody can interrupt, and then raises."""

    def __init__(self, *_of_a_worker: object) -> None:
        super().__init__()

    def crash(self, error: BaseException) -> None:
        raise error

    def hold(self, door: Any) -> None:
        door.wait_here()
        raise ValueError("too late")


@pytest.mark.parametrize("worker", [Hanging])
def test_a_kill_names_the_token_and_what_that_does_later_is_no_part_of_the_next_end(tree: ThreadsTree) -> None:
    """The thread that is left behind raises when another instance is at its place."""
    children = tree.child("first"), tree.child("second", shutdown="kill")
    root = tree.start(*children, strategy="one_for_all").proxy()
    door = tree.door()
    token = tree.ref("second").proxy().hold(door)
    door.wait_for_entry()
    tree.crash("first")
    tree.wait_for_restart("second")
    [sealed] = tree.system.statistics().abandoned
    door.open()
    for thread in threading.enumerate():
        if thread.name == sealed:
            thread.join(LIMIT)
    root.terminate_child("second").result(LIMIT)

    killed, ended = tree.children()["second"].ends
    assert (killed.reason, killed.token, killed.restarted) == ("killed", (token.id, "Hanging.hold"), True)
    assert (ended.reason, ended.token) == ("killed", None)
    assert len(tree.reports.of(RestartScheduled)) == 1
