"""Traces of tokens, in the format that Perfetto reads."""

from __future__ import annotations

import io
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
import trio
from chrome_traces import Checked, check_trace
from memory import MIB, resident
from tiers import TORTURE

from tokengate import CpuActor, Gate, Policy, Retry, Token, current_token, token, wait
from tokengate.control.messages import Event
from tokengate.control.stream._events import event_of
from tokengate.control.stream._queued import Queued
from tokengate.telemetry import _trace
from tokengate.telemetry._lines import chosen, events_of
from tokengate.telemetry._trace import Summary, write_trace

RUN = "7f3a91c2"
AT = 1.8e9


def record(token: int, since: float, wait: float = 0.0, run: float | None = 1.0, **fields: Any) -> Event:
    """Return the record of a token that was queued so many seconds after `AT`."""
    held = fields.get("held", 0.0)
    age = wait + (run or 0.0) + held
    known = {
        "seq": token, "kind": "token.finished", "at": AT + since + age, "gate": "shop", "gate_run": RUN, "token": token,
        "uid": f"{RUN}.{token}", "operation": "resize", "actor": "operations/resize", "affinity": "cpu", "attempt": 1,
        "state": "completed", "age": age, "wait": wait, "run": run, "held": held, "worker": "shop-cpu-0", "weight": 1,
    }  # fmt: skip
    return Event(**(known | fields))


def moment(token: int, kind: str, at: float, **fields: Any) -> Event:
    known = {"seq": 1, "gate": "shop", "gate_run": RUN, "token": token, "operation": "resize", "affinity": "cpu"}
    return Event(kind=f"token.{kind}", at=AT + at, **(known | fields))


def traced(events: Sequence[Event], lacks: Sequence[str] = ()) -> tuple[Summary, Checked]:
    """Return what was written, and what it says; it keeps the rules of the format."""
    file = io.BytesIO()
    summary = write_trace(events, file, lacks)
    checked = check_trace(file.getvalue())
    slices = sum(map(len, (*checked.lines.values(), *checked.tracks.values())))
    assert (summary.slices, summary.arrows) == (slices, len(checked.arrows))
    assert list(summary.lacks) == checked.lacks
    return summary, checked


def parts(checked: Checked, token: int) -> list[tuple[str, float, float]]:
    """Return (name, start, end) of the slices on a token's line, in seconds after `AT`."""
    line = checked.lines[f"{RUN}.{token}"]
    return [(one.name, round(one.start / 1e6 - AT, 3), round(one.end / 1e6 - AT, 3)) for one in line]


def as_lines(events: Sequence[Event]) -> list[bytes]:
    """Return events as `--json` prints them: what is unknown is absent."""
    shown = [{name: value for name, value in attrs.asdict(one).items() if value is not None} for one in events]
    return [msgspec.json.encode(one) + b"\n" for one in shown]


# A gate, seen from outside


@token
def leaf(n: int) -> int:
    return n


@token
def calls_in_place(n: int) -> int:
    return leaf(n) + leaf(n)


@token
def yields(n: int) -> Iterator[None]:
    for _ in range(3):
        leaf.submit(n)
        yield


@token(affinity="io")
async def sleeps(n: int) -> int:
    await trio.sleep(0)
    return n


@token(affinity="asyncio")
async def asks(n: int) -> int:
    return n


@token(affinity="process")
def far(n: int) -> int:
    return n


@token(idempotent=True, policy=Policy(retry=Retry(attempts=3, wait=0.001, on=(ConnectionError,))))
def fails_twice(n: int) -> int:
    leaf.submit(n)
    if current_token().attempt < 3:
        raise ConnectionError
    return n


class Clerk(CpuActor):
    def ask(self, n: int) -> int:
        return leaf(n)


@token
def tree(clerk: Any, drawn: random.Random) -> None:
    kinds = [leaf, calls_in_place, yields, sleeps, asks, fails_twice]
    wait([drawn.choice(kinds).submit(n) for n in range(20)] + [far.submit(1)])
    clerk.ask(1).get()


class Ledger:
    """What the test itself has seen: each token that ended, by an observer of its own."""

    def __init__(self) -> None:
        self.ended: dict[int, Token[Any]] = {}

    def token_finished(self, token: Token[Any], /) -> None:
        self.ended[token.id] = token


