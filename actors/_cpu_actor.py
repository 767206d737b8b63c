"""Actors whose code runs on CPU threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from actors._actor import BaseActor
from actors._cpu_drain import CpuDrain

if TYPE_CHECKING:
    from actors._actor_place import ActorPlace
    from actors._place import Drain


class CpuActor(BaseActor):
    """A pykka actor that is drained on a few threads, which it shares with all the others.

    One thread at a time runs its code, so its state needs no lock. A method that is a generator function is run
    step by step, and other actors get their turn in between; its return value is the token's result.
    """

    affinity: ClassVar[str] = "cpu"

    @classmethod
    def _make_drain(cls, place: ActorPlace) -> Drain:
        return CpuDrain(place, place.system.dispatcher, cls.throughput, cls.throughput_deadline)
