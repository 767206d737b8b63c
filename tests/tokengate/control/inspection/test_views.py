"""Views of tokens: what is shown of them, in which order, and that no code of theirs runs for it."""

from __future__ import annotations

import heapq
import itertools
import random
import threading
from collections.abc import Collection, Iterator
from types import MappingProxyType, SimpleNamespace
from typing import Any

import attrs
import pytest
import trio
from fake_predictor import FakePredictor
from hostile_values import Loud, LoudKey, LoudList, never
from hypothesis import given
from hypothesis import strategies as st
from patience import patient

from actors import ActorSystem, CpuActor, Token
from actors.lowlevel import OperationPlace
from tokengate import Gate, token
from tokengate.control._exceptions import BadRequest
from tokengate.control.inspection import _views
from tokengate.control.inspection._selector import parse
from tokengate.control.inspection._views import arguments_of, order_of, page_of, prediction_of, row_of
from tokengate.control.messages import COLUMNS, Argument, PredictionRow, TokenPage, TokenRow

heapq_merge = heapq.merge
WAIT = 60.0  # seconds; only reached when something is broken
NONE: frozenset[str] = frozenset()


@pytest.fixture
def place() -> OperationPlace:
    """A place in a system that was never opened, with a clock that stands at 100."""
    system = ActorSystem("unopened", threads=2, clock=lambda: 100.0)
    return system.operation_place("operations/resize", "cpu", generator=False, concurrency=1)


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("test", shutdown=5.0) as gate:
        yield gate


def system_of(place: OperationPlace) -> ActorSystem:
    system = place.system
    assert isinstance(system, ActorSystem)
    return system


def named(name: str, secret: str, /, *rest: object, **more: object) -> None: ...


def make(place: OperationPlace, *args: Any, call: Any = int, **kwargs: Any) -> Token[Any]:
    return place.token("resize", call, args, kwargs)


# --- Rows ------------------------------------------------------------------------------------------------------------


def test_a_row_says_what_a_token_is(place: OperationPlace) -> None:
    """All that a list shows, at one moment."""
    one = place.token("resize", int, (), {}, 5, MappingProxyType({"tenant": "acme"}))
    expected = TokenRow(
        1, "resize", "operations/resize", "cpu", "created", 5, {"tenant": "acme"}, None, 1, 0, 20.0, None
    )

    assert row_of(one, 120.0) == expected


def test_a_row_says_for_how_long_it_runs_and_who_holds_it(place: OperationPlace) -> None:
    """`running` counts from the beginning; `held` is the word of the hold."""
    one = make(place)
    one.started_at = 90.0
    one._own_extras().hold = SimpleNamespace(word="paused")  # type: ignore[assignment]
    row = row_of(one, 120.0)

    assert (row.running, row.held) == (30.0, "paused")


def test_a_row_says_what_is_expected_where_something_is(place: OperationPlace) -> None:
    """Seconds and whole bytes; a gate that predicts nothing asks nothing."""
    one, system = make(place), system_of(place)
    assert (row_of(one, 120.0).run_p95, prediction_of(one, 120.0, values=True)) == (None, None)
    system.predictor = FakePredictor()
    row = row_of(one, 120.0)
    system.predictor = FakePredictor(None)

    assert (row.run_p50, row.run_p95, row.memory_p95) == (30.0, 62.0, 512 * 2**20)
    assert (row_of(one, 120.0).run_p50, prediction_of(one, 120.0, values=True)) == (None, None)


def test_what_is_known_of_a_prediction_is_plain_data(place: OperationPlace) -> None:
    """Its features are made of arguments, so they are shown to those only that may see these."""
    one, system_of(place).predictor = make(place), FakePredictor()
    one._own_extras().forecast = SimpleNamespace(features={"bytes": 12.0})  # type: ignore[assignment]
    shown, hidden = (prediction_of(one, 120.0, values=values) for values in (True, False))

    assert shown == PredictionRow(
        30.0, 62.0, 300 * 2**20, 512 * 2**20, 0.04, 0.125, ("features", "tags"), 1_234, 0.943, True, "line-7",
        {"bytes": 3.14, "tenant=acme": 1.2}, {"bytes": 12.0},
    )  # fmt: skip
    assert hidden == attrs.evolve(shown, features={})


