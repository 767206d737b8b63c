"""The plugin: what tokens and operations show, a predictor that hangs, and a gate without it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from gated_code import LIMIT
from predictions import Foreseeing

from actors import Observer, Quantiles
from tokengate import Gate, Policy, token
from tokengate.control import BadRequest, BadSelector
from tokengate.control.registry import Plugin
from tokengate.errors import BadStateDirectory
from tokengate.predict import Predict, Rule, Sample
from tokengate.predict._kinds import Interventions, Rules

Open = Callable[..., AbstractContextManager[Foreseeing]]


@token(features=lambda text: {"letters": len(text)})
def count(text: str) -> int:
    return len(text)


@token
def waits(opened: threading.Event) -> None:
    assert opened.wait(LIMIT)


def test_tokens_and_operations_say_what_is_expected(open_gate: Open) -> None:
    """A call that is only asked about is not submitted."""
    with open_gate(run={"count": 2.0}) as seen:
        expected = count.predict("abc")
        assert expected is not None
        assert expected.run == Quantiles(2.0, 4.0)
        assert expected.basis == ("features", "operation")
        assert seen.models.learned == []
        one = count.submit("abc")
        assert one.predicted is not None
        assert one.predicted.run == Quantiles(2.0, 4.0)
        assert one.result(LIMIT) == 3


def test_to_have_no_prediction_is_a_valid_answer(open_gate: Open) -> None:
    """Of an operation that nothing is known of, without the plugin, and without a gate."""
    assert count.predict("abc") is None
    with open_gate():
        assert count.predict("abc") is None
        assert count.submit("abc").predicted is None
    with Gate("plain", threads=2) as gate:
        assert count.predict("abc") is None
        assert count.submit("abc").predicted is None
        with pytest.raises(BadSelector, match="Predict"):
            gate.control.tokens("run.p95>2s")
        with pytest.raises(BadRequest, match="Predict"):
            gate.control.estimate("*", run=1)


def test_while_a_token_runs_its_numbers_are_those_of_tokens_that_ran_so_long(
    open_gate: Open, opened: threading.Event
) -> None:
    """And none, once none of the past ran so long."""
    with open_gate(run={"waits": 10.0}) as seen:
        one = waits.submit(opened)
        while one.started_at is None:
            pass
        seen.clock.ahead += 15
        found = one.predicted
        assert found is not None
        assert found.run is not None
        assert 15 < found.run.p50 < 20
        assert found.run.p95 >= found.run.p50

        seen.clock.ahead += 100
        assert one.predicted is not None
        assert one.predicted.run is None


def test_a_token_with_a_deadline_says_how_likely_it_misses_it(open_gate: Open, opened: threading.Event) -> None:
    """Also one with a time limit for its attempt; without either it is not known."""
    with open_gate(run={"waits": 10.0}):
        tokens = [
            waits.with_options(policy=policy).submit(opened)
            for policy in (Policy(deadline=10), Policy(timeout=5), Policy(deadline=300), None)
        ]
        late = [one.predicted.timeout_probability for one in tokens]  # type: ignore[union-attr]

    assert late[0] == pytest.approx(0.55, abs=0.03)
    assert late[1] == pytest.approx(0.8, abs=0.03)
    assert late[2] == 0
    assert late[3] is None


def test_an_estimate_is_in_selectors_and_is_undone_and_not_learned(open_gate: Open, opened: threading.Event) -> None:
    """It caps the median, too."""
    with open_gate(run={"waits": 10.0}) as seen:
        one = waits.submit(opened)
        while one.started_at is None:
            pass
        assert not len(seen.gate.control.tokens("run.p95>1m"))
        seen.gate.control.estimate(one.id, run="2m", memory="2GiB")
        assert [row.id for row in seen.gate.control.tokens("run.p95>1m,memory.p95>1GiB")] == [one.id]
        assert one.predicted is not None
        assert one.predicted.basis == ("operation", "operator")

        seen.gate.control.estimate(one.id, run=4)
        assert one.predicted.run == Quantiles(4, 4)
        seen.gate.control.estimate(one.id, run="none", memory="none")
        assert one.predicted.basis == ("operation",)
        opened.set()
        one.result(LIMIT)
        seen.gate._stream.flush()  # type: ignore[union-attr]
        assert [attempt.sample.operation for attempt in seen.models.learned] == ["waits"]


def test_records_have_features_and_what_was_predicted_of_those_that_were_asked_about(open_gate: Open) -> None:
    """Never arguments."""
    with open_gate(run={"count": 2.0}) as seen, seen.gate.control.watch(kinds=("token.finished",)) as feed:
        seen.gate.register(count)
        seen.gate.control.suspend("count")
        one = count.submit("abc")
        one.predicted  # noqa: B018  # it asks
        seen.gate.control.unsuspend("count")
        event = next(iter(feed))

        assert event.features == {"letters": 3.0}
        assert event.predicted is not None
        assert (event.predicted["run.p50"], event.predicted["run.p95"]) == (2.0, 4.0)
        assert event.steered is None


def test_without_the_plugin_no_feature_is_computed() -> None:
    """Nor in a gate whose other plugins are there."""
    calls = []

    @token(features=lambda: calls.append(1) or {})  # type: ignore[func-returns-value]
    def plain() -> None: ...

    with Gate("plain", threads=2) as gate:
        plain.submit().result(LIMIT)
        plain()
        assert gate._system.predictor is None
        assert gate._system.intake == ()
    assert calls == []


class Own:
    """An estimator of the user."""

    target = "run"

    def learn(self, sample: Sample) -> None: ...

    def predict(self, sample: Sample) -> float | None:
        return 1.0


def test_a_predictor_that_hangs_holds_up_no_token_and_no_freeze_and_health_says_so(
    open_gate: Open, opened: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs in C code, on the thread that learns."""
    rule = Rule(name="long", select="operation=waits,overrun>2", do="pause", mode="act", budget="99/s, 100%")
    with open_gate(rule, run={"waits": 1.0}, estimators=[Own()]) as seen:
        bolt = threading.Lock()
        bolt.acquire()
        hangs = threading.Event()

        def hang() -> None:
            hangs.set()
            bolt.acquire()

        seen.models.hang = hang
        count.submit("abc").result(LIMIT)
        assert hangs.wait(LIMIT)
        try:
            assert count.submit("abcd").result(LIMIT) == 4
            tokens = [waits.with_options().submit(opened) for _ in range(2)]
            seen.gate.control.freeze(reason="a test")
            seen.look(10)
            assert {one.state.value for one in tokens} <= {"running", "queued"}
            health = seen.gate.control.health()
            [part] = [one for one in health.parts if one.name == "predict"]
            assert part.status == "degraded"
            assert "hangs" in part.why
        finally:
            seen.models.hang = lambda: None
            bolt.release()


