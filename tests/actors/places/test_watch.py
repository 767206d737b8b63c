"""Watches: contract tests over both kinds of actors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import pytest
import trio
from shared_lists import Boom

from actors import (
    KILLED,
    NOPROC,
    NORMAL,
    SHUTDOWN,
    ActorSystem,
    AsyncioActor,
    BaseActor,
    CpuActor,
    DeadLetter,
    Down,
    ExitReason,
    Overflow,
    WaitTimeout,
)
from actors.lowlevel import ActorPlace
from actors.system._recovery import Recovery

LIMIT = 30.0

Start = Callable[..., Any]
Owner = Callable[[ActorPlace, ExitReason, bool], None]


def keep(_place: ActorPlace, _reason: ExitReason, _administrative: bool) -> None:
    """Act as the owner of a place as the supervisor of a transient child does before it decides."""


def restart(place: ActorPlace, _reason: ExitReason, administrative: bool) -> None:
    if not administrative:
        place.start()


def make(base: type[BaseActor], **attributes: Any) -> type[BaseActor]:
    class Mortal(base):  # type: ignore[misc, valid-type]
        def on_start(self) -> None:
            self.got: list[Any] = []

        def on_receive(self, message: Any) -> Any:
            if isinstance(message, Down):
                self.got.append(message)
                return None
            return message(self)

    for name, value in attributes.items():
        setattr(Mortal, name, value)
    return Mortal


boom: Callable[[Any], None] = lambda _actor: (_ for _ in ()).throw(Boom)  # noqa: E731  # travels by value


def placed(system: ActorSystem, path: str, actor_class: type[BaseActor], owner: Owner = restart) -> Any:
    place = system.place(path, actor_class, owner=owner)
    place.start().result(LIMIT)
    return place.ref


def got(ref: Any) -> list[Down]:
    answer: list[Down] = ref.ask(lambda actor: list(actor.got), timeout=LIMIT)
    return answer


def words(downs: list[Down]) -> list[tuple[str, bool]]:
    return [(down.reason.kind, down.closed) for down in downs]


def test_an_orderly_end_of_an_unsupervised_actor_is_one_last_word(base: type[BaseActor], start: Start) -> None:
    """It names the ref and the path; when `stop` returns, it has been said."""
    ref = start(make(base))
    downs: list[Down] = []
    ref.watch(downs.append)
    ref.stop()

    assert downs == [Down(ref, ref.path, NORMAL, True)]


def test_a_stop_is_not_over_before_the_death_is_told(
    base: type[BaseActor], start: Start, door: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even for one who finds the place closed just after asking."""
    ref = start(make(base))
    ref.watch(lambda _down: door.pass_through())
    signal = ActorPlace.signal

    def slow_signal(place: ActorPlace, message: Any) -> None:
        signal(place, message)
        if place is ref._place:
            door.wait_reached()

    monkeypatch.setattr(ActorPlace, "signal", slow_signal)
    stopped = ref._place.stop(drain=False, administrative=True)
    early = stopped.done()
    door.open()

    assert not early
    assert stopped.result(LIMIT) is NORMAL


def test_a_crash_is_told_with_its_error(base: type[BaseActor], start: Start) -> None:
    """The reason is the one value that drives everything else."""
    ref = start(make(base))
    reply = ref.watch()
    ref.tell(boom)
    down = reply.result(LIMIT)

    assert (down.reason.kind, type(down.reason.error), down.closed) == ("error", Boom, True)


def test_each_end_of_an_instance_is_told_and_a_restart_ends_no_watch(
    base: type[BaseActor], system: ActorSystem
) -> None:
    """A place that goes on is not closed; giving it up is the last word."""
    ref = placed(system, "mortal", make(base))
    downs: SimpleQueue[Down] = SimpleQueue()
    watch = ref.watch(downs.put)
    for _ in range(2):
        ref.ask(boom, block=False).exception(LIMIT)
        ref.ask(bool, timeout=LIMIT)
    ref._place.close(SHUTDOWN)
    said = [downs.get(timeout=LIMIT) for _ in range(3)]

    assert words(said) == [("error", False), ("error", False), ("shutdown", True)]
    assert (downs.empty(), watch.cancel()) == (True, False)


def test_a_sealed_instance_is_told_as_killed(base: type[BaseActor], system: ActorSystem) -> None:
    """And the drainer that finds itself dismissed later adds nothing."""
    ref = placed(system, "mortal", make(base), keep)
    downs: list[Down] = []
    ref.watch(downs.append)
    ref._place.terminate_running("the test wants it")

    assert words(downs) == [("killed", False)]


