"""What a supervisor does: starts in order, restarts what crashes, gives up, stops in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from actors import (
    KILLED,
    SHUTDOWN,
    ActorDead,
    CpuActor,
    StartFailed,
    TokenGateError,
    TokenState,
    TokenTerminated,
    UnknownActor,
)
from supervisors import (
    BadSpec,
    ChildEnded,
    ChildSpec,
    ChildStarted,
    ChildStartFailed,
    ChildStopFailed,
    DynamicSupervisor,
    GaveUp,
    Phase,
    Report,
    Restart,
    RestartScheduled,
    Supervisor,
)
from tokengate import Gate

if TYPE_CHECKING:
    from tests.supervisors.conftest import Tree

PATIENCE = 30.0

RESTARTS: list[Restart] = ["permanent", "transient", "temporary"]


def do_nothing() -> None:
    pass


def fail() -> None:
    raise ValueError("no")


def in_turn(*hooks: Callable[[], object], then: Callable[[], object]) -> Callable[[], None]:
    """Return a hook that calls these one at a time, and `then` ever after."""
    left = iter(hooks)

    def hook() -> None:
        next(left, then)()

    return hook


# Start


def test_children_start_in_order_one_after_the_other(tree: Tree) -> None:
    """Three specs: each `on_start` ends before the next begins."""
    tree.start(tree.child("a"), tree.child("b"), tree.child("c"))

    assert tree.diary.entries == ["a starts", "a started", "b starts", "b started", "c starts", "c started"]


def test_a_child_that_fails_to_start_stops_those_before_it_in_reverse(tree: Tree) -> None:
    """The third fails to start: the second, then the first, are stopped, and start raises."""
    with pytest.raises(StartFailed):
        tree.start(tree.child("a"), tree.child("b"), tree.child("c", starting=fail))

    assert tree.diary.entries[4:] == ["c starts", "b stops", "b stopped", "a stops", "a stopped"]


def test_a_failed_start_names_the_child_and_chains_the_cause(tree: Tree) -> None:
    """Start raises, naming the child and chaining the cause."""
    with pytest.raises(StartFailed, match="inner/c") as raised:
        tree.start(Supervisor.child_spec("inner", [tree.child("c", starting=fail)]))
    causes: list[BaseException] = []
    error: BaseException | None = raised.value
    while error is not None:
        causes.append(error)
        error = error.__cause__

    assert isinstance(causes[-1], ValueError)


def test_a_failed_start_is_reported(tree: Tree) -> None:
    """Supervisors report a failed start, with the supervisor, the child and the cause."""
    with pytest.raises(StartFailed):
        tree.start(tree.child("a", starting=fail))
    (report,) = tree.reports.of(ChildStartFailed)

    assert ("/", "a", ValueError) == (report.supervisor, report.child, type(report.error.__cause__))


def test_a_supervisor_refuses_bad_flags_when_it_starts(tree: Tree) -> None:
    """A supervisor that is started with a bad flag does not start; the cause is `BadSpec`."""
    with pytest.raises(StartFailed, match="intensity") as raised:
        tree.start(intensity=-1)

    assert isinstance(raised.value.__cause__, BadSpec)


def test_which_children_shows_the_newest_first_on_both_levels(tree: Tree) -> None:
    """A tree of two levels: which_children newest first."""
    tree.start(tree.child("a"), Supervisor.child_spec("inner", [tree.child("x"), tree.child("y")]), tree.child("b"))

    assert [*tree.children(), *tree.children("inner")] == ["b", "inner", "a", "y", "x"]


def test_which_children_tells_what_a_child_is(tree: Tree) -> None:
    """A child is shown with its path, status, class, restart and the number of its restarts."""
    tree.start(Supervisor.child_spec("inner", [tree.child("x", restart="transient")]))
    tree.crash("x")
    tree.wait_for_restart("inner/x")
    info = tree.children("inner")["x"]

    assert ("inner/x", Phase.RUNNING, 1, tree.worker, "transient") == (
        info.path,
        info.status,
        info.restarts,
        info.start,
        info.restart,
    )


# Restart


@pytest.mark.parametrize("restart", RESTARTS[:2])
def test_a_crash_restarts_a_permanent_and_a_transient_child(tree: Tree, restart: Restart) -> None:
    """Permanent and transient: restarted after an abnormal end."""
    tree.start(tree.child("a", restart=restart))
    before = tree.serial("a")
    tree.crash("a")

    assert before != tree.serial("a")


@pytest.mark.parametrize("restart", RESTARTS[:2])
def test_sys_exit_in_a_child_is_a_crash_of_that_child(tree: Tree, restart: Restart) -> None:
    """A BaseException ends the actor that raised it, abnormally, and no other."""
    tree.start(tree.child("a", restart=restart), tree.child("b"))
    before = (tree.serial("a"), tree.serial("b"))
    error = tree.ref("a").proxy().crash(SystemExit(1)).exception(PATIENCE)
    after = (tree.serial("a"), tree.serial("b"))

    assert (SystemExit, True, True) == (type(error), before[0] != after[0], before[1] == after[1])


def test_a_permanent_child_that_stops_itself_is_restarted(tree: Tree) -> None:
    """Permanent: restarted after an orderly end, too."""
    tree.start(tree.child("a"))
    before = tree.serial("a")
    tree.ref("a").proxy().finish().result(PATIENCE)
    tree.wait_for_restart("a")

    assert before != tree.serial("a")


def test_a_permanent_supervisor_that_gives_up_is_restarted(tree: Tree) -> None:
    """Permanent: restarted after an end with `shutdown`, too."""
    tree.start(Supervisor.child_spec("inner", [tree.child("x")], intensity=0))
    tree.crash("x")
    tree.wait_for_restart("inner")
    restarting = [report for report in tree.reports.of(RestartScheduled) if report.child == "inner"]

    assert [report.reason for report in restarting] == [SHUTDOWN]


def test_a_transient_child_that_stops_itself_is_kept_without_an_instance(tree: Tree) -> None:
    """Transient: not after an orderly end; kept as a spec without an instance."""
    tree.start(tree.child("a", restart="transient"))
    tree.ref("a").proxy().finish().result(PATIENCE)
    tree.reports.wait_for(lambda reports: any(isinstance(report, ChildEnded) for report in reports))

    assert tree.children()["a"].status == Phase.STOPPED


def test_a_transient_supervisor_that_gives_up_is_not_restarted(tree: Tree) -> None:
    """Giving up is an end with `shutdown`, which is orderly."""
    tree.start(Supervisor.child_spec("inner", [tree.child("x")], intensity=0, restart="transient"))
    tree.crash("x")
    tree.reports.wait_for(
        lambda reports: any(isinstance(report, ChildEnded) and report.child == "inner" for report in reports)
    )

    assert tree.children()["inner"].status == Phase.STOPPED


@pytest.mark.parametrize("end", ["crash", "finish"])
def test_a_temporary_child_is_never_restarted_and_its_spec_is_gone(tree: Tree, end: str) -> None:
    """Temporary: never, and its spec is gone."""
    tree.start(tree.child("a", restart="temporary"))
    ref = tree.ref("a")
    if end == "crash":
        tree.crash("a")
    else:
        ref.proxy().finish().result(PATIENCE)
    tree.reports.wait_for(lambda reports: any(isinstance(report, ChildEnded) for report in reports))

    assert (tree.children(), ref.is_alive(), tree.reports.of(RestartScheduled)) == ({}, False, [])


def test_a_ref_to_a_temporary_child_that_has_ended_raises(tree: Tree) -> None:
    """A place ends with its spec; what is sent there afterwards is refused."""
    tree.start(tree.child("a", restart="temporary"))
    ref = tree.ref("a")
    tree.crash("a")
    tree.reports.wait_for(lambda reports: any(isinstance(report, ChildEnded) for report in reports))
    tree.children()

    with pytest.raises(ActorDead):
        ref.tell("hello")


def test_a_crash_leaves_the_siblings_alone(tree: Tree) -> None:
    """one_for_one: the sibling is the same instance after a crash."""
    tree.start(tree.child("a"), tree.child("b"), tree.child("c"))
    before = [tree.serial(name) for name in "abc"]
    tree.crash("b")
    after = [tree.serial(name) for name in "abc"]

    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]


def test_a_crash_is_reported_as_ended_restarting_started(tree: Tree) -> None:
    """Supervisors report: child ended, restarting, started; each names the supervisor, the child and the reason."""
    tree.start(Supervisor.child_spec("inner", [tree.child("x")]))
    tree.crash("x")
    tree.wait_for_restart("inner/x")
    ended, restarting, started = tree.reports.of(Report)[-3:]

    assert (
        ChildEnded("inner", "inner/x", ended.reason),
        RestartScheduled("inner", "inner/x", ended.reason),
        ChildStarted("inner", "inner/x", 1),
        "error",
    ) == (ended, restarting, started, ended.reason.kind)


# What outlives a restart


def test_queued_messages_survive_a_crash_in_order(tree: Tree) -> None:
    """Queued tells survive a crash and are handled by the new instance, in order; the failing one is not."""
    tree.start(tree.child("a"))
    ref, door = tree.ref("a"), tree.door()
    ref.proxy().hold(door)
    door.wait_for_entry()
    crash = ref.proxy().crash(ValueError())
    for message in ("one", "two", "three"):
        ref.tell(message)
    door.open()
    serial = tree.serial("a")
    handled = [entry for entry in tree.diary.entries if isinstance(entry, tuple)]

    assert ([(serial, "one"), (serial, "two"), (serial, "three")], TokenState.FAILED) == (handled, crash.state)


def test_a_ref_and_a_proxy_stay_valid_over_a_restart(tree: Tree) -> None:
    """Refs and names stay valid across restarts."""
    tree.start(tree.child("a"))
    ref, proxy = tree.ref("a"), tree.ref("a").proxy()
    urn, before = ref.actor_urn, proxy.serial.result(PATIENCE)
    tree.crash("a")
    after = proxy.serial.result(PATIENCE)

    assert (True, urn, ref) == (before != after, ref.actor_urn, tree.ref("a"))


def test_a_child_is_alive_while_it_is_restarted(tree: Tree) -> None:
    """`is_alive()` is true while restarting, and messages are accepted."""
    door = tree.door()
    tree.start(tree.child("a", starting=in_turn(do_nothing, then=door.wait_here)))
    ref = tree.ref("a")
    tree.crash("a")
    door.wait_for_entry()
    alive = ref.is_alive()
    answer = ref.proxy().serial
    door.open()

    assert (True, tree.serial("a")) == (alive, answer.result(PATIENCE))


def test_refs_and_queued_messages_survive_a_restart_of_the_supervisor(tree: Tree) -> None:
    """A place survives restarts of static ancestors; its queued tokens wait for the new instance."""
    tree.start(Supervisor.child_spec("inner", [tree.child("x"), tree.child("y")], intensity=0))
    ref, door = tree.ref("x"), tree.door()
    before = tree.serial("x")
    held = ref.proxy().hold(door)
    door.wait_for_entry()
    for message in ("one", "two"):
        ref.tell(message)
    tree.crash("y")
    tree.reports.wait_for(lambda reports: any(isinstance(report, GaveUp) for report in reports))
    tree.settle()
    door.open()
    tree.wait_for_restart("inner")
    serial: int = ref.proxy().serial.result(PATIENCE)
    handled = [entry for entry in tree.diary.entries if isinstance(entry, tuple)]

    assert (True, [(serial, "one"), (serial, "two")], True) == (before != serial, handled, held.done())


# Administration through the ref


@pytest.mark.parametrize("restart", RESTARTS)
def test_stop_through_the_ref_is_never_answered_by_a_restart(tree: Tree, restart: Restart) -> None:
    """`ref.stop()` is administrative: not even a permanent child is restarted."""
    tree.start(tree.child("a", restart=restart))
    ref = tree.ref("a")
    stopped = [ref.stop(timeout=PATIENCE), ref.stop(timeout=PATIENCE)]
    tree.children()

    assert (stopped, ref.is_alive(), tree.reports.of(RestartScheduled)) == ([True, False], False, [])


def test_stop_through_the_ref_keeps_the_spec_of_a_permanent_child(tree: Tree) -> None:
    """A child that an administrator stopped is kept as a spec without an instance."""
    tree.start(tree.child("a"))
    tree.ref("a").stop(timeout=PATIENCE)

    assert tree.children()["a"].status == Phase.STOPPED


def test_stop_through_the_ref_handles_what_was_accepted(tree: Tree) -> None:
    """`ref.stop()` closes the intake and handles everything accepted."""
    tree.start(tree.child("a"))
    ref, door = tree.ref("a"), tree.door()
    serial = tree.serial("a")
    ref.proxy().hold(door)
    door.wait_for_entry()
    ref.tell("accepted")
    stopping = ref.stop(block=False)
    with pytest.raises(ActorDead):
        ref.tell("refused")
    door.open()
    stopping.get(timeout=PATIENCE)

    assert [(serial, "accepted")] == [entry for entry in tree.diary.entries if isinstance(entry, tuple)]


def test_a_child_that_crashes_on_its_way_to_an_asked_stop_is_not_restarted(tree: Tree) -> None:
    """An administrator's stop holds even when one of the last messages is a crash."""
    tree.start(tree.child("a"))
    ref, door = tree.ref("a"), tree.door()
    ref.proxy().hold(door)
    door.wait_for_entry()
    ref.proxy().crash(ValueError())
    stopping = ref.stop(block=False)
    door.open()
    stopping.get(timeout=PATIENCE)
    tree.children()

    assert (tree.reports.of(RestartScheduled), ref.is_alive()) == ([], False)


