"""Feeds: what happens, in order, as long as a reader follows it."""

from __future__ import annotations

import gc
import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
from gated_code import LIMIT, Door
from made_events import made_event
from running_tokens import KINDS, Kind, Turner, cpu_operation

from actors import LoopBlocked
from tokengate import CpuActor, Gate, events, token
from tokengate.control import messages as m
from tokengate.control._exceptions import BadRequest, BadSelector
from tokengate.control.inspection._feeds import Feed
from tokengate.control.stream._kinds import _REPORTS, said_by
from tokengate.control.stream._record import Entry
from tokengate.control.stream._stream import Stream
from tokengate.events import Report, TransactionStuck
from tokengate.policy._events import PolicyEvent

Until = Callable[[Callable[[], bool]], None]

MOMENTS = ["token.queued", "token.started", "token.finished"]


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


@pytest.fixture
def stream(gate: Gate) -> Stream:
    assert gate._stream is not None
    return gate._stream


def feed_of(gate: Gate, select: str = "", *kinds: str, buffer: int = 1_000) -> Feed[Entry]:
    feed = gate.find("$system/control").ask(m.Watch(select, kinds=kinds, buffer=buffer))
    assert isinstance(feed, Feed)
    return feed


def taken(feed: Feed[Any], number: int) -> list[m.Event]:
    return [next(feed) for _ in range(number)]


def observed(gate: Gate) -> bool:
    """Tell whether anybody but the gate itself, which counts restarts, is told of anything."""
    return len(gate._system._observers) > 1


# What a feed has


def test_an_actor_is_followed_by_its_path(gate: Gate) -> None:
    """Case 8: queued, started, finished, each of its tokens in order; nothing of others."""
    proxy = gate.spawn(Moody, name="moody").proxy()
    feed = feed_of(gate, "actor=/spawned/moody")
    nothing.submit().result(LIMIT)
    sent = [proxy.add() for _ in range(3)]
    for one in sent:
        one.result(LIMIT)
    items = taken(feed, 3 * len(sent))
    feed.close()

    assert list(feed) == []
    assert {item.actor for item in items} == {"spawned/moody"}
    for one in sent:
        kinds = [item.kind for item in items if item.token == one.id]
        assert sorted(kinds) == sorted(MOMENTS)
        assert kinds.index("token.started") < kinds.index("token.finished")  # one thread tells both
    finished = [item.token for item in items if item.kind == "token.finished"]
    assert finished == [one.id for one in sent]


def test_a_selector_follows_the_tokens_that_it_matches(gate: Gate) -> None:
    """Case 8: errors by the name of their class."""
    with closing(feed_of(gate, "operation=fail")) as feed:
        nothing.submit().result(LIMIT)
        fail.submit().exception(LIMIT)
        items = taken(feed, 3)

    assert [item.kind for item in items] == MOMENTS
    assert "failed" in items[-1].text
    assert (items[-1].error, items[-1].state) == ("LookupError", "failed")
    assert "mine" not in items[-1].text


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_pauses_are_followed_for_tokens_of_every_kind(gate: Gate, kind: Kind, door: Door) -> None:
    """Between the start and the end, each once."""
    wanted = ("token.paused", "token.resumed", "token.finished")
    with closing(feed_of(gate, "", *wanted)) as feed:
        sent = kind.begin(gate, door)
        door.wait_reached()
        gate.control.pause(sent.id, wait=LIMIT)
        gate.control.resume(sent.id)
        door.open()
        items = taken(feed, 3)

    assert tuple(item.kind for item in items) == wanted
    assert {item.token for item in items} == {sent.id}


