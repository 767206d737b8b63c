"""The stream: records of attempts, from the threads of tokens to what reads them; what is lost is counted."""

from __future__ import annotations

import gc
import logging
import os
import random
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gated_code import LIMIT, Door
from running_tokens import KINDS, Kind, cpu_operation

from tokengate import Gate, Policy, Retry, Token, token
from tokengate.control.stream._collector import KEPT, digest_of
from tokengate.control.stream._queued import LONGEST, Queued
from tokengate.control.stream._record import FINISHED, RETRIED, Batch, Entry, Happening, Measured, Record
from tokengate.control.stream._stream import Stream

Until = Callable[[Callable[[], bool]], None]


class Kept:
    """A sink that keeps what it gets; the thread of the stream can be held up in it, and it can raise."""

    def __init__(self, name: str = "kept") -> None:
        self.name = name
        self.lost = 0
        self.entries: list[Entry] = []
        self.door: Door | None = None
        self.error: Exception | None = None
        self.threads: set[str] = set()

    def take(self, batch: Batch) -> None:
        self.threads.add(threading.current_thread().name)
        door, self.door = self.door, None
        if door is not None:
            door.pass_through()
        if self.error is not None:
            raise self.error
        self.entries += batch.entries

    def close(self, _seconds: float) -> str:
        return ""

    @property
    def records(self) -> list[Record]:
        return [entry for entry in self.entries if isinstance(entry, Record)]

    @property
    def happenings(self) -> list[Happening]:
        return [entry for entry in self.entries if isinstance(entry, Happening)]

    def numbers(self) -> list[int]:
        return [entry.number for entry in self.entries]


@token
def nothing(*_args: object) -> None: ...


@token
def fail(*_args: object) -> None:
    raise LookupError("mine")


@pytest.fixture
def stream(gate: Gate) -> Stream:
    assert gate._stream is not None
    return gate._stream


@pytest.fixture
def kept(stream: Stream) -> Iterator[Kept]:
    """A sink that is attached."""
    sink = Kept()
    stream.attach(sink)
    yield sink
    stream.detach(sink)


def held_up(kept: Kept, stream: Stream, door: Door) -> None:
    """Hold the thread of the stream up in a sink."""
    kept.door = door
    stream.collector.put("test.first", "")
    door.wait_reached()


def passed_on(stream: Stream, kept: Kept, *sent: Token[Any]) -> None:
    """Wait until the records of tokens have been passed on; a result may be there a moment before its record is."""
    missing, deadline = {one.id for one in sent}, time.monotonic() + LIMIT
    while missing:
        assert stream.flush(LIMIT)
        missing -= {record.token for record in kept.records if record.kind == FINISHED}
        assert not missing or time.monotonic() < deadline


# Nothing without a reader


def test_without_a_reader_nothing_is_observed_and_no_thread_runs(gate: Gate, stream: Stream, until: Until) -> None:
    """Case 1: tokens are told to nobody, before the first reader comes and after the last one has gone."""

    def is_idle() -> bool:
        names = [thread.name for thread in threading.enumerate()]
        return gate._system.on_token_finished is None and f"{gate.name}-stream" not in names

    assert is_idle()
    first, second = Kept(), Kept()
    stream.attach(first, moments=True)
    stream.attach(second)
    assert gate._system.on_token_finished is not None
    assert gate._system.on_token_started is not None
    stream.detach(first)
    assert gate._system.on_token_started is None
    stream.detach(second)
    until(is_idle)
    assert stream.sinks == ()