# Giving up


def test_the_third_crash_ends_a_supervisor_of_intensity_two_with_shutdown(tree: Tree) -> None:
    """Intensity 2: the third crash in the window ends the supervisor with shutdown."""
    tree.start(tree.child("a"), intensity=2, period=1000.0)
    for restart in (1, 2):
        tree.crash("a")
        tree.wait_for_restart("a", restart)
    still_there = not tree.ended.done()
    tree.crash("a")

    assert (still_there, tree.ended.result(PATIENCE)) == (True, SHUTDOWN)


def test_giving_up_is_reported_once_with_the_child_and_the_limits(tree: Tree) -> None:
    """To give up is to report it: the supervisor, the child, the limits."""
    tree.start(tree.child("a"), tree.child("b"), intensity=0, period=1000.0)
    tree.crash("b")
    tree.ended.result(PATIENCE)

    assert [GaveUp("/", "b", 0, 1000.0)] == tree.reports.of(GaveUp)


def test_a_supervisor_that_gives_up_stops_its_other_children_in_reverse(tree: Tree) -> None:
    """Giving up stops all children, the last started first."""
    tree.start(tree.child("a"), tree.child("b"), tree.child("c"), intensity=0)
    tree.crash("b")
    tree.ended.result(PATIENCE)

    assert tree.diary.entries[6:] == ["b failed", "c stops", "c stopped", "a stops", "a stopped"]


