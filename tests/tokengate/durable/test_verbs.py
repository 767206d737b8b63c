"""The verbs about a journal: its rows are listed, checked, retried and discarded, each by those that may."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import journals
import pytest
from callers import ANN, BOB, Wire, gates_of, grants
from charges import charge, held, shown
from durable_operations import add, note, noted
from tiers import in_ci

from tokengate import Gate
from tokengate.control._uids import text_of
from tokengate.durable import Journal, JournalChanged, submit_to
from tokengate.durable import _kinds as k
from tokengate.errors import BadRequest, BadSelector, JournalFailed, Refused, UnknownToken


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """The journal of an open gate."""
    made = Journal(tmp_path / "journal")
    with Gate("shop", plugins=[made], control_socket=False):
        yield made


Fail = Callable[..., list[str]]


@pytest.fixture
def failed(tmp_path: Path, until: Callable[[Callable[[], bool]], None]) -> Fail:
    """Have charges fail in the open gate of the directory `journal`; return their uids."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"

    def fail(number: int = 1, key: str | None = None) -> list[str]:
        before = {row["uid"] for row in journals.rows(directory, "uid", "state = 5")}
        for order in range(number):
            submit_to(directory).submit("charges:charge", str(ledger), order, key=key)
        until(lambda: len(journals.rows(directory, "uid", "state = 5")) >= len(before) + number)
        return [text_of(row["uid"]) for row in journals.rows(directory, "uid", "state = 5") if row["uid"] not in before]

    return fail


@in_ci
def test_the_journal_tells_its_figures(journal: Journal, failed: Fail, tmp_path: Path) -> None:
    """Open tokens, dead letters, its log, and the number of its last commit."""
    add.submit(1, 2).result(10)
    failed(2)

    (row,) = journal.rows.look()

    assert (row.directory, row.run, row.open, row.on_disk, row.parked, row.dead) == (
        str(tmp_path / "journal"),
        1,
        0,
        0,
        0,
        2,
    )
    assert row.wal_bytes > 0
    assert row.last_commit > 3
    assert row.error == ""


@in_ci
def test_rows_on_disk_are_listed_by_selectors(journal: Journal, failed: Fail, tmp_path: Path) -> None:
    """The newest first; by uid, by operation (its name, or the whole one), state, key and tags."""
    first, _ = failed(2)
    assert add.submit(1, 2).result(10) == 3

    def uids(select: str) -> list[str]:
        return [row.uid for row in journal.rows.tokens(select)]

    assert uids("") == uids("*")
    assert uids("operation=add") == uids("operation=durable_operations:add") == uids("state=completed") == uids("")[:1]
    assert first in uids("tenant=acme") == uids("state=failed,operation!=add") == uids("")[1:]
    assert uids(first) == [first]
    assert uids("uid=1.999999") == uids("tenant=other") == uids("age>1h") == []
    assert uids("uid=5") == uids("uid=.5") == uids("uid=9999999.1") == []
    assert len(journal.rows.tokens(limit=1)) == 1
    with pytest.raises(BadSelector, match="use state"):
        uids("held=paused")


@pytest.mark.parametrize("number", [-(10**19), 2**63, 10**19])
def test_a_number_that_no_row_can_have_is_unknown(journal: Journal, number: int) -> None:
    """SQLite would take none of these."""
    control = journal.gate.control
    (outcome,) = control.terminate(number)

    assert (outcome.outcome, outcome.note) == ("unknown", "no token has had this id")
    with pytest.raises(UnknownToken):
        control.describe(number)


@in_ci
def test_a_row_that_cannot_run_here_is_parked(
    journal: Journal, tmp_path: Path, until: Callable[[Callable[[], bool]], None]
) -> None:
    """It is listed so, counted, and makes the journal's health degraded."""
    submit_to(tmp_path / "journal").submit("charges:unknown", 1)
    submit_to(tmp_path / "journal").submit("durable_operations:add", 1, 2)
    until(lambda: bool(journal.rows.tokens("state=completed")))

    (row,) = journal.rows.tokens("state=parked")

    assert (row.operation, row.state) == ("charges:unknown", "parked")
    assert journal.rows.tokens("state=queued") == ()
    assert len(journal.rows.tokens("state!=parked")) == 1
    assert journal.rows.look()[0].parked == 1
    (part,) = (one for one in journal.gate.control.health().parts if one.name == "journal")
    assert (part.status, part.why[:8]) == ("degraded", "1 token ")