def test_readers_that_come_and_go_at_once_leave_one_thread_or_none(
    gate: Gate, stream: Stream, seed: int, until: Until
) -> None:
    """A reader that is attached gets what happens then, whatever the others do."""
    errors: list[BaseException] = []

    def come_and_go(seed: int) -> None:
        rng = random.Random(seed)
        try:
            for _ in range(20):
                sink = Kept()
                assert stream.attach(sink, moments=rng.random() < 0.5)
                if rng.random() < 0.5:
                    passed_on(stream, sink, nothing.submit())
                stream.detach(sink)
        except BaseException as error:
            errors.append(error)

    with gate.entered():
        threads = [threading.Thread(target=come_and_go, args=(seed + number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert errors == []
    until(lambda: f"{gate.name}-stream" not in [thread.name for thread in threading.enumerate()])
    assert gate._system.on_token_finished is None
    assert stream.lost() == {}


# Records


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_each_attempt_leaves_one_record_whose_times_add_up(
    gate: Gate, kept: Kept, stream: Stream, kind: Kind, door: Door
) -> None:
    """Case 2: wait + run + held is its time from the queue, or from its making, to its end; over all affinities."""
    with gate.entered():
        sent = kind.begin(gate, door)
        door.wait_reached()
        if kind.interruptible and not kind.process:
            gate.control.pause(sent.id)
            gate.control.resume(sent.id)
        door.open()
        assert sent.result(LIMIT) == "through"
        passed_on(stream, kept, sent)
    [record] = [record for record in kept.records if record.token == sent.id]

    assert (record.kind, record.state, record.attempt) == (FINISHED, "completed", 1)
    assert (record.operation, record.actor, record.affinity) == (sent.operation, sent.actor, sent.affinity)
    assert record.took is not None
    begin = record.created if record.queued is None else record.queued
    assert record.wait + record.took + record.held == pytest.approx(record.ended - begin)
    assert min(record.wait, record.took, record.held) >= 0
    assert (record.held > 0, record.more.steered) == ((True, True) if record.more.steered else (False, False))


def test_pauses_are_held_time_of_the_queue_and_of_the_run(gate: Gate, kept: Kept, stream: Stream, door: Door) -> None:
    """Case 2: neither is waiting or running."""

    @token(concurrency=1)
    def turn(door: Door) -> None:
        cpu_operation.__wrapped__(door)

    first, second = turn.submit(door), turn.submit(door)
    door.wait_reached()
    gate.control.pause(second.id)
    gate.control.pause(first.id)
    clock, began = gate._system.clock, gate._system.clock()
    while clock() - began < 0.02:
        pass
    gate.control.resume(second.id)
    gate.control.resume(first.id)
    door.open()
    passed_on(stream, kept, first, second)
    records = {record.token: record for record in kept.records}

    assert records[first.id].more.parked >= 0.02
    assert records[first.id].more.kept == 0
    assert records[second.id].more.kept >= 0.02
    assert records[second.id].more.parked == 0
    for record in records.values():
        assert record.more.steered
        assert record.took is not None
        assert record.queued is not None
        assert record.wait + record.took + record.held == pytest.approx(record.ended - record.queued)


def test_an_attempt_that_another_follows_leaves_a_record_of_its_own(gate: Gate, kept: Kept, stream: Stream) -> None:
    """Case 2: `token.retried` for all but the last; each with its error and one digest of the arguments."""

    @token(policy=Policy(retry=Retry(LookupError, attempts=3, wait=0)))
    def flaky(number: int) -> None:
        raise LookupError("mine")

    sent = flaky.submit(7)
    passed_on(stream, kept, sent)
    records = [record for record in kept.records if record.token == sent.id]

    assert [(one.kind, one.attempt, one.state) for one in records] == [
        (RETRIED, 1, "queued"),
        (RETRIED, 2, "queued"),
        (FINISHED, 3, "failed"),
    ]
    assert {one.more.error for one in records} == {"LookupError"}
    assert [one.more.reason for one in records[:2]] == ["retry", "retry"]
    assert len({one.more.key for one in records}) == 1
    assert records[0].more.key
    assert stream.collector.tallies["flaky"].counts() == {
        "completed": 0, "failed": 1, "terminated": 0, "expired": 0, "rejected": 0, "retried": 2,
    }  # fmt: skip


def test_a_token_that_never_began_leaves_one_record_without_an_attempt(
    gate: Gate, kept: Kept, stream: Stream, door: Door
) -> None:
    """Case 2: one that is ended in its queue, and one that is refused."""

    @token(concurrency=1, capacity=1, overflow="reject")
    def narrow(door: Door) -> None:
        door.pass_through()

    running = narrow.submit(door)
    door.wait_reached()
    queued, refused = narrow.submit(door), narrow.submit(door)
    assert queued.cancel()
    door.open()
    passed_on(stream, kept, running, queued, refused)
    found = {record.token: record for record in kept.records}

    assert (found[queued.id].attempt, found[queued.id].state, found[queued.id].took) == (0, "terminated", None)
    assert (found[refused.id].attempt, found[refused.id].state) == (0, "rejected")
    assert found[refused.id].more.error == "MailboxFull"
    assert len(kept.records) == len(found) == 3


def test_tokens_of_the_runtime_leave_records_only_if_asked_for(
    gate: Gate, kept: Kept, stream: Stream, until: Until
) -> None:
    """`internal`; their digests are not kept either."""
    gate.control.info()
    stream.collector.internal = True
    gate.control.info()
    until(lambda: stream.flush(LIMIT) and bool(kept.records))
    assert {record.actor for record in kept.records} == {"$system/control"}
    assert stream.collector._digests == {}


# Loss


def test_what_a_full_deque_drops_is_lost_exactly_and_counts_stay_exact(
    gate: Gate, kept: Kept, stream: Stream, door: Door, until: Until
) -> None:
    """Case 3: received + lost = made; the numbers that are missing are as many; the counts know nothing of loss."""
    held_up(kept, stream, door)
    more = 300
    for sent in nothing.map(range(KEPT + more)):
        sent.result(LIMIT)
    until(lambda: stream.collector.made == 1 + KEPT + more)
    assert stream.lost() == {"collector": more}
    door.open()
    assert stream.flush(LIMIT)

    assert stream.collector.tallies["nothing"].counts()["completed"] == KEPT + more
    numbers = set(kept.numbers())
    assert len(kept.records) == KEPT == len(numbers) - 1
    assert stream.collector.latest - len(numbers) == more == stream.lost()["collector"]
    assert len(numbers) + more == stream.collector.made


def test_the_loss_never_falls_and_counts_nothing_that_is_on_its_way(
    gate: Gate, kept: Kept, stream: Stream, door: Door
) -> None:
    """Case 3: looked at all the time, while threads make records and the stream's thread takes them."""
    over = threading.Event()
    seen: list[int] = []

    def make() -> None:
        for _ in range(6_000):
            stream.collector.put("test.made", "")

    def look() -> None:
        while not over.is_set():
            seen.append(stream.lost().get("collector", 0))

    held_up(kept, stream, door)
    threads = [threading.Thread(target=make) for _ in range(3)]
    looker = threading.Thread(target=look)
    for thread in (*threads, looker):
        thread.start()
    threads[0].join()
    door.open()
    for thread in threads[1:]:
        thread.join()
    assert stream.flush(LIMIT)
    over.set()
    looker.join()
    lost = stream.lost().get("collector", 0)

    assert seen == sorted(seen)
    assert seen[-1] <= lost
    assert stream.flush(LIMIT)
    assert len(kept.entries) + lost == stream.collector.made


def test_nothing_counts_as_lost_while_there_is_room(gate: Gate, kept: Kept, stream: Stream) -> None:
    """However late a thread is that has a number and has not appended its record yet."""
    numbered, goes_on = threading.Event(), threading.Event()
    append = stream.collector._append

    def append_late(item: Any) -> None:
        numbered.set()
        assert goes_on.wait(LIMIT)
        append(item)

    stream.collector._append = append_late  # type: ignore[method-assign]
    late = threading.Thread(target=stream.collector.put, args=("test.late", ""))
    late.start()
    assert numbered.wait(LIMIT)
    stream.collector._append = append
    stream.collector.put("test.after", "")
    assert stream.flush(LIMIT)
    before = stream.lost()
    goes_on.set()
    late.join()
    assert stream.flush(LIMIT)

    assert [before, stream.lost()] == [{}, {}]
    assert [entry.kind for entry in kept.entries] == ["test.after", "test.late"]


def test_loss_is_told_as_an_event_once_and_again_if_there_is_more(
    gate: Gate, kept: Kept, stream: Stream, monkeypatch: pytest.MonkeyPatch, doors: Callable[[], Door]
) -> None:
    """`telemetry.lost`: where, how many, how many in all; its numbers add up to the loss."""
    monkeypatch.setattr("tokengate.control.stream._stream._BETWEEN", 0.0)
    for more in (5, 7):
        door = doors()
        held_up(kept, stream, door)
        for _ in range(KEPT + more):
            stream.collector.put("test.made", "")
        door.open()
        assert stream.flush(LIMIT)
        assert stream.flush(LIMIT)
    told = [one for one in kept.happenings if one.kind == "telemetry.lost"]

    assert {one.details["where"] for one in told} == {"collector"}
    assert sum(one.details["records"] for one in told) == told[-1].details["total"] == stream.lost()["collector"]
    assert told[-1].details["total"] >= 12
    assert stream.flush(LIMIT)
    assert len([one for one in kept.happenings if one.kind == "telemetry.lost"]) == len(told)


def test_a_sink_that_raises_loses_its_own_records_only(
    gate: Gate, kept: Kept, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    """Case 5: whole batches; tokens and the other sinks go on, and the log has it once."""
    bad = Kept("bad")
    bad.error = RuntimeError("it breaks")
    stream.attach(bad)
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            passed_on(stream, kept, nothing.submit())
    bad.error = None
    passed_on(stream, kept, nothing.submit())

    assert len(kept.records) == 3
    assert len(bad.records) == 1
    assert stream.lost() == {"bad": stream.collector.made - len(bad.entries)}
    assert len([record for record in caplog.records if "'bad' raised" in record.getMessage()]) == 1
    before = stream.lost()
    stream.detach(bad)
    assert stream.lost() == before  # also of one that has gone


def test_what_cannot_be_recorded_counts_as_lost_and_the_collector_goes_on(
    gate: Gate, kept: Kept, stream: Stream, caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    """Its token ends as it would; the log has it once."""

    def trace_of(_token: Token[Any]) -> None:
        raise RuntimeError("no trace")

    with caplog.at_level(logging.ERROR):
        stream.collector.trace_of = trace_of
        nothing.submit().result(LIMIT)
        nothing.submit().result(LIMIT)
        until(lambda: stream.collector.errors == 2 and bool(caplog.records))  # an error is counted before it is logged
    stream.collector.trace_of = None
    passed_on(stream, kept, nothing.submit())

    assert len(kept.records) == 1
    assert stream.lost() == {"collector": 2}
    assert len(kept.entries) + 2 == stream.collector.made
    assert stream.collector.tallies["nothing"].counts()["completed"] == 3
    assert len([record for record in caplog.records if "could not be made" in record.getMessage()]) == 1


def test_any_kind_of_record_hurries_the_thread_of_the_stream(
    gate: Gate, kept: Kept, stream: Stream, door: Door
) -> None:
    """One that fills the deque by half."""
    held_up(kept, stream, door)
    came = threading.Event()
    stream.collector.hurry = came.set  # type: ignore[method-assign]
    for _ in range(KEPT // 2):
        stream.collector.put("test.made", "")
    assert not came.is_set()
    for _ in range(256):
        stream.collector.put("test.made", "")
    del stream.collector.hurry
    door.open()
    assert came.is_set()


# Flushing, closing


def test_a_flush_waits_for_what_was_recorded_before_it(gate: Gate, kept: Kept, stream: Stream, door: Door) -> None:
    """Also for what is just being passed on; on the thread of the stream itself it cannot wait, and says so."""
    held_up(kept, stream, door)
    assert not stream.flush(0.01)
    waits = threading.Thread(target=stream.flush, args=(LIMIT,))
    waits.start()
    door.open()
    waits.join()
    assert [entry.kind for entry in kept.entries] == ["test.first"]

    inside: list[bool] = []
    kept.take = lambda _batch: inside.append(stream.flush(LIMIT))  # type: ignore[method-assign]
    stream.collector.put("test.made", "")
    assert stream.flush(LIMIT)
    assert inside == [False]
    assert kept.threads == {f"{gate.name}-stream"}


def test_what_was_recorded_before_the_close_is_passed_on_and_nothing_is_after_it() -> None:
    """A sink that comes then is not attached."""
    kept = Kept()
    with Gate("closing", control_socket=False) as gate:
        stream = gate._stream
        assert stream is not None
        stream.attach(kept)
        sent = nothing.submit()
        sent.result(LIMIT)

    assert [record.token for record in kept.records] == [sent.id]
    assert not stream.attach(Kept())
    assert stream.sinks == ()
    assert stream.flush()
    assert gate._system.on_token_finished is None


def test_closing_takes_its_seconds_and_names_what_is_left(
    gate: Gate, kept: Kept, stream: Stream, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    """Case 5: a reader that blocks holds nothing up; one that raises is named."""
    queued = Queued("archive", lambda _entries: door.pass_through())
    raises = Kept("raises")
    raises.close = lambda _seconds: 1 / 0  # type: ignore[assignment]
    stream.attach(queued)
    stream.attach(raises)
    stream.collector.put("test.first", "")
    door.wait_reached()
    began = time.monotonic()
    left = stream.close(0.05)
    assert time.monotonic() - began < LIMIT

    assert left == ["1 records of 'archive'", "what 'raises' had left"]
    assert "'raises' raised as gate" in caplog.text
    door.open()
    queued._thread.join()


def test_a_reader_that_blocks_leaves_the_others_their_time_to_close(
    gate: Gate, stream: Stream, door: Door, until: Until
) -> None:
    """Case 5: they end while it is waited for."""
    blocks, over = Queued("archive", lambda _entries: door.pass_through()), threading.Event()
    other = Queued("history", lambda _entries: None, over.set)
    stream.attach(blocks)
    stream.attach(other)
    stream.collector.put("test.first", "")
    door.wait_reached()
    closing = threading.Thread(target=stream.close, args=(LIMIT,))
    closing.start()
    until(over.is_set)
    door.open()
    closing.join()


def test_closing_names_what_the_blocked_thread_of_the_stream_has_left(
    gate: Gate, kept: Kept, stream: Stream, door: Door
) -> None:
    """Nothing waits for it."""
    held_up(kept, stream, door)
    for _ in range(3):
        stream.collector.put("test.made", "")
    assert stream.close(0.01) == ["3 records, since a reader blocks"]
    door.open()


# Readers with a thread of their own


def test_a_reader_that_blocks_loses_its_own_records_and_no_others(
    gate: Gate, kept: Kept, stream: Stream, door: Door
) -> None:
    """Case 5: a queue of 20,000, then each record is counted; the others get all."""
    got: list[Entry] = []

    def take(entries: Any) -> None:
        door.pass_through()
        got.extend(entries)

    queued = Queued("slow", take)
    stream.attach(queued)
    stream.collector.put("test.first", "")
    door.wait_reached()
    for _ in range(LONGEST // 5_000 + 1):
        for _ in range(5_000):
            stream.collector.put("test.made", "")
        assert stream.flush(LIMIT)
    assert queued.lost == stream.lost()["slow"] > 0
    door.open()
    stream.detach(queued)
    assert queued.close(LIMIT) == ""

    kinds = Counter(entry.kind for entry in kept.entries)
    assert kinds["test.made"] == LONGEST + 5_000
    made = [entry for entry in got if entry.kind.startswith("test.")]
    assert len(got) + queued.lost >= len(made) + queued.lost >= 1 + LONGEST + 5_000


@pytest.mark.parametrize("error", [OSError, SystemExit, KeyboardInterrupt])
def test_a_reader_that_raises_on_its_thread_counts_what_it_was_given(
    gate: Gate, stream: Stream, until: Until, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    """And gets what comes next; the error is told."""
    got: list[Entry] = []

    def take(entries: Any) -> None:
        if entries[0].kind == "test.bad":
            raise error("no disk")
        got.extend(entries)

    queued = Queued("archive", take)
    stream.attach(queued)
    stream.collector.put("test.bad", "")
    until(lambda: queued.lost == 1)
    stream.collector.put("test.good", "")
    assert stream.flush(LIMIT)
    stream.detach(queued)
    assert queued.close(LIMIT) == ""
    assert [entry.kind for entry in got] == ["test.good"]
    assert isinstance(queued.error, error)
    assert "'archive' raised" in caplog.text


# Memory, forks, clocks


def test_a_large_result_is_freed_while_its_record_waits(gate: Gate, kept: Kept, stream: Stream, door: Door) -> None:
    """Case 4: neither result nor argument nor error is kept by what waits for the stream's thread."""

    class Large:
        pass

    made: list[weakref.ref[Any]] = []

    @token
    def large(given: Large, fails: bool) -> Large:
        result = Large()
        made.extend([weakref.ref(given), weakref.ref(result)])
        if fails:
            raise LookupError(result)
        return result

    held_up(kept, stream, door)
    sent = [large.submit(Large(), fails) for fails in (False, True)]
    for one in sent:
        one.exception(LIMIT)
    del one
    sent.clear()
    assert len(stream.collector.pending) >= 2
    deadline = time.monotonic() + LIMIT
    while any(ref() is not None for ref in made) and time.monotonic() < deadline:
        nothing.submit().result(LIMIT)  # a thread may remember its last token
        gc.collect()

    assert [ref() for ref in made] == [None] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_has_no_reader_and_waits_for_no_lock(gate: Gate, kept: Kept, stream: Stream) -> None:
    """Case 22: whatever lock of the stream a thread held at the fork; nothing is passed on there, no thread runs."""
    passed_on(stream, kept, nothing.submit())
    with stream._lock:
        child = os.fork()
        if not child:
            try:
                names = [thread.name for thread in threading.enumerate()]
                stream.collector.put("test.child", "")
                ok = (
                    stream.flush(LIMIT)
                    and not stream.attach(Kept())
                    and stream.sinks == ()
                    and f"{gate.name}-stream" not in names
                    and gate._system.on_token_finished is None
                )
                stream.detach(kept)
                ok = ok and stream.close(LIMIT) == [] and len(kept.entries) == 1
                os._exit(0 if ok else 1)
            finally:
                os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert stream.flush(LIMIT)
    assert len(kept.records) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_gate_that_opens_in_a_forked_child_has_a_stream_of_its_own() -> None:
    """Case 22: with a run number of its own, and the parent's readers get nothing of it."""
    kept = Kept()
    gate = Gate("lazy", control_socket=False, open="lazily")
    try:
        nothing.submit().result(LIMIT)
        stream = gate._stream
        assert stream is not None
        stream.attach(kept)
        child = os.fork()
        if not child:
            try:
                sent = nothing.submit()
                sent.result(LIMIT)
                own, mine = gate._stream, Kept()
                assert own is not None
                assert own is not stream
                assert own.run != stream.run
                own.attach(mine)
                passed_on(own, mine, nothing.submit())
                ok = len(mine.records) == 1 and not kept.records
                gate.close()
                os._exit(0 if ok else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert stream.flush(LIMIT)
        assert kept.records == []
    finally:
        gate.close()


def test_a_step_of_the_clock_makes_no_negative_duration_and_is_told(
    gate: Gate, kept: Kept, stream: Stream, monkeypatch: pytest.MonkeyPatch, door: Door
) -> None:
    """Case 24: durations are of the gate's clock; `clock.stepped` says by how much the system's time was set."""
    wall, step = time.time, -3_600.0
    sent = cpu_operation.submit(door)
    door.wait_reached()
    monkeypatch.setattr("tokengate.control.stream._stream._ADJUSTED", -1.0)
    monkeypatch.setattr("tokengate.control.stream._stream.time.time", lambda: wall() + step)
    door.open()
    passed_on(stream, kept, sent)
    assert stream.flush(LIMIT)
    [record] = kept.records
    [stepped] = [one for one in kept.happenings if one.kind == "clock.stepped"]

    assert record.took is not None
    assert min(record.wait, record.took, record.ended - record.created) >= 0
    assert stepped.details["seconds"] == pytest.approx(step, abs=LIMIT)
    assert stream.utc(gate._system.clock()) == pytest.approx(wall() + step, abs=LIMIT)


def test_a_thread_that_is_held_up_between_two_clocks_sees_no_step(
    gate: Gate, kept: Kept, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three readings the one counts that took least."""
    now = [1_000.0]
    stops = iter((30.0, 0.0, 30.0))
    monkeypatch.setattr("tokengate.control.stream._stream.time.time", lambda: 5_000.0 + now[0])

    def clock() -> float:
        now[0] += next(stops_between, 0.0)
        return now[0]

    stops_between = (one for stop in stops for one in (0.0, stop))
    from tokengate.control.stream._stream import _offset

    assert _offset(clock) == 5_000.0


# Digests


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ((1, "a"), (1, "a"), True),
        ((1,), (True,), False),
        (("1",), (1,), False),
        (([1, 2], 3), ([1], 2, 3), False),
        ((1, 2), (2, 1), False),
    ],
)
def test_digests_tell_arguments_apart(gate: Gate, first: Any, second: Any, same: bool) -> None:
    """By class, value and nesting."""
    nothing.submit().result(LIMIT)
    gate.control.suspend("nothing")
    digests = [digest_of(nothing.submit(*args)) for args in (first, second)]
    assert all(digests)
    assert (digests[0] == digests[1]) is same


def test_arguments_of_users_classes_and_long_ones_have_no_digest_and_run_no_code(gate: Gate) -> None:
    """Neither a class nor its metaclass is asked; a number of a million digits is not written out."""

    class Nosy(type):
        def __eq__(cls, other: object) -> bool:
            raise AssertionError("nobody compares classes")

        __hash__ = type.__hash__

    class Mine(metaclass=Nosy):
        def __repr__(self) -> str:
            raise AssertionError("nobody asks")

    class Text(str):
        pass

    nothing.submit().result(LIMIT)
    gate.control.suspend("nothing")
    for value in (Mine(), Text("a"), "x" * 5_000, [0] * 100, 1 << 10_000, [[Mine()]], {"a": 1}):
        assert digest_of(nothing.submit(value)) == ""


def test_a_token_that_fails_with_a_huge_number_has_its_record(gate: Gate, kept: Kept, stream: Stream) -> None:
    """The collector goes on."""
    for number in (10**5_000, 1):
        passed_on(stream, kept, fail.submit(number))
    assert [bool(record.more.key) for record in kept.records] == [False, True]
    assert stream.collector._digests == {}


# Thinning


def test_one_of_so_many_ordinary_records_is_kept_and_has_their_weight(
    gate: Gate, kept: Kept, stream: Stream, until: Until
) -> None:
    """Each failure is; counts stay exact, and nothing is kept of what was left out."""
    stream.collector.every = 10
    tokens = [*nothing.map(range(1_000)), *fail.map(range(20))]
    for sent in tokens:
        stream.collector.measured[sent.id] = Measured(0.5)
        sent.exception(LIMIT)
    until(lambda: stream.collector.tallies["nothing"].counts()["completed"] == 1_000)
    passed_on(stream, kept, *tokens[1_000:])
    until(lambda: stream.flush(LIMIT) and len(kept.records) == 120)
    records = [record for record in kept.records if record.operation == "nothing"]

    assert (len(records), sum(record.weight for record in records)) == (100, 1_000)
    assert sum(record.state == "failed" for record in kept.records) == 20
    assert stream.collector.tallies["nothing"].counts()["completed"] == 1_000
    assert stream.lost() == {}


def test_slow_and_steered_attempts_are_not_ordinary(gate: Gate, kept: Kept, stream: Stream, door: Door) -> None:
    """`slow` is the run above which an attempt is kept."""
    stream.collector.every = 1_000_000
    stream.collector.tally("nothing").slow = 0.0
    slow = nothing.submit()
    passed_on(stream, kept, slow)
    stream.collector.tallies["nothing"].slow = LIMIT * 10
    nothing.submit().result(LIMIT)
    steered = cpu_operation.submit(door)
    door.wait_reached()
    gate.control.renice(steered.id, 3)
    door.open()
    passed_on(stream, kept, steered)

    assert [(record.token, record.weight) for record in kept.records] == [(slow.id, 1), (steered.id, 1)]


def test_operations_beyond_the_first_are_counted_together(
    gate: Gate, kept: Kept, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under `_other`."""
    monkeypatch.setattr("tokengate.control.stream._collector.OPERATIONS", 1)
    for operation in (nothing, fail, fail, nothing):
        passed_on(stream, kept, operation.submit())
    counts = {name: tally.counts() for name, tally in stream.collector.tallies.items()}

    assert list(counts) == ["nothing", "_other"]
    assert counts["nothing"]["completed"] == 2
    assert counts["_other"]["failed"] == 2
