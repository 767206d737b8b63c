"""Predictions: what is expected of a token, as data; what makes them stands above."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen
class Quantiles:
    """What is expected of a duration, in seconds, or of an amount, in bytes.

    Attributes:
        p50: half of all such tokens stay below it.
        p95: 95 of 100 do.
    """

    p50: float
    p95: float


@attrs.frozen
class Prediction:
    """What is expected of a token; while it runs, given that it has run so long.

    Attributes:
        run: seconds that it runs; None: not known.
        memory: bytes at its peak; None: not known.
        failure_probability: that it fails, from 0 to 1; None: not known.
        timeout_probability: that its time is over before it ends; None: not known, or it has no deadline.
        basis: what this was made from: some of `features`, `tags`, `operation` and `operator`.
        n: how many attempts were learned from.
        coverage: the share of the latest 500 whose run stayed below its p95; None before the first.
        calibrated: whether these figures have been right often enough to act by them.
        model: what answers, with its version.
        factors: {what: by how much it makes this token's run longer than the operation's usual one}.
    """

    run: Quantiles | None
    memory: Quantiles | None
    failure_probability: float | None
    timeout_probability: float | None
    basis: tuple[str, ...]
    n: int
    coverage: float | None
    calibrated: bool
    model: str
    factors: Mapping[str, float]
