"""The plugin on a gate: its figures, its sinks, its verbs."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from click.testing import CliRunner
from gated_code import Door
from people import ANN, ROLES, People, grant
from tiers import in_ci

from tokengate import CpuActor, Gate, Policy, Retry, token
from tokengate.cli import main
from tokengate.control.messages import Event
from tokengate.control.stream._collector import Tally
from tokengate.control.stream._record import Batch, Measured, Record
from tokengate.errors import BadRequest, Refused, TokenGateError
from tokengate.telemetry import Telemetry
from tokengate.telemetry._kinds import Charts, Metrics, Operations

Until = Callable[[Callable[[], bool]], None]


class Broken(Exception):
    pass


@token
def work(seconds: float = 0.0) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


@token
def fail() -> None:
    raise Broken


@token
def burn_in_steps(steps: int, seconds: float) -> Any:
    for _ in range(steps):
        until = time.thread_time() + seconds
        while time.thread_time() < until:
            pass
        yield


@token(affinity="process")
def burn_away(seconds: float) -> float:
    """Use so much processor time, and return how much this process says that was."""
    import time

    began = time.process_time()
    while time.process_time() - began < seconds:
        pass
    return time.process_time() - began


class Ledger:
    """A reader of the stream that keeps what it gets."""

    name = "ledger"
    lost = 0

    def __init__(self) -> None:
        self.records: list[Record] = []

    def take(self, batch: Batch) -> None:
        self.records += [entry for entry in batch.entries if isinstance(entry, Record)]

    def close(self, _seconds: float) -> str:
        return ""


def total(tallies: dict[str, Tally]) -> int:
    """Return how many tokens have ended; it is counted as they do, and not by the thread of the stream."""
    return sum(sum(tally.counts().values()) for tally in tallies.values())


class Late:
    """A reader that holds up the thread of the stream, once."""

    name = "late"
    lost = 0

    def __init__(self, door: Door) -> None:
        self._door: Door | None = door

    def take(self, _batch: Batch) -> None:
        door, self._door = self._door, None
        if door is not None:
            door.pass_through()

    def close(self, _seconds: float) -> str:
        return ""


def ended(telemetry: Telemetry, name: str = "") -> int:
    """Return how many tokens of operations have ended, completed or failed; the count follows the result."""
    return sum(row.completed + row.failed for row in telemetry.operations(name))


def row_of(telemetry: Telemetry, name: str) -> Any:
    [row] = telemetry.operations(name)
    return row


def test_each_attempt_leaves_one_record(until: Until) -> None:
    """Case 2: also those that are tried again; wait, run and pauses are what passed from queue to end."""
    attempts = iter(range(10))

    @token(policy=Policy(retry=Retry(on=Broken, attempts=5, wait=0.0)))
    def third_time() -> None:
        if next(attempts) < 2:
            raise Broken

    ledger = Ledger()
    with Gate("attempts", plugins=[Telemetry()], control_socket=False) as gate:
        stream: Any = gate._stream
        stream.attach(ledger)
        called = third_time.submit()
        called.result(60)
        work.submit(0.0).result(60)
        until(lambda: sum(record.operation.endswith("third_time") for record in ledger.records) == 3)

    of_retried = [record for record in ledger.records if record.token == called.id]
    assert [(record.kind, record.attempt) for record in of_retried] == [
        ("token.retried", 1),
        ("token.retried", 2),
        ("token.finished", 3),
    ]
    for record in ledger.records:
        assert record.queued is not None
        assert record.took is not None
        assert record.wait + record.took + record.held == pytest.approx(record.ended - record.queued, abs=1e-6)


def test_tokens_are_counted_exactly_by_state(until: Until) -> None:
    """As the test's own counts say."""
    telemetry = Telemetry()
    with Gate("counts", plugins=[telemetry], control_socket=False):
        tokens = [work.submit() for _ in range(30)] + [fail.submit() for _ in range(7)]
        for one in tokens:
            one.exception(60)
        until(lambda: ended(telemetry) == 37)
        rows = {row.name: row for row in telemetry.operations()}

    assert (rows["work"].completed, rows["work"].failed) == (30, 0)
    assert (rows["fail"].completed, rows["fail"].failed) == (0, 7)


