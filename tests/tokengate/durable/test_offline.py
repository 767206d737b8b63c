"""The verbs about a journal that no gate has open: under its lock, through the door of the gate that had it last."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import journals
import pytest
from callers import ANN, BOB, OWN, grants
from charges import charge
from click.testing import CliRunner, Result
from durable_operations import add, note, noted
from other_users import needs_root, public_directory
from tiers import in_ci

from tokengate import Gate
from tokengate.audit import read
from tokengate.audit._verify import verify
from tokengate.cli import main
from tokengate.durable import Journal, Schedule
from tokengate.durable import _kinds as k
from tokengate.durable._offline import ask
from tokengate.errors import BadRequest, BadStateDirectory, ControlError, JournalDamaged, JournalInUse, Refused

Leave = Callable[..., Path]


@pytest.fixture
def leave(tmp_path: Path) -> Leave:
    """Have a gate leave two dead letters, a schedule, and an audit log beside the journal; return its directory."""

    def leave(more: str = "", home: Path = tmp_path) -> Path:
        file, directory = home / "tokengate.toml", home / "journal"
        file.touch(0o600)
        file.write_text(f'{more}\n[audit]\npath = "{home / "audit"}"\n')
        journal = Journal(directory, schedules=[Schedule("nightly", add, (1, 2), every=3_600)])
        with Gate("shop", config=file, plugins=[journal], control_socket=False):
            for order in range(2):
                with pytest.raises(ValueError, match="no bank"):
                    charge.submit(str(tmp_path / "ledger"), order).result(10)
        return directory

    return leave


def audited(directory: Path) -> list[dict[str, Any]]:
    """Return the records of verbs in the log beside a journal, which is whole."""
    assert verify(directory.parent / "audit", None, None).problems == ()
    return [one for one in read(directory.parent / "audit") if one.get("verb") or one["kind"] == "outcome"]


@in_ci
def test_what_is_on_disk_is_listed(leave: Leave, tmp_path: Path) -> None:
    """Case 40. Without a run of its own."""
    directory = leave("")

    (row,) = ask(directory, k.Journals())
    (nightly,) = ask(directory, k.Schedules())

    assert (row.directory, row.run, row.open, row.dead) == (str(directory), 1, 0, 2)
    assert [one.reason for one in ask(directory, k.DeadLetters())] == ["failed", "failed"]
    assert len(ask(directory, k.DurableTokens("tenant=acme"))) == 2
    assert ask(directory, k.CheckJournal()).damaged == ()
    assert (nightly.name, nightly.when, nightly.paused) == ("nightly", "every 3600 s", False)
    assert ask(directory, k.Journals()) == (row,)


def test_what_is_changed_holds_at_the_next_opening(leave: Leave, tmp_path: Path) -> None:
    """Case 40. A retried dead letter runs then; a schedule stays paused; both are in the audit chain, `offline`."""
    directory = leave("")
    note(str(tmp_path / "ledger"), "bank")

    rows = ask(directory, k.RetryDeadLetter("*", reason="the bank is back"))
    paused = ask(directory, k.PauseSchedule("nightly", reason="moving the disks"))

    assert [row.successor[:2] for row in rows] == ["2.", "2."]
    assert (paused.paused, paused.by, paused.reason) == (True, f"uid:{OWN}", "moving the disks")
    found = audited(directory)
    assert [(one["verb"], one["via"], one["principal"]) for one in found if one["kind"] == "intent"] == [
        ("retry_dead_letter", "offline", f"uid:{OWN}"),
        ("pause_schedule", "offline", f"uid:{OWN}"),
    ]
    assert [one["outcome"] for one in found if one["kind"] == "outcome"] == [{"done": 1}, {"done": 1}]
    journal = Journal(directory, schedules=[Schedule("nightly", add, (1, 2), every=3_600)])
    with Gate("shop", plugins=[journal], control_socket=False):
        for row in rows:
            assert journal.attach(row.successor).result(10) in (0, 1)
        assert journal.schedules.list()[0].paused
        assert journal.dead_letters.list() == ()
        assert noted(tmp_path / "ledger")[2] == "bank"


@in_ci
def test_a_schedule_is_run_and_resumed(leave: Leave) -> None:
    """Case 40. Its token waits for the next opening."""
    directory = leave("")
    ask(directory, k.PauseSchedule("nightly"))

    assert not ask(directory, k.ResumeSchedule("nightly")).paused
    assert ask(directory, k.RunSchedule("nightly")).running
    with pytest.raises(BadRequest, match="has not ended"):
        ask(directory, k.RunSchedule("nightly"))
    (row,) = journals.rows(directory, where="state = 1")
    assert (row["operation"], row["arguments"]) == ("durable_operations:add", b"[[1,2],{}]")


@in_ci
def test_a_token_is_forked(leave: Leave) -> None:
    """Case 40. The new one waits for the next opening; arguments are set by an open gate, which has their types."""
    directory = leave("")
    (dead, *_) = ask(directory, k.DeadLetters())

    with pytest.raises(BadRequest, match="while a gate has the journal open"):
        ask(directory, k.ForkDurableToken(dead.uid, from_="pay", set={"order": "2"}))
    new = ask(directory, k.ForkDurableToken(dead.uid, from_="pay"))

    assert (new.state, new.tags["fork"]) == ("queued", dead.uid)


@in_ci
def test_a_gate_that_is_open_keeps_others_out(tmp_path: Path) -> None:
    """Case 40. Also from a list."""
    directory = tmp_path / "journal"
    with Gate("shop", plugins=[Journal(directory)], control_socket=False):
        for message in (k.Journals(), k.RetryDeadLetter("*")):
            with pytest.raises(JournalInUse, match="shop"):
                ask(directory, message)
    assert ask(directory, k.DeadLetters()) == ()


def test_a_directory_without_a_journal_is_left_as_it_is(tmp_path: Path) -> None:
    """Nothing is made there."""
    with pytest.raises(BadStateDirectory, match="has no journal"):
        ask(tmp_path, k.Journals())
    assert list(tmp_path.iterdir()) == []


def test_the_grants_of_the_gate_decide(leave: Leave) -> None:
    """Case 40. Of one that names an operation, only verbs on that; refusals are in the chain."""
    user = f"uid:{OWN}"
    directory = leave(grants((user, "viewer"), (user, "operate", "operation=charge"), ("process", "admin")))

    with pytest.raises(Refused, match="terminate"):
        ask(directory, k.DiscardDeadLetter("*", reason="done by hand"))
    with pytest.raises(Refused, match="operations/add"):
        ask(directory, k.PauseSchedule("nightly"))
    assert len(ask(directory, k.RetryDeadLetter("*"))) == 2
    assert ("discard_dead_letter", "refused") in [(one.get("verb"), one["kind"]) for one in audited(directory)]
    (directory.parent / "tokengate.toml").unlink()
    with pytest.raises(Exception, match="cannot be read"):
        ask(directory, k.DeadLetters())


@in_ci
def test_a_dry_run_changes_nothing(leave: Leave) -> None:
    """It says whether the caller may."""
    directory = leave("")

    with pytest.raises(Exception, match="a dry run"):
        ask(directory, k.DiscardDeadLetter("*", dry_run=True))
    assert len(ask(directory, k.DeadLetters())) == 2


@in_ci
def test_a_log_that_cannot_be_written_prevents_a_change(leave: Leave) -> None:
    """Case 40. As at a gate that is open."""
    directory = leave("")
    (directory.parent / "audit").write_text("")

    with pytest.raises(Exception, match="audit"):
        ask(directory, k.DiscardDeadLetter("*"))
    assert len(ask(directory, k.DeadLetters())) == 2


@in_ci
@pytest.mark.parametrize("wholly", [False, True], ids=["a row", "the file"])
def test_a_damaged_journal_is_salvaged(leave: Leave, wholly: bool) -> None:
    """Case 41. Its old files are kept, and it opens again; a file that is none is said to be damaged."""
    directory = leave("")
    with closing(sqlite3.connect(directory / "journal.db", isolation_level=None)) as db:
        db.create_function("checksum", -1, lambda *_: 0)
        db.execute("UPDATE tokens SET arguments = '[[1], {}]' WHERE uid % 2 = 0")
    if wholly:
        (directory / "journal.db").write_bytes(b"no database" * 500)
        with pytest.raises(JournalDamaged, match="journal salvage --state-dir"):
            ask(directory, k.DeadLetters())
        with pytest.raises(JournalDamaged, match="nothing can be read"):
            ask(directory, k.SalvageJournal())
        return

    assert ask(directory, k.CheckJournal()).damaged == ("tokens: 1 rows",)
    found = ask(directory, k.SalvageJournal(reason="a bit has changed"))

    assert (found.kept, found.damaged, found.missing) == (1, 1, 0)
    assert (Path(found.old) / "journal.db").exists()
    assert ask(directory, k.CheckJournal()).damaged == ()
    assert [one["verb"] for one in audited(directory) if one["kind"] == "intent"] == ["salvage_journal"]
    with Gate("shop", plugins=[Journal(directory)], control_socket=False) as gate:
        assert len(gate.plugin(Journal).dead_letters.list()) == 1
        with pytest.raises(ControlError, match="close it, then"):
            gate.control.ask(k.SalvageJournal())


KILLED = """
import os, sys
from charges import charge, held
from durable_operations import noted
from tokengate import Gate
from tokengate.durable import Journal
with Gate("shop", plugins=[Journal(sys.argv[1])]) as gate:
    charge.submit(sys.argv[2], 1).exception()
    token = held.submit(sys.argv[2], 2)
    while token.started_at is None: pass
    os.kill(os.getpid(), 9)
