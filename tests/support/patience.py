"""Settings for tests with drawn examples, so that a slow machine fails none of them."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
