"""The programs of the page on durability: a shop, a bank and an outbox do what the page says, whoever is killed."""

from __future__ import annotations

import random
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import journals
import msgspec
import pytest
from click.testing import CliRunner
from durable_operations import noted
from tiers import TORTURE, in_ci

from tokengate import ChildSpec, Gate
from tokengate.cli import main
from tokengate.control._uids import text_of
from tokengate.durable import Journal

Until = Callable[[Callable[[], bool]], None]

pytestmark = pytest.mark.usefixtures("programs")

PAGE = (Path(__file__).parents[3] / "docs" / "durability.md").read_text()

FILES = dict(re.findall(r"`(\w+\.py)`[^\n]*:\n\n```py\n(.*?)```", PAGE, re.DOTALL))
"""{name: text}: the programs on the page."""

KILLS = 200 if TORTURE else 10


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the working directory, which has the programs of the page; they are not imported yet."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in FILES:
        sys.modules.pop(Path(name).stem, None)


def test_the_page_has_these_programs() -> None:
    """And the outbox is short."""
    assert FILES.keys() == {"shop.py", "orders.py", "bank.py", "outbox.py"}
    recipe = FILES["outbox.py"].partition("class Relay")[2]
    assert len(recipe.splitlines()) <= 25


SHOP = """
import time
time.sleep = lambda _seconds: print("slept", flush=True) or {0}
import shop
with shop.gate as gate:
    gate.wait()
"""


@in_ci
def test_the_shop_goes_on_after_its_death(folder: Path, until: Until) -> None:
    """It is killed within the charge of an order: that one runs again, and the others do."""
    with Gate("shop", plugins=[Journal("journal")], control_socket=False):
        pass
    with journals.start("import orders") as orders:
        said, error = orders.communicate()
    assert (said, error) == ("".join(f"accepted order-{number}\n" for number in range(5)), "")
    with journals.start(SHOP.format("input()"), piped=True) as shop:
        assert shop.stdout is not None
        assert [shop.stdout.readline(), shop.stdout.readline()] == ["charge 0\n", "slept\n"]
        shop.kill()
    with journals.start(SHOP.format("None")) as shop:
        until(lambda: journals.all_have_ended(folder / "journal"))
        shop.kill()
        said = shop.communicate()[0]

    assert [line for line in said.splitlines() if line.startswith("charge")] == [f"charge {n}" for n in range(5)]
    assert [row["recoveries"] for row in journals.rows(folder / "journal")] == [1, 0, 0, 0, 0]


BANK = """
import random, sys
import bank
from durable_operations import note
from tokengate import Gate
from tokengate.durable import Journal
seed = int(sys.argv[1])
rng = random.Random(seed)
bank.create()
print("starting", flush=True)
with Gate("bank", plugins=[Journal("journal")], control_socket=False):
    for number in range(1_000_000):
        cents = rng.randrange(1, 100)
        names = rng.sample(("ann", "bob"), 2)
        bank.transfer.with_options(key=f"{seed}-{number}").submit(*names, cents)
        note("accepted", f"{seed}-{number} {names[1]} {cents}")
"""


@in_ci
def test_the_bank_survives_kill_9(folder: Path, seed: int, until: Until) -> None:
    """Each transfer that was accepted is done once; the ledger of what was accepted is outside of the process."""
    rng = random.Random(seed)
    for number in range(KILLS):
        with journals.start(BANK, number) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "starting\n"
            enough = len(noted("accepted")) + rng.randrange(1, 100)
            until(lambda: len(noted("accepted")) >= enough or program.poll() is not None)  # noqa: B023 - called at once
            program.kill()
            error = program.communicate()[1]
        assert not error, error
    import bank  # type: ignore[import-not-found]

    with Gate("bank", plugins=[Journal("journal")], control_socket=False) as gate:
        gate.register(bank.transfer)
        until(lambda: journals.all_have_ended(folder / "journal"))
    rows = {text_of(row["uid"]): row for row in journals.rows(folder / "journal")}
    accepted = dict(line.split(" ", 1) for line in noted("accepted"))
    with closing(sqlite3.connect("bank.db")) as db:
        accounts = dict(db.execute("SELECT * FROM accounts"))
        transfers = dict(db.execute("SELECT * FROM transfers"))

    assert accepted.keys() <= {row["key"] for row in rows.values()}
    done = {uid for uid, row in rows.items() if row["state"] == 4}
    assert all(journals.is_poison(rows[uid]) for uid in rows.keys() - done)
    assert done <= transfers.keys() <= rows.keys()
    moved = {"ann": 0, "bob": 0}
    for uid in transfers:
        (source, target, cents), _ = msgspec.json.decode(rows[uid]["arguments"])
        moved[source] -= cents
        moved[target] += cents
    assert accounts == {name: 100_000 + cents for name, cents in moved.items()}


