"""The tool that interrupts the runtime strikes where it says, and nowhere else."""

from __future__ import annotations

import pytest
from interrupts import Grain, Strike

from actors.mailboxes._mailbox import Mailbox

GRAINS: tuple[Grain, ...] = ("signal", "line", "opcode")


def make() -> Mailbox:
    return Mailbox("test", wake=lambda: None, on_drop=lambda token: None)


def strikes(grain: Grain, again: int = 0) -> list[Strike]:
    """Strike a call of the runtime at each point."""
    mailbox, done = make(), []
    for at in range(1, 2_000):
        strike = Strike(at, again=again, grain=grain)
        _, error = strike.run(mailbox.statistics)
        assert not mailbox.changes_here
        if not strike.places:
            assert error is None
            return done
        assert isinstance(error, KeyboardInterrupt)
        done.append(strike)
    raise AssertionError("it never comes to its end")


@pytest.mark.parametrize("grain", GRAINS)
def test_each_point_of_a_call_is_struck_once_and_no_lock_of_a_block_stays_locked(grain: Grain) -> None:
    """Where a `with` block is left is no point: nothing could be safe there, and CPython looks for no signals there."""
    found = strikes(grain)

    assert len(found) >= 2
    assert all(len(strike.places) == 1 for strike in found)
    assert all(strike.places[0].file.startswith("actors/") and strike.places[0].text for strike in found)


def test_a_finer_grain_has_more_points() -> None:
    """Those where CPython looks for signals are some of the bytecodes."""
    signal, line, opcode = (len(strikes(grain)) for grain in GRAINS)

    assert signal <= line < opcode


def test_a_second_strike_comes_as_the_first_one_is_handled() -> None:
    """Here in the runtime's own handler of the first one."""
    mailbox = make()

    def call() -> None:
        try:
            mailbox.statistics()
        finally:
            mailbox.statistics()

    strike = Strike(2, again=3, grain="line")
    _, error = strike.run(call)

    assert isinstance(error, KeyboardInterrupt)
    assert isinstance(error.__context__, KeyboardInterrupt)
    assert len(strike.places) == 2


def test_places_that_are_skipped_are_not_struck() -> None:
    """So that each fault is found once."""
    mailbox = make()
    first = Strike(1, grain="line")
    first.run(mailbox.statistics)
    second = Strike(1, grain="line", skip=set(first.places))
    second.run(mailbox.statistics)

    assert second.places
    assert second.places != first.places