def test_without_selector_and_kinds_a_feed_has_what_is_no_tokens(gate: Gate, until: Until, stream: Stream) -> None:
    """Case 8: a crash with its restart, and what nobody handled."""
    ref = gate.spawn(Moody, name="moody")
    feed = feed_of(gate)
    ref.proxy().crash().exception(LIMIT)
    until(lambda: gate._system.find("spawned/moody").starts == 2)  # type: ignore[attr-defined]
    gate.control.suspend("moody")
    ref.proxy().add()
    gate.control.stop("moody", drain=False)
    assert stream.flush(LIMIT)
    feed.close()
    items = list(feed)

    restarts = [item for item in items if item.kind.startswith("supervisor.")]
    assert [item.kind for item in restarts][:3] == [
        "supervisor.child_ended",
        "supervisor.restart_scheduled",
        "supervisor.child_started",
    ]
    assert "error(RuntimeError)" in restarts[0].text
    assert restarts[1].details is not None
    assert {**restarts[1].details, "reason": ""} == {"supervisor": "spawned", "reason": "", "attempt": 1, "delay": 0.0}
    kinds = Counter(item.kind for item in items)
    assert kinds["token.dead_letter"] == 1
    assert kinds["actor.ended"] >= 1
    assert not {"token.queued", "token.started", "token.finished"} & {*kinds}
    acted = [item for item in items if item.kind == "control.acted"]
    assert [(item.details or {})["verb"] for item in acted] == ["suspend", "stop"]
    assert [item.seq for item in items] == sorted(item.seq for item in items)


def test_kinds_may_be_what_they_begin_with(gate: Gate) -> None:
    """A part before a dot; with a selector, both must fit."""
    with (
        closing(feed_of(gate, "operation=fail", "token.finished")) as finished,
        closing(feed_of(gate, "", "token")) as tokens,
    ):
        nothing.submit().result(LIMIT)
        fail.submit().exception(LIMIT)
        assert [item.operation for item in taken(finished, 1)] == ["fail"]
        assert Counter(item.kind for item in taken(tokens, 6)) == Counter(MOMENTS * 2)


def test_a_kind_that_is_not_there_is_an_error_that_names_those_that_are(gate: Gate) -> None:
    """A mistyped one would wait for ever."""
    for wrong in ("tokn", "token.finish", "token.", "", "supervisor.child_ended.x"):
        with pytest.raises(BadRequest, match=rf"there is no kind of event '{wrong}'; there are: token\.queued, "):
            feed_of(gate, "", wrong)
    assert not observed(gate)


def test_what_is_about_an_actor_fits_a_selector_of_actors(gate: Gate, until: Until) -> None:
    """Other terms compare what it does not have."""
    gate.spawn(Moody, name="left")
    with closing(feed_of(gate, "actor=left", "supervisor")) as feed:
        gate.spawn(Moody, name="right")
        gate.find("left").proxy().crash().exception(LIMIT)
        assert {item.actor for item in taken(feed, 3)} == {"spawned/left"}


def test_what_any_code_publishes_has_the_name_of_its_class(gate: Gate) -> None:
    """Nothing is asked of it."""

    class Nosy(type):
        def __eq__(cls, other: object) -> bool:
            raise AssertionError("nobody compares classes")

        __hash__ = None  # type: ignore[assignment]

    class Mine(metaclass=Nosy):
        def __repr__(self) -> str:
            raise AssertionError("nobody asks")

        @property
        def __class__(self) -> Any:
            raise AssertionError("nobody asks")

    with closing(feed_of(gate)) as feed:
        gate._system.publish(Mine())
        item = next(feed)
    with closing(feed_of(gate, "", "event.Mine")) as feed:
        gate._system.publish("of users")
        gate._system.publish(Mine())
        assert next(feed).kind == "event.Mine"

    assert item.kind == "event.Mine"
    assert item.text.endswith("Mine")
    assert item.actor is None


def test_a_blocked_loop_and_a_stuck_rollback_say_what_they_are_about(gate: Gate, door: Door) -> None:
    """The token, if there is one."""
    sent = cpu_operation.submit(door)
    door.wait_reached()
    with closing(feed_of(gate)) as feed:
        gate._system.publish(LoopBlocked(sent, 1.5, "stack", "io"))
        gate._system.publish(LoopBlocked(None, 2.0, "", "asyncio"))
        gate._system.publish(TransactionStuck("order 7", {3: "LookupError"}, (4,)))
        first, second, third = taken(feed, 3)
    door.open()

    assert (first.kind, first.token, first.actor) == ("loop.blocked", sent.id, sent.actor)
    assert first.details == {"loop": "io", "seconds": 1.5}
    assert "many short steps" in second.text
    assert third.kind == "policy.transaction_stuck"
    assert third.details == {"transaction": "order 7", "failed": 1, "running": 1}


