"""Sizes and times, as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import patient

from tokengate.control._units import bytes_in, in_bytes, in_seconds, seconds_in


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1), ("512B", 512), ("2KiB", 2048), ("2 kib", 2048), (" 1.5GiB ", 3 * 2**29), ("500MB", 500_000_000),
        ("1gb", 10**9), ("0.5 TiB", 2**39), ("3TB", 3 * 10**12), ("7KB", 7000), ("1MiB", 2**20),
    ],
)  # fmt: skip
def test_a_size_has_a_unit_or_is_in_bytes(text: str, expected: int) -> None:
    """Binary and decimal ones, in any case, with or without a space."""
    assert bytes_in(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("30", 30), ("1.5s", 1.5), ("5m", 300), ("2 h", 7200), ("250ms", 0.25)])
def test_a_time_has_a_unit_or_is_in_seconds(text: str, expected: float) -> None:
    """As in a selector, and milliseconds."""
    assert seconds_in(text) == expected


@pytest.mark.parametrize("text", ["", "2G", "2GiBs", "-1", "1e9", "GiB", "1,5GiB", "nan", "1 2", "9" * 30, "\u0662"])
def test_what_is_no_size_is_refused_with_one_that_is(text: str) -> None:
    """Also what could mean two things: `2G`."""
    with pytest.raises(ValueError, match="write 2GiB, 500MB"):
        bytes_in(text)


@pytest.mark.parametrize("text", ["", "5 minutes", "-1s", "inf", "1w", "1:30"])
def test_what_is_no_time_is_refused_with_one_that_is(text: str) -> None:
    """Whatever it was meant to be."""
    with pytest.raises(ValueError, match="write 30, 30s, 5m or 1h"):
        seconds_in(text)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(2**31, "2 GiB"), (3 * 2**29, "1.5 GiB"), (500 * 10**6, "500 MB"), (2**20 + 1, "1048577 B"), (999, "999 B")],
)
def test_a_size_is_written_in_the_largest_unit_in_which_it_is_short(size: int, expected: str) -> None:
    """Binary ones first."""
    assert in_bytes(size) == expected


@patient
@given(st.integers(1, 2**62) | st.integers(1, 60).map(lambda power: 2**power))
def test_a_size_that_was_written_is_read_as_it_was(size: int) -> None:
    """Exactly, whatever its unit."""
    assert bytes_in(in_bytes(size)) == size


@patient
@given(st.integers(1, 10**9) | st.floats(0.001, 1e9).map(lambda seconds: round(seconds, 3)))
def test_a_time_that_was_written_is_read_as_it_was(seconds: float) -> None:
    """In seconds."""
    assert seconds_in(in_seconds(seconds)) == seconds
