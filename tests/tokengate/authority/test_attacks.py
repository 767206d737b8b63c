"""Ways around the door that were tried: what leads past a guard, a right or an approval, and what is left unsaid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from gated_code import LIMIT, Door
from people import ANN, People
from running_tokens import io_operation

from actors import TokenTerminated
from tokengate import Gate, token
from tokengate.errors import NotSteerable

WHY = {"reason": "it hangs"}

free = token(io_operation.__wrapped__)
OTHERS = {guard: token(guard=guard)(io_operation.__wrapped__) for guard in ("force", "approval", "never")}  # type: ignore[call-overload]


def words(answer: Any) -> list[str]:
    return [one.outcome for one in answer]


# --- Guards -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guard", OTHERS)
def test_a_rollback_asks_for_the_guards_of_all_that_it_ends(
    gate: Gate, people: People, doors: Callable[[], Door], guard: str
) -> None:
    """By a token that is not guarded, or by the name of the transaction, no other member that is guarded is ended."""
    ann, free_door, door = people[ANN], doors(), doors()
    with gate.transaction("order"):
        own, guarded = free.submit(free_door), OTHERS[guard].submit(door)
        for one in (free_door, door):
            one.wait_reached()
        [refused] = ann.compensate(own, **WHY)
        assert (refused.outcome, f"token {guarded.id}, whose guard is '{guard}'" in refused.note) == ("refused", True)
        with pytest.raises(NotSteerable, match=f"token {guarded.id}, whose guard is '{guard}'"):
            ann.compensate_transaction("order", **WHY)
        assert words(ann.compensate([own, guarded], **WHY))[0] == "refused"
        free_door.open(), door.open()
    assert guarded.result(LIMIT) == "through"


def test_a_rollback_goes_on_if_all_guarded_members_are_named_with_what_they_need(
    gate: Gate, people: People, doors: Callable[[], Door]
) -> None:
    """Force for each that has the guard `force`."""
    first, second = doors(), doors()
    with pytest.raises(TokenTerminated), gate.transaction("order"):  # noqa: PT012  # its end raises
        own, guarded = free.submit(first), OTHERS["force"].submit(second)
        for one in (first, second):
            one.wait_reached()
        assert words(people[ANN].compensate([own, guarded], force=True, **WHY)) == ["rolling_back", "refused"]
        guarded.exception(LIMIT)


def test_a_call_that_another_token_runs_for_has_begun_with_that(gate: Gate, people: People, door: Door) -> None:
    """Calls with one key: force ends none of them once their run needs approval, or the last would end that run."""
    sent = [OTHERS["approval"].with_options(key="k").submit(door) for _ in range(2)]
    door.wait_reached()

    assert words(people[ANN].terminate(sent, force=True, **WHY)) == ["awaiting", "awaiting"]
    door.open()
    assert [one.result(LIMIT) for one in sent] == ["through", "through"]
