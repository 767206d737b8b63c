"""The protocol of the control socket: lines of JSON.

Each line is one JSON object, in UTF-8. The server sends the first line:

    server  {"hello": {"protocol": 2, "gate": "indexer", "pid": 4711, "version": "0.1.0"}}
    client  {"hello": {"protocol": 2}}

Then the client sends requests, several at once if it likes; replies have the id of their request, in any order:

    client  {"id": 1, "verb": "describe", "args": {"token": 42}}
    server  {"id": 1, "result": {...}}
    client  {"id": 2, "verb": "describe", "args": {"token": 43}}
    server  {"id": 2, "error": {"type": "UnknownToken", "message": "token 43 is not live: no token has had this id"}}

A verb that changes something may have `reason`, `dry_run`, `force` and `break_glass` beside its arguments. A client of
the gate's own user, or of root, may ask for another one, by `on_behalf_of` with `principal`, `owner` and `groups`, and
with `rights`, if that one may use no others, and `request`, under which it is recorded.

    client  {"id": 2, "verb": "pause", "args": {"select": "tenant=acme"}, "force": true, "reason": "too many"}

A stream is answered by a result when it is open, after which the client misses nothing, and then by items, until it
ends, fails, or is cancelled by the client:

    client  {"id": 3, "verb": "watch"}
    server  {"id": 3, "result": true}
    server  {"id": 3, "item": {...}}
    client  {"id": 4, "verb": "cancel", "args": {"request": 3}}
    server  {"id": 4, "result": true}
    server  {"id": 3, "end": true}

A stream that is cancelled before it is open is answered by its end only. An error without an id is about the line or
the connection. Text that UTF-8 cannot encode, such as a file name of other bytes, is escaped by the server, and cannot
be sent by a client.
The verbs are `ALL_VERBS`, their arguments are the fields of the messages. When a client closes its side, its requests
are cancelled. Nothing is ever unpickled or evaluated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

import attrs
import msgspec

from actors import TokenGateError
from tokengate.control._exceptions import BadRequest, UnknownVerb
from tokengate.control._validation import message_of
from tokengate.control.inspection._turns import next_turn
from tokengate.control.messages import ENVELOPE, RIGHTS, Event, Message, verb_of
from tokengate.control.registry._kinds import ALL_VERBS
from tokengate.control.stream._events import json_of

PROTOCOL = 2
MAX_REQUEST = 64 * 1024  # bytes of a line from a client
MAX_ANSWER = 16 * 2**20  # bytes of a line from a server

_ITEMS = 500  # items of an answer that are written in one turn: a millisecond
_PART = 4_096  # bytes after which the next part gets a turn of its own

RequestId = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]  # integers that every JSON parser keeps exactly


class ServerHello(msgspec.Struct, frozen=True):
    """The first line of a server.

    Attributes:
        protocol: number of the protocol that this module describes.
        gate: name of the gate.
        pid: of its process.
        version: of TokenGate in that process.
    """

    protocol: int
    gate: str = ""
    pid: int = 0
    version: str = ""


_SystemId = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]  # of a user or a group


class OnBehalfOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The caller for whom a client sends a request: the daemon of the admin page is such a client.

    Attributes:
        principal, owner, groups: of the caller.
        rights: those that it may use at most, whatever the gate grants; None: all that it has.
        request: id of the client's own request, for the record; empty: the gate counts.
    """

    principal: Annotated[str, msgspec.Meta(max_length=256)]
    owner: _SystemId | None
    groups: tuple[_SystemId, ...] = ()
    rights: tuple[str, ...] | None = None
    request: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request; its arguments are not decoded yet. What follows them is for verbs that change something."""

    id: RequestId
    verb: str
    args: msgspec.Raw = msgspec.Raw(b"{}")
    reason: str = ""
    dry_run: bool = False
    force: bool = False
    break_glass: str = ""
    on_behalf_of: OnBehalfOf | None = None


class ErrorText(msgspec.Struct, frozen=True):
    """An error: the name of its class, and its text."""

    type: str
    message: str


class Reply(msgspec.Struct, frozen=True):
    """A line from the server: `error`, `item`, `end`, or else `result`, which is not decoded yet.

    The result of a stream means that it is open.
    """

    id: int | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: ErrorText | None = None
    item: Event | None = None
    end: bool = False


class _ServerLine(msgspec.Struct, frozen=True):
    """The first line from a server: its hello, or why it refuses the connection."""

    hello: ServerHello | None = None
    error: ErrorText | None = None


class _ClientHello(msgspec.Struct, frozen=True):
    protocol: int


class _ClientLine(msgspec.Struct, frozen=True):
    hello: _ClientHello


@attrs.frozen
class Cancel(Message[bool]):
    """End one of this connection's streams; the answer is whether it was still open."""

    right: ClassVar = "view"
    request: int


