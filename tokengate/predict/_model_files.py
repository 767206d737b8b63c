"""Files of what was learned: JSON, one for each estimator of a target of an operation. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from tokengate.predict._cells import Cell, Cells, Key
from tokengate.predict._failures import CLASSES, Failures
from tokengate.predict._line import MOST as FEATURES
from tokengate.predict._line import Known, Line, triangle
from tokengate.predict._models import Models, OperationModel, Probability
from tokengate.predict._outcomes import JUDGED, Scores, latest
from tokengate.predict._point import Tags
from tokengate.predict._residuals import KEPT, Drift, Window
from tokengate.predict._sample import Target
from tokengate.predict._target import Contender, Standing
from tokengate.telemetry._out_file import written

MOST: Final = 4 * 2**20
"""Bytes of a file."""

_ENDING: Final = ".model.json"
_UNITS: Final = {"cells": "octave", "line": "log1p"}  # {kind: what its features are counted in}
_TARGETS: Final[Mapping[Target, Literal["seconds", "bytes"]]] = {"run": "seconds", "memory": "bytes"}
_FOREIGN: Final = "learned by another gate"
_REMEDY: Final = "remove it, or put back the one that the gate wrote"

_Number = Annotated[float, Meta(ge=-1e9, le=1e9)]
_Amount = Annotated[float, Meta(ge=0, le=1e15)]
_Count = Annotated[int, Meta(ge=0, le=2**53)]
_Weight = Annotated[int, Meta(ge=1, le=10**9)]
_Log = Annotated[float, Meta(ge=-100, le=100)]
_Kept = Annotated[list[tuple[_Log, _Weight]], Meta(max_length=KEPT)]
_Outcome = Annotated[float, Meta(ge=0, le=1)]
_Entries = Annotated[list[tuple[_Number, _Outcome, _Weight]], Meta(max_length=JUDGED)]
_Row = Annotated[list[_Number], Meta(min_length=1, max_length=FEATURES + 1)]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _Feature(_Part, frozen=True):
    name: str
    unit: str


class _Cell(_Part, frozen=True):
    tags: list[tuple[str, str]]
    octaves: list[tuple[str, int]]
    records: _Count
    buckets: Annotated[
        dict[Annotated[int, Meta(ge=-9_999, le=9_999)], Annotated[float, Meta(gt=0, le=1e15)]], Meta(min_length=1)
    ]


class _Line(_Part, frozen=True):
    origin: Annotated[list[_Number], Meta(max_length=FEATURES)]
    weights: _Row
    usual: _Row
    covariance: Annotated[list[_Number], Meta(min_length=1)]
    variance: _Amount
    records: _Count


class _Residuals(_Part, frozen=True):
    level: Annotated[float, Meta(ge=0, le=2)]
    newest: _Kept
    failed: _Kept
    of_tags: list[tuple[list[tuple[str, str]], _Kept]]


class _Scores(_Part, frozen=True):
    learned: _Count
    latest: Annotated[list[tuple[_Number | None, _Outcome, _Weight, _Amount]], Meta(max_length=JUDGED)]


class _Changes(_Part, frozen=True):
    drifts: _Count
    since: _Count
    drift: tuple[_Count, _Number, _Amount, _Amount, _Amount]
    why_not: str


class _Operation(_Part, frozen=True):
    attempts: _Count
    calls: _Amount
    failed: _Amount
    classes: Annotated[dict[str, _Amount], Meta(max_length=CLASSES)]
    failing: _Entries
    late: _Entries
    cut_short: _Entries
    why_not: Mapping[Probability, str]


class ModelFile(_Part, frozen=True):
    """What one file says.

    Attributes:
        format: of the file.
        kind: of the estimator.
        gate: name of the gate that wrote it.
        operation: the operation.
        target: what is estimated.
        unit: of that.
        features: with their units; of a line, in the order of its weights.
        weights: of a line; or the cells, the longest unused first.
        residuals: what leads to bounds.
        scores: how right the estimator was.
        changes: when calls have changed.
        rest: what else is known of the operation; in one of its files.
        since: when it began to learn, seconds since the epoch.
        to: when it was written.
        n: records.
        digest: SHA-256 of all the rest.
    """

    format: Literal[1]
    kind: Literal["cells", "line"]
    gate: str
    operation: str
    target: Target
    unit: Literal["seconds", "bytes"]
    features: Annotated[list[_Feature], Meta(max_length=1_000)]
    weights: list[_Cell] | _Line
    residuals: _Residuals
    scores: _Scores
    changes: _Changes
    rest: _Operation | None
    since: _Amount = msgspec.field(name="from")
    to: _Amount
    n: _Count
    digest: str = ""


_Cells: TypeAlias = list[tuple[Key, Cell]]
_Windows: TypeAlias = list[tuple[Tags, Window]]


# Writing


def write_models(folder: Path, models: Models, gate: str) -> None:
    """Write all that was learned; on any thread, while models learn.

    Args:
        folder: where; it is made if it is not there.
        models: what was learned.
        gate: name of the gate.

    Raises:
        OSError: a file could not be written; those before it are.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    cells: dict[tuple[str, str], list[tuple[Key, Cell]]] = defaultdict(list)
    for key, cell in models.cells.rows():
        cells[key[:2]].append((key, cell))
    windows: dict[Contender, list[tuple[Tags, Window]]] = defaultdict(list)
    for (contender, tags), window in models.windows.rows():
        windows[contender].append((tags, window))
    for operation, model in models.operations.rows():
        name = re.sub(r"[^\w.-]", "_", operation, flags=re.ASCII)[:80]
        number = hashlib.sha256(operation.encode(errors="backslashreplace")).hexdigest()[:12]
        for target, one in model.targets.items():
            for contender in one.contenders:
                if contender.learned and isinstance(contender.estimator, Cells | Line):
                    state = partial(_state, gate, operation, model, target, contender)
                    data = _encoded(state, cells[target, operation], windows[contender])
                    with written(folder / f"{name}-{number}.{target}.{contender.estimator.name}{_ENDING}") as file:
                        file.write(data)


