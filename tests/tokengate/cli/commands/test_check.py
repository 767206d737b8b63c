"""`tokengate check` shows what a file says, or all that is wrong in it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from tokengate.cli import main

EXAMPLE = """\
[[policy]]
select = "operation=charge*"
timeout = "5s"
retry = { on = ["ConnectionError"], attempts = 3 }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokengate.toml"


def check(file: Path, text: str, *options: str) -> Result:
    file.write_text(text)
    return CliRunner().invoke(main, ["check", str(file), *options])


def test_each_value_is_shown_with_its_line(file: Path) -> None:
    """The exit code is 0."""
    result = check(file, EXAMPLE)

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "    2  policy[0].select          operation=charge*",
        "    3  policy[0].timeout         5s",
        "    4  policy[0].retry.on        ['ConnectionError']",
        "    4  policy[0].retry.attempts  3",
        f"{file} has no errors",
    ]


def test_each_error_is_a_line_on_stderr(file: Path) -> None:
    """Case 59. The exit code is 2; control characters of the file are escaped."""
    result = check(file, EXAMPLE.replace("5s", "\\u001b[2J").replace("3", "0"))

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"{file}:3: policy[0].timeout is '\\x1b[2J'; use seconds, or a text such as '30s', '5m', '12h', '1d'",
        f"{file}:4: policy[0].retry.attempts is 0; use a whole number of at least 1",
    ]


def test_json_is_one_object(file: Path) -> None:
    """With the values, or with the errors, which are not on stderr then."""
    good, bad = check(file, EXAMPLE, "--json"), check(file, EXAMPLE.replace("3", "0"), "--json")

    assert good.exit_code == 0
    assert msgspec.json.decode(good.stdout) == {
        "file": str(file),
        "ok": True,
        "values": [
            {"line": 2, "field": "policy[0].select", "value": "operation=charge*"},
            {"line": 3, "field": "policy[0].timeout", "value": "5s"},
            {"line": 4, "field": "policy[0].retry.on", "value": ["ConnectionError"]},
            {"line": 4, "field": "policy[0].retry.attempts", "value": 3},
        ],
        "problems": [],
        "warnings": [],
    }
    assert (bad.exit_code, bad.stderr) == (2, "")
    assert msgspec.json.decode(bad.stdout) == {
        "file": str(file),
        "ok": False,
        "values": [],
        "problems": [
            {"line": 4, "field": "policy[0].retry.attempts", "value": 0, "remedy": "use a whole number of at least 1"}
        ],
        "warnings": [],
    }


def test_json_has_numbers_of_any_length(file: Path) -> None:
    """And dates, which are text there."""
    result = check(file, f"a = 1{'0' * 40}\nb = 1979-05-27\n", "--json")

    values = [problem["value"] for problem in json.loads(result.stdout)["problems"]]
    assert values == [10**40, "1979-05-27"]


def test_a_missing_file_and_an_empty_one(tmp_path: Path) -> None:
    """The first is an error without a line, the second says nothing."""
    missing = CliRunner().invoke(main, ["check", str(tmp_path / "no.toml")])
    empty = check(tmp_path / "empty.toml", "")

    assert missing.exit_code == 2
    assert missing.stderr.startswith(f"{tmp_path / 'no.toml'}: cannot be read: No such file")
    assert (empty.exit_code, empty.stdout) == (0, f"{tmp_path / 'empty.toml'} has no errors\n")
