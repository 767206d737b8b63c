"""What a dynamic supervisor does: children that come and go at run time.

All of it holds for children that are started by a request, and for those that `start_at_once` starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from actors import SHUTDOWN, ActorDead, ActorRef, StartFailed, TokenState, UnknownActor
from supervisors import (
    BadSpec,
    ChildEnded,
    ChildError,
    ChildSpec,
    ChildStarted,
    ChildStartFailed,
    DynamicSupervisor,
    GaveUp,
    Restart,
    RestartScheduled,
    Supervisor,
    start_at_once,
)

if TYPE_CHECKING:
    from tests.supervisors.conftest import Tree

PATIENCE = 30.0

AT_ONCE = False  # whether children are started without a request to the supervisor


@pytest.fixture(params=[False, True], ids=["request", "at_once"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.AT_ONCE", request.param)


def fail() -> None:
    raise ValueError("no")


def start_pool(tree: Tree, **options: Any) -> None:
    """Start a tree with a dynamic supervisor, called `pool`, and a static sibling."""
    tree.start(tree.child("static"), DynamicSupervisor.child_spec("pool", **options))


def start_child(tree: Tree, spec: ChildSpec) -> ActorRef[Any]:
    """Have the pool start a child."""
    pool = tree.ref("pool")
    started: Any = start_at_once(pool, spec, here=True) if AT_ONCE else None
    ref: ActorRef[Any] = (pool.proxy().start_child(spec) if started is None else started).result(PATIENCE)
    return ref


def wait_for_end(tree: Tree, path: str) -> None:
    """Wait until the child with this path has ended, and its supervisor has dealt with that."""
    tree.reports.wait_for(
        lambda reports: any(isinstance(report, ChildEnded) and report.child == path for report in reports)
    )
    tree.children("pool")


def test_it_starts_without_children(tree: Tree) -> None:
    """Its children come at run time only."""
    start_pool(tree)

    assert tree.children("pool") == {}


def test_a_child_is_started_when_it_is_asked_for(tree: Tree) -> None:
    """start_child returns the ref once `on_start` has ended."""
    start_pool(tree)
    ref = start_child(tree, tree.child("guest"))

    assert (ref.path, tree.diary.entries[2:]) == ("pool/guest", ["guest starts", "guest started"])


def test_children_are_shown_the_newest_first(tree: Tree) -> None:
    """which_children: newest first."""
    start_pool(tree)
    for name in "abc":
        start_child(tree, tree.child(name))

    assert list(tree.children("pool")) == ["c", "b", "a"]


def test_an_id_that_is_running_is_refused(tree: Tree) -> None:
    """A name already taken: an error; the child that has it goes on."""
    start_pool(tree)
    start_child(tree, tree.child("guest"))
    serial = tree.serial("guest")

    with pytest.raises(ChildError, match="'guest'"):
        start_child(tree, tree.child("guest"))
    assert (serial, []) == (tree.serial("guest"), tree.reports.of(RestartScheduled))


def test_an_error_of_a_caller_is_no_crash_of_the_supervisor(tree: Tree) -> None:
    """A refused request is an answer; the supervisor and its children live on."""
    start_pool(tree)
    guest = start_child(tree, tree.child("guest"))
    for spec in (tree.child("guest"), tree.child("late", starting=fail)):
        with pytest.raises((ChildError, StartFailed)):
            start_child(tree, spec)

    assert (guest.is_alive(), list(tree.children("pool"))) == (True, ["guest"])


@pytest.mark.parametrize("nested", [False, True])
def test_a_child_that_fails_to_start_leaves_nothing_behind(tree: Tree, nested: bool) -> None:
    """Start raises when `on_start` fails; nothing half-started stays registered, and the id is free."""
    start_pool(tree)
    bad, good = tree.child("guest", starting=fail), tree.child("guest")
    if nested:
        bad = Supervisor.child_spec("guest", [tree.child("x"), tree.child("y", starting=fail)])
    places = len(tree.system.places())
    with pytest.raises(StartFailed, match="pool/guest") as raised:
        start_child(tree, bad)
    left = len(tree.system.places()) - places
    ref = start_child(tree, good)

    assert (left, ref.is_alive(), raised.value.__cause__ is not None) == (0, True, True)


def test_a_failed_start_is_reported_and_is_no_restart(tree: Tree) -> None:
    """A first start that fails is its caller's affair: it counts against no intensity."""
    start_pool(tree, intensity=0)
    with pytest.raises(StartFailed):
        start_child(tree, tree.child("guest", starting=fail))
    reports = tree.reports.of(ChildStartFailed, RestartScheduled, GaveUp)

    assert [(report.supervisor, report.child) for report in reports] == [("pool", "pool/guest")]


def test_a_bad_spec_is_refused_before_it_is_sent(tree: Tree) -> None:
    """Each bad value is refused where the spec is made."""
    with pytest.raises(BadSpec, match="child 'guest': restart"):
        tree.child("guest", restart="often")


@pytest.mark.parametrize("restart", ["permanent", "transient"])
def test_a_crash_restarts_the_child_and_leaves_the_others_alone(tree: Tree, restart: Restart) -> None:
    """Permanent and transient children are restarted after a crash; the siblings are the same instances."""
    start_pool(tree)
    for name in "ab":
        start_child(tree, tree.child(name, restart=restart))
    before = [tree.serial(name) for name in ("a", "b", "static")]
    tree.crash("a")
    after = [tree.serial(name) for name in ("a", "b", "static")]

    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True, True]


