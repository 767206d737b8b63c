"""What the documentation says of the code is what the code does."""

from __future__ import annotations

import logging
import re
import runpy
from pathlib import Path

from actors import DEFAULT_CAPACITY, TRANSITIONS, CpuActor

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


def test_the_code_on_the_page_runs() -> None:
    """The example of a log format; its handler goes again."""
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        for block in re.findall(r"```python\n(.*?)```", SEMANTICS, re.DOTALL):
            exec(block, {})
        (added,) = (handler for handler in root.handlers if handler not in before)

        assert added.format(_filtered(added)).endswith("[None None] text")
    finally:
        root.handlers[:] = before


def _filtered(handler: logging.Handler) -> logging.LogRecord:
    record = logging.LogRecord("name", logging.INFO, "path", 1, "text", None, None)
    handler.filter(record)
    return record
