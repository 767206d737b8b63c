"""pykka: a thread for each actor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pykka
from sides import from_threads
from sides._workload import Run


class Echo(pykka.ThreadingActor):
    def on_receive(self, message: Any) -> Any:
        return message


@contextmanager
def actors(number: int = 0) -> Iterator[list[Any]]:
    """Start actors; these and what the block adds are stopped at its end."""
    refs: list[Any] = [Echo.start() for _ in range(number)]
    try:
        yield refs
    finally:
        for ref in refs:
            ref.stop(block=False)


@contextmanager
def tell() -> Iterator[Run]:
    with actors(1) as (ref,):
        yield partial(from_threads.tell, ref)


@contextmanager
def ask() -> Iterator[Run]:
    with actors(1) as (ref,):
        yield partial(from_threads.ask, ref)


@contextmanager
def ask_in_flight() -> Iterator[Run]:
    with actors(1) as (ref,):
        yield partial(from_threads.ask_in_flight, ref)


@contextmanager
def fan_out() -> Iterator[Run]:
    with actors(100) as refs:
        yield partial(from_threads.fan_out, refs)


@contextmanager
def spawn_in_turn() -> Iterator[Run]:
    with actors() as refs:
        yield partial(from_threads.spawn_in_turn, Echo.start, refs)


@contextmanager
def spawn_at_once() -> Iterator[Run]:
    with actors() as refs:
        yield partial(from_threads.spawn_at_once, Echo.start, refs)


@contextmanager
def start_and_stop() -> Iterator[Run]:
    """Start actors, then stop them one after the other, the latest first, as trees are."""

    def run(number: int) -> None:
        for ref in reversed([Echo.start() for _ in range(number)]):
            ref.stop()

    yield run
