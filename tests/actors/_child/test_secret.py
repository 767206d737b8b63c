"""Secrets: they are passed on, and no text has their value."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable
from typing import Any

import attrs
import cloudpickle
import msgspec
import pytest
from rich.console import Console
from rich.pretty import pretty_repr

from actors import Secret

CANARY = "canary-8d1f"
SECRET = Secret(CANARY)


@attrs.frozen
class OfAttrs:
    key: Secret[str]


@dataclasses.dataclass
class OfDataclass:
    key: Secret[str]


def traced() -> str:
    held = SECRET
    try:
        raise LookupError(held)
    except LookupError as error:
        return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def logged() -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.handle(logging.makeLogRecord({"msg": "%s %r %(key)s", "args": (SECRET, SECRET)} | {"msg": "%s %r"}))
    return stream.getvalue()


def printed() -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(SECRET, [SECRET], {"key": SECRET})
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


TEXTS: dict[str, Callable[[], str]] = {
    "repr": lambda: repr(SECRET),
    "str": lambda: str(SECRET),
    "format": lambda: f"{SECRET} {SECRET!r} {SECRET:>20} {SECRET:^20}",
    "percent": lambda: "%s %r" % (SECRET, SECRET),  # noqa: UP031
    "container": lambda: repr([{"key": (SECRET,)}]),
    "pprint": lambda: pprint.pformat({"key": SECRET}),
    "rich": printed,
    "rich's repr": lambda: pretty_repr(SECRET),
    "attrs": lambda: repr(OfAttrs(SECRET)) + repr(attrs.asdict(OfAttrs(SECRET))),
    "dataclass": lambda: repr(OfDataclass(SECRET)) + repr(dataclasses.asdict(OfDataclass(SECRET))),
    "error": lambda: repr(ValueError(SECRET)) + str(KeyError(SECRET)),
    "traceback": traced,
    "log": logged,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_it_prints_as_stars_everywhere(text: Callable[[], str]) -> None:
    """However it is made into text."""
    assert "Secret(***)" in text()
    assert CANARY not in text()


@pytest.mark.parametrize(
    "use",
    [
        json.dumps,
        msgspec.json.encode,
        msgspec.to_builtins,
        lambda secret: secret < secret,  # noqa: PLR0124
        lambda secret: secret + "more",
        lambda secret: "%d" % secret,  # noqa: UP031
        lambda secret: f"{secret:d}",
        len,
        iter,
        vars,
        bytes,
        int,
    ],
)
def test_what_needs_the_value_is_an_error_without_it(use: Callable[[Any], Any]) -> None:
    """JSON has no form for it, and it has no order, length or number."""
    with pytest.raises((TypeError, ValueError)) as caught:
        use(SECRET)

    assert CANARY not in str(caught.value)


def test_its_value_is_revealed_to_those_who_ask() -> None:
    """The object itself."""
    value = ["a"]

    assert Secret(value).reveal() is value


@pytest.mark.parametrize("value", ["a", "\ud800", b"a", 5, ("a", 1), None])
def test_it_equals_another_one_of_the_same_value(value: Any) -> None:
    """And has its hash; the plain value is another thing, and so is bytes for text."""
    assert Secret(value) == Secret(copy.copy(value))
    assert hash(Secret(value)) == hash(Secret(copy.copy(value)))
    assert Secret(value) != Secret("b")
    assert Secret(value) != value
    assert Secret("a") != Secret(b"a")


def test_texts_are_compared_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long that takes does not tell where they differ."""
    compared = []
    monkeypatch.setattr("hmac.compare_digest", lambda one, other: compared.append((one, other)) or one == other)

    assert Secret("ä") == Secret("ä")
    assert Secret(b"a") != Secret(b"b")
    assert compared == [(b"\xc3\xa4", b"\xc3\xa4"), (b"a", b"b")]


def test_one_of_what_has_no_hash_has_none() -> None:
    """The error does not show the value."""
    with pytest.raises(TypeError, match="unhashable type: 'list'"):
        hash(Secret([CANARY]))


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda one: pickle.loads(pickle.dumps(one)),
        lambda one: cloudpickle.loads(cloudpickle.dumps(one)),
    ],
)
def test_a_copy_is_equal(copied: Callable[[Secret[Any]], Secret[Any]]) -> None:
    """The value is copied as deeply as the copy goes."""
    value = [CANARY]
    made = copied(Secret(value))

    assert type(made) is Secret
    assert made == Secret([CANARY])
    assert (made.reveal() is value) is (copied is copy.copy)


def test_it_has_no_subclasses() -> None:
    """They could print it."""
    with pytest.raises(TypeError, match="no subclasses"):
        type("Open", (Secret,), {})  # type: ignore[misc]
