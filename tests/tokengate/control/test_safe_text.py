"""Values and attributes in words: as Python writes them, cut short, and without any code of theirs."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest
from hostile_values import Loud
from hypothesis import given
from hypothesis import strategies as st
from patience import patient

from tokengate.control._safe_text import MAX_TEXT, class_name, is_shown, look_at, value_in_words

WAIT = 60.0  # seconds; only reached when something is broken


def test_attributes_are_shown_in_their_order() -> None:
    """With their type, their size and the value of built-in ones."""
    found = look_at({"total": 5, "names": ["a"], "lock": threading.Lock(), "loud": Loud(), 1: None}, "*")

    assert found == [
        ("total", "int", None, "5"),
        ("names", "list", 1, "['a']"),
        ("lock", "lock", None, None),
        ("loud", "Loud", None, None),
        ("1", "NoneType", None, "None"),
    ]


def test_the_values_of_named_attributes_are_shown_and_of_others_type_and_size() -> None:
    """No name, no value."""
    values = {"total": 5, "names": ["a"]}

    assert look_at(values, frozenset({"total"})) == [("total", "int", None, "5"), ("names", "list", 1, None)]
    assert look_at(values, ()) == [("total", "int", None, None), ("names", "list", 1, None)]


@pytest.mark.parametrize("name", ["password", "db_passwd", "clientSecret", "ACCESS_TOKEN", "api_key", "cookies"])
def test_what_has_the_name_of_a_secret_is_shown_only_if_it_is_named_itself(name: str) -> None:
    """`*` leaves it out, in any case and within a longer name."""
    assert not is_shown(name, "*")
    assert is_shown(name, frozenset({name}))
    assert is_shown("total", "*")


def test_what_has_the_name_of_a_secret_in_a_dict_is_left_out() -> None:
    """In any text that is made of it, at any depth."""
    headers = {"Accept": "text", "Authorization": "Bearer 8d1f", "more": [{"api_key": ["8d1f"], 5: "five"}]}

    words = value_in_words(headers)

    assert words == "{'Accept': 'text', 'Authorization': <str>, 'more': [{'api_key': <list>, 5: 'five'}]}"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | st.text(max_size=3), inner, max_size=3)
        | st.frozensets(st.integers(), max_size=3)
        | st.sets(st.text(max_size=3), max_size=3)
    ),
    max_leaves=5,
)


@patient
@given(values)
def test_a_built_in_value_is_written_as_python_writes_it(value: object) -> None:
    """Unless it is too long or too deep, which is marked."""
    words = value_in_words(value)

    assert len(words) <= MAX_TEXT
    assert words == repr(value) or "..." in words


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, b"x" * 10**6, [0] * 10**6, {n: n for n in range(10**4)}, set(range(10**4)), ["x" * 300] * 300],
    ids=["str", "bytes", "list", "dict", "set", "nested"],
)
def test_a_long_value_is_cut(value: object) -> None:
    """Its size is told elsewhere."""
    words = value_in_words(value)

    assert len(words) <= MAX_TEXT
    assert "..." in words


def test_a_value_that_has_no_end_is_cut() -> None:
    """A list that is in itself, and a number of a million digits."""
    loop: list[Any] = []
    loop.append(loop)

    assert value_in_words(loop) == "[[[[[...]]]]]"
    assert value_in_words(1 << 10**6) == "(an int of 1000001 bits)"
    assert value_in_words([set(), frozenset(), frozenset({1}), (1,)]) == "[set(), frozenset(), frozenset({1}), (1,)]"


def test_a_dict_that_changes_while_it_is_looked_at_is_no_error() -> None:
    """Threads go on meanwhile."""
    changing: dict[int, int] = {}
    stop = threading.Event()

    def change() -> None:
        for number in itertools.count():
            changing[number] = number
            if number > 50:
                changing.pop(number - 50)
            if stop.is_set():
                return

    thread = threading.Thread(target=change)
    thread.start()
    try:
        words = [value_in_words(changing) for _ in range(300)]
    finally:
        stop.set()
        thread.join(WAIT)

    assert all(text.startswith("{") for text in words)


def test_a_class_is_named_as_type_keeps_it() -> None:
    """Whatever its metaclass makes of it."""
    assert class_name(Loud) == "Loud"
    assert class_name(type(int)) == "type"
