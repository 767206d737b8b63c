"""The wire: what a line may be, and what is said about one that is not."""

from __future__ import annotations

import os
from typing import Any

import attrs
import msgspec
import pytest
import trio
from made_events import made_event

from tokengate.control._exceptions import BadRequest, UnknownToken, UnknownVerb
from tokengate.control.messages import (
    VERBS,
    Event,
    Limit,
    Message,
    Outcome,
    Pause,
    Retag,
    SetState,
    SetThrottle,
    Stream,
    TokenPage,
    TokenRow,
    Tokens,
    Visit,
    answer_of,
    verb_of,
)
from tokengate.control.transport import _protocol
from tokengate.control.transport._protocol import Request

_ROW = TokenRow(1, "resize", "/gate/operations/resize", "cpu", "running", 0, {"a": "b"}, None, 1, 3, 1.5, 0.5)

# {field: a value that JSON has}
_VALUES: dict[str, Any] = {
    "method": "restock",
    "name": "a",
    "token": 1,
    "priority": 2,
    "select": "*",
    "id": "b",
    "values": {"n": "1"},
    "mode": "observe",
    "seconds": "30s",
    "step": 3,
    "number": 4,
    "seq": 5,
    "verb": "pause",
}


def _example(found: type[Message]) -> Message:
    """A message of a class with a value in each field that has none of its own."""
    fields = [field.name for field in attrs.fields(found) if field.default is attrs.NOTHING]
    missing = [name for name in fields if name not in _VALUES]
    assert not missing, f"fields of {found.__name__} need a value in _VALUES: {missing}"
    return found(**{name: _VALUES[name] for name in fields})


def _request(verb: str, args: str) -> Request:
    return _protocol.decode_request(f'{{"id": 1, "verb": "{verb}", "args": {args}}}'.encode())


@pytest.mark.parametrize("found", [found for found in VERBS.values() if not found.local], ids=verb_of)
def test_each_verb_comes_through_the_wire_as_it_was(found: type[Message]) -> None:
    """What the client writes is what the server reads, for every message that is not local."""
    message = _example(found)
    line = _protocol.encode_request(7, message)
    request = _protocol.decode_request(line)

    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert request.id == 7
    assert _protocol.decode_message(request) == message


def test_arguments_that_are_left_out_are_the_defaults() -> None:
    """`args` may be left out, and any part of it that has a default."""
    assert _protocol.decode_message(Request(1, "tokens")) == Tokens()
    assert _protocol.decode_message(_request("pause", '{"select": [1, 2]}')) == Pause((1, 2))
    assert _protocol.decode_message(_request("retag", '{"select": [1], "set": {"a": "b"}}')) == Retag((1,), {"a": "b"})
    assert _protocol.decode_message(_request("limit", '{"select": [1], "memory": "2GiB", "cpu_time": 5}')) == Limit(
        (1,), memory="2GiB", cpu_time=5
    )


@pytest.mark.parametrize(
    ("verb", "args", "said"),
    [
        ("pawse", "{}", "no verb 'pawse'; there are: actors, "),
        ("on_tokens", "{}", "no verb 'on_tokens'"),
        ("message", "{}", "no verb 'message'"),
        ("visit", '{"name": "a", "function": "os.system"}', "'visit' cannot come through a socket"),
        (
            "pause",
            '{"selektor": "*"}',
            "'pause' has no field 'selektor'; its fields are: select, wait, stop_clock, ",
        ),
        ("info", '{"all": true}', "'info' has no field 'all'; its fields are: none"),
        ("describe", "{}", "'describe' needs a value for its field 'token'"),
        ("describe", '{"token": "1"}', "token of describe is '1'; it must be an int"),
        ("describe", '{"token": 1.5}', "token of describe is 1.5; it must be an int"),
        ("describe", "[1]", "Expected `object`, got `array`"),
        (
            "terminate",
            '{"select": "*", "mode": "nicely"}',
            "mode of terminate is 'nicely'; it must be one of 'cancel', 'inter",
        ),
        ("step", '{"select": [1], "n": 0}', "n is 0; it must be an int of at least 1"),
        ("throttle", '{"select": "*", "rate": 0}', "rate is 0; it must be a number above 0"),
        ("pause", '{"select": "*", "wait": 3601}', "wait is 3601; it must be a number of seconds from 0 to 3600"),
        ("pause", '{"select": ""}', "an empty selector would name every token"),
        ("cancel", "{}", "'cancel' needs a value for its field 'request'"),
    ],
)
def test_what_is_wrong_with_a_question_is_said(verb: str, args: str, said: str) -> None:
    """The error names the verb, and the field or value that is wrong; unknown fields are never passed over."""
    with pytest.raises((BadRequest, UnknownVerb), match=said):
        _protocol.decode_message(_request(verb, args))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"id": 1}',
        b'{"verb": "info"}',
        b'{"id": -1, "verb": "info"}',
        b'{"id": 1.5, "verb": "info"}',
        b'{"id": 99999999999999999999, "verb": "info"}',
        b'{"id": 1, "verb": "\\ud800"}',
        b'{"id": 1, "verb": "info", "args": {}, "pickle": ""}',
        b'{"id": 1, "verb": "info", "args": ' + b"[" * 30_000,
        b"[" * 60_000,
        b'{"id": 1, "verb": "info"} {"id": 2, "verb": "info"}',
    ],
)
def test_a_line_that_is_no_request_is_a_bad_request(line: bytes) -> None:
    """Whatever comes, nothing but `BadRequest` is raised for it."""
    with pytest.raises(BadRequest, match="not a request"):
        _protocol.decode_request(line)


