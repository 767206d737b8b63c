"""Schedules: each firing is one token, whatever happens to the gate, the process and the clock."""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import journals
import pytest
from audit_logs import fields
from durable_operations import again, noted, once
from people import ANN, People, grant
from tiers import IN_CI, TORTURE, in_ci

from tokengate import Gate, token
from tokengate.authority._decide import ROLES
from tokengate.durable import Journal, Schedule
from tokengate.durable._journal import OpenJournal
from tokengate.durable._kinds import ScheduleVerbs
from tokengate.durable._schedule_times import stamp
from tokengate.errors import BadRequest, NotDurable, ProposalMade, Refused

pytestmark = pytest.mark.usefixtures("programs")

Until = Callable[[Callable[[], bool]], None]

LIMIT = 30.0
BEGIN = datetime(2026, 11, 30, 10, tzinfo=UTC).timestamp()


class Clock:
    """A wall clock that a test sets."""

    now = BEGIN


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(OpenJournal, "wall", lambda _journal: clock.now)
    return clock


class Shop:
    """An open gate with schedules of `again`, whose ledger has the runs.

    Args:
        path: of the directories.
        clock: of its journal.
        until: waits for something.
    """

    def __init__(self, path: Path, clock: Clock, until: Until) -> None:
        self._until = until
        self.directory, self.ledger, self.clock = path / "journal", path / "ledger", clock
        self.gate: Gate
        self.journal: Journal

    def schedule(self, name: str = "nightly", operation: Any = again, **given: Any) -> Schedule:
        times = {"every": 60} if not {"cron", "at", "every"} & given.keys() else {}
        return Schedule(name, operation, (str(self.ledger), 1), **times, **given)

    @contextmanager
    def open(self, *schedules: Schedule) -> Iterator[Journal]:
        self.journal = Journal(self.directory, schedules=schedules)
        with Gate("shop", plugins=[self.journal], control_socket=False, shutdown=1.0) as self.gate:
            self.gate.register(again)
            yield self.journal

    def pass_(self, seconds: float) -> None:
        """Let the clock go on, and be looked at."""
        self.clock.now += seconds
        assert self.journal._schedules is not None
        self.journal._schedules._ask(self.journal._schedules._look).result(LIMIT)

    def wait(self) -> None:
        """Wait until all tokens on disk have ended."""
        self._until(lambda: journals.all_have_ended(self.directory))

    def due(self, name: str = "nightly") -> list[int]:
        """Return the due times of tokens on disk, in seconds after the beginning."""
        keys = [row["key"] for row in journals.rows(self.directory, "key", f"key LIKE 'schedule/{name}@%'")]
        return [int(datetime.fromisoformat(key.partition("@")[2]).timestamp() - BEGIN) for key in keys]

    def row(self, name: str = "nightly") -> Any:
        return next(row for row in self.journal.schedules.list() if row.name == name)


@pytest.fixture
def shop(tmp_path: Path, clock: Clock, until: Until) -> Shop:
    return Shop(tmp_path, clock, until)


def test_a_firing_is_one_token_with_its_key_and_tags(shop: Shop) -> None:
    """Case 43: it has the schedule and the due time; the row of the schedule was written in the same commit."""
    with shop.open(shop.schedule()):
        shop.pass_(59)
        assert shop.due() == []
        shop.pass_(1)
        shop.pass_(0)
        shop.wait()
        [row] = journals.rows(shop.directory)
        assert row["key"] == "schedule/nightly@2026-11-30T10:01:00Z"
        assert row["tags"] == '{"schedule":"nightly","due":"2026-11-30T10:01:00Z"}'
        assert noted(shop.ledger) == ["run 1"]
        found = shop.row()
        assert (found.operation, found.when) == ("durable_operations:again", "every 60 s")
        assert (found.due, found.last, found.skipped) == (BEGIN + 120, BEGIN + 60, 0)
    db = sqlite3.connect(shop.directory / "journal.db")
    assert db.execute("SELECT name, last_due, last_uid FROM schedules").fetchall() == [
        ("nightly", BEGIN + 60, row["uid"])
    ]
    db.close()