def test_the_intensity_is_one_for_all_children_of_a_supervisor(tree: Tree) -> None:
    """The window is one per supervisor, not one per child."""
    tree.start(tree.child("a"), tree.child("b"), intensity=1, period=1000.0)
    tree.crash("a")
    tree.wait_for_restart("a")
    tree.crash("b")

    assert tree.ended.result(PATIENCE) == SHUTDOWN


def test_two_supervisors_count_for_themselves(tree: Tree) -> None:
    """Crashes under one supervisor are nothing to another."""
    tree.start(
        Supervisor.child_spec("one", [tree.child("x")], intensity=1, period=1000.0),
        Supervisor.child_spec("two", [tree.child("y")], intensity=1, period=1000.0),
        intensity=0,
    )
    for name, path in (("x", "one/x"), ("y", "two/y")):
        tree.crash(name)
        tree.wait_for_restart(path)

    assert tree.reports.of(GaveUp) == []


def test_a_restart_that_always_fails_gives_up(tree: Tree) -> None:
    """A restart that always fails gives up: every failed attempt counts again."""
    tree.start(tree.child("a", starting=in_turn(do_nothing, then=fail)), intensity=3, period=1000.0)
    tree.crash("a")
    reason = tree.ended.result(PATIENCE)

    assert (reason, len(tree.reports.of(ChildStartFailed))) == (SHUTDOWN, 3)