@pytest.mark.parametrize("value", ["[" * 20_000 + "]" * 20_000, "9" * 9_000, '"\\ud800"', "1e999"])
def test_values_that_python_cannot_hold_are_a_bad_request(value: str) -> None:
    """Values of any JSON type, as for `set_state`, may still be too deep, too long, or no text."""
    with pytest.raises(BadRequest):
        _protocol.decode_message(_request("set_state", f'{{"name": "a", "values": {{"a": {value}}}}}'))


def test_long_input_is_cut_in_the_error() -> None:
    """An error about a field does not send all of it back."""
    with pytest.raises(BadRequest) as caught:
        _protocol.decode_message(_request("info", f'{{"{"x" * 10_000}": 1}}'))

    assert len(str(caught.value)) < 200


def test_the_hello_tells_both_protocols() -> None:
    """A client of another protocol learns its number and ours."""
    _protocol.check_client_hello(_protocol.encode_client_hello())

    with pytest.raises(BadRequest, match="protocol 1, and this gate 2"):
        _protocol.check_client_hello(b'{"hello": {"protocol": 1}}')


@pytest.mark.parametrize("line", [b"", b"GET / HTTP/1.1", b'{"id": 1, "verb": "info"}', b'{"hello": 1}', b"[" * 60_000])
def test_a_first_line_that_is_no_hello_is_told_what_one_looks_like(line: bytes) -> None:
    """Whoever types by hand learns how to begin."""
    with pytest.raises(BadRequest, match=r'begin with {"hello":{"protocol":2}}'):
        _protocol.check_client_hello(line)


def test_replies_come_through_the_wire_as_they_were() -> None:
    """A result, an item, an end and an error are told apart, and carry the request's id."""
    outcomes = (Outcome(1, "resize", "paused"),)
    result = _protocol.decode_reply(_protocol.encode_result(1, outcomes))
    item = made_event(1.5, "token.dead_letter", "/a", None, "all of it", lost=3)

    assert msgspec.json.decode(result.result, type=tuple[Outcome, ...]) == outcomes
    assert _protocol.decode_reply(_protocol.encode_item(2, item)).item == item
    assert _protocol.decode_reply(_protocol.encode_end(3)).end
    assert _protocol.decode_reply(_protocol.encode_error(4, UnknownToken("no token 9"))).error == _protocol.ErrorText(
        "UnknownToken", "no token 9"
    )


def test_the_text_of_an_error_is_taken_without_calling_it() -> None:
    """A subclass may have a `__str__` of its own, which is a user's code."""

    class Sly(UnknownToken):
        def __str__(self) -> str:
            raise AssertionError("called")

    told = _protocol.decode_reply(_protocol.encode_error(None, Sly("text"))).error

    assert told == _protocol.ErrorText("Sly", "text")


def test_text_that_utf_8_does_not_have_is_told_nevertheless() -> None:
    """Names of files may hold bytes that are no text; an error about one gets through."""
    told = _protocol.decode_reply(_protocol.encode_error(1, UnknownToken("file \udcff"))).error

    assert told == _protocol.ErrorText("UnknownToken", "file \\udcff")


