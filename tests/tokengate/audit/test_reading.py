"""Reading the audit log through its gate: what is listed, shown, followed; by whom; and what is recorded of that."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from audit_logs import SEGMENT, Hanging, PlannedDisk, fields, intent, write
from callers import gates_of
from gated_code import LIMIT, Door
from made_events import made_event
from people import ANN, BEN, RULE, People, grant

from tokengate import Gate, checkpoint, token
from tokengate.audit import AuditLog
from tokengate.audit._disk import Disk
from tokengate.audit._files import Files
from tokengate.audit._read import decoded, newest
from tokengate.authority import _audit_verbs
from tokengate.control import messages as m
from tokengate.control._actor import _Asked
from tokengate.control._admission import Caller
from tokengate.control.inspection._selector import parse
from tokengate.errors import BadSelector, ControlError, Refused

Open = Callable[..., Gate]


@token
def spin() -> None:
    while True:
        checkpoint()


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("tokengate.authority._freeze._SECONDS", LIMIT)
    monkeypatch.setattr("tokengate.authority._audit_verbs._SECONDS", LIMIT)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "tokengate.toml"
    made.touch(0o600)
    return made


@pytest.fixture
def open_gate(file: Path) -> Iterator[Open]:
    """Open gates with a text as their file."""
    with gates_of(file, threads=1, control_socket=False) as open_:
        yield open_


@pytest.fixture
def gate(open_gate: Open, directory: Path) -> Gate:
    """A gate with an audit log."""
    return open_gate(f"[audit]\npath = '{directory}'\n")


# --- The files --------------------------------------------------------------------------------------------------------


def test_the_newest_lines_come_first_whatever_the_size_of_blocks(
    directory: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """From several segments, up to any seq."""
    drawn = random.Random(seed)
    monkeypatch.setattr("tokengate.audit._files.SEGMENT_SIZE", 2_000)
    write(directory, 20)
    records = fields(directory)
    assert len(list(directory.glob("*.jsonl"))) > 3

    for size in (1, 7, 400, *(drawn.randrange(1, 5_000) for _ in range(10)), 2**20):
        monkeypatch.setattr("tokengate.audit._read._BLOCK", size)
        through = drawn.randrange(len(records) + 3)
        found = [msgspec.json.decode(line) for line in newest(directory, through)]
        assert found == [one for one in reversed(records) if one["seq"] <= through], (size, through)


def test_blocks_are_read_as_far_as_they_are_asked_for(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest record of a long log takes one block."""
    write(directory, 20)
    monkeypatch.setattr("tokengate.audit._read._BLOCK", 1_000)
    size = (directory / SEGMENT).stat().st_size
    lines = newest(directory, 10**6)
    assert b'"closed"' in next(lines)
    (directory / SEGMENT).write_bytes(bytes(size))  # what is read from now on is zeros

    assert len(list(lines)) < 5