def test_a_row_has_plain_types_only(place: OperationPlace) -> None:
    """It goes over a socket; subclasses of text and numbers are copied without their own code."""

    class Text(str):
        __slots__ = ()
        __str__ = __eq__ = never  # type: ignore[assignment]
        __hash__ = str.__hash__

    class Number(int):
        __int__ = __index__ = never  # type: ignore[assignment]

    one = place.token(Text("resize"), int, (), {}, Number(3), MappingProxyType({Text("a"): Text("b")}))
    row = row_of(one, 100.0)

    assert [type(value) for value in (row.operation, row.priority, row.state)] == [str, int, str]
    assert [type(text) for item in row.tags.items() for text in item] == [str, str]


# --- Pages -----------------------------------------------------------------------------------------------------------


def page(tokens: list[Token[Any]], text: str = "", sort: str = "id", limit: int = 100, offset: int = 0) -> TokenPage:
    return trio.run(page_of, lambda: tokens, parse(text), sort, limit, offset, 100.0)


def ids(found: TokenPage) -> list[int]:
    return [row.id for row in found.rows]


def test_a_page_has_what_matches_in_order(place: OperationPlace) -> None:
    """It says how many match in all, and how many there are."""
    tokens = [place.token("resize", int, (), {}, number % 3) for number in range(9)]
    found = page(tokens, "priority>0", "-priority", limit=3, offset=1)

    assert ids(found) == [6, 9, 2]
    assert (found.matching, found.live, found.offset) == (6, 9, 1)


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("id", [1, 2, 3]),
        ("-id", [3, 2, 1]),
        ("age", [2, 3, 1]),
        ("-age", [1, 3, 2]),
        ("running", [3, 1, 2]),
        ("-running", [2, 1, 3]),
        ("priority", [1, 3, 2]),
        ("-priority", [2, 1, 3]),
        ("operation", [3, 1, 2]),
        ("-operation", [2, 1, 3]),
        ("actor", [1, 2, 3]),
        ("-actor", [1, 2, 3]),
        ("state", [1, 2, 3]),
        ("steps", [3, 2, 1]),
    ],
)
def test_a_page_is_sorted_by_a_column_and_then_by_id(place: OperationPlace, sort: str, expected: list[int]) -> None:
    """What has not begun has run for the shortest time; a `-` turns the column around, and leaves the ids."""
    columns: list[tuple[Any, ...]] = [("b", 10.0, 60.0, 1, 3), ("c", 30.0, 50.0, 2, 2), ("a", 20.0, None, 1, 1)]
    tokens = []
    for operation, created, started, priority, steps in columns:
        one = place.token(operation, int, (), {}, priority)
        one.created_at, one.started_at, one.steps = created, started, steps
        tokens.append(one)

    assert ids(page(tokens, sort=sort)) == expected


