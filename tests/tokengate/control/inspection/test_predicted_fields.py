"""Fields of selectors that `Predict` knows: how they are written, what they match, and what a gate without it says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from fake_predictor import FakePredictor
from gated_code import LIMIT

from actors import ActorSystem, Token
from tokengate import Gate, token
from tokengate.config._sections import THROTTLES
from tokengate.control import Control
from tokengate.control._exceptions import BadRequest, BadSelector
from tokengate.control.inspection._selector import PREDICTED, RECORD_FIELDS, parse, parse_for
from tokengate.control.messages import Pause, Watch
from tokengate.control.registry import Plugin
from tokengate.control.steering._policies import file_of
from tokengate.control.stream._record import NO_MORE, Record
from tokengate.control.transport._client import ControlClient
from tokengate.errors import BadConfig
from tokengate.policy._file import PLACE_FIELDS

NEEDS: Final = "needs the plugin Predict; open the gate with plugins=[Predict()]"

# {field: a value of it, texts of a term that fits it, of one that does not}
FIELDS: Final[Mapping[str, tuple[Any, str, str]]] = {
    "run.p50": (3.0, "run.p50>2s", "run.p50<=2s"),
    "run.p95": (90.0, "run.p95>1m", "run.p95>1.5m"),
    "memory.p95": (2**30, "memory.p95>=1GiB", "memory.p95<512MiB"),
    "memory.share": (1.25, "memory.share>120%", "memory.share<0.9"),
    "failing": (0.3, "failing>=0.3", "failing>30%"),
    "late": (0.81, "late>80%", "late<0.5"),
    "gate.saturation": (0.95, "gate.saturation>0.9", "gate.saturation<90%"),
    "overrun": (5.5, "overrun>5", "overrun<=500%"),
    "retry_loop": ("yes", "retry_loop=yes", "retry_loop!=yes"),
    "leak": ("confirmed", "leak=confirmed", "leak=suspected"),
}
NUMBERS: Final = tuple(name for name in FIELDS if name not in ("retry_loop", "leak"))


def make_token(predictor: FakePredictor | None) -> Token[Any]:
    """A token of a system that was never opened."""
    system = ActorSystem("unopened", threads=2)
    system.predictor = predictor
    place = system.operation_place("operations/resize", "cpu", generator=False, concurrency=1)
    return place.token("resize", int, (), {})


def fits(text: str, predictor: FakePredictor | None) -> bool:
    return parse(text).matches(make_token(predictor), 1.0)


@token(affinity="io")
async def resize() -> None: ...


@pytest.fixture
def queued(gate: Gate) -> Iterator[list[Token[None]]]:
    """Two tokens that wait: their operation is suspended."""
    resize.submit().result(LIMIT)
    gate.control.suspend("resize")
    yield [resize.submit(), resize.submit()]
    gate.control.unsuspend("resize")


def test_the_examples_here_are_of_all_fields() -> None:
    """So that each test below is about each of them."""
    assert {*FIELDS} == {*PREDICTED}


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_is_what_the_predictor_says(name: str) -> None:
    """Times, sizes, shares and texts, each in the forms that people write; asked for only by its own terms."""
    value, true, false = FIELDS[name]
    predictor = FakePredictor(**{name: value})

    assert fits(true, predictor)
    assert not fits(false, predictor)
    assert fits(f"{name}=*", predictor)
    assert not fits(f"{name}!=*", predictor)
    assert {*predictor.asked} == {name}


@pytest.mark.parametrize("predictor", [None, FakePredictor()], ids=["no predictor", "nothing is known"])
@pytest.mark.parametrize("name", FIELDS)
def test_what_is_not_known_is_never_greater_less_or_equal(name: str, predictor: FakePredictor | None) -> None:
    """Case 11: no prediction, no action; it is always unequal."""
    ops = ("=", "!=") if name not in NUMBERS else (">", ">=", "<", "<=")
    value = {"retry_loop": "yes", "leak": "confirmed"}.get(name, "0")

    assert [op for op in ops if fits(f"{name}{op}{value}", predictor)] == ([] if name in NUMBERS else ["!="])
    assert not fits(f"{name}=*", predictor)
    assert fits(f"{name}!=*", predictor)


def test_a_selector_without_such_a_field_asks_no_predictor() -> None:
    """It costs what it has cost before."""
    predictor = FakePredictor()

    assert fits("operation=resize,attempt=1,tag.late!=yes", predictor)
    assert predictor.asked == []


@pytest.mark.parametrize(
    ("text", "part", "remedy"),
    [
        ("run.p95>soon", "'run.p95' is a time, not 'soon' at 'soon', character 9", "5m, 1h or 2d"),
        ("run.p50=3", "'run.p50' changes all the time, so '=' is not possible", "use >, >=, < or <="),
        ("memory.p95>2 apples", "a comma was expected", "quote"),
        ("memory.p95>2apples", "'memory.p95' is a size, not '2apples'", "512MiB, 2GiB or bytes"),
        ("late>80", "'late' is from 0 to 1, not '80'", "write 0.8 or 80%"),
        ("failing>101%", "'failing' is from 0 to 1", "write 0.8 or 80%"),
        ("gate.saturation>-1", "'gate.saturation' is a number, not '-1'", "write 0.8 or 80%"),
        ("memory.share=0.5", "'memory.share' changes all the time", "use >"),
        ("overrun>nan", "'overrun' is a number, not 'nan'", "write 0.8 or 80%"),
        ("retry_loop=true", "'retry_loop' is never 'true'", "it is one of yes, no"),
        ("leak>suspected", "'leak' is text, so '>' is not possible", "use = or !="),
        ("leak=sure", "'leak' is never 'sure'", "it is one of suspected, confirmed"),
    ],
)
def test_a_term_that_cannot_work_names_the_place_and_the_remedy(text: str, part: str, remedy: str) -> None:
    """Case 10, for the selector of a rule."""
    with pytest.raises(BadSelector, match=re.escape(part)) as caught:
        parse(text)

    assert remedy in str(caught.value)


@pytest.mark.parametrize("name", FIELDS)
def test_a_selector_of_places_has_none_of_them(name: str) -> None:
    """Policies and grants are of operations and actors, of which nothing is predicted."""
    with pytest.raises(BadSelector, match=f"'{re.escape(name)}' is not possible here"):
        parse(FIELDS[name][1], PLACE_FIELDS)


def test_a_tag_with_such_a_name_is_written_as_other_tags_with_names_of_fields_are() -> None:
    """With `tag.` before it, also in the normal form; then it needs no plugin."""
    selector = parse_for(None, "tag.late=yes,tag.run.p95=x")

    assert (selector.text, selector.predicted) == ("tag.late=yes,tag.run.p95=x", ())


# --- A gate without Predict ------------------------------------------------------------------------------------------


ASKED: Final[Mapping[str, Callable[[Control, str], object]]] = {
    "tokens": lambda control, select: control.tokens(select),
    "pause": lambda control, select: control.pause(select),
    "dry run": lambda control, select: control.terminate(select, dry_run=True),
    "renice": lambda control, select: control.renice(select, 5),
    "throttle": lambda control, select: control.throttle(select, rate=1),
    "lift": lambda control, select: control.lift(select),
    "flag": lambda control, select: control.set_flag(select, "observe"),
}


@pytest.mark.parametrize("verb", ASKED)
def test_each_verb_names_the_plugin_also_when_no_token_is_live(gate: Gate, verb: str) -> None:
    """A selector that never matches would say nothing for ever."""
    with pytest.raises(BadSelector, match=re.escape(f"selector 'run.p95>10m': 'run.p95' {NEEDS}")):
        ASKED[verb](gate.control, "run.p95>10m")

    assert (gate.control.throttles(), gate.control.flags()) == ((), ())


def test_so_does_a_watch(gate: Gate) -> None:
    """Although its records could have been predicted elsewhere."""
    with pytest.raises(BadSelector, match=re.escape(f"'late' {NEEDS}")):
        gate.find("$system/control").ask(Watch("late>80%"))


def test_so_does_the_socket() -> None:
    """The error is the same for the command line and the console."""
    with Gate("far", shutdown=LIMIT) as gate:
        assert gate._control_server is not None
        assert gate._control_server.path is not None
        with (
            ControlClient(gate._control_server.path, LIMIT) as client,
            pytest.raises(BadSelector, match=re.escape(f"'leak' {NEEDS}")),
        ):
            client.ask(Pause("leak=confirmed"))


def test_a_gate_that_predicts_finds_tokens_by_it(gate: Gate, queued: list[Token[None]]) -> None:
    """In lists, in verbs and in throttles."""
    gate._system.predictor = FakePredictor(late=0.9)

    assert len(gate.control.tokens("operation=resize,late>80%")) == 2
    assert list(gate.control.tokens("late<0.8")) == []
    assert [one.outcome for one in gate.control.renice("late>80%", 5)] == ["reniced", "reniced"]
    assert gate.control.throttle("late>80%", concurrency=1).selector == "late>80%"


def test_a_throttle_holds_the_tokens_that_are_predicted_so(gate: Gate, queued: list[Token[None]]) -> None:
    """It is asked about each token that waits, as about other fields."""
    predictor = gate._system.predictor = FakePredictor(failing=0.9)
    gate.control.throttle("failing>50%", rate=1, burst=1)
    gate.control.unsuspend("resize")
    for one in queued[:1]:
        one.result(LIMIT)

    [throttle] = gate.control.throttles()
    assert (throttle.waiting, predictor.asked[:1]) == (1, ["failing"])
    gate.control.lift("failing>50%")
    queued[1].result(LIMIT)


# --- The file --------------------------------------------------------------------------------------------------------

FILE: Final = """
[[throttle]]
select = "operation=resize,run.p95>10m"
rate = 5

