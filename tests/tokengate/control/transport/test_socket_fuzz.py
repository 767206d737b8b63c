"""The control socket under nonsense: random and mutated lines, and clients that come and vanish.

3,000 lines and 50 clients; 50,000 and 500 with TOKENGATE_TORTURE=1. TOKENGATE_SEED brings a run back.
"""

from __future__ import annotations

import json
import os
import random
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from fake_backend import FakeBackend
from made_events import made_event
from memory import MIB, resident

from tokengate.control.messages import VERBS
from tokengate.control.transport._protocol import MAX_REQUEST
from tokengate.control.transport._server import ControlServer

TORTURE = os.environ.get("TOKENGATE_TORTURE") == "1"
LINES = 50_000 if TORTURE else 3_000
CLIENTS = 500 if TORTURE else 50
BATCH = 100

# A line of each verb; what these are mutated from.
_ARGUMENTS: dict[str, Any] = {
    "describe": {"token": 1},
    "pause": {"select": "tag.a=b and age>3", "wait": 0.0, "dry_run": True},
    "terminate": {"select": [1, 2, 3], "mode": "kill", "reason": "x"},
    "renice": {"select": [1], "priority": -5},
    "retag": {"select": "*", "set": {"a": "b", "c": "d"}, "remove": ["e"]},
    "limit": {"select": [1], "memory": "2GiB", "cpu_time": 1.5, "wall_time": None},
    "throttle": {"select": "*", "rate": 1.5, "concurrency": 3},
    "set_state": {"name": "a", "values": {"n": [1, 2.5, None, True, "text", {"deep": [[[]]]}]}},
    "call": {"name": "a", "method": "restock", "args": ["tea", 5, [{}]], "kwargs": {"a": None}, "text": True},
    "visit": {"name": "a", "function": "os.system", "wait": 1.0},
    "watch": {"select": "actor=shop/*", "kinds": ["token"], "buffer": 5},
    "cancel": {"request": 1},
}
_SEEDS = [
    json.dumps({"id": n, "verb": verb, "args": _ARGUMENTS.get(verb, {})}).encode()
    for n, verb in enumerate([*VERBS, "cancel"], 1)
]
_PIECES = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\",
    b"\\u",
    b"\\ud800",
    b"\x00",
    b"\xff",
    b"1e999",
    b"-1",
    b"null",
]
_PIECES += [b"9" * 400, b"[" * 3_000, b'{"a":' * 2_000, b"\xf0\x9f\x98\x80", b"\r", b"NaN", b"true", b'"__class__"']
_HELLO = b'{"hello": {"protocol": 2}}\n'


_ITEMS = tuple(made_event(0.0, "token.queued", "/a", n, "text") for n in range(2))


@pytest.fixture
def backend() -> FakeBackend:
    """Answers everything by nothing, and follows by two items."""
    made = FakeBackend(items=_ITEMS)
    made.send.close()
    return made


@pytest.fixture
async def server(
    backend: FakeBackend, tmp_path_factory: pytest.TempPathFactory, nursery: trio.Nursery
) -> ControlServer:
    made = ControlServer("gate", backend, tmp_path_factory.mktemp("run"), refusal=lambda _caller: "")
    await nursery.start(made.serve)
    return made


def _line(chance: random.Random) -> bytes:
    """Draw a line: as it should be, mutated, or noise; a few are too long."""
    kind = chance.random()
    if kind < 0.001:
        return b"x" * (MAX_REQUEST + chance.randrange(-1, 3))
    if kind < 0.2:
        return chance.randbytes(chance.randrange(200)).replace(b"\n", b" ")
    line = bytearray(chance.choice(_SEEDS))
    for _ in range(chance.choice((0, 1, 1, 2, 5))):
        at = chance.randrange(len(line) + 1)
        match chance.randrange(4):
            case 0:
                line[at:at] = chance.choice(_PIECES)
            case 1:
                del line[at : at + chance.randrange(1, 10)]
            case 2:
                line[at : at + 1] = chance.randbytes(1)
            case _:
                other = chance.choice(_SEEDS)
                line[at:] = other[chance.randrange(len(other)) :]
    return bytes(line).replace(b"\n", b" ")


