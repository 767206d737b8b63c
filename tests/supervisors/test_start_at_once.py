"""Children of a dynamic supervisor that start without a request to it: on their caller's thread, if that is allowed."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import trio

from actors import NORMAL, ActorRef, ActorSystem, BaseActor, CpuActor, Down, IoActor, StartFailed, UnknownActor
from actors.lowlevel import ActorPlace
from supervisors import (
    AlreadyStarted,
    ChildCounts,
    ChildDeclined,
    ChildEnded,
    ChildSpec,
    ChildStarted,
    ChildStartFailed,
    DynamicSupervisor,
    GaveUp,
    Ignore,
    TooManyChildren,
    start_at_once,
)
from supervisors._child import Child

if TYPE_CHECKING:
    from tests.supervisors.conftest import Tree

PATIENCE = 30.0


class Plain(CpuActor):
    """Has no hooks, so its instance may be made on any thread."""

    def __init__(self, making: Callable[[], object] = bool) -> None:
        self.made_on = threading.current_thread()
        making()

    def on_receive(self, message: Any) -> Any:
        return message

    def crash(self) -> None:
        raise ValueError("crash")


class Pinned(Plain):
    dispatcher = "pinned"


class WithHook(Plain):
    def on_start(self) -> None:
        pass


class Io(IoActor):
    def __init__(self) -> None:
        self.made_on = threading.current_thread()


def start_pool(tree: Tree, **options: Any) -> ActorRef[Any]:
    tree.start(DynamicSupervisor.child_spec("pool", **options))
    return tree.ref("pool")


def start(tree: Tree, actor_class: type[BaseActor] = Plain, *args: Any, id: str = "child", **options: Any) -> Any:
    """Start a child at once."""
    started = start_at_once(tree.ref("pool"), ChildSpec(id, actor_class, args=args, **options), here=True)
    assert started is not None
    return started.result(PATIENCE)


def made_on(ref: ActorRef[Any]) -> threading.Thread:
    thread: threading.Thread = ref.proxy().made_on.result(PATIENCE)
    return thread


def test_an_instance_without_on_start_is_made_on_the_calling_thread(tree: Tree) -> None:
    """As `Cls.start()` does it."""
    start_pool(tree)

    assert made_on(start(tree)) is threading.current_thread()


@pytest.mark.parametrize("actor_class", [WithHook, Pinned, Io])
def test_other_instances_are_made_where_their_code_runs(tree: Tree, actor_class: type[BaseActor]) -> None:
    """Those with an `on_start`, with a thread of their own, or on a loop."""
    start_pool(tree)

    assert made_on(start(tree, actor_class)) is not threading.current_thread()


def test_an_instance_is_made_elsewhere_if_its_code_must_not_run_on_the_calling_thread(tree: Tree) -> None:
    """A loop must not be held up by an `__init__`."""
    pool = start_pool(tree)
    started = start_at_once(pool, ChildSpec("child", Plain), here=False)
    assert started is not None

    assert made_on(started.result(PATIENCE)) is not threading.current_thread()


class PlainIo(IoActor):
    pass


class PlainCpu(CpuActor):
    pass


@pytest.mark.parametrize("actor_class", [PlainCpu, PlainIo])
def test_an_instance_without_code_of_its_own_is_made_on_any_thread(tree: Tree, actor_class: type[BaseActor]) -> None:
    """A class without `__init__` and `on_start` holds up no loop; its messages are handled where they always are."""
    pool = start_pool(tree)
    started = start_at_once(pool, ChildSpec("child", actor_class), here=False)

    assert started is not None
    assert started.done()
    assert started.result().proxy().actor_urn.result(PATIENCE) == started.result().actor_urn


def test_an_io_actor_that_is_started_in_its_loop_is_made_at_once(tree: Tree) -> None:
    """Its `__init__` runs there in any case."""
    pool = start_pool(tree)

    async def begin() -> tuple[bool, threading.Thread]:
        started = start_at_once(pool, ChildSpec("child", Io), here=False)
        assert started is not None
        return started.done(), threading.current_thread()

    done, loop = tree.system.io_host.run(begin).result(PATIENCE)

    assert done
    assert made_on(tree.ref("pool/child")) is loop


@pytest.mark.parametrize("actor_class", [PlainIo, Io])
def test_what_came_while_an_io_actor_was_made_at_once_is_handled(tree: Tree, actor_class: type[IoActor]) -> None:
    """A message that its `__init__` has sent, or one of another thread."""
    pool = start_pool(tree)
    answers: list[Any] = []

    class Sends(actor_class):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            answers.append(self.actor_ref.ask("first", block=False))
            self.actor_ref.stop(block=False)

        def on_receive(self, message: Any) -> Any:
            return message

    async def begin() -> None:
        start_at_once(pool, ChildSpec("child", Sends, restart="temporary"), here=False)

    tree.system.io_host.run(begin).result(PATIENCE)

    assert answers[0].result(PATIENCE) == "first"
    tree.reports.wait_for(lambda reports: any(isinstance(report, ChildEnded) for report in reports))
    assert tree.children("pool") == {}


def test_a_chain_of_actors_that_start_each_other_overflows_no_stack(tree: Tree) -> None:
    """Each is started by the `__init__` of the one before; from some depth on, on another thread."""
    start_pool(tree)
    left = list(range(100))

    def next_one() -> None:
        if left:
            start(tree, Plain, next_one, id=f"child-{left.pop()}")

    start(tree, Plain, next_one)

    assert len(tree.children("pool")) == 101


def test_the_supervisor_knows_a_child_as_soon_as_it_has_started(tree: Tree) -> None:
    """Its start is reported, it is found by its path, and `which_children` and `count_children` have it."""
    pool = start_pool(tree)
    refs = [start(tree, id=name) for name in "abc"]
    reports = tree.reports.of(ChildStarted)[-3:]

    assert reports == [ChildStarted("pool", f"pool/{name}", 0) for name in "abc"]
    assert [tree.ref(f"pool/{name}") for name in "abc"] == refs
    assert [(info.id, str(info.status)) for info in pool.proxy().which_children().result(PATIENCE)] == [
        ("c", "running"),
        ("b", "running"),
        ("a", "running"),
    ]
    assert pool.proxy().count_children().result(PATIENCE) == ChildCounts(3, 3, 0, 0, 3)


def test_a_child_that_fails_to_start_is_gone_when_its_caller_knows(tree: Tree) -> None:
    """It is reported, nothing of it stays, and its name is free; that was no restart."""
    start_pool(tree, intensity=0)
    error = ValueError("no")

    def fail() -> None:
        raise error

    with pytest.raises(StartFailed, match="pool/child") as raised:
        start(tree, Plain, fail)
    (report,) = tree.reports.of(ChildStartFailed)

    assert (raised.value.__cause__, report.error) == (error, raised.value)
    assert tree.children("pool") == {}
    with pytest.raises(UnknownActor):
        tree.ref("pool/child")
    assert start(tree).is_alive()


def test_a_start_that_failed_is_reported_before_the_name_is_free(tree: Tree) -> None:
    """Or the start of the next child of this name could be reported first."""
    children = start_pool(tree)._place.instance._children
    taken = list[bool]()

    def note(event: object) -> None:
        if isinstance(event, ChildStartFailed):
            taken.append(tree.system.place_at(event.child) is not None and "child" in children)

    tree.system.subscribe(note)

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(StartFailed):
        start(tree, Plain, fail)
    with pytest.raises(StartFailed):
        tree.ref("pool").proxy().start_child(ChildSpec("child", Plain, args=(fail,))).result(PATIENCE)

    assert taken == [True, True]


class UnfinishedCpu(CpuActor):
    @abstractmethod
    def finish(self) -> None: ...


class UnfinishedIo(IoActor):
    @abstractmethod
    def finish(self) -> None: ...


@pytest.mark.parametrize("actor_class", [UnfinishedCpu, UnfinishedIo])
def test_an_abstract_class_does_not_start(tree: Tree, actor_class: type[BaseActor]) -> None:
    """No code of it runs as an instance is made, and yet that fails; nothing of the child stays."""
    start_pool(tree)

    with pytest.raises(StartFailed, match="abstract") as raised:
        start(tree, actor_class)

    assert isinstance(raised.value.__cause__, TypeError)
    assert tree.children("pool") == {}
    assert start(tree).is_alive()


def test_a_child_that_declines_is_reported_so(tree: Tree) -> None:
    """The caller gets `StartFailed`, caused by `Ignore`."""
    start_pool(tree)

    def decline() -> None:
        raise Ignore

    with pytest.raises(StartFailed) as raised:
        start(tree, Plain, decline)

    assert isinstance(raised.value.__cause__, Ignore)
    assert (tree.reports.of(ChildDeclined), tree.reports.of(ChildStartFailed)) == (
        [ChildDeclined("pool", "pool/child")],
        [],
    )
    assert tree.children("pool") == {}


def test_what_is_raised_for_the_callers_code_is_raised_there(tree: Tree) -> None:
    """Ctrl-C while an `__init__` runs is meant for the program; the child has failed to start."""
    start_pool(tree)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(tree, Plain, interrupt)

    assert tree.children("pool") == {}
    assert start(tree).is_alive()


def test_what_is_not_plain_is_left_to_a_request(tree: Tree) -> None:
    """A name that is taken, a limit of children, a supervisor that is suspended: `None`, and nothing is done."""
    pool = start_pool(tree)
    start(tree)
    place = tree.system.find("pool")
    spec = ChildSpec("child", Plain)

    assert start_at_once(pool, spec, here=True) is None
    with pytest.raises(AlreadyStarted):
        pool.proxy().start_child(spec).result(PATIENCE)
    place.suspend()
    assert start_at_once(pool, ChildSpec("other", Plain), here=True) is None
    place.unsuspend()
    assert start(tree, id="other").is_alive()


def test_a_limit_of_children_is_kept(tree: Tree) -> None:
    """Only the supervisor itself counts them."""
    pool = start_pool(tree, max_children=1)
    spec = ChildSpec("child", Plain)
    assert start_at_once(pool, spec, here=True) is None
    pool.proxy().start_child(spec).result(PATIENCE)

    assert start_at_once(pool, ChildSpec("other", Plain), here=True) is None
    with pytest.raises(TooManyChildren):
        pool.proxy().start_child(ChildSpec("other", Plain)).result(PATIENCE)


def test_a_supervisor_that_has_ended_takes_no_child(tree: Tree) -> None:
    """Nor does one that ends: its children are those that it stops."""
    pool = start_pool(tree)
    tree.stop()

    assert start_at_once(pool, ChildSpec("child", Plain), here=True) is None


def test_a_crash_is_restarted_and_counted(tree: Tree) -> None:
    """The restarts of a child that was started at once count for the intensity."""
    start_pool(tree, intensity=1, period=1000.0)
    ref = start(tree)
    assert isinstance(ref.proxy().crash().exception(PATIENCE), ValueError)
    tree.wait_for_restart("pool/child")
    assert not tree.reports.of(GaveUp)
    assert isinstance(ref.proxy().crash().exception(PATIENCE), ValueError)
    tree.reports.wait_for(lambda reports: any(isinstance(report, GaveUp) for report in reports))


def test_a_watch_is_told_of_each_end(tree: Tree) -> None:
    """One `Down` for a crash, and the last one for the end of the place."""
    start_pool(tree)
    ref, downs = start(tree), list[Down]()
    ref.watch(downs.append)
    ref.proxy().crash().exception(PATIENCE)
    tree.wait_for_restart("pool/child")
    ref.stop(timeout=PATIENCE)

    assert [(str(down.reason), down.closed) for down in downs] == [
        ("error(ValueError('crash'))", False),
        ("normal", True),
    ]


def test_an_end_that_comes_at_once_is_reported_after_the_start(tree: Tree) -> None:
    """A child that stops, or crashes, because of what its `__init__` has sent."""
    start_pool(tree)

    class Ends(Plain):
        def __init__(self) -> None:
            self.actor_ref.proxy().crash()

    for number in range(50):
        start(tree, Ends, id=f"child-{number}", restart="temporary")
    tree.reports.wait_for(lambda reports: sum(isinstance(report, ChildEnded) for report in reports) == 50)
    for number in range(50):
        path = f"pool/child-{number}"
        kinds = [type(report) for report in tree.reports.of(ChildStarted, ChildEnded) if report.child == path]
        assert kinds == [ChildStarted, ChildEnded]


def test_a_child_that_is_stopped_while_it_starts_goes(tree: Tree) -> None:
    """Whatever its `__init__` still does: its supervisor has waited for it, and stopped it."""
    pool, door = start_pool(tree), tree.door()
    starting = threading.Thread(target=lambda: start(tree, Plain, door.wait_here))
    starting.start()
    door.wait_for_entry()
    assert [str(child.status) for child in tree.children("pool").values()] == ["starting"]
    stopped = pool.proxy().terminate_child("child")
    tree.settle()
    door.open()
    stopped.result(PATIENCE)
    starting.join(PATIENCE)

    assert tree.children("pool") == {}


@pytest.mark.parametrize(
    ("owner", "name", "first"), [(ActorSystem, "enter", True), (ActorPlace, "start", False)], ids=["entered", "joined"]
)
def test_a_child_that_is_stopped_before_its_start_leaves_nothing(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, first: bool
) -> None:
    """Another thread may find it by its name, before its supervisor knows it or after that; its name is free again."""
    pool = start_pool(tree)
    method = getattr(owner, name)

    def stop(place: Any) -> None:
        stopping = threading.Thread(target=lambda: place.ref.stop(timeout=PATIENCE))
        stopping.start()
        stopping.join(PATIENCE)

    def act_and_stop(*args: Any, **kwargs: Any) -> Any:
        if first:
            method(*args)
        stop(tree.system.find("pool/child"))
        return None if first else method(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, act_and_stop)
        started = start_at_once(pool, ChildSpec("child", Plain), here=True)

    assert started is None or started.exception(PATIENCE) is not None
    tree.settle()
    assert tree.children("pool") == {}
    assert start(tree).is_alive()


def test_a_stop_that_came_before_a_start_does_not_undo_it(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor hears of the end of the stop while the child starts, which goes on, and is restarted as ever."""
    start_pool(tree)
    begin = ActorPlace.start

    def hear_and_begin(place: ActorPlace, *args: Any, **kwargs: Any) -> Any:
        assert place.owner is not None
        place.owner(place, NORMAL, True)
        tree.settle()
        return begin(place, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(ActorPlace, "start", hear_and_begin)
        ref = start(tree)
    ref.proxy().crash().exception(PATIENCE)
    tree.wait_for_restart("pool/child")

    assert tree.reports.of(ChildStartFailed) == []


def test_a_start_by_request_that_was_undone_is_reported_as_failed_once(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its supervisor hears of a stop by name before it begins; a second report could come after the next child's."""
    pool = start_pool(tree, max_children=1)
    begin = DynamicSupervisor._start_first

    async def hear_and_begin(supervisor: DynamicSupervisor, child: Child) -> Any:
        assert child.place.owner is not None
        child.place.close(NORMAL)
        child.place.owner(child.place, NORMAL, True)
        while supervisor._children.holds(child):
            await trio.sleep(0.001)
        return await begin(supervisor, child)

    monkeypatch.setattr(DynamicSupervisor, "_start_first", hear_and_begin)
    failure = pool.proxy().start_child(ChildSpec("child", Plain)).exception(PATIENCE)

    assert isinstance(failure, StartFailed)
    assert len(tree.reports.of(ChildStartFailed)) == 1


def test_a_child_that_does_not_start_is_killed_with_its_supervisor(tree: Tree) -> None:
    """At its deadline; its caller gets an error, and what its `__init__` does afterwards counts no more."""
    start_pool(tree)
    door, failed = tree.door(), list[BaseException]()

    def begin() -> None:
        try:
            start(tree, Plain, door.wait_here, shutdown=0)
        except StartFailed as error:
            failed.append(error)

    starting = threading.Thread(target=begin, name="starting")
    starting.start()
    door.wait_for_entry()
    tree.stop()
    with pytest.raises(UnknownActor):
        tree.ref("pool/child")
    door.open()
    starting.join(PATIENCE)

    assert len(failed) == 1
