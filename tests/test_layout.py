"""The house has three floors and one direction, and each package says its layout."""

from __future__ import annotations

import logging
import re
import runpy
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parent.parent

PACKAGES = sorted(
    path.parent for top in ("actors", "supervisors", "tokengate") for path in (ROOT / top).rglob("__init__.py")
)


def test_imports_go_down_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """`tokengate` may import `supervisors`, which may import `actors`; never the other way."""
    monkeypatch.chdir(ROOT)

    loggers = [logger for logger in logging.Logger.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    enabled = [logger for logger in loggers if not logger.disabled]
    result = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    for logger in enabled:  # the linter configures logging for the whole process
        logger.disabled = False

    assert result == 0


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_first_comment_of_a_package_names_its_files(package: Path) -> None:
    """A package's `__init__.py` opens with a comment on its layout, which names every file and room in it, no other."""
    text = (package / "__init__.py").read_text()
    comment = text[: text.index('"""')]
    modules = {path.name for path in package.glob("_*.py")} - {"__init__.py", "__main__.py"}
    rooms = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}

    assert text.startswith("#")
    assert modules == set(re.findall(r"_\w+\.py", comment))
    assert rooms == set(re.findall(r"(?<!`)\b\w+/(?= )", comment))


def test_the_table_in_contributing_has_a_row_for_each_room() -> None:
    """Every path that it names exists, and each room is named itself or by a file in it."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\|.*\| (`.*`) \|$", text[text.index("| to change | look at |") :], re.MULTILINE)
    named = [ROOT / path for row in rows for path in re.findall(r"`([^`]+)`", row)]
    rooms = {path if path.is_dir() else path.parent for path in named}

    assert [path for path in named if not path.exists()] == []
    assert [room for room in PACKAGES if room not in rooms and room.parent != ROOT] == []


def test_the_sizes_of_all_rooms_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """One line a room: its lines, and its budget if it has one."""
    sizes = runpy.run_path(str(ROOT / "tests" / "room_sizes.py"))

    sizes["main"]()

    printed = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert {str(package.relative_to(ROOT)) for package in PACKAGES} <= set(printed)
    assert sizes["lines_of"](ROOT / "tokengate") > sizes["lines_of"](ROOT / "tokengate" / "control") > 0


@pytest.mark.parametrize("top", ["actors", "supervisors", "tokengate"])
def test_every_package_says_that_it_is_typed(top: str) -> None:
    """Type checkers of users see our annotations."""
    assert (ROOT / top / "py.typed").exists()