def test_a_dead_letter_is_retried_and_its_successor_has_its_key(journal: Journal, failed: Fail, tmp_path: Path) -> None:
    """Case 36. The new token runs; the key leads to it; the old one is a dead letter no more."""
    ledger = tmp_path / "ledger"
    (uid,) = failed(key="order-17")
    assert [row.uid for row in journal.dead_letters.list()] == [uid]
    note(str(ledger), "bank")

    (row,) = journal.dead_letters.retry("operation=charge", reason="the bank is back")

    assert (row.uid, row.reason) == (uid, "failed")
    assert journal.attach(row.successor).result(10) == 0
    assert journal.attach(charge, key="order-17").result(10) == 0
    assert journal.dead_letters.list() == ()
    assert noted(ledger) == ["charge 0", "bank", "charge 0"]
    (old,) = journal.rows.tokens(uid)
    assert (old.key, old.successor) == ("", row.successor)
    assert journal.rows.check().damaged == ()


@in_ci
def test_texts_of_errors_are_shown_where_values_of_arguments_are(journal: Journal, failed: Fail) -> None:
    """They may have some. What recovery says is no such text."""
    (uid,) = failed()

    with pytest.raises(ValueError, match="all is shown"):
        shown.submit().result(10)

    assert [row.error for row in journal.dead_letters.list(uid)] == ["ValueError"]
    assert [row.error for row in journal.rows.tokens("operation=shown")] == ["ValueError: all is shown"]


@in_ci
def test_a_rate_spreads_what_is_retried(journal: Journal, failed: Fail, tmp_path: Path) -> None:
    """Case 36. The first one is queued now, each other one is due so much later; the oldest comes first."""
    uids = failed(3)

    rows = journal.dead_letters.retry("*", rate="6/m")

    assert [row.uid for row in rows] == uids
    due = [row["due"] for row in journals.rows(tmp_path / "journal", "due", "uid > 0")[3:]]
    assert due[0] is None
    assert due[2] - due[1] == pytest.approx(10.0)
    assert [row.state for row in journal.rows.tokens("state=delayed")] == ["delayed", "delayed"]


@in_ci
def test_a_rate_that_cannot_work_is_refused(journal: Journal, failed: Fail) -> None:
    """And nothing is retried."""
    failed()

    for rate in ("0/s", "many", "5", "5/d", "-1/s"):
        with pytest.raises(BadRequest, match="such as 100/s"):
            journal.dead_letters.retry("*", rate=rate)
    assert len(journal.dead_letters.list()) == 1


def test_a_discarded_dead_letter_frees_its_key(journal: Journal, failed: Fail, tmp_path: Path) -> None:
    """Case 36. It is listed as a token that has ended, and the same key may be used again."""
    (uid,) = failed(key="order-17")

    (row,) = journal.dead_letters.discard(uid, reason="done by hand")

    assert (row.uid, row.successor) == (uid, "")
    assert journal.dead_letters.list() == ()
    (again,) = failed(key="order-17")
    assert again != uid


@in_ci
def test_a_selector_of_no_dead_letter_is_refused(journal: Journal, failed: Fail) -> None:
    """So is an empty one, which would mean all."""
    failed()

    for select in ("", "operation=nothing", "1.999"):
        for act in (journal.dead_letters.retry, journal.dead_letters.discard):
            with pytest.raises(BadRequest, match="dead letter"):
                act(select)
    assert len(journal.dead_letters.list()) == 1


@in_ci
def test_a_dead_letter_with_changed_bits_is_not_retried(journal: Journal, failed: Fail, tmp_path: Path) -> None:
    """Its arguments may be wrong; it can be left out, and discarded."""
    uid, other = failed(2)
    with sqlite3.connect(tmp_path / "journal" / "journal.db") as db:
        db.create_function("checksum", -1, lambda *_: 0)
        db.execute(
            "UPDATE tokens SET arguments = '[[\"x\", 9], {}]', reason = 'corrupt' WHERE uid = ?",
            (1 << 40 | int(uid[2:]),),
        )
    db.close()

    assert journal.rows.check().damaged == ("tokens: 1 rows",)
    with pytest.raises(BadRequest, match=f"bits of dead letter {uid} have changed"):
        journal.dead_letters.retry("*")
    assert [row.uid for row in journal.dead_letters.retry("reason!=corrupt")] == [other]
    journal.dead_letters.discard(uid)


