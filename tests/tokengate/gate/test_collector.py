"""The garbage collector of a gate that tunes it: raised thresholds and a heap set aside, for as long as it is open."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

from tokengate import Gate
from tokengate.gate import _collector
from tokengate.gate._collector import THRESHOLDS

MANY = 5_000  # objects; Python itself sets fewer aside as it starts


@pytest.fixture(autouse=True)
def _collector_as_before() -> Iterator[None]:
    before = gc.get_threshold()
    gc.unfreeze()  # what the tests of a run have in common
    yield
    gc.set_threshold(*before)
    gc.freeze()


def tuned(name: str) -> Gate:
    return Gate(name, gc="tuned", control_socket=False)


def test_a_gate_leaves_the_collector_alone_unless_asked() -> None:
    """The collector belongs to the process."""
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with Gate("plain", control_socket=False) as gate:
        assert gc.get_threshold() == before
        assert gc.get_freeze_count() == frozen
        assert gate.control.info().gc_thresholds == before


def test_a_tuned_gate_raises_the_thresholds_and_sets_the_heap_aside_while_it_is_open() -> None:
    """A collection of the whole heap passes over what is made later only."""
    before = gc.get_threshold()
    with tuned("tuned") as gate:
        assert gc.get_threshold() == THRESHOLDS
        assert gc.get_freeze_count() > MANY
        assert gate.control.info().gc_thresholds == THRESHOLDS

    assert gc.get_threshold() == before
    assert gc.get_freeze_count() < MANY


def test_the_last_of_two_tuned_gates_restores_the_collector() -> None:
    """In whatever order they close."""
    before = gc.get_threshold()
    one, two = tuned("one").open(), tuned("two").open()
    one.close()
    assert gc.get_threshold() == THRESHOLDS
    assert gc.get_freeze_count() > MANY
    two.close()

    assert gc.get_threshold() == before
    assert gc.get_freeze_count() < MANY


def test_thresholds_that_the_program_sets_meanwhile_stay() -> None:
    """A second tuned gate does not undo them either."""
    with tuned("one"):
        gc.set_threshold(1234, 5, 6)
        with tuned("two"):
            assert gc.get_threshold() == (1234, 5, 6)

    assert gc.get_threshold() == (1234, 5, 6)


def test_a_collector_that_the_program_has_switched_off_stays_off() -> None:
    """A threshold of 0 turns automatic collections off."""
    gc.set_threshold(0)
    with tuned("tuned"):
        assert gc.get_threshold()[0] == 0

    assert gc.get_threshold()[0] == 0


def test_what_the_program_has_set_aside_stays_aside() -> None:
    """A program that shares its heap with forked children freezes it itself."""
    gc.freeze()
    with tuned("tuned"):
        pass

    assert gc.get_freeze_count() > MANY


def test_a_gate_that_does_not_open_restores_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that closes does."""
    before = gc.get_threshold()
    gate = tuned("tuned")
    monkeypatch.setattr(gate, "_make_root", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        gate.open()

    assert gc.get_threshold() == before
    assert gc.get_freeze_count() < MANY


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_has_the_collector_of_before() -> None:
    """No gate is open there."""
    before = gc.get_threshold()
    _collector.tune("gate")
    try:
        child = os.fork()
        if not child:
            os._exit(gc.get_threshold() == before)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
        assert gc.get_threshold() == THRESHOLDS
    finally:
        _collector.release("gate")
