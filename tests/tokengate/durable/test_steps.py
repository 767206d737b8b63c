"""Steps: what one has returned is on disk, and a second run of its token gets it from there."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import durable_operations as operations
import journals
import pytest
from durable_operations import note, noted, run_of, twice_in_cpu, twice_in_process, twice_in_trio
from tiers import in_ci

from tokengate import Gate, token
from tokengate.durable import Journal, step
from tokengate.errors import NotDurable, WouldBlock

pytestmark = pytest.mark.usefixtures("programs")

FIRST = """
import os, sys
import durable_operations as operations
from tokengate import Gate
from tokengate.durable import Journal
operations.note(f"{sys.argv[3]}.pid", str(os.getpid()))
with Gate("shop", plugins=[Journal(sys.argv[1])], processes=1, control_socket=False) as gate:
    if sys.argv[2] == "StepsInActor":
        gate.spawn(operations.StepsInActor, name="importer").proxy().imported(sys.argv[3]).result()
    else:
        getattr(operations, sys.argv[2]).submit(sys.argv[3]).result()
"""

Until = Callable[[Callable[[], bool]], None]

KINDS = ("steps_in_cpu", "steps_in_trio", "steps_in_asyncio", "steps_in_process", "StepsInActor")


def recorded(directory: Path) -> list[tuple[str, int, bytes]]:
    db = sqlite3.connect(f"{(directory / 'journal.db').as_uri()}?mode=ro", uri=True)
    try:
        return db.execute("SELECT name, nth, value FROM steps ORDER BY seq").fetchall()
    finally:
        db.close()


@in_ci
@pytest.mark.parametrize("kind", KINDS)
def test_a_recorded_step_is_not_called_again(tmp_path: Path, kind: str, until: Until) -> None:
    """Case 15: after the death of the process the token runs again, and gets from disk what its steps have returned;
    one that had not returned is called again.
    """
    ledger, directory = str(tmp_path / "ledger"), tmp_path / "journal"
    with journals.start(FIRST, directory, kind, ledger) as program:
        program.wait()
    assert operations.noted(ledger) == ["count", "load 0", "load 1"]
    assert recorded(directory) == [("count", 0, b"3"), ("load", 0, b'[0,"row 0"]')]

    with Gate("shop", plugins=[Journal(directory)], processes=1, control_socket=False) as gate:
        if kind == "StepsInActor":
            gate.spawn(operations.StepsInActor, name="importer")
        until(lambda: journals.all_have_ended(directory))

    assert operations.noted(ledger) == ["count", "load 0", "load 1", "load 1", "load 2"]
    assert journals.rows(directory, "state, result") == [{"state": 4, "result": b'["row 0","row 1","row 2"]'}]


def test_no_step_is_called_again_whose_name_may_have_changed(tmp_path: Path, until: Until) -> None:
    """Its token does not go on."""
    ledger, directory = str(tmp_path / "ledger"), tmp_path / "journal"
    with journals.start(FIRST, directory, "steps_in_cpu", ledger) as program:
        program.wait()
    journals.spoil(directory, "UPDATE steps SET name = 'loae' WHERE name = 'load'")
    with Gate("shop", plugins=[Journal(directory)], control_socket=False):
        until(lambda: journals.all_have_ended(directory))

    assert operations.noted(ledger) == ["count", "load 0", "load 1"]
    (row,) = journals.rows(directory)
    assert (row["state"], row["reason"]) == (5, "corrupt")
    assert "maybe 'load' 0" in row["error"]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """That of the journal of an open gate."""
    with Gate("shop", plugins=[Journal(tmp_path / "journal")], processes=1, control_socket=False):
        yield tmp_path / "journal"


def plain(ledger: str, value: Any) -> Any:
    note(ledger, str(value))
    if value == "fails":
        raise LookupError(value)
    return value


# {what: the first run of a token, its second run, the calls that are noted}
CODES: dict[str, tuple[Callable[[str], Any], Callable[[str], Any], list[str]]] = {
    "one that has raised is called again": (
        lambda ledger: [caught(ledger), step("b", plain, ledger, 2)],
        lambda ledger: [caught(ledger), step("b", plain, ledger, 2)],
        ["fails", "2", "fails"],
    ),
    "one that is renamed is called again": (
        lambda ledger: [step("a", plain, ledger, 1), step("b", plain, ledger, 2)],
        lambda ledger: [step("a", plain, ledger, 1), step("c", plain, ledger, 2)],
        ["1", "2", "2"],
    ),
    "those that are in another order are found": (
        lambda ledger: [step("a", plain, ledger, 1), step("b", plain, ledger, 2)],
        lambda ledger: [step("b", plain, ledger, 2), step("a", plain, ledger, 1)],
        ["1", "2"],
    ),
    "one that is added is called": (
        lambda ledger: [step("a", plain, ledger, 1), step("b", plain, ledger, 2)],
        lambda ledger: [step("a", plain, ledger, 1), step("new", plain, ledger, 7), step("b", plain, ledger, 2)],
        ["1", "2", "7"],
    ),
    "equal names are told apart by their count": (
        lambda ledger: [step("a", plain, ledger, n) for n in range(3)],
        lambda ledger: [step("a", plain, ledger, n) for n in range(4)],
        ["0", "1", "2", "3"],
    ),
    "one within another has a count of its own": (
        lambda ledger: [step("a", outer, ledger, 1), step("b", plain, ledger, 2)],
        lambda ledger: [step("a", outer, ledger, 1), step("b", plain, ledger, 3), step("b", plain, ledger, 4)],
        ["1", "2", "4"],
    ),
}


def outer(ledger: str, value: int) -> int:
    return step("b", lambda: plain(ledger, value)) + 10  # type: ignore[no-any-return]


def caught(ledger: str) -> str:
    try:
        return step("a", plain, ledger, "fails")  # type: ignore[no-any-return]
    except LookupError:
        return "caught"


@pytest.mark.parametrize("what", CODES)
def test_code_may_change_around_steps(directory: Path, tmp_path: Path, what: str) -> None:
    """Cases 15, 16: the second run of a token has what the steps of the first one have returned, by name and count."""
    first, second, calls = CODES[what]
    ledger = str(tmp_path / "ledger")
    with run_of(first, second) as name:
        result = twice_in_cpu.submit(ledger, name).result(60)
    assert noted(ledger) == calls
    if what == "one within another has a count of its own":
        assert result == [11, 2, 4]


async def tasks(ledger: str) -> list[int]:
    import trio

    found: list[int] = []

    async def one(number: int) -> None:
        for _ in range(3):
            found.append(await step(f"task {number}", awaited, ledger, number))

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(one, number)
    return sorted(found)


async def awaited(ledger: str, number: int) -> int:
    import trio

    await trio.lowlevel.checkpoint()
    note(ledger, str(number))
    return number


def test_steps_of_several_tasks_of_a_token_are_recorded(directory: Path, tmp_path: Path) -> None:
    """Each task has names of its own; a second run finds all."""
    ledger = str(tmp_path / "ledger")
    with run_of(tasks, tasks) as name:
        assert twice_in_trio.submit(ledger, name).result(60) == sorted([0, 1, 2, 3] * 3)
    assert sorted(noted(ledger)) == sorted(["0", "1", "2", "3"] * 3)


@in_ci
def test_a_child_process_asks_its_gate_for_steps(directory: Path, tmp_path: Path) -> None:
    """Nested ones, too; the values are rebuilt there."""
    ledger = str(tmp_path / "ledger")
    assert twice_in_process.submit(ledger).result(60) == [3, "x", 3]
    assert noted(ledger) == ["outer", "inner", "third"]
    assert [(name, nth) for name, nth, _ in recorded(directory)] == [
        ("outer\x1f0\x1finner", 0), ("outer", 0), ("third", 0),
    ]  # fmt: skip


async def blocks(_ledger: str) -> object:
    with pytest.raises(WouldBlock, match="step 'a' would block this trio loop"):
        step("a", plain, _ledger, 1)
    return "refused"


def test_a_plain_function_is_refused_on_a_loop(directory: Path, tmp_path: Path) -> None:
    """Case 39: before it is called."""
    with run_of(blocks, blocks) as name:
        assert twice_in_trio.submit(str(tmp_path / "ledger"), name).result(60) == "refused"
    assert noted(tmp_path / "ledger") == []


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, float("nan"), print, b"x"], ids=repr)
def test_a_value_that_would_not_come_back_is_refused(directory: Path, tmp_path: Path, value: object) -> None:
    """Its function is not annotated, so it would be another one in a second run; nothing is recorded."""

    def runs(ledger: str) -> object:
        with pytest.raises(NotDurable, match="step 'a' 0"):
            step("a", plain, ledger, value)
        return "refused"

    with run_of(runs, runs) as name:
        assert twice_in_cpu.submit(str(tmp_path / "ledger"), name).result(60) == "refused"
    assert recorded(directory) == []


def test_a_token_has_so_many_steps_at_most(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000: the next one is refused before its function is called."""
    monkeypatch.setattr("tokengate.durable._steps.MOST", 3)

    def runs(ledger: str) -> object:
        for number in range(3):
            step("a", plain, ledger, number)
        with pytest.raises(NotDurable, match="3 steps at most"):
            step("a", plain, ledger, 3)
        return "refused"

    with run_of(runs, runs) as name:
        assert twice_in_cpu.submit(str(tmp_path / "ledger"), name).result(60) == "refused"
    assert noted(tmp_path / "ledger") == ["0", "1", "2"]


@token
def not_durable(ledger: str) -> list[Any]:
    return [step("a", plain, ledger, 1), step("a", plain, ledger, (2,))]


def test_outside_of_a_durable_token_the_function_is_called(directory: Path, tmp_path: Path) -> None:
    """Whatever its value is, and as often as it is asked for."""
    ledger = str(tmp_path / "ledger")
    assert not_durable.submit(ledger).result(60) == [1, (2,)]
    assert step("a", plain, ledger, 3) == 3
    assert noted(ledger) == ["1", "(2,)", "3"]
    assert recorded(directory) == []


@pytest.mark.parametrize("name", ["", "two\nlines", 7])
def test_a_step_has_a_name(name: Any) -> None:
    """A printable one."""
    with pytest.raises(ValueError, match=r"the name of a step is .*; it must be printable text"):
        step(name, len, "")