def test_damaged_lines_hide_no_others(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that is longer than records are, in blocks that are shorter than it."""
    write(directory, 2)
    lines = (directory / SEGMENT).read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"prev"', b'"prov"')
    (directory / SEGMENT).write_bytes(b"".join([lines[0], b"x" * 300_000 + b"\n", *lines[1:]]))
    monkeypatch.setattr("tokengate.audit._read._BLOCK", 1_000)

    assert [msgspec.json.decode(line)["seq"] for line in newest(directory, 99)] == [6, 5, 4, 3, 1]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b'{"a":"\\ud800"}', {"a": "?"}),
        (b'{"a":"\\ud83d\\ude00"}', {"a": "\N{GRINNING FACE}"}),
        (b"[1]", None),
        (b'{"a":', None),
        (b"\xff", None),
        (b"[" * 100_000, None),
        (b"", None),
    ],
)
def test_a_line_is_an_object_or_nothing(line: bytes, found: object) -> None:
    """A lone surrogate, which a record may have and JSON of others not, is a question mark."""
    assert decoded(line, dict) == found


# --- Lists ------------------------------------------------------------------------------------------------------------


def test_the_newest_records_are_listed_the_newest_last(gate: Gate) -> None:
    """What was recorded until then is among them, also what is not on disk yet; the read itself is not."""
    sent = spin.submit()
    gate.control.terminate(sent, wait=LIMIT, reason="stuck")
    opened, asked, done = gate.control.audit_records()

    assert [one.seq for one in (opened, asked, done)] == [1, 2, 3]
    assert (opened.kind, opened.principal, opened.owner, opened.target) == ("opened", "", None, "")
    assert (asked.kind, asked.principal, asked.via, asked.verb) == ("intent", "process", "process", "terminate")
    assert (asked.target, asked.reason, asked.of) == (str(sent.id), "stuck", None)
    assert (done.kind, done.of, done.outcome) == ("outcome", 2, "1 terminated")
    assert asked.at <= done.at
    assert [one.kind for one in gate.control.audit_records(limit=2)] == ["outcome", "read"]


def test_each_read_is_on_record_once(gate: Gate, directory: Path) -> None:
    """With what was read; but not what could not be understood."""
    gate.control.audit_records("kind=refused", limit=7)
    gate.control.show_audit_record(1)
    gate.control.follow_audit("verb=freeze").close()
    with pytest.raises(BadSelector):
        gate.control.audit_records("kind")
    gate.close(drain=False)

    found = [one for one in fields(directory) if one["kind"] not in ("opened", "closed")]
    assert [(one["kind"], one["verb"]) for one in found] == [
        ("read", "audit_records"), ("read", "show_audit_record"), ("read", "follow_audit"),
    ]  # fmt: skip
    assert (found[0]["selector"], found[0]["args"]) == ("kind=refused", {"limit": 7})
    assert (found[1]["args"], found[2]["selector"]) == ({"seq": 1}, "verb=freeze")


@pytest.mark.parametrize(
    ("select", "seqs"),
    [
        ("", [1, 2, 3, 4, 5, 6, 7]),
        ("*", [1, 2, 3, 4, 5, 6, 7]),
        ("principal=process", [2, 3, 4, 5]),
        ("principal!=process", [1, 6, 7]),
        ("principal=*", [2, 3, 4, 5, 6, 7]),
        ("principal=uid:*", [6, 7]),
        ("principal=uid:1001,verb=freeze,kind=intent", [6]),
        ("owner=1001", [6, 7]),
        ("via=socket", [6, 7]),
        ("verb=term*", [2, 3]),
        ("kind!=intent,seq>=3", [3, 5, 7]),
        ("of=4", [5]),
        ("outcome=terminated", [3]),
        ("token=2", [2]),
        ("token!=2,kind=intent", [4, 6]),
        ("token>1", [2]),
        ("actor=operations/spin", [4]),
        ("actor=spin", [4]),
        ("age<1h", [1, 2, 3, 4, 5, 6, 7]),
        ("age>2d", []),
        ("proposal=1", []),
    ],
)
def test_a_selector_has_terms_about_records(gate: Gate, select: str, seqs: list[int]) -> None:
    """Compared as in selectors of tokens; of several tokens, one must fit."""
    people = People(gate)
    for _ in range(3):
        spin.submit()
    gate.control.terminate("*", wait=LIMIT)
    gate.control.suspend("operations/spin")
    people[ANN].freeze(reason="why")

    assert [one.seq for one in gate.control.audit_records(select)] == seqs


@pytest.mark.parametrize(
    ("select", "words"),
    [
        ("user=ann", "'user' is not possible here.*use principal, kind, verb"),
        ("tag.principal=x", "'principal' is not possible here"),
        ("principal", r"a comparison was expected after 'principal' at its end; use =, !=, >, >=, < or <=$"),
        ("principal>x", "'principal' is text"),
        ("seq=x", "'seq' is a whole number"),
        ("age=5", "'age' changes all the time"),
    ],
)
def test_a_wrong_selector_is_an_error_that_says_what_is_possible(gate: Gate, select: str, words: str) -> None:
    with pytest.raises(BadSelector, match=words):
        gate.control.audit_records(select)
    with pytest.raises(BadSelector, match=words):
        gate.control.follow_audit(select)


def test_many_targets_are_counted_in_a_list(gate: Gate) -> None:
    """The ids are in the whole record."""
    sent = [spin.submit() for _ in range(60)]
    gate.control.terminate([one.id for one in sent[::2]])
    gate.control.terminate("*", wait=LIMIT)
    [row] = gate.control.audit_records("kind=intent,seq=2")

    assert row.target == "30 tokens"
    assert gate.control.show_audit_record(2).fields["targets"]["ids"].startswith(f"{sent[0].id},{sent[2].id},")


# --- One record -------------------------------------------------------------------------------------------------------


def test_a_record_is_shown_whole(gate: Gate, directory: Path) -> None:
    """As it is on disk; with the row of the list. A surrogate is shown as a question mark."""
    gate.control.freeze(reason="a\ud800\x1b[31m")
    shown = gate.control.show_audit_record(2)
    [_, line, *_] = (directory / SEGMENT).read_bytes().splitlines()

    assert shown.row == gate.control.audit_records("seq=2")[0]
    assert shown.fields == json.loads(line) | {"reason": "a?\x1b[31m"}
    assert shown.row.reason == "a?\x1b[31m"


def test_an_unknown_record_is_an_error(gate: Gate) -> None:
    gate.control.freeze(reason="x")
    with pytest.raises(ControlError, match=r"no record 99; 'tokengate audit' lists"):
        gate.control.show_audit_record(99)


# --- Following --------------------------------------------------------------------------------------------------------


def test_records_are_followed_from_when_they_are_on_disk(gate: Gate) -> None:
    """Those that match, and none from before; until the gate closes."""
    gate.control.freeze(reason="before")
    with gate.control.follow_audit("kind!=outcome") as items:
        sent = spin.submit()
        gate.control.terminate(sent, wait=LIMIT, reason="stuck\x1b[31m")
        gate.control.suspend("operations/spin")
        first, second = next(items), next(items)
        gate.close(drain=False)
        rest = list(items)

    assert (first.kind, first.token, first.actor) == ("audit.intent", sent.id, None)
    assert first.text == f"record 5: process terminate {sent.id} (stuck\x1b[31m)"
    assert (second.kind, second.token, second.actor) == ("audit.intent", None, "operations/spin")
    assert {one.kind for one in rest} <= {"audit.closed"}


def test_a_closed_stream_costs_nothing_more(gate: Gate) -> None:
    """Nor does one that was dropped; others go on."""
    recorder = People(gate).authority.recorder
    closed, dropped, kept = (recorder.follow(lambda _line: made_event(0.0, "x", "", None, "")) for _ in range(3))
    closed.close()
    assert len(recorder._readers) == 2
    del dropped
    gate.control.freeze(reason="x")

    assert next(kept).kind == "x"
    assert len(recorder._readers) == 1


def test_a_follower_goes_on_when_the_file_names_another_directory(gate: Gate, file: Path, tmp_path: Path) -> None:
    with gate.control.follow_audit("verb=freeze,kind=intent") as items:
        file.write_text(f"[audit]\npath = '{tmp_path / 'other'}'\n")
        gate.control.reload()
        gate.control.freeze(reason="x")

        assert next(items).text.endswith("process freeze (x)")
    assert gate.control.whoami().audit == str(tmp_path / "other")


def test_a_follower_that_may_not_read_any_more_is_ended(gate: Gate, file: Path) -> None:
    with gate.control.follow_audit() as items:
        file.write_text('[[grant]]\nto = ["process"]\nrole = ["viewer"]\n')
        gate.control.reload()

        with pytest.raises(Refused, match="your rights have changed"):
            list(items)


# --- Who may, and what stands in the way ------------------------------------------------------------------------------

ASKED = (m.AuditRecords(), m.ShowAuditRecord(1), m.FollowAudit())


@pytest.mark.parametrize("message", ASKED, ids=lambda one: type(one).__name__)
def test_the_log_is_read_by_those_with_the_right_for_everything(gate: Gate, message: Any) -> None:
    """With a selector, or without the right, it is refused, on record; and the directory is not named."""
    people = People(gate)
    people.grants(
        grant(ANN, select="tenant=acme"), grant(BEN, rights=frozenset({"view"})), grant(ANN, rights=frozenset({"view"}))
    )
    with pytest.raises(Refused, match="your grants have selectors"):
        ask(people, message, ANN)
    for caller in (BEN, RULE):
        with pytest.raises(Refused, match="has not the right 'audit'"):
            ask(people, message, caller)
    assert people[BEN].whoami().audit == ""
    people.grants(grant(ANN, rights=frozenset({"view", "audit"})))

    assert people[ANN].whoami().audit
    refused = people[ANN].audit_records("kind=refused")
    assert {one.principal for one in refused} == {ANN.principal, BEN.principal, RULE.principal}


def ask(people: People, message: Any, caller: Caller) -> Any:
    return people._ref.ask(_Asked(message, people.actor._program.job(), caller))


@pytest.mark.parametrize("message", ASKED, ids=lambda one: type(one).__name__)
def test_a_gate_without_a_log_says_when_it_has_one(open_gate: Open, message: Any) -> None:
    gate = open_gate("")
    with pytest.raises(ControlError, match=r"\[\[grant\]\], \[approvals\] or \[audit\]"):
        gate.find("$system/control").ask(message)

    assert gate.control.whoami().audit == ""


def test_the_directory_is_known_before_the_first_record(gate: Gate, directory: Path) -> None:
    """That of its file; without one there, the usual one."""
    assert not directory.exists()
    assert gate.control.whoami().audit == str(directory)


def test_a_log_that_takes_too_long_is_an_error_and_holds_up_nothing_else(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system loop answers while a thread waits for the disk."""
    monkeypatch.setattr("tokengate.authority._audit_verbs._SECONDS", 0.05)
    door = Door()
    gate.control.freeze(reason="x")

    def hang(*_: object) -> Iterator[bytes]:
        door.pass_through()
        yield from ()

    monkeypatch.setattr("tokengate.audit._read.newest", hang)
    with pytest.raises(ControlError, match="too long to be searched"):
        gate.control.audit_records()
    door.wait_reached()
    try:
        assert gate.control.info().name == "shop"
    finally:
        door.open()


def test_a_search_ends_by_itself(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if no one waits for it any more."""
    monkeypatch.setattr(_audit_verbs, "_SECONDS", -1.0)
    gate.control.freeze(reason="x")
    directory = Path(gate.control.whoami().audit)

    assert _audit_verbs._search(directory, 99, parse("kind=nothing", _audit_verbs._FIELDS), 10) is None


def test_a_search_ends_where_its_selector_does(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `seq>N`, what is older is not read, however long the log is."""
    for _ in range(5):
        gate.control.freeze(reason="x")
    gate.control.audit_records()
    directory, read = Path(gate.control.whoami().audit), []
    monkeypatch.setattr(_audit_verbs, "_SECONDS", LIMIT)
    monkeypatch.setattr("tokengate.audit._read.decoded", lambda *given: read.append(given) or decoded(*given))
    found = _audit_verbs._search(directory, 9, parse("seq>7", _audit_verbs._FIELDS), 10)

    assert found is not None
    assert ([one.seq for one in found], len(read)) == ([8, 9], 3)


def test_a_log_that_cannot_be_read_is_an_error(gate: Gate, directory: Path) -> None:
    """Records of other types than ours are left out."""
    gate.control.freeze(reason="x")
    segment = directory / SEGMENT
    segment.write_bytes(segment.read_bytes().replace(b'"kind":"intent"', b'"kind":["intent"]'))
    assert [one.seq for one in gate.control.audit_records("seq<4")] == [1, 3]
    for one in directory.glob("*.jsonl"):
        one.rename(directory / "gone")
        one.mkdir()

    with pytest.raises(ControlError, match="the audit log cannot be read: "):
        gate.control.audit_records()


def test_reading_goes_on_while_nothing_can_be_recorded(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Viewing is not refused (rule 7)."""
    gate.control.freeze(reason="x")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Disk, "write", full)

    assert [one.kind for one in gate.control.audit_records("kind=intent")] == ["intent"]


# --- Forks ------------------------------------------------------------------------------------------------------------


def test_a_log_that_is_being_opened_is_left_to_the_parent_too(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files are closed, so that the lock ends with the parent."""
    write(directory, 1)
    hanging = Hanging("sync")
    monkeypatch.setattr("tokengate.audit._appender.find_end", lambda _files: hanging(0, "sync"))
    log = AuditLog(directory, "shop", strict=True, alone=True)
    log.add(intent())
    closing = threading.Thread(target=log.close, args=(LIMIT,))
    closing.start()  # which writes at once
    assert hanging.reached.wait(LIMIT)
    with pytest.raises(BlockingIOError):
        Files(directory, PlannedDisk())
    log.disown()

    Files(directory, PlannedDisk()).close()
    hanging.released.set()
    closing.join()
