"""The directory of a journal: its checks, its lock, its page, and what of it is damaged, older or newer."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import journals
import pytest
from durable_operations import add, noted
from tiers import IN_CI, TORTURE, in_ci

from tokengate import Gate
from tokengate.audit import _directory
from tokengate.control.registry import Plugin
from tokengate.durable import Journal, _store
from tokengate.durable._checksums import CHECKED, columns, whole
from tokengate.durable._codec import checksum
from tokengate.durable._files import OwnedDirectory
from tokengate.durable._page import SLOTS, Page, left_pages
from tokengate.durable._run import Run, begin_run
from tokengate.durable._salvage import salvage
from tokengate.durable._verbs import checked
from tokengate.errors import BadStateDirectory, JournalDamaged, JournalInUse, NewerFormat

Until = Callable[[Callable[[], bool]], None]

pytestmark = pytest.mark.usefixtures("programs")

WITHOUT = """
import os, sys, threading
from tokengate import Gate, token
@token
def add(a, b): return a + b
before = os.listdir()
with Gate("shop", control_socket=False):
    assert add.submit(1, 2).result() == 3
    assert not [one for one in threading.enumerate() if "journal" in one.name]
assert "sqlite3" not in sys.modules and "tokengate.durable" not in sys.modules
assert os.listdir() == before
"""

RUNS = """
import os, sys
from durable_operations import add, hang, noted
from tokengate import Gate
from tokengate.durable import Journal
with Gate("shop", plugins=[Journal(sys.argv[1])], threads=2, control_socket=False) as gate:
    gate.register(add)
    gate.control.suspend("operations/add")
    for number in range(2):
        hang.submit(sys.argv[2], number)
    add.submit(1, 2)
    while len(noted(sys.argv[2])) < 2: pass
    os.kill(os.getpid(), 9)
"""

OPENS = """
import os, pathlib, sys
from tokengate.durable._checksums import CHECKED, columns, whole
from tokengate.durable._codec import checksum
from tokengate.durable._files import OwnedDirectory
from tokengate.durable._run import begin_run
def die(*_args): os.kill(os.getpid(), 9)
setattr(*{"before": (os, "posix_fallocate"), "after": (pathlib.Path, "unlink")}[sys.argv[2]], die)
begin_run(OwnedDirectory(pathlib.Path(sys.argv[1]), "shop"), "shop", None, None)
"""

WRITES = """
import os, sys
from durable_operations import add
from tokengate import Gate
from tokengate.durable import Journal
with Gate("shop", plugins=[Journal(sys.argv[1])], control_socket=False):
    for number in range(int(sys.argv[2])):
        add.submit(number, 0).result()
    os.kill(os.getpid(), 9)
"""


WAITS = """
import sys
from durable_operations import again
from tokengate import Gate
from tokengate.durable import Journal
with Gate("shop", plugins=[Journal(sys.argv[1])], control_socket=False) as gate:
    gate.register(again)
    gate.control.suspend("operations/again")
    for number in (1_111_111, 2_222_222, 3_333_333):
        again.submit(sys.argv[2], number)
