"""The public form of what is recorded: one for streams, history, and their JSON."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Annotated, Any

import msgspec
import pytest
from click.testing import CliRunner
from gated_code import LIMIT

from tokengate import Gate, Policy, Retry, token
from tokengate.cli._main import main
from tokengate.control.messages import Event
from tokengate.control.stream._events import event_at, json_of
from tokengate.control.stream._record import FINISHED, Happening, More, Record

Count = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Text = Annotated[str, msgspec.Meta(min_length=1)]


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """A line of `watch --json` and of `history --json`, version 1. What has no default is always there."""

    v: Annotated[int, msgspec.Meta(ge=1, le=1)]
    seq: Annotated[int, msgspec.Meta(ge=1)]
    kind: Annotated[str, msgspec.Meta(pattern=r"^[a-z]+(\.[A-Za-z_]+)+$")]
    at: Annotated[float, msgspec.Meta(gt=1e9, lt=1e11)]
    gate: Text
    gate_run: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{8})?$")]
    text: str
    lost: Annotated[int, msgspec.Meta(ge=1)] = 1
    details: dict[str, str | int | float | bool] = {}
    token: Count = 0
    uid: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8}\.[0-9]+$")] = ""
    operation: Text = ""
    actor: Text = ""
    affinity: Annotated[str, msgspec.Meta(pattern="^(io|asyncio|cpu|process)$")] = ""
    attempt: Count = 0
    state: Annotated[
        str, msgspec.Meta(pattern="^(created|queued|running|paused|completed|failed|terminated|expired|rejected)$")
    ] = ""
    error: Text = ""
    reason: Text = ""
    parent: Count = 0
    priority: int = 0
    tags: dict[str, str] = {}
    key: Text = ""
    trace_id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")] = ""
    span_id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")] = ""
    age: Seconds = 0.0
    wait: Seconds = 0.0
    run: Seconds = 0.0
    held: Seconds = 0.0
    worker: Text = ""
    steps: Count = 0
    cpu: Seconds = 0.0
    memory: Count = 0
    memory_end: Count = 0
    deadline: float = 0.0
    limits: dict[str, float] = {}
    features: dict[str, str | int | float | bool] = {}
    predicted: dict[str, float] = {}
    weight: Annotated[int, msgspec.Meta(ge=1)] = 1
    steered: bool = False


def check(line: str | bytes) -> dict[str, Any]:
    """Check a line against the schema, and return it."""
    msgspec.json.decode(line, type=Line)
    found: dict[str, Any] = json.loads(line)
    assert None not in found.values()
    return found


FULL = Record(
    7, FINISHED, 42, "resize", "operations/resize", "process", 41, 3, {"tenant": "acme"}, 2, 1, "failed", 1.0, 2.0, 4.0,
    9.0, "worker-1", 10,
    More(
        "LookupError", "retry", "abc", "0" * 32, "1" * 16, 0.5, 1.5, True, 40, 60.0, 0.25, 5, 4, {"memory": 1.0},
        {"pages": 3}, {"run": 2.0},
    ),
    "7f3a91c2",
)  # fmt: skip
BARE = Record(
    8, FINISHED, 43, "resize", "operations/resize", "cpu", None, 0, {}, 0, 0, "rejected", 1.0, None, None, 1.0, "", 1,
    More(), "7f3a91c2",
)  # fmt: skip


def test_a_record_with_all_values_has_all_fields() -> None:
    """Case 6: each field of the schema, and no other."""
    event = event_at(FULL, 2e9, "shop")
    line = check(msgspec.json.encode(json_of(event)))

    assert {*line} == {*Line.__struct_fields__} - {"lost", "details"}
    assert {field.name for field in Event.__attrs_attrs__} == {*Line.__struct_fields__}  # type: ignore[attr-defined]
    assert line["uid"] == "7f3a91c2.40"  # of the token that ran for it
    assert (line["wait"], line["run"], line["held"]) == (1.5, 3.5, 2.0)
    assert line["age"] == 8.0
    assert msgspec.json.decode(msgspec.json.encode(json_of(event)), type=Event) == event


def test_what_is_unknown_is_absent() -> None:
    """Case 6: no null, and no value that was made up."""
    line = check(msgspec.json.encode(json_of(event_at(BARE, 2e9, "shop"))))
    assert {*line} == {
        "v", "seq", "kind", "at", "gate", "gate_run", "text", "token", "uid", "operation", "actor", "affinity",
        "attempt", "state", "priority", "age", "wait", "held", "steps", "weight",
    }  # fmt: skip


def test_what_else_happens_has_the_token_that_it_is_about() -> None:
    """Case 6: its fields, and details of the kind."""
    happening = Happening(9, "loop.blocked", 5.0, "", 42, "resize", "it blocks", {"loop": "io"}, FULL, "7f3a91c2")
    line = check(msgspec.json.encode(json_of(event_at(happening, 2e9, "shop"))))
    assert (line["token"], line["operation"], line["actor"]) == (42, "resize", "operations/resize")
    assert line["details"] == {"loop": "io"}
    assert "wait" not in line


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("lines", threads=2) as opened:
        yield opened


def test_lines_of_the_command_line_match_the_schema(gate: Gate, until: Callable[[Callable[[], bool]], None]) -> None:
    """Case 6: `watch --json`, over tokens that complete, fail, are retried, are paused, and what else happens."""

    @token(policy=Policy(retry=Retry(LookupError, attempts=2, wait=0)), tags={"tenant": "acme"})
    def flaky(number: int) -> None:
        raise LookupError("mine")

    @token
    def outer() -> None:
        flaky.submit(1).exception(LIMIT)

    kinds = ["token", "supervisor", "event", "control", "policy"]
    arguments = ["watch", "--json", "-g", "lines", "-n", "11", *(word for kind in kinds for word in ("--kind", kind))]
    results: list[Any] = []
    reader = threading.Thread(target=lambda: results.append(CliRunner().invoke(main, arguments)))
    reader.start()
    stream = gate._stream
    assert stream is not None
    until(lambda: bool(stream.sinks))
    gate._system.publish("of users")
    outer.submit().result(LIMIT)
    gate.control.suspend("outer")
    reader.join(LIMIT)
    lines = [check(line) for line in results[0].stdout.splitlines()]

    assert len(lines) == 11
    assert {line["kind"] for line in lines} >= {
        "token.queued", "token.started", "token.retried", "token.finished", "event.str", "policy.token_retried",
    }  # fmt: skip
    parents = {line["token"]: line.get("parent") for line in lines if "token" in line}
    [child] = [one for one, parent in parents.items() if parent is not None]
    assert parents[child] in parents
    retried = next(line for line in lines if line["kind"] == "token.retried")
    assert (retried["error"], retried["reason"], retried["state"]) == ("LookupError", "retry", "queued")


def test_lines_of_python_are_the_same(gate: Gate) -> None:
    """Case 6: `json_of` is what the command line, the socket and history write."""

    @token
    def nothing() -> None: ...

    with closing(gate.control.watch("operation=nothing", kinds=("token.finished",))) as events:
        nothing.submit().result(LIMIT)
        line = check(msgspec.json.encode(json_of(next(events))))
    assert line["worker"].startswith("lines-cpu")
    assert line["weight"] == 1
