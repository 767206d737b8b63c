"""One target of one operation: which estimator answers, its bounds, and those of estimators of the user."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, Literal

import pytest
from predicted_calls import Call, Run, coverage, parts, run

from tokengate.predict._models import Models
from tokengate.predict._own import Own
from tokengate.predict._point import point_of
from tokengate.predict._sample import Attempt, Sample


def calls(
    number: int, take: Callable[[random.Random, float], float], seed: int = 1, *, features: bool = True
) -> Iterator[Call]:
    """Yield calls with a size between 256 and 256 Ki, which take what a function of that says, in seconds."""
    chance = random.Random(seed)
    for _ in range(number):
        size = 2 ** chance.uniform(8, 18)
        sample = Sample("work", features={"bytes": size} if features else {})
        yield Call(sample, take(chance, size), "work")


def linear(chance: random.Random, size: float) -> float:
    """Return a microsecond a byte, give or take a third."""
    return 1e-6 * size * math.exp(chance.gauss(0.0, 0.3))


class Mine:
    """An estimator that says what a function of the sample does."""

    target: Literal["run", "memory"] = "run"

    def __init__(self, say: Callable[[Sample], Any]) -> None:
        self.say = say
        self.learned: list[Sample] = []
        self.asked = 0

    def learn(self, sample: Sample, /) -> None:
        self.learned.append(sample)

    def predict(self, sample: Sample, /) -> Any:
        self.asked += 1
        return self.say(sample)


def answering(found: Run) -> str:
    (row,) = [row for row in found.models.calibration("work") if row.target == "run"]
    return row.estimator


def is_calibrated(found: Run) -> bool:
    (row,) = [row for row in found.models.calibration("work") if row.target == "run"]
    return row.calibrated


# Which answers


def test_29_records_are_none_and_30_are_numbers() -> None:
    """Case 1; weights do not help."""
    found, sample = Models(notice=lambda *_: None), Sample("work")
    for number in range(30):
        assert found.outlook(sample) is None, number
        found.learn(Attempt(sample, run=1.0, weight=50))
    outlook = found.outlook(sample)
    assert outlook is not None
    assert outlook.run is not None

    assert outlook.run.p50 == pytest.approx(1.0, rel=0.03)
    assert outlook.n == 30
    assert outlook.at(None, None).run is not None


def test_the_estimator_with_the_least_loss_answers() -> None:
    """The line, where durations follow sizes; cells, where there is nothing to follow."""
    assert answering(run(list(calls(600, linear)))) == "line"
    assert answering(run(list(calls(600, linear, features=False)))) == "cells"


def test_without_features_basis_says_so() -> None:
    """Case 5; with them it names what answered."""
    with_features, without = run(list(calls(300, linear))), run(list(calls(300, linear, features=False)))
    first = with_features.models.outlook(Sample("work", features={"bytes": 1000.0}))
    second = without.models.outlook(Sample("work"))
    third = with_features.models.outlook(Sample("work"))
    assert first is not None
    assert second is not None
    assert third is not None

    assert first.basis == ("features", "operation")
    assert list(first.factors) == ["bytes"]
    assert second.basis == third.basis == ("operation",)
    assert dict(second.factors) == dict(third.factors) == {}


@pytest.mark.parametrize(("name", "features"), [("line", True), ("cells", False)])
def test_factors_multiply_to_the_prediction(name: str, features: bool) -> None:
    """Case 24: with what is expected of the usual call of the operation."""
    models, chance = Models(("tenant",), notice=lambda *_: None), random.Random(3)
    for number in range(600):
        size, tenant = 2 ** chance.uniform(8, 18), "acme" if number % 3 else "other"
        sample = Sample("work", tags={"tenant": tenant}, features={"bytes": size} if features else {})
        models.learn(Attempt(sample, run=linear(chance, size) * (1 if features or tenant == "other" else 9)))
    outlook = models.outlook(Sample("work", tags={"tenant": "acme"}, features={"bytes": 1e6} if features else {}))
    target = models.operations["work"].targets["run"]
    assert outlook is not None
    assert outlook.run is not None
    if features:
        line: Any = target.contenders[1].estimator
        usual = math.exp(sum(a * b for a, b in zip(line.known.weights, line.known.usual, strict=True)))
    else:
        log = target.contenders[0].estimator.predict(point_of(Sample("work"), ()))
        assert log is not None
        usual = math.exp(log)

    assert outlook.model.startswith(name)
    assert math.prod(outlook.factors.values()) * usual == pytest.approx(outlook.run.p50)
    assert outlook.factors.keys() == ({"bytes"} if features else {"tenant=acme"})


def test_features_that_say_nothing_are_not_shown_as_if_they_did() -> None:
    """Durations do not follow them: what factors there are, are next to 1."""
    found = run(list(calls(1_000, lambda chance, _: math.exp(chance.gauss(0.0, 0.5)))))
    outlook = found.models.outlook(Sample("work", features={"bytes": 2.0**17}))
    assert outlook is not None

    assert all(0.8 < factor < 1.25 for factor in outlook.factors.values())


# Bounds

DRAWS: dict[str, Callable[[random.Random, float], float]] = {
    "log-normal": lambda chance, _: chance.lognormvariate(0.0, 0.7),
    "heavy tail": lambda chance, _: chance.paretovariate(0.9),
    "two modes": lambda chance, _: chance.choice([0.01, 0.01, 3.0]) * chance.lognormvariate(0.0, 0.1),
    "constant": lambda *_: 0.125,
    "by size": linear,
}


@pytest.mark.parametrize("name", DRAWS)
def test_p95_covers_95_percent(name: str) -> None:
    """Case 2, within 1.5 points, for a third of the predictions within 8; that of a constant is the constant."""
    found = run(list(calls(2_000, DRAWS[name])))

    if name == "constant":
        assert {round(one.p95, 12) for one in found.judged} == {0.125}
    else:
        assert coverage(found.judged) == pytest.approx(0.95, abs=0.015)
        assert min(coverage(part) for part in parts(found.judged, 3, lambda one: one.p50)) > 0.87
    assert is_calibrated(found)
    assert found.drifts == []


def test_one_wild_outlier_moves_p50_by_under_1_percent() -> None:
    """Case 6; it moves p95 no more than any other that was missed."""
    known = list(calls(500, linear))
    sample = Sample("work", features={"bytes": 5000.0})
    plain, hit = run(known).models, run([*known, Call(sample, 1e7, "work")]).models
    before, after = plain.outlook(sample), hit.outlook(sample)
    assert before is not None
    assert before.run is not None
    assert after is not None
    assert after.run is not None

    assert after.run.p50 == pytest.approx(before.run.p50, rel=0.01)
    assert after.run.p95 == pytest.approx(before.run.p95, rel=0.1)


@pytest.mark.parametrize("factor", [3.0, 1 / 3])
@pytest.mark.parametrize("features", [True, False])
def test_a_jump_is_told_once_and_bounds_hold(factor: float, features: bool) -> None:
    """Case 3: coverage of 90 % over the first 300, above 92 % after 100, and p50 follows."""
    before = list(calls(1_000, linear if features else DRAWS["log-normal"], features=features))
    after = [
        Call(one.sample, one.seconds * factor, one.group)
        for one in calls(500, linear if features else DRAWS["log-normal"], 2, features=features)
    ]
    found = run([*before, *after])
    late = found.judged[-500:]

    assert [number > 1_000 for _, number in found.drifts] == [True]
    assert coverage(late[:300]) >= 0.9
    assert coverage(late[100:]) >= 0.92
    assert sum(one.call.seconds > one.p50 for one in late[100:]) / 400 == pytest.approx(0.5, abs=0.1)


def test_a_drift_leaves_the_newest_25_residuals() -> None:
    """Of each estimator; the others are of what calls were before."""
    known = [Call(one.sample, one.seconds * 3, one.group) for one in calls(60, linear, 2)]
    found = run([*calls(1_000, linear), *known])
    ((_, before),) = found.drifts
    windows = [one.window.newest for one in found.models.operations["work"].targets["run"].contenders]

    assert [len(newest) for newest in windows] == [25 + 1_060 - before - 1] * 2


def test_after_a_drift_200_records_are_needed() -> None:
    """Then predictions are calibrated again."""
    known = list(calls(1_000, linear))
    jumped = [Call(one.sample, one.seconds * 4, one.group) for one in calls(600, linear, 2)]

    assert is_calibrated(run(known))
    assert not is_calibrated(run([*known, *jumped[:150]]))
    assert is_calibrated(run([*known, *jumped]))


def test_sizes_that_drift_over_five_octaves_keep_coverage_in_thirds() -> None:
    """All large ones come last."""
    chance, known = random.Random(4), []
    for number in range(3_000):
        size = 2 ** (10 + 5 * number / 3_000 + chance.gauss(0.0, 0.3))
        known.append(Call(Sample("work", features={"bytes": size}), linear(chance, size), "work"))
    found = run(known)

    assert coverage(found.judged) == pytest.approx(0.95, abs=0.015)
    assert min(coverage(part) for part in parts(found.judged, 3, lambda one: one.p50)) > 0.9


def test_tags_with_300_records_have_bounds_of_their_own() -> None:
    """Calls of one tenant are all alike, those of another are not; below 300, bounds are those of all."""
    chance, models = random.Random(5), Models(("tenant",), notice=lambda *_: None)

    def width(tenant: str) -> float:
        outlook = models.outlook(Sample("work", tags={"tenant": tenant}))
        assert outlook is not None
        assert outlook.run is not None
        return outlook.run.p95 / outlook.run.p50

    for number in range(600):
        for tenant, spread in (("calm", 0.05), ("wild", 1.0)):
            models.learn(Attempt(Sample("work", tags={"tenant": tenant}), run=chance.lognormvariate(0.0, spread)))
        if number == 280:
            assert width("calm") == pytest.approx(width("wild"), rel=0.2)

    assert width("calm") < 1.2
    assert width("wild") > 3.0


# Estimators of the user


def test_a_better_estimator_answers() -> None:
    """Case 12: it knows the curve; bounds are made from its own residuals, and coverage stays."""
    bent = list(calls(1_500, lambda chance, size: (size % 1000 + 10) * math.exp(chance.gauss(0.0, 0.1))))
    found = run(bent, estimators=[Mine(lambda sample: sample.features["bytes"] % 1000 + 10)])

    assert answering(found) == "Mine"
    assert is_calibrated(found)
    assert coverage(found.judged) == pytest.approx(0.95, abs=0.015)
    assert found.judged[-1].p95 / found.judged[-1].p50 < 1.4


def test_a_worse_estimator_does_not_answer() -> None:
    """Case 12: nothing of what is said changes."""
    known = list(calls(800, linear))
    plain, found = run(known), run(known, estimators=[Mine(lambda _: 1.0)])

    assert [(one.p50, one.p95) for one in found.judged] == [(one.p50, one.p95) for one in plain.judged]


def test_one_that_speaks_only_where_it_is_easy_does_not_answer() -> None:
    """Small files have hardly any noise: it is off by little there, but the line is off by less."""
    known = list(
        calls(900, lambda chance, size: 1e-6 * size * math.exp(chance.gauss(0.0, 0.02 if size < 2_000 else 1.0)))
    )
    picky = Mine(lambda sample: 1.3e-6 * sample.features["bytes"] if sample.features["bytes"] < 2_000 else None)
    found = run(known, estimators=[picky])

    assert answering(found) == "line"


def test_of_equal_ones_the_first_answers() -> None:
    """Cells, then the line, then those of the user in their order."""
    both = [Mine(lambda sample: sample.features["bytes"] * 1e-6) for _ in range(2)]
    found = run(list(calls(300, lambda _, size: size * 1e-6)), estimators=both)
    target = found.models.operations["work"].targets["run"]
    losses = [one.scores.loss for one in target.contenders]

    assert losses[2] == losses[3]
    assert [one for one in target.standing.ranking if one in target.contenders[2:]] == list(target.contenders[2:])


@pytest.mark.parametrize(
    "bad",
    [None, math.nan, math.inf, -1.0, "soon", True, [1.0]],
    ids=["raises", "nan", "inf", "negative", "text", "bool", "list"],
)
def test_one_that_raises_or_answers_nonsense_three_times_is_switched_off(bad: Any) -> None:
    """Case 12: the rest goes on, and it is said once, with the reason."""
    said: list[tuple[str, str, Any]] = []

    def say(_: Sample) -> Any:
        if bad is None:
            raise OSError("no disk")
        return bad

    own = Mine(say)
    models = Models(estimators=[own], notice=lambda *what: said.append(what))
    for one in calls(100, linear):
        models.learn(Attempt(one.sample, run=one.seconds))
    outlook = models.outlook(Sample("work"))

    assert own.asked == 3
    assert [(kind, operation, details["estimator"]) for kind, operation, details in said] == [
        ("model.estimator_off", "work", "Mine")
    ]
    assert ("OSError: no disk" if bad is None else repr(bad)) in said[0][2]["why"]
    assert outlook is not None


def test_one_that_is_switched_off_is_no_longer_asked_for() -> None:
    """It was the best until it failed."""
    mine = Mine(lambda sample: sample.features["bytes"] % 1000 + 10)
    known = list(calls(600, lambda chance, size: (size % 1000 + 10) * math.exp(chance.gauss(0.0, 0.1))))
    models = run(known, estimators=[mine]).models
    assert models.asks_own("work")
    mine.say = lambda _: math.nan
    for one in known[:3]:
        models.learn(Attempt(one.sample, run=one.seconds))

    assert not models.asks_own("work")
    assert models.outlook(known[0].sample, own=False) is not None


def test_one_that_is_slow_three_times_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a millisecond, three times in a row; what is so once in a while may only have waited for its turn."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    point = point_of(Sample("work"), ())

    def asked(seconds: Callable[[int], float], number: int) -> Own:
        def say(_: Sample) -> float:
            now[0] += seconds(mine.asked)
            return 1.0

        mine = Mine(say)
        own = Own(mine)
        for _ in range(number):
            own.predict(point)
        return own

    assert asked(lambda _: 0.0011, 3).off == "predict() took 1.1 ms"
    assert asked(lambda _: 0.0011, 2).off == ""
    assert asked(lambda _: 0.0009, 1_000).off == ""
    assert asked(lambda number: 0.5 * (number % 3 > 0), 1_000).off == ""
    assert asked(lambda number: 0.5 * (number > 900), 1_000).off == "predict() took 500.0 ms"


def test_one_that_lies_has_wide_bounds_and_is_never_calibrated() -> None:
    """It hides the rest by silence of cells and line: there are none here."""
    chance, lies = random.Random(6), random.Random(7)
    liar = Mine(lambda _: lies.lognormvariate(0.0, 2.0))
    models = Models(estimators=[liar], notice=lambda *_: None)
    own = models.operations.use("work").targets["run"].contenders[2]
    for _ in range(1_000):
        models.learn(Attempt(Sample("work"), run=chance.lognormvariate(0.0, 0.1)))
    target = models.operations["work"].targets["run"]
    target.contenders = (own,)
    target.settle([], judge=True)
    said = target.said(point_of(Sample("work"), ()), own=True)
    assert said is not None

    assert own.scores.coverage == pytest.approx(0.95, abs=0.02)
    assert said[0].p95 / said[0].expected > 10
    assert "third" in target.standing.why_not
    assert not said[3]


def test_what_it_learns_has_the_value() -> None:
    """And what it is asked has not."""
    asked: list[Sample] = []

    def say(sample: Sample) -> None:
        asked.append(sample)

    mine = Mine(say)
    models = Models(estimators=[mine], notice=lambda *_: None)
    sample = Sample("work", affinity="cpu", priority=3, tags={"tenant": "acme"}, features={"bytes": 5.0})
    models.learn(Attempt(sample, run=2.0))

    assert asked == [sample]
    (learned,) = mine.learned
    assert learned.value == pytest.approx(2.0)
    assert learned.features == sample.features


def test_it_is_not_asked_where_code_of_users_may_not_run() -> None:
    """The next best answers then, and is not calibrated."""
    mine = Mine(lambda sample: sample.features["bytes"] % 1000 + 10)
    known = list(calls(600, lambda chance, size: (size % 1000 + 10) * math.exp(chance.gauss(0.0, 0.1))))
    models = run(known, estimators=[mine]).models
    asked, sample = mine.asked, Sample("work", features={"bytes": 5000.0})
    outlook = models.outlook(sample, own=False)
    assert outlook is not None

    assert models.asks_own("work")
    assert not models.asks_own("other")
    assert mine.asked == asked
    assert outlook.model.split()[0] in ("cells", "line")
    assert "run" not in outlook.calibrated
    assert models.outlook(sample) is not None
    assert mine.asked == asked + 1


class _Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class _Odd(float):
    def __gt__(self, _other: object) -> bool:
        raise RuntimeError("no order")

    def __repr__(self) -> str:
        raise _Mute


HOSTILE: dict[str, Any] = {
    "error without a text": _Mute(),
    "exit": SystemExit(3),
    "generator exit": GeneratorExit(),
    "too large": Fraction(10**400),
    "nan without a repr": _Odd("nan"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_whatever_an_estimator_does_it_is_switched_off_and_learning_goes_on(what: str) -> None:
    """Case 12, with errors and numbers of classes that are code of the user, too."""
    hostile = HOSTILE[what]

    def say(_: Sample) -> Any:
        if isinstance(hostile, BaseException):
            raise hostile
        return hostile

    said: list[Any] = []
    models = Models(estimators=[Mine(say)], notice=lambda *what: said.append(what))
    for one in calls(60, linear):
        models.learn(Attempt(one.sample, run=one.seconds))

    assert [kind for kind, *_ in said] == ["model.estimator_off"]
    assert models.operations["work"].attempts == 60
