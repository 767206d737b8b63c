"""Arguments and results as JSON: what comes back is equal and of its type, or is refused where it is sent."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import durable_shapes as shapes
import msgspec
import pytest
from durable_shapes import Color, Item, Level, Line, Order, Plain, Point

from tokengate import Batch, Policy, Secret, token
from tokengate.durable._codec import LARGEST, Codec, encode_result, is_same
from tokengate.errors import BadOperation, NotDurable

WHEN = datetime(2026, 11, 28, 2, 30, tzinfo=UTC)
ORDER = Order(17, [Item("cup", Decimal("12.50"), (1, 2))], Point(1, 2.0))

SHAPES: dict[str, Any] = {
    "number": 2**80, "ratio": -0.0, "text": "ä\n\0", "yes": True, "maybe": None, "either": "17", "blob": b"\0\xff",
    "amount": Decimal("12.50"), "moment": WHEN, "day": date(2026, 2, 28), "hour": time(23, 59, 59, 1),
    "span": timedelta(days=-1, microseconds=1), "key": UUID(int=17), "color": Color.BLUE, "level": Level.HIGH,
    "point": Point(1, 2.5), "item": Item("cup", Decimal(1)), "order": ORDER, "line": Line(Color.RED),
    "options": {"deep": True, "level": Level.LOW}, "mode": "b", "small": 0, "noted": "x", "pairs": [(1, "a"), (2, "b")],
    "names": {"a", "b"}, "frozen": frozenset({1, 2}), "by_number": {1: [Item("cup", Decimal("0.1"))]},
    "folder": Path("/var/lib"), "any_one": {"a": [1, 1.5, None, {"b": ""}]},
}  # fmt: skip


def codec(name: str) -> Codec:
    return Codec(f"shapes:{name}", getattr(shapes, name))


def test_each_shape_comes_back() -> None:
    """By position and by keyword, equal and of its types all through."""
    by_position = tuple(SHAPES.values())
    args, kwargs = codec("shapes").decode(codec("shapes").encode(by_position, {}))
    assert is_same(args, by_position)
    assert kwargs == {}

    args, kwargs = codec("shapes").decode(codec("shapes").encode((), SHAPES))
    assert args == ()
    assert is_same(kwargs, SHAPES)


def test_each_kind_of_parameter_has_its_annotation() -> None:
    """Positional ones, those by keyword only, `*args` and `**kwargs`; a default stays the function's."""
    args = 1, Decimal("2.0"), 3, date(2026, 1, 1), date(2026, 1, 2)
    kwargs = {"only": Color.RED, "other": UUID(int=1)}

    assert is_same(codec("kinds").decode(codec("kinds").encode(args, kwargs)), (args, kwargs))
    assert codec("kinds").encode((1, Decimal(2)), {"only": Color.RED}) == b'[[1,"2"],{"only":"red"}]'


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (float("nan"), "nan has no form in JSON; pass None, or a text"),
        (float("-inf"), "-inf has no form"),
        ([float("nan")], "come back as [None]"),
        ((1, 2), "come back as [1, 2]; annotate the parameter with its type, such as 'value: tuple[int, str]'"),
        (b"x", "come back as 'eA=='; annotate the parameter with its type, such as 'value: bytes'"),
        ({1}, "'value: set[int]'"),
        ({1: 2}, "come back as {'1': 2}; annotate the parameter with its type, such as 'value: dict[int, str]'"),
        ([(1,)], "come back as [[1]]; annotate"),
        (Decimal(1), "'value: Decimal'"),
        (WHEN, "'value: datetime'"),
        (Path("/"), "'value: PosixPath'"),
        (Plain(), "annotate the parameter with a dataclass"),
        (Item("cup", Decimal(1)), "annotate the parameter with a dataclass"),
        (Level.LOW, "come back as 1"),
        (type("Text", (str,), {})("a"), "'a', cannot be kept"),
        (type("Pairs", (dict,), {})(a=1), "come back as {'a': 1}"),
        (Secret("hunter2"), "a Secret is not written to disk; pass its name"),
        ({"password": Secret("hunter2")}, "Secret(***)"),
        ("\ud800", "surrogates not allowed"),
        (range(3), "`range` has no form in JSON"),
        (msgspec.Raw(b"1"), "come back as 1"),
    ],
)
def test_what_would_come_back_otherwise_is_refused(value: Any, why: str) -> None:
    """Case 24: of a parameter without annotation; the error names argument and remedy."""
    for args, kwargs, name in (((value,), {}, "value"), ((1, 2, value), {}, "*1"), ((1,), {"key": value}, "key")):
        with pytest.raises(NotDurable) as refused:
            codec("anything").encode(args, kwargs)
        assert str(refused.value).startswith(f"argument '{name}' of 'shapes:anything', ")
        assert why.replace("'value:", f"'{name.lstrip('*')}:") in str(refused.value)
        assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("number", True, "its annotation is 'int': pass that, or annotate it with what is passed, bool"),
        ("number", "17", "its annotation is 'int'"),
        ("number", 1.5, "Expected `int`"),
        ("ratio", 1, "come back as 1.0; its annotation is 'float'"),
        ("ratio", float("inf"), "inf has no form in JSON"),
        ("ratios", [0.5, 1], "come back as [0.5, 1.0]"),
        ("ratios", [float("nan")], "Expected `float`, got `null`"),
        ("pair", (1, True), "Expected `int`"),
        ("pair", [1, 2], "come back as (1, 2)"),
        ("plain", Plain(), "`Plain` has no form in JSON"),
    ],
)
def test_what_its_annotation_makes_another_value_of_is_refused(name: str, value: Any, why: str) -> None:
    """Case 24: with an annotation."""
    with pytest.raises(NotDurable, match=r"argument 'value' of 'shapes:") as refused:
        codec(name).encode((value,), {})
    assert why in str(refused.value)


