"""`tokengate inventory` lists what is worth a policy."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from tokengate.cli import main
from tokengate.cli.commands import _inventory

PAY = """\
import requests
SEEN = {}
def pay(tenant, order):
    SEEN[order] = 1
    for n in range(9):
        SEEN.pop(n); SEEN.pop(n); SEEN.pop(n)
    return requests.post("u")
"""


def inventory(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["inventory", *map(str, arguments)])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "pay.py").write_text(PAY)
    (tmp_path / "clean.py").write_text("def f(): pass\n")
    (tmp_path / "old.py").write_text("print 'x'\n")
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere")
    (tmp_path / "deep.py").write_text("x = " + "-" * 100_000 + "1\n")
    (tmp_path / "notes.txt").write_text("no Python")
    return tmp_path


def test_functions_are_listed_by_file(tree: Path) -> None:
    """Case 62. With why, an affinity and a policy; the last line counts."""
    result = inventory(tree / "shop")

    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        str(tree / "shop" / "pay.py"),
        "  3: pay: writes globals (SEEN at line 4, SEEN at line 6, SEEN at line 6, 1 more); "
        "calls networks (requests.post at line 7)",
        '     affinity="cpu", policy=Policy(timeout=30, breaker=Breaker(), throttle=Throttle(concurrency=1))',
        "functions worth a policy: 1, in 1 files; calls networks: 1; writes globals: 1",
    ]


def test_files_that_cannot_be_read_or_parsed_are_named_and_left_out(tree: Path) -> None:
    """The others are read all the same."""
    result = inventory(tree)

    assert result.exit_code == 0
    skipped = [line.removeprefix(f"skipped: {tree}/") for line in result.stderr.splitlines()]
    assert skipped == [
        "deep.py: its expressions are nested too deeply",
        "gone.py: No such file or directory",
        "old.py: line 1: Missing parentheses in call to 'print'. Did you mean print(...)?",
    ]
    assert result.stdout.splitlines()[-1].startswith("functions worth a policy: 1, in 5 files; ")
    assert result.stdout.endswith("; files skipped: 3\n")


def test_json_is_one_object(tree: Path) -> None:
    """With all reasons."""
    (tree / "deep.py").unlink()
    answer = msgspec.json.decode(inventory(tree, "--json").stdout)

    assert (answer["files"], sorted(answer["skipped"])) == (4, [str(tree / "gone.py"), str(tree / "old.py")])
    [found] = answer["functions"]
    assert {name: found[name] for name in ("path", "function", "line", "affinity")} == {
        "path": str(tree / "shop" / "pay.py"),
        "function": "pay",
        "line": 3,
        "affinity": "cpu",
    }
    assert len(found["reasons"]) == 5
    assert found["reasons"][-1] == {"kind": "calls networks", "line": 7, "what": "requests.post"}


def test_one_file_can_be_read(tree: Path) -> None:
    """As it is named."""
    assert inventory(tree / "shop" / "pay.py").stdout == inventory(tree / "shop").stdout
    assert inventory(tree / "clean.py").stdout == "functions worth a policy: 0, in 1 files\n"


def test_a_path_that_does_not_exist_is_an_error(tree: Path) -> None:
    """Wrong arguments exit with 2."""
    result = inventory(tree / "none")

    assert result.exit_code == 2
    assert "does not exist; give a Python file, or a directory with some" in result.stderr


def test_large_trees_show_progress(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On stderr, so that a pipe gets the list alone."""
    monkeypatch.setattr(_inventory, "_MANY", 5)
    result = inventory(tree)

    assert result.stderr.splitlines()[0] == "reading 1/5"
    assert "reading" not in result.stdout