def test_an_instance_that_is_sealed_in_its_on_stop_is_told_once(
    local_base: type[BaseActor], system: ActorSystem, door: Any
) -> None:
    """Its own end comes too late to be told."""
    # A door in an async hook; see test_process_actor for a process that is killed in one.

    def on_stop(_actor: Any) -> Any:
        if issubclass(local_base, CpuActor):
            door.pass_through()
            return None
        if issubclass(local_base, AsyncioActor):
            return asyncio.to_thread(door.pass_through)
        return trio.to_thread.run_sync(door.pass_through, abandon_on_cancel=True)

    ref = placed(system, "mortal", make(local_base, on_stop=on_stop), keep)
    downs: list[Down] = []
    ref.watch(downs.append)
    stopped = ref._place.stop(SHUTDOWN, drain=False, administrative=False)
    door.wait_reached()
    ref._place.terminate_running("the test wants it")
    door.open()

    assert stopped.result(LIMIT) is KILLED
    assert words(downs) == [("killed", False)]


def test_a_failed_start_is_no_end(base: type[BaseActor], system: ActorSystem) -> None:
    """Whoever started it knows; those who watch hear of ends of instances that ran."""

    def on_start(_actor: Any) -> None:
        raise Boom

    place = system.place("mortal", make(base, on_start=on_start), owner=keep)
    downs: list[Down] = []
    place.ref.watch(downs.append)
    place.start().exception(LIMIT)

    assert downs == []


@pytest.mark.parametrize("closed", [True, False])
def test_who_watches_a_dead_actor_is_answered_at_once(base: type[BaseActor], system: ActorSystem, closed: bool) -> None:
    """`noproc`: there was no instance to end; `closed` tells whether one may come again."""
    ref = placed(system, "mortal", make(base), keep)
    ref.stop()
    if closed:
        ref._place.close(SHUTDOWN)
    downs: list[Down] = []
    ref.watch(downs.append)

    assert ref.watch().result(0) == Down(ref, "mortal", NOPROC, closed)
    assert downs == [Down(ref, "mortal", NOPROC, closed)]


def test_who_watches_between_two_instances_hears_when_none_comes(base: type[BaseActor], system: ActorSystem) -> None:
    """Those who have heard of the instance's end are not told again that there is none."""
    ref = placed(system, "mortal", make(base), keep)
    before: list[Down] = []
    ref.watch(before.append)
    ended = ref.watch()
    ref.ask(boom, block=False)
    ended.result(LIMIT)
    between = ref.watch()
    waiting = not between.done()
    ref._place.vacate()

    assert waiting
    assert words([between.result(0)]) == [("noproc", False)]
    assert words(before) == [("error", False)]


def test_a_cancelled_watch_hears_nothing(base: type[BaseActor], start: Start) -> None:
    """`cancel` tells whether it was on."""
    ref = start(make(base))
    downs: list[Down] = []
    watch = ref.watch(downs.append)
    cancelled = (watch.cancel(), watch.cancel())
    ref.stop()

    assert (cancelled, downs) == ((True, False), [])
    assert ref.path in repr(watch)