def test_a_predictor_that_raises_is_told_once_and_tokens_go_on(
    open_gate: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """Until it learns again."""

    def fail() -> None:
        raise RuntimeError("no")

    with open_gate() as seen:
        seen.models.hang = fail
        for _ in range(3):
            assert count.submit("abc").result(LIMIT) == 3
            seen.gate._stream.flush()  # type: ignore[union-attr]
        [part] = [one for one in seen.gate.control.health().parts if one.name == "predict"]
        assert part.why == "prediction cannot learn: RuntimeError"
        assert len([one for one in caplog.records if "could not learn" in one.getMessage()]) == 1

        seen.models.hang = lambda: None
        count.submit("abc").result(LIMIT)
        seen.gate._stream.flush()  # type: ignore[union-attr]
        [part] = [one for one in seen.gate.control.health().parts if one.name == "predict"]
        assert part.status == "ok"


def test_models_that_raise_are_no_error_of_what_asks(open_gate: Open) -> None:
    """Tokens, lists and rules go on without a prediction, and health says why."""
    with open_gate(run={"count": 2.0}) as seen:

        def fail(*_args: object, **_options: object) -> None:
            raise RuntimeError("no")

        seen.models.outlook = fail  # type: ignore[method-assign, assignment]
        assert count.predict("abc") is None
        one = count.submit("abc")
        assert one.predicted is None
        assert len(seen.gate.control.tokens("run.p95>1s")) == 0
        assert one.result(LIMIT) == 3
        [part] = [one for one in seen.gate.control.health().parts if one.name == "predict"]
        assert part.why == "prediction fails: RuntimeError; see the log of the gate"


def test_an_estimator_of_the_user_is_never_asked_on_the_system_loop(open_gate: Open, opened: threading.Event) -> None:
    """Selectors see what it says once it was asked on the thread that learns."""
    with open_gate(run={"waits": 10.0}, estimators=[Own()]) as seen:
        seen.models.own.add("waits")
        one = waits.submit(opened)
        while not len(seen.gate.control.tokens("run.p95>15s")):
            assert not one.done()


BAD: dict[str, dict[str, Any]] = {
    "tags": {"tags": (1,)},
    "mode": {"mode": "try"},
    "budget": {"budget": "many"},
    "rules": {"rules": ["a"]},
    "estimators": {"estimators": [object()]},
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_argument_is_an_error_that_names_it(name: str) -> None:
    """With the value and the remedy."""
    with pytest.raises(ValueError, match=name):
        Predict(**BAD[name])


def test_two_rules_of_one_name_are_an_error() -> None:
    """One of the file has the place of one of the code; two of the code are a mistake."""
    one = Rule(name="a", select="overrun>2", do="pause")
    with pytest.raises(ValueError, match="two rules have this name"):
        Predict(rules=[one, one])


def test_the_plugin_returns_the_rows_that_its_commands_show(open_gate: Open) -> None:
    """Of rules, as of interventions."""
    with open_gate(Rule(name="long", select="operation=count,run.p50>1s", do="renice -1")) as seen:
        (row,) = seen.predict.rules()

        assert (row.name, row.mode, row.in_force) == ("long", "observe", "observe")
        assert seen.predict.interventions() == ()


def test_a_name_that_nothing_has_is_an_error_that_lists_the_rules(open_gate: Open) -> None:
    """A pattern, too; a state that no intervention is in is none."""
    with open_gate(*(Rule(name=name, select="overrun>2", do="pause") for name in ("long", "late"))) as seen:
        ask = seen.gate.control.ask
        assert [row.name for row in ask(Rules("lo*"))] == ["long"]
        assert ask(Interventions("long")) == ask(Interventions("active")) == ask(Interventions("*")) == ()
        for message in (Rules("lang"), Rules("x*"), Interventions("lang")):
            with pytest.raises(BadRequest, match=r"there is no rule '.*'; the rules are: long, late"):
                ask(message)
        with pytest.raises(BadRequest, match="and the states: observed, proposed"):
            ask(Interventions("lang"))
    with open_gate() as seen:
        assert seen.gate.control.ask(Rules("*")) == ()
        with pytest.raises(BadRequest, match="the rules are: there are none"):
            seen.gate.control.ask(Rules("lang"))


def test_a_directory_of_models_that_cannot_be_used_opens_no_gate(tmp_path: Path) -> None:
    """The error says why, and what to do."""
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(BadStateDirectory, match="cannot be used"):
        Gate("seer", plugins=[Predict(models=file)]).open()


def test_what_cannot_be_a_directory_of_models_is_told_with_the_remedy(tmp_path: Path) -> None:
    """A file, one that others may read, and what is no path."""
    (tmp_path / "file").touch()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    said = {"file": "it is no directory; name another directory", "open": r"open to others \(mode 755\); chmod 700$"}
    for name, why in said.items():
        with pytest.raises(BadStateDirectory, match=why):
            Gate("seer", plugins=[Predict(models=tmp_path / name)], control_socket=False).open()
    with pytest.raises(ValueError, match="models of Predict is 3; it must be the path of a directory, or None"):
        Predict(models=3)  # type: ignore[arg-type]


def test_a_directory_of_models_serves_one_gate_at_a_time(tmp_path: Path) -> None:
    """Two gates would overwrite what the other has learned; the next one may have it, also after a failed opening."""

    class Failing(Plugin):
        needs = (Predict,)

        def observer(self, _gate: object, /) -> Observer | None:
            raise ValueError("it cannot be opened")

    with Gate("first", plugins=[Predict(models=tmp_path / "m")], control_socket=False):
        with pytest.raises(BadStateDirectory, match="a gate that is open keeps what it has learned there"):
            Gate("second", plugins=[Predict(models=tmp_path / "m")], control_socket=False).open()
        with pytest.raises(ValueError, match="it cannot be opened"):
            Gate("third", plugins=[Predict(models=tmp_path / "n"), Failing()], control_socket=False).open()
    for name in ("m", "n"):
        with Gate("fourth", plugins=[Predict(models=tmp_path / name)], control_socket=False):
            pass
