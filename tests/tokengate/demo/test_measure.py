"""What the demo computes, computed by hand."""

from __future__ import annotations

import ast

import pytest

from tokengate.demo._measure import Complexity, Measure, Unmeasurable, measure, measure_steps

SOURCE = b"""\
import os, sys
from a import b as c

class Shop:
    async def open(self):
        return 1

    def sell(self, items):
        for item in items:
            if item and item.price or item.gift:
                try:
                    yield [x for x in item if x if not None]
                except OSError:
                    pass
        def inner():
            while True:
                pass
"""


def test_a_source_is_measured_as_by_hand() -> None:
    """Counts at any depth; complexity is 1 and one more for each decision, without functions inside."""
    result = measure(SOURCE)

    # for, if, and, or, comprehension with two ifs, except: 1 + 8
    assert result == Measure(
        lines=17, tokens=result.tokens, functions=3, classes=1, imports=3, most_complex=Complexity("Shop.sell", 8, 9)
    )
    assert result.tokens > 80


def test_of_equally_complex_functions_the_first_one_counts() -> None:
    """So that two runs agree."""
    found = measure(b"def b(): pass\ndef a(): pass\n").most_complex

    assert found == Complexity("b", 1, 1)


def test_an_empty_file_has_no_function() -> None:
    """Nothing is a figure, too."""
    assert measure(b"").most_complex is None


@pytest.mark.parametrize(
    "source",
    [
        b"def f(:",
        b"x = '\0'",
        b"# coding: nonsense\n",
        b"\xff\xfe",
        b"'''",
        b"  x\n y",
        b"x = (",
        b"# coding: utf-8\n\xe9",
    ],
)
def test_a_broken_file_is_unmeasurable_with_a_reason(source: bytes) -> None:
    """Wrong encodings, syntax errors and null bytes are the file's fault, and named."""
    with pytest.raises(Unmeasurable, match="Error"):
        measure(source)


def test_an_error_of_the_parser_itself_is_no_fault_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython raises one at times when several threads parse."""
    outcomes: list[BaseException | None] = [SystemError("AST constructor recursion depth mismatch"), None]
    parse = ast.parse

    def fail_once(source: bytes) -> ast.Module:
        error = outcomes.pop(0)
        if error is not None:
            raise error
        return parse(source)

    monkeypatch.setattr(ast, "parse", fail_once)

    assert measure(SOURCE).functions == 3
    assert outcomes == []


def test_a_long_file_is_measured_in_many_steps() -> None:
    """A step is a bounded piece of work."""
    steps = sum(1 for _ in measure_steps(b"x = [1, 2, 3]\n" * 3_000))

    assert steps > 10
