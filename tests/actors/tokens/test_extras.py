"""Extras: the attributes that few tokens have are made when first needed, and belong to one token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from interleave import Stage

from actors import ActorSystem
from actors.concurrency import _future
from actors.tokens import _token
from actors.tokens._extras import NO_EXTRAS, Extras
from actors.tokens._hold import Hold

pytestmark = pytest.mark.usefixtures("frequent_looks")


def test_a_token_that_ends_as_it_began_has_no_extras(system: ActorSystem) -> None:
    """A token that nothing was asked of shares the empty extras."""
    place = system.operation_place("op", "cpu", generator=False, concurrency=1)
    token = place.send(place.token("op", int, ("7",)))

    assert token.result(30) == 7
    assert token._extras is NO_EXTRAS
    assert (token.attempt, token._extras.hold) == (1, None)


@pytest.mark.parametrize(
    "change",
    [
        lambda token: token.cancel(),
        lambda token: token.ask_to_end("enough"),
        lambda token: token.lend_turn(),
        Hold.of,
    ],
)
def test_a_change_is_written_to_extras_of_its_own(system: ActorSystem, change: Callable[[object], object]) -> None:
    """A request to one token changes no other: the extras that tokens share stay empty."""
    place = system.operation_place("op", "cpu", generator=False, concurrency=1)
    token = place.token("op", int, ())

    change(token)

    extras = token._extras
    assert extras is not NO_EXTRAS
    assert extras is token._own_extras()
    assert not vars(NO_EXTRAS)


def test_what_runs_as_extras_are_made_may_ask_for_others(system: ActorSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalizer or a signal handler may run as they are made, and cancel another token: no lock is held then."""
    place = system.operation_place("op", "cpu", generator=False, concurrency=1)
    token, other = place.token("op", int, ()), place.token("op", int, ())
    free: list[bool] = []

    class Observed(Extras):
        def __init__(self) -> None:
            super().__init__()
            free.append(not _future.rare.locked())
            monkeypatch.setattr(_token, "Extras", Extras)
            if free[-1]:
                other.cancel()

    monkeypatch.setattr(_token, "Extras", Observed)
    token.cancel()

    assert free == [True]
    assert token._extras.cancel_requested == other._extras.cancel_requested == "it was cancelled"


@pytest.mark.parametrize("verb", ["request", "forget"])
def test_a_request_to_end_an_attempt_overwrites_none_to_end_the_token(stage: Stage, rounds: Any, verb: str) -> None:
    """Neither as it is noted nor as it is forgotten, whatever comes in between; each waits for its own turn."""
    mine = "it was preempted"
    for _ in range(rounds(100)):
        extras, noted = Extras(), [True]
        if verb == "forget":
            assert extras.request_end(mine)

        def cancel(extras: Extras = extras) -> None:
            list(map(str, range(1)))  # here others may go on
            extras.cancel_requested = "it was cancelled"

        def act(extras: Extras = extras, noted: list[bool] = noted) -> None:
            if verb == "request":
                noted[0] = extras.request_end(mine)
            else:
                extras.forget_request(mine)

        stage.run(cancel, act)

        assert extras.cancel_requested == "it was cancelled"
        assert verb == "request" or noted[0]


def test_a_request_to_end_is_noted_once_and_forgotten() -> None:
    """By its identity: an equal text of another request stays."""
    extras, equal = Extras(), "".join(["pre", "empted"])
    mine = "".join(["preem", "pted"])

    assert extras.request_end(mine)
    assert not extras.request_end(equal)
    extras.forget_request(equal)
    assert extras.cancel_requested is mine
    extras.forget_request(mine)
    assert extras.cancel_requested == ""
    assert extras.request_end(equal)