"""


PAGE, HEADER, LEAF = 4_096, 8, 13  # of the database: bytes of a page, and of a leaf's header, which begins with a 13


@contextmanager
def begun(directory: Path) -> Iterator[Run]:
    """An opening of the files, without a gate; nothing says that it has closed."""
    owned = OwnedDirectory(directory, "shop")
    try:
        run = begin_run(owned, "shop", None, None)
    except BaseException:
        owned.close()
        raise
    try:
        yield run
    finally:
        run.close(well=False)


def killed(code: str, *args: object) -> None:
    """Run a program that kills itself."""
    with journals.start(code, *args) as program:
        out, err = program.communicate()
    assert program.returncode == -signal.SIGKILL, out + (err or "")


def content(directory: Path) -> dict[str, bytes]:
    """Return the files that must not change when an opening fails."""
    names = ("journal.db", "journal.db-wal", "reserve", "inflight.")
    found = {path.name: path.read_bytes() for path in directory.iterdir() if path.name.startswith(names)}
    return {name: text for name, text in found.items() if text and not name.endswith("-shm")}


@in_ci
def test_without_a_journal_nothing_is_made(tmp_path: Path) -> None:
    """No file, no thread, no import of sqlite3. Case 1."""
    subprocess.run([sys.executable, "-c", WITHOUT], cwd=tmp_path, check=True)


# The directory


def test_a_second_gate_is_refused(tmp_path: Path) -> None:
    """The error says which gate has the directory, of which process, and since when. Case 33."""
    with Gate("shop", plugins=[Journal(tmp_path / "journal")], control_socket=False):
        with pytest.raises(JournalInUse, match=rf"gate 'shop' of process {os.getpid()}, since \d{{4}}") as caught:
            Gate("other", plugins=[Journal(tmp_path / "journal")], control_socket=False).open()
        assert (caught.value.gate, caught.value.pid) == ("shop", os.getpid())
        assert add.submit(1, 2).result(10) == 3


@in_ci
def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    """Its file stays, and says nothing any more. Case 33."""
    killed(WRITES, tmp_path / "journal", 1)
    with Gate("shop", plugins=[Journal(tmp_path / "journal")], control_socket=False):
        assert add.submit(1, 2).result(10) == 3


def test_files_are_for_their_user_alone(tmp_path: Path) -> None:
    """The directory has the mode 0700, each file 0600."""
    with begun(tmp_path / "journal") as run:
        run.db.execute("UPDATE meta SET commits = commits")
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "journal").iterdir()}
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o700
    assert set(modes) >= {"journal.db", "journal.db-wal", "inflight.1", "reserve", "owner.lock"}
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_directory_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """With path, reason and remedy; nothing is made in it. Case 34."""
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal").chmod(mode)
    with pytest.raises(BadStateDirectory, match=r"journal cannot be used: it is open to others.*chmod 700"):
        Gate("shop", plugins=[Journal(tmp_path / "journal")], control_socket=False).open()
    assert list((tmp_path / "journal").iterdir()) == []


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is one on a network file system. Case 34."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda _path, mode: not mode & os.W_OK)
        with pytest.raises(BadStateDirectory, match="not writable"):
            OwnedDirectory(tmp_path / "journal", "shop")
    monkeypatch.setattr(_directory, "_remote", lambda _folder: "nfs4")
    with pytest.raises(BadStateDirectory, match="network file system"):
        OwnedDirectory(tmp_path / "journal", "shop")


@pytest.mark.parametrize("method", ["journal", "child", "opened"])
def test_an_opening_that_fails_leaves_the_directory_free(tmp_path: Path, method: str) -> None:
    """Whenever another plugin fails; no thread is left, and the run has closed."""

    def fail(*_args: object) -> None:
        raise RuntimeError("broken")

    broken = type("Broken", (Plugin,), {method: fail})
    for number in range(2):
        with pytest.raises(RuntimeError, match="broken"):
            Gate("shop", plugins=[Journal(tmp_path), broken()], control_socket=False).open()
        assert [row["how"] for row in journals.runs(tmp_path)] == ["closed"] * (number + 1)


# Openings


@in_ci
def test_an_opening_says_how_the_ones_before_have_ended(tmp_path: Path) -> None:
    """Closed; killed; or by a loss of power, if the machine was started since."""
    directory = tmp_path / "journal"
    with Gate("shop", plugins=[Journal(directory)], control_socket=False):
        pass
    killed(WRITES, directory, 1)
    with begun(directory) as run:
        run.db.execute("UPDATE runs SET boot = 'another' WHERE run = ?", (run.number,))
    with Gate("shop", plugins=[Journal(directory)], control_socket=False):
        found = journals.runs(directory)

    assert [row["how"] for row in found] == ["closed", "killed", "power", None]
    assert [row["run"] for row in found] == [1, 2, 3, 4]
    assert found[1]["opened"] <= found[1]["closed"] <= found[2]["opened"]
    assert (found[3]["pid"], found[3]["gate"], found[3]["closed"]) == (os.getpid(), "shop", None)


@in_ci
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_in_recovery_counts_nothing_twice(tmp_path: Path, moment: str) -> None:
    """Those whose code ran have a recovery, those beside them have none. Cases 9, 11."""
    directory = tmp_path / "journal"
    killed(RUNS, directory, tmp_path / "ledger")
    (page,) = left_pages(directory)
    assert len(page.uids) == 2
    for _ in range(2):
        killed(OPENS, directory, moment)
    with begun(directory):
        found = journals.rows(directory, "operation, state, recoveries")

    assert [(row["state"], row["recoveries"]) for row in found] == [(2, 1), (2, 1), (1, 0)]


def test_the_page_of_a_closed_run_is_gone(tmp_path: Path) -> None:
    """As is the log of the database: both are read after an end that was none."""
    with Gate("shop", plugins=[Journal(tmp_path)], control_socket=False):
        add.submit(1, 2).result(10)
        assert [page.run for page in left_pages(tmp_path)] == [1]
    assert left_pages(tmp_path) == []
    assert not (tmp_path / "journal.db-wal").exists()


def test_a_page_has_a_slot_for_each_token_until_it_is_full(tmp_path: Path) -> None:
    """Then there is none, until one is free again."""
    page = Page(tmp_path, 7)
    slots = [page.enter(number) for number in range(1, SLOTS + 1)]
    assert sorted(slots) == list(range(1, SLOTS + 1))
    assert page.enter(99) == 0
    page.leave(slots[5])
    assert page.enter(99) == slots[5]
    page.note_commit(12)
    (left,) = left_pages(tmp_path)
    assert (left.run, left.commits, len(left.uids), 6 in left.uids, 99 in left.uids) == (7, 12, SLOTS, False, True)
    page.remove()


# Damage


@in_ci
def test_a_log_that_is_cut_or_changed_says_how_many_commits_are_missing(tmp_path: Path, seed: int) -> None:
    """Nothing is touched then; without the page, what is there is a prefix of the commits. Case 7."""
    rng = random.Random(seed)
    directory, copy = tmp_path / "journal", tmp_path / "copy"
    killed(WRITES, directory, 20)
    (page,) = left_pages(directory)
    log = (directory / "journal.db-wal").read_bytes()
    whole = journals.rows(directory, "arguments, state")
    for _ in range(200 if IN_CI else 5):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(directory, copy)
        changed = bytearray(log)
        if rng.random() < 0.5:
            del changed[rng.randrange(len(log)) :]
        else:
            changed[rng.randrange(len(log))] ^= 1 << rng.randrange(8)
        (copy / "journal.db-wal").write_bytes(changed)
        (copy / "journal.db-shm").unlink()
        before = content(copy)
        missing = 0
        try:
            with begun(copy):
                pass
        except JournalDamaged as error:
            missing, text = error.missing, str(error)
        if missing:
            assert content(copy) == before
            assert f"the last {missing:,} of its {page.commits:,} commits are not there" in text
            (copy / "inflight.1").unlink()
            with begun(copy) as run:
                assert run.commits == page.commits - missing + 1
        found = journals.rows(copy, "arguments, state")
        assert found == whole if not missing else [row["state"] for row in found[:-1]] == [4] * (len(found) - 1)
        assert [row["arguments"] for row in found] == [row["arguments"] for row in whole[: len(found)]]


@in_ci
def test_a_damaged_database_is_left_as_it_is(tmp_path: Path) -> None:
    """Also one that is gone, or that is no database."""
    directory = tmp_path / "journal"
    killed(WRITES, directory, 5)
    whole = (directory / "journal.db").read_bytes()
    for damaged in (b"", b"no database" * 500, None):
        if damaged is None:
            (directory / "journal.db").unlink()
        else:
            (directory / "journal.db").write_bytes(damaged)
        (directory / "journal.db-wal").unlink(missing_ok=True)
        before = content(directory)
        with pytest.raises(JournalDamaged, match=r"nothing was changed; .*salvage"):
            Gate("shop", plugins=[Journal(directory)], control_socket=False).open()
        assert content(directory) == before
    (directory / "journal.db").write_bytes(whole)


def test_a_row_whose_bits_have_changed_is_a_dead_letter(tmp_path: Path, until: Until) -> None:
    """It never runs with wrong arguments; its neighbours do. Case 8."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    with journals.start(WAITS, directory, ledger) as program:
        assert program.communicate()[1] == ""
    journals.change_bytes(directory, b"2222222", b"2222223")
    with Gate("shop", plugins=[Journal(directory)], control_socket=False):
        until(lambda: len(journals.rows(directory, where="state > 3")) == 3)
    found = journals.rows(directory)
    assert sorted(noted(ledger)) == ["run 1111111", "run 3333333"]
    assert [(row["state"], row["reason"], row["dead"]) for row in found] == [
        (4, "", None),
        (5, "corrupt", 1),
        (4, "", None),
    ]
    assert "bits of its row have changed" in found[1]["error"]


