"""Callers whose grants have selectors, in the process of a gate or through its socket on behalf of others."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import msgspec
from gated_code import LIMIT

from tokengate import Gate, errors
from tokengate.authority._authority import Authority
from tokengate.authority._decide import rights_of
from tokengate.authority._grants import Grant, Rights
from tokengate.control import _exceptions
from tokengate.control._actor import ControlActor, _Asked
from tokengate.control._admission import Caller
from tokengate.control.inspection._selector import parse
from tokengate.control.messages import Event, Message, Stream, answer_of
from tokengate.control.transport._protocol import encode_client_hello, encode_request

USER = 12_345  # of nobody here


def authority_of(gate: Gate) -> Authority:
    """Return what decides for a gate."""
    found = gate._authority
    assert found is not None
    return found


def rights(*grants: tuple[str, str], user: int = USER) -> Rights:
    """Return rights of a user; of each grant: roles and rights with spaces between, and the selector, or nothing."""
    made = []
    for line, (roles, select) in enumerate(grants):
        given = rights_of(roles.split())
        selector = parse(select) if select else None
        made.append(Grant(line, frozenset({user}), frozenset(), frozenset(), given, selector))
    return Rights(made, os.geteuid())


class Way(Protocol):
    """A way in, for one caller."""

    def ask(self, message: Message[Any]) -> Any: ...
    def follow(self, stream: Stream) -> Reader: ...


class Reader:
    """Reads a stream in a thread.

    Attributes:
        items: so far.
        refused: the text of the error by which the stream has ended; empty without one.
        ended: set at the end of the stream.
    """

    def __init__(self, items: Iterable[Event], close: Any) -> None:
        self.items: list[Event] = []
        self.refused = ""
        self.ended = threading.Event()
        self._close = close
        self._thread = threading.Thread(target=self._read, args=(items,))
        self._thread.start()

    def _read(self, items: Iterable[Event]) -> None:
        try:
            for item in items:
                self.items.append(item)
        except errors.Refused as error:
            self.refused = str(error)
        self.ended.set()

    def close(self) -> None:
        self._close()
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()

    @property
    def tokens(self) -> set[int]:
        """The ids that were told."""
        return {item.token for item in list(self.items) if item.token is not None}


class InProcess:
    """Asks a gate in this process as a user.

    Args:
        gate: the gate.
        user: the caller.
    """

    def __init__(self, gate: Gate, user: int = USER) -> None:
        place: Any = gate._system.place_at("$system/control")
        self._actor: ControlActor = place.instance
        self._ref = place.ref
        self.caller = Caller(f"uid:{user}", user)

    def ask(self, message: Message[Any]) -> Any:
        return self._ref.ask(_Asked(message, self._actor._program.job(), self.caller))

    def follow(self, stream: Stream) -> Reader:
        feed = self.ask(stream)
        return Reader(feed, feed.close)

    def close(self) -> None: ...


class OnSocket:
    """Asks a gate through its socket, on behalf of a user.

    Args:
        gate: the gate.
        user: the caller.
    """

    def __init__(self, gate: Gate, user: int = USER) -> None:
        self._gate = gate
        self._user = user
        self._socket, self._lines = self._connect()

    def _connect(self) -> tuple[socket.socket, Any]:
        server = self._gate._control_server
        assert server is not None
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(LIMIT)
        made.connect(os.fspath(server.path or ""))
        lines = made.makefile("rb")
        lines.readline()
        made.sendall(encode_client_hello())
        return made, lines

    def _send(self, to: socket.socket, message: Message[Any]) -> None:
        line = json.loads(encode_request(1, message))
        line["on_behalf_of"] = {"principal": f"uid:{self._user}", "owner": self._user, "groups": []}
        to.sendall(json.dumps(line).encode() + b"\n")

    def ask(self, message: Message[Any]) -> Any:
        self._send(self._socket, message)
        return msgspec.convert(_result(json.loads(self._lines.readline())), answer_of(type(message)), strict=False)

    def follow(self, stream: Stream) -> Reader:
        made, lines = self._connect()

        def items() -> Iterator[Event]:
            with made, lines:
                while (line := lines.readline()) and not (reply := json.loads(line)).get("end"):
                    _result(reply)
                    yield msgspec.convert(reply["item"], Event)

        try:
            self._send(made, stream)
            _result(json.loads(lines.readline()))
        except BaseException:
            lines.close()
            made.close()
            raise

        def close() -> None:
            try:
                made.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended

        made.settimeout(None)
        return Reader(items(), close)

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


def _result(reply: dict[str, Any]) -> Any:
    """Return the result of a reply, or raise its error."""
    if (error := reply.get("error")) is not None:
        raise getattr(errors, error["type"], _exceptions.RemoteError)(error["message"])
    return reply.get("result")
