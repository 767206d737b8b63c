"""Actors that run as an asyncio task."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from actors.drains._asyncio_drain import AsyncioDrain
from actors.places._actor import BaseActor

if TYPE_CHECKING:
    from actors.places._actor_place import ActorPlace
    from actors.places._drain import Drain


class AsyncioActor(BaseActor):
    """A pykka actor that runs as an asyncio task; its methods and hooks may be async functions or plain ones.

    It handles one token at a time, so its state needs no lock even across an `await`. It lives in the asyncio loop of
    its gate: the program's with `async with Gate()` in asyncio, else one in a thread. Code that blocks the loop holds
    up all else there; such code belongs in a `CpuActor`.
    """

    affinity: ClassVar[str] = "asyncio"

    @classmethod
    def _make_drain(cls, place: ActorPlace) -> Drain:
        return AsyncioDrain(place, place.system.asyncio_hosts.own, cls.throughput, cls.throughput_deadline)
