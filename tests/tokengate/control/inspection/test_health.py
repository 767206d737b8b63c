"""The health of a gate: its parts, since when they are as they are, and what a restricted caller is told (case 19)."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from callers import gates_of, grants
from gated_code import LIMIT, Door
from sighted import InProcess, OnSocket, authority_of, rights

from tokengate import Breaker, CpuActor, Gate, Policy, token
from tokengate.audit._disk import Disk
from tokengate.control.inspection import _health
from tokengate.control.messages import AutoBreaker, Health, HealthPart, HealthReport, OpenBreaker
from tokengate.control.registry import Plugin
from tokengate.errors import AuditUnavailable

Until = Callable[[Callable[[], bool]], None]


class Box(CpuActor):
    """An actor whose mailbox has room for four tokens."""

    capacity = 4

    def __init__(self, door: Door) -> None:
        super().__init__()
        self._door = door

    def on_receive(self, message: object) -> None:
        self._door.pass_through()


class Rejecting(Box):
    overflow = "reject"


class Flaky(Plugin):
    """A plugin that says of its health what a test wants.

    Attributes:
        parts: what it says; an exception is raised.
    """

    parts: Iterable[Any] | Exception = ()

    def health(self, gate: Gate, /) -> Iterable[HealthPart]:
        if isinstance(self.parts, Exception):
            raise self.parts
        return self.parts


@token(policy=Policy(breaker=Breaker(minimum=1, failure_rate=0.1, open_for=1_000, key="shop")))
def pay(shop: str) -> None:
    raise OSError(shop)


@token
async def block(door: Door) -> None:
    door.pass_through()


@token(affinity="asyncio")
async def block_asyncio(door: Door) -> None:
    door.pass_through()


@token(affinity="asyncio")
async def hello() -> None: ...


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops and gates have the time of a busy machine, but where a test takes it away."""
    monkeypatch.setattr(_health, "_LAG", LIMIT)
    monkeypatch.setattr("tokengate.control._local.ANSWER_SECONDS", LIMIT)


@pytest.fixture
def plugin() -> Flaky:
    return Flaky()


@pytest.fixture
def gate(plugin: Flaky) -> Iterator[Gate]:
    """An open gate with two CPU threads and a plugin."""
    with Gate("health", threads=2, shutdown=LIMIT, plugins=[plugin]) as opened:
        yield opened
        authority_of(opened).take(rights(("admin", "")))
        opened.close(drain=False)


def parts_of(report: HealthReport) -> dict[str, HealthPart]:
    return {part.name: part for part in report.parts}


def part(gate: Gate, name: str) -> HealthPart:
    return parts_of(gate.control.health())[name]


def fill(gate: Gate, kind: type[Box], door: Door, tokens: int, name: str = "box") -> None:
    """Start an actor that stands at a door, and fill its mailbox."""
    ref = gate.spawn(kind, door, name=name)
    for _ in range(tokens + 1):
        ref.tell("x")
        door.wait_reached()


def test_a_gate_to_which_nothing_has_happened_is_live_and_ready(gate: Gate) -> None:
    """Since when its parts are ok is not known at the first question."""
    report = gate.control.health()
    names = [one.name for one in report.parts]

    assert (report.gate, report.live, report.ready) == ("health", True, True)
    assert names == ["system loop", "intake", "io loop", "mailboxes", "breakers"]
    assert {(one.status, one.since, one.why) for one in report.parts} == {("ok", None, "")}


def test_health_is_awaited_on_trio_and_on_asyncio(gate: Gate) -> None:
    """The answer is that of `gate.control.health()`."""

    async def ask() -> HealthReport:
        return await gate.control.aio.health()

    for report in (trio.run(ask), asyncio.run(ask())):
        assert (report.live, report.ready) == (True, True)


def test_health_is_asked_by_every_way_in(gate: Gate) -> None:
    authority_of(gate).take(rights(("viewer", "")))
    for way in (InProcess(gate), OnSocket(gate)):
        assert way.ask(Health()).ready
        way.close()


# --- Mailboxes -------------------------------------------------------------------------------------------------------


