"""What the documentation says of the code is what the code does."""

from __future__ import annotations

import logging
import re
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from actors import TRANSITIONS, CpuActor
from actors.lowlevel import DEFAULT_CAPACITY

DOCS = Path(__file__).parent.parent / "docs"
SEMANTICS = (DOCS / "semantics.md").read_text()
GLOSSARY = (DOCS / "glossary.md").read_text()
GENERATE = runpy.run_path(str(DOCS / "generate.py"))


@pytest.mark.parametrize("name", sorted(GENERATE["PAGES"]))
def test_what_is_generated_on_a_page_is_up_to_date(name: str) -> None:
    """The life cycle is the code's, the house that of the import contracts; `python docs/generate.py` writes both."""
    page = (DOCS / name).read_text()

    assert GENERATE["with_generated"](page, GENERATE["PAGES"][name]()) == page


@pytest.mark.parametrize("name", sorted(GENERATE["FILES"]))
def test_a_generated_file_is_up_to_date(name: str) -> None:
    """The document of the API follows from the registry; `python docs/generate.py` writes it."""
    assert GENERATE["FILES"][name]() == (DOCS / name).read_text()


def test_the_life_cycle_on_the_page_has_all_transitions() -> None:
    """Each one is an arrow of the diagram."""
    assert all(f"{state} --> {after}" in SEMANTICS for state, following in TRANSITIONS.items() for after in following)


def test_the_figures_on_the_pages_are_the_defaults() -> None:
    """Capacity and quantum."""
    assert f"bounded ({DEFAULT_CAPACITY:,} by default)" in SEMANTICS
    assert f"steps ({CpuActor.throughput}) or seconds ({CpuActor.throughput_deadline})" in GLOSSARY


def test_the_house_on_the_page_has_the_layers_of_the_import_contracts() -> None:
    """Each part of a layer has an arrow to each part of the next one, and each package with layers a diagram."""
    page = (DOCS / "architecture.md").read_text()
    layers = GENERATE["layers"]()

    assert "actors" in layers
    for package, parts in layers.items():
        name = package.replace(".", "_")
        for upper, lower in pairwise(parts):
            assert all(f"{name}_{one} --> {name}_{other}\n" in page for one in upper for other in lower)


def test_the_plugin_on_the_page_is_the_one_of_the_tests() -> None:
    """The page shows its module from the imports on."""
    source = (DOCS.parent / "tests" / "support" / "tallies.py").read_text()
    (shown,) = re.findall(r"```py\n(from __future__.*?)```", (DOCS / "plugins.md").read_text(), re.DOTALL)

    assert shown.strip() == source.split('"""', 2)[2].strip()


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_each_file_that_a_page_links_to_exists(page: Path) -> None:
    """Links are relative to the page."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())

    assert [link for link in links if not (DOCS / link).exists()] == []


def test_the_terms_of_the_glossary_are_sorted_and_unique() -> None:
    """One entry a term, in alphabetical order."""
    entries = [line for line in GLOSSARY.splitlines() if line.startswith("* ")]
    terms = [entry.partition("**:")[0].removeprefix("* ").removeprefix("**").lower() for entry in entries]

    assert terms == sorted(set(terms))


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_the_code_on_a_page_prints_what_stands_below_it(
    page: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The blocks run in their order, as if typed into one module; a block of text right below is what one prints."""
    session = ModuleType("page")
    if page.name == "durability.md":  # whose operations are found by their module
        monkeypatch.setitem(sys.modules, "page", session)
    monkeypatch.chdir(tmp_path)
    with _handlers_restored():
        for code, _, text in re.findall(r"```python\n(.*?)```\n(\n```text\n(.*?)```)?", page.read_text(), re.DOTALL):
            exec(compile(code, str(page), "exec"), vars(session))

            assert capsys.readouterr().out == text


def test_a_log_record_has_the_fields_that_the_page_names() -> None:
    """Outside of any token they are None."""
    (code,) = re.findall(r"```python\n(.*?LogContext.*?)```", SEMANTICS, re.DOTALL)
    with _handlers_restored() as before:
        exec(code, {})
        (added,) = (handler for handler in logging.getLogger().handlers if handler not in before)

        assert added.format(_filtered(added)).endswith("[None None] text")


@contextmanager
def _handlers_restored() -> Iterator[list[logging.Handler]]:
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        yield before
    finally:
        root.handlers[:] = before


def _filtered(handler: logging.Handler) -> logging.LogRecord:
    record = logging.LogRecord("name", logging.INFO, "path", 1, "text", None, None)
    handler.filter(record)
    return record