def test_an_inner_supervisor_that_gives_up_is_restarted_with_its_static_children(tree: Tree) -> None:
    """An inner supervisor gives up: its parent restarts it, and all its static children return, as new instances."""
    tree.start(tree.child("a"), Supervisor.child_spec("inner", [tree.child("x"), tree.child("y")], intensity=0))
    before = [tree.serial(name) for name in "axy"]
    tree.crash("x")
    tree.wait_for_restart("inner")
    after = [tree.serial(name) for name in "axy"]

    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, False]


def test_an_inner_supervisor_returns_without_its_dynamic_children(tree: Tree) -> None:
    """The children of a dynamic supervisor do not return with it."""
    inner = Supervisor.child_spec("inner", [tree.child("x"), DynamicSupervisor.child_spec("pool")], intensity=0)
    tree.start(inner)
    guest = tree.ref("pool").proxy().start_child(tree.child("guest")).result(PATIENCE)
    tree.crash("x")
    tree.wait_for_restart("inner")

    assert (tree.children("pool"), guest.is_alive()) == ({}, False)


def test_an_inner_supervisor_starts_counting_anew(tree: Tree) -> None:
    """A restarted supervisor has its whole intensity again."""
    tree.start(Supervisor.child_spec("inner", [tree.child("x")], intensity=1, period=1000.0), intensity=1)
    tree.crash("x")
    tree.wait_for_restart("inner/x")
    tree.crash("x")
    tree.wait_for_restart("inner")
    before = tree.serial("x")
    tree.crash("x")

    assert (before != tree.serial("x"), len(tree.reports.of(GaveUp))) == (True, 1)


