"""axe-core in a page of a browser: what it finds wrong."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest


def violations(page: Any) -> list[str]:
    """Return what axe-core finds wrong in a page, each with its element; the test is skipped where it is not installed.

    Args:
        page: of playwright.
    """
    found = importlib.util.find_spec("axe_playwright_python")
    origin = os.environ.get("TOKENGATE_AXE") or (found and found.origin)
    if not origin:
        pytest.skip("axe-core comes with the package axe-playwright-python, which is not installed")
    page.evaluate(Path(origin).with_name("axe.min.js").read_text())
    wrong = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [f"{one['id']}: {node['html'][:200]}: {node['failureSummary']}" for one in wrong for node in one["nodes"]]
