"""Points: samples as estimators take them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import frexp, isfinite, log, log1p
from typing import Final, NamedTuple

from tokengate.predict._sample import Sample

Tags = tuple[tuple[str, str], ...]
"""Pairs of name and value."""

Octaves = tuple[tuple[str, int], ...]
"""Pairs of the name of a feature and the octave of its value."""

LEAST: Final = 1e-9
"""The least value that is told from 0, in seconds or bytes."""

_ZERO: Final = -10_000  # the octave of 0; those of negative numbers are below it


class Point(NamedTuple):
    """A sample as the estimators take it.

    Attributes:
        sample: the sample.
        tags: those that are learned from and that it has.
        names: of its features.
        logs: of the features, each the log of 1 + its size, with its sign.
        octaves: of the features.
    """

    sample: Sample
    tags: Tags
    names: tuple[str, ...]
    logs: tuple[float, ...]
    octaves: Octaves


def point_of(sample: Sample, tags: Sequence[str]) -> Point:
    """Return the point of a sample.

    Args:
        sample: the sample.
        tags: names of those that are learned from.
    """
    given = sample.tags
    chosen = tuple([(name, given[name]) for name in tags if name in given]) if given else ()
    names, logs, octaves = [], [], []
    for name, value in sample.features.items():
        if isfinite(value):  # others would spoil the line for good
            names.append(name)
            logs.append(log1p(value) if value >= 0 else -log1p(-value))
            octaves.append((name, octave_of(value)))
    return Point(sample, chosen, tuple(names), tuple(logs), tuple(octaves))


def octave_of(value: float) -> int:
    """Return the octave of a value: number k has those from 2^(k - 1) up to 2^k."""
    size = frexp(value)[1]
    return size if value > 0 else _ZERO - size if value else _ZERO - 5_000


def log_of(value: float) -> float:
    """Return the log of seconds or bytes."""
    return log(value if value > LEAST else LEAST)


class Answer(NamedTuple):
    """What an estimator says of a call, and why.

    Attributes:
        log: of the median that it expects.
        basis: what it used: some of `features`, `tags` and `operation`.
        factors: returns {what: log of the factor by which it makes this call longer than a usual one}.
    """

    log: float
    basis: tuple[str, ...]
    factors: Callable[[], Mapping[str, float]]
