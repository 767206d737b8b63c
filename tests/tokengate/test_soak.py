"""Two million tokens through one gate: none lost, none twice, none kept. Runs with TOKENGATE_TORTURE=1."""

from __future__ import annotations

import faulthandler
import os
import threading
from collections import deque
from typing import Any

import pytest
import trio
from memory import MIB, resident

from tokengate import Gate, Token, TokenState, token

pytestmark = pytest.mark.skipif(os.environ.get("TOKENGATE_TORTURE") != "1", reason="takes minutes; TOKENGATE_TORTURE=1")

MANY = 1_000_000
WARM_UP = 20_000
WINDOW = 5_000  # tokens that a sender has in flight
LIMIT = 60.0

runs = {"cpu": bytearray(MANY), "io": bytearray(MANY)}  # {affinity: how often the token of each number ran}


@token
def on_cpu(number: int) -> int:
    runs["cpu"][number] += 1
    return number


@token
async def on_io(number: int) -> int:
    runs["io"][number] += 1
    await trio.lowlevel.checkpoint()
    return number


def send(operation: Any, numbers: range) -> None:
    window: deque[tuple[int, Token[int]]] = deque()
    for number in numbers:
        window.append((number, operation.submit(number)))
        if len(window) > WINDOW:
            expected, one = window.popleft()
            assert one.result(LIMIT) == expected
    for expected, one in window:
        assert one.result(LIMIT) == expected


def send_both(numbers: range) -> None:
    errors: list[BaseException] = []

    def body(operation: Any) -> None:
        try:
            send(operation, numbers)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=body, args=(operation,), daemon=True) for operation in (on_cpu, on_io)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_a_million_tokens_of_each_kind_run_once_and_leave_nothing() -> None:
    """Each ran once and gave its own result; the counts agree; memory is back within 5 MiB."""
    faulthandler.cancel_dump_traceback_later()  # this test is meant to take longer
    with Gate("soak", shutdown=60) as gate:
        send_both(range(WARM_UP))
        for counts in runs.values():
            counts[:] = bytes(MANY)
        before, completed = resident(), gate.statistics().tokens[TokenState.COMPLETED]
        send_both(range(MANY))
        grown = resident() - before
        tokens = gate.statistics().tokens
        print(f"{tokens[TokenState.COMPLETED] - completed:,} tokens, {grown / MIB:+.2f} MiB")

        assert [counts.count(1) for counts in runs.values()] == [MANY, MANY]
        assert tokens[TokenState.COMPLETED] - completed == 2 * MANY
        assert sum(tokens.values()) == tokens[TokenState.COMPLETED]
        assert grown <= 5 * MIB
