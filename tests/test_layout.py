"""The house has three floors and one direction, and each package says its layout."""

from __future__ import annotations

import logging
import re
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


@pytest.mark.parametrize("top", ["actors", "supervisors", "tokengate"])
def test_every_package_says_that_it_is_typed(top: str) -> None:
    """Type checkers of users see our annotations."""
    assert (ROOT / top / "py.typed").exists()