def test_a_mailbox_that_is_more_than_half_full_is_degraded(gate: Gate, door: Door) -> None:
    """The gate stays ready."""
    fill(gate, Box, door, 2)
    half = gate.control.health()
    gate.find("box").tell("x")
    more = gate.control.health()

    assert "mailbox spawned/box" not in parts_of(half)
    assert more.ready
    assert parts_of(more)["mailbox spawned/box"].status == "degraded"
    assert parts_of(more)["mailbox spawned/box"].why == "3 of 4 tokens"
    assert (parts_of(more)["mailboxes"].status, parts_of(more)["mailboxes"].why) == (
        "degraded",
        "1 more than half full",
    )


def test_a_full_mailbox_that_rejects_has_failed(gate: Gate, doors: Callable[[], Door]) -> None:
    """One whose senders wait has not."""
    fill(gate, Box, doors(), 4)
    waits = gate.control.health()
    fill(gate, Rejecting, doors(), 4, "strict")
    rejects = gate.control.health()

    assert (waits.ready, parts_of(waits)["mailbox spawned/box"].status) == (True, "degraded")
    assert (rejects.live, rejects.ready) == (True, False)
    found = parts_of(rejects)["mailbox spawned/strict"]
    assert (found.status, found.why) == ("failed", "4 of 4 tokens, and rejects others")
    assert parts_of(rejects)["mailboxes"].status == "failed"