def test_figures_of_a_gate_that_is_not_open_are_an_error() -> None:
    """It says so."""
    with pytest.raises(TokenGateError, match="not opened"):
        Telemetry().operations()


def test_an_unknown_operation_has_no_series() -> None:
    """The error says how to list the others."""
    with Gate("series", plugins=[telemetry := Telemetry()], control_socket=False):
        work.submit().result(60)
        with pytest.raises(BadRequest, match="no operation is called 'wrok'"):
            telemetry.series("wrok")


def test_a_sink_that_raises_or_blocks_loses_its_own_records_only(until: Until) -> None:
    """Case 5: tokens and the other sink go on; the loss is counted and told."""
    opened, good = threading.Event(), Counter[str]()

    def raises(_events: Sequence[Event]) -> None:
        raise Broken

    def blocks(_events: Sequence[Event]) -> None:
        opened.wait(60)

    def counts(events: Sequence[Event]) -> None:
        good.update(event.kind for event in events)

    telemetry = Telemetry(sinks=[raises, blocks, counts])
    with Gate("sinks", plugins=[telemetry], control_socket=False) as gate:
        for _ in range(20):
            work.submit().result(60)
        until(lambda: good["token.finished"] == 20)
        until(lambda: good["telemetry.lost"] >= 1)
        until(lambda: [part.status for part in telemetry.health(gate)] == ["degraded"])
        lost = gate._stream.lost()  # type: ignore[union-attr]
        [part] = telemetry.health(gate)
        text = telemetry.metrics("tokengate_telemetry_lost_total")
        opened.set()

    [name] = lost
    assert name.startswith("sinks[0]")
    assert lost[name] >= 20
    assert "sinks[0]" in part.why
    assert f'sink="{name}"' in text


class Echo(CpuActor):
    def on_receive(self, message: Any) -> Any:
        return message


def test_two_gates_share_nothing(until: Until) -> None:
    """Case 26: each has the tokens of its own, and closing one ends nothing of the other."""
    first, second = Telemetry(), Telemetry()
    with Gate("first", plugins=[first], control_socket=False) as one:
        with Gate("second", plugins=[second], control_socket=False) as two:
            for number in range(3):
                two.spawn(Echo).ask(number)
            one.spawn(Echo).ask(0)
            until(lambda: ended(second, "Echo.*") == 3)
        one.spawn(Echo).ask(0)
        until(lambda: ended(first, "Echo.*") == 2)
        counts = [[row.completed for row in telemetry.operations("Echo.*")] for telemetry in (first, second)]

    assert counts == [[2], [3]]


@in_ci
def test_the_processor_time_of_a_process_token_is_that_of_its_worker(until: Until) -> None:
    """Case 23: within 5 percent of what the code has measured itself."""
    ledger = Ledger()
    with Gate("spinning", plugins=[Telemetry()], control_socket=False) as gate:
        gate._stream.attach(ledger)  # type: ignore[union-attr]
        burn_away.submit(0.4).result(60)
        called = burn_away.submit(0.4)
        used = called.result(60)
        until(lambda: any(record.token == called.id for record in ledger.records))

    [record] = [record for record in ledger.records if record.token == called.id]
    assert record.more.cpu == pytest.approx(used, rel=0.05)
    assert record.more.memory is not None
    assert record.more.memory > 1_000_000


@in_ci
def test_the_steps_of_a_generator_are_measured_by_the_clock_of_their_thread(until: Until) -> None:
    """Once the operation is known to be slow; the time between two steps is no part of it."""
    ledger = Ledger()
    with Gate("steps", plugins=[telemetry := Telemetry()], control_socket=False) as gate:
        gate._stream.attach(ledger)  # type: ignore[union-attr]

        def is_measured() -> bool:
            for called in [burn_in_steps.submit(5, 0.002) for _ in range(4)]:
                called.result(60)
            return row_of(telemetry, "burn_in_steps").cpu is not None

        until(is_measured)
        until(lambda: any(record.more.cpu is not None for record in ledger.records))

    measured = [record.more.cpu for record in ledger.records if record.more.cpu is not None]
    assert measured
    assert all(0.0099 <= cpu < 0.05 for cpu in measured)