def test_every_kind_that_events_of_the_runtime_have_is_listed() -> None:
    """`watch --help` and the pages have it."""
    published = [one for name in events.__all__ if isinstance(one := getattr(events, name), type)]
    policies = {one.kind for one in published if issubclass(one, PolicyEvent)}
    reports = {one for one in published if issubclass(one, Report)}
    assert {cls for cls, _ in _REPORTS} == reports - {Report}
    assert {*policies, *(kind for _, kind in _REPORTS), said_by(TransactionStuck("x", {})).kind} <= {*m.KINDS}
    page = (Path(__file__).parents[4] / "docs" / "control.md").read_text()
    assert "\n".join(f"| `{kind}` | {what} |" for kind, what in m.KINDS.items()) in page


def test_a_verb_is_told_if_it_has_changed_something(gate: Gate, door: Door, stream: Stream) -> None:
    """Who has done what, to how many; looking, dry runs and what was so already are not told."""
    sent = cpu_operation.submit(door)
    door.wait_reached()
    with closing(feed_of(gate, "", "control.acted")) as feed:
        gate.control.tokens()
        gate.control.renice(sent.id, 3, dry_run=True)
        gate.control.resume(sent.id)
        gate.control.pause([sent.id, 10**9], wait=LIMIT)
        gate.control.suspend(sent.actor)
        gate.control.suspend(sent.actor)
        gate.control.throttle("tenant=acme", concurrency=1)
        assert stream.flush(LIMIT)
    gate.control.resume(sent.id)
    door.open()
    said = [(item.details, item.actor) for item in feed]
    by = {"caller": "process", "via": "process", "targets": 1}

    assert said == [
        ({"verb": "pause", **by}, None),
        ({"verb": "suspend", **by}, sent.actor),
        ({"verb": "throttle", **by}, None),
    ]


# Slow readers


def test_a_reader_that_is_too_slow_is_told_how_much_is_left_out(gate: Gate) -> None:
    """What came first is kept, in order; the next that there is room for says how many are missing before it."""
    feed: Feed[m.Event] = Feed(lambda: None, lambda event: event, longest=10)
    feed.put(made_event(float(number), "test", "", None, str(number)) for number in range(17))
    assert next(feed).text == "0"
    feed.put([made_event(0.0, "test", "", None, "after")])
    feed.close()
    items = list(feed)

    assert [item.text for item in items] == [*map(str, range(1, 10)), "after"]
    assert [item.lost for item in items] == [0] * 9 + [7]


def test_what_a_slow_feed_has_and_has_left_out_is_what_has_happened(gate: Gate, seed: int, stream: Stream) -> None:
    """Case 7: `lost` adds up exactly, whatever the buffer and whenever it is read; other feeds have all."""
    rng = random.Random(seed)
    slow, quick = (feed_of(gate, "operation=nothing", "token.finished", buffer=size) for size in (7, 10_000))
    seen: list[m.Event] = []
    total = 0
    for _ in range(30):
        number = rng.randrange(1, 20)
        for one in [nothing.submit() for _ in range(number)]:
            one.result(LIMIT)
        total += number
        while sum(1 for _ in quick._items) < total:
            assert stream.flush(LIMIT)
        seen += taken(slow, rng.randrange(len(slow._items) + 1))
    seen += taken(slow, len(slow._items))
    nothing.submit().result(LIMIT)
    seen.append(next(slow))
    slow.close()
    assert stream.flush(LIMIT)
    quick.close()

    assert len(seen) + sum(item.lost for item in seen) == total + 1
    assert len(list(quick)) == total + 1
    assert max(item.lost for item in seen) > 0


# The end


def test_a_closed_feed_costs_nothing_and_comes_to_its_end(gate: Gate, until: Until) -> None:
    """The observers go with it; a reader gets what there was, and then the end."""
    assert not observed(gate)
    feeds = [feed_of(gate), feed_of(gate, "operation=nothing"), feed_of(gate, "actor=spawned")]
    assert observed(gate)
    nothing.submit().result(LIMIT)
    first = next(feeds[1])
    until(lambda: len(feeds[1]._items) == 2)

    for feed in feeds:
        feed.close()
        feed.close()
    assert not observed(gate)
    assert [item.kind for item in (first, *feeds[1])] == MOMENTS
    assert list(feeds[1]) == []


