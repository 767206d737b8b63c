"""`loop_here` tells what trio itself tells, wherever a run of trio is, and asks it only there."""

from __future__ import annotations

import asyncio
import queue
import sys
from collections.abc import AsyncGenerator
from typing import Any

import trio

from actors.concurrency._blocking import loop_here


def test_a_thread_without_a_run_is_no_loop_and_one_with_a_run_is() -> None:
    """It is empty before and after a run, and `trio` within it."""

    async def main() -> str:
        return loop_here()

    assert loop_here() == ""
    assert trio.run(main) == "trio"
    assert loop_here() == ""


def test_the_host_of_a_guest_run_is_a_loop_between_the_steps_of_the_run() -> None:
    """Code of the host that blocked there would block the run; trio says so, too."""
    calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
    seen: list[tuple[str, bool]] = []

    async def main() -> None:
        for _ in range(3):
            await trio.sleep(0)

    over: list[Any] = []
    trio.lowlevel.start_guest_run(main, run_sync_soon_threadsafe=calls.put, done_callback=over.append)
    while not over:
        calls.get(timeout=30)()
        if not over:
            seen.append((loop_here(), trio.lowlevel.in_trio_run()))
    assert seen
    assert set(seen) == {("trio", True)}
    assert loop_here() == ""


def test_the_hook_of_an_asyncio_loop_or_of_a_program_is_no_run_of_trio() -> None:
    """Others set the hook as well: then trio is asked."""

    async def main() -> str:
        assert sys.get_asyncgen_hooks().firstiter is not None
        return loop_here()

    assert asyncio.run(main()) == ""

    def firstiter(_generator: AsyncGenerator[Any, Any]) -> None: ...

    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=firstiter)
    try:
        assert loop_here() == ""
    finally:
        sys.set_asyncgen_hooks(*before)
