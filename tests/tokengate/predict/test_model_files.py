"""Files of what was learned: the same predictions after a restart, and what is refused."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tokengate.predict._model_files import MOST, read, read_models, write_models
from tokengate.predict._models import Models
from tokengate.predict._sample import Attempt, Sample


def models_of() -> Models:
    return Models(("tenant",), notice=lambda *_: None)


def sample_of(chance: random.Random) -> Sample:
    features = {"bytes": 2 ** chance.uniform(8, 18), "depth": float(chance.randrange(5))}
    return Sample(chance.choice(["parse", "a/b <c>.d"]), tags={"tenant": chance.choice("ab")}, features=features)


def attempts(number: int, seed: int = 1) -> Iterator[Attempt]:
    """Yield calls that take a microsecond a byte, and three times as much from the 1,800th on."""
    chance = random.Random(seed)
    for one in range(number):
        sample = sample_of(chance)
        run = 1e-6 * sample.features["bytes"] * chance.lognormvariate(0.0, 0.3) * (3 if one >= 1_800 else 1)
        error = "ValueError" if chance.random() < 0.1 else ""
        memory = 1e6 * chance.lognormvariate(0.0, 0.1)
        yield Attempt(sample, run, memory, error, one % 50 == 0, one % 2 * 9 + 1, 0.05)


def teach(models: Models, number: int, seed: int = 1) -> None:
    for attempt in attempts(number, seed):
        models.learn(attempt)


@pytest.fixture(scope="module")
def known() -> Models:
    """Models that have learned of 2,400 calls."""
    models = models_of()
    teach(models, 2_400)
    return models


@pytest.fixture(scope="module")
def written(known: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what they know, which stays as it is."""
    folder = tmp_path_factory.mktemp("known") / "models"
    write_models(folder, known, "shop")
    return folder


