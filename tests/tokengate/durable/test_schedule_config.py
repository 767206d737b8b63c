"""The sections `[journal]` and `[[schedule]]` of a file: beside the schedules of the code, checked, read again."""

from __future__ import annotations

from pathlib import Path

import durable_operations
import pytest
from durable_operations import add
from programs import run
from tiers import in_ci

from tokengate import Gate
from tokengate._exceptions import BadConfig
from tokengate.durable import Journal, Schedule
from tokengate.errors import BadRequest

pytestmark = pytest.mark.usefixtures("programs")

GOOD = """\
[journal]
directory = "{directory}"
retention = "7d"
aliases = {{ "shop.old:charge" = "shop:charge" }}
[[schedule]]
name = "nightly"
operation = "durable_operations:add"
args = [1, 2]
cron = "30 2 * * *"
timezone = "Europe/Berlin"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokengate.toml"
    path.write_text(GOOD.format(directory=tmp_path / "journal"))
    return path


def test_a_file_has_schedules_beside_those_of_the_code(file: Path, tmp_path: Path) -> None:
    """And it may say where the journal is."""
    journal = Journal(schedules=[Schedule("hourly", add, (1, 2), every="1h")])
    with Gate("shop", plugins=[journal], config=file, control_socket=False):
        assert [row.name for row in journal.schedules.list()] == ["hourly", "nightly"]
        assert [row.name for row in journal.schedules.list("night*")] == ["nightly"]
        assert journal.schedules.run("nightly").operation == "durable_operations:add"
    assert (tmp_path / "journal" / "journal.db").exists()


def test_a_reload_adds_edits_and_removes_schedules(file: Path) -> None:
    """What has not changed goes on; a file with an error changes nothing."""
    journal = Journal(schedules=[Schedule("hourly", add, (1, 2), every="1h")])
    with Gate("shop", plugins=[journal], config=file, control_socket=False) as gate:
        journal.schedules.pause("nightly", reason="disks")
        text = file.read_text()
        file.write_text(text + '[[schedule]]\nname = "weekly"\noperation = "durable_operations:add"\nevery = "7d"\n')
        with pytest.raises(BadRequest, match=r"args of schedule|schedule\[1\].args"):
            gate.control.reload()
        file.write_text(f'{text}[[schedule]]\nname = "weekly"\noperation = "no.such:report"\nevery = "7d"\n')
        assert gate.control.reload().changed == ("schedule weekly: changed",)
        found = {row.name: row.paused for row in journal.schedules.list()}
        assert found == {"hourly": False, "nightly": True, "weekly": False}
        file.write_text(text.replace("30 2", "45 2"))
        assert gate.control.reload().changed == ("schedule nightly: changed", "schedule weekly: removed")
        assert {row.name: row.when for row in journal.schedules.list()} == {
            "hourly": "every 3600 s", "nightly": "45 2 * * * Europe/Berlin",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[journal]\ndirectory = "state"', "2: journal.directory is 'state'; use the whole path"),
        ('[journal]\nretention = "soon"', "2: journal.retention is 'soon'; use a number of seconds"),
        ("[journal]\naliases = 5", "2: journal.aliases is 5; use a table of names"),
        ('[journal]\naliases = {a = "b"}', "2: journal.aliases is {'a': 'b'}; use a table of names"),
        ("[journal]\nspeed = 5", "2: journal.speed is 5; there is no such key; use one of directory, retention"),
        ('[[schedule]]\noperation = "a:b"\nevery = 5', "1: schedule[0].name is missing; use 1 to 100 letters"),
        ('[[schedule]]\nname = "a"\nevery = 5', "1: schedule[0].operation is missing; use a durable operation"),
        ('[[schedule]]\nname = "a"\noperation = "a:b"\ncron = "* *"', "4: schedule[0].cron is '* *'; it has not five"),
        ('[[schedule]]\nname = "a"\noperation = "a:b"\nat = 2026-11-30', "4: schedule[0].at is datetime.date"),
        ('[[schedule]]\nname = "a"\noperation = "a:b"\nargs = 5', "4: schedule[0].args is 5; use a list"),
        ('[[schedule]]\nname = "a"\noperation = "a:b"\nevrey = 5', "4: schedule[0].evrey is 5; there is no such key"),
        (
            '[[schedule]]\nname = "a"\noperation = "durable_operations:add"\nevery = 5\nargs = ["x", 2]',
            "5: schedule[0].args is [['x', 2], {}]; they do not fit 'durable_operations:add'",
        ),
        (
            '[[schedule]]\nname = "a"\noperation = "a:b"\nevery = 5\n' * 2,
            "6: schedule[1].name is 'a'; another schedule has it",
        ),
    ],
)
def test_an_error_of_a_file_has_its_line(tmp_path: Path, text: str, problem: str) -> None:
    """With the value and the remedy, also for `tokengate check`."""
    file = tmp_path / "tokengate.toml"
    file.write_text(text)
    assert durable_operations.add is add
    with (
        pytest.raises(BadConfig) as caught,
        Gate("shop", plugins=[Journal(tmp_path)], config=file, control_socket=False),
    ):
        pass
    assert f"{file}:{problem}" in str(caught.value)


def test_names_of_the_code_and_of_the_file_are_unique(file: Path) -> None:
    """The error has the line of the file."""
    journal = Journal(schedules=[Schedule("nightly", add, (1, 2), every="1h")])
    with (
        pytest.raises(BadConfig, match=r":5: name of \[\[schedule\]\] is 'nightly'; a schedule of the code has"),
        Gate("shop", plugins=[journal], config=file, control_socket=False),
    ):
        pass


def test_a_gate_without_a_journal_or_without_a_directory_says_so(file: Path, tmp_path: Path) -> None:
    """With the remedy."""
    with pytest.raises(BadConfig, match="plugin Journal"), Gate("shop", config=file, control_socket=False):
        pass
    with pytest.raises(ValueError, match="has no directory"), Gate("shop", plugins=[Journal()], control_socket=False):
        pass


@in_ci
def test_the_check_of_a_file_knows_the_sections(file: Path) -> None:
    """No gate and no plugin is needed."""
    found = run("-m", "tokengate", "check", str(file))
    assert found.returncode == 0, found.stderr
    assert "schedule[0].cron" in found.stdout
    file.write_text(file.read_text().replace("Berlin", "Nowhere"))
    found = run("-m", "tokengate", "check", str(file))
    assert found.returncode == 2
    assert "schedule[0].timezone is 'Europe/Nowhere'; use a name such as 'Europe/Berlin'" in found.stderr