def test_answers_and_items_with_text_that_utf_8_does_not_have_are_given_nevertheless() -> None:
    """Names and tags may be those of files; one such token must not hide all others from `ps`."""
    name = os.fsdecode(b"caf\xe9.png")
    rows = (attrs.evolve(_ROW, operation=name, tags={name: name}), _ROW)
    result = _protocol.decode_reply(_protocol.encode_result(1, TokenPage(rows, 2, 2, 0)))
    item = _protocol.decode_reply(_protocol.encode_item(2, made_event(1.5, "token.dead_letter", "/a", None, name))).item
    shown = r"caf\udce9.png"

    assert msgspec.json.decode(result.result, type=TokenPage) == TokenPage(
        (attrs.evolve(_ROW, operation=shown, tags={shown: shown}), _ROW), 2, 2, 0
    )
    assert item == made_event(1.5, "token.dead_letter", "/a", None, shown)


def test_an_answer_that_no_client_would_read_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the size that it may have and the remedy; of a long one, no more than that is made."""
    monkeypatch.setattr(_protocol, "MAX_ANSWER", 100)

    with pytest.raises(BadRequest, match=r"has more than 100 bytes; ask for less"):
        trio.run(_protocol.encode_answer, 1, "x" * 200)
    with pytest.raises(BadRequest, match=r"has more than 100 bytes; ask for less"):
        trio.run(_protocol.encode_answer, 1, (_ROW,) * 2_000)
    assert trio.run(_protocol.encode_answer, 1, "x" * 78) == b'{"id":1,"result":"' + b"x" * 78 + b'"}\n'


@pytest.mark.parametrize("many", [0, 1, 499, 500, 501, 1_000, 2_345])
def test_an_answer_that_is_written_in_parts_is_the_same(many: int) -> None:
    """Rows of a page, and an answer that is a tuple."""
    rows = tuple(attrs.evolve(_ROW, id=number) for number in range(many))
    for answer in (TokenPage(rows, many, 9_999, 0), rows):
        line = trio.run(_protocol.encode_answer, 7, answer)
        assert line == msgspec.json.encode({"id": 7, "result": answer}) + b"\n"


def test_a_long_answer_is_written_in_several_turns() -> None:
    """The loop is free for others between two of them."""
    rounds = 0

    async def main() -> None:
        async def count() -> None:
            nonlocal rounds
            while True:
                rounds += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            await _protocol.encode_answer(7, TokenPage((_ROW,) * 10_000, 0, 0, 0))
            nursery.cancel_scope.cancel()

    trio.run(main)

    assert rounds >= 19


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (Visit("a", len), "'visit' cannot go through a socket"),
        (SetState("a", {"n": object()}), "'set_state' cannot go through a socket .*; use JSON's types"),
        (SetState("a", {"n": "\udcff"}), r"'set_state' cannot go through a socket: '\\udcff' is no text, .* use other"),
        (
            Tokens("file=caf\udce9" + "." * 99),
            r"'tokens' cannot go through a socket: 'file=caf\\udce9\.{29}' is no text",
        ),
        (Tokens("x" * 70_000), "'tokens' has 70... bytes, and may have 65536"),
    ],
)
def test_the_client_refuses_what_the_gate_would_not_read(message: Message, said: str) -> None:
    """The error comes before anything is sent."""
    with pytest.raises(BadRequest, match=said):
        _protocol.encode_request(1, message)


def test_a_number_that_json_does_not_have_is_refused_by_the_gate() -> None:
    """Infinity becomes null on the wire, which is no number: it is never taken for something else."""
    line = _protocol.encode_request(1, Pause("*", wait=float("inf")))
    with pytest.raises(BadRequest, match="wait of pause is None; it must be a number of seconds"):
        _protocol.decode_message(_protocol.decode_request(line))

    assert SetThrottle("*").rate is None  # where null does mean something, it is the default


def test_streams_are_answered_by_items() -> None:
    """Each verb of a stream has the item as its answer."""
    assert {verb_of(found) for found in VERBS.values() if issubclass(found, Stream)} == {
        "watch",
        "follow_audit",
    }
    assert all(answer_of(found) is Event for found in VERBS.values() if issubclass(found, Stream))