def recorded(seed: int, *, moments: bool) -> tuple[list[Event], Ledger]:
    """Return the events of a gate that has closed, and what it did."""
    from tokengate.types import Observer

    class Seen(Ledger, Observer):
        pass

    events: list[Event] = []
    ledger = Seen()
    with Gate("shop") as gate:
        stream = gate._stream
        assert stream is not None
        stream.attach(
            Queued("test", lambda found: events.extend(event_of(one, stream) for one in found)), moments=moments
        )
        gate._system.add_observer(ledger)
        clerk = gate.spawn(Clerk).proxy()
        wait([tree.submit(clerk, random.Random(seed + n)) for n in range(3)])
    return events, ledger


@pytest.mark.parametrize("moments", [False, True], ids=["records", "with-moments"])
def test_slices_nest_and_arrows_have_both_ends(seed: int, moments: bool) -> None:
    """Case 21, over all affinities: each token that ended has a line, each child an arrow or is in its parent's run."""
    events, ledger = recorded(seed, moments=moments)

    summary, checked = traced(events)

    tokens = {id: one for id, one in ledger.ended.items() if not one._place.serves_operators}
    run = events[0].gate_run
    assert {f"{run}.{id}" for id in tokens} == set(checked.lines)
    inside = {one.args["uid"]: one.within[-1] for track in checked.tracks.values() for one in track if one.within}
    for id, one in tokens.items():
        attempts = [part for part in checked.lines[f"{run}.{id}"] if not part.within]
        assert [part.args["attempt"] for part in attempts] == [*range(1, one.attempt + 1)]
        assert one.finished_at is not None
        assert abs(attempts[-1].end - attempts[0].start - 1e6 * (one.finished_at - one.created_at)) < 5
        if one.parent is not None:
            in_place = inside.get(f"{run}.{id}") == tokens[one.parent].operation
            assert in_place or (f"{run}.{one.parent}", f"{run}.{id}") in checked.arrows
    assert not summary.lacks
    assert checked.counters[-1]["args"] == {"running": 0, "queued": 0}


def test_direct_calls_in_place_are_slices_in_that_of_their_caller() -> None:
    """A thread runs one thing at a time, so its slices nest as calls do."""
    events = [
        record(2, 1.0, run=1.0, parent=1),
        record(4, 3.5, run=0.2, parent=3),
        record(3, 3.0, run=1.0, parent=1),
        record(1, 0.0, run=5.0),
    ]

    _, checked = traced(events)

    [track] = checked.tracks.values()
    assert [one.within for one in track] == [(), ("resize",), ("resize",), ("resize", "resize")]


def test_what_runs_at_once_on_a_loop_has_tracks_side_by_side() -> None:
    """Slices that overlap cannot stand on one track; a track is used again when it is free."""
    events = [
        record(1, 0.0, run=2.0, affinity="io", worker="shop-io"),
        record(2, 1.0, run=2.0, affinity="io", worker="shop-io"),
        record(3, 3.0, run=1.0, affinity="io", worker="shop-io"),
    ]

    _, checked = traced(events)

    assert {name: len(track) for name, track in checked.tracks.items()} == {"shop-io": 2, "shop-io (2)": 1}


def test_a_child_on_the_loop_of_its_parent_stands_beside_it() -> None:
    """A loop runs both at once, so the one is not code of the other."""
    events = [
        record(2, 1.0, run=1.0, parent=1, affinity="io", worker="shop-io"),
        record(1, 0.0, run=5.0, affinity="io", worker="shop-io"),
    ]

    _, checked = traced(events)

    assert {name: len(track) for name, track in checked.tracks.items()} == {"shop-io": 1, "shop-io (2)": 1}
    assert checked.arrows == [(f"{RUN}.1", f"{RUN}.2")]


def test_an_arrow_leads_to_a_child_that_ends_before_or_after_its_parent() -> None:
    """From the moment at which the parent has made it."""
    events = [
        record(2, 1.0, wait=0.5, run=1.0, parent=1, worker="shop-cpu-1"),
        record(1, 0.0, run=3.0),
        record(3, 2.0, wait=4.0, run=1.0, parent=1, worker="shop-cpu-1"),
    ]

    _, checked = traced(events)

    assert checked.arrows == [(f"{RUN}.1", f"{RUN}.2"), (f"{RUN}.1", f"{RUN}.3")]