def test_times_of_other_offsets_come_back_as_the_same_moment() -> None:
    """One with an offset that JSON cannot write is refused."""
    one = Codec("x:f", f)
    for zone in (ZoneInfo("Europe/Berlin"), timezone(timedelta(hours=5, minutes=30))):
        moment = datetime(2026, 7, 1, 12, tzinfo=zone)
        assert one.decode(one.encode((moment,), {})) == ((moment,), {})
    with pytest.raises(NotDurable, match="argument 'when'"):
        one.encode((datetime(2026, 7, 1, tzinfo=timezone(timedelta(seconds=17))),), {})


def f(when: datetime) -> None: ...


def test_an_annotation_for_checkers_only_leaves_the_others() -> None:
    """A name that cannot be evaluated counts as no annotation; its neighbour's holds."""
    one = codec("for_checkers")
    assert one.decode(one.encode(({"a": 1}, Decimal("1.0")), {})) == (({"a": 1}, Decimal("1.0")), {})


def test_arguments_have_a_largest_size() -> None:
    """256 KiB of JSON: less is kept, more is refused with both figures."""
    fits = "x" * (LARGEST - len('[[""],{}]'))
    assert len(codec("anything").encode((fits,), {})) == LARGEST
    with pytest.raises(NotDurable, match=r"have 262,145 bytes, and at most 262,144 can be kept; write the data to"):
        codec("anything").encode((fits + "x",), {})


@pytest.mark.parametrize(
    "text", [b"[[],{}]", b"[[1,2],{}]", b'[["x"],{}]', b'[[1],{"value":1}]', b'[[1],{"a":1}]', b"{}", b"[1,2]", b""]
)
def test_a_row_that_does_not_fit_says_so(text: bytes) -> None:
    """Too few, too many, of other types, and what is no call at all."""
    with pytest.raises(msgspec.MsgspecError):
        codec("number").decode(text)


def test_results_come_back_by_the_annotation() -> None:
    """Of a function and of a generator function; what JSON cannot hold is refused, and nan would be null."""
    text = encode_result("order", ORDER)
    for name in ("shapes", "stepwise"):
        assert is_same(codec(name).decode_result(text), ORDER)
    assert codec("anything").decode_result(text)["number"] == 17
    assert codec("shapes").decode_result(b"[1]") == [1]
    for result in (float("nan"), {"a": [None, float("inf")]}, Plain(), Secret(1), "x" * LARGEST):
        with pytest.raises(NotDurable, match="the result of 'order'"):
            encode_result("order", result)
    assert encode_result("order", {"a": [None, "null", (1, 2)]}) == b'{"a":[null,"null",[1,2]]}'


def test_whatever_is_accepted_comes_back(seed: int) -> None:
    """Drawn values of all plain shapes, with and without a mistake in them."""
    draw = random.Random(seed)
    leaves: list[Any] = [0, 2**70, -1, True, None, 0.1, 1e300, "", "ß", b"x", float("nan"), (1,), Decimal(1), Level.LOW]

    def value(depth: int) -> Any:
        if depth == 0 or draw.random() < 0.5:
            return draw.choice(leaves[: draw.choice((9, 9, len(leaves)))])
        if draw.random() < 0.5:
            return [value(depth - 1) for _ in range(draw.randrange(4))]
        return {draw.choice(("a", "b", 1)): value(depth - 1) for _ in range(draw.randrange(4))}

    kept = 0
    for _ in range(500):
        args, kwargs = (value(3),), {"key": value(2)}
        try:
            text = codec("anything").encode(args, kwargs)
        except NotDurable:
            continue
        kept += 1
        assert is_same(codec("anything").decode(text), (args, kwargs))
    assert 50 < kept < 450


def test_what_no_other_process_could_find_is_refused_when_decorated() -> None:
    """Case 24: lambdas, closures, `__main__`, objects without a name; and batches, of which no call has a row."""

    def closure() -> None: ...

    program: dict[str, Any] = {"__name__": "__main__", "token": token}
    for function in (closure, lambda: None, Plain().__init__):
        with pytest.raises(NotDurable, match="define it with 'def' at the top of a module"):
            token(durable=True)(function)
    with pytest.raises(NotDurable, match="move it to a module that the program imports"):
        exec("@token(durable=True)\ndef charge(): ...", program)
    with pytest.raises(BadOperation, match="has a batch"):
        token(durable=True, policy=Policy(batch=Batch(size=10, wait=1)))(shapes.ratios)
    with pytest.raises(BadOperation, match="needs consent"):
        token(durable=True, consent="approval")(shapes.ratios)
    assert token(lambda: 1)() == 1
