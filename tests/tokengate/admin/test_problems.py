"""Errors of gates as HTTP has them."""

from __future__ import annotations

import pytest

from tokengate import errors
from tokengate.admin._problems import STATUS, problem_of

_KNOWN = {name for name in errors.__all__ if issubclass(getattr(errors, name), errors.TokenGateError)}


def test_each_error_of_ours_has_a_status() -> None:
    """None is left to the default, so that a new one is thought of."""
    assert sorted(_KNOWN - STATUS.keys()) == []
    assert sorted(STATUS.keys() - _KNOWN) == ["BadArguments", "IllegalTransition", "InternalError"]


@pytest.mark.parametrize("name", sorted(_KNOWN))
def test_the_status_says_whose_fault_it_is(name: str) -> None:
    """What is not there is 404, what cannot work 422, what is not possible now 409 or 503; only bugs are 500."""
    kind = getattr(errors, name)
    wanted = {404} if issubclass(kind, LookupError) else {422} if issubclass(kind, ValueError | TypeError) else None

    assert STATUS[name] in (wanted or {403, 409, 503, 500})
    assert (STATUS[name] == 500) == (name == "RemoteError")


def test_the_end_of_a_text_is_the_remedy() -> None:
    """Behind the last `; `; names that are not ours are refusals."""
    found, plain = problem_of("NoSuchChild", "no child 'a'; b; see the list"), problem_of("Theirs", "no")

    assert (found.status, found.detail, found.remedy) == (404, "no child 'a'; b", "see the list")
    assert (plain.status, plain.detail, plain.remedy) == (409, "no", "")
