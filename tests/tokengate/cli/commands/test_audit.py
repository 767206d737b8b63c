"""`tokengate audit` lists records, and has commands of its own; `verify` and `seal` need no gate."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from audit_logs import SEGMENT, write
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result
from fake_gate import run
from made_events import made_event

from tokengate import Gate
from tokengate.audit import first_key
from tokengate.cli import main
from tokengate.control._exceptions import Refused
from tokengate.control.messages import (
    AuditRecord,
    AuditRecordRow,
    AuditRecords,
    FollowAudit,
    Identity,
    Message,
    ShowAuditRecord,
    Whoami,
)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the log of gate `shop`, with five records."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("TOKENGATE_GATE", raising=False)
    directory = tmp_path / "tokengate" / "shop" / "audit"
    write(directory, 1)
    return directory


def audit(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["audit", *arguments])


def test_a_whole_log_is_found_by_its_directory_and_by_its_gate(directory: Path) -> None:
    """The last line says which heads were compared; the exit code is 0."""
    by_directory, by_gate = audit("verify", str(directory)), audit("verify", "-g", "shop")

    assert by_directory.exit_code == by_gate.exit_code == 0
    assert by_directory.stdout == by_gate.stdout
    assert by_directory.stdout.splitlines() == [
        f"4 records of {directory} are whole; nothing is wrong",
        "no heads were compared: another chain, and a log put back together with its key, are not seen",
    ]


def test_what_was_changed_is_named(directory: Path) -> None:
    """A line for each kind of change; the exit code is 1."""
    text = (directory / SEGMENT).read_bytes()
    (directory / SEGMENT).write_bytes(text.replace(b"stuck", b"stack"))
    result = audit("verify", "-g", "shop")

    assert result.exit_code == 1
    assert result.stdout.splitlines()[:2] == ["damaged 2", f"3 records of {directory} are whole; 1 problem"]


def test_json_is_one_object(directory: Path) -> None:
    """With the problems, their records, and the rest."""
    (directory / "audit.key").unlink()
    result = audit("verify", str(directory), "--json")

    assert result.exit_code == 1
    found = msgspec.json.decode(result.stdout)
    assert found["records"] == 4
    assert found["problems"] == [
        {"what": "key", "records": [], "why": "audit.key is damaged, gone, or of another chain"}
    ]


def test_a_sealed_log_is_verified_with_what_was_printed(directory: Path, tmp_path: Path) -> None:
    """And not without; a second seal fails."""
    key = first_key(directory)
    sealed = audit("seal", "-g", "shop")
    (tmp_path / "key").write_text(sealed.stdout)

    assert (sealed.exit_code, sealed.stdout) == (0, key)
    assert audit("verify", "-g", "shop", "--key", str(tmp_path / "key")).exit_code == 0
    without = audit("verify", "-g", "shop")
    assert without.exit_code == 1
    assert "--key FILE" in without.stdout
    again = audit("seal", "-g", "shop")
    assert again.exit_code == 1
    assert "it is sealed" in again.stderr


def test_a_key_that_cannot_be_printed_is_not_removed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full device, for example."""

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("tokengate.cli.commands._audit.click.echo", full)
    assert audit("seal", "-g", "shop").exit_code == 1
    assert first_key(directory)


@pytest.mark.parametrize("command", ["verify", "seal"])
def test_without_a_directory_and_a_gate_the_remedy_is_said(directory: Path, command: str) -> None:
    """The exit code is 2."""
    result = audit(command)

    assert result.exit_code == 2
    assert "-g NAME" in result.stderr


def test_what_is_not_there_is_said(directory: Path) -> None:
    """A log, a key, heads."""
    assert "there is no log" in audit("verify", "-g", "nothing").stdout
    assert audit("verify", "-g", "nothing").exit_code == 1
    assert audit("verify", "-g", "shop", "--key", "nothing").exit_code == 2
    assert audit("verify", "-g", "shop", "--heads", "nothing").exit_code == 2


def row(**fields: object) -> AuditRecordRow:
    known = {
        "seq": 1207, "at": 0.0, "kind": "outcome", "principal": "uid:1000", "owner": 1000, "via": "socket",
        "verb": "terminate", "target": "3-5", "outcome": "3 terminated", "of": 1206, "proposal": None, "reason": "",
    }  # fmt: skip
    return AuditRecordRow(**{**known, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "question"),
    [
        ("audit", AuditRecords()),
        ("audit list", AuditRecords()),
        ("audit kind=refused", AuditRecords("kind=refused")),
        ("audit list kind=refused -n 20", AuditRecords("kind=refused", 20)),
        ("audit -n 20 kind=refused", AuditRecords("kind=refused", 20)),
        ("audit -o wide", AuditRecords()),
        ("audit -g shop", AuditRecords()),
        ("audit *", AuditRecords("*")),
    ],
)
def test_without_a_command_records_are_listed(
    monkeypatch: pytest.MonkeyPatch, line: str, question: Message[object]
) -> None:
    """Whether an option comes first, or a selector; a column for each field but those of `-o wide`."""
    gate, result = run(monkeypatch, line.split(), {AuditRecords: (row(), row(seq=1208, of=None))})

    assert (gate.asked, result.exit_code) == ([question], 0)
    heads, first, second = result.stdout.splitlines()
    wide = "wide" in line
    assert heads.split() == [
        "SEQ", "AT", "KIND", "PRINCIPAL", *(["OWNER", "VIA"] if wide else []), "VERB", "TARGET", "OUTCOME", "OF",
        *(["PROPOSAL"] if wide else []), "REASON",
    ]  # fmt: skip
    assert first.split()[0] == "1207"
    assert "uid:1000" in first
    assert "3 terminated  1206" in first
    assert second.split()[0] == "1208"