@in_ci
def test_those_that_may_not_see_a_token_do_not_see_its_row(tmp_path: Path, failed: Fail) -> None:
    """Case 36. Grants decide by the operation of each row; verbs need one that reaches all of it."""
    text = grants(
        (f"uid:{ANN}", "operator", "operation=charge"),
        (f"uid:{BOB}", "operator", "tenant=acme"),
        ("process", "admin"),
    )
    with gates_of(tmp_path / "tokengate.toml") as open_:
        gate = open_(text, plugins=[Journal(tmp_path / "journal")])
        (uid,) = failed()
        add.submit(1, 2).result(10)

        with Wire(gate) as wire:
            for user in (ANN, BOB):
                assert [row["uid"] for row in wire.ask(k.DurableTokens(), f"uid:{user}", user)] == [uid]
                assert [row["uid"] for row in wire.ask(k.DeadLetters(), f"uid:{user}", user)] == [uid]
                for message in (k.Journals(), k.CheckJournal()):
                    with pytest.raises(Refused, match="without a selector"):
                        wire.ask(message, f"uid:{user}", user)
            with pytest.raises(Refused, match=r"for all that is below it|has not the right 'operate'"):
                wire.ask(k.RetryDeadLetter("*"), f"uid:{BOB}", BOB)
            with pytest.raises(BadRequest, match="needs a reason"):
                wire.ask(k.DiscardDeadLetter("*"), f"uid:{ANN}", ANN)
            with pytest.raises(BadRequest, match="no dead letter"):
                wire.ask(k.RetryDeadLetter("operation=add"), f"uid:{ANN}", ANN)
            (row,) = wire.ask(k.RetryDeadLetter(uid), f"uid:{ANN}", ANN)
        assert row["successor"]
        done = {
            (one.principal, one.outcome) for one in gate.control.audit_records("verb=retry_dead_letter,kind=outcome")
        }
        assert done == {(f"uid:{BOB}", "1 failed"), (f"uid:{ANN}", "1 failed"), (f"uid:{ANN}", "1 done")}


@in_ci
def test_verbs_take_the_uids_of_tokens_that_are_only_on_disk(
    tmp_path: Path, until: Callable[[Callable[[], bool]], None]
) -> None:
    """Of this run and of one before: what they change holds, and is written; a dry run is applied later."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    with Gate("shop", plugins=[Journal(directory)], control_socket=False) as gate:
        gate.register(held)
        gate.control.suspend("operations/held")
        for number in range(14):
            held.submit(str(ledger), number)
    with Gate("shop", plugins=[Journal(directory)], control_socket=False) as gate:
        journal = gate.plugin(Journal)
        for number in range(14, 18):
            held.submit(str(ledger), number)
        old, new = uids(directory, 1), uids(directory, 2)

        (ended,) = gate.control.terminate(old[12], reason="not wanted", wait=10)
        (moved,) = gate.control.renice(old[13], 5)
        (tagged,) = gate.control.retag(new[3], {"tenant": "acme"})
        (planned,) = gate.control.terminate(new[2], dry_run=True, wait=10)
        (gone,) = gate.control.terminate("2.999999")
        row = gate.control.describe(new[1]).row

        assert (ended.outcome, moved.outcome, tagged.outcome) == ("terminated", "reniced", "retagged")
        assert (planned.outcome, gone.outcome, row.operation, row.state) == ("would", "unknown", "held", "queued")
        assert "durable-tokens 2.999999" in gone.note
        assert planned.proposal is not None
        assert [one.outcome for one in gate.control.apply(planned.proposal.number).outcomes] == ["terminated"]
        with pytest.raises(UnknownToken, match="durable-tokens"):
            gate.control.describe(old[12])
        until(lambda: [one.uid for one in journal.rows.tokens("tenant=acme")] == [new[3]])
        assert [one.state for one in journal.rows.tokens(old[12])] == ["terminated"]
        note(str(ledger), "go")
        assert journal.attach(new[3]).result(10) == 17
    runs = [int(line.split()[1]) for line in noted(ledger) if line != "go"]
    assert runs.index(13) <= 1
    assert sorted(runs) == [number for number in range(18) if number not in (12, 16)]


def uids(directory: Path, run: int) -> list[str]:
    return [text_of(row["uid"]) for row in journals.rows(directory, "uid", f"uid >> 40 = {run}")]


@in_ci
def test_subscribers_are_told_when_the_journal_accepts_nothing(
    tmp_path: Path, until: Callable[[Callable[[], bool]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When its disk is full, and when that is over; when it fails, before the gate closes. Its health says so, too."""
    monkeypatch.setattr("tokengate.durable._plugin._LOOK_SECONDS", 0.01)
    told: list[JournalChanged] = []
    journal = Journal(tmp_path / "journal")
    with Gate("shop", plugins=[journal], control_socket=False) as gate:
        gate.subscribe(lambda event: told.append(event) if isinstance(event, JournalChanged) else None)
        assert journal._journal is not None
        writer = journal._journal.writer
        writer._run.has_reserve = False
        until(lambda: [one.why for one in told] == ["the disk is full, so nothing is accepted"])
        (part,) = (one for one in gate.control.health().parts if one.name == "journal")
        assert (part.status, part.why) == ("failed", told[0].why)
        assert journal.rows.look()[0].error == told[0].why
        assert add.submit(1, 2).result(10) == 3  # it takes its reserve again
        until(lambda: [one.why for one in told[1:]] == [""])

        def fail(_batch: object) -> None:
            raise OSError("the disk is gone")

        monkeypatch.setattr(writer, "_commit", fail)
        with pytest.raises(JournalFailed):
            add.submit(1, 2)
        until(lambda: len(told) == 3)
    assert told[2].text == f"the journal in {tmp_path / 'journal'}: it has failed: the disk is gone"