def test_a_supervisor_answers_between_two_attempts_to_restart_a_child(tree: Tree) -> None:
    """A restart that fails leaves the child `restarting`; the supervisor goes on answering between attempts."""
    door = tree.door()

    def wait_and_fail() -> None:
        door.wait_here()
        fail()

    starting = in_turn(do_nothing, wait_and_fail, *[fail] * 20, then=do_nothing)
    root = tree.start(tree.child("a", starting=starting), intensity=1000)
    tree.crash("a")
    door.wait_for_entry()
    question = root.proxy().which_children()
    door.open()
    (info,) = question.result(PATIENCE)

    assert info.status == "restarting"


def test_a_supervisor_can_be_stopped_between_two_attempts_to_restart_a_child(tree: Tree) -> None:
    """A supervisor whose child fails to restart can shut down between two attempts."""
    tree.start(tree.child("a", starting=in_turn(do_nothing, then=fail)), intensity=1_000_000)
    tree.crash("a")
    tree.reports.wait_for(lambda reports: any(isinstance(report, ChildStartFailed) for report in reports))
    tree.stop()

    assert (tree.ended.result(PATIENCE), tree.reports.of(GaveUp)) == (SHUTDOWN, [])


def test_a_child_can_be_stopped_between_two_attempts_to_restart_it(tree: Tree) -> None:
    """An administrator can stop a child that is `restarting`; no attempt is made any more."""
    door = tree.door()

    def wait_and_fail() -> None:
        door.wait_here()
        fail()

    tree.start(tree.child("a", starting=in_turn(do_nothing, wait_and_fail, then=do_nothing)))
    ref = tree.ref("a")
    tree.crash("a")
    door.wait_for_entry()
    stopping = ref.stop(block=False)
    door.open()
    stopping.get(timeout=PATIENCE)

    assert (tree.children()["a"].status, ref.is_alive()) == (Phase.STOPPED, False)


