"""A module with operations, which child processes import: tests submit and call them there."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from tokengate import Gate, current_token, token
from tokengate.types import current_gate


@token(tags={"room": "kitchen"})
def where(n: int) -> tuple[int, int, dict[str, str]]:
    running = current_token()
    return n, os.getpid(), dict(running.tags) if running is not None else {}


@token(affinity="process")
def elsewhere(n: int) -> tuple[int, int]:
    return n, os.getpid()


class Shop:
    @token
    def total(self, n: int) -> tuple[int, int]:
        return n, os.getpid()


def submit(n: int) -> Any:
    return where.submit(n).result()


def submit_with_options(n: int) -> Any:
    return where.with_options(tags={"tenant": "acme"}).submit(n).result()


def map_all(n: int) -> Any:
    return [t.result() for t in where.map(range(n))]


def submit_method(n: int) -> Any:
    return Shop().total.submit(n).result()


def submit_elsewhere(n: int) -> Any:
    return elsewhere.submit(n).result()


def asubmit(n: int) -> Any:
    async def main() -> Any:
        return (await where.asubmit(n)).result()

    return asyncio.run(main())


def call(n: int) -> Any:
    return where(n), elsewhere(n), Shop().total(n)


def lazily(n: int) -> Any:
    """Use a gate that a module makes for its servers."""
    gate = Gate("web", open="lazily", control_socket=False)
    before = current_gate() is None, where.submit(n).result()
    gate.open()
    return before, gate.state, where.submit(n).result()[1] == os.getpid(), gate.close().clean


def its_token(n: int) -> Any:
    return where.submit(n)
