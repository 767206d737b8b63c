"""Fair turns of the tokens of a gate."""

from __future__ import annotations

import pytest
from gated_code import Door

from tokengate import Gate, Policy, Token, TokenState, token

LIMIT = 30.0


@pytest.mark.parametrize("affinity", ["cpu", "io", "asyncio"])
def test_keys_take_turns_while_one_sends_most(affinity: str) -> None:
    """Case 39. What an operator does to a waiting token (pause, renice, cancel) holds, too."""
    door, began = Door(), []

    @token(affinity=affinity, concurrency=1, policy=Policy(fair="tenant"))  # type: ignore[call-overload]
    def work(tenant: str, number: int) -> None:
        if tenant == "first":
            door.pass_through()
        began.append((tenant, number))

    with Gate("fair") as gate:
        first = work.submit("first", 0)
        door.wait_reached()
        big = [work.submit("big", number) for number in range(10)]
        small = [work.submit(f"small {number}", number) for number in range(3)]
        tokens: list[Token[None]] = [first, *big, *small]
        big[1].cancel()
        gate.control.renice(big[9].id, 1)
        gate.control.pause(small[1].id)
        door.open()
        for one in (*big[2:], big[0], small[0], small[2]):
            one.result(LIMIT)
        gate.control.resume(small[1].id)
        small[1].result(LIMIT)

    left = [("big", number) for number in range(2, 9)]
    assert began[:5] == [("first", 0), ("big", 9), ("big", 0), ("small 0", 0), ("small 2", 2)]
    assert began[5:] == [*left, ("small 1", 1)]
    assert [one.state for one in tokens].count(TokenState.TERMINATED) == 1
