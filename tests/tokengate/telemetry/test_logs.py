"""Log records as JSON, with the token and the trace that they come from."""

from __future__ import annotations

import asyncio
import datetime
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gated_code import LIMIT
from tiers import in_ci

from tokengate import CpuActor, Gate, ProcessActor, token
from tokengate.policy import Policy, Retry
from tokengate.telemetry import JsonFormatter

Until = Callable[[Callable[[], bool]], None]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What a handler with the formatter writes of the logger `traced`."""
    stream = io.StringIO()
    handler, logger = logging.StreamHandler(stream), logging.getLogger("traced")
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_one_object_a_line(stream: io.StringIO) -> None:
    """What is unknown is absent; no text makes a second line."""
    before = datetime.datetime.now(datetime.UTC)
    logging.getLogger("traced").warning("a\nb \u2028 %s", '"c"')
    [line] = lines(stream)
    at = datetime.datetime.fromisoformat(line.pop("time"))

    assert before <= at <= datetime.datetime.now(datetime.UTC)
    assert line == {"level": "WARNING", "logger": "traced", "message": 'a\nb \u2028 "c"'}


def test_an_exception_is_a_text(stream: io.StringIO) -> None:
    """As other formatters write it."""
    try:
        raise ValueError("oops")
    except ValueError:
        logging.getLogger("traced").exception("failed")
    [line] = lines(stream)

    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: oops")


@pytest.mark.parametrize("affinity", ["cpu", "io", "asyncio"])
def test_records_of_a_token_name_it_and_its_attempt(stream: io.StringIO, affinity: str) -> None:
    """In each attempt of it; records outside of tokens do not."""

    def work() -> None:
        logging.getLogger("traced").info("inside")
        raise ConnectionError

    async def work_later() -> None:
        work()

    policy = Policy(retry=Retry(on=ConnectionError, attempts=2, wait=0.0))
    operation = token(affinity=affinity, policy=policy)(work if affinity == "cpu" else work_later)  # type: ignore[call-overload]
    with Gate("shop", control_socket=False, shutdown=LIMIT):
        sent = operation.submit()
        sent.exception(LIMIT)
        logging.getLogger("traced").info("outside")
    found = [{name: line[name] for name in line if name not in ("time", "level", "logger")} for line in lines(stream)]
    token_of = {"token": sent.id, "operation": sent.operation, "actor": sent.actor}

    assert found == [
        {"message": "inside", **token_of, "attempt": 1},
        {"message": "inside", **token_of, "attempt": 2},
        {"message": "outside"},
    ]


def test_records_of_process_tokens_name_them_and_their_attempt(stream: io.StringIO, until: Until) -> None:
    """Of operations and of actors."""

    class Clerk(ProcessActor):
        def work(self) -> None:
            logging.getLogger("traced").warning("actor")

    @token(affinity="process")
    def work() -> None:
        logging.getLogger("traced").warning("operation")

    with Gate("shop", control_socket=False, shutdown=LIMIT) as gate:
        first = work.submit()
        first.result(LIMIT)
        second = gate.spawn(Clerk).proxy().work()
        second.get(timeout=LIMIT)
        until(lambda: len(lines(stream)) == 2)
    found = [
        (line["message"], line["token"], line["operation"], line["actor"], line["attempt"]) for line in lines(stream)
    ]

    assert found == [
        ("operation", first.id, first.operation, first.actor, 1),
        ("actor", second.id, "Clerk.work", second.actor, 1),
    ]


def test_records_that_are_formatted_elsewhere_have_no_foreign_token(stream: io.StringIO) -> None:
    """The formatter knows a record's own `token` and `actor`, and takes nothing of the code that calls it."""
    kept: list[logging.LogRecord] = []
    logger = logging.getLogger("kept")
    logger.addFilter(lambda record: bool(kept.append(record)))

    @token
    def work() -> None:
        logger.warning("mine")

    @token
    def write() -> str:
        return JsonFormatter().format(kept[0])

    try:
        with Gate("shop", control_socket=False, shutdown=LIMIT):
            sent = work.submit()
            sent.result(LIMIT)
            line = json.loads(write.submit().result(LIMIT))
    finally:
        logger.filters.clear()

    assert (line["token"], line["actor"]) == (sent.id, sent.actor)
    assert {"operation", "attempt"}.isdisjoint(line)


def test_logs_of_all_kinds_of_tokens_share_the_trace(stream: io.StringIO, until: Until) -> None:
    """Case 20: thread, io, asyncio and process tokens, actors; the span is the one that the code is in."""
    pytest.importorskip("opentelemetry.sdk.trace")
    import traced_functions
    from opentelemetry import trace
    from spans import Ledger

    from tokengate.telemetry import OpenTelemetry, Telemetry

    ledger = Ledger()
    seen: dict[str, tuple[str, str]] = {}
    log = logging.getLogger("traced").warning

    def note(name: str) -> None:
        seen[name] = traced_functions.ids_here()
        log(name)

    class Clerk(CpuActor):
        def work(self) -> None:
            note("actor")

    @token
    def thread() -> None:
        note("thread")
        with ledger.tracer.start_as_current_span("inside"):
            note("inside")

    @token
    async def in_trio() -> None:
        note("trio")

    @token(affinity="asyncio")
    async def in_asyncio() -> None:
        await asyncio.sleep(0)
        note("asyncio")

    process = token(affinity="process")(traced_functions.log)
    otel = OpenTelemetry(tracer_provider=ledger.provider)
    with Gate("shop", control_socket=False, shutdown=LIMIT, plugins=[Telemetry(otel=otel)]) as gate:
        proxy = gate.spawn(Clerk).proxy()
        with ledger.tracer.start_as_current_span("request"):
            note("request")
            for one in (thread.submit(), in_trio.submit(), in_asyncio.submit(), proxy.work()):
                one.result(LIMIT)
            seen["process"] = process("process")
            until(lambda: len(lines(stream)) == 7)
    found = {line["message"]: (line["trace_id"], line["span_id"]) for line in lines(stream)}

    assert found == seen
    assert len({trace_id for trace_id, _ in seen.values()}) == 1
    assert len({span_id for _, span_id in seen.values()}) == 7
    assert not trace.get_current_span().get_span_context().is_valid


@in_ci
def test_the_formatter_imports_nothing_of_opentelemetry() -> None:
    """It works without it, and asks for a span only if the program has imported the API."""
    code = """
import logging, sys
from tokengate.telemetry import JsonFormatter
handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(JsonFormatter())
logging.getLogger().addHandler(handler)
logging.warning("hello")
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    line, modules = result.stdout.splitlines()

    assert json.loads(line)["message"] == "hello"
    assert modules == "[]"
