"""The file is found, read as a whole, and all its errors are reported."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tokengate._exceptions import BadConfig, BadPolicy, Problem
from tokengate.config import _sections
from tokengate.config._file import Config, find_file, read_file
from tokengate.config._report import Report
from tokengate.config._sections import FLAGS, POLICIES, THROTTLES, Section, register
from tokengate.control.inspection._selector import parse

EXAMPLE = """\
[[policy]]                                        # tokengate.toml
select = "operation=charge*, affinity!=process"
timeout = "5s"
retry = { on = ["ConnectionError", "httpx.TransportError"], attempts = 3 }
[[throttle]]
select = "tenant=free"
rate = "10/s"
[[flag]]
select = "operation=resize"
mode = "observe"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokengate.toml"


def read(file: Path, text: str | bytes) -> Config:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_file(file, parse)


def problems(file: Path, text: str | bytes) -> tuple[Problem, ...]:
    with pytest.raises(BadConfig) as caught:
        read(file, text)
    return caught.value.problems


# --- Found ------------------------------------------------------------------------------------------------------------


def test_the_given_file_wins_over_the_one_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without both there is none; it is never looked for in a directory."""
    monkeypatch.delenv("TOKENGATE_CONFIG", raising=False)
    assert find_file() is None
    assert find_file("a.toml") == Path("a.toml")

    monkeypatch.setenv("TOKENGATE_CONFIG", "b.toml")
    assert find_file() == Path("b.toml")
    assert find_file(Path("a.toml")) == Path("a.toml")

    monkeypatch.setenv("TOKENGATE_CONFIG", "")
    assert find_file() is None


# --- Read -------------------------------------------------------------------------------------------------------------


def test_a_file_has_rows_of_each_section(file: Path) -> None:
    """In the order of the file, each with its line and its selector in the normal form."""
    config = read(file, EXAMPLE)

    assert [(row.line, row.select) for row in config.of(POLICIES)] == [(1, "operation=charge*,affinity!=process")]
    assert [(row.line, row.select, row.throttle.rate) for row in config.of(THROTTLES)] == [(5, "tenant=free", 10.0)]
    assert [(row.line, row.mode) for row in config.of(FLAGS)] == [(8, "observe")]


def test_an_empty_file_has_no_rows(file: Path) -> None:
    """Every section is optional."""
    config = read(file, "")

    assert config.of(POLICIES) == config.of(THROTTLES) == config.of(FLAGS) == ()
    assert config.values() == []


def test_each_value_of_a_file_has_its_line_and_name(file: Path) -> None:
    """The names are those of the errors."""
    values = read(file, EXAMPLE + '[[policy]]\nselect = "*"\nthrottle.keys."a b".rate = 1\n').values()

    assert values[2:5] == [
        (4, "policy[0].retry.on", ["ConnectionError", "httpx.TransportError"]),
        (4, "policy[0].retry.attempts", 3),
        (6, "throttle[0].select", "tenant=free"),
    ]
    assert values[-1] == (13, 'policy[1].throttle.keys."a b".rate', 1)


# --- Errors -----------------------------------------------------------------------------------------------------------


def test_all_errors_of_a_file_are_reported_in_the_order_of_the_lines(file: Path) -> None:
    """Case 59. Each with its line, field, value and remedy."""
    text = (
        EXAMPLE.replace("attempts = 3", "attempts = 0, tries = 4").replace("10/s", "10 a day").replace("observe", "on")
    )

    found = problems(file, text.replace('"5s"', '"5 s."'))

    assert [(one.line, one.field, one.value) for one in found] == [
        (3, "policy[0].timeout", "5 s."),
        (4, "policy[0].retry.attempts", 0),
        (4, "policy[0].retry.tries", 4),
        (7, "throttle[0].rate", "10 a day"),
        (10, "flag[0].mode", "on"),
    ]
    assert found[1].remedy == "use a whole number of at least 1"
    assert [one.line for one in problems(file, "[[flag]]\nmode = 1\n[[policy]]\n[other]\n")] == [1, 2, 3, 4]


def test_the_text_of_the_error_has_a_line_for_each(file: Path) -> None:
    """It is a `BadPolicy`, whose attributes are those of the first; it can be pickled."""
    with pytest.raises(BadPolicy) as caught:
        read(file, EXAMPLE.replace("attempts = 3", "attempts = 0, tries = 4"))
    error = caught.value

    assert str(error) == (
        f"{file}:4: policy[0].retry.attempts is 0; use a whole number of at least 1\n"
        f"{file}:4: policy[0].retry.tries is 4; there is no such key; use one of on, attempts, wait, max_wait, share"
    )
    assert (error.place, error.field, error.value) == (f"{file}:4", "policy[0].retry.attempts", 0)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("text", "line", "remedy"),
    [
        ("a = 1\nb = [1,\n\n", 4, "this is no TOML: Invalid value (at end of document); mend it, or quote the text"),
        ("a = 1\nb = 5s\n", 2, "this is no TOML: Expected newline"),
        ("a = 1\na = 2\n", 2, "this is no TOML: Cannot overwrite a value"),
        (b"a = 1\n# ok\nb = '\xff'\n", 3, "this is no UTF-8; save the file as UTF-8"),
        ("a = " + "[" * 100_000, 1, "its brackets are nested too deeply; use fewer"),
        ("a = 1" + "0" * 5_000, 1, "this is no TOML: Exceeds the limit"),
    ],
    ids=["open", "value", "twice", "bytes", "deep", "long"],
)
def test_a_file_that_cannot_be_parsed_has_one_error(file: Path, text: str | bytes, line: int, remedy: str) -> None:
    """With the line, as far as the parser tells it."""
    [found] = problems(file, text)

    assert (found.line, found.field) == (line, "")
    assert str(found).startswith(remedy)


def test_a_file_without_end_is_refused() -> None:
    """And not read until no memory is left."""
    with pytest.raises(BadConfig, match="/dev/zero: cannot be read: it has more than 10,000,000 bytes; name"):
        read_file(Path("/dev/zero"), parse)


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    """Without a line."""
    with pytest.raises(BadConfig, match=r"cannot be read: .*; name another file") as caught:
        read_file(tmp_path / name, parse)

    assert str(caught.value).startswith(f"{tmp_path / name}: cannot")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[polcy]\nx = 1", "1: polcy is {'x': 1}; there is no such section; use one of policy, throttle, flag, c"),
        ("\ntimeout = 5", "2: timeout is 5; there is no such section"),
        ("[policy]\ntimeout = 5", "1: policy is {'timeout': 5}; write it as [[policy]]"),
        ("\nflag = [1]", "2: flag is [1]; write it as [[flag]]"),
        ("\n\n[[policy]]\ntimeout = 5", "3: policy[0].select is missing; use a text"),
        ('[[flag]]\nmode = "off"\nselect = 7', "3: flag[0].select is 7; use a text"),
        ('[[flag]]\nmode = "off"\nselect = " "', "3: flag[0].select is ' '; use a text, such as 'operation=charge*'; "
         "'*' stands for all"),
        ('[[flag]]\nmode = "off"\nselect = "x"', "3: flag[0].select is 'x'; selector 'x': a comparison was expected"),
        ('[[policy]]\nselect = "tenant=a"', "2: policy[0].select is 'tenant=a'; selector 'tenant=a': 'tenant' is not "
         "possible here at 'tenant=a', character 1; use operation, actor, affinity"),
        ('[[policy]]\nselect = "age>5"', "2: policy[0].select is 'age>5'; selector 'age>5': 'age' is not possible"),
    ],
)  # fmt: skip
def test_sections_and_selectors_that_cannot_work_are_named(file: Path, text: str, expected: str) -> None:
    """A policy belongs to a place, so that its selector has fields of places only."""
    with pytest.raises(BadConfig) as caught:
        read(file, text)

    assert str(caught.value).startswith(f"{file}:{expected}")


# --- Sections of other rooms ------------------------------------------------------------------------------------------


def test_a_room_registers_a_section(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parser is given the tables and the report; a second section of the name is refused."""

    def parsed(tables: Any, report: Report) -> tuple[Mapping[str, object], ...]:
        for number, table in enumerate(tables):
            if "role" not in table:
                report.wrong(("room", number, "role"), None, "name a role")
        return tuple(tables)

    monkeypatch.setattr(_sections, "SECTIONS", sections := dict(_sections.SECTIONS))
    monkeypatch.setattr("tokengate.config._file.SECTIONS", sections)
    rooms = Section("room", parsed)
    register(rooms)
    register(rooms)

    assert read(file, '[[room]]\nrole = "owner"').of(rooms) == ({"role": "owner"},)
    assert [str(one) for one in problems(file, "\n[[room]]\n")] == ["room[0].role is missing; name a role"]
    with pytest.raises(ValueError, match="there is a section 'room' already"):
        register(Section("room", parsed))


def test_a_section_may_be_a_single_table(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written `[name]`; without it in the file, its parser is given no table."""

    def parsed(tables: Any, report: Report) -> tuple[Mapping[str, object], ...]:
        for table in tables:
            if "path" not in table:
                report.wrong(("audit", "path"), table.get("retain"), "name a path")
        return tuple(tables)

    audit = Section("audit", parsed, single=True)
    monkeypatch.setattr("tokengate.config._file.SECTIONS", {"audit": audit})

    assert read(file, "").of(audit) == ()
    assert read(file, '[audit]\npath = "/a"').of(audit) == ({"path": "/a"},)
    assert [(one.line, str(one)) for one in problems(file, "\n[audit]\nretain = 1")] == [
        (2, "audit.path is 1; name a path")
    ]
    assert [str(one) for one in problems(file, "[[audit]]")] == ["audit is [{}]; write it as [audit]"]
    assert [str(one) for one in problems(file, "audit = 7")] == ["audit is 7; write it as [audit]"]
