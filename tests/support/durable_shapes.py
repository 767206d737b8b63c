"""Functions whose calls a codec encodes: parameters of each kind, annotations of each shape."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Generator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import attrs
import msgspec

if TYPE_CHECKING:
    from collections import OrderedDict


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: int
    y: float


@dataclasses.dataclass
class Item:
    name: str
    price: Decimal
    sizes: tuple[int, ...] = ()


@attrs.frozen
class Order:
    number: int
    items: list[Item]
    by: Point | None = None


class Line(msgspec.Struct):
    color: Color
    width: float = 1.0


class Options(TypedDict, total=False):
    deep: bool
    level: Level


class Plain:
    """No form in JSON."""


def anything(value, *rest, **others): ...  # type: ignore[no-untyped-def]


def shapes(
    number: int, ratio: float, text: str, yes: bool, maybe: int | None, either: int | str, blob: bytes, amount: Decimal,
    moment: datetime, day: date, hour: time, span: timedelta, key: UUID, color: Color, level: Level, point: Point,
    item: Item, order: Order, line: Line, options: Options, mode: Literal["a", "b"],
    small: Annotated[int, msgspec.Meta(ge=0)],
    noted: Annotated[str, "a note"], pairs: list[tuple[int, str]], names: set[str], frozen: frozenset[int],
    by_number: dict[int, list[Item]], folder: Path, any_one: Any,
) -> Order: ...  # type: ignore[empty-body]  # fmt: skip


def kinds(first: int, /, second: Decimal, third: int = 3, *rest: date, only: Color, more: int = 1, **others: UUID): ...  # type: ignore[no-untyped-def]


def number(value: int) -> None: ...
def ratio(value: float) -> None: ...
def ratios(value: list[float]) -> None: ...
def pair(value: tuple[int, int]) -> None: ...
def plain(value: Plain) -> None: ...
def for_checkers(value: OrderedDict[str, int], count: Decimal) -> None: ...
def stepwise(value: int) -> Generator[int, None, Order]:
    yield value
    return Order(value, [])
