"""Actors that run on CPU threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from actors.drains._cpu_drain import CpuDrain
from actors.drains._pinned_drain import PinnedDrain
from actors.places._actor import BaseActor

if TYPE_CHECKING:
    from actors.places._actor_place import ActorPlace
    from actors.places._drain import Drain


class CpuActor(BaseActor):
    """A pykka actor that runs on a few threads, which all CPU actors share.

    One thread at a time runs its code, so its state needs no lock. A method that is a generator function runs step by
    step, and other actors get their turn in between; its return value is the token's result.
    """

    affinity: ClassVar[str] = "cpu"

    dispatcher: ClassVar[Literal["shared", "pinned"]] = "shared"
    """Which thread runs its code: any of the shared ones (`shared`), or one dedicated thread for life (`pinned`).

    A pinned actor's `__init__`, hooks and messages all run on the same thread, over restarts too. Libraries with
    objects that belong to the thread that made them need this (sqlite3, user interfaces).
    """

    @classmethod
    def _make_drain(cls, place: ActorPlace) -> Drain:
        if cls.dispatcher == "pinned":
            return PinnedDrain(place, cls.throughput, cls.throughput_deadline)
        if cls.dispatcher != "shared":
            raise ValueError(f"dispatcher of {cls.__name__} is {cls.dispatcher!r}; choose 'shared' or 'pinned'")
        return CpuDrain(place, place.system.dispatcher, cls.throughput, cls.throughput_deadline)