class Faulty(CpuActor):
    def crash(self) -> None:
        raise ValueError


def test_a_root_that_gives_up_stops_the_gate() -> None:
    """When the root supervisor gives up, `gate.wait` returns and the report says so."""
    gate = Gate("faulty", children=[ChildSpec("faulty", Faulty)], intensity=0)
    with gate:
        gate.find("faulty").proxy().crash()
        stopped = gate.wait(PATIENCE)
    report = gate.close()

    assert (stopped, report.gave_up, report.clean) == (True, True, False)


def test_the_gate_of_a_tree_that_recovers_does_not_stop() -> None:
    """A restart within the intensity is no reason to stop."""
    gate = Gate("faulty", children=[ChildSpec("faulty", Faulty)], intensity=1)
    with gate:
        proxy = gate.find("faulty").proxy()
        proxy.crash().exception(PATIENCE)
        proxy.actor_urn.result(PATIENCE)
        stopped = gate.wait(0)
    report = gate.close()

    assert (stopped, report.gave_up, gate.statistics().restarts) == (False, False, 1)


# Stop


def test_children_stop_in_reverse_one_after_the_other(tree: Tree) -> None:
    """Last started, first stopped; each `on_stop` ends before the next begins."""
    tree.start(tree.child("a"), tree.child("b"), tree.child("c"))
    tree.stop()

    assert tree.diary.entries[6:] == ["c stops", "c stopped", "b stops", "b stopped", "a stops", "a stopped"]


def test_nested_supervisors_stop_in_reverse(tree: Tree) -> None:
    """The whole tree stops in the reverse order of its start."""
    inner = Supervisor.child_spec("inner", [tree.child("x"), tree.child("y")])
    tree.start(tree.child("a"), inner, tree.child("b"))
    tree.stop()
    stopped = [entry for entry in tree.diary.entries if entry.endswith("stopped")]

    assert stopped == ["b stopped", "y stopped", "x stopped", "a stopped"]


def test_infinity_waits_for_a_child_that_takes_its_time(tree: Tree) -> None:
    """Infinity: waits for a child that takes its time."""
    door = tree.door()
    tree.start(tree.child("a", ending=door.wait_here, shutdown="infinity"))
    stopping = tree.begin_stop()
    door.wait_for_entry()
    tree.settle()
    waits = not stopping.done()
    door.open()
    stopping.result(PATIENCE)

    assert (True, [], [ChildEnded("/", "a", SHUTDOWN)]) == (
        waits,
        tree.reports.of(ChildStopFailed),
        tree.reports.of(ChildEnded),
    )


def test_a_step_may_end_before_its_actor_stops(tree: Tree) -> None:
    """A supervisor's stop takes effect after the current step."""
    door = tree.door()
    tree.start(tree.child("a", shutdown="infinity"))
    held = tree.ref("a").proxy().hold(door)
    door.wait_for_entry()
    stopping = tree.begin_stop()
    tree.settle()
    waits = not stopping.done()
    door.open()
    stopping.result(PATIENCE)

    assert (waits, held.done(), tree.diary.entries[-1]) == (True, True, "a stopped")


def test_a_child_that_ignores_stop_is_killed_at_its_deadline_and_reported(tree: Tree) -> None:
    """A child that ignores stop is killed at its deadline and reported; the others are stopped as ever."""
    door = tree.door()
    tree.start(tree.child("a"), tree.child("b", shutdown=0.05))
    held = tree.ref("b").proxy().hold(door)
    door.wait_for_entry()
    tree.stop()
    reports = tree.reports.of(ChildStopFailed, ChildEnded)
    door.open()

    assert [
        ChildStopFailed("/", "b", 0.05),
        ChildEnded("/", "b", KILLED),
        ChildEnded("/", "a", SHUTDOWN),
    ] == reports
    assert isinstance(held.exception(PATIENCE), TokenTerminated)


