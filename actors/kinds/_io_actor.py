"""Actors that run as a trio task."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from actors.drains._io_drain import IoDrain
from actors.places._actor import BaseActor

if TYPE_CHECKING:
    from actors.places._actor_place import ActorPlace
    from actors.places._drain import Drain


class IoActor(BaseActor):
    """A pykka actor that runs as a trio task; its methods and hooks may be async functions or plain ones.

    It handles one token at a time, so its state needs no lock even across an `await`. Code that blocks its loop holds
    up every other io actor; such code belongs in a `CpuActor`.
    """

    affinity: ClassVar[str] = "io"

    @classmethod
    def _make_drain(cls, place: ActorPlace) -> Drain:
        return IoDrain(place, place.system.io_host, cls.throughput, cls.throughput_deadline)
