"""Failure rates of operations and classes of errors."""

from __future__ import annotations

import pytest

from tokengate.predict._failures import CLASSES, Failures


def test_before_the_first_call_one_in_ten_is_believed_to_fail() -> None:
    """The mean of Beta(1, 9)."""
    assert Failures().rate == 0.1


def test_calls_move_the_rate() -> None:
    """By what there was: 3 of 10 on top of 1 of 10, nearly."""
    failures = Failures()
    for number in range(10):
        failures.learn("ValueError" if number < 3 else "", 1)

    assert failures.rate == pytest.approx(4 / 20, abs=0.005)


def test_after_200_calls_an_old_one_counts_half() -> None:
    """The half-life."""
    failures = Failures(calls=0.0, failed=100.0, classes={"ValueError": 100.0})
    for _ in range(200):
        failures.learn("", 1)

    assert failures.failed == pytest.approx(50.0)
    assert failures.classes["ValueError"] == pytest.approx(50.0)


def test_each_class_has_its_share() -> None:
    """They add up to the rate."""
    failures = Failures()
    for error in ("ValueError", "", "OSError", "ValueError", "ValueError"):
        failures.learn(error, 1)
    shares = failures.shares()

    assert sum(shares.values()) == pytest.approx(failures.rate)
    assert shares["ValueError"] == pytest.approx(3 * shares["OSError"], rel=0.02)


def test_without_failures_there_is_no_class() -> None:
    """Only what is believed."""
    failures = Failures()
    failures.learn("", 1)

    assert failures.shares() == {}


def test_a_weight_counts_as_so_many_calls() -> None:
    """A record that stands for ten."""
    heavy, single = Failures(), Failures()
    heavy.learn("", 10)
    for _ in range(10):
        single.learn("", 1)

    assert heavy.rate == pytest.approx(single.rate, rel=0.01)


def test_of_many_classes_the_rarest_goes() -> None:
    """A new one always has its place, and the rate counts all."""
    failures = Failures()
    for number in range(1_000):
        failures.learn(f"E{number}", 1)

    assert len(failures.classes) == CLASSES
    assert "E999" in failures.classes
    assert failures.rate > 0.9
