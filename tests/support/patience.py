"""Settings for tests with drawn examples: a slow machine fails none of them, and CI draws three times as many."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from tiers import IN_CI

EXAMPLES = 100 if IN_CI else 33

patient = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