@in_ci
def test_salvage_keeps_each_whole_row_and_no_other(tmp_path: Path, seed: int) -> None:
    """However many bits have changed. The old file is kept, and a gate opens with what was saved. Case 41."""
    rng = random.Random(seed)
    directory, copy = tmp_path / "journal", tmp_path / "copy"
    with Gate("shop", plugins=[Journal(directory)], control_socket=False):
        for token in [add.submit(number, 0) for number in range(200)]:
            token.result(10)
    whole = {row["uid"]: row for row in journals.rows(directory)}
    data = (directory / "journal.db").read_bytes()
    copy.mkdir(mode=0o700)
    with Gate("shop", plugins=[Journal(tmp_path / "empty")], control_socket=False):
        pass
    # Before these are the pages of the schema, and the roots of tables, without which no row can be read.
    rest = (tmp_path / "empty" / "journal.db").stat().st_size
    leaves = [data[page : page + HEADER] for page in range(0, len(data), PAGE) if data[page] == LEAF]
    most = max(int.from_bytes(leaf[3:5]) for leaf in leaves)
    for flips, begin in [(1, rest), (1, 0)] * (300 if TORTURE else 40 if IN_CI else 2) + [
        (599, 0),
        (20, 0),
        (20, rest),
    ]:
        changed = bytearray(data)
        for _ in range(flips):
            at = rng.randrange(begin, len(data))
            changed[at] ^= 1 << rng.randrange(8)
        (copy / "journal.db").write_bytes(changed)
        try:
            found = salvage(copy)
        except JournalDamaged:
            assert begin == 0
            continue
        rows = journals.rows(copy)
        assert all(whole.get(row["uid"]) == row for row in rows)
        assert found.kept == len(rows)
        assert (found.old / "journal.db").read_bytes() == changed
        least = 190 if at % PAGE >= HEADER else 200 - most  # a bit in the header of a page hides all of its rows
        assert flips > 1 or begin == 0 or len(rows) >= least
    with Gate("shop", plugins=[Journal(copy)], control_socket=False):
        assert add.submit(1, 2).result(10) == 3


