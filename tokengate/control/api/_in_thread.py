"""Awaiting a call that blocks, on trio and on asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import trio

A = TypeVar("A")


async def in_thread(function: Callable[[], A]) -> A:
    """Call a function in a thread; when this is cancelled, the thread goes on, and what it returns is lost."""
    if trio.lowlevel.in_trio_task():
        return await trio.to_thread.run_sync(function, abandon_on_cancel=True)
    return await asyncio.to_thread(function)
