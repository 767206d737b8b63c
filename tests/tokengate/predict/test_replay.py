"""Predictions on history: each is made before its attempt is learned; and what is written for others to learn from."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tokengate.control.messages import Event
from tokengate.predict import Sample
from tokengate.predict._replay import TOTAL, Evaluation, export
from tokengate.predict._sample import Target


def event(number: int, run: float, operation: str = "parse", **fields: Any) -> Event:
    given: dict[str, Any] = {
        "seq": number, "kind": "token.finished", "at": 1e9 + number, "gate": "shop", "gate_run": "7f3a91c2",
        "text": "", "token": number, "uid": f"7f3a91c2.{number}", "operation": operation,
        "actor": f"operations/{operation}", "affinity": "cpu", "attempt": 1, "state": "completed", "priority": 0,
        "age": run, "wait": 0.0, "run": run, "held": 0.0, "weight": 1, "worker": "t", "steps": 0,
    }  # fmt: skip
    return Event(**{**given, **fields})


def sized(number: int, seed: int = 27) -> Iterator[Event]:
    """Yield attempts that take as long as their size says, within a factor."""
    chance = random.Random(seed)
    for n in range(number):
        size = chance.lognormvariate(8.0, 2.0)
        run = size * 1e-5 * chance.lognormvariate(0.0, 0.3)
        yield event(n, run, features={"bytes": size}, memory=int(2**20 * (50 + size / 1000)))


class Perfect:
    """An estimator that knows what each attempt takes."""

    target: Target = "run"

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.learned: list[float] = []

    def learn(self, sample: Sample, /) -> None:
        self.learned.append(sample.features["bytes"])

    def predict(self, sample: Sample, /) -> float | None:
        size = sample.features["bytes"]
        assert size not in self.learned
        self.asked.append(size)
        return size * 1e-5


def test_each_attempt_is_predicted_before_it_is_learned() -> None:
    """In the order of time; an estimator of one's own that is better answers, with a smaller loss."""
    plain, own = Evaluation(), Evaluation(estimators=[perfect := Perfect()])
    for one in (plain, own):
        one.run(sized(1_500))
    [before] = [row for row in plain.rows() if (row.operation, row.target) == ("parse", "run")]
    [after] = [row for row in own.rows() if (row.operation, row.target) == ("parse", "run")]

    assert set(perfect.asked) == set(perfect.learned)
    assert (before.estimator, after.estimator) == ("line", "Perfect")
    assert after.loss <= before.loss < 0.5 * (before.plain or 0.0)
    assert after.loss == pytest.approx(0.3 * math.sqrt(2 / math.pi) / 2, rel=0.1)


class Poor(Perfect):
    """An estimator that is wrong by a factor."""

    def predict(self, sample: Sample, /) -> float | None:
        return sample.features["bytes"] * 1e-3


class Broken(Perfect):
    """An estimator with a bug."""

    def predict(self, sample: Sample, /) -> float | None:
        return sample.features["pages"]


def test_each_estimator_of_ones_own_is_told_to_be_better_or_worse_with_both_losses() -> None:
    """Than the best that is built in, over the latest 500; and why one was switched off."""
    evaluation = Evaluation(estimators=[Perfect(), Poor(), Broken()])
    evaluation.run(sized(200))
    rows = evaluation.rows()
    losses = next(row.losses for row in rows if (row.operation, row.target) == ("parse", "run"))
    line = f"{losses['line']:.3g}, over the latest 500"

    assert losses["line"] < losses["cells"]
    assert [*evaluation.verdicts(rows)][:3] == [
        "Broken was switched off: it raised KeyError: 'pages'",
        f"Perfect is better than line for run of parse: a loss of {losses['Perfect']:.3g}, and {line}",
        f"Poor is worse than line for run of parse: a loss of {losses['Poor']:.3g}, and {line}",
    ]
    assert losses["Perfect"] < losses["line"] < losses["Poor"]
    assert [*Evaluation().verdicts(rows)] == []


