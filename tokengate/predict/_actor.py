"""The part of the runtime's tree that looks at tokens for rules, once a second."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, ClassVar, Final

import trio

from actors import Guard, IoActor
from actors.lowlevel import ActorPlace, Drain, IoDrain, Jobs

if TYPE_CHECKING:
    from tokengate.predict._plugin import Predict

_logger = logging.getLogger("tokengate.predict")

_SECONDS: Final = 1.0  # between two looks


class RuleActor(IoActor):
    """Looks once a second, on the system loop, where no code of users runs.

    Args:
        predict: what to look by.
    """

    guard: ClassVar[Guard] = "never"
    serves_operators: ClassVar[bool] = True

    def __init__(self, predict: Predict) -> None:
        super().__init__()
        self._predict = predict
        self._scope = trio.CancelScope()

    @classmethod
    def _make_drain(cls, place: ActorPlace) -> Drain:
        return IoDrain(place, place.system.system_host, cls.throughput, cls.throughput_deadline)

    async def on_start(self) -> None:  # type: ignore[override]
        await self._predict.gate._authority.freeze.is_on()  # it is read when it is first asked for; till then it holds
        Jobs(self._predict.gate._system.system_host).begin(self._scope, self._look_on, "rules")

    async def on_stop(self) -> None:  # type: ignore[override]
        self._scope.cancel()

    async def on_failure(self, *_error: object) -> None:  # type: ignore[override]
        self._scope.cancel()

    async def _look_on(self) -> None:
        with self._scope:
            while True:
                await trio.sleep(_SECONDS)
                try:
                    await self._predict._look()
                    self._predict.failed = ""
                except Exception as error:
                    if not self._predict.failed:
                        _logger.exception("rules could not be looked at; they are, again, in a second")
                    self._predict.failed = type(error).__name__