@in_ci
def test_salvage_goes_on_after_missing_commits(tmp_path: Path) -> None:
    """The log is read as far as it is whole, and the number of commits goes on above that of the page."""
    killed(WRITES, tmp_path, 5)
    (page,) = left_pages(tmp_path)
    log = tmp_path / "journal.db-wal"
    os.truncate(log, log.stat().st_size - 5_000)
    with pytest.raises(JournalDamaged, match=r"the last [1-9]\d* of its") as caught:
        Gate("shop", plugins=[Journal(tmp_path)], control_socket=False).open()
    found = salvage(tmp_path)

    assert (found.missing, found.commits) == (caught.value.missing, page.commits - caught.value.missing)
    with Gate("shop", plugins=[Journal(tmp_path)], control_socket=False):
        assert add.submit(1, 2).result(10) == 3
        assert journals.runs(tmp_path)[-1]["run"] == 3  # a salvage leaves one out


def test_a_newer_format_is_left_as_it_is(tmp_path: Path) -> None:
    """The error names both. Case 35."""
    with begun(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("UPDATE meta SET format = 7")
    db.close()
    before = content(tmp_path)
    with pytest.raises(NewerFormat, match="has format 7, and this version knows 2"):
        Gate("shop", plugins=[Journal(tmp_path)], control_socket=False).open()
    assert content(tmp_path) == before


def test_an_older_format_is_copied_and_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one transaction: a migration that fails leaves all as it was. Case 35."""
    with Gate("shop", plugins=[Journal(tmp_path)], control_socket=False):
        add.submit(1, 2).result(10)
    before = journals.rows(tmp_path)
    monkeypatch.setattr(_store, "FORMAT", 4)
    steps = {2: ["CREATE TABLE newer(a)"], 3: ["UPDATE missing SET b = 1"]}
    monkeypatch.setattr(_store, "MIGRATIONS", steps)
    with pytest.raises(sqlite3.OperationalError, match="no such table"), begun(tmp_path):
        pass
    steps[3] = ["INSERT INTO newer VALUES(5)"]
    tables = journals.query(tmp_path, "SELECT format FROM meta")
    with begun(tmp_path):
        assert journals.query(tmp_path, "SELECT format, a FROM meta, newer") == [{"format": 4, "a": 5}]
        assert journals.rows(tmp_path) == before

    assert tables == [{"format": 2}]
    with sqlite3.connect(tmp_path / "journal.db.format-2") as db:
        assert db.execute("SELECT format FROM meta").fetchone() == (2,)
    db.close()


def make_format_1(directory: Path) -> None:
    """Make what format 1 was of a closed journal: its checksums did not have the column `delayed`."""
    with closing(sqlite3.connect(directory / "journal.db", isolation_level=None)) as db:
        db.create_function("checksum", -1, checksum)
        db.execute(
            "UPDATE tokens SET crc = checksum(uid, operation, path, key, fair, arguments, priority, tags, parent, "
            "trace, tx, due, deadline, recoveries, accepted, successor)"
        )
        db.execute("UPDATE meta SET format = 1")


def test_tokens_of_format_1_are_whole_before_and_after_they_are_migrated(tmp_path: Path, until: Until) -> None:
    """Those with changed bits are dead letters then, too. Case 35."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    with journals.start(WAITS, directory, ledger) as program:
        assert program.communicate()[1] == ""
    make_format_1(directory)
    for left in ("journal.db.format-1", "journal.db.format-1.new"):  # of a migration that has died
        (directory / left).write_bytes(b"no database")
    with closing(_store.reader(directory)) as db:
        assert checked(directory, db).damaged == ()
    journals.change_bytes(directory, b"2222222", b"2222223")
    with Gate("shop", plugins=[Journal(directory)], control_socket=False):
        until(lambda: len(journals.rows(directory, where="state > 3")) == 3)
    assert sorted(noted(ledger)) == ["run 1111111", "run 3333333"]
    assert [row["reason"] for row in journals.rows(directory)] == ["", "corrupt", ""]
    assert journals.query(directory, "SELECT format FROM meta") == [{"format": 2}]
    with closing(sqlite3.connect(directory / "journal.db.format-1")) as db:
        assert db.execute("SELECT format FROM meta").fetchone() == (1,)


def test_salvage_keeps_tokens_of_format_1(tmp_path: Path, until: Until) -> None:
    """They run then, and what is written of them keeps their checksums right."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    with journals.start(WAITS, directory, ledger) as program:
        assert program.communicate()[1] == ""
    make_format_1(directory)
    assert salvage(directory).kept == 3
    with Gate("shop", plugins=[Journal(directory)], control_socket=False):
        until(lambda: len(journals.rows(directory, where="state > 3")) == 3)
    assert sorted(noted(ledger)) == ["run 1111111", "run 2222222", "run 3333333"]
    with closing(_store.reader(directory)) as db:
        assert checked(directory, db).damaged == ()


@pytest.mark.parametrize("table", ["tokens", *CHECKED])
def test_each_column_is_in_a_checksum(tmp_path: Path, table: str) -> None:
    """A bit of the header of a row makes NULL a number."""
    with closing(_store.connect(tmp_path)) as db:
        names = columns(db, table)
        unset = {'"crc_end"', '"delayed"'} if table == "tokens" else {'"crc"'}  # a trigger sets the checksums
        given = [name for name in names if name not in unset]
        db.execute(f"INSERT INTO {table}({', '.join(given)}) VALUES({', '.join('7' * len(given))})")
        is_whole = f"SELECT {whole(db, table)} FROM {table}"
        for (trigger,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {trigger}")

        assert db.execute(is_whole).fetchone() == (1,)
        for name in names:
            db.execute("BEGIN")
            db.execute(f"UPDATE {table} SET {name} = 0")
            assert db.execute(is_whole).fetchone() == (0,), name
            db.execute("ROLLBACK")


def test_a_row_that_an_index_has_lost_is_noticed(tmp_path: Path) -> None:
    """Else it would never run: nothing looks at the rows themselves. Case 7."""
    with Gate("shop", plugins=[Journal(tmp_path)], control_socket=False) as gate:
        gate.register(add)
        gate.control.suspend("add")
        tokens = [add.submit(number, 0) for number in range(3)]
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_schema SET sql = replace(sql, 'state = 1', 'state = 9') WHERE name = 'tokens_queued'")
        db.execute("PRAGMA writable_schema = RESET")
        db.execute("REINDEX tokens_queued")
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_schema SET sql = replace(sql, 'state = 9', 'state = 1') WHERE name = 'tokens_queued'")
    db.close()

    assert [type(token.exception()).__name__ for token in tokens] == ["LeftInJournal"] * 3
    with pytest.raises(JournalDamaged, match="index tokens_queued"):
        Gate("shop", plugins=[Journal(tmp_path)], control_socket=False).open()
    assert salvage(tmp_path).kept == 3
    with Gate("shop", plugins=[Journal(tmp_path)], control_socket=False) as gate:
        gate.register(add)
        assert [gate.plugin(Journal).attach(token.uid).result(10) for token in tokens] == [0, 1, 2]
