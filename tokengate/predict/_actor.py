"""The part of the runtime's tree that looks at tokens for rules, once a second."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import ClassVar, Final

import trio

from actors import Guard, IoActor
from actors.lowlevel import ActorPlace, Drain, IoDrain, Jobs

_logger = logging.getLogger("tokengate.predict")

_SECONDS: Final = 1.0  # between two looks


class RuleActor(IoActor):
    """Looks once a second, on the system loop, where no code of users runs.

    Args:
        prepare: called once, before the first look.
        look: looks.
        note: called after each look with the class of the error that it has raised; empty: it has not.
    """

    guard: ClassVar[Guard] = "never"
    serves_operators: ClassVar[bool] = True

    def __init__(
        self,
        prepare: Callable[[], Awaitable[object]],
        look: Callable[[], Awaitable[object]],
        note: Callable[[str], object],
    ) -> None:
        super().__init__()
        self._prepare = prepare
        self._look = look
        self._note = note
        self._scope = trio.CancelScope()
        self._jobs = Jobs(self._place.system.system_host)

    @classmethod
    def _make_drain(cls, place: ActorPlace) -> Drain:
        return IoDrain(place, place.system.system_host, cls.throughput, cls.throughput_deadline)

    async def on_start(self) -> None:  # type: ignore[override]
        await self._prepare()
        self._jobs.begin(self._scope, self._look_on, "rules")

    async def on_stop(self) -> None:  # type: ignore[override]
        self._scope.cancel()

    async def on_failure(self, *_error: object) -> None:  # type: ignore[override]
        self._scope.cancel()

    async def _look_on(self) -> None:
        with self._scope:
            failed = ""
            while True:
                await trio.sleep(_SECONDS)
                try:
                    await self._look()
                    failed = ""
                except Exception as error:
                    if not failed:
                        _logger.exception("rules could not be looked at; they are, again, in a second")
                    failed = type(error).__name__
                self._note(failed)
