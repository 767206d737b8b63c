"""axe-core in a page of a browser: what it finds wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

_PLACES = (
    os.environ.get("TOKENGATE_AXE", ""),
    "/usr/share/javascript/axe-core/axe.min.js",
    "/tmp/npmx/a/package/axe.min.js",
)


def violations(page: Any) -> list[str]:
    """Return what axe-core finds wrong in a page, each with the element; the test is skipped where there is no axe-core.

    Args:
        page: of playwright.
    """
    source = next((place for place in map(Path, filter(None, _PLACES)) if place.is_file()), None)
    if source is None:
        pytest.skip("axe-core is not here: TOKENGATE_AXE names its axe.min.js")
    page.evaluate(source.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [f"{one['id']}: {node['html'][:200]}: {node['failureSummary']}" for one in found for node in one["nodes"]]
