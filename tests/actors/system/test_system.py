"""The system: places by path, statistics, dead letters, closing, and the default system for `Actor.start()`."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pykka
import pytest
import trio

from actors import (
    ActorDead,
    ActorSystem,
    AsyncioActor,
    BaseActor,
    CpuActor,
    DeadLetter,
    IoActor,
    NameTaken,
    StartFailed,
    TokenState,
    UnknownActor,
)
from actors.concurrency._container import Share
from actors.concurrency._loop_host import LoopHost
from actors.system import _system
from actors.system._outside import default_system

LIMIT = 30.0


class Echo(CpuActor):
    expected = (ValueError,)

    def on_receive(self, message: Any) -> Any:
        if message == "fail":
            raise ValueError
        return message


@pytest.fixture
def own() -> Iterator[ActorSystem]:
    """A system that the test closes itself."""
    made = ActorSystem("own", threads=2)
    made.open()
    yield made
    made.close(LIMIT)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2"])
def test_a_bad_number_of_threads_is_refused(threads: Any) -> None:
    """The error names the system and the value."""
    with pytest.raises(ValueError, match="threads of system 's'"):
        ActorSystem("s", threads=threads)


def test_by_default_there_are_as_many_threads_as_cores_at_least_two() -> None:
    """Two, so that one that blocks does not stop all."""
    assert ActorSystem("s").dispatcher.size >= 2


@pytest.mark.parametrize(("amount", "threads"), [(1, 2), (5, 5)])
def test_the_pools_are_as_large_as_what_the_process_may_use(
    amount: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container that may use one core of 64: two threads and one process."""
    monkeypatch.setattr(_system, "cores", lambda: Share(amount, "cpu.max"))
    own = ActorSystem("s")

    assert (own.dispatcher.size, own.processes.pool.size, own.cores.source) == (threads, amount, "cpu.max")


def test_a_name_already_taken_is_an_error(system: ActorSystem) -> None:
    """The path of a live place can't be used again; that of a dead one can."""
    place = system.place("a/b", Echo)
    with pytest.raises(NameTaken, match="'a/b'"):
        system.place("a/b", Echo)
    place.start().result(LIMIT)
    place.ref.stop(timeout=LIMIT)

    assert system.place("a/b", Echo).path == "a/b"


def test_places_are_found_by_path_or_by_the_end_of_it(system: ActorSystem) -> None:
    """Unknown and ambiguous names raise UnknownActor, which is a LookupError."""
    for path in ("shop/counter", "shop/till", "bank/till"):
        system.place(path, Echo)
    assert system.find("shop/till").path == "shop/till"
    assert system.find("counter").path == "shop/counter"
    with pytest.raises(UnknownActor, match="bank/till, shop/till"):
        system.find("till")
    with pytest.raises(UnknownActor, match="nobody"):
        system.find("nobody")
    with pytest.raises(LookupError):
        system.find("ounter")

    assert [place.path for place in system.places()] == ["shop/counter", "shop/till", "bank/till"]


def test_closing_a_place_closes_all_below_it(system: ActorSystem) -> None:
    """A path is a branch of the tree; its neighbours stay."""
    places = {path: system.place(path, Echo) for path in ("a", "a/b", "a/b/c", "ab")}
    for place in places.values():
        place.start().result(LIMIT)
    places["a"].ref.stop(timeout=LIMIT)

    assert [place.path for place in system.places()] == ["ab"]