def test_a_report_names_a_hundred_mailboxes_and_counts_the_others(
    gate: Gate, doors: Callable[[], Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that have failed come first; the status of all counts."""
    monkeypatch.setattr(_health, "_MOST", 2)
    monkeypatch.setattr(_health, "_AT_ONCE", 1)
    for number in range(3):
        fill(gate, Box, doors(), 4, f"box-{number}")
    fill(gate, Rejecting, doors(), 4, "strict")
    report = gate.control.health()
    named = [one.name for one in report.parts if one.name.startswith("mailbox ")]

    assert named == ["mailbox spawned/strict", "mailbox spawned/box-0"]
    assert parts_of(report)["mailboxes"] == HealthPart("mailboxes", "failed", None, "4 more than half full")


# --- Breakers --------------------------------------------------------------------------------------------------------


def test_an_open_breaker_is_degraded_since_it_opened(gate: Gate) -> None:
    """It is named with its operation and key; half open, it is ok."""
    before = time.time()
    for shop in ("left", "right"):
        with pytest.raises(OSError, match=shop):
            pay.submit(shop).result()
    report = gate.control.health()
    [left, right] = [one for one in report.parts if one.name.startswith("breaker ")]

    assert report.ready
    assert [left.name, right.name] == [f"breaker operations/pay of {shop}" for shop in ("left", "right")]
    assert (left.status, left.why) == ("degraded", "open")
    assert left.since is not None
    assert before - 0.1 <= left.since <= time.time() + 0.1
    assert (parts_of(report)["breakers"].status, parts_of(report)["breakers"].why) == ("degraded", "2 open")

    gate.control.ask(OpenBreaker("pay", key="left"))
    held = part(gate, left.name)
    gate.control.ask(AutoBreaker("pay", key="left"))
    half_open = gate.control.health()

    assert left.name not in parts_of(half_open)
    assert parts_of(half_open)[right.name] == right
    assert held.status == "degraded"
    assert held.since == left.since  # the breaker does not know it, but has not been seen closed since


def test_a_breaker_whose_time_is_over_is_not_open(gate: Gate, until: Until) -> None:
    """It is half open from then on, whether an attempt has come since or not."""

    @token(policy=Policy(breaker=Breaker(minimum=1, failure_rate=0.1, open_for=0.01)))
    def charge() -> None:
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011  # it has no text
        charge.submit().result()
    until(lambda: part(gate, "breakers").status == "ok")


# --- Intake and loops ------------------------------------------------------------------------------------------------


def test_a_gate_that_closes_is_live_and_not_ready(gate: Gate, door: Door, until: Until) -> None:
    """While it waits for a token, say."""
    gate.spawn(Box, door).tell("x")
    door.wait_reached()
    control = gate.control
    closing = threading.Thread(target=gate.close)
    closing.start()
    until(lambda: gate.state == "closing")
    report = control.health()
    door.open()
    closing.join(LIMIT)

    assert (report.live, report.ready) == (True, False)
    assert (parts_of(report)["intake"].status, parts_of(report)["intake"].why) == ("failed", "the gate is closing")


@pytest.mark.parametrize("affinity", ["io", "asyncio"])
def test_a_loop_that_lags_is_degraded_and_one_that_is_blocked_has_failed(
    gate: Gate, door: Door, until: Until, monkeypatch: pytest.MonkeyPatch, affinity: Any
) -> None:
    """At the first question already, since its watchdog knows when the round began; the token is named."""
    sent = (block if affinity == "io" else block_asyncio).submit(door)
    door.wait_reached()
    host = gate._system.io_host if affinity == "io" else gate._system.asyncio_hosts.own
    until(lambda: (host.busy_since() or time.monotonic()) < time.monotonic() - 0.15)
    monkeypatch.setattr(_health, "_LAG", 0.02)
    monkeypatch.setattr(_health, "_BLOCKED", 0.15)
    blocked = gate.control.health()
    monkeypatch.setattr(_health, "_BLOCKED", 2 * LIMIT)
    lags = part(gate, f"{affinity} loop")
    door.open()
    sent.result(LIMIT)
    monkeypatch.setattr(_health, "_LAG", LIMIT)
    free = gate.control.health()

    failed = parts_of(blocked)[f"{affinity} loop"]
    assert (blocked.live, blocked.ready, failed.status) == (True, False, "failed")
    assert f"token {sent.id} (block" in failed.why
    assert failed.why.startswith("blocked for ")
    assert (lags.status, lags.why[:7]) == ("degraded", "lags by")
    assert (free.ready, parts_of(free)[f"{affinity} loop"].status) == (True, "ok")


def test_a_loop_without_a_watchdog_is_blocked_once_it_has_not_heard_a_call_for_so_long(
    gate: Gate, door: Door, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is called once, and not again by each question."""
    monkeypatch.setattr(_health, "_LAG", 0.02)
    monkeypatch.setattr(_health, "_BLOCKED", 0.2)
    monkeypatch.setattr(gate._system.io_host, "busy_since", lambda: None)
    block.submit(door)
    door.wait_reached()
    until(lambda: part(gate, "io loop").status == "failed")

    assert len(gate._system.io_host._pending) == 1


def test_an_asyncio_loop_of_the_program_counts_while_it_runs(gate: Gate) -> None:
    """Of one that has ended nothing is said."""

    async def main() -> HealthReport:
        await hello.asubmit()
        return await gate.control.aio.health()

    with gate.entered():
        while_it_runs = asyncio.run(main())

    assert parts_of(while_it_runs)["asyncio loop"].status == "ok"
    assert "asyncio loop" not in parts_of(gate.control.health())


def test_a_gate_whose_system_loop_hangs_is_not_live(
    gate: Gate, door: Door, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client finds that; what it has asked is not left behind."""
    gate._system.system_host.later(door.pass_through)
    door.wait_reached()
    monkeypatch.setattr("tokengate.control._local.ANSWER_SECONDS", 0.05)

    async def ask() -> HealthReport:
        return await gate.control.aio.health()

    reports = [gate.control.health(), trio.run(ask), asyncio.run(ask())]
    queued = gate._system.place_at("$system/control").mailbox.size  # type: ignore[union-attr]
    door.open()
    monkeypatch.setattr("tokengate.control._local.ANSWER_SECONDS", LIMIT)

    hung = HealthPart("system loop", "failed", None, "no answer within 1 s")
    assert reports == 3 * [HealthReport("health", False, False, (hung,))]
    assert queued == 0
    assert gate.control.health().live


# --- Since when ------------------------------------------------------------------------------------------------------


def test_since_is_when_a_part_was_first_seen_in_its_status(gate: Gate, doors: Callable[[], Door], until: Until) -> None:
    """It is None if it was so at the first question, and stays as long as the status does."""
    first, second = doors(), doors()
    fill(gate, Box, first, 3)
    old = part(gate, "mailbox spawned/box")
    before = time.time()
    fill(gate, Box, second, 3, "other")
    new = part(gate, "mailbox spawned/other")
    again = gate.control.health()
    first.open()
    second.open()
    until(lambda: "mailbox spawned/other" not in parts_of(gate.control.health()))
    emptied = part(gate, "mailboxes")

    assert old.since is None
    assert new.since is not None
    assert before <= new.since <= time.time()
    assert parts_of(again)["mailbox spawned/other"] == new
    assert parts_of(again)["mailbox spawned/box"] == old
    assert (emptied.status, emptied.since is not None and emptied.since > new.since) == ("ok", True)


# --- The audit log ---------------------------------------------------------------------------------------------------


class BadDisk(Disk):
    """A disk that is full while `is_full`."""

    is_full = False

    def write(self, file: int, text: bytes) -> int:
        if BadDisk.is_full:
            raise OSError(28, "No space left on device")
        return super().write(file, text)


def test_an_audit_log_whose_disk_fails_has_failed_since_then(
    tmp_path: Path, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it can write again; without a log there is no such part."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("tokengate.audit._log.Disk", BadDisk)
    monkeypatch.setattr("tokengate.audit._writer._LATER", 0.01)
    monkeypatch.setattr(BadDisk, "is_full", False)
    with gates_of(tmp_path / "tokengate.toml", threads=2, control_socket=False) as open_:
        gate = open_(grants((f"uid:{os.geteuid()} process", "admin")))
        gate.control.freeze(reason="a test")
        good = part(gate, "audit")
        before = time.time()
        monkeypatch.setattr(BadDisk, "is_full", True)
        with pytest.raises(AuditUnavailable):
            gate.control.unfreeze(reason="a test")
        bad = gate.control.health()
        monkeypatch.setattr(BadDisk, "is_full", False)
        until(lambda: part(gate, "audit").status == "ok")

    assert good == HealthPart("audit")
    failed = parts_of(bad)["audit"]
    assert (bad.live, bad.ready, failed.status) == (True, False, "failed")
    assert "No space left on device" in failed.why
    assert failed.since is not None
    assert before - 0.1 <= failed.since <= time.time() + 0.1


# --- Plugins ---------------------------------------------------------------------------------------------------------


def test_plugins_add_parts(gate: Gate, plugin: Flaky) -> None:
    """One that has failed makes the gate not ready; a `since` that it knows stays."""
    plugin.parts = (HealthPart("journal"), HealthPart("records", "degraded", 5.0, "3 are lost"))
    works = gate.control.health()
    plugin.parts = (HealthPart("journal", "failed", why="the disk is\x1b full"),)
    fails = gate.control.health()

    assert works.parts[-2:] == (HealthPart("journal"), HealthPart("records", "degraded", 5.0, "3 are lost"))
    assert works.ready
    assert not fails.ready
    assert fails.parts[-1].since is not None


@pytest.mark.parametrize(
    ("parts", "error"), [(KeyError("x"), "KeyError"), (("journal",), "TypeError"), (5, "TypeError")]
)
def test_a_plugin_that_raises_is_a_part_that_has_failed(
    gate: Gate, plugin: Flaky, caplog: pytest.LogCaptureFixture, parts: Any, error: str
) -> None:
    """It has the name of its class, and that of the error's, whose traceback is logged once."""
    plugin.parts = parts
    report = gate.control.health()
    gate.control.health()

    assert report.parts[-1] == HealthPart("Flaky", "failed", None, f"its health raised {error}")
    assert (report.live, report.ready) == (True, False)
    assert [record.levelno for record in caplog.records if "Flaky" in record.getMessage()] == [logging.ERROR]


@pytest.mark.parametrize("wrong", [{"status": "bad"}, {"name": 5}, {"since": "today"}, {"why": None}])
def test_a_part_with_a_field_that_cannot_be_is_not_made(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        HealthPart(**{"name": "journal", **wrong})


# --- What a restricted caller sees -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [InProcess, OnSocket])
def test_a_caller_with_a_selector_is_named_nothing_that_it_may_not_see(
    gate: Gate, plugin: Flaky, doors: Callable[[], Door], kind: Any
) -> None:
    """Live, ready and the status of each part stay true of the whole gate; names and reasons of others are left out."""
    fill(gate, Rejecting, doors(), 4, "vault")
    fill(gate, Box, doors(), 4, "mine")
    plugin.parts = (HealthPart("predictor of vault", "degraded", None, "vault"), HealthPart("records"))
    gate.control.health()
    authority_of(gate).take(rights(("viewer", "actor=spawned/mine")))
    way = kind(gate)
    report = way.ask(Health())
    way.close()

    assert (report.live, report.ready) == (True, False)
    assert [(one.name, one.status) for one in report.parts if one.name != "audit"] == [
        ("system loop", "ok"), ("intake", "ok"), ("io loop", "ok"), ("mailboxes", "failed"),
        ("mailbox spawned/mine", "degraded"), ("breakers", "ok"), ("Flaky", "degraded"),
    ]  # fmt: skip
    assert [one.why for one in report.parts if one.why] == ["4 of 4 tokens"]
    assert "vault" not in repr(report)