@pytest.mark.parametrize(("catchup", "caught"), [("latest", [180]), ("none", []), ("all", [60, 120, 180])])
def test_missed_firings_are_caught_up_when_the_gate_opens(shop: Shop, catchup: str, caught: list[int]) -> None:
    """Case 43: also if a pause ends, or the clock was set forth; the ones after that are as always."""
    schedule = shop.schedule(catchup=catchup, overlap="allow")
    with shop.open(schedule):
        pass
    shop.clock.now += 200
    with shop.open(schedule):
        shop.wait()
        assert shop.due() == caught
        shop.journal.schedules.pause("nightly")
        shop.pass_(200)
        assert shop.due() == caught
        shop.journal.schedules.resume("nightly")
        later = {"latest": [360], "none": [], "all": [240, 300, 360]}[catchup]
        assert shop.due() == [*caught, *later]
        shop.pass_(3_600)
        hour = {"latest": [3_960], "none": [], "all": list(range(420, 4_000, 60))}[catchup]
        assert shop.due() == [*caught, *later, *hour]
        shop.pass_(20)
        assert shop.due()[-1:] == [4_020]


@pytest.mark.parametrize("overlap", ["skip", "queue", "allow"])
def test_a_firing_while_the_one_before_has_not_ended(shop: Shop, overlap: str) -> None:
    """Case 43: it is left out and counted, waits for the end of the other, or begins; over a restart, too."""
    schedule = shop.schedule(overlap=overlap, every=60)
    with shop.open(schedule):
        shop.gate.control.suspend("operations/again")
        for _ in range(4):
            shop.pass_(60)
        assert shop.due() == ([60, 120, 180, 240] if overlap == "allow" else [60])
        assert shop.row().running == ("" if shop.due() == [] else shop.row().running)
        assert shop.row().running
    with shop.open(schedule):
        shop.wait()
        assert shop.row().skipped == {"skip": 3, "queue": 2, "allow": 0}[overlap]
        shop.pass_(1)
        assert shop.due() == {"skip": [60], "queue": [60, 240], "allow": [60, 120, 180, 240]}[overlap]
        shop.wait()
        shop.pass_(59)
        assert shop.due()[-1] == 300


@in_ci
def test_all_missed_firings_run_one_after_the_other(shop: Shop) -> None:
    """Case 43: the newest 100, each when the one before has ended."""
    schedule = shop.schedule(catchup="all")
    with shop.open(schedule):
        pass
    shop.clock.now += 60 * 150
    with shop.open(schedule):
        while len(shop.due()) < 100:
            shop.wait()
            shop.pass_(0)
        shop.wait()
    assert shop.due() == list(range(51 * 60, 151 * 60, 60))
    rows = journals.rows(shop.directory, "accepted, ended")
    assert all(one["ended"] <= other["accepted"] for one, other in pairwise(rows))


def test_a_pause_survives_a_restart_and_ends_by_itself(shop: Shop) -> None:
    """Case 43: who has paused it, and why, is on disk; what it has missed is caught up."""
    schedule = shop.schedule()
    with shop.open(schedule):
        shop.pass_(60)
        shop.journal.schedules.pause("nightly", until="5m", reason="moving disks")
        assert shop.row().due is None
        shop.pass_(50)
    with shop.open(schedule):
        for _ in range(4):
            shop.pass_(50)
        row = shop.row()
        assert (row.paused, row.until, row.by, row.reason) == (True, BEGIN + 360, "process", "moving disks")
        assert shop.due() == [60]
        shop.pass_(50)
        assert shop.due() == [60, 360]
        assert not shop.row().paused
        shop.journal.schedules.pause("nightly", until=140)
        shop.wait()
        for _ in range(3):
            shop.pass_(50)
        assert shop.due() == [60, 360, 480]


def test_a_schedule_is_run_at_once_also_while_it_is_paused(shop: Shop) -> None:
    """Case 43: with the time of the moment, and not while its token runs; due times stay what they are."""
    with shop.open(shop.schedule()):
        shop.gate.control.suspend("operations/again")
        shop.journal.schedules.pause("nightly")
        shop.clock.now += 7
        assert shop.journal.schedules.run("nightly").running
        with pytest.raises(BadRequest, match="has not ended"):
            shop.journal.schedules.run("nightly")
        assert shop.due() == [7]
        shop.gate.control.unsuspend("operations/again")
        shop.wait()
        shop.journal.schedules.resume("nightly")
        assert shop.row().due == BEGIN + 60


