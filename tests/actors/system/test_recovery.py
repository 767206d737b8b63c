"""Recovery finds and completes what interrupted senders have left undone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import pytest
import trio
from gated_code import Door

from actors import SHUTDOWN, ActorDead, ActorSystem, CpuActor, IoActor, StartFailed, Token, TokenState
from actors.concurrency._pinned_dispatcher import PinnedDispatcher
from actors.concurrency._run_queue import RunQueue
from actors.drains._cpu_drain import SlotHere
from actors.drains._io_drain import IoDrain
from actors.drains._io_worker import IoWorker
from actors.lowlevel import ActorPlace, DaemonThread, Mailbox, OperationPlace
from actors.mailboxes._mailbox import Drainer
from actors.places import _life
from actors.processes._operation_drain import OperationDrain
from actors.system._recovery import Recovery, _locals

pytestmark = pytest.mark.usefixtures("frequent_looks")

LIMIT = 30.0

Until = Callable[[Callable[[], bool]], None]


class Struck(BaseException):
    """Raised by the signal handler."""


@pytest.fixture(params=["io", "asyncio", "cpu"])
def place(request: pytest.FixtureRequest, system: ActorSystem) -> OperationPlace:
    return system.operation_place("operation", request.param, generator=False, concurrency=1)


def strike(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """Make a method raise once, before it does anything, on this thread: recovery may call it as well."""
    original, thread = getattr(owner, name), threading.get_ident()
    left = [None]

    def method(*args: Any, **kwargs: Any) -> Any:
        if left and threading.get_ident() == thread:
            left.pop()
            raise Struck
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, method)


def submit(place: OperationPlace, call: Callable[..., Any] = int) -> Token[Any]:
    return place.send(place.token("op", call, (), {}))


@pytest.mark.parametrize(
    ("struck", "priority"),
    [("_call_drainer", 0), ("_new_drainer", 0), ("_wake", 0), ("_missing", 1), ("_enter", 1), ("_set_flags", 1)],
    ids=lambda value: value.strip("_") if isinstance(value, str) else "",
)
def test_a_token_whose_drainer_was_not_called_runs(
    place: OperationPlace, monkeypatch: pytest.MonkeyPatch, struck: str, priority: int
) -> None:
    """Wherever its sender was interrupted after it had queued it; and so does the next one."""
    mailbox = place.mailbox
    token = place.token("op", int, (), {}, priority)
    with monkeypatch.context() as patch:
        if struck in ("_new_drainer", "_wake"):
            strike(patch, type(place.drain), struck.lstrip("_"))
            patch.setattr(mailbox, struck, getattr(place.drain, struck.lstrip("_")))
        else:
            strike(patch, type(mailbox), struck)
        with pytest.raises(Struck):
            place.send(token)
    following = submit(place)

    assert token.result(LIMIT) == 0
    assert following.result(LIMIT) == 0
    assert place.mailbox.concurrency == 1


def test_a_drainer_that_is_called_twice_comes_once(place: OperationPlace, until: Until) -> None:
    """So that it can be called again whenever it is not known whether it was."""
    at_work: list[int] = []
    together: list[int] = []

    def count() -> None:
        at_work.append(1)
        together.append(len(at_work))
        at_work.pop()

    for _ in range(200):
        token = submit(place, count)
        for drainer in place.mailbox.recover():
            place.drain.wake(drainer)
        assert token.exception(LIMIT) is None
    until(lambda: place.mailbox.active == 0)

    assert set(together) == {1}


@pytest.mark.parametrize("affinity", ["io", "asyncio"])
def test_a_drainer_whose_call_is_pending_is_not_called_again(
    affinity: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """However often recovery looks while the loop is busy."""
    monkeypatch.setattr(Recovery, "open", lambda _self: None)  # it looks here only
    system = ActorSystem("test", blocked_after=None)
    system.open()
    busy, leave = threading.Event(), threading.Event()

    def hold_up() -> None:
        busy.set()
        leave.wait(LIMIT)

    try:
        place = system.operation_place("operation", affinity, generator=False, concurrency=1)
        host = cast("IoDrain", place.drain).host
        submit(place).result(LIMIT)
        until(lambda: place.mailbox.active == 0)  # its drainer has left, so that the next token calls it
        host.call_soon(hold_up)
        assert busy.wait(LIMIT)
        token = submit(place)
        recovery = Recovery(system)
        for _ in range(3):
            recovery.look()
        pending = list(host._pending)
        leave.set()

        assert len(pending) == 1
        assert token.result(LIMIT) == 0
    finally:
        leave.set()
        system.close(LIMIT)


def test_a_loop_that_was_not_woken_calls_what_is_pending(system: ActorSystem, until: Until) -> None:
    """The note that it is about to be woken is no promise."""
    called: list[int] = []
    system.io_host._wakeup_pending = True  # as an interrupted caller leaves it
    system.io_host.call_soon(lambda: called.append(1))

    until(lambda: called == [1])


def test_a_token_that_was_never_sent_is_rejected(place: OperationPlace) -> None:
    """Its sender was interrupted between making and sending it; no wait for it lasts for ever."""
    token = place.token("op", int, (), {})
    assert "interrupted" in str(token.exception(LIMIT))

    assert token.state is TokenState.REJECTED
    assert not place.system.live


def test_the_variables_of_generators_are_not_read() -> None:
    """CPython 3.13.0 to 3.13.5 can crash when it does that, since another thread may drop the generator meanwhile."""
    reached, door = threading.Event(), threading.Event()
    names: dict[str, Any] = {"__name__": "actors.places.test", "reached": reached, "door": door}
    exec(
        "def generator(inner):\n reached.set()\n door.wait()\n yield inner\n"
        "def function(outer, inner):\n return list(generator(inner))\n",
        names,
    )
    outer, inner = object(), object()
    thread = threading.Thread(target=lambda: names["function"](outer, [inner]))
    thread.start()
    assert reached.wait(LIMIT)
    held = _locals(waiting=True)
    door.set()
    thread.join(LIMIT)

    assert outer in held
    assert held.count([inner]) == 1


def test_a_token_that_a_function_of_the_runtime_holds_is_left_alone(system: ActorSystem) -> None:
    """A sender may be slow; it is none that was interrupted."""
    place = system.operation_place("narrow", "cpu", generator=False, concurrency=1, capacity=1)
    door = threading.Event()
    running = submit(place, lambda: door.wait(LIMIT))
    queued = [submit(place)]
    sender = threading.Thread(target=lambda: queued.append(submit(place)))
    sender.start()
    look_five_times(system)
    door.set()
    sender.join(LIMIT)

    assert running.result(LIMIT)
    assert [token.result(LIMIT) for token in queued] == [0, 0]


def look_while_held(system: ActorSystem, door: Door, function: Callable[..., object], *args: Any) -> None:
    """Have recovery look five times while a thread, which calls the function, stands at the door; let it end then."""
    held = threading.Thread(target=function, args=args)
    held.start()
    door.wait_reached()
    look_five_times(system)
    door.open()
    held.join(LIMIT)


def look_five_times(system: ActorSystem) -> None:
    """Have recovery look more often than it takes to act."""
    recovery = Recovery(system)
    for _ in range(5):
        trio.run(recovery.look_at_all)


def test_tokens_that_are_ended_one_after_the_other_are_left_alone(system: ActorSystem) -> None:
    """Whoever closes their mailbox may be slow: each gets the error that says so."""
    place = system.operation_place("closing", "cpu", generator=False, concurrency=1)
    place.mailbox.suspend()
    tokens = [submit(place) for _ in range(3)]
    door = Door()
    tokens[0].add_done_callback(lambda _: door.pass_through())
    look_while_held(system, door, place.terminate_queued, "has stopped")

    assert [type(token.exception(LIMIT)) for token in tokens] == [ActorDead] * 3


def test_tokens_that_a_worker_has_not_started_are_left_alone(
    system: ActorSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are queued again one after the other, and the thread that does so may be slow."""
    place = system.operation_place("again", "process", generator=False, concurrency=1)
    place.mailbox.suspend()
    tokens = [submit(place) for _ in range(3)]
    assert all(place.mailbox.withdraw(token) for token in tokens)
    give_back, door = Mailbox.give_back, Door()

    def give_back_slowly(mailbox: Mailbox, token: Token[Any]) -> bool:
        door.pass_through()
        return give_back(mailbox, token)

    monkeypatch.setattr(Mailbox, "give_back", give_back_slowly)
    look_while_held(system, door, cast(OperationDrain, place.drain).take_back, tokens)

    assert place.mailbox.tokens() == set(tokens)
    assert all(token.cancel() for token in tokens)