def _encoded(state: Callable[[_Cells, _Windows], ModelFile], cells: _Cells, windows: _Windows) -> bytes:
    """Return a file; without the cells and windows that were longest unused, if it were too large."""
    while True:
        try:
            found = msgspec.to_builtins(state(cells, windows), str_keys=True)
        except RuntimeError:  # a collection has changed while it was read
            continue
        data = json.dumps(found | {"digest": _digest(found)}, allow_nan=False).encode()
        if len(data) <= MOST:
            return data
        cells, windows = cells[(len(cells) + 1) // 2 :], windows[(len(windows) + 1) // 2 :]


def _digest(found: dict[str, Any]) -> str:
    rest = {name: value for name, value in found.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _state(
    gate: str,
    operation: str,
    model: OperationModel,
    target: Target,
    contender: Contender,
    cells: _Cells,
    windows: _Windows,
) -> ModelFile:
    """Return what one file says.

    Raises:
        RuntimeError: a collection has changed while it was read.
    """
    one, line = model.targets[target], contender.estimator
    drift = one.drift
    is_line = isinstance(line, Line)
    if isinstance(line, Line):
        known, covariance = line.known, line.covariance
        if len(covariance) != triangle(len(known.weights)):
            raise RuntimeError("the line has got one more feature")
        names = list(known.names)
        weights: _Line | list[_Cell] = _Line(
            list(known.origin), list(known.weights), list(known.usual), covariance, line.variance, line.records
        )
    else:
        names = list(dict.fromkeys([name for (_, _, _, octaves), _ in cells for name, _ in octaves]))
        weights = [
            _Cell(list(tags), list(octaves), cell.records, dict(cell.buckets)) for (_, _, tags, octaves), cell in cells
        ]
    kind: Literal["cells", "line"] = "line" if is_line else "cells"
    return ModelFile(
        format=1,
        kind=kind,
        gate=gate,
        operation=operation,
        target=target,
        unit=_TARGETS[target],
        features=[_Feature(name, _UNITS[kind]) for name in names],
        weights=weights,
        residuals=_Residuals(
            contender.level,
            list(contender.window.newest),
            list(contender.failed.newest),
            [(list(tags), list(window.newest)) for tags, window in windows],
        ),
        scores=_Scores(contender.learned, list(contender.scores.latest)),
        changes=_Changes(
            one.drifts, one.since, (drift.known, drift.mean, drift.variance, drift.up, drift.down), one.standing.why_not
        ),
        rest=None
        if is_line or target != "run"
        else _Operation(
            model.attempts,
            model.failures.calls,
            model.failures.failed,
            dict(model.failures.classes),
            list(model.failing),
            list(model.late),
            list(model.cut_short),
            model.why_not,
        ),
        since=model.since,
        to=time.time(),
        n=one.n,
    )


# Reading


def read_models(folder: Path, models: Models, gate: str) -> tuple[str, ...]:
    """Have models know what is in the files of a folder; before they learn.

    Args:
        folder: of the files.
        models: what is to know it.
        gate: name of the gate; what another one has learned serves, but is not calibrated.

    Returns:
        Why files were refused, each with its name, what is wrong, and what to do. A file is taken whole or not at all.
    """
    problems = []
    for path in sorted(folder.glob(f"*{_ENDING}")):
        try:
            _restore(models, read(path), gate)
        except (OSError, ValueError) as error:
            problems.append(str(error))
    for _, model in models.operations.rows():
        for one in model.targets.values():
            one.settle(model.cut_short, judge=False)
    return tuple(problems)


def read(path: Path) -> ModelFile:
    """Return what a file says.

    Raises:
        ValueError: it is not as the gate writes it; the text names the file, what is wrong, and what to do.
        OSError: it cannot be read.
    """
    try:
        if not path.is_file():
            raise ValueError("it is no regular file")
        with path.open("rb") as file:
            data = file.read(MOST + 1)
        if len(data) > MOST:
            raise ValueError(f"it has more than {MOST:,} bytes")
        found = json.loads(data, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite)
        if not isinstance(found, dict) or found.get("digest") != _digest(found):
            raise ValueError("its digest is not that of what it says")
        one = msgspec.convert(found, ModelFile, str_keys=True)
        _check(one)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the model file '{path}' is refused: {error}; {_REMEDY}") from None
    return one


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


def _check(one: ModelFile) -> None:
    """Check what types do not say.

    Raises:
        ValueError: something does not fit together.
    """
    names = [feature.name for feature in one.features]
    wrong = [feature.unit for feature in one.features if feature.unit != _UNITS[one.kind]]
    if wrong:
        raise ValueError(
            f"the unit {wrong[0]!r} of a feature is unknown to {one.kind}; it must be {_UNITS[one.kind]!r}"
        )
    if one.unit != _TARGETS[one.target]:
        raise ValueError(f"{one.target} is in {one.unit}; it must be in {_TARGETS[one.target]}")
    if len(set(names)) < len(names):
        raise ValueError(f"features has a name twice: {', '.join(names)}")
    if isinstance(one.weights, _Line) != (one.kind == "line"):
        raise ValueError(f"its weights are none of the kind {one.kind!r}")
    if isinstance(one.weights, _Line):
        line, size = one.weights, len(names) + 1
        lengths = {len(line.origin) + 1, len(line.weights), len(line.usual)}
        if lengths != {size} or len(line.covariance) != triangle(size):
            raise ValueError(f"its weights are not those of {len(names)} features")
    else:
        unknown = {name for cell in one.weights for name, _ in cell.octaves}.difference(names)
        if unknown:
            raise ValueError(f"the feature {min(unknown)!r} is unknown: features has {', '.join(names) or 'none'}")


def _restore(models: Models, one: ModelFile, gate: str) -> None:
    """Have models know what a file says."""
    model = models.operations.use(one.operation)
    target = model.targets[one.target]
    contender = next(contender for contender in target.contenders if contender.estimator.name == one.kind)
    estimator, residuals, is_ours = contender.estimator, one.residuals, one.gate == gate
    if isinstance(one.weights, _Line) and isinstance(estimator, Line):
        line = one.weights
        names = tuple([feature.name for feature in one.features])
        estimator.known = Known(names, tuple(line.origin), tuple(line.weights), tuple(line.usual))
        estimator.covariance, estimator.variance, estimator.records = line.covariance, line.variance, line.records
    elif not isinstance(one.weights, _Line):
        for cell in one.weights:
            key = (one.target, one.operation, tuple(cell.tags), tuple(cell.octaves))
            models.cells.use(key).restore(cell.buckets, cell.records)
    contender.learned = one.scores.learned
    contender.restore(residuals.level, residuals.newest, residuals.failed)
    contender.scores = Scores(
        score if is_ours else (None, 0.0, weight, loss) for score in one.scores.latest for _, _, weight, loss in [score]
    )
    for tags, newest in residuals.of_tags:
        window = models.windows.use((contender, tuple(tags)))
        for residual, weight in newest:
            window.add(residual, weight)
    target.n, target.drifts, target.since = one.n, one.changes.drifts, one.changes.since if is_ours else 0
    target.drift = Drift(*one.changes.drift)
    target.standing = Standing((), one.changes.why_not if is_ours else _FOREIGN)
    model.since = min(model.since, one.since)
    if one.rest is not None:
        rest = one.rest
        model.attempts, model.failures = rest.attempts, Failures(rest.calls, rest.failed, rest.classes)
        model.failing, model.late = latest(rest.failing if is_ours else ()), latest(rest.late if is_ours else ())
        model.cut_short = latest(rest.cut_short)
        model.why_not = rest.why_not if is_ours else dict.fromkeys(rest.why_not, _FOREIGN)