"""


@in_ci
@pytest.mark.usefixtures("programs")
def test_a_change_after_a_death_counts_that_once(tmp_path: Path) -> None:
    """Case 40. What had begun is known by the command, and by the next gate."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    with journals.start(KILLED, directory, ledger) as program:
        program.communicate()
    note(str(ledger), "bank")
    note(str(ledger), "go")

    (left,) = ask(directory, k.DurableTokens("operation=held"))
    (retried,) = ask(directory, k.RetryDeadLetter("*"))
    (begun,) = ask(directory, k.DurableTokens("operation=held"))

    assert (left.state, begun.state, begun.recoveries) == ("queued", "begun", 1)
    journal = Journal(directory)
    with Gate("shop", plugins=[journal], control_socket=False):
        assert journal.attach(left.uid).result(10) == 2
        assert journal.attach(retried.successor).result(10) == 1
        assert journal.rows.tokens("operation=held")[0].recoveries == 1


@in_ci
@needs_root
@pytest.mark.usefixtures("programs")
def test_root_and_the_owner_may_and_others_may_not(leave: Leave) -> None:
    """Case 40. What root makes is the owner's, so that the gate opens again."""
    with public_directory() as home:
        directory = leave("", home)
        (home / "tokengate.toml").chmod(0o644)
        for path in (home, *home.rglob("*")):
            os.chown(path, ANN, ANN)

        assert len(ask(directory, k.RetryDeadLetter("*"))) == 2

        assert (os.geteuid(), os.getegid()) == (0, os.getgid())
        assert {path.stat().st_uid for path in (home, *home.rglob("*"))} == {ANN}
        assert [one["principal"] for one in audited(directory) if one["kind"] == "intent"] == ["uid:0"]
        printed = [journals.start(ASK, directory, user).communicate()[0].split() for user in (ANN, BOB)]
    assert printed == [["4"], ["BadStateDirectory"]]