def test_queued_messages_survive_a_crash(tree: Tree) -> None:
    """Queued tells survive a crash and are handled by the new instance, in order; the failing one is not."""
    start_pool(tree)
    ref, door = start_child(tree, tree.child("guest")), tree.door()
    ref.proxy().hold(door)
    door.wait_for_entry()
    ref.proxy().crash(ValueError())
    for message in ("one", "two"):
        ref.tell(message)
    door.open()
    serial = tree.serial("guest")
    handled = [entry for entry in tree.diary.entries if isinstance(entry, tuple)]

    assert [(serial, "one"), (serial, "two")] == handled


@pytest.mark.parametrize(("restart", "end"), [("transient", "finish"), ("temporary", "finish"), ("temporary", "crash")])
def test_a_child_that_is_not_restarted_goes_with_its_spec(tree: Tree, restart: Restart, end: str) -> None:
    """The spec of a dynamic child that ends for good goes, and its name is free."""
    start_pool(tree)
    ref = start_child(tree, tree.child("guest", restart=restart))
    before = tree.serial("guest")
    if end == "crash":
        tree.crash("guest")
    else:
        ref.proxy().finish().result(PATIENCE)
    wait_for_end(tree, "pool/guest")
    children, alive = tree.children("pool"), ref.is_alive()
    start_child(tree, tree.child("guest"))

    assert (children, alive, before != tree.serial("guest")) == ({}, False, True)


def test_a_permanent_child_that_stops_itself_is_restarted(tree: Tree) -> None:
    """Permanent: restarted after an orderly end, too."""
    start_pool(tree)
    ref = start_child(tree, tree.child("guest", restart="permanent"))
    before = tree.serial("guest")
    ref.proxy().finish().result(PATIENCE)
    tree.wait_for_restart("pool/guest")

    assert before != tree.serial("guest")


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_stop_through_the_ref_twice_is_fine_and_then_the_child_is_gone(tree: Tree, restart: Restart) -> None:
    """Stopped by reference, twice: fine, then not found; never answered by a restart."""
    start_pool(tree)
    ref = start_child(tree, tree.child("guest", restart=restart))
    stopped = [ref.stop(timeout=PATIENCE), ref.stop(timeout=PATIENCE)]
    wait_for_end(tree, "pool/guest")
    children = tree.children("pool")
    with pytest.raises(UnknownActor):
        tree.ref("guest")

    assert (stopped, children, tree.reports.of(RestartScheduled)) == ([True, False], {}, [])


def test_what_is_queued_behind_the_end_of_a_temporary_child_is_terminated(tree: Tree) -> None:
    """A place ends with its spec, and what is queued there ends terminated: `ActorDead` for who waits."""
    start_pool(tree)
    ref, door = start_child(tree, tree.child("guest", restart="temporary")), tree.door()
    ref.proxy().hold(door)
    door.wait_for_entry()
    ref.proxy().crash(ValueError())
    queued = ref.proxy().serial
    door.open()
    error = queued.exception(PATIENCE)

    assert (ActorDead, TokenState.TERMINATED) == (type(error), queued.state)


def test_it_gives_up_as_any_supervisor(tree: Tree) -> None:
    """One restart more than the intensity within the period: it gives up and its own supervisor restarts it, empty."""
    start_pool(tree, intensity=1, period=1000.0)
    a, b = start_child(tree, tree.child("a")), start_child(tree, tree.child("b"))
    tree.crash("a")
    tree.wait_for_restart("pool/a")
    tree.crash("b")
    tree.wait_for_restart("pool")

    assert ({}, [GaveUp("pool", "pool/b", 1, 1000.0)], [False, False]) == (
        tree.children("pool"),
        tree.reports.of(GaveUp),
        [a.is_alive(), b.is_alive()],
    )


def test_a_ref_of_the_supervisor_stays_valid_when_it_has_given_up(tree: Tree) -> None:
    """A supervisor has a place as well: its ref starts children in its next instance."""
    start_pool(tree, intensity=0)
    pool = tree.ref("pool")
    start_child(tree, tree.child("a"))
    tree.crash("a")
    tree.wait_for_restart("pool")
    ref: ActorRef[Any] = pool.proxy().start_child(tree.child("a")).result(PATIENCE)

    assert (True, ref) == (ref.is_alive(), tree.ref("a"))


def test_a_supervisor_can_be_a_dynamic_child(tree: Tree) -> None:
    """A child is an actor class or a supervisor; a whole branch comes and goes with it."""
    start_pool(tree)
    branch = start_child(tree, Supervisor.child_spec("branch", [tree.child("x"), tree.child("y")]))
    x = tree.ref("pool/branch/x")
    branch.stop(timeout=PATIENCE)
    children = tree.children("pool")
    stopped = [entry for entry in tree.diary.entries if entry.endswith("stopped")]

    assert (stopped, children, x.is_alive()) == (["y stopped", "x stopped"], {}, False)


def test_children_are_stopped_when_it_stops(tree: Tree) -> None:
    """It stops its children; each is told and ends with `shutdown`."""
    start_pool(tree)
    for name in "ab":
        start_child(tree, tree.child(name))
    tree.stop()
    ended = {report.child: report.reason for report in tree.reports.of(ChildEnded)}

    assert ended == {"pool/a": SHUTDOWN, "pool/b": SHUTDOWN, "pool": SHUTDOWN, "static": SHUTDOWN}


def test_a_start_is_reported(tree: Tree) -> None:
    """Supervisors report: child started, with the supervisor, the child and the number of its restarts."""
    start_pool(tree)
    start_child(tree, tree.child("guest"))

    assert ChildStarted("pool", "pool/guest", 0) == tree.reports.of(ChildStarted)[-1]