def test_a_callback_that_raises_is_logged_and_the_others_hear(
    base: type[BaseActor], start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """A watch never breaks the end that it is told of."""
    ref = start(make(base))
    downs: list[Down] = []

    def broken(_down: Down) -> None:
        raise Boom("broken watch")

    ref.watch(broken)
    ref.watch(downs.append)
    with caplog.at_level(logging.ERROR):
        ref.stop()

    assert len(downs) == 1
    assert "broken watch" in caplog.text


def test_a_death_can_be_awaited_and_waiting_can_time_out(base: type[BaseActor], start: Start) -> None:
    """`ref.watch()` is a reply like all others."""
    ref = start(make(base))
    with pytest.raises(WaitTimeout):
        ref.watch().result(0)

    async def main() -> Down:
        reply = ref.watch()
        ref.stop(block=False)
        down: Down = await reply
        return down

    assert trio.run(main).reason is NORMAL


def test_a_watching_actor_gets_a_message(base: type[BaseActor], start: Start) -> None:
    """Once for each watch."""
    watcher, watched = start(make(base)), start(make(base))
    for _ in range(2):
        watcher.ask(lambda actor: actor.watch(watched) and None, timeout=LIMIT)
    watched.stop()

    assert got(watcher) == [Down(watched, watched.path, NORMAL, True)] * 2


def test_a_watching_actor_is_answered_at_once_about_the_dead(base: type[BaseActor], start: Start) -> None:
    """As everybody is."""
    watcher, watched = start(make(base)), start(make(base))
    watched.stop()
    watcher.ask(lambda actor: actor.watch(watched) and None, timeout=LIMIT)

    assert words(got(watcher)) == [("noproc", True)]


def test_a_watcher_that_dies_unwatches(base: type[BaseActor], system: ActorSystem, start: Start) -> None:
    """The next instance knows of no watch; not even a word that is queued gets to it."""
    watched, watched_too = start(make(base)), start(make(base))
    watcher = placed(system, "watcher", make(base))

    def watch(actor: Any) -> None:
        actor.watch(watched)
        actor.watch(watched_too)

    watcher.ask(watch, timeout=LIMIT)
    watcher.actor_inbox.suspend()
    crashing = watcher.ask(boom, block=False)
    watched.stop()
    watcher.actor_inbox.resume()
    crashing.exception(LIMIT)
    watcher.ask(bool, timeout=LIMIT)
    watched_too.stop()

    assert got(watcher) == []


def test_a_cancelled_watch_of_an_actor_sends_nothing_not_even_what_is_queued(
    local_base: type[BaseActor], start: Start
) -> None:
    """After `cancel`, no `Down` comes."""
    # A watch cannot leave its process.
    watcher, watched = start(make(local_base)), start(make(local_base))
    watch = watcher.ask(lambda actor: actor.watch(watched), timeout=LIMIT)
    watcher.actor_inbox.suspend()
    watched.stop()
    watch.cancel()
    watcher.actor_inbox.resume()

    assert got(watcher) == []


def test_a_death_waits_for_room_as_long_as_it_takes(
    base: type[BaseActor], start: Start, system: ActorSystem, until: Any
) -> None:
    """It is not taken for the message of a sender that was interrupted, however often recovery looks."""
    watched = start(make(base))
    watcher = start(make(base, capacity=1))
    watcher.ask(lambda actor: actor.watch(watched) and None, timeout=LIMIT)
    watcher.actor_inbox.suspend()
    watcher.tell(bool)
    watched.stop()
    recovery = Recovery(system)
    for _ in range(5):
        trio.run(recovery.look_at_all)
    watcher.actor_inbox.resume()
    until(lambda: not system.live)

    assert words(got(watcher)) == [("normal", True)]
    assert system.senders == set()


@pytest.mark.parametrize("overflow", ["wait", "reject"])
def test_a_full_mailbox_loses_a_death_only_if_its_class_wants_that(
    base: type[BaseActor], start: Start, system: ActorSystem, until: Any, overflow: Overflow
) -> None:
    """With `wait` the word comes when there is room, and no thread waits; else it is a dead letter."""
    letters: list[object] = []
    system.subscribe(letters.append)
    watched = start(make(base))
    watcher = start(make(base, capacity=1, overflow=overflow))
    watcher.ask(lambda actor: actor.watch(watched) and None, timeout=LIMIT)
    watcher.actor_inbox.suspend()
    watcher.tell(bool)
    watched.stop()
    watcher.actor_inbox.resume()
    until(lambda: not system.live)
    said = words(got(watcher))

    assert said == ([("normal", True)] if overflow == "wait" else [])
    until(lambda: overflow == "wait" or letters)  # it comes after the end of its token
    assert [type(letter) for letter in letters] == ([] if overflow == "wait" else [DeadLetter])


def test_only_refs_of_this_runtime_are_watched(base: type[BaseActor], start: Start) -> None:
    """The error names what was given."""
    ref = start(make(base, expected=(TypeError,)))

    with pytest.raises(TypeError, match="'nobody'"):
        ref.ask(lambda actor: actor.watch("nobody"), timeout=LIMIT)


def test_an_actor_that_has_ended_watches_nobody(local_base: type[BaseActor], start: Start) -> None:
    """There is nobody to tell."""
    # The instance of a process cannot leave it.
    ref, other = start(make(local_base)), start(make(local_base))
    instance = ref.ask(lambda actor: actor, timeout=LIMIT)
    ref.stop()

    with pytest.raises(RuntimeError, match="does not run"):
        instance.watch(other)


def test_closing_a_system_is_the_last_word_to_all(base: type[BaseActor]) -> None:
    """Nobody waits for ever, not even for an actor that is between two instances."""
    opened = ActorSystem("ended", threads=2)
    opened.open()
    running = placed(opened, "running", make(base), keep)
    vacant = opened.place("vacant", make(base), owner=keep).ref
    replies = [running.watch(), vacant.watch()]
    opened.close(LIMIT)
    late = running.watch()

    assert words([reply.result(0) for reply in (*replies, late)]) == [
        ("killed", True),
        ("shutdown", True),
        ("noproc", True),
    ]