def test_text_of_records_moves_no_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a list, in a record, and in a stream."""
    evil = "\x1b[2J\u202e\n"
    record = AuditRecord(row(reason=evil), {"reason": evil, "args": {"a": evil}})
    item = made_event(0.0, "intent", evil, None, f"record 1: {evil}")
    for line, answers in (
        ("audit", {AuditRecords: (row(reason=evil, principal=evil, target=evil),)}),
        ("audit show 1207", {ShowAuditRecord: record}),
        ("audit -f", {FollowAudit: lambda _: iter([item])}),
    ):
        _, result = run(monkeypatch, line.split(), answers)
        assert result.exit_code == 0
        assert "\\x1b[2J" in result.stdout or "\\u001b[2J" in result.stdout
        assert "\x1b" not in result.stdout
        assert "\u202e" not in result.stdout


def test_records_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each, so many or until Ctrl-C."""
    items = [made_event(0.0, "intent", "", None, f"record {seq}: uid:1000 freeze") for seq in range(3)]
    gate, result = run(monkeypatch, ["audit", "-f", "-n", "2", "via=socket"], {FollowAudit: lambda _: iter(items)})

    assert gate.asked == [FollowAudit("via=socket")]
    assert [line[-25:] for line in result.stdout.splitlines()] == [one.text for one in items[:2]]


def test_one_record_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """All its fields, with its time as one."""
    record = AuditRecord(row(), {"seq": 1207, "at": 1.5, "outcome": {"terminated": 3}, "break_glass": "fire"})
    gate, result = run(monkeypatch, ["audit", "show", "1207"], {ShowAuditRecord: record})

    assert gate.asked == [ShowAuditRecord(1207)]
    seq, at, *others = result.stdout.splitlines()
    assert seq.split() == ["seq", "1207"]
    assert at.split()[1] in ("1970-01-01", "1969-12-31")
    assert [one.split() for one in others] == [["outcome", '{"terminated":3}'], ["break", "glass", "fire"]]


def test_words_of_the_group_are_completed() -> None:
    """And the options of the list after a selector."""
    completed = ShellComplete(main, {}, "tokengate", "_X").get_completions
    assert {one.value for one in completed(["audit"], "")} == {"list", "show", "verify", "seal"}
    assert {one.value for one in completed(["audit", "kind=read"], "--l")} == {"--limit"}
    assert {one.value for one in completed(["audit", "verify"], "--k")} == {"--key"}


# --- Where the log is -------------------------------------------------------------------------------------------------


def whoami(audit: str) -> dict[type[Message[object]], object]:
    return {Whoami: Identity("uid:1000", 1000, (), "socket", {}, audit=audit)}


def test_a_gate_that_runs_says_where_its_log_is(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its name, or as the only one; the usual directory if it has none now."""
    other = tmp_path / "log~2"
    write(other, 2)
    for arguments in (["-g", "shop@12"], []):
        gate, result = run(monkeypatch, ["audit", "verify", *arguments], whoami(str(other)))
        assert f"6 records of {other} are whole" in result.stdout
        assert gate.wanted == (arguments[-1] if arguments else None)
    _, sealed = run(monkeypatch, ["audit", "seal", "-g", "shop"], whoami(str(other)))
    assert (sealed.exit_code, (other / "audit.first-key").exists()) == (0, False)

    _, result = run(monkeypatch, ["audit", "verify", "-g", "shop@12"], whoami(""))
    assert f"4 records of {directory} are whole" in result.stdout


def test_without_a_gate_and_a_name_the_directory_must_be_given(directory: Path) -> None:
    result = audit("verify")
    assert result.exit_code == 2
    assert "give the directory of the log, or the name of its gate" in result.stderr


def test_a_gate_that_refuses_to_say_is_an_error(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual directory may be that of another one."""
    _, result = run(monkeypatch, ["audit", "verify", "-g", "shop"], {Whoami: Refused("'whoami' is refused: x")})
    assert result.exit_code == 1
    assert "'whoami' is refused" in result.stderr


def test_the_logs_of_gates_that_run_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the names of these; a second gate of a name says `NAME~2`."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("TOKENGATE_GATE", raising=False)
    file = tmp_path / "tokengate.toml"
    file.touch(0o600)
    file.write_text("[audit]\n")
    with Gate("shop", config=file, threads=1) as first:
        first.control.freeze(reason="x")
        with Gate("other", config=file, threads=1) as other:
            other.control.freeze(reason="x")
            found = audit("verify", "-g", "other").stdout
            assert f"records of {tmp_path / 'tokengate' / 'other' / 'audit'} are whole; nothing is wrong" in found
            assert "freeze" in audit("-g", "other").stdout
        with Gate("shop", config=file, threads=1, control_socket=False) as second:
            second.control.unfreeze()
            assert second.control.whoami().audit == str(tmp_path / "tokengate" / "shop~2" / "audit")