def test_a_child_that_hangs_in_on_stop_is_killed_at_its_deadline(tree: Tree) -> None:
    """The deadline holds for `on_stop` as well."""
    door = tree.door()
    tree.start(tree.child("a", ending=door.wait_here, shutdown=0.05))
    tree.stop()
    reports = tree.reports.of(ChildStopFailed, ChildEnded)
    door.open()

    assert [ChildStopFailed("/", "a", 0.05), ChildEnded("/", "a", KILLED)] == reports


def test_a_killed_child_writes_no_result_and_runs_no_hook(tree: Tree) -> None:
    """A sealed instance's result is dropped, and it handles nothing more."""
    door = tree.door()
    tree.start(tree.child("a", shutdown=0.05))
    ref = tree.ref("a")
    held = ref.proxy().hold(door)
    door.wait_for_entry()
    queued = ref.proxy().serial
    tree.stop()
    door.open()
    errors = [type(held.exception(PATIENCE)), type(queued.exception(PATIENCE))]

    assert ([TokenTerminated, ActorDead], ["a starts", "a started"]) == (errors, tree.diary.entries)


def test_kill_ends_a_child_at_once_and_is_not_reported(tree: Tree) -> None:
    """`kill`: ended at once, not reported."""
    door = tree.door()
    tree.start(tree.child("a", shutdown="kill"))
    held = tree.ref("a").proxy().hold(door)
    door.wait_for_entry()
    tree.stop()
    door.open()

    assert isinstance(held.exception(PATIENCE), TokenTerminated)
    assert ([], [ChildEnded("/", "a", KILLED)], ["a starts", "a started"]) == (
        tree.reports.of(ChildStopFailed),
        tree.reports.of(ChildEnded),
        tree.diary.entries,
    )


def test_a_child_that_ends_by_itself_while_its_supervisor_stops_is_no_fault(tree: Tree) -> None:
    """Such an end is not answered by a restart and not reported as an error."""
    door = tree.door()
    tree.start(tree.child("a"), tree.child("b", ending=door.wait_here, shutdown="infinity"))
    ref = tree.ref("a")
    stopping = tree.begin_stop()
    door.wait_for_entry()
    ref.proxy().crash(ValueError()).exception(PATIENCE)
    door.open()
    stopping.result(PATIENCE)

    assert tree.reports.of(RestartScheduled, ChildStopFailed, GaveUp) == []


def test_a_child_that_asks_its_stopping_supervisor_gets_an_error(tree: Tree) -> None:
    """A child that asks its stopping supervisor gets an error, not a deadlock."""
    answers: list[BaseException] = []

    def ending() -> None:
        try:
            root.proxy().which_children().result(PATIENCE)
        except TokenGateError as error:
            answers.append(error)

    root = tree.start(tree.child("a", ending=ending, shutdown=1.0))
    tree.stop()
    reports = tree.reports.of(ChildStopFailed)

    assert ([], [ActorDead]) == (reports, [type(error) for error in answers])


def test_a_call_to_a_dead_supervisor_fails_at_once(tree: Tree) -> None:
    """A call to a dead supervisor fails at once."""
    root = tree.start(tree.child("a"))
    proxy = root.proxy()
    tree.stop()
    error = proxy.which_children().exception(0)

    assert isinstance(error, ActorDead)


def test_refs_are_dead_and_names_are_gone_once_the_tree_has_stopped(tree: Tree) -> None:
    """What is queued when the tree ends is terminated, and nobody can send there any more."""
    door = tree.door()
    tree.start(Supervisor.child_spec("inner", [tree.child("x", shutdown="infinity")]))
    ref = tree.ref("x")
    ref.proxy().hold(door)
    door.wait_for_entry()
    queued = ref.proxy().serial
    stopping = tree.begin_stop()
    tree.settle()
    door.open()
    stopping.result(PATIENCE)
    with pytest.raises(UnknownActor):
        tree.ref("x")

    assert (queued.state, ref.is_alive()) == (TokenState.TERMINATED, False)
