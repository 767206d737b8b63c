"""The verb `estimate`: what operators say that a token will need, in the place of what is predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from callers import gates_of, grants
from fake_predictor import FakePredictor
from gated_code import LIMIT

from actors import Token
from tokengate import Gate, token
from tokengate.audit._read import read
from tokengate.control import BadRequest
from tokengate.errors import BadSelector


@token
def render() -> None: ...


@pytest.fixture
def predictor(gate: Gate) -> FakePredictor:
    made = gate._system.predictor = FakePredictor()
    return made


@pytest.fixture
def queued(gate: Gate) -> Iterator[Callable[[], Token[None]]]:
    """Make tokens that wait: their operation is suspended."""
    render.submit().result(LIMIT)
    gate.control.suspend("render")
    yield render.submit
    gate.control.unsuspend("render")


def words(outcomes: Any) -> list[tuple[str, str]]:
    return [(one.outcome, one.note) for one in outcomes]


def test_an_estimate_takes_the_place_of_what_is_predicted(
    gate: Gate, predictor: FakePredictor, queued: Callable[[], Token[None]]
) -> None:
    """Case 33: in Python, as numbers or as text, of each token that is meant; `ps` and `describe` show it."""
    first, second = queued(), queued()

    assert words(gate.control.estimate(first, run=600, memory=2 * 1024**3)) == [
        ("estimated", "run 600 s, was as predicted; memory 2 GiB, was as predicted")
    ]
    assert words(gate.control.estimate("operation=render", run="10m")) == [
        ("unchanged", "it has this estimate already"),
        ("estimated", "run 600 s, was as predicted"),
    ]
    assert predictor.estimates == {first.id: {"run": 600.0, "memory": 2**31}, second.id: {"run": 600.0}}
    [row, _] = [handle.row for handle in gate.control.tokens("operation=render")]
    assert (row.run_p50, row.run_p95) == (30.0, 600.0)
    expected = gate.control.describe(first).predicted
    assert expected is not None
    assert (expected.run_p95, expected.basis) == (600.0, ("operator",))


def test_one_of_both_is_set_and_undone_alone(
    gate: Gate, predictor: FakePredictor, queued: Callable[[], Token[None]]
) -> None:
    """`none` or None undoes it; what is not given stays; there is nothing to undo twice."""
    one = gate.control.token(queued().id)
    one.estimate(run="1h", memory="1GiB")

    assert words(one.estimate(run=None)) == [("estimated", "run as predicted, was 3600 s")]
    assert words(one.estimate(run="none")) == [("unchanged", "it has this estimate already")]
    assert predictor.estimates[one.id] == {"run": None, "memory": 2**30}
    assert words(one.estimate(memory="500MB")) == [("estimated", "memory 500 MB, was 1 GiB")]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "estimate needs run, memory or both, such as run=10m memory=2GiB; none undoes one"),
        ({"run": "soon"}, "run: 'soon' is not a time; write 30, 30s, 5m or 1h, or 'none' for what is predicted"),
        ({"run": 0}, "run is 0; it must be a number of seconds above 0, or 'none' for what is predicted"),
        ({"memory": "10m"}, "memory: '10m' is not a size"),
        ({"memory": 1.5}, "memory is 1.5; it must be a whole number of bytes above 0"),
        ({"run": float("nan")}, "run is nan; it must be a number of seconds"),
    ],
)
def test_a_value_that_cannot_work_is_refused_with_the_remedy(
    gate: Gate, predictor: FakePredictor, given: dict[str, Any], words: str
) -> None:
    """Before any token is looked for."""
    with pytest.raises(BadRequest, match=words):
        gate.control.estimate("*", **given)

    assert predictor.estimates == {}


def test_a_gate_without_the_plugin_names_it(gate: Gate, queued: Callable[[], Token[None]]) -> None:
    """Also in a dry run, and for no token."""
    one = queued()
    for select, more in ((one.id, {}), ("operation=none", {}), (one.id, {"dry_run": True})):
        with pytest.raises(BadRequest, match=r"estimate needs the plugin Predict; open .* plugins=\[Predict\(\)\]"):
            gate.control.estimate(select, run=5, **more)  # type: ignore[arg-type]


def test_a_token_that_has_ended_and_a_wrong_selector_are_told_as_by_other_verbs(
    gate: Gate, predictor: FakePredictor
) -> None:
    """Nothing is set."""
    sent = render.submit()
    sent.result(LIMIT)

    assert [one.outcome for one in gate.control.estimate([sent, 10**9], run=5)] == ["ended", "unknown"]
    with pytest.raises(BadSelector):
        gate.control.estimate("operation>render", run=5)
    assert predictor.estimates == {}


def test_an_estimate_is_on_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an intent with its values, and its outcome; the record of the token says that somebody has acted on it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with gates_of(tmp_path / "tokengate.toml", control_socket=False) as open_:
        gate = open_(grants(("uid:0 uid:10001", "admin")))
        gate._system.predictor = FakePredictor()
        render.submit().result(LIMIT)
        gate.control.suspend("render")
        sent = render.submit()
        gate.control.estimate(sent, run="10m", reason="a large one")
        assert sent._extras.steered_by == "process"
    [intent, outcome] = [
        one for one in read(tmp_path / "state/tokengate/shop/audit") if "estimate" in (one.get("verb"), one["kind"])
    ]

    assert (intent["args"], intent["reason"]) == ({"run": "10m", "memory": "keep"}, "a large one")
    assert (outcome["kind"], outcome["of"], outcome["outcome"]) == ("outcome", intent["seq"], {"estimated": 1})