async def _send_all(stream: trio.SocketStream, sent: bytes) -> None:
    try:
        await stream.send_all(sent)
    except trio.BrokenResourceError:
        pass  # closed for a line that was too long


async def _batch(server: ControlServer, backend: FakeBackend, lines: list[bytes]) -> Counter[str]:
    """Send lines on one connection, and count what comes back until each is answered, or the end."""
    assert server.path is not None
    ends = any(len(line) > MAX_REQUEST for line in lines)  # with an error for the last one, before it is closed
    opened_before = backend.opened  # each stream has a result and an end
    seen: Counter[str] = Counter()
    buffer = b""
    with trio.fail_after(60):
        async with await trio.open_unix_socket(server.path) as stream, trio.open_nursery() as nursery:
            nursery.start_soon(_send_all, stream, _HELLO + b"\n".join((*lines, b"")))
            while ends or seen["result"] + seen["error"] + seen["end"] < len(lines) + backend.opened - opened_before:
                try:
                    chunk = await stream.receive_some()
                except trio.BrokenResourceError:  # closed while there was more to read
                    chunk = b""
                if not chunk:
                    seen["closed"] += 1
                    break
                *whole, buffer = (buffer + chunk).split(b"\n")
                seen.update(kind for line in whole for kind in _kinds(json.loads(line)))
    return seen


def _kinds(answer: dict[str, Any]) -> Iterator[str]:
    (kind,) = answer.keys() - {"id"}
    yield kind
    if kind == "error":
        assert answer["error"].keys() == {"type", "message"}
        assert answer["error"]["message"]
        yield answer["error"]["type"]


def _batches(chance: random.Random) -> Iterator[list[bytes]]:
    for _ in range(LINES // BATCH):
        yield [_line(chance) for _ in range(BATCH)]


@pytest.mark.trio
async def test_every_line_is_answered_by_a_result_or_a_named_error(
    server: ControlServer, backend: FakeBackend, chance: random.Random, caplog: pytest.LogCaptureFixture
) -> None:
    """None is a fault of the gate's, none ends the server, and what is gone leaves no memory behind."""
    seen: Counter[str] = Counter()
    before = 0
    for n, lines in enumerate(_batches(chance)):
        if n == 20:  # by then all code has run once
            before = resident()
        got = await _batch(server, backend, lines)
        too_long = any(len(line) > MAX_REQUEST for line in lines)

        assert got["closed"] == too_long
        seen += got

    print(dict(seen))
    assert caplog.records == []
    assert seen.keys() - {"closed"} == {"hello", "result", "item", "end", "error", "BadRequest", "UnknownVerb"}
    assert seen["BadRequest"] + seen["UnknownVerb"] == seen["error"]
    assert resident() - before < 4 * MIB


@pytest.mark.trio
async def test_clients_that_vanish_leave_nothing_behind(
    server: ControlServer, backend: FakeBackend, chance: random.Random, caplog: pytest.LogCaptureFixture
) -> None:
    """At any point of what they say, with or without reading; afterwards there is room for as many as ever."""
    assert server.path is not None
    for _ in range(CLIENTS):
        sent = _HELLO + b"\n".join(chance.choice(_SEEDS) for _ in range(50))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(os.fspath(server.path))
            client.send(sent[: chance.randrange(len(sent))])
            for _ in range(chance.randrange(5)):
                await trio.lowlevel.checkpoint()
            if chance.random() < 0.5:
                client.setblocking(False)
                try:
                    client.recv(chance.randrange(1, 5_000))
                except BlockingIOError:
                    pass
    with trio.fail_after(60):
        while server._connections:
            await trio.testing.wait_all_tasks_blocked()
    sockets = len(server._sockets)
    got = await _batch(server, backend, [b'{"id": 1, "verb": "info"}'])

    assert caplog.records == []
    assert sockets == 1  # the one that listens
    assert got == {"hello": 1, "result": 1}