@pytest.fixture
def two(written: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two files of it in a folder of their own: the line, and the cells, of the same operation."""
    found = []
    for kind in ("line", "cells"):
        (path,) = written.glob(f"parse-*.run.{kind}.model.json")
        found.append(Path(shutil.copy(path, tmp_path)))
    return found[0], found[1]


def restarted(folder: Path, gate: str = "shop") -> Models:
    models = models_of()
    assert read_models(folder, models, gate) == ()
    return models


def said(models: Models, seed: int = 9) -> list[Any]:
    """Return what is expected of calls, before and while they run."""
    chance, found = random.Random(seed), []
    for _ in range(50):
        outlook = models.outlook(sample_of(chance))
        assert outlook is not None
        found += [outlook.at(None, None), outlook.at(0.01, 0.1), outlook.calibrated]
    return found


def rows(models: Models) -> list[Any]:
    return [
        (
            row.operation,
            row.target,
            row.n,
            row.thirds,
            row.calibrated,
            row.why,
            row.estimator,
            row.drifts,
            row.since_drift,
        )
        for row in models.calibration()
    ]


def test_after_a_restart_predictions_and_calibration_are_the_same(known: Models, written: Path) -> None:
    """Case 8: of each operation, its run, memory, failures and deadlines."""
    models = restarted(written)

    assert said(models) == said(known)
    assert rows(models) == rows(known)
    assert {"run", "memory"} <= models.outlook(sample_of(random.Random(1))).calibrated  # type: ignore[union-attr]


def test_after_a_restart_it_learns_as_it_would_have(tmp_path: Path) -> None:
    """Also amid a drift: what comes is judged, learned and told alike."""
    first, known = models_of(), list(attempts(2_000))
    for attempt in known[:1_808]:
        first.learn(attempt)
    write_models(tmp_path, first, "shop")
    second = restarted(tmp_path)
    for attempt in known[1_808:]:
        first.learn(attempt)
        second.learn(attempt)

    assert said(second) == said(first)
    assert rows(second) == rows(first)
    assert sorted(row.drifts for row in first.calibration() if row.target == "run") == [1, 1]


def test_what_another_gate_has_learned_serves_but_is_not_calibrated(known: Models, written: Path) -> None:
    """Until 200 records of this one."""
    models = restarted(written, "other")
    before, after = known.outlook(sample_of(random.Random(1))), models.outlook(sample_of(random.Random(1)))
    assert before is not None
    assert after is not None

    assert (after.run, after.memory) == (before.run, before.memory)
    assert (after.calibrated, after.coverage) == (frozenset(), None)
    assert {row.why for row in models.calibration()} == {"learned by another gate"}
    teach(models, 390, 4)
    assert not models.outlook(sample_of(random.Random(1))).calibrated & {"run", "memory"}  # type: ignore[union-attr]
    teach(models, 400, 5)
    assert "memory" in models.outlook(sample_of(random.Random(1))).calibrated  # type: ignore[union-attr]


def test_files_are_for_their_user_alone(written: Path) -> None:
    """In a folder that is, too; nothing unfinished is left."""
    assert stat.S_IMODE(written.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in written.iterdir()} == {0o600}
    assert len(list(written.iterdir())) == len(list(written.glob("*.model.json"))) == 8


def test_a_file_says_what_it_is(written: Path) -> None:
    """Its kind, gate, operation, features with their units, weights, residuals, times, scores."""
    (path,) = written.glob("parse-*.run.line.model.json")
    found = json.loads(path.read_text())

    assert [found[name] for name in ("format", "kind", "gate", "operation", "target", "unit")] == [
        1,
        "line",
        "shop",
        "parse",
        "run",
        "seconds",
    ]
    assert found["features"] == [{"name": "bytes", "unit": "log1p"}, {"name": "depth", "unit": "log1p"}]
    assert len(found["residuals"]["newest"]) == 300
    assert found["from"] <= found["to"]
    assert found["n"] > 1000
    assert found["weights"]["weights"][1] == pytest.approx(1.0, abs=0.1)


def sealed(found: dict[str, Any]) -> bytes:
    """Return a file with the right digest."""
    rest = {name: value for name, value in found.items() if name != "digest"}
    return json.dumps(rest | {"digest": hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()}).encode()


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """Return what changes a file, and seals it again: only its digest is right."""

    def edit(data: bytes) -> bytes:
        found = json.loads(data)
        change(found)
        return sealed(found)

    return edit


def set_at(value: Any, *way: str | int) -> Callable[[bytes], bytes]:
    def change(found: dict[str, Any]) -> None:
        place: Any = found
        for step in way[:-1]:
            place = place[step]
        place[way[-1]] = value

    return edited(change)


BAD: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "tampered": (
        lambda data: data.replace(b'"variance": ', b'"variance": 1'),
        "its digest is not that of what it says",
    ),
    "no digest": (lambda data: json.dumps({"format": 1}).encode(), "its digest"),
    "cut off": (lambda data: data[:1000], "Unterminated|Expecting|delimiter"),
    "empty": (lambda data: b"", "Expecting value"),
    "not text": (lambda data: b"\xff\xfe\x80", "can't decode"),
    "no object": (lambda data: b"[1, 2]", "its digest"),
    "NaN": (lambda data: data.replace(b'"variance": ', b'"variance": NaN, "v": '), "NaN is no finite number"),
    "infinity": (lambda data: data.replace(b'"variance": ', b'"variance": -Infinity, "v": '), "-Infinity is no finite"),
    "too large a number": (
        lambda data: data.replace(b'"variance": ', b'"variance": 1e999, "v": '),
        "1e999 is no finite",
    ),
    "doubled key": (
        lambda data: data.replace(b'{"format": 1', b'{"format": 1, "format": 1'),
        "'format' is there twice",
    ),
    "doubled key below": (lambda data: data.replace(b'"level":', b'"level": 1.0, "level":'), "'level' is there twice"),
    "oversized": (lambda data: data + b" " * MOST, "it has more than 4,194,304 bytes"),
    "deep": (lambda data: b"[" * 100_000, "recursion"),
    "many digits": (lambda data: data.replace(b'"n": ', b'"n": ' + b"9" * 5000), "digits"),
    "unknown kind": (set_at("forest", "kind"), "'forest'.*kind"),
    "other kind": (set_at("cells", "kind"), "unit 'log1p' of a feature is unknown to cells; it must be 'octave'"),
    "unknown format": (set_at(2, "format"), "2.*format"),
    "unknown field": (set_at(1, "more"), "unknown field `more`"),
    "missing field": (edited(lambda found: found.pop("n")), "missing required field `n`"),
    "unknown target": (set_at("disk", "target"), "'disk'.*target"),
    "wrong unit": (set_at("bytes", "unit"), "run is in bytes; it must be in seconds"),
    "unknown unit of a feature": (set_at("pages", "features", 0, "unit"), "the unit 'pages' of a feature is unknown"),
    "unknown feature": (
        edited(lambda found: found["features"].append({"name": "wings", "unit": "log1p"})),
        "3 features",
    ),
    "feature twice": (set_at("depth", "features", 0, "name"), "features has a name twice: depth, depth"),
    "weights missing": (edited(lambda found: found["weights"]["weights"].pop()), "not those of 2 features"),
    "covariance of others": (edited(lambda found: found["weights"]["covariance"].pop()), "not those of 2 features"),
    "text for a number": (set_at("1", "weights", "weights", 0), "Expected `float`, got `str`.*weights"),
    "flag for a number": (set_at(True, "n"), "Expected `int`, got `bool`.*n`"),
    "negative": (set_at(-1, "n"), ">= 0.*n`"),
    "too large": (set_at(1e300, "weights", "weights", 0), "<= 1000000000.*weights"),
    "too many residuals": (set_at([[0.0, 1]] * 301, "residuals", "newest"), "length <= 300"),
    "weight of 0": (set_at([[0.0, 0]], "residuals", "newest"), ">= 1.*newest"),
    "level": (set_at(5.0, "residuals", "level"), "<= 2.*level"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_whole(name: str, two: tuple[Path, Path]) -> None:
    """Case 9: the text has file, value and remedy; the other files of the folder serve."""
    edit, reason = BAD[name]
    path, _ = two
    path.write_bytes(edit(path.read_bytes()))
    models = models_of()
    (problem,) = read_models(path.parent, models, "shop")

    with pytest.raises(ValueError, match=f"(?is){reason}") as caught:
        read(path)
    assert str(caught.value) == problem
    assert problem.startswith(f"the model file '{path}' is refused: ")
    assert problem.endswith("; remove it, or put back the one that the gate wrote")
    assert models.operations["parse"].targets["run"].contenders[1].learned == 0
    assert models.operations["parse"].targets["run"].contenders[0].learned > 0


@pytest.mark.parametrize(
    ("way", "value", "reason"),
    [
        (("weights", 0, "buckets"), {}, "length >= 1"),
        (("weights", 0, "buckets"), {"1": 0.0}, "> 0"),
        (("weights", 0, "buckets"), {"99999": 1.0}, "<= 9999"),
        (("weights", 0, "octaves"), [["wings", 3]], "the feature 'wings' is unknown: features has bytes, depth"),
        (("weights",), {"origin": []}, "Object missing required field|its weights"),
        (("rest", "classes"), {str(one): 1.0 for one in range(33)}, "length <= 32"),
        (("rest", "failing"), [[0.5, 1.0, 1]] * 501, "length <= 500"),
    ],
)
def test_bad_cells_are_refused(two: tuple[Path, Path], way: tuple[Any, ...], value: Any, reason: str) -> None:
    """The same of the other kind."""
    _, path = two
    path.write_bytes(set_at(value, *way)(path.read_bytes()))

    with pytest.raises(ValueError, match=reason):
        read(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """It is not waited for."""
    (tmp_path / "a.model.json").mkdir()

    assert "it is no regular file" in read_models(tmp_path, models_of(), "shop")[0]
    assert read_models(tmp_path / "missing", models_of(), "shop") == ()


def test_a_model_that_would_be_too_large_leaves_out_what_was_unused(tmp_path: Path) -> None:
    """Of 3,000 cells with long tags, the newest fit."""
    models = models_of()
    for number in range(3_000):
        models.learn(Attempt(Sample("work", tags={"tenant": f"{number}-{'x' * 2_000}"}), run=1.0))
    write_models(tmp_path, models, "shop")
    again = restarted(tmp_path)

    assert all(path.stat().st_size <= MOST for path in tmp_path.iterdir())
    assert 500 < len(again.cells) < 3_000
    assert next(reversed(again.cells)) == next(reversed(models.cells))


def test_models_can_be_written_while_they_learn(tmp_path: Path) -> None:
    """Each file is one that can be read."""
    models, over = models_of(), threading.Event()

    def learn() -> None:
        number = 0
        while not over.is_set():
            number += 1
            teach(models, 20, number)

    teach(models, 700)
    thread = threading.Thread(target=learn)
    thread.start()
    try:
        for _ in range(3):
            write_models(tmp_path, models, "shop")
            restarted(tmp_path)
    finally:
        over.set()
        thread.join()


def test_estimators_of_the_user_are_not_kept(tmp_path: Path) -> None:
    """They keep what they know themselves."""

    class Mine:
        target: Any = "run"

        def learn(self, sample: Sample, /) -> None: ...

        def predict(self, sample: Sample, /) -> float:
            return 1.0

    models = Models(estimators=[Mine()], notice=lambda *_: None)
    for _ in range(50):
        models.learn(Attempt(Sample("work"), run=1.0))
    write_models(tmp_path, models, "shop")

    assert [path.name.split(".", 1)[1] for path in tmp_path.iterdir()] == ["run.cells.model.json"]
