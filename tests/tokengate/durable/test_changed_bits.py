"""Rows of a journal with changed bits: what they are used for says so, and others do not wait for them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import durable_operations as operations
import journals
import pytest
from durable_operations import noted
from gated_code import LIMIT

from tokengate import Gate
from tokengate.durable import Journal, Schedule, _salvage, _store, submit_to
from tokengate.durable._page import left_pages
from tokengate.durable._salvage import salvage
from tokengate.durable._verbs import checked
from tokengate.errors import JournalDamaged, NotRecovered, StartFailed

Until = Callable[[Callable[[], bool]], None]

pytestmark = pytest.mark.usefixtures("programs")

NO_UTF8 = "CAST(x'6ae16b' AS TEXT)"


def opened(directory: Path, **options: Any) -> Gate:
    return Gate("shop", plugins=[Journal(directory, **options)], control_socket=False)


def left(directory: Path, ledger: Path, *, delayed: bool = False) -> None:
    """Leave three tokens that have not begun."""
    with opened(directory) as gate:
        gate.register(operations.again)
        gate.control.suspend("again")
        for number in range(3):
            if delayed:
                operations.again.submit_after(60, str(ledger), number)
            else:
                operations.again.submit(str(ledger), number)


OLD = """
import sys, types
from tokengate import Gate
from tokengate.durable import Journal
old = sys.modules["old_shop"] = types.ModuleType("old_shop")
exec("from tokengate import token\\n@token(durable=True)\\ndef add(a: int, b: int) -> int: return 0\\n", old.__dict__)
with Gate("shop", plugins=[Journal(sys.argv[1])], control_socket=False) as gate:
    gate.register(old.add)
    gate.control.suspend("add")
    for number in range(3):
        old.add.submit(number, 0)
"""


def test_rows_of_an_operation_that_is_gone_hold_up_none_of_another_one_with_its_path(
    tmp_path: Path, until: Until
) -> None:
    """The place that has the path by now reads them, and they are parked."""
    with journals.start(OLD, tmp_path) as program:
        assert program.communicate()[1] == ""
    with opened(tmp_path) as gate:
        assert operations.add.submit(1, 2).result(LIMIT) == 3
        journal = gate.plugin(Journal)
        until(lambda: journal.health(gate)[0].status == "degraded")
        assert journal.health(gate)[0].why.startswith("3 tokens cannot run here")


@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize("column", ["tags", "operation"])
def test_a_row_whose_text_is_none_any_more_is_a_dead_letter(
    tmp_path: Path, until: Until, column: str, delayed: bool
) -> None:
    """Its neighbours run, also those that are due with it."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    left(directory, ledger, delayed=delayed)
    journals.spoil(directory, f"UPDATE tokens SET {column} = {NO_UTF8} WHERE uid = (SELECT min(uid) FROM tokens)")
    with closing(_store.reader(directory)) as db:
        assert checked(directory, db).damaged == ("tokens: rows with a text that is no UTF-8",)
    with opened(directory) as gate:
        gate.register(operations.again)
        if delayed:
            journals.Clocks(gate.plugin(Journal)).go_on(61)
        until(lambda: not journals.rows(directory, "uid", "state < 4"))
    assert sorted(noted(ledger)) == ["run 1", "run 2"]
    assert journals.rows(directory, "reason", "state = 5") == [{"reason": "corrupt"}]