def test_a_child_of_a_later_attempt_has_its_arrow_from_that_one() -> None:
    """And one of an earlier attempt from that, also if it ends after both."""
    events = [
        record(1, 0.0, run=1.0, kind="token.retried", state="queued"),
        record(2, 3.0, run=0.5, parent=1, worker="shop-cpu-1"),
        record(1, 1.0, wait=1.0, run=2.0, attempt=2, age=4.0),
        record(3, 0.5, run=9.0, parent=1, worker="shop-cpu-2"),
    ]

    summary, checked = traced(events)

    assert checked.arrows == [(f"{RUN}.1", f"{RUN}.3"), (f"{RUN}.1", f"{RUN}.2")]
    assert [name for name, *_ in parts(checked, 1)] == [
        "resize 1", "run", "resize 1, attempt 2", "queued", "run",
    ]  # fmt: skip
    assert not summary.lacks


def test_pauses_are_where_their_moments_were() -> None:
    """One in the queue and one in the run, each in the slice of that; wait and run are without them."""
    events = [
        moment(1, "queued", 0.0),
        moment(1, "paused", 1.0),
        moment(1, "resumed", 2.0),
        moment(1, "started", 3.0),
        moment(1, "paused", 4.0),
        moment(1, "resumed", 4.5),
        record(1, 0.0, wait=2.0, held=1.5, run=2.0),
    ]

    summary, checked = traced(events)

    assert parts(checked, 1) == [
        ("resize 1", 0.0, 5.5),
        ("queued", 0.0, 3.0),
        ("paused", 1.0, 2.0),
        ("run", 3.0, 5.5),
        ("paused", 4.0, 4.5),
    ]
    assert not summary.lacks


def test_pauses_whose_moments_are_unknown_stand_before_the_run() -> None:
    """The record has their length only, and the file says so."""
    summary, checked = traced([record(1, 0.0, wait=2.0, held=1.5, run=2.0)])

    assert parts(checked, 1) == [
        ("resize 1", 0.0, 5.5),
        ("queued", 0.0, 3.5),
        ("paused", 2.0, 3.5),
        ("run", 3.5, 5.5),
    ]
    assert summary.lacks == ("the moments of 1 pauses, which were not recorded: they stand before the runs",)


def test_a_real_pause_is_in_the_run_of_its_token(until: Callable[[Callable[[], bool]], None]) -> None:
    """With the moments of a feed."""
    events: list[Event] = []
    may_end = threading.Event()

    @token
    def loops() -> Iterator[None]:
        while not may_end.is_set():
            yield

    with Gate("shop") as gate:
        stream = gate._stream
        assert stream is not None
        stream.attach(Queued("test", lambda found: events.extend(event_of(one, stream) for one in found)), moments=True)
        running = loops.submit()
        until(lambda: running.started_at is not None)
        gate.control.pause(running.id)
        until(lambda: running.state == "paused")
        gate.control.resume(running.id)
        may_end.set()
        running.result()

    _, checked = traced(events)

    [line] = checked.lines.values()
    assert ("loops 1", "run") in [one.within for one in line if one.name == "paused"]


def test_a_token_that_never_began_has_no_run() -> None:
    """It was queued, and then rejected or ended."""
    _, checked = traced([record(1, 0.0, wait=2.0, run=None, attempt=0, state="terminated")])

    assert parts(checked, 1) == [("resize 1", 0.0, 2.0), ("queued", 0.0, 2.0)]
    assert not checked.tracks


def test_a_token_whose_sender_tells_late_that_it_was_queued_has_ended_all_the_same() -> None:
    """Each thread reports its own events, so that may come after the end."""
    ended = record(1, 0.0, wait=1.0, run=2.0)
    early = traced([moment(1, "queued", 0.0), moment(1, "started", 1.0), ended])
    late = traced([moment(1, "started", 1.0), ended, moment(1, "queued", 3.0)])

    assert parts(late[1], 1) == parts(early[1], 1)
    assert late[1].counters[-1]["args"] == {"running": 0, "queued": 0}
    assert not late[0].lacks