_OWN: Mapping[str, type[Message[Any]]] = {verb_of(Cancel): Cancel}

# What msgspec raises for wrong input: not JSON, wrong types, not UTF-8 (all ValueErrors), nested too deeply.
_WRONG = (ValueError, RecursionError)

# --- What the server reads -------------------------------------------------------------------------------------------


def check_client_hello(line: bytes) -> None:
    """Accept the first line of a client, or raise `BadRequest`."""
    try:
        theirs = msgspec.json.decode(line, type=_ClientLine).hello.protocol
    except _WRONG as error:
        wanted = msgspec.json.encode({"hello": {"protocol": PROTOCOL}}).decode()
        raise BadRequest(f"the first line is not a hello ({error}); begin with {wanted}") from None
    if theirs != PROTOCOL:
        raise BadRequest(
            f"the client speaks protocol {theirs}, and this gate {PROTOCOL}; use the same TokenGate for both"
        )


def decode_request(line: bytes) -> Request:
    """Decode a request without its arguments, or raise `BadRequest`."""
    try:
        return msgspec.json.decode(line, type=Request)
    except _WRONG as error:
        raise BadRequest(
            f'the line is not a request ({error}); send {{"id": a number, "verb": ..., "args": {{...}}}}'
        ) from None


def decode_message(request: Request) -> Message[Any]:
    """Decode the message of a request.

    Raises:
        UnknownVerb: there is no such verb.
        BadRequest: the arguments cannot be those of the verb, or there is no such right.
    """
    left = request.on_behalf_of.rights if request.on_behalf_of is not None else None
    for right in left or ():
        if right not in RIGHTS:
            raise BadRequest(f"on_behalf_of has the right {_short(right)}; there are: {', '.join(RIGHTS)}")
    found = ALL_VERBS.get(request.verb) or _OWN.get(request.verb)
    if found is None:
        known = ", ".join(sorted({**ALL_VERBS, **_OWN}))
        raise UnknownVerb(f"there is no verb {_short(request.verb)}; there are: {known}")
    if found.local:
        raise BadRequest(f"'{request.verb}' cannot come through a socket; call it in Python, in the gate's own process")
    try:
        given = msgspec.json.decode(request.args, type=dict[str, Any])
    except _WRONG as error:
        raise BadRequest(f"arguments of '{request.verb}' cannot be read: {error}") from None
    for name in ENVELOPE:
        if name in given:
            raise BadRequest(f"'{name}' stands beside the arguments of '{request.verb}', not among them")
        if value := getattr(request, name):
            given[name] = value
    return message_of(found, given)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")


# --- What the server writes ------------------------------------------------------------------------------------------


def encode_server_hello(hello: ServerHello) -> bytes:
    return _line({"hello": hello})


def encode_result(request: int, result: object) -> bytes:
    """Encode a short answer; errors of msgspec are raised."""
    return _line({"id": request, "result": result})


async def encode_answer(request: int, answer: object) -> bytes:
    """Encode an answer, a part of it in each turn.

    Raises:
        BadRequest: it is longer than clients accept.
        Exception: an error of msgspec.
    """
    line = bytearray(b'{"id":%d,"result":' % request)
    for part in _parts(answer):
        line += part
        if len(line) > MAX_ANSWER - 2:
            raise BadRequest(f"the answer has more than {MAX_ANSWER} bytes; ask for less, with a limit")
        if len(part) >= _PART:
            await next_turn()
    line += b"}\n"
    return bytes(line)


