"""Overload for a minute: memory stays flat, and every offer is accounted for. Runs with TOKENGATE_TORTURE=1."""

from __future__ import annotations

import faulthandler
import gc
import os
import threading
import time
from typing import Any, ClassVar

import psutil
import pytest
import trio

from actors import ActorSystem, BaseActor, DeadLetter, IoActor, MailboxFull, Overflow, TokenState

pytestmark = pytest.mark.skipif(os.environ.get("TOKENGATE_TORTURE") != "1", reason="takes minutes; TOKENGATE_TORTURE=1")

SECONDS = 60.0
WARM_UP = 0.1  # this part of the time fills caches and pools, and is not judged
OVERLOAD = 10  # offers for each message that is handled
CAPACITY = 1_000
MIB = 2**20


@pytest.mark.parametrize("overflow", ["reject", "drop_oldest"])
def test_overload_keeps_memory_flat_and_every_offer_accounted_for(
    local_base: type[BaseActor], system: ActorSystem, start: Any, overflow: Overflow
) -> None:
    """Ten offers for each message handled: accepted and rejected are what was offered, handled and dropped what was
    accepted; and memory stays within 5 MiB of what it was when all was warm."""
    # What a process handles cannot be tallied here; tests/stress has its load.
    faulthandler.cancel_dump_traceback_later()  # this test is meant to take longer
    policy = overflow
    tally = {"offered": 0, "accepted": 0, "rejected": 0, "handled": 0}
    over = threading.Event()

    def must_wait() -> bool:
        """Tell whether too few offers were made for the messages that were begun."""
        return tally["offered"] < OVERLOAD * tally["handled"] and not over.is_set()

    class Busy(local_base):  # type: ignore[misc, valid-type]
        capacity: ClassVar[int] = CAPACITY
        overflow: ClassVar[Overflow] = policy

        if local_base is IoActor:

            async def on_receive(self, _message: Any) -> None:
                tally["handled"] += 1
                while must_wait():
                    await trio.lowlevel.checkpoint()
        else:

            def on_receive(self, _message: Any) -> Any:
                tally["handled"] += 1
                while must_wait():
                    yield

    ref = start(Busy)
    letters: list[int] = [0]

    def count_letter(event: object) -> None:
        letters[0] += isinstance(event, DeadLetter)

    system.subscribe(count_letter)

    def offer() -> None:
        message, end = "x" * 1_000, time.monotonic() + SECONDS
        while time.monotonic() < end:
            tally["offered"] += 1
            try:
                ref.tell(message + str(tally["offered"]))
                tally["accepted"] += 1
            except MailboxFull:
                tally["rejected"] += 1
        over.set()

    sender = threading.Thread(target=offer, daemon=True)
    process = psutil.Process()
    used: list[int] = []
    sender.start()
    sender.join(SECONDS * WARM_UP)
    while sender.is_alive():
        gc.collect()
        used.append(process.memory_info().rss)
        sender.join(1.0)
    assert OVERLOAD * (tally["handled"] - CAPACITY - 1) <= tally["offered"]
    ref.stop(timeout=60)  # handles what was accepted
    tokens = system.statistics().tokens
    print(f"{tally}, {(max(used) - min(used)) / MIB:.2f} MiB between least and most")

    assert tally["accepted"] + tally["rejected"] == tally["offered"]
    assert tally["handled"] + tokens[TokenState.TERMINATED] == tally["accepted"]
    assert tokens[TokenState.REJECTED] == tally["rejected"]
    assert letters[0] == tokens[TokenState.TERMINATED] + tokens[TokenState.REJECTED]
    assert (tokens[TokenState.REJECTED] > 0) == (overflow == "reject")
    assert (tokens[TokenState.TERMINATED] > 0) == (overflow == "drop_oldest")
    assert system.live == {}
    assert max(used) - used[0] <= 5 * MIB
