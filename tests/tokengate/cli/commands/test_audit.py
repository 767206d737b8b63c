"""`tokengate audit verify` and `seal` need no gate."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from audit_logs import SEGMENT, write
from click.testing import CliRunner, Result

from tokengate.audit import first_key
from tokengate.cli import main


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
