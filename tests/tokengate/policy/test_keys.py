"""Keys of calls, compared with what functions get."""

from __future__ import annotations

import enum
import functools
import inspect
import random
from collections.abc import Callable
from typing import Any

import pytest

from tokengate._exceptions import BadPolicy
from tokengate.policy._keys import CallKeys

FUNCTIONS: list[Callable[..., dict[str, Any]]] = [  # they return their arguments
    lambda a, b, c: locals(),
    lambda a, b=20, c=30: locals(),
    lambda a, /, b, *, c: locals(),
    lambda a, /, b=20, *args, c=30: locals(),
    lambda *, a, b=20, c="x": {**locals()},
    lambda a=10, /, **kwargs: locals(),
    lambda a, *args, **kwargs: locals(),
    functools.partial(lambda a, b, c=30: locals(), c=31),
]


class Tenant(enum.StrEnum):
    ACME = "acme"


class Size(enum.IntEnum):
    LARGE = 3


def test_a_name_is_read_as_the_function_gets_it(seed: int) -> None:
    """By position, by keyword, or its default; a call that the function refuses fails elsewhere."""
    rng = random.Random(seed)
    accepted = 0
    for _ in range(3_000):
        function, name = rng.choice(FUNCTIONS), rng.choice("abc")
        args = tuple(rng.randrange(5) for _ in range(rng.randrange(6)))
        kwargs = {key: rng.randrange(5) for key in "abc" if rng.random() < 0.4}
        try:
            arguments = function(*args, **kwargs)
        except TypeError:
            continue
        accepted += 1
        expected = arguments.get(name, arguments.get("kwargs", {}).get(name))

        assert CallKeys("f", function).reader("fair", name)(args, kwargs, {}) == expected
    assert accepted > 300


def test_a_tag_goes_before_a_parameter() -> None:
    """And is enough where there is no such parameter."""
    read = CallKeys("charge", lambda tenant: 0).reader("throttle.key", "tenant")
    assert read(("acme",), {}, {}) == "acme"
    assert read(("acme",), {}, {"tenant": "free"}) == "free"
    assert CallKeys("charge", lambda: 0).reader("throttle.key", "tenant")((), {}, {"tenant": ""}) == ""


def test_a_call_without_tag_and_parameter_has_no_key() -> None:
    """Case 36. Nor has one whose parameter is None, or missing."""
    keys = CallKeys("charge", lambda tenant=None: 0)
    assert keys.reader("throttle.key", "other")(("acme",), {}, {"more": "x"}) is None
    assert keys.reader("throttle.key", "tenant")((), {}, {}) is None
    assert keys.reader("throttle.key", "tenant")((None,), {}, {}) is None
    assert CallKeys("charge", lambda tenant: 0).reader("throttle.key", "tenant")((), {}, {}) is None
    assert keys.reader("throttle.key", lambda tenant: None)(("acme",), {}, {}) is None


def test_a_function_gets_the_arguments() -> None:
    """Its errors come out."""
    keys = CallKeys("charge", lambda order, host: 0)
    assert keys.reader("fair", lambda order, host: host.upper())((1,), {"host": "eu"}, {"fair": "x"}) == "EU"
    with pytest.raises(ZeroDivisionError):
        keys.reader("fair", lambda order, host: 1 // 0)((1,), {"host": "eu"}, {})


@pytest.mark.parametrize("value", [1.5, ["acme"], b"acme", object()])
def test_another_type_is_an_error_that_names_operation_rule_and_value(value: object) -> None:
    """For a parameter, for its default, and for a function."""
    message = r"the value of throttle\.key of operation 'charge' is .*; use a text, an int, or None for no key"
    keys = CallKeys("charge", lambda a, b=value: 0)
    for key, args in (("a", (value,)), ("b", (1,)), (lambda a: value, (1,))):
        with pytest.raises(BadPolicy, match=message) as caught:
            keys.reader("throttle.key", key)(args, {}, {})
        assert caught.value.value is value


def test_members_of_enums_are_read_as_their_plain_values() -> None:
    """So that equal keys have one state, and no method of a user's class is called later."""
    read = CallKeys("charge", lambda tenant: 0).reader("throttle.key", "tenant")
    for value, expected in ((Tenant.ACME, "acme"), (Size.LARGE, 3), (True, 1)):
        key = read((value,), {}, {})
        assert (type(key), key) == (type(expected), expected)


def test_the_calls_of_a_method_lack_the_instance() -> None:
    """An actor's messages."""

    class Account:
        def pay(self, tenant: str, amount: int = 0) -> None: ...

    keys = CallKeys("Account.pay", Account.pay, is_method=True)
    assert keys.reader("fair", "tenant")(("acme", 3), {}, {}) == "acme"
    assert keys.reader("fair", "amount")(("acme", 3), {}, {}) == 3
    assert CallKeys("Account.pay", Account().pay).reader("fair", "tenant")(("acme",), {}, {}) == "acme"


def test_a_function_without_signature_has_its_arguments_read_by_keyword() -> None:
    """A few of C have none."""
    read = CallKeys("dict", dict).reader("fair", "tenant")
    assert read(((),), {"tenant": "acme"}, {}) == "acme"
    assert read(((),), {}, {}) is None


def test_the_signature_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rules have a key, and however many calls there are."""
    looked: list[Any] = []
    signature = inspect.signature
    monkeypatch.setattr(inspect, "signature", lambda function: looked.append(function) or signature(function))
    keys = CallKeys("charge", lambda tenant: 0)
    for key in ("tenant", "host", "tenant"):
        read = keys.reader("fair", key)
        read(("acme",), {}, {})
        read(("acme",), {}, {})

    assert len(looked) == 1