def _parts(said: Any) -> Iterator[bytes]:
    """Yield the JSON of an answer in parts, each with so many items of a tuple, or of a tuple in a field."""
    kind = type(said)
    if kind is tuple and len(said) > _ITEMS:
        for start in range(0, len(said), _ITEMS):
            yield b"," if start else b"["
            yield _line(said[start : start + _ITEMS])[1:-2]
        yield b"]"
    elif attrs.has(kind) and any(type(getattr(said, field.name)) is tuple for field in attrs.fields(kind)):
        opening = b"{"
        for name in sorted(
            field.name for field in attrs.fields(kind)
        ):  # as msgspec orders those of an instance with slots
            yield b'%b"%b":' % (opening, name.encode())
            yield from _parts(getattr(said, name))
            opening = b","
        yield b"}"
    else:
        yield _line(said)[:-1]


def encode_item(request: int, item: Event) -> bytes:
    return _line({"id": request, "item": json_of(item)})


def encode_end(request: int) -> bytes:
    return _line({"id": request, "end": True})


def encode_error(request: int | None, error: TokenGateError) -> bytes:
    """Encode an error, without calling its `__str__`, which a subclass may override."""
    text = "; ".join(part for part in error.args if isinstance(part, str))
    return encode_failure(request, type(error).__name__, text)


def encode_failure(request: int | None, type: str, text: str) -> bytes:
    """Encode an error with this class name and text."""
    return _line({"id": request, "error": ErrorText(type, text)})


# --- What the client writes and reads --------------------------------------------------------------------------------


def encode_client_hello() -> bytes:
    return _line({"hello": _ClientHello(PROTOCOL)})


def encode_request(id: int, message: Message[Any], on_behalf_of: OnBehalfOf | None = None) -> bytes:
    """Encode a message, or raise `BadRequest` if it cannot be sent through a socket."""
    verb = verb_of(type(message))
    if message.local:
        raise BadRequest(f"'{verb}' cannot go through a socket; call it in Python, in the gate's own process")
    fields = {field.name: getattr(message, field.name) for field in attrs.fields(type(message))}
    beside = {name: value for name in ENVELOPE if (value := fields.pop(name, None))}
    if on_behalf_of is not None:
        beside["on_behalf_of"] = on_behalf_of
    try:
        line = _exact_line({"id": id, "verb": verb, "args": fields, **beside})
    except UnicodeEncodeError as error:
        near = ascii(error.object[max(0, error.start - 30) : error.start + 30])
        raise BadRequest(
            f"arguments of '{verb}' cannot go through a socket: {near} is no text, since UTF-8 has no lone surrogates; "
            "use other text, or name tokens by their ids"
        ) from None
    except (TypeError, *_WRONG) as error:
        raise BadRequest(f"arguments of '{verb}' cannot go through a socket ({error}); use JSON's types") from None
    if len(line) > MAX_REQUEST:
        raise BadRequest(f"'{verb}' has {len(line)} bytes, and may have {MAX_REQUEST}; send less at once")
    return line


def decode_server_hello(line: bytes) -> ServerHello | ErrorText:
    """Read the first line of a server, or raise ValueError."""
    try:
        first = msgspec.json.decode(line, type=_ServerLine)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    said = first.hello or first.error
    if said is None:
        raise ValueError("it is no hello")
    return said


def decode_reply(line: bytes) -> Reply:
    """Read a line of a server, or raise ValueError."""
    try:
        return msgspec.json.decode(line, type=Reply)
    except RecursionError as error:
        raise ValueError(str(error)) from None


def _line(said: object) -> bytes:
    """Write what a server says. Text that UTF-8 does not have, as the name of a file may be, has escapes instead."""
    try:
        return _exact_line(said)
    except UnicodeEncodeError:
        return _exact_line(_sayable(msgspec.to_builtins(said, str_keys=True)))


def _exact_line(said: object) -> bytes:
    return msgspec.json.encode(said) + b"\n"


def _sayable(said: Any) -> Any:
    """Return what JSON is made of, with escapes for lone surrogates."""
    if isinstance(said, str):
        return str.encode(said, "utf-8", "backslashreplace").decode()  # not its own, which a user may have written
    if isinstance(said, dict):
        return {_sayable(key): _sayable(value) for key, value in said.items()}
    if isinstance(said, list | tuple):
        return [_sayable(one) for one in said]
    return said