ASK = """
import os, sys
from pathlib import Path
from tokengate.durable import _kinds as k
from tokengate.durable._offline import ask
from tokengate.errors import BadStateDirectory
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
try:
    print(len(ask(Path(sys.argv[1]), k.DurableTokens())), flush=True)
except BadStateDirectory:
    print("BadStateDirectory", flush=True)
"""


@in_ci
def test_commands_take_the_directory(leave: Leave) -> None:
    """Case 40. `--state-dir` of each derived command of these nouns."""
    directory = leave("")

    def run(*words: str) -> Result:
        return CliRunner().invoke(main, [*words, "--state-dir", str(directory)])

    assert "charge" in run("dead-letters").output
    assert run("journal", "check").exit_code == 0
    result = run("dead-letter", "discard", "*", "--reason", "done by hand")
    assert (result.exit_code, result.output.count("charges:charge")) == (0, 2)
    assert run("dead-letter", "retry", "*").exit_code != 0


def test_a_service_that_finds_its_journal_in_use_says_so_in_one_line(tmp_path: Path) -> None:
    """`tokengate run`, as for other errors of an opening; a directory that is open to others, too."""
    (tmp_path / "service.py").write_text(
        "from tokengate import Gate\nfrom tokengate.durable import Journal\n"
        f"gate = Gate('shop', plugins=[Journal({str(tmp_path / 'journal')!r})], control_socket=False)\n"
    )
    with Gate("other", plugins=[Journal(tmp_path / "journal")], control_socket=False):
        used = CliRunner().invoke(main, ["run", f"{tmp_path / 'service.py'}:gate"])
    (tmp_path / "journal").chmod(0o755)
    shared = CliRunner().invoke(main, ["run", f"{tmp_path / 'service.py'}:gate"])
    (tmp_path / "journal").chmod(0o700)

    for found, why in ((used, "is in use by gate 'other'"), (shared, "it is open to others")):
        assert found.exit_code == 2
        assert f"cannot open gate 'shop': {tmp_path / 'journal'}" in found.output
        assert why in found.output
        assert "Traceback" not in found.output
