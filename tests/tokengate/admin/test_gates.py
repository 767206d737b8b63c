"""The gates of this user: found, hung, gone; asked with the rights that the ceiling leaves."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from callers import ANN, BOB, OWN, gates_of, grants
from gated_code import Door, opened_at_the_end
from programs import Program
from scripted_gates import happens, played
from tiers import in_ci

from tokengate import Gate, token
from tokengate.admin import _gates, _link
from tokengate.admin._gates import GateEntry, Gates
from tokengate.admin._principal import Principal
from tokengate.admin._problems import Problem
from tokengate.authority._decide import ROLES
from tokengate.control import messages as m
from tokengate.control._actor import ControlActor

OWNER = Principal(f"uid:{OWN}", OWN)
HER = Principal(f"uid:{ANN}", ANN)

pytestmark = in_ci

SERVICE = """
import sys
from tokengate import Gate
with Gate("shop", threads=1):
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("shop", threads=2) as opened:
        yield opened


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[m.Message[Any]]:
    """The messages that gates of this process have let in."""
    found: list[m.Message[Any]] = []
    perform = ControlActor._perform

    async def note(self: ControlActor, message: m.Message[Any], admission: Any) -> Any:
        found.append(message)
        return await perform(self, message, admission)

    monkeypatch.setattr(ControlActor, "_perform", note)
    return found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at the gates follow one another, and none waits long for a gate that hangs."""
    monkeypatch.setattr(_gates, "_LOOK", 0.0)
    monkeypatch.setattr(_gates, "_VISIT", 0.01)
    monkeypatch.setattr("tokengate.control.transport._discovery._HELLO_SECONDS", 0.3)


Test = Callable[[Gates], Any]


def run(test: Test) -> None:
    """Run a test with gates; at the end no task is left."""

    async def main() -> None:
        gates = Gates()
        try:
            await test(gates)
        finally:
            await gates.close()
        await happens(lambda: asyncio.all_tasks() == {asyncio.current_task()})

    asyncio.run(main())


async def becomes(gates: Gates, *states: str) -> tuple[GateEntry, ...]:
    """Wait until the gates have these states, in any order, and return their entries."""
    entries = await gates.listed()
    while sorted(one.state for one in entries) != sorted(states):
        await asyncio.sleep(0.001)
        entries = await gates.listed()
    return entries


async def only(gates: Gates) -> str:
    (entry,) = await gates.listed()
    return entry.name


async def problem_of(asking: Any) -> Problem:
    with pytest.raises(Problem) as raised:
        await asking
    return raised.value


# --- Which gates there are --------------------------------------------------------------------------------------------


def test_gates_are_listed_by_their_files_and_as_gone_for_ten_minutes(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of one name, too; each with when it came to be so."""

    async def test(gates: Gates) -> None:
        assert await gates.listed() == ()
        with Gate("shop", threads=1):
            with Gate("shop", threads=1):
                first, second = await becomes(gates, "open", "open")
                assert [one.name for one in (first, second)] == [f"shop-{os.getpid()}-{n}" for n in (0, 1)]
                assert {(one.gate, one.pid) for one in (first, second)} == {("shop", os.getpid())}
            one, other = await becomes(gates, "open", "gone")
            assert (one, other.name) == (first, second.name)
            assert other.since > second.since
            gone = await problem_of(gates.ask(other.name, m.Info(), OWNER))
            assert (gone.status, gone.name) == (503, "Unreachable")
            with Gate("shop", threads=1):
                again = (await becomes(gates, "open", "open"))[1]
                assert (again.name, again.since > other.since) == (other.name, True)
                assert json.loads(await gates.ask(again.name, m.Info(), OWNER))["name"] == "shop"
        await becomes(gates, "gone", "gone")
        monkeypatch.setattr(_gates, "_KEPT", 0.0)
        await becomes(gates)
        assert (await problem_of(gates.ask(first.name, m.Info(), OWNER))).status == 404

    run(test)