OUTBOX = """
import outbox
from tokengate import ChildSpec, Gate
from tokengate.cli import main
from tokengate.durable import Journal
with Gate("shop", children=[ChildSpec("relay", outbox.Relay, args=("service.db",))],
          plugins=[Journal("journal")], control_socket=False) as gate:
    gate.wait()
"""


def create_outbox(rows: int) -> sqlite3.Connection:
    db = sqlite3.connect("service.db", isolation_level=None, timeout=60)
    db.execute("CREATE TABLE outbox (id PRIMARY KEY, operation, arguments)")
    insert(db, range(rows))
    return db


def insert(db: sqlite3.Connection, numbers: range) -> None:
    db.execute("BEGIN IMMEDIATE")
    for number in numbers:
        db.execute("INSERT INTO outbox VALUES (?, 'ship', ?)", (f"id{number}", f'[{number}, "Main Street"]'))


def test_what_a_service_commits_is_submitted_and_what_it_rolls_back_is_not(folder: Path, until: Until) -> None:
    """Case 30."""
    import outbox  # type: ignore[import-not-found]

    with closing(create_outbox(3)) as db:
        db.execute("COMMIT")
        relay = ChildSpec("relay", outbox.Relay, args=("service.db",))
        with Gate("shop", children=[relay], plugins=[Journal("journal")], control_socket=False):
            insert(db, range(10, 20))
            db.execute("ROLLBACK")
            insert(db, range(3, 5))
            db.execute("COMMIT")
            until(lambda: not db.execute("SELECT * FROM outbox").fetchall())
            until(lambda: journals.all_have_ended(folder / "journal"))

    assert [row["key"] for row in journals.rows(folder / "journal")] == [f"outbox/id{number}" for number in range(5)]


@in_ci
def test_a_relay_that_is_killed_between_submits_once(folder: Path, seed: int, until: Until) -> None:
    """Case 30: killed at random moments, between the submit and the deletion, too."""
    rng = random.Random(seed)
    with closing(create_outbox(500)) as db:
        db.execute("COMMIT")

        def left() -> int:
            return int(db.execute("SELECT count(*) FROM outbox").fetchone()[0])

        for _ in range(KILLS):
            with journals.start(OUTBOX) as program:
                enough = max(0, left() - rng.randrange(1, 50))
                until(lambda: left() <= enough or program.poll() is not None)  # noqa: B023 - called at once
                program.kill()
                error = program.communicate()[1]
            assert not error, error
        row = db.execute("SELECT * FROM outbox").fetchone() or ("id0", "ship", '[0, "Main Street"]')
        db.execute("INSERT OR IGNORE INTO outbox VALUES (?, ?, ?)", row)  # as if killed just before its deletion
        with journals.start(OUTBOX) as program:
            until(lambda: not left())
            until(lambda: journals.all_have_ended(folder / "journal"))
            program.kill()

    keys = [row["key"] for row in journals.rows(folder / "journal")]
    assert sorted(keys) == sorted(f"outbox/id{number}" for number in range(500))


def test_what_the_service_does_on_the_page_is_submitted(folder: Path, until: Until) -> None:
    """Its statements, as they stand; the operation gets the arguments of the row."""
    import outbox

    (statements,) = re.findall(r"```sql\n(BEGIN;.*?)```", PAGE, re.DOTALL)
    with closing(create_outbox(0)) as db:
        db.execute("COMMIT")
        db.execute("CREATE TABLE orders (id, customer)")
        db.executescript(statements)
        relay = ChildSpec("relay", outbox.Relay, args=("service.db",))
        with Gate("shop", children=[relay], plugins=[Journal("journal")], control_socket=False):
            until(lambda: bool(journals.rows(folder / "journal", "uid", "state = 4")))

    (row,) = journals.rows(folder / "journal")
    assert row["result"] == b'"order 17 to Main Street 1"'


def test_the_file_on_the_page_has_no_errors(folder: Path) -> None:
    """`tokengate check` reads it."""
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (folder / "tokengate.toml").write_text(text)
    done = CliRunner().invoke(main, ["check", "tokengate.toml"])

    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "tokengate.toml has no errors")


def test_the_page_names_commands_that_there_are(folder: Path) -> None:
    """And shows how the journal looks after the death of the shop."""
    named = set(re.findall(r"(?:`|\$ )tokengate ([a-z-]+(?: (?:check|salvage|fork|retry|discard|run))?)\b", PAGE))
    (head,) = re.findall(r"^DIRECTORY +RUN.*$", PAGE, re.MULTILINE)

    assert {"journal salvage", "durable-token fork", "dead-letter discard", "schedule run"} <= named
    assert [name for name in named if CliRunner().invoke(main, [*name.split(), "--help"]).exit_code] == []
    with Gate("shop", plugins=[Journal("journal")]):
        shown = CliRunner().invoke(main, ["journals", "-g", "shop"]).output
    assert shown.splitlines()[0].split() == head.split()