def test_statistics_add_up_to_what_was_sent(base: Any, system: ActorSystem, doors: Any, seed: int) -> None:
    """By the test's own account of completed, failed, cancelled, rejected, queued and running."""
    chance = random.Random(seed)
    door = doors()

    class Worker(base):  # type: ignore[misc, valid-type]
        expected = (ValueError,)

        def on_receive(self, message: Any) -> Any:
            if message == "fail":
                raise ValueError
            if message == "block":
                door.pass_through()
            return message

    ref = system.start_actor(Worker, (), {})
    dead = system.start_actor(Worker, (), {})
    dead.stop(timeout=LIMIT)
    sent = dict.fromkeys(TokenState, 0)
    for _ in range(200):
        kind = chance.choice(["ok", "fail", "dead"])
        token = (dead if kind == "dead" else ref).ask(kind, block=False)
        token.exception(LIMIT)
        state = {"ok": TokenState.COMPLETED, "fail": TokenState.FAILED, "dead": TokenState.REJECTED}[kind]
        sent[state] += 1
    assert system.statistics().tokens == sent
    running = ref.ask("block", block=False)
    door.wait_reached()
    queued = [ref.ask("ok", block=False) for _ in range(7)]
    for token in queued[:3]:
        assert token.cancel()
    sent[TokenState.RUNNING] += 1
    sent[TokenState.QUEUED] += 4
    sent[TokenState.TERMINATED] += 3
    assert system.statistics().tokens == sent
    door.open()
    for token in [running, *queued]:
        token.exception(LIMIT)
    sent[TokenState.RUNNING] = sent[TokenState.QUEUED] = 0
    sent[TokenState.COMPLETED] += 5

    assert system.statistics().tokens == sent
    assert system.statistics().tokens == sent  # looking changes nothing
    assert not system.live


def test_statistics_of_a_load_from_many_threads_add_up(system: ActorSystem, race: Any) -> None:
    """Nothing is lost in the counting."""
    refs = [system.start_actor(Echo, (), {}) for _ in range(4)]

    def send(number: int) -> None:
        for token in [refs[n % 4].ask("fail" if n % 5 == 0 else n, block=False) for n in range(250)]:
            token.exception(LIMIT)

    race(*[lambda n=n: send(n) for n in range(4)])
    tokens = system.statistics().tokens

    assert (tokens[TokenState.COMPLETED], tokens[TokenState.FAILED]) == (800, 200)


def test_dead_letters_are_published(base: Any, system: ActorSystem, doors: Any, until: Any) -> None:
    """Refused, and queued when the actor ended: each is reported once, with the reason; until unsubscribed."""
    door = doors()

    class Worker(base):  # type: ignore[misc, valid-type]
        def on_receive(self, message: Any) -> Any:
            if message == "block":
                door.pass_through()
                raise KeyError("crash")

    letters: list[Any] = []
    unsubscribe = system.subscribe(letters.append)
    ref = system.start_actor(Worker, (), {})
    ref.tell("block")
    door.wait_reached()
    queued = [ref.ask(number, block=False) for number in range(2)]
    door.open()
    for token in queued:
        token.exception(LIMIT)
    until(lambda: len(letters) == 2)  # each comes after the end of its token
    ref.stop(timeout=LIMIT)
    late = ref.ask("late", block=False)
    unsubscribe()
    ref.ask("unseen", block=False)
    assert [type(letter) for letter in letters] == [DeadLetter] * 3
    assert [letter.token for letter in letters] == [*queued, late]

    assert all(isinstance(letter.reason, ActorDead) for letter in letters)