def test_tokens_that_have_ended_are_left_out(place: OperationPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that end while the page is made, after they have been found to match."""
    monkeypatch.setattr(_views, "_CHUNK", 1)  # each of the five has a turn of its own
    tokens = [make(place) for _ in range(5)]
    place.mailbox.close()
    tokens[1]._terminate("test")
    late = tokens[0]

    def take() -> list[Token[Any]]:
        return tokens

    async def main() -> TokenPage:
        rows: list[TokenPage] = []

        async def ask() -> None:
            rows.append(await page_of(take, parse(""), "id", 100, 0, 100.0))

        async def end() -> None:
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            late._terminate("test")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(end)
        return rows[0]

    found = trio.run(main)

    assert ids(found) == [3, 4, 5]
    assert found.matching == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sort": "size"}, "sort is 'size'; choose one of id, age, running"),
        ({"sort": ""}, "sort is ''; choose"),
        ({"sort": 5}, "sort is a int; choose"),
    ],
)
def test_a_page_that_cannot_be_meant_is_refused(arguments: dict[str, Any], message: str) -> None:
    """The message names the argument, its value and what can be."""
    with pytest.raises(BadRequest, match=message):
        page([], **arguments)


def test_a_page_may_be_empty(place: OperationPlace) -> None:
    """For want of tokens, or since nobody asked for a row."""
    assert page([]) == TokenPage((), 0, 0, 0)
    assert page([make(place)], limit=0).matching == 1
    assert page([make(place)], offset=10**30).rows == ()


@pytest.mark.parametrize("column", COLUMNS)
def test_every_column_of_the_vocabulary_is_an_order(column: str) -> None:
    """Either way around; there are no others."""
    assert [order_of(column)[1], order_of(f"-{column}")[1]] == [False, True]
    assert set(_views._KEYS) == set(COLUMNS)


@patient
@given(
    st.lists(st.integers(0, 3), max_size=40),
    st.sampled_from(["id", "-id", "priority", "-priority"]),
    st.integers(0, 12),
    st.integers(0, 12),
)
def test_pages_are_parts_of_the_sorted_list(priorities: list[int], sort: str, limit: int, offset: int) -> None:
    """However many chunks it is made of."""
    system = ActorSystem("unopened", threads=2, clock=lambda: 100.0)
    place = system.operation_place("operations/resize", "cpu", generator=False, concurrency=1)
    tokens = [place.token("resize", int, (), {}, priority) for priority in priorities]
    key, reverse = order_of(sort)
    in_order = sorted(tokens, key=key, reverse=reverse)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tokengate.control.inspection._views._CHUNK", 5)
        patch.setattr("tokengate.control.inspection._views._ROWS", 3)
        found = page(tokens, sort=sort, limit=limit, offset=offset)

    assert ids(found) == [one.id for one in in_order[offset : offset + limit]]
    assert found.matching == found.live == len(tokens)


def test_a_part_of_very_many_is_found_without_sorting_all(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """For any part, and for keys that many share; also if the sample says something else than what follows."""
    chance = random.Random(seed)
    kept: list[int] = []
    monkeypatch.setattr(_views.heapq, "merge", lambda *runs: (kept.append(sum(map(len, runs))), heapq_merge(*runs))[1])
    count = 5 * _views._SAMPLE
    for keys in (
        range(count),
        [chance.randrange(3) for _ in range(count)],
        [chance.choice("ab") for _ in range(count)],
    ):
        tokens = [SimpleNamespace(id=number, key=key) for number, key in enumerate(keys)]
        chance.shuffle(tokens)
        for sign in (1, -1):
            expected = sorted(tokens, key=lambda one: (one.key, sign * one.id))
            for first in (0, 1, chance.randrange(count), count - 200):
                last = min(count, first + 200)
                entry = lambda one: (one.key, sign * one.id, one)  # noqa: E731, B023
                assert trio.run(_views._part_of, tokens, entry, first, last) == expected[first:last]
    assert max(kept) < count // 2

    changed = itertools.count()
    turned: Any = lambda one: (next(changed) // count, one.id, one)  # noqa: E731
    assert len(trio.run(_views._part_of, tokens, turned, 9, 20)) == 11


def test_many_tokens_stall_nobody(place: OperationPlace) -> None:
    """Between two checkpoints it looks at some hundreds of tokens only."""
    tokens = [make(place) for _ in range(5_000)]
    rounds = itertools.count()

    async def main() -> int:
        async with trio.open_nursery() as nursery:

            async def tick() -> None:
                while True:
                    next(rounds)
                    await trio.lowlevel.checkpoint()

            nursery.start_soon(tick)
            found = await page_of(lambda: tokens, parse("id>2"), "-age", 2_000, 0, 100.0)
            nursery.cancel_scope.cancel()
        return len(found.rows)

    assert trio.run(main) == 2_000
    assert next(rounds) >= 5_000 / 500 + 2_000 / 500


# --- Arguments -------------------------------------------------------------------------------------------------------


def test_arguments_are_types_and_sizes(place: OperationPlace) -> None:
    """Values are told only if the operation shows them."""
    one = make(place, "a.png", [1, 2], 7, width=3)
    hidden = (Argument("0", "str", 5), Argument("1", "list", 2), Argument("2", "int"), Argument("width", "int"))
    words = ["'a.png'", "[1, 2]", "7", "3"]

    assert arguments_of(one, NONE) == hidden
    assert [argument.value for argument in arguments_of(one, "*")] == words


def test_positional_arguments_are_called_like_their_parameters(place: OperationPlace) -> None:
    """Where the function is one whose code can be read; what is beyond them has its position."""
    one = make(place, "a", "b", "c", d="e", call=named)

    assert [argument.name for argument in arguments_of(one, NONE)] == ["name", "secret", "2", "d"]


def test_only_named_arguments_have_values(place: OperationPlace) -> None:
    """By position or by keyword; not those beyond the named ones, nor those whose parameters are not known."""

    def function(name: str, secret: str, *rest: str, **more: str) -> None: ...

    def values(call: object, *args: str, **kwargs: str) -> list[tuple[str, str | None]]:
        token = make(place, *args, call=call, **kwargs)
        return [(argument.name, argument.value) for argument in arguments_of(token, frozenset({"name"}))]

    assert values(function, "a", "b", "c") == [("name", "'a'"), ("secret", None), ("2", None)]
    assert values(function, "a", secret="b", more="d") == [("name", "'a'"), ("secret", None), ("more", None)]
    assert values(int, "a", name="b") == [("0", None), ("name", "'b'")]


def test_the_name_of_the_rest_is_for_all_arguments_in_it(place: OperationPlace) -> None:
    """`*urls` and `**headers` are named by their own names; a parameter with a name of its own is not in them."""

    def function(name: str, *urls: str, secret: str, **headers: str) -> None: ...

    token = make(place, "a", "b", "c", call=function, secret="d", agent="e")

    def values(show: Collection[str]) -> list[str | None]:
        return [argument.value for argument in arguments_of(token, show)]

    assert values(frozenset({"urls"})) == [None, "'b'", "'c'", None, None]
    assert values(frozenset({"headers"})) == [None, None, None, None, "'e'"]
    assert values("*") == ["'a'", "'b'", "'c'", None, "'e'"]


def test_arguments_of_an_actors_method_are_called_like_its_parameters(gate: Gate) -> None:
    """Looked up in the class as it is written, where static and class methods are, too."""

    class Till(CpuActor):
        def __init__(self, go: threading.Event) -> None:
            super().__init__()
            self.go = go

        def hold(self) -> None:
            self.go.wait(WAIT)

        def pay(self, amount: int, card: str) -> None: ...

        @staticmethod
        def count(coins: int) -> None: ...

        @classmethod
        def open(cls, key: str) -> None: ...

        def on_receive(self, message: object) -> None: ...

    go = threading.Event()
    ref = gate.spawn(Till, go)
    proxy: Any = ref.proxy()
    proxy.hold()
    sent = [proxy.pay(5, "1234"), proxy.count(3), proxy.open("k"), ref.ask("hello", block=False)]
    shown = [[(argument.name, argument.value) for argument in arguments_of(one, "*")] for one in sent]
    amount, card = arguments_of(sent[0], frozenset({"amount"}))
    go.set()
    for one in sent:
        one.result(WAIT)

    assert shown[:3] == [[("amount", "5"), ("card", "'1234'")], [("coins", "3")], [("key", "'k'")]]
    assert shown[3] == [("message", "'hello'")]
    assert (amount, card) == (Argument("amount", "int", None, "5"), Argument("card", "str", 4))
    assert arguments_of(sent[0], "*") == ()


def test_arguments_of_an_operation_are_called_like_its_parameters(gate: Gate) -> None:
    """For as long as it has not ended; then it carries none."""
    started, go = threading.Event(), threading.Event()

    @token
    def work(name: str, size: int = 0) -> None:
        started.set()
        go.wait(WAIT)

    one = work.submit("a.png", size=4)
    assert started.wait(WAIT)
    found = arguments_of(one, "*")
    go.set()
    one.result(WAIT)

    assert found == (Argument("name", "str", 5, "'a.png'"), Argument("size", "int", None, "4"))
    assert arguments_of(one, "*") == ()


def test_no_code_of_an_argument_runs(place: OperationPlace) -> None:
    """Neither of its class nor of its class's class; only the name is told."""
    items = [Loud(), LoudList(), {LoudKey(): Loud()}]
    found = arguments_of(make(place, *items, call=Loud()), "*")

    assert found[0] == Argument("0", "Loud")
    assert found[1] == Argument("1", "LoudList")
    assert found[2] == Argument("2", "dict", 1, "{<LoudKey>: <Loud>}")


def test_odd_arguments_of_a_message_made_by_hand_are_not_looked_at(place: OperationPlace) -> None:
    """They need not be tuples and dicts."""
    one = make(place)
    one._args = one.kwargs = Loud()  # type: ignore[assignment]

    assert arguments_of(one, "*") == ()