def test_operations_and_metrics_are_verbs(until: Until) -> None:
    """Of the command line, too: a table, JSON, and the text of Prometheus as it is."""
    with Gate("verbs", plugins=[telemetry := Telemetry()]):
        work.submit().result(60)
        until(lambda: ended(telemetry) == 1)
        table = run("operations", "-g", "verbs")
        rows = json.loads(run("operations", "work", "-g", "verbs", "--json"))
        text = run("metrics", "-g", "verbs")

    assert table.split()[:3] == ["NAME", "COMPLETED", "FAILED"]
    assert [(row["name"], row["completed"]) for row in rows] == [("work", 1)]
    assert 'tokengate_tokens_total{operation="work",state="completed"} 1.0' in text.splitlines()


def run(*arguments: str) -> str:
    found = CliRunner().invoke(main, arguments, prog_name="tokengate")
    assert found.exit_code == 0, found.output
    return found.stdout


def test_a_gate_without_the_plugin_names_it() -> None:
    """As for the verbs of every plugin."""
    with Gate("bare") as gate, pytest.raises(TokenGateError, match=r"plugins=\[Telemetry\(\)\]"):
        gate.control.ask(Operations())


def test_history_is_asked_only_if_the_gate_has_it() -> None:
    """Else the error names it."""
    with Gate("past", plugins=[Telemetry()]) as gate, pytest.raises(BadRequest, match="History"):
        gate.control.ask(Operations(since="1d"))


@pytest.mark.parametrize("message", [Operations(), Metrics()])
def test_figures_over_all_tokens_need_a_grant_without_a_selector(message: Any) -> None:
    """With one, a caller would learn of tokens that it may not see."""
    with Gate("rights", plugins=[Telemetry()]) as gate:
        people = People(gate)
        people.grants(grant(ANN, rights=ROLES["viewer"], select="tenant=acme"))
        with pytest.raises(Refused, match="without a selector"):
            people[ANN].ask(message)
        people.grants(grant(ANN, rights=ROLES["viewer"]))
        people[ANN].ask(message)


@pytest.mark.parametrize(
    "given",
    [{"thin_above": 0}, {"thin_above": True}, {"sinks": [3]}, {"sinks": 3}, {"otel": 3}, {"prometheus": 3}],
    ids=str,
)
def test_an_argument_that_cannot_work_is_refused(given: Any) -> None:
    """The text names it."""
    with pytest.raises(ValueError, match=next(iter(given))):
        Telemetry(**given)