def test_a_path_that_is_no_text_any_more_is_damage(tmp_path: Path, until: Until) -> None:
    """A gate says so as it opens, and lets go of the files; a salvage keeps the others."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    left(directory, ledger)
    journals.spoil(directory, f"UPDATE tokens SET path = {NO_UTF8} WHERE uid = (SELECT min(uid) FROM tokens)")
    with pytest.raises(JournalDamaged, match="decode"):
        opened(directory).open()
    assert salvage(directory).kept == 2
    with opened(directory) as gate:
        gate.register(operations.again)
        until(lambda: journals.all_have_ended(directory))
    assert sorted(noted(ledger)) == ["run 1", "run 2"]


def test_a_result_with_changed_bits_is_given_to_nobody(tmp_path: Path) -> None:
    """Neither by its uid, nor by its key."""
    with opened(tmp_path) as gate:
        token = operations.add.with_options(key="k").submit(1, 2)
        assert token.result(LIMIT) == 3
        uid = token.uid
    journals.spoil(tmp_path, "UPDATE tokens SET result = CAST('7' AS BLOB)")
    seen = submit_to(tmp_path).look("k")
    with opened(tmp_path) as gate:
        found = [gate.plugin(Journal).attach(uid), operations.add.with_options(key="k").submit(1, 2)]
        for one in found:
            with pytest.raises(NotRecovered, match="bits of its row have changed"):
                one.result(LIMIT)
    assert seen is not None
    assert (seen.state, seen.result) == ("failed", None)


def test_an_actor_does_not_begin_anew_if_it_may_be_its_state_whose_path_has_changed(tmp_path: Path) -> None:
    """Else it would go on with its default, and save that."""
    with opened(tmp_path) as gate:
        gate.spawn(operations.COUNTERS["cpu"], name="counter").proxy().add(5).get()
    journals.spoil(tmp_path, "UPDATE saved SET path = 'spawned/counteq'")
    with opened(tmp_path) as gate, pytest.raises(StartFailed, match="may"):
        gate.spawn(operations.COUNTERS["cpu"], name="counter")


def test_a_schedule_with_changed_bits_is_paused(tmp_path: Path) -> None:
    """Whether it was is not known."""
    nightly = Schedule("nightly", operations.again, (str(tmp_path / "ledger"), 1), every=60)
    with opened(tmp_path, schedules=[nightly]):
        pass
    journals.spoil(tmp_path, "UPDATE schedules SET skipped = 8")
    with opened(tmp_path, schedules=[nightly]) as gate:
        (row,) = gate.plugin(Journal).schedules.list()
    assert (row.paused, row.reason) == (True, "bits of its row have changed on disk")


def test_a_transaction_with_changed_bits_is_not_rolled_back(tmp_path: Path) -> None:
    """It may have been done: the gate does not open, until a salvage leaves the row out."""
    with opened(tmp_path):
        pass
    with closing(_store.connect(tmp_path)) as db:
        db.execute("INSERT INTO transactions(tx, name, owner, state) VALUES(1, 'order', NULL, 'done')")
    journals.spoil(tmp_path, "UPDATE transactions SET state = 'dooe'")
    with pytest.raises(JournalDamaged, match="bits of 1 rows of transactions"):
        opened(tmp_path).open()
    assert salvage(tmp_path).damaged == 1
    with opened(tmp_path):
        assert operations.add.submit(1, 2).result(LIMIT) == 3


@pytest.mark.parametrize("moment", ["unlink", "replace"])
def test_a_salvage_that_dies_is_finished_by_the_next_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """What it had made is complete, and takes the place of the old files, which may be gone in part."""
    with opened(tmp_path):
        assert operations.add.submit(1, 2).result(LIMIT) == 3
    before = journals.rows(tmp_path)

    def die(*_args: object) -> None:
        raise SystemError

    (tmp_path / "journal.db-wal").touch()
    with monkeypatch.context() as patch:
        patch.setattr(_salvage.os, moment, die)
        with pytest.raises(SystemError):
            salvage(tmp_path)
    if moment == "replace":
        assert not (tmp_path / "journal.db-wal").exists()
        (tmp_path / "journal.db").write_bytes(b"")  # what was in the log is lost with it
    with opened(tmp_path):
        assert journals.rows(tmp_path) == before
    assert not list(tmp_path.glob("damaged-*/salvaged.db"))


def test_salvage_makes_no_empty_journal_of_one_whose_tables_cannot_be_found(tmp_path: Path) -> None:
    """It says so, and the journal stays."""
    with opened(tmp_path):
        assert operations.add.submit(1, 2).result(LIMIT) == 3
    with closing(sqlite3.connect(tmp_path / "journal.db")) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_schema SET name = 'tokenr', tbl_name = 'tokenr' WHERE name = 'tokens'")
        db.commit()
    before = (tmp_path / "journal.db").read_bytes()
    with pytest.raises(JournalDamaged, match="backup"):
        salvage(tmp_path)
    assert (tmp_path / "journal.db").read_bytes() == before


def test_a_row_that_only_an_index_has_counts_as_damaged(tmp_path: Path) -> None:
    """A page says that it has none; the token that had ended is in an index yet."""
    with opened(tmp_path):
        assert operations.add.submit(1, 2).result(LIMIT) == 3
    with closing(sqlite3.connect(tmp_path / "journal.db")) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'tokens'").fetchone()
    data = bytearray((tmp_path / "journal.db").read_bytes())
    assert data[(root - 1) * 4096 + 3 : (root - 1) * 4096 + 5] == b"\0\1"
    data[(root - 1) * 4096 + 4] = 0
    (tmp_path / "journal.db").write_bytes(data)
    found = salvage(tmp_path)
    assert (found.kept, found.damaged) == (0, 1)


@pytest.mark.parametrize("number", [0, -126])
def test_a_format_that_cannot_be_is_damage(tmp_path: Path, number: int) -> None:
    with opened(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "journal.db")) as db:
        db.execute("UPDATE meta SET format = ?", (number,))
        db.commit()
    with pytest.raises(JournalDamaged, match=f"its format is {number}"):
        opened(tmp_path).open()


def test_numbers_on_a_page_that_cannot_be_are_left_out(tmp_path: Path) -> None:
    """A gate opens with those that are right."""
    with opened(tmp_path):
        pass
    words = memoryview(bytearray(8 * 65_537)).cast("Q")
    words[0], words[1], words[2] = 1 << 63, (1 << 63) + 5, 7
    (tmp_path / "inflight.1").write_bytes(words)
    (page,) = left_pages(tmp_path)
    assert (page.commits, page.uids) == (0, [7])
    with opened(tmp_path):
        assert operations.add.submit(1, 2).result(LIMIT) == 3


def test_a_trigger_with_a_wrong_name_is_damage(tmp_path: Path) -> None:
    """An opening that meets it says so, and what to do."""
    with opened(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "journal.db")) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, 'NEW.crc IS', 'NEW.cbc IS') WHERE name = 'runs_changed'"
        )
        db.commit()
    with pytest.raises(JournalDamaged, match="salvage"):
        opened(tmp_path).open()


def test_check_tells_of_commits_that_are_missing(tmp_path: Path) -> None:
    """A page of a run that has not closed knows how many there were."""
    with opened(tmp_path):
        pass
    words = memoryview(bytearray(8 * 65_537)).cast("Q")
    with closing(_store.reader(tmp_path)) as db:
        (commits,) = db.execute("SELECT commits FROM meta").fetchone()
        words[0] = commits + 2
        (tmp_path / "inflight.1").write_bytes(words)
        assert checked(tmp_path, db).problem == f"the last 2 of its {commits + 2} commits are not there"
    os.unlink(tmp_path / "inflight.1")
