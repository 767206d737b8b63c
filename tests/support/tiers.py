"""Which tests run: the default ones, those that CI adds (`CI` is set), and the long tier (`TOKENGATE_TORTURE=1`)."""

from __future__ import annotations

import os

import pytest

TORTURE = os.environ.get("TOKENGATE_TORTURE") == "1"

IN_CI = TORTURE or bool(os.environ.get("CI"))

in_ci = pytest.mark.skipif(
    not IN_CI,
    reason="a storm or a benchmark, which CI runs: CI=true or TOKENGATE_TORTURE=1",
)
