"""Spans of tokens: one for each attempt, in the trace of what has submitted it; judged by the SDK's own records."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
from gated_code import LIMIT, opened_at_the_end
from tiers import in_ci

pytest.importorskip("opentelemetry.sdk.trace")

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode, TracerProvider
from spans import Ledger, attributes_of, id_of, links_of, trace_of
from traced_functions import die, fail, ids_here

from tokengate import AsyncioActor, CpuActor, Gate, IoActor, ProcessActor, TokenState, token
from tokengate.errors import TokenExpired
from tokengate.policy import Policy, Retry
from tokengate.telemetry import OpenTelemetry, Telemetry, _otel_metrics

Until = Callable[[Callable[[], bool]], None]


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@contextmanager
def opened(ledger: Ledger, **options: Any) -> Iterator[Gate]:
    """A gate whose spans go to a ledger."""
    otel = OpenTelemetry(tracer_provider=ledger.provider, **options)
    with Gate("shop", threads=2, control_socket=False, shutdown=LIMIT, plugins=[Telemetry(otel=otel)]) as gate:
        yield gate


@pytest.fixture
def gate(ledger: Ledger) -> Iterator[Gate]:
    with opened(ledger) as gate:
        yield gate


def ids_of(span: Any) -> tuple[str, str]:
    return trace.format_trace_id(trace_of(span)), trace.format_span_id(id_of(span))


def test_one_trace_goes_through_tokens_of_every_kind(ledger: Ledger) -> None:
    """Case 11: a request, a thread token, its child, an io token, an asyncio token, an actor's method, a process token.

    Each is the child of the one before, and what the program traces in a token is a child of the token's span.
    """
    tracer, over = ledger.tracer, []

    @token
    def first() -> Any:
        with tracer.start_as_current_span("in first"):
            return second()

    @token
    def second() -> Any:
        with tracer.start_as_current_span("in second"):
            return third.submit()

    @token
    async def third() -> Any:
        await trio.lowlevel.checkpoint()
        with tracer.start_as_current_span("in third"):
            await trio.lowlevel.checkpoint()
            return await fourth.asubmit()

    @token(affinity="asyncio")
    async def fourth() -> Any:
        await asyncio.sleep(0)
        with tracer.start_as_current_span("in fourth"):
            return ref.proxy().fifth()

    class Clerk(CpuActor):
        def fifth(self) -> Any:
            with tracer.start_as_current_span("in fifth"):
                return sixth.submit()

    sixth = token(affinity="process")(ids_here)

    with opened(ledger) as gate:
        ref = gate.spawn(Clerk)
        with tracer.start_as_current_span("request"):
            over.append(first.submit())
        for _ in range(4):
            over.append(over[-1].result(LIMIT))
        inside = over[-1].result(LIMIT)
    ledger.check()
    names = ["request"]
    for operation in ("first", "second", "third", "fourth", "Clerk.fifth"):
        names += [operation, f"in {operation.rpartition('.')[2]}"]
    last = ledger.one("ids_here")

    assert ledger.path(last) == [*names, "ids_here"]
    assert inside == ids_of(last)
    kinds = {one.name.rpartition(".")[2]: one.kind for one in ledger.ended if "in " not in one.name}
    assert kinds == {
        "request": SpanKind.INTERNAL,
        "first": SpanKind.CONSUMER,
        "second": SpanKind.INTERNAL,  # a direct call
        "third": SpanKind.CONSUMER,
        "fourth": SpanKind.CONSUMER,
        "fifth": SpanKind.CONSUMER,
        "ids_here": SpanKind.CONSUMER,
    }


class Failing(TracerProvider):
    """Raises at the first span, and when it is asked for the ids of the second one."""

    def __init__(self, ledger: Ledger) -> None:
        self.tracer, self.calls = ledger.provider.get_tracer("failing"), 0

    def get_tracer(self, *_args: Any, **_kwargs: Any) -> Any:
        return self

    def start_span(self, *args: Any) -> Any:
        self.calls += 1
        if self.calls == 1:
            raise RuntimeError("no span for you")
        return self.tracer.start_span(*args)


def test_a_provider_that_raises_loses_that_span_only(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """It is counted as loss of `otel`, and told once in the log; tokens and later spans go on."""

    @token
    def work() -> int:
        return 1

    otel = OpenTelemetry(tracer_provider=Failing(ledger))
    with Gate("shop", threads=1, control_socket=False, shutdown=LIMIT, plugins=[Telemetry(otel=otel)]) as gate:
        assert [work.submit().result(LIMIT) for _ in range(3)] == [1, 1, 1]
        assert gate._stream is not None
        assert gate._stream.lost() == {"otel": 1}

    assert [span.name for span in ledger.ended] == ["work", "work"]
    assert caplog.text.count("OpenTelemetry has raised") == 1


def test_a_span_says_what_the_token_is(ledger: Ledger) -> None:
    """With names of the conventions for messaging, and our own; never arguments."""

    @token(tags={"tenant": "acme"}, priority=3)
    def resize(secret: str) -> Any:
        yield
        yield

    with opened(ledger) as gate:
        sent = resize.submit("canary")
        sent.result(LIMIT)
        run = gate._stream.run  # type: ignore[union-attr]
    [span] = ledger.ended
    attributes = attributes_of(span)
    wait = attributes.pop("tokengate.wait")

    assert 0 <= wait < LIMIT
    assert attributes == {
        "messaging.system": "tokengate",
        "messaging.operation.type": "process",
        "messaging.destination.name": sent.actor,
        "tokengate.uid": f"{run}.{sent.id}",
        "tokengate.affinity": "cpu",
        "tokengate.priority": 3,
        "tokengate.tag.tenant": "acme",
        "tokengate.state": "completed",
        "tokengate.steps": 3,
    }
    assert span.instrumentation_scope is not None
    assert dict(span.instrumentation_scope.attributes or {}) == {"tokengate.gate": "shop"}
    assert "canary" not in span.to_json()


# Case 12: the span stays current in whatever the code goes on


def test_spans_of_generators_that_change_threads_and_of_interleaved_tasks_do_not_mix(
    ledger: Ledger, gate: Gate, chance: random.Random
) -> None:
    """Case 12: before, between and after its steps a token sees its own span, and that of its own `with` block."""
    tracer, wrong = ledger.tracer, []
    threads: dict[int, set[int]] = {}

    def look(number: int, own: Any, *, inside: Any = None) -> None:
        threads.setdefault(number, set()).add(threading.get_ident())
        if trace.get_current_span() is not (inside or own):
            wrong.append(number)

    @token(concurrency=8)
    def steps(number: int, rounds: int) -> Any:
        own = trace.get_current_span()
        for _ in range(rounds):
            yield
            look(number, own)
            with tracer.start_as_current_span(f"user {number}") as user:
                yield
                look(number, own, inside=user)
        look(number, own)

    @token(concurrency=8)
    async def tasks(number: int, rounds: int) -> None:
        own = trace.get_current_span()
        for _ in range(rounds):
            await trio.lowlevel.checkpoint()
            look(number, own)
            with tracer.start_as_current_span(f"user {number}") as user:
                await trio.lowlevel.checkpoint()
                look(number, own, inside=user)
        look(number, own)

    @token(affinity="asyncio", concurrency=8)
    async def asyncio_tasks(number: int, rounds: int) -> None:
        own = trace.get_current_span()
        for _ in range(rounds):
            await asyncio.sleep(0)
            look(number, own)
            with tracer.start_as_current_span(f"user {number}") as user:
                await asyncio.gather(asyncio.sleep(0))
                look(number, own, inside=user)

    kinds = [steps, tasks, asyncio_tasks] * 12
    chance.shuffle(kinds)
    sent = []
    for number, kind in enumerate(kinds):
        with tracer.start_as_current_span(f"request {number}"):
            sent.append(kind.submit(number, chance.randrange(1, 6)))
    for one in sent:
        one.result(LIMIT)
    gate.close()

    assert wrong == []
    ledger.check()
    for number, one in enumerate(sent):
        for user in ledger.named(f"user {number}"):
            assert ledger.path(user) == [f"request {number}", one.operation, f"user {number}"]


def test_the_span_of_a_token_is_current_after_a_pause(ledger: Ledger, gate: Gate) -> None:
    """Case 12: an operator stops it between two steps; it goes on in the same span, which ends once."""
    seen: list[Any] = []
    with opened_at_the_end() as make:
        door = make()

        @token
        def steps() -> Any:
            seen.append(trace.get_current_span())
            while not door.is_open:
                door.reached.set()
                yield
            seen.append(trace.get_current_span())

        sent = steps.submit()
        door.wait_reached()
        gate.control.pause(sent.id)
        assert sent.state is TokenState.PAUSED
        door.open()
        assert not sent.done()
        gate.control.resume(sent.id)
        sent.result(LIMIT)
    gate.close()

    ledger.check()
    assert [id_of(span) for span in seen] == [id_of(ledger.one(sent.operation))] * 2


# Case 13: links, retries, timers


@pytest.mark.parametrize("affinity", ["cpu", "io", "asyncio", "process"])
def test_a_retry_is_a_sibling_with_a_link_to_the_attempt_before(ledger: Ledger, gate: Gate, affinity: str) -> None:
    """Case 13: their parent is what has submitted the token; the failed attempts have the error, the last has none."""
    failing = ConnectionError("down")
    policy = Policy(retry=Retry(on=ConnectionError, attempts=3, wait=0.0))

    def fail() -> None:
        raise failing

    async def fail_later() -> None:
        raise failing

    code: Any = fail if affinity in ("cpu", "process") else fail_later
    operation = token(affinity=affinity, policy=policy)(code)  # type: ignore[call-overload]
    with ledger.tracer.start_as_current_span("request") as request:
        sent = operation.submit()
        sent.exception(LIMIT)
    gate.close()
    ledger.check()
    attempts = ledger.named(sent.operation)

    assert [attributes_of(span).get("tokengate.attempt") for span in attempts] == [None, 2, 3]
    assert [attributes_of(span)["tokengate.state"] for span in attempts] == ["retried", "retried", "failed"]
    assert all(span.parent is not None and span.parent.span_id == id_of(request) for span in attempts)
    assert [links_of(span) for span in attempts] == [[], [id_of(attempts[0])], [id_of(attempts[1])]]


def test_a_fallback_is_a_sibling_of_the_attempt_that_failed(ledger: Ledger, gate: Gate) -> None:
    """Case 13: without a retry, too, where both run in one context."""

    @token(policy=Policy(fallback=lambda _error: "instead"))
    def fail() -> str:
        raise ConnectionError

    with ledger.tracer.start_as_current_span("request") as request:
        sent = fail.submit()
        assert sent.result(LIMIT) == "instead"
    gate.close()
    ledger.check()
    first, second = ledger.named(sent.operation)

    assert [span.parent.span_id for span in (first, second) if span.parent is not None] == [id_of(request)] * 2  # type: ignore[arg-type]
    assert links_of(second) == [id_of(first)]


def test_relation_link_begins_a_trace_for_each_token(ledger: Ledger) -> None:
    """Case 13: with a link to the span that was current at `submit`; the baggage stays."""
    from opentelemetry import baggage, context

    seen: list[object] = []

    @token
    def inner() -> None:
        seen.append(baggage.get_baggage("tenant"))

    @token
    def outer() -> None:
        inner.submit().result(LIMIT)

    with opened(ledger, relation="link"), ledger.tracer.start_as_current_span("request") as request:
        before = context.attach(baggage.set_baggage("tenant", "acme"))
        sent = outer.submit()
        context.detach(before)
        sent.result(LIMIT)
    ledger.check()
    outside, inside = ledger.one(outer.__name__ and sent.operation), next(s for s in ledger.ended if "inner" in s.name)

    assert outside.parent is None
    assert inside.parent is None
    assert len({trace_of(outside), trace_of(inside), trace_of(request)}) == 3  # type: ignore[arg-type]
    assert (links_of(outside), links_of(inside)) == ([id_of(request)], [id_of(outside)])  # type: ignore[arg-type]
    assert seen == ["acme"]


@pytest.mark.parametrize("base", [CpuActor, IoActor, AsyncioActor, ProcessActor])
def test_a_timer_begins_a_trace_with_a_link_to_what_has_set_it(ledger: Ledger, gate: Gate, base: type[Any]) -> None:
    """Case 13: the message may come hours later, when that span has long ended."""

    class Clock(base):  # type: ignore[misc]
        def on_start(self) -> None:
            self.ticked = False

        def set(self) -> None:
            self.send_after(0.0, "tick")

        def on_receive(self, message: object) -> object:
            self.ticked = self.ticked or message == "tick"
            return self.ticked

    ref = gate.spawn(Clock)
    ref.proxy().set().get(timeout=LIMIT)
    while not ref.ask("?", timeout=LIMIT):
        pass
    gate.close()
    ledger.check()
    timed = [span for span in ledger.named("Clock.on_receive") if span.links]

    assert [span.parent for span in timed] == [None]
    assert [links_of(span) for span in timed] == [[id_of(ledger.one("Clock.set"))]]
    assert trace_of(timed[0]) != trace_of(ledger.one("Clock.set"))


# Case 14: errors


def exceptions_in(span: Any) -> list[dict[str, Any]]:
    return [dict(event.attributes) for event in span.events if event.name == "exception"]


def test_an_unexpected_error_is_recorded_once_and_an_expected_one_not(ledger: Ledger, gate: Gate) -> None:
    """Case 14: where it was raised; tokens that pass it on have the status only. The text is a value, and not shown."""

    class Clerk(CpuActor):
        expected = (LookupError,)

        def find(self) -> None:
            raise LookupError("canary")

        def crash(self) -> None:
            raise ZeroDivisionError("canary")

    @token
    def inner() -> None:
        raise ValueError("canary")

    @token
    def outer() -> None:
        inner.submit().result(LIMIT)

    @token
    def outermost() -> None:
        outer()

    @token
    def other() -> None:
        try:
            inner.submit().result(LIMIT)
        except ValueError:
            raise ValueError("canary") from None

    process = token(affinity="process")(fail)

    @token
    def passing() -> None:
        process.submit().result(LIMIT)

    @token(show="*")
    def shown() -> None:
        raise ValueError("shown text")

    for operation in (outermost, other, passing, shown):
        operation.submit().exception(LIMIT)
    proxy = gate.spawn(Clerk).proxy()
    for call in (proxy.find, proxy.crash):
        call().exception(LIMIT)
    gate.close()
    ledger.check()
    found = {}
    for span in ledger.ended:
        name = span.name.rpartition(".")[2]
        found.setdefault(name, []).append(
            (span.status.status_code, attributes_of(span)["error.type"], len(exceptions_in(span)))
        )

    assert found == {
        "inner": [(StatusCode.ERROR, "ValueError", 1)] * 2,
        "outer": [(StatusCode.ERROR, "ValueError", 0)],
        "outermost": [(StatusCode.ERROR, "ValueError", 0)],
        "other": [(StatusCode.ERROR, "ValueError", 1)],
        "fail": [(StatusCode.ERROR, "ValueError", 1)],
        "passing": [(StatusCode.ERROR, "ValueError", 0)],
        "shown": [(StatusCode.ERROR, "ValueError", 1)],
        "find": [(StatusCode.UNSET, "LookupError", 0)],
        "crash": [(StatusCode.ERROR, "ZeroDivisionError", 1)],
    }
    texts = "".join(span.to_json() for span in ledger.ended)
    assert "canary" not in texts.replace('"canary\\"', "")  # but in the line of code that a traceback shows
    assert "shown text" in texts


def test_tokens_that_do_not_come_to_their_own_end_have_spans_that_end(ledger: Ledger, until: Until) -> None:
    """Terminated, expired, with a dead process, sealed, ended by the gate: each span ends once, and says how."""
    with opened_at_the_end() as make:
        kept, doors = make(), [make() for _ in range(4)]

        @token
        def spin(door: Any) -> Any:
            while not door.is_open:
                door.reached.set()
                yield

        @token(policy=Policy(timeout=0.01))
        def late(door: Any) -> Any:
            while not door.is_open:
                door.reached.set()
                yield

        @token
        def stuck() -> None:
            kept.pass_through()

        with opened(ledger) as gate:
            cancelled, expired, dead = (
                spin.submit(doors[0]),
                late.submit(doors[1]),
                token(affinity="process")(die).submit(),
            )
            doors[0].wait_reached()
            cancelled.cancel()
            for one in (cancelled, expired, dead):
                one.exception(LIMIT)
            sealed, left = stuck.submit(), spin.submit(doors[2])
            kept.wait_reached()
            doors[2].wait_reached()
            gate.control.terminate(sealed.id, mode="kill", grace=0.0)
            sealed.exception(LIMIT)
            kept.open()
            gate.close(drain=False)
        ledger.check()
    ends = {attributes_of(span)["tokengate.uid"].partition(".")[2]: span for span in ledger.ended}

    def end_of(one: Any) -> tuple[str, str]:
        attributes = attributes_of(ends[str(one.id)])
        return attributes["tokengate.state"], attributes["error.type"]

    assert end_of(cancelled) == ("terminated", "TokenTerminated")
    assert end_of(expired) == ("expired", TokenExpired.__name__)
    assert end_of(dead) == ("failed", "WorkerDied")
    assert end_of(sealed) == ("terminated", "TokenTerminated")
    assert end_of(left)[0] == "terminated"


# What is not sampled, and what is not there


def test_a_span_that_is_not_sampled_computes_no_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    """But the code of the token sees that its trace is not sampled, and so do its children."""
    from tokengate.telemetry import _otel

    monkeypatch.setattr(_otel._Spans, "_attributes", lambda *_: pytest.fail("attributes were computed"))
    ledger, seen = Ledger(ALWAYS_OFF), []

    @token
    def look() -> None:
        seen.append(trace.get_current_span().get_span_context())

    with opened(ledger), ledger.tracer.start_as_current_span("request") as request:
        look()
        look.submit().result(LIMIT)

    assert ledger.ended == []
    assert [(one.trace_id, one.trace_flags.sampled) for one in seen] == [
        (request.get_span_context().trace_id, False)
    ] * 2
    assert seen[0].span_id != seen[1].span_id != 0


def test_without_an_sdk_nothing_is_current_and_nothing_is_sent(gate: Gate) -> None:
    """The API alone makes no spans; a trace that came from elsewhere passes through to child processes."""
    outside = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=True, trace_flags=trace.TraceFlags(1)))
    read = token(affinity="process")(ids_here)
    gate.close()

    with Gate(
        "bare",
        control_socket=False,
        shutdown=LIMIT,
        plugins=[Telemetry(otel=OpenTelemetry(tracer_provider=trace.NoOpTracerProvider()))],
    ):
        assert read() == ("0" * 32, "0" * 16)
        with trace.use_span(outside):
            assert read() == (f"{1:032x}", f"{2:016x}")


def test_records_have_the_ids_of_sampled_spans(ledger: Ledger) -> None:
    """So that a reader of history finds the trace."""
    policy = Policy(retry=Retry(on=ConnectionError, attempts=2, wait=0.0))
    events: list[Any] = []

    @token(policy=policy)
    def fail() -> None:
        raise ConnectionError

    otel = OpenTelemetry(tracer_provider=ledger.provider)
    with Gate("shop", control_socket=False, shutdown=LIMIT, plugins=[Telemetry(otel=otel, sinks=[events.extend])]):
        fail.submit().exception(LIMIT)
    seen = [(event.trace_id, event.span_id) for event in events if event.kind in ("token.retried", "token.finished")]

    assert seen == [ids_of(span) for span in ledger.named(ledger.ended[0].name)]


@pytest.mark.parametrize("base", [CpuActor, IoActor, AsyncioActor, ProcessActor])
def test_starts_and_stops_of_actors_leave_no_span_of_a_supervisor(
    ledger: Ledger, base: type[Any], until: Until
) -> None:
    """Case 28: neither do restarts and requests of operators."""

    class Worker(base):  # type: ignore[misc]
        def crash(self) -> None:
            raise ValueError

        def work(self) -> None:
            pass

    with opened(ledger) as gate, ledger.tracer.start_as_current_span("request"):
        refs = [gate.spawn(Worker) for _ in range(3)]
        refs[0].proxy().crash().exception(LIMIT)
        until(lambda: gate.statistics().restarts == 1)
        refs[0].proxy().work().get(timeout=LIMIT)
        gate.control.tree()
        refs[1].stop()
        gate.control.stop(refs[2].path)
    ledger.check()

    assert sorted(span.name for span in ledger.ended) == ["Worker.crash", "Worker.work", "request"]


# Random trees


def play(ledger: Ledger, chance: random.Random, trees: int, nodes: int, failing: float) -> None:  # noqa: PLR0915  # one story
    """Run random trees of tokens of every kind, and compare all spans with what has called what."""
    tracer, failed = ledger.tracer, ConnectionError("planned")
    parent: dict[int, int | None] = {}  # {node: the one that has called it}
    children: dict[int, list[tuple[int, str, bool]]] = {}  # {node: (node, kind, whether it is called directly)}
    fails: dict[int, int] = {}  # {node: how many of its attempts fail}
    policy = Policy(retry=Retry(on=ConnectionError, attempts=3, wait=0.0))
    leaves: dict[int, Any] = {}  # {node of a process: what it saw}
    sent: list[Any] = []

    def begin(node: int) -> list[tuple[int, str, bool]]:
        if fails.get(node, 0):
            fails[node] -= 1
            raise failed
        return children[node]

    def call(node: int, kind: str, directly: bool) -> None:
        if kind == "process":
            one = operations[kind].submit()
            leaves[node] = one
        elif kind == "actor":
            one = proxy.run(node)
        elif directly and kind == "cpu":
            operations[kind](node)
            return
        else:
            one = operations[kind].submit(node)
        sent.append(one)

    async def acall(node: int, kind: str, directly: bool) -> None:
        here = "io" if trio.lowlevel.in_trio_task() else "asyncio"
        if directly and kind == here:
            await operations[kind](node)
        elif kind in ("process", "actor"):
            call(node, kind, directly)
        else:
            sent.append(await operations[kind].asubmit(node))

    def cpu(node: int) -> Any:
        below = begin(node)
        with tracer.start_as_current_span(f"node {node}"):
            for one in below:
                yield
                call(*one)

    def plain(node: int) -> None:
        with tracer.start_as_current_span(f"node {node}"):
            for one in children[node]:
                call(*one)

    async def coroutine(node: int) -> None:
        below = begin(node)
        with tracer.start_as_current_span(f"node {node}"):
            for one in below:
                await (trio.lowlevel.checkpoint() if trio.lowlevel.in_trio_task() else asyncio.sleep(0))
                await acall(*one)

    class Runner(CpuActor):
        def run(self, node: int) -> None:
            plain(node)

    operations: dict[str, Any] = {
        "cpu": token(policy=policy, concurrency=64)(cpu),
        "io": token(affinity="io", policy=policy, concurrency=64)(coroutine),
        "asyncio": token(affinity="asyncio", policy=policy, concurrency=64)(coroutine),
        "process": token(affinity="process")(ids_here),
    }
    number = 0
    roots: list[tuple[int, str]] = []
    for _ in range(trees):
        inner = [number]
        parent[number], children[number] = None, []
        roots.append((number, chance.choice(["cpu", "io", "asyncio", "actor"])))
        kinds = {number: roots[-1][1]}
        number += 1
        for _ in range(chance.randrange(nodes)):
            above = chance.choice(inner)
            kind = chance.choices(["cpu", "io", "asyncio", "actor", "process"], [3, 3, 3, 3, 1])[0]
            parent[number], children[number], kinds[number] = above, [], kind
            children[above].append((number, kind, chance.random() < 0.4))
            if kind != "process":
                inner.append(number)
            if kind in ("cpu", "io", "asyncio") and chance.random() < failing:
                fails[number] = chance.randrange(1, 3)
            number += 1
    planned = dict(fails)
    with opened(ledger) as gate:
        proxy = gate.spawn(Runner).proxy()
        for node, kind in roots:
            with tracer.start_as_current_span(f"request {node}"):
                call(node, kind, directly=False)
        seen = 0
        while seen < len(sent):
            sent[seen].result(LIMIT)
            seen += 1
        inside = {node: one.result(LIMIT) for node, one in leaves.items()}
    ledger.check()
    spans = {id_of(span): span for span in ledger.ended}
    of_node = {int(span.name.split()[1]): span for span in ledger.ended if span.name.startswith("node ")}
    of_process = {ids_of(span): span for span in ledger.ended if "ids_here" in span.name}
    expected = len(roots) + 2 * len(of_node) + sum(planned.values()) + len(leaves)
    for node, above in parent.items():
        if node in inside:
            own = of_process[inside[node]]
        else:
            around = of_node[node].parent
            assert around is not None
            own = spans[around.span_id]
            assert "tokengate.uid" in attributes_of(own)
            assert attributes_of(own).get("tokengate.attempt", 1) == planned.get(node, 0) + 1
        assert own.parent is not None
        assert spans[own.parent.span_id].name == (f"request {node}" if above is None else f"node {above}")
    assert len(of_node) + len(leaves) == len(parent)
    assert len(ledger.ended) == expected


def test_random_trees_of_calls_leave_the_same_trees_of_spans(ledger: Ledger, chance: random.Random) -> None:
    """Cases 11 to 14: no orphan, no span twice, each retry beside the attempt before."""
    play(ledger, chance, trees=4, nodes=12, failing=0.2)


@in_ci
def test_many_random_trees_of_calls_leave_the_same_trees_of_spans(ledger: Ledger, chance: random.Random) -> None:
    """The same, at length."""
    play(ledger, chance, trees=150, nodes=60, failing=0.02)


# Metrics


def test_metrics_are_the_counts_of_the_collector(ledger: Ledger) -> None:
    """They are read when they are exported; after the gate has closed, they are gone."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)

    @token
    def work() -> None:
        pass

    @token(policy=Policy(retry=Retry(on=ConnectionError, attempts=2, wait=0.0)))
    def fail() -> None:
        raise ConnectionError

    def read() -> dict[str, dict[tuple[str, ...], Any]]:
        data = reader.get_metrics_data()
        return (
            {}
            if data is None
            else {
                metric.name: {
                    tuple(
                        str(value) for name, value in sorted(point.attributes.items()) if name != "tokengate.gate"
                    ): point.value
                    for point in metric.data.data_points
                }
                for resource in data.resource_metrics
                for scope in resource.scope_metrics
                for metric in scope.metrics
                if scope.scope.name == "tokengate"
            }
        )

    for _ in range(2):  # a second gate uses the same instruments
        with opened(ledger, meter_provider=meters) as gate:
            for _ in range(3):
                work.submit().result(LIMIT)
            sent = fail.submit()
            sent.exception(LIMIT)
            gate._stream.flush(LIMIT)  # type: ignore[union-attr]
            found = read()
        name = work.submit.__self__._name  # type: ignore[attr-defined]

        assert found["tokengate.tokens"] == {(name, "completed"): 3, (sent.operation, "failed"): 1}
        assert found["tokengate.retries"] == {(sent.operation,): 1}
        assert found["tokengate.tokens.live"] == {(state,): 0 for state in ("created", "queued", "running", "paused")}
        assert found["tokengate.queue"][name,] == 0
        assert set(found["tokengate.saturation"]) >= {("cpu",), ("io",)}
        assert all(0 <= found[f"tokengate.{metric}"][name,] < LIMIT for metric in ("run.p50", "run.p95", "wait.p95"))
        assert _otel_metrics._given[meters].sources == ()
    meters.shutdown()


def test_sampling_one_in_many_keeps_whole_traces(chance: random.Random) -> None:
    """The ids of the trace decide, for the token as for what it calls."""
    ledger = Ledger(TraceIdRatioBased(0.3))

    @token
    def inner() -> None:
        pass

    @token
    def outer() -> None:
        inner()
        inner.submit().result(LIMIT)

    with opened(ledger):
        for _ in range(40):
            outer.submit().result(LIMIT)
    ledger.check()
    sizes = {}
    for span in ledger.ended:
        sizes[trace_of(span)] = sizes.get(trace_of(span), 0) + 1

    assert set(sizes.values()) <= {3}


@pytest.mark.parametrize("relation", ["child", None, ["parent"]])
def test_a_relation_that_is_unknown_is_refused(relation: Any) -> None:
    """The error names the two that there are."""
    with pytest.raises(ValueError, match="'parent' or 'link'"):
        OpenTelemetry(relation=relation)