def test_tokens_that_have_not_ended_are_drawn_to_the_end() -> None:
    """Their moments say that they were queued, and began."""
    summary, checked = traced([moment(1, "queued", 0.0), moment(1, "started", 1.0), moment(2, "queued", 4.0)])

    assert parts(checked, 1) == [("resize 1", 0.0, 4.0), ("queued", 0.0, 1.0), ("run", 1.0, 4.0)]
    assert not summary.lacks
    assert checked.counters[-1]["args"] == {"running": 1, "queued": 1}


def test_counters_say_how_many_ran_and_were_queued(seed: int) -> None:
    """At each of their points; a token that stands for several counts as these."""
    chance = random.Random(seed)
    times = [
        (chance.uniform(0, 10), chance.uniform(0, 1), chance.uniform(0, 1), chance.choice((1, 7))) for _ in range(300)
    ]
    events = [record(id, since, wait, run, weight=weight) for id, (since, wait, run, weight) in enumerate(times, 1)]

    _, checked = traced(sorted(events, key=lambda one: one.at))

    for point in checked.counters:
        at = (point["ts"] + 0.5) / 1e6 - AT
        running = sum(weight for since, wait, run, weight in times if since + wait < at < since + wait + run)
        queued = sum(weight for since, wait, _, weight in times if since < at < since + wait)
        # At the very microsecond of an edge both are right.
        near = sum(
            7
            for since, wait, run, _ in times
            for edge in (since, since + wait, since + wait + run)
            if abs(edge - at) < 3e-6
        )
        assert abs(point["args"]["running"] - running) <= near
        assert abs(point["args"]["queued"] - queued) <= near


def test_counters_have_a_bounded_number_of_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are further apart in a longer trace, and the file says how far."""
    monkeypatch.setattr(_trace, "_POINTS", 100)

    summary, checked = traced([record(id, id / 1_000, run=0.0005) for id in range(1, 501)])

    assert 20 < len(checked.counters) <= 100
    [lack] = summary.lacks
    assert lack.startswith("what came and went between two points of the counters, which are ")


def test_other_events_are_instants() -> None:
    """Restarts, interventions, and what else has happened."""
    restarted = Event(
        seq=1, kind="supervisor.child_started", at=AT, gate="shop", gate_run=RUN, text="mailer was restarted",
        actor="/mailer", details={"restarts": 2},
    )  # fmt: skip

    _, checked = traced([restarted])

    [instant] = checked.instants
    assert (instant["name"], instant["ts"]) == ("supervisor.child_started", AT * 1e6)
    assert instant["args"] == {"text": "mailer was restarted", "actor": "/mailer", "restarts": 2}


def test_a_trace_says_what_it_lacks() -> None:
    """Lost events, thinned attempts, missing parents and ends: with their numbers."""
    events = [
        record(1, 0.0, lost=3),
        record(2, 5.0, weight=10, parent=77),
        moment(3, "started", 7.0),
        Event(seq=9, kind="telemetry.lost", at=AT + 8, gate="shop", gate_run=RUN, text="8 records were lost"),
    ]

    summary, _ = traced(events, ["from 10:00 to 10:05: the disk was full"])

    assert set(summary.lacks) == {
        "from 10:00 to 10:05: the disk was full",
        "3 events, which a feed has left out, since its reader was too slow",
        "9 ordinary attempts, for which others stand: see their weight",
        "the ends of 1 tokens",
        "records that were lost before they came here: see 1 events of telemetry.lost",
        "the arrows to 1 tokens, since a parent or its run is not here, or both ends are far apart",
    }


def test_two_openings_have_tracks_of_their_own() -> None:
    """Tokens of both may have the same id."""
    second = {"gate_run": "0123abcd", "uid": "0123abcd.2"}
    _, checked = traced([record(1, 0.0), record(2, 0.5), record(2, 9.0, parent=1, **second)])

    assert set(checked.lines) == {f"{RUN}.1", f"{RUN}.2", "0123abcd.2"}
    assert not checked.arrows


def test_only_what_may_still_matter_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retried tokens, children without parents, tokens without ends: a long trace needs no more memory."""
    monkeypatch.setattr(_trace, "_KEPT", 10)
    trace = _trace.Trace()
    events = [
        one
        for id in range(3, 1_000, 3)
        for one in (
            record(id, id, parent=id + 5_000),
            moment(id + 1, "started", id),
            record(id + 2, id, kind="token.retried", state="queued", affinity="io", worker="shop-io"),
        )
    ]

    for _ in trace.items(events):
        kept = (trace._live, trace._retried, trace._runs, trace._children)
        assert max(map(len, kept)) <= 11
        assert (
            sum(len(lane._outer) for gate in trace._gates.values() for lanes in gate.lanes.values() for lane in lanes)
            <= 1_000
        )

    assert any(text.startswith("the arrows to 333 tokens") for text in trace.lacks)


