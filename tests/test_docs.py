"""What the documentation says of the code is what the code does."""

from __future__ import annotations

import logging
import re
import runpy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors import TRANSITIONS, CpuActor
from actors.lowlevel import DEFAULT_CAPACITY

DOCS = Path(__file__).parent.parent / "docs"
SEMANTICS = (DOCS / "semantics.md").read_text()


def test_the_life_cycle_on_the_page_is_the_table_in_the_code() -> None:
    """The diagram and the table are generated; `python docs/generate.py` makes them anew."""
    generate = runpy.run_path(str(DOCS / "generate.py"))

    assert generate["with_generated"](SEMANTICS) == SEMANTICS
    assert all(f"{state} --> {after}" in SEMANTICS for state, following in TRANSITIONS.items() for after in following)


def test_the_figures_on_the_page_are_the_defaults() -> None:
    """Capacity and quantum."""
    assert f"bounded ({DEFAULT_CAPACITY:,} by default)" in SEMANTICS
    assert f"steps ({CpuActor.throughput}) or seconds ({CpuActor.throughput_deadline})" in SEMANTICS.replace("\n", " ")


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_the_code_on_a_page_prints_what_stands_below_it(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The blocks run in their order, as if typed into one session; a block of text right below is what one prints."""
    session: dict[str, object] = {"__name__": "page"}
    with _handlers_restored():
        for code, _, text in re.findall(r"```python\n(.*?)```\n(\n```text\n(.*?)```)?", page.read_text(), re.DOTALL):
            exec(compile(code, str(page), "exec"), session)

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