def test_rows_have_coverage_in_all_of_the_worst_500_and_by_thirds() -> None:
    """A row for each operation and target, and one for all operations."""
    found = Evaluation()
    found.run(sized(1_500))
    rows = {(row.operation, row.target): row for row in found.rows()}

    assert list(rows) == [(TOTAL, "memory"), (TOTAL, "run"), ("parse", "memory"), ("parse", "run")]
    run = rows["parse", "run"]
    assert 1_400 <= run.n < 1_500  # the first ones are not predicted
    assert run.coverage == pytest.approx(0.95, abs=0.015)
    assert len(run.thirds) == 3
    assert run.worst is not None
    assert 0.92 <= run.worst <= run.coverage
    assert min(run.thirds) > 0.9
    assert run.over == pytest.approx(math.exp(0.3 * 1.645), rel=0.15)
    assert rows[TOTAL, "run"].n == run.n
    assert rows[TOTAL, "run"].loss == pytest.approx(run.loss)


def test_a_jump_of_all_durations_is_a_drift() -> None:
    """It is counted for the operation, and for all."""
    found = Evaluation()
    found.run(event(n, (0.1 if n < 600 else 1.0) * (1 + n % 7 / 10)) for n in range(1_200))

    assert [(row.operation, row.drifts) for row in found.rows()] == [(TOTAL, 1), ("parse", 1)]


def test_weights_count_and_what_was_cut_short_does_not() -> None:
    """A record that stands for four tokens is four; one that an operator has ended says too little."""
    found = Evaluation()
    found.run(event(n, 1.0 + n % 5, weight=4) for n in range(100))
    before = {row.operation: row.n for row in found.rows()}
    found.run(event(n, 0.001, state="terminated", error="TokenTerminated") for n in range(100, 120))

    assert before["parse"] % 4 == 0
    assert before["parse"] >= 4 * (100 - 30)
    assert {row.operation: row.n for row in found.rows()} == before


def test_below_30_records_there_is_nothing_to_show() -> None:
    """To have no prediction is a valid answer; what is missing is told all the same."""
    found = Evaluation()
    gap = Event(seq=0, kind="telemetry.lost", at=1e9, gate="shop", gate_run="7f3a91c2", text="12 records are missing")
    found.run([gap, *(event(n, 1.0) for n in range(29))])

    assert found.rows() == ()
    assert found.lacks() == ("12 records are missing",)


def test_probabilities_are_told_of_each_operation() -> None:
    """What was predicted beside what was seen, of the latest 500."""
    found = Evaluation()
    found.run(event(n, 1.0, **({"state": "failed", "error": "OSError"} if n % 10 == 0 else {})) for n in range(600))
    [row] = found.probabilities()

    assert (row.operation, row.target) == ("parse", "failing")
    assert row.coverage == pytest.approx(0.1, abs=0.02)
    assert sum(row.predicted) / 3 == pytest.approx(0.1, abs=0.03)


def test_export_has_what_predictions_are_made_from_and_says_what_is_missing() -> None:
    """An object a line; of an attempt that failed or was cut short it says so."""
    gap = Event(
        seq=0, kind="telemetry.lost", at=1e9, gate="shop", gate_run="7f3a91c2", text="12 records are missing: disk",
        details={"since": 1.0, "lost": 12},
    )  # fmt: skip
    events = [
        event(1, 2.0, features={"bytes": 7.0}, tags={"tenant": "acme"}, memory=2**20, deadline=5.0),
        gap,
        event(2, 0.5, state="failed", error="OSError", weight=3),
        event(3, 0.5, state="terminated", error="TokenTerminated"),
        Event(seq=9, kind="actor.started", at=1e9, gate="shop", gate_run="7f3a91c2", text="it has"),
    ]

    counts = export(events, file := io.BytesIO())
    first, missing, second, third = [msgspec.json.decode(line) for line in file.getvalue().splitlines()]

    assert first == {
        "uid": "7f3a91c2.1", "gate": "shop", "at": 1e9 + 1, "operation": "parse", "affinity": "cpu", "priority": 0,
        "attempt": 1, "state": "completed", "tags": {"tenant": "acme"}, "features": {"bytes": 7.0}, "wait": 0.0,
        "run": 2.0, "memory": 2**20, "deadline": 5.0, "error": "", "cut_short": False, "weight": 1,
    }  # fmt: skip
    assert missing == {
        "missing": {"at": 1e9, "gate": "shop", "text": "12 records are missing: disk", "since": 1.0, "lost": 12}
    }
    assert (second["error"], second["cut_short"], second["weight"]) == ("OSError", False, 3)
    assert (third["error"], third["cut_short"]) == ("", True)
    assert counts == {
        "attempts": 3, "without features": 2, "without memory": 2, "that stand for several": 1, "gaps": 1,
    }  # fmt: skip
