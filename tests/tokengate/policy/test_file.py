"""The sections of a file: what each key means, and which values cannot work."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from typing import Any

import attrs
import pytest

from tokengate._exceptions import BadPolicy
from tokengate.policy import _file
from tokengate.policy._file import FlagRow, PolicyRow, ThrottleRow, error_named, with_fields
from tokengate.policy._policy import Batch, Breaker, Budget, Policy, Retry, Throttle


@attrs.define
class Report:
    """Collects errors as text."""

    errors: list[str] = attrs.field(factory=list)
    fields: list[Any] = attrs.field(factory=list)

    def line(self, path: tuple[str | int, ...]) -> int:
        return 7

    def wrong(self, path: tuple[str | int, ...], value: object, remedy: str) -> None:
        self.errors.append(f"{'.'.join(map(str, path))} {value!r}: {remedy}")

    def selector(self, path: tuple[str | int, ...], value: object, fields: Collection[str] | None = None) -> str:
        self.fields.append(fields)
        return str(value)


def policy(text: str) -> dict[str, Any]:
    """Return the fields of a policy, which has no errors."""
    report = Report()
    [row] = _file.policies(tomllib.loads(f"[[policy]]\nselect = '*'\n{text}")["policy"], report)
    assert report.errors == []
    return dict(row.fields)


def errors(section: str, text: str) -> list[str]:
    report = Report()
    parse = {"policy": _file.policies, "throttle": _file.throttles, "flag": _file.flags}[section]
    parse(tomllib.loads(f"[[{section}]]\nselect = '*'\n{text}")[section], report)
    return report.errors


# --- Policies ---------------------------------------------------------------------------------------------------------


def test_a_policy_of_a_file_has_the_fields_that_it_names() -> None:
    """Case 60. No other, so that those of the code stay; its selector may use fields of places."""
    text = """
        timeout = "5s"
        retry = { on = ["ConnectionError", "httpx.TransportError"], attempts = 3 }
        throttle = { concurrency = 5, key = "tenant", keys = { acme = { concurrency = 50 } } }
    """
    report = Report()
    [row] = _file.policies([{"select": "operation=a", **tomllib.loads(text)}], report)

    assert row == PolicyRow(
        7,
        "operation=a",
        {
            "timeout": 5.0,
            "retry.on": (ConnectionError, error_named("on", "httpx.TransportError")),
            "retry.attempts": 3,
            "throttle.concurrency": 5,
            "throttle.key": "tenant",
            "throttle.keys": {"acme": {"concurrency": 50}},
        },
    )
    assert report == Report([], [("operation", "actor", "affinity")])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('queue_timeout = "50ms"', {"queue_timeout": 0.05}),
        ('deadline = "1.5h"', {"deadline": 5_400.0}),
        ("deadline = 30", {"deadline": 30}),
        ('shed = "0.1s"\ngrace = 2', {"shed": 0.1, "grace": 2.0}),
        ("shed = 0", {"shed": 0.0}),
        ('retry.wait = "10ms"\nretry.max_wait = "1m"\nretry.share = 0.2',
         {"retry.wait": 0.01, "retry.max_wait": 60.0, "retry.share": 0.2}),
        ('retry.on = "OSError"', {"retry.on": (OSError,)}),
        ('breaker = { window = "1m", open_for = 5, slow = "none", on = "none", key = "host", minimum = 3 }',
         {"breaker.window": 60.0, "breaker.open_for": 5, "breaker.slow": None, "breaker.on": None,
          "breaker.key": "host", "breaker.minimum": 3}),
        ('throttle = [{ rate = "60/m" }, { concurrency = "adaptive", slow = "50ms" }]',
         {"throttle.rate": 1.0, "throttle[1].concurrency": "adaptive", "throttle[1].slow": 0.05}),
        ('throttle = { rate = "none", burst = 3, over = "reject" }',
         {"throttle.rate": None, "throttle.burst": 3, "throttle.over": "reject"}),
        ('budget = { name = "usd", limit = 9, per = "1d", estimate = 2, keys = { a = { limit = 5 } } }',
         {"budget.name": "usd", "budget.limit": 9, "budget.per": 86_400.0, "budget.estimate": 2,
          "budget.keys": {"a": {"limit": 5}}}),
        ('fair = "tenant"', {"fair": "tenant"}),
    ],
)  # fmt: skip
def test_values_are_as_in_python_and_times_may_be_text(text: str, expected: dict[str, object]) -> None:
    """Times are seconds, rates are per second; a field of a second throttle has its number."""
    assert policy(text) == expected


@pytest.mark.parametrize("part", ["timeout", "retry", "breaker", "throttle", "budget", "fair"])
def test_none_takes_a_part_away(part: str) -> None:
    """Case 60. As a text, since TOML has no null."""
    assert policy(f'{part} = "none"') == {part: None}


@pytest.mark.parametrize("part", ["idempotent", "fallback", "batch"])
def test_what_is_from_code_only_can_be_taken_away_only(part: str) -> None:
    """The error says where it belongs."""
    assert policy(f'{part} = "none"') == {part: None}
    assert errors("policy", f"{part} = true") == [
        f"policy.0.{part} True: write it in the code; a file can only take it away, with 'none'"
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("timeout = 0", "timeout 0: use a number above 0"),
        ("timeout = nan", "timeout nan: use a number above 0"),
        ("timeout = true", "timeout True: use a number above 0"),
        (f"timeout = 1{'0' * 400}", f"timeout 1{'0' * 400}: use a number above 0"),
        ("timeout = 1979-05-27", "timeout datetime.date(1979, 5, 27): use a number above 0"),
        ('timeout = "5"', "timeout '5': use seconds, or a text such as '30s', '5m', '12h', '1d'"),
        ("grace = -1", "grace -1: use a number of at least 0"),
        ("timout = 5", "timout 5: there is no such key; use one of queue_timeout, timeout, deadline, retry, breaker, "
         "throttle, budget, fair, fallback, batch, grace, shed, idempotent"),
        ("retry = 3", "retry 3: use a table, or 'none'"),
        ("throttle = []", "throttle []: use a table, or 'none'"),
        ("retry = [{ attempts = 3 }]", "retry [{'attempts': 3}]: use a table, or 'none'"),
        ("retry.attempts = 2.5", "retry.attempts 2.5: use a whole number of at least 1"),
        ('retry.attempts = "none"', "retry.attempts 'none': use a whole number of at least 1"),
        ("retry.on = []", "retry.on []: use error classes, such as (ConnectionError, TimeoutError)"),
        ('retry.on = ["TransportError"]', "retry.on ['TransportError']: name a built-in error, or one with its module, "
         "such as 'httpx.TransportError'"),
        ('retry.on = ["int", 5]', "retry.on ['int', 5]: name a built-in error, or one with its module, such as "
         "'httpx.TransportError'"),
        ("breaker.failure_rate = 2", "breaker.failure_rate 2: use a number above 0 and at most 1"),
        ("throttle.rate = 0", "throttle.rate 0: use a number above 0"),
        ("throttle.concurrency = 'fast'", "throttle.concurrency 'fast': use a whole number, or 'adaptive'"),
        ("throttle = [{ rate = 1 }, { rat = 1 }]", "throttle.1.rat 1: there is no such key; use one of rate, burst, "
         "concurrency, slow, key, over, keys"),
        ("throttle.keys = { acme = 5 }", "throttle.keys {'acme': 5}: use a table"),
        ("throttle.keys.acme.over = 'wait'", "throttle.keys.acme.over 'wait': there is no such key; use one of rate, "
         "burst, concurrency"),
        ("throttle.keys.acme.rate = '5'", "throttle.keys.acme.rate '5': use a number per second, or a text such as "
         "'100/s', '5/m', '1000/h'"),
        ("budget.limit = -1", "budget.limit -1: use a number of at least 0"),
        ("fair = 7", "fair 7: use the name of a tag or of a parameter, or a function of the arguments"),
    ],
)  # fmt: skip
def test_each_bad_value_of_a_policy_is_named(text: str, error: str) -> None:
    """Case 59. With the place, the value and the remedy."""
    assert errors("policy", text) == [f"policy.0.{error}"]


# --- Throttles and flags ----------------------------------------------------------------------------------------------


def test_a_throttle_of_a_file_is_one_for_all_tokens_of_a_selector() -> None:
    """Case 60. Values of its key may have limits of their own; the selector may use all fields and tags."""
    report = Report()
    tables = tomllib.loads('rate = "10/s"\nkey = "tenant"\nkeys = { acme = { rate = "20/s", burst = 5 } }')
    rows = _file.throttles([{"select": "tenant=free", **tables}], report)

    own = {"acme": Throttle(rate=20, burst=5, key="tenant")}
    assert rows == (ThrottleRow(7, "tenant=free", Throttle(rate=10, key="tenant"), own),)
    assert report == Report([], [None])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "rate None: set a rate, a concurrency, or both"),
        ("rate = -1", "rate -1: use a number above 0"),
        ('concurrency = "adaptive"', "slow None: set the seconds above which an attempt is slow"),
        ("concurrency = 5\nslow = 1", "slow 1: it is for concurrency='adaptive'"),
        ("concurrency = 5\nkey = 'a'\nkeys.a.burst = 2", "keys.a.burst 2: set the rate that it belongs to"),
        ("concurrency = 5\nkeys.a.concurrency = 2",
         "key None: name the tag or parameter of which keys has values"),
        ("rate = 1\nretry = { attempts = 2 }", "retry {'attempts': 2}: there is no such key; use one of rate, burst, "
         "concurrency, slow, key, over, keys"),
    ],
)  # fmt: skip
def test_values_of_a_throttle_that_do_not_fit_together_are_named(text: str, error: str) -> None:
    """Case 59. In a policy they may fit those of the code; here they are all."""
    assert errors("throttle", text) == [f"throttle.0.{error}"]


def test_a_flag_is_for_all_tokens_of_its_selector_unless_it_says_less() -> None:
    """By percent, and by a tag or parameter."""
    flags = [{"select": "a=b", "mode": "off"}, {"select": "a=c", "mode": "observe", "percent": 0.5, "by": "tenant"}]

    assert _file.flags(flags, Report()) == (
        FlagRow(7, "a=b", "off", 100.0),
        FlagRow(7, "a=c", "observe", 0.5, "tenant"),
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "mode None: use one of 'off', 'observe', 'enforce'"),
        ('mode = "on"', "mode 'on': use one of 'off', 'observe', 'enforce'"),
        ('mode = "off"\npercent = 101', "percent 101: use a number of at least 0 and at most 100"),
        ('mode = "off"\nby = ""', "by '': use the name of a tag or of a parameter, or a function of the arguments"),
        ('mode = "off"\nline = 3', "line 3: there is no such key; use one of mode, percent, by"),
    ],
)
def test_each_bad_value_of_a_flag_is_named(text: str, error: str) -> None:
    """Case 59."""
    assert errors("flag", text) == [f"flag.0.{error}"]


# --- Effect -----------------------------------------------------------------------------------------------------------


CODE = Policy(
    timeout=9,
    retry=Retry(OSError, attempts=2),
    throttle=(Throttle(rate=5), Throttle(concurrency=2)),
    batch=Batch(size=3),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", CODE),
        ('timeout = "1m"\nshed = 1', attrs.evolve(CODE, timeout=60)),
        ("retry = { attempts = 5, share = 1 }", attrs.evolve(CODE, retry=Retry(OSError, attempts=5))),
        ('retry = "none"\nbatch = "none"\nidempotent = "none"', attrs.evolve(CODE, retry=None, batch=Batch(size=1))),
        ("breaker.minimum = 3", attrs.evolve(CODE, breaker=Breaker(minimum=3))),
        ("throttle = { burst = 3, keys.a.rate = 1 }",
         attrs.evolve(CODE, throttle=(Throttle(rate=5, burst=3), Throttle(concurrency=2)))),
        ("throttle = [{}, { concurrency = 4 }, { rate = 1 }]",
         attrs.evolve(CODE, throttle=(Throttle(rate=5), Throttle(concurrency=4), Throttle(rate=1)))),
        ('throttle = "none"', attrs.evolve(CODE, throttle=())),
        ('budget = { name = "usd", limit = 5 }', attrs.evolve(CODE, budget=Budget("usd", 5))),
    ],
)  # fmt: skip
def test_fields_of_a_file_replace_those_of_the_code(text: str, expected: Policy) -> None:
    """Case 60. Field by field; a part that the code does not have is made.

    Without its batch, a function that takes a list is given lists of one.
    """
    assert with_fields(CODE, policy(text)) == expected


@pytest.mark.parametrize(
    ("text", "place", "field"),
    [
        ("retry.attempts = 3", "Retry", "on"),
        ('budget.name = "usd"', "Budget", "limit"),
        ("throttle.burst = 3", "Throttle", "rate"),
    ],
)
def test_a_part_that_is_made_needs_all_that_it_cannot_do_without(text: str, place: str, field: str) -> None:
    """Case 60. The code may have the rest; where it does not, the field is named."""
    with pytest.raises(BadPolicy) as caught:
        with_fields(Policy(), policy(text))

    assert (caught.value.place, caught.value.field) == (place, field)


# --- Errors by name ---------------------------------------------------------------------------------------------------


class TransportError(Exception):
    """As one of a library."""


class ReadTimeout(TransportError):
    """One below it."""


def test_an_error_is_matched_by_its_qualified_name_or_that_of_a_base() -> None:
    """Case 60. Nothing is imported; built-in errors are themselves."""
    TransportError.__module__ = "lib._inner.errors"
    full = error_named("on", "lib._inner.errors.TransportError")

    assert isinstance(TransportError(), full)
    assert isinstance(ReadTimeout(), (ValueError, full))
    assert not isinstance(ConnectionError(), full)
    assert error_named("on", "lib._inner.errors.TransportError") is full
    assert error_named("on", "OSError") is OSError


def test_a_package_stands_for_the_modules_in_it() -> None:
    """As in `requests.ConnectionError`, whose class is in `requests.exceptions`."""
    TransportError.__module__ = "lib._inner.errors"

    assert isinstance(TransportError(), error_named("on", "lib.TransportError"))
    assert not isinstance(TransportError(), error_named("on", "li.TransportError"))
    assert not isinstance(TransportError(), error_named("on", "lib.Error"))


@pytest.mark.parametrize("name", ["", "Nope", "int", "KeyboardInterrupt", "a..b", "a.b-c", ".a", 5, None])
def test_what_is_no_name_of_an_error_is_refused(name: object) -> None:
    """Errors that end a program are never retried."""
    with pytest.raises(BadPolicy, match="name a built-in error"):
        error_named("on", name)