def test_what_a_listener_raises_is_logged_and_the_others_hear(
    system: ActorSystem, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken listener hurts nobody."""
    heard: list[object] = []

    def broken(_event: object) -> None:
        raise ValueError("broken listener")

    system.subscribe(broken)
    system.subscribe(heard.append)
    with caplog.at_level(logging.ERROR):
        system.publish("news")
    assert heard == ["news"]

    assert "broken listener" in caplog.text


@pytest.mark.parametrize("kind", [CpuActor, IoActor, AsyncioActor])
def test_close_ends_every_token_and_every_thread(own: ActorSystem, kind: type[BaseActor]) -> None:
    """What runs and what is queued ends in a state; whoever waits is answered; later sends are refused."""
    entered, leave = threading.Event(), threading.Event()

    class Stuck(kind):  # type: ignore[misc, valid-type]
        def on_receive(self, message: Any) -> Any:
            entered.set()
            leave.wait(LIMIT)

    ref = own.start_actor(Stuck, (), {})
    running = ref.ask("x", block=False)
    assert entered.wait(LIMIT)
    queued = ref.ask("y", block=False)
    stopped = ref.stop(block=False)
    late = own.close(0.05)
    try:
        assert {running.state, queued.state} == {TokenState.TERMINATED}
        stopped.get(timeout=LIMIT)
        assert late == own.statistics().abandoned
        with pytest.raises(ActorDead):
            ref.tell("z")
        assert ref.stop(timeout=LIMIT) is False
    finally:
        leave.set()

    assert not own.live


@pytest.mark.parametrize("kind", [CpuActor, IoActor, AsyncioActor])
def test_close_names_only_the_threads_that_are_stuck(
    own: ActorSystem, kind: type[BaseActor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that has nothing to do ends, however late it is asked, and is not called abandoned."""
    has_ended, stuck = LoopHost._has_ended, f"own-{kind.affinity}"

    def patiently(host: LoopHost, deadline: float) -> bool:  # a busy machine may hold up a loop that is to end
        return has_ended(host, deadline if host.name == stuck else time.monotonic() + LIMIT)

    monkeypatch.setattr(LoopHost, "_has_ended", patiently)
    entered, leave = threading.Event(), threading.Event()

    class Stuck(kind):  # type: ignore[misc, valid-type]
        def on_receive(self, message: Any) -> Any:
            entered.set()
            leave.wait(LIMIT)

    token = own.start_actor(Stuck, (), {}).ask("x", block=False)
    assert entered.wait(LIMIT)
    late = own.close(0.05)
    leave.set()
    assert token.done()

    assert len(late) == 1
    assert late[0].startswith(stuck)


def test_close_gives_a_running_step_time_to_finish(own: ActorSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeout is for the threads to finish what they do: one that does is not called abandoned."""
    monkeypatch.setattr("actors.system._system._LAST_SECONDS", LIMIT)
    entered, leave = threading.Event(), threading.Event()

    class Busy(CpuActor):
        def on_receive(self, message: Any) -> Any:
            entered.set()
            leave.wait(LIMIT)
            for _ in range(100_000):  # some work after its token was ended
                pass

    token = own.start_actor(Busy, (), {}).ask("x", block=False)
    assert entered.wait(LIMIT)
    token.add_done_callback(lambda _token: leave.set())

    assert own.close(0.05) == ()


def test_a_start_that_is_under_way_is_answered_when_the_system_closes(own: ActorSystem, race: Any) -> None:
    """No caller hangs: whoever waits for `on_start` gets StartFailed."""
    entered, leave = threading.Event(), threading.Event()

    class Slow(CpuActor):
        def on_start(self) -> None:
            entered.set()
            leave.wait(LIMIT)

    starting = own.place("slow", Slow).start()
    assert entered.wait(LIMIT)
    own.close(0.05)
    try:
        assert isinstance(starting.exception(LIMIT), StartFailed)
    finally:
        leave.set()


@pytest.mark.parametrize("kind", [CpuActor, IoActor, AsyncioActor])
def test_a_start_in_a_closed_system_raises(own: ActorSystem, kind: type[BaseActor]) -> None:
    """There is nobody to run it: the caller is told, and does not hang."""
    place = own.place("late", kind)
    own.close(LIMIT)

    assert isinstance(place.start().exception(LIMIT), (StartFailed, ActorDead))


def test_closing_twice_is_fine(own: ActorSystem) -> None:
    """The second close finds nothing to do."""
    assert own.close(LIMIT) == ()

    assert own.close(LIMIT) == ()


def test_sends_that_race_the_close_all_end(race: Any, seed: int, rounds: Callable[[int], int]) -> None:
    """Each token that was made ends in a state, whoever is faster; nobody hangs."""
    for number in range(rounds(25)):
        made = ActorSystem(f"race-{number}", threads=2)
        made.open()
        refs = [made.start_actor(kind, (), {}) for kind in (Echo, IoActor, AsyncioActor)]

        def send(refs: Any = refs) -> list[Any]:
            return [ref.ask(n, block=False) for n in range(20) for ref in refs]

        *sent, late = race(send, send, lambda made=made: made.close(LIMIT))

        assert late == ()
        for token in [token for tokens in sent for token in tokens]:
            token.exception(LIMIT)
            assert token.done()
        assert not made.live


def test_a_system_that_drains_accepts_only_what_live_tokens_send(system: ActorSystem, doors: Any) -> None:
    """The intake is closed, but what runs may finish its work."""
    door = doors()

    class Parent(CpuActor):
        def work(self, other: Any) -> Any:
            door.pass_through()
            return other.ask("child")

    other = system.start_actor(Echo, (), {})
    token = system.start_actor(Parent, (), {}).proxy().work(other)
    door.wait_reached()
    system.drain()
    with pytest.raises(ActorDead, match="closing"):
        other.tell("from outside")
    door.open()

    assert token.result(LIMIT) == "child"


def test_two_systems_do_not_see_each_other(system: ActorSystem, own: ActorSystem) -> None:
    """Names, ids, statistics and threads are each system's own."""
    first = system.start_actor(Echo, (), {})
    second = own.start_actor(Echo, (), {})
    assert first.path == second.path
    assert first.ask(1, block=False).id == second.ask(1, block=False).id == 1
    own.close(LIMIT)

    assert first.ask("alive", timeout=LIMIT) == "alive"


def test_events_of_a_loop_do_not_break_it(system: ActorSystem, caplog: pytest.LogCaptureFixture) -> None:
    """A call that raises on a loop of the system is logged; the loop goes on."""

    def broken() -> None:
        raise ValueError("broken call")

    async def answer() -> int:
        await trio.lowlevel.checkpoint()
        return 7

    with caplog.at_level(logging.ERROR):
        system.io_host.call_soon(broken)
        assert system.io_host.run(answer).result(LIMIT) == 7
    assert "broken call" in caplog.text

    assert not system.io_host.on_loop()


def test_bursts_of_calls_to_a_loop_keep_their_order(system: ActorSystem, race: Any) -> None:
    """None is lost, and each thread's come in its order."""
    got: list[tuple[int, int]] = []
    race(
        *[
            lambda s=s: [system.io_host.call_soon(lambda s=s, n=n: got.append((s, n))) for n in range(500)]
            for s in range(4)
        ]
    )

    async def nothing() -> None: ...

    system.io_host.run(nothing).result(LIMIT)

    assert {s: [n for sender, n in got if sender == s] for s in range(4)} == {s: list(range(500)) for s in range(4)}


# pykka's habit


@pytest.fixture
def plain(local_base: Any) -> Iterator[type[BaseActor]]:
    # Without a process: the default system would keep its fork server for all other tests. See test_process_actor.
    class Plain(local_base):  # type: ignore[misc, valid-type]
        def on_receive(self, message: Any) -> Any:
            return message

    yield Plain
    for ref in list(pykka.ActorRegistry.get_by_class(Plain)):
        ref.stop(timeout=LIMIT)


def test_start_on_the_class_uses_the_default_system(plain: Any) -> None:
    """`Cls.start()` works outside of any gate, in a system of the process's own."""
    ref = plain.start()
    assert ref.ask(1, timeout=LIMIT) == 1
    assert default_system().find(ref.path).ref is ref  # type: ignore[attr-defined]
    assert ref.stop(timeout=LIMIT)

    assert not ref.is_alive()


def test_actors_of_the_default_system_are_in_pykkas_registry(plain: Any) -> None:
    """Registered when started, unregistered when ended, so that pykka's `stop_all` reaches them."""
    ref = plain.start()
    registered = pykka.ActorRegistry.get_by_urn(ref.actor_urn)
    ref.stop(timeout=LIMIT)

    assert registered is ref
    assert pykka.ActorRegistry.get_by_urn(ref.actor_urn) is None


def test_stop_all_stops_the_last_started_first(local_base: Any) -> None:
    """Case 38. stop_all: last started, first stopped."""
    # As above.
    stopped: list[str] = []

    class Named(local_base):  # type: ignore[misc, valid-type]
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def on_stop(self) -> None:
            stopped.append(self.name)

    for name in "abc":
        Named.start(name)
    pykka.ActorRegistry.stop_all(timeout=LIMIT)

    assert stopped == ["c", "b", "a"]


def test_actors_of_other_systems_are_not_in_pykkas_registry(plain: Any, system: ActorSystem) -> None:
    """Two gates never see each other, and nobody's `stop_all` reaches their actors."""
    ref = system.start_actor(plain, (), {})
    assert ref not in pykka.ActorRegistry.get_all()
    pykka.ActorRegistry.stop_all(timeout=LIMIT)

    assert ref.ask("alive", timeout=LIMIT) == "alive"
