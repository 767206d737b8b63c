"""Uids of durable tokens, and the numbers that stand for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import patient

from tokengate.control._uids import LARGEST, is_uid, number_of, parts_of, text_of, uid_in, uid_of


@patient
@given(st.integers(1, 2**23 - 1), st.integers(0, 2**40 - 1))
def test_a_number_is_a_run_and_an_id_and_fits_into_a_row(run: int, id: int) -> None:
    """Rows of one run come after those of the run before, and all are integers of SQLite."""
    number = uid_of(run, id)

    assert uid_of(run, 0) <= number < uid_of(run + 1, 0)
    assert number <= LARGEST
    assert parts_of(number) == (run, id)
    assert number_of(text_of(number)) == number


def test_an_id_has_no_run() -> None:
    """So a number says which of both it is."""
    assert parts_of(4242) == (0, 4242)
    assert [is_uid(number) for number in (-1, 0, 4242, 2**40 - 1)] == [False] * 4
    assert [is_uid(number) for number in (2**40, LARGEST, LARGEST + 1)] == [True, True, False]


@pytest.mark.parametrize(
    "text",
    ["", "5", "5.", ".5", "0.5", "1.-1", "1.5 ", "1.5.2", "x", "7f3a91c2.5", "8388608.0", "9999999.1",
     "1.1099511627776", "1." + "9" * 30, "\u0661.5"],
)  # fmt: skip
def test_what_is_no_uid_is_refused_with_one_that_is(text: str) -> None:
    """Also what no row can have, since its number would be too large."""
    assert uid_in(text) is None
    with pytest.raises(ValueError, match="it must be a run and an id, such as"):
        number_of(text)
