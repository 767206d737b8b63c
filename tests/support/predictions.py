"""Gates whose predictions are fixed, whose rules look when a test says so, and whose time a test can move on."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from gated_code import LIMIT
from people import People

from actors import Token
from tokengate import Gate
from tokengate.control.registry import Plugin
from tokengate.predict import Predict, Rule, Sample
from tokengate.predict._intervention import Intervention
from tokengate.predict._outlook import Outlook, Spread
from tokengate.predict._residuals import Residuals
from tokengate.predict._sample import Attempt
from tokengate.predict._table import Table

SPREAD: Residuals = (tuple(math.log(0.1 + number / 50) for number in range(100)), None)
"""Residuals of values between a tenth and twice of what is expected."""


def spread(p50: float) -> Spread:
    """Return one whose p95 is twice its p50."""
    return Spread(p50, p50, 2 * p50, SPREAD, 0.95, ((), None))


class FixedModels:
    """Models that expect of each operation what a test says.

    Attributes:
        run: {operation: seconds at p50}; the p95 is twice that.
        memory: the same in bytes.
        calibrated: what rules may act by.
        learned: what they were to learn.
        hang: is called each time something is to be learned.
        own: operations for which an estimator of the user answers.
        operations: those of which something was learned.
    """

    def __init__(self) -> None:
        self.run: dict[str, float] = {}
        self.memory: dict[str, float] = {}
        self.failing: float | None = 0.1
        self.calibrated = frozenset({"run", "memory", "failing", "late"})
        self.learned: list[Attempt] = []
        self.hang: Callable[[], object] = lambda: None
        self.own: set[str] = set()
        self.operations: Table[str, None] = Table(1_000, lambda _name: None)

    def __call__(self, *_args: object, **_options: object) -> FixedModels:
        """Return itself, in the place of a new `Models`."""
        return self

    def learn(self, attempt: Attempt) -> None:
        self.hang()
        self.learned.append(attempt)

    def asks_own(self, operation: str) -> bool:
        return operation in self.own

    def outlook(self, sample: Sample, *, own: bool = True) -> Outlook | None:
        if sample.operation in self.own and not own:
            return None
        run, memory = self.run.get(sample.operation), self.memory.get(sample.operation)
        if run is None and memory is None:
            return None
        basis = ("features", "operation") if sample.features else ("operation",)
        return Outlook(
            None if run is None else spread(run), None if memory is None else spread(memory), self.failing, basis, 500,
            0.95, self.calibrated, "cells 1", {"bytes": 2.0},  # type: ignore[arg-type]
        )  # fmt: skip

    def calibration(self, _operation: str = "") -> tuple[()]:
        return ()


class Clock:
    """A clock that a test can set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


class Foreseeing:
    """A gate with fixed predictions.

    Attributes:
        gate: the gate.
        predict: its plugin.
        models: what it expects.
        clock: of the gate.
        people: those who ask it.
    """

    def __init__(self, gate: Gate, predict: Predict, models: FixedModels, clock: Clock) -> None:
        self.gate = gate
        self.predict = predict
        self.models = models
        self.clock = clock
        self.people = People(gate)

    def look(self, seconds: float = 0.0) -> None:
        """Let time pass, and have the rules looked at."""
        self.clock.ahead += seconds
        on_system_loop(self.gate, self.predict._look)

    @property
    def all(self) -> list[Intervention]:
        """The interventions, the oldest first."""
        return list(self.predict._open.interventions.values())

    def states(self, token: Token[Any] | None = None) -> list[str]:
        """Return the states of the interventions, or of those about a token."""
        return [one.state for one in self.all if token is None or one.target.id == token.id]


def on_system_loop(gate: Gate, work: Callable[[], Any]) -> None:
    """Run a coroutine function on the system loop, and raise what it raises."""
    over = threading.Event()
    raised: list[BaseException] = []
    host = gate._system.system_host

    async def run() -> None:
        try:
            await work()
        except BaseException as error:
            raised.append(error)
            if not isinstance(error, Exception):
                raise
        finally:
            over.set()

    host.call_soon(lambda: host.start_task(run, "look of a test"))
    assert over.wait(LIMIT)
    for error in raised:
        raise error


@contextmanager
def foreseeing(
    monkeypatch: pytest.MonkeyPatch,
    *rules: Rule,
    run: Mapping[str, float] | None = None,
    plugins: tuple[Plugin, ...] = (),
    config: Path | None = None,
    processes: int | None = None,
    **options: Any,
) -> Iterator[Foreseeing]:
    """Open a gate with rules and with fixed predictions.

    Args:
        monkeypatch: replaces what learns.
        rules: in force.
        run: {operation: seconds that its tokens run at p50}.
        plugins: others that it has.
        config: its file.
        processes: how many child processes it keeps.
        options: of `Predict`.
    """
    models, clock = FixedModels(), Clock()
    models.run |= run or {}
    monkeypatch.setattr("tokengate.predict._plugin.Models", models)
    monkeypatch.setattr("tokengate.predict._model_directory.read_models", lambda *_args: ())
    monkeypatch.setattr("tokengate.predict._model_directory.write_models", lambda *_args: None)
    monkeypatch.setattr("tokengate.predict._actor._SECONDS", 1e6)
    predict = Predict(rules=rules, **{"budget": "1000/min, 100%", **options})
    gate = Gate("seer", plugins=[predict, *plugins], config=config, threads=2, processes=processes)
    gate._new_system.keywords["clock"] = clock
    gate._renew()
    with gate:
        yield Foreseeing(gate, predict, models, clock)