[[flag]]
select = "leak=confirmed"
mode = "observe"
"""


def test_a_file_with_such_a_field_needs_the_plugin_too(tmp_path: Path) -> None:
    """At opening, each place with its line, and when it is read again; nothing changes then."""
    file = tmp_path / "tokengate.toml"
    file.write_text(FILE)
    with pytest.raises(BadConfig) as caught, Gate("shop", config=file, control_socket=False):
        pass

    assert [(one.line, NEEDS in one.remedy) for one in caught.value.problems] == [(3, True), (7, True)]
    file.write_text("")
    with Gate("shop", config=file, control_socket=False, shutdown=LIMIT) as gate:
        file.write_text(FILE)
        with pytest.raises(BadRequest, match=re.escape(NEEDS)):
            gate.control.reload()
        assert gate.control.throttles() == ()


def test_a_gate_with_the_plugin_reads_that_file(tmp_path: Path) -> None:
    """Also with a class that is derived from it; it goes by the name, since control imports no plugin."""
    file = tmp_path / "tokengate.toml"
    file.write_text(FILE)
    derived = type("Ours", (type("Predict", (Plugin,), {}),), {})

    assert [row.select for row in file_of(file, [derived()]).of(THROTTLES)] == ["operation=resize,run.p95>10m"]


# --- Records ---------------------------------------------------------------------------------------------------------


def record(predicted: Mapping[str, float] | None, took: float | None = 60.0) -> Record:
    started = None if took is None else 100.0
    return Record(
        1, "token.finished", 7, "resize", "operations/resize", "cpu", None, 0, {}, 1, 1, "completed", 90.0, 90.0,
        started, 100.0 + (took or 0.0), "", 1, NO_MORE._replace(predicted=predicted), "7f3a91c2",
    )  # fmt: skip


SAID: Final = {"run.p50": 10.0, "run.p95": 30.0, "memory.p95": 2.0**30, "failing": 0.25, "late": 0.9}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run.p50>=10s,run.p95<1m", True),
        ("memory.p95>512MiB", True),
        ("failing>25%", False),
        ("late>80%", True),
        ("overrun>1.9,overrun<=2", True),
        ("memory.share>0", False),
        ("memory.share!=*", True),
    ],
)
def test_of_a_record_it_is_what_was_predicted_before_it_ran(text: str, expected: bool) -> None:
    """In history and in feeds; `overrun` is how often its p95 it took."""
    assert parse(text, RECORD_FIELDS).matches(record(SAID), 200.0) is expected  # type: ignore[arg-type]
    assert parse(text).matches_record(record(SAID), 200.0) is expected


NOTHING: Final = [record(None), record({}), record({"run.p95": 0.0}), record({"run.p95": 9.0}, None)]


@pytest.mark.parametrize("name", [*SAID, "memory.share", "overrun"])
@pytest.mark.parametrize("nothing", NOTHING)
def test_of_a_record_too_what_is_missing_is_no_number(name: str, nothing: Record) -> None:
    """It was not predicted, or never began."""
    known = name in (nothing.more.predicted or {})

    assert parse(f"{name}=*", RECORD_FIELDS).matches(nothing, 200.0) is known  # type: ignore[arg-type]
    assert known or not parse(f"{name}>=0", RECORD_FIELDS).matches(nothing, 200.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "instead"),
    [("gate.saturation>0.9", "wait"), ("retry_loop=yes", "key and error"), ("leak=confirmed", "memory")],
)
def test_what_only_a_live_token_has_is_an_error_for_records(text: str, instead: str) -> None:
    """It names what has its place there; of a selector of live tokens it matches none."""
    with pytest.raises(BadSelector, match=rf"is of live tokens only .*; use {instead}"):
        parse(text, RECORD_FIELDS)

    assert not parse(text).matches_record(SimpleNamespace(), 0.0)
