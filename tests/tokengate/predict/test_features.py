"""Features: where they come from, and what switches them off."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import pytest

from tokengate.predict._features import Extractor, Feature


class Off(list[tuple[str, str]]):
    """The operations whose features were switched off, with the reasons."""

    def __call__(self, name: str, why: str) -> None:
        self.append((name, why))


@pytest.fixture
def off() -> Off:
    return Off()


def extractor(function: Callable[..., Any], off: Off, source: Any = "auto", show: Any = ()) -> Extractor:
    return Extractor("op", source, function, show, off)


def plain(path: str, depth: int = 3, *, names: tuple[str, ...] = ()) -> None: ...


def annotated(path: Annotated[str, Feature(len, name="bytes")], depth: Annotated[int, Feature()] = 2) -> None: ...


def test_a_function_of_the_operation_comes_first(off: Off) -> None:
    """`features=` wins over annotations and over parameters that are shown."""
    found = extractor(annotated, off, lambda path, depth=0: {"own": len(path) * 2}, "*")

    assert found.of(("abc",), {"depth": 1}) == {"own": 6.0}


def test_annotated_parameters_are_read_by_position_by_name_and_by_default(off: Off) -> None:
    """The name of a feature is its own, or that of its parameter."""
    found = extractor(annotated, off)

    assert found.of(("abcd", 7), {}) == {"bytes": 4.0, "depth": 7.0}
    assert found.of((), {"path": "ab", "depth": 9}) == {"bytes": 2.0, "depth": 9.0}
    assert found.of(("a",), {}) == {"bytes": 1.0, "depth": 2.0}


def test_parameters_that_are_shown_give_their_numbers_and_lengths(off: Off) -> None:
    """Without annotations; a parameter that is not shown gives nothing."""
    assert extractor(plain, off, show="*").of(("abc", 5), {"names": ("x", "y")}) == {
        "path": 3.0,
        "depth": 5.0,
        "names": 2.0,
    }
    assert extractor(plain, off, show=frozenset({"depth"})).of(("abc", 5), {}) == {"depth": 5.0}
    assert not extractor(plain, off).is_on


def test_none_computes_none(off: Off) -> None:
    """`features=None` also where parameters are annotated."""
    assert not extractor(annotated, off, None, "*").is_on


class Sized(list[int]):
    """A container of a class that is not built in, whose length is code of the user."""

    def __len__(self) -> int:
        raise AssertionError("it was asked for its length")


def test_lengths_of_classes_that_are_not_built_in_are_not_asked_for(off: Off) -> None:
    """Only a function that the user gives for it may run their code."""

    def takes(values: list[int]) -> None: ...

    assert extractor(takes, off, show="*").of((Sized(),), {}) == {}


WRONG: dict[str, Callable[[], Any]] = {
    "raises": lambda: 1 / 0,
    "is nan": lambda: {"a": math.nan},
    "is infinite": lambda: {"a": math.inf},
    "is text": lambda: {"a": "big"},
    "is a list": lambda: [("a", 1)],
    "has a name that is no text": lambda: {1: 1.0},
    "has nine": lambda: {f"f{number}": 1 for number in range(9)},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_fails_three_times_in_a_row_is_switched_off_and_told_once(wrong: Callable[[], Any], off: Off) -> None:
    """Until then each call goes on without features."""
    calls = []

    def source() -> Mapping[str, float]:
        calls.append(1)
        return wrong()  # type: ignore[no-any-return]

    found = extractor(lambda: None, off, source)

    assert [found.of((), {}) for _ in range(5)] == [{}] * 5
    assert len(calls) == 3
    assert not found.is_on
    assert [name for name, _ in off] == ["op"]


def test_failures_between_which_it_works_do_not_switch_it_off(off: Off) -> None:
    """A file that is missing now and then, or a busy machine, costs single calls their features only."""
    values = [{"a": math.nan}, {"a": math.nan}, {"a": 1.0}] * 10
    found = extractor(lambda: None, off, values.pop)

    assert [found.of((), {}) for _ in range(30)] == [{"a": 1.0}, {}, {}] * 10
    assert off == []


def test_what_takes_over_a_millisecond_of_processor_time_is_switched_off(
    off: Off, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its features count until then. A thread that only waits for others has not taken that time."""
    cpu = [0.0]
    monkeypatch.setattr("tokengate.predict._features.time.thread_time", lambda: cpu[0])

    def slow() -> dict[str, float]:
        cpu[0] += 0.0011
        return {"a": 1}

    found = extractor(lambda: None, off, slow)

    assert [found.of((), {}) for _ in range(4)] == [{"a": 1.0}] * 3 + [{}]
    assert off == [("op", "it takes over a millisecond")]


def test_nine_annotated_parameters_are_too_many(off: Off) -> None:
    """Nothing is chosen among them."""
    parts = ", ".join(f"p{number}: Annotated[int, Feature()] = 0" for number in range(9))
    names = {"Annotated": Annotated, "Feature": Feature}
    exec(f"def many({parts}): ...", names)
    found = extractor(names["many"], off)  # type: ignore[arg-type]

    assert not found.is_on
    assert "8 are the most" in off[0][1]


def test_annotations_that_cannot_be_read_are_told(off: Off) -> None:
    """A name that is not known where they are written must not pass unnoticed."""

    def broken(path: Annotated[str, Feature(len)]) -> None: ...

    broken.__annotations__ = {"path": "Annotated[str, Feature(nowhere)]"}

    assert extractor(broken, off).of(("abc",), {}) == {}
    assert "nowhere" in off[0][1]
