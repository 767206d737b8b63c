"""Checks of messages: each field has exactly its type, and is within the bounds of its declaration."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

import attrs
import pytest
from msgspec import Meta

from tokengate.control import messages as m
from tokengate.control._exceptions import BadRequest
from tokengate.control._validation import checked, message_of

BAD: list[tuple[type[m.Message[Any]], dict[str, Any], str]] = [
    (m.Step, {"select": "*", "n": 0}, "n is 0; it must be an int of at least 1"),
    (m.Step, {"select": "*", "n": 1.5}, "n of step is 1.5; it must be an int of at least 1"),
    (m.Tokens, {"limit": -1}, "limit is -1; it must be an int from 0 to 10000"),
    (m.Tokens, {"limit": 10_001}, "limit is 10001; it must be an int from 0 to 10000"),
    (m.Tokens, {"limit": True}, "limit of tokens is True; it must be an int from 0 to 10000"),
    (m.Tokens, {"limit": 10**5000}, "limit is (an int of 16610 bits); it must be"),
    (m.Tokens, {"offset": -1}, "offset is -1; it must be an int of at least 0"),
    (m.Tokens, {"select": 5}, "select of tokens is 5; it must be a text"),
    (m.SetThrottle, {"select": "*", "rate": 0}, "rate is 0; it must be a number above 0"),
    (m.SetThrottle, {"select": "*", "rate": math.inf}, "rate is inf; it must be a number above 0"),
    (m.SetThrottle, {"select": "*", "rate": 10**400}, "rate is (an int of 1329 bits); it must be a number above 0"),
    (m.SetThrottle, {"select": "*", "concurrency": 0}, "concurrency is 0; it must be an int of at least 1"),
    (m.Pause, {"select": "*", "wait": math.nan}, "wait is nan; it must be a number of seconds from 0 to 3600"),
    (m.Pause, {"select": "*", "wait": 3601}, "wait is 3601; it must be a number of seconds from 0 to 3600"),
    (m.Pause, {"select": "*", "wait": "x"}, "wait of pause is 'x'; it must be a number of seconds from 0 to 3600"),
    (m.Pause, {"select": "*", "force": 1}, "force of pause is 1; it must be True or False"),
    (m.Pause, {"select": 1.5}, "select of pause is 1.5; it must be a text or a tuple"),
    (
        m.Pause,
        {"selekt": "*"},
        "'pause' has no field 'selekt'; its fields are: select, wait, stop_clock, reason, force",
    ),
    (m.Pause, {}, "'pause' needs a value for its field 'select'"),
    (m.Pause, {"select": "9" * 5000}, f"expected a token, got '{'9' * 59}...; give its id"),
    (m.Terminate, {"select": "*", "mode": "x"}, "mode of terminate is 'x'; it must be one of 'cancel', 'interrupt', "),
    (m.Info, {"all": True}, "'info' has no field 'all'; its fields are: none"),
]


@pytest.mark.parametrize(("kind", "fields", "text"), BAD)
def test_an_error_names_the_field_its_value_and_what_it_must_be(
    kind: type[m.Message[Any]], fields: dict[str, Any], text: str
) -> None:
    """On every way in, since the socket makes its messages here, too."""
    with pytest.raises(BadRequest) as caught:
        message_of(kind, fields)

    assert str(caught.value).startswith(text)


def test_bounds_are_those_of_the_schema() -> None:
    """A value at a bound is within it, but for an open one."""
    assert checked(m.Tokens(limit=10_000, offset=0)) == m.Tokens(limit=10_000)
    assert checked(m.Pause("*", wait=3600)) == m.Pause("*", wait=3600.0)
    assert checked(m.SetThrottle("*", rate=1e-9)).rate == 1e-9  # type: ignore[attr-defined]


def test_targets_are_ids_or_a_selector() -> None:
    """A list of ids, as JSON has it, is a tuple; text of digits is an id."""
    assert message_of(m.Pause, {"select": [1, 2]}) == m.Pause((1, 2))
    assert message_of(m.Pause, {"select": "7"}) == m.Pause((7,))
    assert message_of(m.Pause, {"select": "a=b"}) == m.Pause("a=b")
    with pytest.raises(BadRequest, match="an empty selector would name every token"):
        message_of(m.Pause, {"select": " "})


def test_a_message_that_was_not_made_as_one_is_an_error_of_its_sender() -> None:
    """Such as a copy that lacks a field, which must not crash the control actor."""
    with pytest.raises(BadRequest, match="'get_state' needs a value for its field 'name'"):
        checked(object.__new__(m.GetState))
    with pytest.raises(BadRequest, match=r"set of retag is \['a'\]; it must be a dict"):
        checked(m.Retag(5, ["a"]))  # type: ignore[arg-type]


def test_an_error_of_a_plugins_own_check_is_an_error_of_its_sender() -> None:
    """A validator of `attrs`, say: nothing else may come from the fields of a message."""

    def even(_message: object, _field: object, value: int) -> None:
        if value % 2:
            raise KeyError(f"{value} is odd")

    @attrs.frozen
    class HalveNote(m.Message[bool]):
        right: ClassVar = "operate"
        by: int = attrs.field(validator=even)

    with pytest.raises(BadRequest, match="'halve_note' cannot be made of these values: 3 is odd"):
        message_of(HalveNote, {"by": 3})


def test_each_bound_of_a_declaration_is_in_the_error() -> None:
    """One bound, or one on each side, closed or open."""

    @attrs.frozen
    class Bounded(m.Message[bool]):
        right: ClassVar = "operate"
        most: Annotated[int, Meta(le=5)] = 0
        share: Annotated[float, Meta(gt=0, le=1)] = 1.0

    with pytest.raises(BadRequest, match=r"^most is 6; it must be an int of at most 5$"):
        message_of(Bounded, {"most": 6})
    with pytest.raises(BadRequest, match=r"^share is 2; it must be a number above 0 and of at most 1$"):
        message_of(Bounded, {"share": 2})