@pytest.mark.parametrize("struck", ["note_uncompleted", "clock"])
def test_an_end_that_was_not_written_is_written(
    place: OperationPlace, monkeypatch: pytest.MonkeyPatch, until: Until, struck: str
) -> None:
    """A token that was cancelled is terminated, and counted as that once, although its canceller was interrupted."""
    place.mailbox.suspend()
    token = submit(place)
    with monkeypatch.context() as patch:
        strike(patch, place.system, struck)
        with pytest.raises(Struck):
            token.cancel()
    assert token.exception(LIMIT) is not None
    place.mailbox.resume()

    assert token.state is TokenState.TERMINATED
    until(lambda: not place.system.endings)
    assert place.system.statistics().tokens[TokenState.TERMINATED] == 1


def test_a_direct_call_whose_end_was_interrupted_gives_its_turn_up(
    place: OperationPlace, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """The next call finds the turn free, and the token has an end."""
    if place.affinity != "cpu":
        pytest.skip("it runs on the loop, where no signal handler raises")
    token = place.token("op", int, (), {})
    turn = place.turn_here(token)
    assert turn is not None
    with monkeypatch.context() as patch:
        patch.setattr(Token, "_finish", lambda *_args, **_kwargs: (_ for _ in ()).throw(Struck))
        with pytest.raises(Struck):
            turn.run()
    del turn
    until(lambda: place.mailbox.active == 0)

    assert token.state is TokenState.TERMINATED
    assert submit(place).result(LIMIT) == 0


def test_lanes_that_were_left_in_disorder_are_put_in_order(desk: Any) -> None:
    """A lane without its place in the order, and a count that is one too high."""
    mailbox = desk.mailbox()
    mailbox.put(desk.token(5))
    mailbox._lanes.others += 1
    mailbox._lanes._order.clear()
    (drainer,) = mailbox.recover()

    assert mailbox.size == 1
    assert mailbox.take(drainer).priority == 5


def test_a_turn_that_was_lent_for_a_token_that_has_ended_is_taken_back(desk: Any) -> None:
    """Its step was interrupted before it said that it goes on."""
    mailbox = desk.mailbox(concurrency=1)
    turn = Drainer()
    assert mailbox.try_enter(turn)
    waiter = desk.token()
    mailbox.lend(waiter)
    assert mailbox.active == 0
    waiter._begin(0.0)
    waiter._finish(TokenState.COMPLETED)
    mailbox.recover()

    assert mailbox.active == 1


def test_an_item_whose_thread_was_not_woken_is_taken(until: Until) -> None:
    """The thread sleeps until something wakes it, and it is woken once."""
    queue: RunQueue[int] = RunQueue()
    taken: list[int | None] = []
    thread = threading.Thread(target=lambda: taken.append(queue.take()))
    thread.start()
    until(lambda: len(queue._sleepers) == 1)
    queue._items.append(7)  # as an interrupted `put` leaves it
    assert not taken
    queue.recover()
    thread.join(LIMIT)

    assert taken == [7]


def test_a_token_that_was_being_taken_out_of_a_pause_has_an_end(
    place: OperationPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is paused in its queue, and whose canceller was interrupted, is nowhere else."""
    place.mailbox.suspend()
    token = submit(place)
    assert place.mailbox.hold(token)
    with monkeypatch.context() as patch:
        strike(patch, type(place.mailbox), "_note_gone")
        with pytest.raises(Struck):
            token.cancel()
    assert token.exception(LIMIT) is not None
    place.mailbox.resume()

    assert token.state is TokenState.TERMINATED


class Pinned(CpuActor):
    dispatcher = "pinned"

    def on_receive(self, message: Any) -> Any:
        return message


def test_a_thread_whose_start_was_interrupted_is_started(system: ActorSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for it is handled."""
    place = system.place("pinned", Pinned)
    with monkeypatch.context() as patch:
        strike(patch, DaemonThread, "begin")
        with pytest.raises(Struck):
            place.start()
    token = place.send(place.token("op", None, 7))

    assert token.result(LIMIT) == 7


def test_a_start_that_is_under_way_is_left_alone(
    system: ActorSystem, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """However long it takes: a thread that is started twice breaks."""
    place = system.place("pinned", Pinned)
    starts: list[str] = []
    looks, go_on = threading.Event(), threading.Event()
    start = threading.Thread.start

    def slowly(thread: threading.Thread) -> None:
        if "pinned" in thread.name:
            starts.append(thread.name)
            looks.set()
            assert go_on.wait(LIMIT)
        start(thread)

    starter = threading.Thread(target=place.start)
    looker = threading.Thread(target=lambda: [Recovery(system).look() for _ in range(3)])
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", slowly)
        starter.start()
        assert looks.wait(LIMIT)
        looker.start()
        go_on.set()
        starter.join(LIMIT)
        looker.join(LIMIT)
    token = place.send(place.token("op", None, 7))

    assert token.result(LIMIT) == 7
    assert len(starts) == 1


@pytest.fixture(autouse=True)
def _nothing_is_left(system: ActorSystem) -> Iterator[None]:
    yield
    assert not system.live


class Plain(CpuActor):
    """Has no hooks, so its instance is made on its caller's thread."""

    def on_receive(self, message: Any) -> Any:
        return message


class Initialized(Plain):
    """Runs code when its instance is made."""

    def __init__(self) -> None:
        super().__init__()


class Failing(Plain):
    def __init__(self) -> None:
        raise ValueError("no")


class PlainIo(IoActor):
    def on_receive(self, message: Any) -> Any:
        return message


def begin_start(
    system: ActorSystem, told: list[Any], actor_class: type[CpuActor] | type[IoActor] = Plain
) -> ActorPlace:
    """Ask for the start of an actor as `start_at_once` does, and be interrupted in the middle of it."""
    ended = partial(told.append, "ended")
    place = ActorPlace(system, "plain", actor_class, owner=lambda *_: ended())
    system.starts.add(place)

    def start() -> None:
        system.enter(place)
        place.start(told.append, here=True)
        system.starts.discard(place)

    with pytest.raises(Struck):
        start()
    return place


@pytest.mark.parametrize(
    ("owner", "struck", "actor_class"),
    [
        (ActorSystem, "enter", Plain),
        (ActorPlace, "_hand_in", Plain),
        (Mailbox, "enter_idle", Plain),
        (SlotHere, "handle", Plain),
        (SlotHere, "_handle", Initialized),
        (_life, "start", Initialized),
        (_life, "start_plain", Plain),
        (_life, "_end_start", Plain),
        (Mailbox, "resume", Plain),
        (SlotHere, "leave", Plain),
        (Mailbox, "dismiss", Plain),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_start_that_was_interrupted_is_over(
    system: ActorSystem,
    monkeypatch: pytest.MonkeyPatch,
    until: Until,
    owner: object,
    struck: str,
    actor_class: type[CpuActor],
) -> None:
    """Wherever its caller was: the actor runs and serves, or its place is closed, and its owner told of that."""
    told: list[Any] = []
    with monkeypatch.context() as patch:
        strike(patch, owner, struck)
        place = begin_start(system, told, actor_class)
    until(lambda: not system.starts)

    if struck in ("leave", "dismiss"):
        assert told == [None]
        assert place.ref.ask(1, timeout=LIMIT) == 1
    else:
        assert (told, place.closed, system.place_at("plain")) == (["ended"], True, None)
    until(lambda: place.mailbox.active == 0)
    assert system.abandoned() == ()


@pytest.mark.parametrize(
    ("owner", "struck"),
    [
        (Mailbox, "enter_idle"),
        (IoWorker, "start_here"),
        (Mailbox, "resume"),
        (IoWorker, "leave_here"),
        (Mailbox, "dismiss"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_start_of_an_io_actor_that_was_interrupted_is_over(
    system: ActorSystem, monkeypatch: pytest.MonkeyPatch, until: Until, owner: type[object], struck: str
) -> None:
    """Of a class without code of its own, which is started on its caller's thread."""
    told: list[Any] = []
    with monkeypatch.context() as patch:
        strike(patch, owner, struck)
        place = begin_start(system, told, PlainIo)
    until(lambda: not system.starts)

    if struck in ("leave_here", "dismiss"):
        assert told == [None]
        assert place.ref.ask(1, timeout=LIMIT) == 1
    else:
        assert (told, place.closed, system.place_at("plain")) == (["ended"], True, None)
    drain = cast("IoDrain", place.drain)
    until(lambda: all(worker._started or worker in drain.parked for worker in list(drain.workers)))


def test_a_start_whose_report_was_interrupted_is_reported_again(system: ActorSystem, until: Until) -> None:
    """Its instance runs, so it is completed and not undone."""
    told: list[Any] = []

    def over(failure: BaseException | None) -> None:
        told.append(failure)
        if len(told) == 1:
            raise Struck

    place = ActorPlace(system, "plain", Plain)
    system.starts.add(place)
    system.enter(place)
    with pytest.raises(Struck):
        place.start(over, here=True)
    until(lambda: not system.starts)

    assert told == [None, None]
    assert place.ref.ask(1, timeout=LIMIT) == 1


@pytest.mark.parametrize("struck", ["close_below", "forget"])
def test_a_place_whose_close_was_interrupted_leaves_the_tree(
    system: ActorSystem, monkeypatch: pytest.MonkeyPatch, until: Until, struck: str
) -> None:
    """The start has failed, and its caller was interrupted as it gave up the place: the path is free again."""

    def over(failure: BaseException | None) -> None:
        assert isinstance(failure, StartFailed)
        place.close(SHUTDOWN)

    place = ActorPlace(system, "plain", Failing, owner=lambda *_: None)
    system.starts.add(place)
    system.enter(place)
    with monkeypatch.context() as patch:
        strike(patch, ActorSystem, struck)
        with pytest.raises(Struck):
            place.start(over, here=True)
    until(lambda: not system.starts)

    assert (place.closed, place.mailbox.closed, system.place_at("plain")) == (True, True, None)


def test_a_start_that_takes_long_is_left_alone(system: ActorSystem) -> None:
    """Its caller's thread is in the `__init__` of the actor, or the actor's own thread has the start."""
    opened, begun = threading.Event(), threading.Event()

    class Slow(Plain):
        def __init__(self) -> None:
            begun.set()
            assert opened.wait(LIMIT)

    place, recovery = ActorPlace(system, "slow", Slow), Recovery(system)
    system.starts.add(place)
    system.enter(place)
    caller = threading.Thread(target=lambda: place.start(here=True))
    caller.start()
    assert begun.wait(LIMIT)
    for _ in range(3):
        recovery._recover_starts()
    assert place in system.starts
    opened.set()
    caller.join(LIMIT)

    assert place.ref.ask(1, timeout=LIMIT) == 1


def test_a_start_for_which_no_thread_was_made_is_done(
    system: ActorSystem, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """Of an actor with a thread of its own: the caller was interrupted before it had made that."""

    class Pinned(Plain):
        dispatcher = "pinned"

    place = system.place("pinned", Pinned)
    with monkeypatch.context() as patch:
        strike(patch, PinnedDispatcher, "_ensure_thread")
        with pytest.raises(Struck):
            place.start(here=True)
    until(lambda: place.starts == 1)

    assert place.ref.ask(1, timeout=LIMIT) == 1
    assert len(system.pinned) == 1