WITHOUT_EXTRAS = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("prometheus_client", "opentelemetry"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from tokengate import Gate, token
from tokengate.errors import BadRequest
from tokengate.telemetry import Prometheus, Telemetry
from tokengate.telemetry._kinds import Metrics

@token
def work(): pass

with Gate("wheel", plugins=[Telemetry()]) as gate:
    work.submit().result(60)
    print(gate.plugin(Telemetry).operations("work")[0].completed)
    for call in (Prometheus, gate.plugin(Telemetry).metrics, lambda: gate.control.ask(Metrics())):
        try:
            call()
        except (ImportError, BadRequest) as error:
            print("prometheus" in str(error))
print(any(name.startswith(("prometheus_client", "opentelemetry")) for name in sys.modules))
"""


@in_ci
def test_the_wheel_without_extras_imports_none() -> None:
    """Case 27: figures work; what needs an extra says which."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["1", "True", "True", "True", "False"]


@in_ci
def test_while_the_thread_of_the_stream_is_late_fewer_ordinary_records_are_kept(until: Until) -> None:
    """Case 25: so none of the others is lost, and the weights still add up."""
    ledger, door = Ledger(), Door()
    with Gate("late", plugins=[telemetry := Telemetry()], control_socket=False) as gate:
        stream: Any = gate._stream
        tallies = stream.collector.tallies
        stream.attach(Late(door))
        stream.attach(ledger)
        work.submit().result(60)
        assert door.reached.wait(60)
        for _ in range(40):
            tokens = [work.submit() for _ in range(500)] + [fail.submit()]
            for one in tokens:
                one.exception(60)
        until(lambda: total(tallies) == 20_041)
        door.open()
        assert stream.flush(60)
        row, lost = row_of(telemetry, "work"), stream.lost()

    assert row.completed == 20_001
    assert lost == {}
    assert sum(record.operation == "fail" for record in ledger.records) == 40
    kept = [record.weight for record in ledger.records if record.operation == "work"]
    assert sum(kept) == pytest.approx(20_001, rel=0.01)


@in_ci
def test_in_a_flood_counts_are_exact_and_no_failure_is_missing(until: Until) -> None:
    """Case 25: ordinary records are thinned; their weights add up to what has ended, within 1 percent."""
    ledger = Ledger()
    with Gate("flood", plugins=[telemetry := Telemetry(thin_above=1_000)], control_socket=False) as gate:
        stream: Any = gate._stream
        stream.attach(ledger)
        for _ in range(120):
            tokens = [work.submit() for _ in range(500)] + [fail.submit() for _ in range(3)]
            for one in tokens:
                one.exception(60)
            assert stream.flush(60)  # so that nothing is lost, however slow this machine is
        until(lambda: total(stream.collector.tallies) == 60_360)
        assert stream.flush(60)
        row, lost = row_of(telemetry, "work"), stream.lost()

    assert row.completed == 60_000
    assert lost == {}
    failures = sum(record.weight for record in ledger.records if record.operation == "fail")
    assert failures == 360
    kept = [record.weight for record in ledger.records if record.operation == "work"]
    assert len(kept) < 50_000
    assert sum(kept) == pytest.approx(60_000, rel=0.01)


@in_ci
def test_what_was_measured_of_a_token_goes_with_it(until: Until) -> None:
    """Also if that was noted as the token ended, and nothing has taken it."""
    with Gate("measured", plugins=[Telemetry()], control_socket=False) as gate:
        measured = gate._stream.collector.measured  # type: ignore[union-attr]
        called = burn_away.submit(0.001)
        called.result(60)
        measured[called.id] = Measured(1.0)
        until(lambda: measured == {})


@in_ci
def test_the_gate_has_charts(until: Until) -> None:
    """All its operations together, and its process; the same of one operation; from any way in."""
    telemetry = Telemetry()
    with Gate("charts", plugins=[telemetry], control_socket=False) as gate:
        ended, failed = [work.submit() for _ in range(30)], [fail.submit() for _ in range(7)]
        for one in (*ended, *failed):
            one.exception(60)
        until(lambda: sum(one.ended for one in telemetry.charts()) >= 37)
        whole, of_one = telemetry.charts(), telemetry.charts("work")
        assert gate.control.ask(Charts())[: len(whole)] == whole
        with pytest.raises(BadRequest, match="no operation is called 'wrok'"):
            gate.control.ask(Charts("wrok"))
        with pytest.raises(BadRequest, match="from 1 to 1800"):
            gate.control.ask(Charts(seconds=5_000))
        people = People(gate)
        people.grants(grant(ANN, select="tenant=acme"))
        with pytest.raises(Refused, match="'charts' has figures over all tokens"):
            people[ANN].ask(Charts())

    assert (sum(one.ended for one in whole), sum(one.failed for one in whole)) == (37, 7)
    assert (sum(one.ended for one in of_one), sum(one.failed for one in of_one)) == (30, 0)
    assert all(one.seconds == 1 and one.cpu is not None and 0 <= one.cpu <= 1_000 for one in whole)
    assert whole[-1].queued == 0
    assert whole[-1].memory is None or whole[-1].memory > 2**20
    assert of_one[-1].memory is None
    assert whole[-1].cpu_saturation is not None
