"""Feeds: what happens, in order, as long as somebody listens."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import trio
from gated_code import LIMIT, Door
from running_tokens import Turner, cpu_operation

from actors import UnknownActor
from tokengate import CpuActor, Gate, token
from tokengate.control import messages as m
from tokengate.control._exceptions import BadSelector
from tokengate.control.inspection._feeds import _KEPT, Feed

Until = Callable[[Callable[[], bool]], None]


@token
def nothing() -> str:
    return "done"


@token
def fail() -> None:
    raise LookupError("mine")


class Moody(CpuActor):
    def add(self) -> None: ...

    def crash(self) -> None:
        raise RuntimeError("as told")


def feed_of(gate: Gate, stream: m.Stream) -> Feed:
    feed = gate.find("$system/control").ask(stream)
    assert isinstance(feed, Feed)
    return feed


def observed(gate: Gate) -> bool:
    """Tell whether anybody but the gate itself, which counts restarts, is told of anything."""
    return len(gate._system._observers) > 1


def test_a_trace_has_each_token_of_its_actor_in_order(gate: Gate) -> None:
    """Queued, started, finished, as each thread tells it; nothing of others."""
    proxy = gate.spawn(Moody, name="moody").proxy()
    feed = feed_of(gate, m.Trace("moody"))
    nothing.submit().result(LIMIT)
    sent = [proxy.add() for _ in range(3)]
    for one in sent:
        one.result(LIMIT)
    items = [next(feed) for _ in range(3 * len(sent))]
    feed.close()

    assert list(feed) == []
    assert {item.actor for item in items} == {"spawned/moody"}
    for one in sent:
        kinds = [item.kind for item in items if item.token == one.id]
        assert sorted(kinds) == ["token_finished", "token_queued", "token_started"]
        assert kinds.index("token_started") < kinds.index("token_finished")  # one thread tells both
    finished = [item.token for item in items if item.kind == "token_finished"]
    assert finished == [one.id for one in sent]


def test_a_watch_follows_what_its_selector_matches(gate: Gate) -> None:
    """Errors by the name of their class."""
    with closing(feed_of(gate, m.Watch("operation=fail"))) as feed:
        nothing.submit().result(LIMIT)
        fail.submit().exception(LIMIT)
        items = [next(feed) for _ in range(3)]

    assert [item.kind for item in items] == ["token_queued", "token_started", "token_finished"]
    assert "failed" in items[-1].text
    assert "LookupError" in items[-1].text
    assert "mine" not in items[-1].text


def test_events_are_reports_and_dead_letters(gate: Gate, until: Until) -> None:
    """A crash with its restart, and what nobody handled."""
    ref = gate.spawn(Moody, name="moody")
    feed = feed_of(gate, m.Events())
    ref.proxy().crash().exception(LIMIT)
    until(lambda: gate._system.find("spawned/moody").starts == 2)  # type: ignore[attr-defined]
    gate.control.suspend("moody")
    ref.proxy().add()
    gate.control.stop("moody", drain=False)
    feed.close()
    items = list(feed)

    kinds = [item.kind for item in items]
    assert [kind for kind in kinds if kind in {"ChildEnded", "RestartScheduled", "ChildStarted"}][:3] == [
        "ChildEnded",
        "RestartScheduled",
        "ChildStarted",
    ]
    assert "dead_letter" in kinds
    assert "RuntimeError('as told')" in items[0].text
    times = [item.at for item in items if item.kind in {"ChildEnded", "RestartScheduled", "ChildStarted"}][:3]
    assert times == sorted(times)  # of one thread


def test_what_anybody_publishes_is_shown_by_its_class(gate: Gate) -> None:
    """Nothing is asked of it."""

    class Mine:
        def __repr__(self) -> str:
            raise AssertionError("nobody asks")

    with closing(feed_of(gate, m.Events())) as feed:
        gate._system.publish(Mine())
        item = next(feed)

    assert item.kind.endswith("Mine")
    assert item.actor == ""


def test_a_reader_that_is_too_slow_is_told_how_much_is_lost(gate: Gate) -> None:
    """What came first is kept, in order; the next that there is room for says how many are missing before it."""
    feed = feed_of(gate, m.Watch("operation=nothing"))
    proxy = gate._system
    for number in range(_KEPT + 7):
        feed.put(m.StreamItem(float(number), "test", "", None, str(number)))
    assert proxy is gate._system
    assert next(feed).text == "0"
    feed.put(m.StreamItem(0.0, "test", "", None, "after"))
    feed.close()
    items = list(feed)

    assert [item.text for item in items] == [*map(str, range(1, _KEPT)), "after"]
    assert [item.lost for item in items] == [0] * (_KEPT - 1) + [7]


def test_a_closed_feed_costs_nothing_and_comes_to_its_end(gate: Gate, until: Until) -> None:
    """The observer goes with it; whoever still reads gets what there was, and then the end."""
    assert not observed(gate)
    feeds = [feed_of(gate, stream) for stream in (m.Events(), m.Watch(), m.Trace("spawned"))]
    assert observed(gate)
    nothing.submit().result(LIMIT)
    first = next(feeds[1])
    until(lambda: len(feeds[1]._items) == 2)

    for feed in feeds:
        feed.close()
        feed.close()
    assert not observed(gate)
    assert [item.kind for item in (first, *feeds[1])] == ["token_queued", "token_started", "token_finished"]
    assert list(feeds[1]) == []


def test_a_feed_that_everybody_forgot_ends_with_the_next_item(gate: Gate, until: Until) -> None:
    """Whoever asked for it may have gone before he got it."""
    feed_of(gate, m.Watch())

    def ends() -> bool:
        gc.collect()  # the loop that made the feed may refer to it for a moment
        nothing.submit().result(LIMIT)
        return not observed(gate)

    until(ends)


def test_a_reader_in_a_thread_is_woken_by_an_item_and_by_the_end(gate: Gate, until: Until) -> None:
    """Nobody waits for ever."""
    feed = feed_of(gate, m.Watch("operation=nothing"))
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.extend(item.kind for item in feed))
    reader.start()
    nothing.submit().result(LIMIT)
    until(lambda: len(got) + len(feed._items) == 3)
    feed.close()
    reader.join(LIMIT)

    assert got == ["token_queued", "token_started", "token_finished"]


def test_feeds_are_followed_in_trio_and_a_wait_can_be_cancelled(gate: Gate) -> None:
    """Cancelling it loses nothing of what comes afterwards."""

    async def main() -> list[str]:
        feed = await gate.find("$system/control").call(m.Watch("operation=nothing"))
        with closing(feed):
            with trio.move_on_after(0.01):
                async for _ in feed:
                    raise AssertionError
            await nothing.submit()
            return [(await anext(feed)).kind for _ in range(3)]

    assert trio.run(main) == ["token_queued", "token_started", "token_finished"]


def test_feeds_end_with_the_gate() -> None:
    """A reader that waits then gets its end, and no error."""
    with Gate("feeds", control_socket=False) as gate:
        feed = feed_of(gate, m.Watch("operation=none"))
        reader = threading.Thread(target=lambda: list(feed))
        reader.start()
    reader.join(LIMIT)
    assert not reader.is_alive()


def test_what_cannot_be_followed_is_refused_at_once(gate: Gate) -> None:
    """And leaves no observer behind."""
    with pytest.raises(UnknownActor):
        feed_of(gate, m.Trace("nobody"))
    with pytest.raises(BadSelector):
        feed_of(gate, m.Watch("state>>1"))
    assert not observed(gate)


def test_a_watch_by_state_sees_the_state_at_each_step(gate: Gate, door: Door) -> None:
    """The selector is asked anew each time."""
    feed = feed_of(gate, m.Watch("state=running"))
    sent = cpu_operation.submit(door)  # the first one: no thread takes it before it is told that it is queued
    door.wait_reached()
    door.open()
    sent.result(LIMIT)
    feed.close()

    assert [item.kind for item in feed] == ["token_started"]


def test_a_trace_by_pattern_follows_all_that_fit(gate: Gate, door: Door) -> None:
    """Those that are there when it begins."""
    door.open()
    proxies: list[Any] = [gate.spawn(Turner, name=name).proxy() for name in ("left", "right")]
    feed = feed_of(gate, m.Trace("*t"))
    for proxy in proxies:
        proxy.turn(door).result(LIMIT)
    feed.close()

    assert {item.actor for item in feed} == {"spawned/left", "spawned/right"}  # each was queued and has started