def test_a_feed_of_other_events_does_not_have_tokens_recorded(gate: Gate) -> None:
    """Their threads do nothing for it."""
    with closing(feed_of(gate)):
        assert gate._system.on_token_finished is None
        assert gate._system.on_token_queued is None
        with closing(feed_of(gate, "", "token.finished")):
            assert gate._system.on_token_finished is not None
            assert gate._system.on_token_queued is None


def test_a_feed_has_nothing_from_before_it(gate: Gate, stream: Stream, until: Until) -> None:
    """Also if another one has kept the stream going."""
    with closing(feed_of(gate, "", "event")) as before:
        gate._system.publish("first")
        with closing(feed_of(gate, "", "event")) as after:
            gate._system.publish("second")
            assert next(after).seq == taken(before, 2)[1].seq


def test_a_feed_that_is_forgotten_ends_with_the_next_event(gate: Gate, until: Until) -> None:
    """What asked for it may have gone before it got it."""
    feed_of(gate, "operation=nothing")

    def ends() -> bool:
        gc.collect()  # the loop that made the feed may refer to it for a moment
        nothing.submit().result(LIMIT)
        return not observed(gate)

    until(ends)


def test_a_reader_in_a_thread_is_woken_by_an_event_and_by_the_end(gate: Gate, until: Until) -> None:
    """Nobody waits for ever."""
    feed = feed_of(gate, "operation=nothing")
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.extend(item.kind for item in feed))
    reader.start()
    nothing.submit().result(LIMIT)
    until(lambda: len(got) + len(feed._items) == 3)
    feed.close()
    reader.join(LIMIT)

    assert got == MOMENTS


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

    assert trio.run(main) == MOMENTS


def test_feeds_end_with_the_gate_and_have_what_was_before() -> None:
    """A reader that waits then gets its end, and no error."""
    got: list[str] = []
    with Gate("feeds", control_socket=False) as gate:
        feed = feed_of(gate, "", "event", "gate")
        reader = threading.Thread(target=lambda: got.extend(item.kind for item in feed))
        reader.start()
        gate._system.publish("last")
    reader.join(LIMIT)
    assert not reader.is_alive()
    assert got == ["event.str", "gate.closing"]


def test_what_cannot_be_followed_is_refused_at_once(gate: Gate) -> None:
    """And leaves no observer behind. What was called `running` of a live token is `run` of a record."""
    with pytest.raises(BadSelector):
        feed_of(gate, "state>>1")
    with pytest.raises(BadSelector, match=r"'running' is of live tokens .*; use run"):
        feed_of(gate, "running>5s")
    assert not observed(gate)


def test_tags_choose_tokens(gate: Gate) -> None:
    """A tag with the name of a field is written with `tag.` before it."""
    tagged = nothing.with_options(tags={"tenant": "acme", "run": "1", "running": "2"})
    with closing(feed_of(gate, "tenant=acme,tag.run=1,tag.running=2,priority=0")) as feed:
        nothing.submit().result(LIMIT)
        sent = tagged.submit()
        assert {item.token for item in taken(feed, 3)} == {sent.id}


def test_a_selector_by_state_sees_the_state_at_each_step(gate: Gate, door: Door, stream: Stream) -> None:
    """It is compared with each event anew."""
    feed = feed_of(gate, "state=running")
    sent = cpu_operation.submit(door)
    door.wait_reached()
    door.open()
    sent.result(LIMIT)
    assert stream.flush(LIMIT)
    feed.close()

    assert [item.kind for item in feed] == ["token.started"]


def test_actors_are_followed_by_pattern(gate: Gate, door: Door, stream: Stream) -> None:
    """All that fit."""
    door.open()
    proxies: list[Any] = [gate.spawn(Turner, name=name).proxy() for name in ("left", "right")]
    feed = feed_of(gate, "actor=*t")
    for proxy in proxies:
        proxy.turn(door).result(LIMIT)
    assert stream.flush(LIMIT)
    feed.close()

    assert {item.actor for item in feed} == {"spawned/left", "spawned/right"}  # each was queued and has started
