"""Clients that ask a gate on behalf of others, line by line, as the daemon of the admin page does."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any, Self

from gated_code import LIMIT

from tokengate import Gate
from tokengate.control import _exceptions
from tokengate.control.messages import Message
from tokengate.control.transport._protocol import encode_client_hello, encode_request


class Wire:
    """A connection to the socket of a gate.

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
        self, message: Message[Any], principal: str = "", owner: int | None = None, groups: tuple[int, ...] = ()
    ) -> Any:
        """Return the answer to a message as JSON, on behalf of a principal if one is named.

        Raises:
            ControlError: the class that the answer names.
        """
        self._asked += 1
        line = json.loads(encode_request(self._asked, message))
        if principal:
            line["on_behalf_of"] = {"principal": principal, "owner": owner, "groups": groups}
        answer = self.send(line)
        if error := answer.get("error"):
            raise getattr(_exceptions, error["type"])(error["message"])
        return answer["result"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()