def test_an_edited_schedule_catches_nothing_up(shop: Shop) -> None:
    """Case 43: nor one that is back after it was taken away; its pause stays, and so does what it has submitted."""
    with shop.open(shop.schedule()) as journal:
        shop.pass_(60)
        journal.schedules.pause("nightly")
    shop.clock.now += 600
    with shop.open(shop.schedule(overlap="allow")) as journal:
        assert shop.row().paused
        journal.schedules.resume("nightly")
        assert shop.due() == [60]
        shop.pass_(60)
        assert shop.due() == [60, 720]
    shop.clock.now += 600
    with shop.open():
        assert shop.journal.schedules.list() == ()
    with shop.open(shop.schedule(overlap="allow")):
        assert shop.due() == [60, 720]
        shop.pass_(60)
        assert shop.due() == [60, 720, 1_380]


def test_a_one_off_fires_once(shop: Shop) -> None:
    """Case 43: also if the gate was closed at its time; not again at a later opening."""
    schedule = shop.schedule(at=datetime.fromtimestamp(BEGIN + 100, UTC))
    with shop.open(schedule):
        shop.pass_(99)
    shop.clock.now += 60
    for _ in range(2):
        with shop.open(schedule):
            shop.wait()
            assert shop.due() == [100]
            assert shop.row().due is None