def test_a_gate_that_has_just_opened_is_found_by_its_name(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever the files were looked at last; what is no gate's name is none, whatever it has in it."""
    monkeypatch.setattr(_gates, "_LOOK", 1_000.0)

    async def test(gates: Gates) -> None:
        name = await only(gates)
        with Gate("bank", threads=1):
            bank = name.replace("shop", "bank")
            assert json.loads(await gates.ask(bank, m.Info(), OWNER))["name"] == "bank"
            for other in ("shop", "", ".", f"../{bank}", f"{bank}.sock", "bank-1-0", "\0", "x" * 10_000):
                problem = await problem_of(gates.ask(other, m.Info(), OWNER))
                assert (problem.status, problem.name, len(problem.detail) < 100) == (404, "UnknownGate", True)

    run(test)


def test_a_gate_that_hangs_hides_none_that_has_just_opened(
    gate: Gate, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever names it waits until the gates have been visited that are there by then."""
    path = Path(os.environ["TOKENGATE_RUNTIME_DIR"], f"mute-{os.getpid()}-0.sock")

    async def test(gates: Gates) -> None:
        async with played(path, silent=True):
            entries = await becomes(gates, "open", "hung")
            assert {one.gate: one.state for one in entries} == {"shop": "open", "mute": "hung"}
            monkeypatch.setattr("tokengate.control.transport._discovery._HELLO_SECONDS", 0.5)
            while not gates._is_visiting:
                await gates.listed()
            with Gate("bank", threads=1) as bank:
                assert bank._control_server is not None
                assert bank._control_server.path is not None
                name = bank._control_server.path.stem
                assert json.loads(await gates.ask(name, m.Info(), OWNER))["name"] == "bank"

    run(test)


@pytest.mark.usefixtures("programs", "quick")
def test_a_gate_that_hangs_is_killed_or_restarted_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 16. A request and a stream of it end, in time; those of the next gate work for the same principal."""

    def service() -> Program:
        program = Program("-c", SERVICE, piped=True)
        assert program.stdout.readline() == "open\n"
        return program

    async def test(gates: Gates) -> None:
        with service() as first:
            (entry,) = await becomes(gates, "open")
            assert entry.pid == first.pid
            async with gates.follow(entry.name, m.Watch(), OWNER) as reader:
                first.send_signal(signal.SIGSTOP)
                (hung,) = await becomes(gates, "hung")
                assert (hung.name, hung.gate, hung.since > entry.since) == (entry.name, "shop", True)
                monkeypatch.setattr(_link, "_PATIENCE", 0.1)
                assert (await problem_of(gates.ask(entry.name, m.Info(), OWNER))).name == "NoAnswer"
                assert (await problem_of(gates.shared(entry.name, m.Info(), OWNER))).name == "NoAnswer"
                monkeypatch.setattr(_link, "_PATIENCE", 60.0)
                late = asyncio.create_task(gates.ask(entry.name, m.Info(), OWNER))
                first.send_signal(signal.SIGCONT)
                assert json.loads(await late)["name"] == "shop"
                await becomes(gates, "open")
                assert json.loads(await gates.ask(entry.name, m.Info(), OWNER))["pid"] == first.pid

                first.send_signal(signal.SIGSTOP)
                unanswered = asyncio.create_task(gates.ask(entry.name, m.Info(), OWNER))
                await asyncio.sleep(0)
                first.kill()
                assert (await problem_of(unanswered)).name == "Unreachable"
                ended = await problem_of(anext(reader))
                assert (ended.status, ended.name) == (503, "Unreachable")
        await becomes(gates, "gone")
        with service() as second:
            entries = {one.pid: one for one in await becomes(gates, "gone", "open")}
            assert entries[second.pid].state == "open"
            assert json.loads(await gates.ask(entries[second.pid].name, m.Info(), OWNER))["pid"] == second.pid

    run(test)


def test_a_gate_that_refuses_this_daemon_is_listed_with_its_words(quick: None, tmp_path: Path) -> None:
    """One of another protocol, with both numbers and what to do."""

    async def test(gates: Gates) -> None:
        path = Path(os.environ["TOKENGATE_RUNTIME_DIR"], f"old-{os.getpid()}-0.sock")
        async with played(path, protocol=1, gate="old", version="0.0.9"):
            (entry,) = await becomes(gates, "open")
            assert (entry.gate, entry.refusal) == (
                "old",
                "it speaks protocol 1, and this process 2; use TokenGate 0.0.9 for both",
            )
            assert (await problem_of(gates.ask(entry.name, m.Info(), OWNER))).name == "OtherProtocol"
        await becomes(gates, "gone")
        async with played(path, error={"type": "Unreachable", "message": "belongs to another user; ask it"}):
            (entry,) = await becomes(gates, "open")
            assert entry.refusal == "belongs to another user; ask it"
            problem = await problem_of(gates.ask(entry.name, m.Info(), OWNER))
            assert (problem.status, problem.detail, problem.remedy) == (503, "belongs to another user", "ask it")

    run(test)


def test_gates_are_visited_as_soon_as_one_does_not_answer(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it is until that would be due."""
    path = Path(os.environ["TOKENGATE_RUNTIME_DIR"], f"mute-{os.getpid()}-0.sock")

    async def test(gates: Gates) -> None:
        async with played(path) as gate:
            (entry,) = await becomes(gates, "open")
            monkeypatch.setattr(_gates, "_VISIT", 1_000.0)
            monkeypatch.setattr(_link, "_PATIENCE", 0.02)
            gate.silent = True
            assert (await problem_of(gates.ask(entry.name, m.Info(), OWNER))).name == "NoAnswer"
            await becomes(gates, "hung")

    run(test)


def test_a_directory_that_is_open_to_others_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user could pose as a gate there."""

    async def test(_: Gates) -> None:
        with tempfile.TemporaryDirectory(prefix="tg-") as directory:
            os.chmod(directory, 0o777)
            problem = await problem_of(Gates(Path(directory)).listed())
            assert (problem.status, problem.name) == (503, "ControlError")
            assert "is open to others (mode 777)" in problem.detail

    run(test)


def test_the_time_without_a_gate_is_known(quick: None) -> None:
    """The daemon ends some time after its last gate; one that hangs is a gate."""

    async def test(gates: Gates) -> None:
        before = gates.idle
        assert before > 0.0
        seen = time.monotonic()
        with Gate("shop", threads=1):
            await becomes(gates, "open")
            ends = asyncio.create_task(gates.wait_idle(0.01))
            for _ in range(20):
                await gates.listed()
                assert (gates.idle, ends.done()) == (0.0, False)
        await ends
        assert 0.01 <= gates.idle <= time.monotonic() - seen
        assert [one.state for one in await gates.listed()] == ["gone"]

    run(test)


# --- What is asked ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "rights", "missing"),
    [
        (m.Pause("*"), {"view"}, "operate"),
        (m.Terminate("*", force=True, reason="why"), {"view", "terminate"}, "override"),
        (m.Pause("*", break_glass="all is on fire"), {"view", "operate"}, "break_glass"),
        (m.Statistics("mailer", "on"), {"view"}, "operate"),
        (m.Reload(), {"view"}, "administer"),
        (m.Watch(), {"operate"}, "view"),
    ],
)
def test_what_the_ceiling_does_not_leave_is_refused_before_it_is_sent(
    gate: Gate, asked: list[m.Message[Any]], message: m.Message[Any], rights: set[str], missing: str
) -> None:
    """Case 18. By every way, and before the gate is looked for; on record, without arguments."""

    records: list[tuple[Any, ...]] = []

    async def test(gates: Gates) -> None:
        gates._record = lambda *args, **_: records.append(args)
        limited = attrs.evolve(OWNER, rights=frozenset(rights))
        for name in (await only(gates), "nothing-1-0"):
            asking: Any = gates.ask(name, message, limited)
            if isinstance(message, m.Stream):
                asking.close()
                asking = gates.follow(name, message, limited).__aenter__()
            problem = await problem_of(asking)
            assert (problem.status, problem.name) == (403, "Refused")
            assert f"leaves '{OWNER.name}' no right '{missing}'" in problem.detail
            assert "ceiling" in problem.remedy
            if not message.changes:
                assert (await problem_of(gates.shared(name, message, limited))).detail == problem.detail
        names = {OWNER.name}
        if not isinstance(message, m.Stream):
            script = attrs.evolve(limited, name="api:ci")
            assert "tokengate admin token create" in (await problem_of(gates.ask(name, message, script))).remedy
            names.add(script.name)
        assert asked == []
        assert {one[:2] for one in records} == {("refused", one) for one in names}
        assert all(f"no right '{missing}'" in one[3] and "fire" not in str(one) for one in records)

    run(test)


def test_a_message_is_answered_on_behalf_of_its_principal(gate: Gate) -> None:
    """The gate knows the principal, the way in, and no more rights than the ceiling leaves."""

    async def test(gates: Gates) -> None:
        viewer = attrs.evolve(OWNER, rights=frozenset({"view"}))
        said = json.loads(await gates.ask(await only(gates), m.Whoami(), viewer))
        assert (said["principal"], said["via"], said["rights"]) == (OWNER.name, "http", {"view": "*"})

    run(test)


def test_pages_with_the_same_rights_and_message_share_an_answer(gate: Gate, asked: list[m.Message[Any]]) -> None:
    """Fifty pages are one request to the gate; whoever may do less has a request of its own."""

    async def test(gates: Gates) -> None:
        name = await only(gates)
        viewer = attrs.evolve(OWNER, rights=frozenset({"view"}))
        askers = [attrs.evolve(one, request=f"r{n}", login=f"s{n}") for n in range(25) for one in (OWNER, viewer)]
        answers = await asyncio.gather(*(gates.shared(name, m.Whoami(), one) for one in askers))
        assert Counter(len(json.loads(answer)["rights"]) for answer in answers) == {11: 25, 1: 25}
        assert asked == [m.Whoami()] * 2

    run(test)


@token
def work(door: Door) -> None:
    door.pass_through()


def test_principals_side_by_side_see_what_their_grants_show(tmp_path: Path) -> None:
    """Case 19. In lists that pages share, too; a gate without a grant shows nothing, and a lost grant ends all."""
    text = grants((f"uid:{OWN}", "admin"), (f"uid:{ANN} api:ci", "viewer", "tenant=acme"))

    async def test(gates: Gates) -> None:
        name = await only(gates)

        async def seen(principal: Principal) -> set[str]:
            found = json.loads(await gates.shared(name, m.Tokens(), principal))
            return {row["tags"]["tenant"] for row in found["rows"]}

        ci = Principal("api:ci", ANN, rights=ROLES["operator"])
        for principal, tenants in ((OWNER, {"acme", "free"}), (HER, {"acme"}), (ci, {"acme"})):
            assert await seen(principal) == tenants
        for nobody in (Principal(f"uid:{BOB}", BOB), Principal("api:ci", BOB)):
            problem = await problem_of(seen(nobody))
            assert (problem.status, problem.name) == (403, "Refused")

        async with gates.follow(name, m.Watch("*"), ci) as lost, gates.follow(name, m.Watch("*"), OWNER) as kept:
            file.write_text(grants((f"uid:{OWN}", "admin")))
            await gates.ask(name, m.Reload(), OWNER)
            ended = await problem_of(anext(lost))
            assert (ended.status, ended.name) == (403, "Refused")
            work.submit(opening()).cancel()
            assert json.loads(await anext(kept))["operation"] == "work"
        assert (await problem_of(gates.ask(name, m.Tokens(), ci))).status == 403

    file = tmp_path / "tokengate.toml"
    with gates_of(file, threads=2) as open_gate, opened_at_the_end() as opening:
        open_gate(text)
        for tenant in ("acme", "free"):
            work.with_options(tags={"tenant": tenant}).submit(opening())
        run(test)


def test_readers_of_equal_streams_share_one_of_the_gate_and_all_know_its_end(gate: Gate) -> None:
    """Case 12. Fifty readers get every item; a gate that closes ends them all."""

    async def test(gates: Gates) -> None:
        name = await only(gates)
        got: list[list[int]] = [[] for _ in range(50)]
        opened = asyncio.Semaphore(0)

        async def read(items: list[int]) -> None:
            async with gates.follow(name, m.Watch(kinds=("token.finished",)), OWNER) as reader:
                opened.release()
                async for item in reader:
                    items.append(json.loads(item)["seq"])
                    assert reader.take_lost() == 0

        reading = [asyncio.create_task(read(items)) for items in got]
        for _ in reading:
            await opened.acquire()
        server = gate._control_server
        assert server is not None
        assert server._connections == 1  # type: ignore[attr-defined]
        for _ in range(100):
            none.submit()
        await happens(lambda: all(len(items) == 100 for items in got))
        assert all(items == got[0] == sorted(items) for items in got)
        await asyncio.to_thread(gate.close)
        ended = await asyncio.gather(*reading, return_exceptions=True)
        assert {getattr(one, "name", one) for one in ended} == {"Unreachable"}

    run(test)


@token
def none() -> None:
    """Do nothing."""
