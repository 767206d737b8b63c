"""Callers of a gate: files of grants, a message of every verb, and clients that ask on behalf of others."""

from __future__ import annotations

import json
import os
import socket
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args, get_origin, get_type_hints

import attrs
from gated_code import LIMIT

from tokengate import Gate
from tokengate.control import _exceptions
from tokengate.control._actor import ControlActor
from tokengate.control.messages import Message
from tokengate.control.transport._protocol import encode_client_hello, encode_request
from tokengate.errors import UnknownActor

OWN: Final = os.geteuid()
ANN, BOB = 10_001, 10_002  # users that are neither ours nor root


def grants(*rows: tuple[str, str] | tuple[str, str, str]) -> str:
    """Return the text of grants, each `(to, role)` or `(to, role, selector)`, with spaces between words."""
    text = ""
    for to, role, *select in rows:
        text += f"[[grant]]\nto = {to.split()}\nrole = {role.split()}\n"
        text += "".join(f"select = {one!r}\n" for one in select)
    return text


def control_actor(gate: Gate) -> ControlActor:
    """Return the control actor of a gate."""
    found = gate._open_system.find("$system/control")
    actor: ControlActor = found.instance  # type: ignore[attr-defined]
    return actor


@contextmanager
def gates_of(file: Path, **defaults: Any) -> Iterator[Callable[..., Gate]]:
    """Return a function that opens gates named `shop` with a text as their file; they are closed at the end."""
    with ExitStack() as opened:

        def open_(text: str = "", **options: Any) -> Gate:
            file.touch(0o600)
            file.write_text(text)
            gate = opened.enter_context(Gate("shop", config=file, shutdown=LIMIT, **{**defaults, **options}))
            opened.callback(gate.close, drain=False)
            return gate

        yield open_


_KNOWN: Final = {"select": "*", "name": "mailer"}
_OF_TYPE: Final[dict[Any, Any]] = {str: "x", int: 1, float: 1.0, bool: True, dict: {"a": "1"}, tuple: ()}


def sample(message: type[Message[Any]], **fields: Any) -> Message[Any]:
    """Return a message that can be admitted: about all tokens, or the actor `mailer`."""
    hints = get_type_hints(message)
    for field in attrs.fields(message):
        if field.default is attrs.NOTHING and field.name not in fields:
            kind = hints[field.name]
            if get_origin(kind) is types.UnionType:
                kind = get_args(kind)[0]
            value = get_args(kind)[0] if get_origin(kind) is Literal else _OF_TYPE.get(get_origin(kind) or kind, vars)
            fields[field.name] = _KNOWN.get(field.name, value)
    return message(**fields)


class Wire:
    """A connection to the socket of a gate, on which others can be asked for.

    Args:
        gate: the gate, in this process.
    """

    def __init__(self, gate: Gate) -> None:
        server = gate._control_server
        assert server is not None
        assert server.path is not None
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(LIMIT)
        self._socket.connect(str(server.path))
        self._lines = self._socket.makefile("rb")
        self._asked = 0
        assert "hello" in self.receive()
        self._socket.sendall(encode_client_hello())

    def receive(self) -> Any:
        """Return the next line."""
        return json.loads(self._lines.readline())

    def send(self, line: Mapping[str, Any]) -> Any:
        """Send a request, and return the line that answers it."""
        self._socket.sendall(json.dumps(line).encode() + b"\n")
        return self.receive()

    def ask(
        self,
        message: Message[Any],
        principal: str = "",
        owner: int | None = None,
        groups: tuple[int, ...] = (),
        **more: object,
    ) -> Any:
        """Return the answer to a message as JSON, on behalf of a principal if one is named, with more fields.

        Raises:
            ControlError: of the class that the answer names; UnknownActor for others.
        """
        self._asked += 1
        line = json.loads(encode_request(self._asked, message))
        if principal:
            line["on_behalf_of"] = {"principal": principal, "owner": owner, "groups": groups, **more}
        answer = self.send(line)
        if error := answer.get("error"):
            raise getattr(_exceptions, error["type"], UnknownActor)(error["message"])
        return answer["result"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()