@in_ci
def test_the_clock_is_set_an_hour_back_and_forth(shop: Shop, seed: int) -> None:
    """Case 45: nothing fires twice, nothing before it is due; what was jumped over is caught up."""
    drawing = random.Random(seed)
    schedule = shop.schedule(catchup="all", overlap="allow", cron="* * * * *")
    latest = BEGIN
    for _ in range(4):
        with shop.open(schedule):
            for _ in range(6):
                shop.pass_(drawing.choice([1, 30, 61, 3_600, -3_600]))
                latest = max(latest, shop.clock.now)
            shop.wait()
    due = shop.due()
    assert due == sorted(set(due))
    assert due == list(range(60, int(latest - BEGIN) // 60 * 60 + 1, 60))
    assert len(noted(shop.ledger)) == len(due)


KILLED = """
import os, sys
from pathlib import Path
from durable_operations import again
from tokengate import Gate
from tokengate.authority._decide import ROLES
from tokengate.durable import Journal, Schedule
from tokengate.durable._journal import OpenJournal
directory, ledger, seconds, last = Path(sys.argv[1]), *sys.argv[2:3], Path(sys.argv[3]), int(sys.argv[4])
OpenJournal.wall = lambda _journal: float(seconds.read_text())
schedule = Schedule("secondly", again, (ledger, 1), every=1, catchup="all", overlap="allow")
journal = Journal(directory, schedules=[schedule])
with Gate("shop", plugins=[journal], control_socket=False):
    look = lambda: journal._schedules._ask(journal._schedules._look).result()
    while (now := int(seconds.read_text())) < last:
        seconds.with_suffix(".new").write_text(str(now + 1))
        seconds.with_suffix(".new").rename(seconds)
        look()
        print(now + 1, flush=True)
    look()
"""


@in_ci
def test_firings_under_kills_are_as_many_tokens(tmp_path: Path, until: Until, seed: int) -> None:
    """Case 44: 1,000 firings of a gate that is killed at random are 1,000 tokens. Each has run, or is `poison`."""
    drawing = random.Random(seed)
    number, kills = (1_000, 20) if IN_CI else (30, 1)
    kills *= 20 if TORTURE else 1
    seconds, ledger = tmp_path / "seconds", tmp_path / "ledger"
    seconds.write_text("1000")
    arguments = (tmp_path / "journal", ledger, seconds, 1_000 + number)
    for _ in range(kills):
        with journals.start(KILLED, *arguments) as program:
            for _ in range(drawing.randrange(2 * number // kills)):
                program.stdout.readline()
            program.kill()
            program.wait()
    with journals.start(KILLED, *arguments) as program:
        _, errors = program.communicate()
        assert program.returncode == 0, errors
    with Gate("shop", plugins=[Journal(tmp_path / "journal")], control_socket=False):
        until(lambda: journals.all_have_ended(tmp_path / "journal"))
    rows = journals.rows(tmp_path / "journal")
    assert [row["key"] for row in rows] == [f"schedule/secondly@{stamp(1_000 + n)}" for n in range(1, number + 1)]
    done = [row for row in rows if row["state"] == 4]
    assert all(row in done or journals.is_poison(row) for row in rows)
    assert len(noted(ledger)) >= len(done)


def test_verbs_need_a_right_for_the_operation_and_are_recorded(shop: Shop, tmp_path: Path) -> None:
    """Case 43: a grant with a selector is enough if it has the operation; who and why is in the audit log."""
    config = tmp_path / "tokengate.toml"
    config.write_text(f'[audit]\npath = "{tmp_path / "audit"}"\n')
    journal = Journal(shop.directory, schedules=[shop.schedule(), shop.schedule("other", once)])
    with Gate("shop", plugins=[journal], control_socket=False, config=config) as gate:
        people = People(gate)
        people.grants(grant(ANN, rights=ROLES["operator"], select="operation=again"))
        ann = ScheduleVerbs(people[ANN])
        assert [row.name for row in ann.list()] == ["nightly"]
        assert ann.pause("nightly", reason="moving disks").by == ANN.principal
        with pytest.raises(Refused):
            ann.pause("other", reason="moving disks")
        with pytest.raises(ProposalMade) as made:
            ann.resume("nightly", dry_run=True)
        assert journal.schedules.list("nightly")[0].paused
        people[ANN].apply(made.value.number)
        assert not journal.schedules.list("nightly")[0].paused
    acts = [(one["verb"], one["principal"]) for one in fields(tmp_path / "audit") if one["kind"] == "intent"]
    assert acts == [(f"{verb}_schedule", ANN.principal) for verb in ("pause", "pause", "resume")]  # the other: refused


@in_ci
def test_a_thousand_schedules_are_one_look_and_few_commits(shop: Shop) -> None:
    """All that is due at one look is written together."""
    schedules = [shop.schedule(f"nightly-{n}", cron="30 2 * * *", jitter=0) for n in range(1_000)]
    with shop.open(*schedules):
        commits = journals.commits(shop.directory)
        shop.gate.control.suspend("operations/again")
        shop.pass_(86_400)
        assert len(journals.rows(shop.directory, "uid")) == 1_000
        assert journals.commits(shop.directory) - commits < 20


def test_a_schedule_of_an_operation_that_is_unknown_here_waits_on_disk(shop: Shop) -> None:
    """Its tokens are parked, and run in a gate that knows it."""
    with shop.open(Schedule("nightly", "no.such:report", every=60)):
        shop.pass_(60)
        shop.pass_(60)
        assert shop.due() == [60]
        assert shop.row().skipped == 1


def test_priority_and_tags_are_those_of_the_operation(shop: Shop) -> None:
    """As it was given to the schedule."""
    with shop.open(shop.schedule(operation=again.with_options(priority=7, tags={"tenant": "acme"}))):
        shop.pass_(60)
        [row] = journals.rows(shop.directory)
        assert row["priority"] == 7
        assert row["tags"].startswith('{"tenant":"acme","schedule":"nightly"')


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cron": "* * *"}, "cron of schedule 'nightly' is '* * *'; it has not five fields"),
        ({"cron": "* * * * *", "every": 5}, "cron, every, at of schedule 'nightly'"),
        ({"at": "soon"}, "at of schedule 'nightly' is 'soon'"),
        ({"every": 0.5}, "every of schedule 'nightly' is 0.5; use whole seconds"),
        ({"every": "soon"}, "'soon' is not a time; write 30, 30s"),
        ({"timezone": "Mars/Base"}, "timezone of schedule 'nightly' is 'Mars/Base'; use a name such as"),
        ({"catchup": "some"}, "catchup of schedule 'nightly' is 'some'; use one of latest, none, all"),
        ({"overlap": 1}, "overlap of schedule 'nightly' is 1; use one of skip, queue, allow"),
        ({"jitter": -1}, "jitter of schedule 'nightly' is -1; use a number of seconds"),
        ({"name": "a b"}, "name of a schedule is 'a b'; use 1 to 100 letters"),
        ({"operation": "charge"}, "operation of schedule 'nightly' is 'charge'; use a durable operation"),
        ({"operation": again.with_options(key="a")}, "without a key"),
    ],
)
def test_a_value_that_cannot_work_is_refused(shop: Shop, given: dict[str, Any], message: str) -> None:
    """The error names the schedule, the value and the remedy."""
    with pytest.raises(ValueError, match=re.escape(message)):
        shop.schedule(**given)


def test_only_durable_operations_with_arguments_that_can_be_kept_have_schedules(shop: Shop) -> None:
    """And names are unique in a journal."""
    plain = token(lambda: None)
    with pytest.raises(NotDurable, match="is not durable"):
        Schedule("nightly", plain, every=60)
    with pytest.raises(NotDurable):
        Schedule("nightly", once, (object(), 1), every=60)
    with pytest.raises(ValueError, match="a name of its own"):
        Journal(shop.directory, schedules=[shop.schedule(), shop.schedule()])
