"""What supervisors do about children that cannot be ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from actors import KILLED, CpuActor
from supervisors import ChildStopFailed, GaveUp, Supervisor

if TYPE_CHECKING:
    from tests.supervisors.conftest import Tree

PATIENCE = 30.0


class Stubborn(CpuActor):
    """Holds its thread in code that nobody can interrupt."""

    def __init__(self, *_of_a_worker: object) -> None:
        super().__init__()

    def crash(self, error: BaseException) -> None:
        raise error

    def hold(self, door: Any) -> None:
        door.wait_here()


def hang(tree: Tree, path: str) -> None:
    """Have a child hang in a step."""
    door = tree.door()
    tree.ref(path).proxy().hold(door)
    door.wait_for_entry()


only_threads: Callable[..., Any] = pytest.mark.parametrize("worker", [Stubborn])


@only_threads
def test_a_supervisor_that_has_left_too_many_threads_behind_gives_up(tree: Tree) -> None:
    """A restart that may leave one more behind is not tried: it ends, and says how many there are."""
    children = tree.child("crashing"), tree.child("hanging", shutdown="kill")
    tree.start(*children, strategy="one_for_all", intensity=100, max_abandoned=1)
    for number in (1, 2):
        hang(tree, "hanging")
        tree.crash("crashing")
        tree.wait_for_restart("crashing", number)
        tree.wait_for_restart("hanging", number)
        assert tree.reports.of(GaveUp) == []

    tree.crash("crashing")

    assert tree.ended.result(PATIENCE).orderly
    assert [report.abandoned for report in tree.reports.of(GaveUp)] == [2]


@only_threads
def test_a_supervisor_that_is_killed_takes_all_below_it_along(tree: Tree) -> None:
    """It has a limit, and a child of its own hangs: when the limit is over nobody below it lives."""
    below = tree.child("idle"), tree.child("hanging", shutdown="infinity")
    root = tree.start(Supervisor.child_spec("inner", below, shutdown=0.05)).proxy()
    hang(tree, "inner/hanging")
    downs = [tree.ref(path).watch() for path in ("inner", "inner/idle", "inner/hanging")]

    root.terminate_child("inner").result(PATIENCE)

    assert [down.result(PATIENCE).reason for down in downs] == [KILLED] * 3
    assert [report.child for report in tree.reports.of(ChildStopFailed)] == ["inner"]


def test_a_supervisor_that_was_killed_finds_its_children_again(tree: Tree) -> None:
    """Its next instance has the places of those that are there from the start; the others are gone."""
    root = tree.start(Supervisor.child_spec("inner", [tree.child("static")], shutdown="kill")).proxy()
    tree.ref("inner").proxy().start_child(tree.child("dynamic")).result(PATIENCE)
    ref = tree.ref("inner/static")
    root.terminate_child("inner").result(PATIENCE)
    root.restart_child("inner").result(PATIENCE)

    assert list(tree.children("inner")) == ["static"]
    assert tree.ref("inner/static") is ref
