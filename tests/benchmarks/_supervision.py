"""Workloads of supervision: what it costs for each message, and to start and stop many actors."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from _harness import Sides, Size, rate, workload
from _messages import OurCpuActor, PykkaActor, open_system

from actors import SHUTDOWN, ActorSystem, ExitReason
from actors.lowlevel import ROOT, ActorPlace
from supervisors import ChildSpec, Supervisor


@contextmanager
def supervised(system: ActorSystem, specs: list[ChildSpec]) -> Iterator[None]:
    """Run a supervisor with these children at the root."""

    def ended(place: ActorPlace, reason: ExitReason, _administrative: bool) -> None:
        place.close(reason)

    root = system.place(ROOT, Supervisor, (specs,), {}, owner=ended)
    root.start().result()
    try:
        yield
    finally:
        root.stop(SHUTDOWN, drain=False, administrative=False).result()


@workload("W8 start and stop supervised", figure="seconds", at_most=1)
def start_and_stop(size: Size) -> Iterator[Sides]:
    """A tree of as many CPU actors as the peer has threads; both are stopped one after the other, as trees are."""
    number = size.of(1_000)
    specs = [ChildSpec(f"worker-{n}", OurCpuActor) for n in range(number)]

    def theirs() -> Mapping[str, float]:
        started = time.perf_counter()
        refs = [PykkaActor.start() for _ in range(number)]
        for ref in reversed(refs):
            ref.stop()
        return {"seconds": time.perf_counter() - started}

    with open_system() as system:

        def ours() -> Mapping[str, float]:
            started = time.perf_counter()
            with supervised(system, specs):
                pass
            return {"seconds": time.perf_counter() - started}

        yield ours, theirs


@workload("W8 tell a supervised actor", figure="per_second", at_least=0.95)
def tell_supervised(size: Size) -> Iterator[Sides]:
    """The peer is the same actor without a supervisor."""
    number = size.of(100_000)

    def tell(ref: Any) -> Mapping[str, float]:
        started = time.perf_counter()
        for _ in range(number):
            ref.tell(1)
        ref.ask(1)
        return rate(number, started)

    with open_system() as system:
        alone = system.start_actor(OurCpuActor, (), {})
        with supervised(system, [ChildSpec("worker", OurCpuActor)]):
            place = system.find("worker")
            assert isinstance(place, ActorPlace)
            yield partial(tell, place.ref), partial(tell, alone)


WORKLOADS = [start_and_stop, tell_supervised]