def test_no_more_than_64_tracks_for_a_worker() -> None:
    """What more runs at once has the line of its token only, and the file says so."""
    events = [record(id, id / 1e3, run=10.0, affinity="io", worker="shop-io") for id in range(1, 101)]

    summary, checked = traced(events)

    assert (len(checked.lines), len(checked.tracks)) == (100, 64)
    assert summary.lacks == ("36 runs on tracks of workers, since more than 64 ran at once there",)


def test_an_empty_trace_is_one() -> None:
    """Nothing has happened."""
    summary, checked = traced([])

    assert (summary.since, checked.lines) == (None, {})


# Files


def test_a_file_has_the_trace_of_its_events(seed: int) -> None:
    """Case 21: what JSON lines say is what the events say."""
    events, _ = recorded(seed, moments=True)
    expected, found = io.BytesIO(), io.BytesIO()
    write_trace(events, expected)

    write_trace(events_of(as_lines(events), "events.jsonl", []), found)

    assert found.getvalue() == expected.getvalue()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"tokens\n", "malformed"),
        (b'{"seq": 1}\n', "missing required field"),
        (b"\xff\xfe\n", "line 3"),
        (b'{"seq":1,"kind":"a.b","at":1,"gate":"g","gate_run":"r","v":2}\n', "version 2 of events"),
    ],
)
def test_a_line_that_is_no_event_is_named(line: bytes, said: str) -> None:
    """With its file, its number, and what the lines should be."""
    lines = [*as_lines([record(1, 0.0)]), b"\n", line]

    with pytest.raises(ValueError, match=r"^day\.jsonl, line 3: ") as error:
        list(events_of(lines, "day.jsonl", []))

    assert said in str(error.value)


def test_a_last_line_that_is_not_whole_is_lacking() -> None:
    """As a program that was killed leaves it."""
    [first, second] = as_lines([record(1, 0.0), record(2, 0.0)])
    lacks: list[str] = []

    events = list(events_of([first, second[:50]], "day.jsonl", lacks))

    assert [one.token for one in events] == [1]
    assert lacks == ["the last line of day.jsonl, which is not whole"]


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ("", [1, 2, None]),
        ("operation=resize", [1, 2, None]),
        ("run>1s", [2, None]),
        ("error=Timeout", [1, None]),
        ("tenant=acme,held<1", [1, None]),
        ("held>=1", [2, None]),
        ("wait>5", [2, None]),
        ("finished>1h", [1, 2, None]),
        ("run.p95<1.5,overrun>1.5", [2, None]),
    ],
)
def test_a_selector_chooses_tokens(select: str, expected: list[int | None]) -> None:
    """What is of no token is always there."""
    events = [
        record(1, 0.0, error="Timeout", tags={"tenant": "acme"}),
        record(2, 0.0, wait=6.0, run=2.0, held=1.0, predicted={"run.p95": 1.25}),
        Event(seq=3, kind="gate.opened", at=AT, gate="shop", gate_run=RUN),
    ]

    assert [one.token for one in chosen(events, select, AT + 7_200)] == expected


@pytest.mark.skipif(not TORTURE, reason="a minute: TOKENGATE_TORTURE=1")
def test_a_million_events_take_no_more_memory_than_a_few(tmp_path: Path) -> None:
    """The file is written as the events come."""

    def events(number: int) -> Iterator[Event]:
        for id in range(1, number + 1):
            yield record(id, id / 1e4, 0.001, 0.002, parent=max(1, id - 9), worker=f"shop-cpu-{id % 50}")

    with (tmp_path / "trace.json").open("wb") as file:
        write_trace(events(100_000), file)
        before = resident()
        write_trace(events(1_000_000), file)

        assert resident() - before < 20 * MIB
