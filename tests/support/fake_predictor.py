"""A predictor that says what a test has set: `gate._system.predictor = FakePredictor()`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from actors import Prediction, Quantiles, Token

EXPECTED = Prediction(
    run=Quantiles(30.0, 62.0),
    memory=Quantiles(300 * 2**20, 512 * 2**20),
    failure_probability=0.04,
    timeout_probability=0.125,
    basis=("features", "tags"),
    n=1_234,
    coverage=0.943,
    calibrated=True,
    model="line-7",
    factors={"bytes": 3.14, "tenant=acme": 1.2},
)


class FakePredictor:
    """Says the same of each token.

    Args:
        prediction: what is expected of it.
        fields: {field of selectors: its value}; others are not known.

    Attributes:
        asked: the fields that were asked for.
        estimates: {id of a token: what an operator has set}.
    """

    def __init__(self, prediction: Prediction | None = EXPECTED, **fields: Any) -> None:
        self.prediction = prediction
        self.fields: dict[str, Any] = fields
        self.asked: list[str] = []
        self.estimates: dict[int, dict[str, float | None]] = {}

    def predicted(self, _token: Token[Any]) -> Prediction | None:
        return self.prediction

    def predict(self, *_call: Any) -> Prediction | None:
        return self.prediction

    def shown(self, token: Token[Any], _now: float) -> Prediction | None:
        run = self.estimates.get(token.id, {}).get("run")
        if run is None or self.prediction is None:
            return self.prediction
        return attrs.evolve(self.prediction, run=Quantiles(min(run, 30.0), run), basis=("operator",))

    def expected(self, token: Token[Any]) -> Prediction | None:
        return self.shown(token, 0.0)

    def field(self, _token: Token[Any], name: str, _now: float) -> Any:
        self.asked.append(name)
        return self.fields.get(name)

    def estimate(self, token: Token[Any], changes: Mapping[str, float | None]) -> Mapping[str, float | None]:
        own = self.estimates.setdefault(token.id, {})
        before = {name: own.get(name) for name, value in changes.items() if own.get(name) != value}
        own.update(changes)
        return before
