"""Streams of server-sent events: what happens, what a slow reader has lost, and when they end."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import attrs
import httpx
import pytest
from admin_site import HOST, Served, served
from callers import OWN, gates_of, grants
from gated_code import LIMIT
from tiers import in_ci

from tokengate import Gate, token
from tokengate.admin import _feeds, _streams
from tokengate.admin._principal import Principal

pytestmark = in_ci

Until = Callable[[Callable[[], bool]], None]


@token
def resize(size: int) -> int:
    return size


@attrs.define
class Events:
    """The events of a stream, as they come.

    Attributes:
        answer: of the stream.
    """

    answer: httpx.Response
    _lines: Iterator[str]

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Yield `(event, data)`; `comment` for those."""
        event, ends = "", time.monotonic() + 4 * LIMIT
        for line in self._lines:
            assert time.monotonic() < ends, "what was waited for has not come"
            name, _, value = line.partition(": ")
            if line == ":":
                yield "comment", None
            elif name == "retry":
                yield "retry", int(value)
            elif name == "event":
                event = value
            elif name == "data":
                yield event, json.loads(value)


def path_of(client: httpx.Client) -> str:
    return f"/api/v1/gates/{client.get('/api/v1/gates').json()['rows'][0]['name']}"


def opened(stack: ExitStack, client: httpx.Client, path: str) -> Events:
    """Open a stream; it is open when this returns."""
    answer = stack.enter_context(client.stream("GET", path))
    return Events(answer, answer.iter_lines())


def test_a_stream_has_what_happens_by_kind(gate: Gate, site: Served) -> None:
    """Nothing is missing from when it is open; each item is the event as JSON, named as its kind."""
    with site.client() as client, ExitStack() as stack:
        events = opened(stack, client, f"{path_of(client)}/watch?select=operation=resize&kind=token.finished")
        sent = [resize.submit(size) for size in range(20)]
        found = iter(events)

        assert events.answer.headers["content-type"].startswith("text/event-stream")
        assert next(found) == ("retry", 2000)
        items = [next(found) for _ in sent]
        assert {event for event, _ in items} == {"token.finished"}
        assert {data["token"] for _, data in items} == {one.id for one in sent}
        assert all(data["kind"] == "token.finished" for _, data in items)


def test_a_stream_that_cannot_be_opened_is_a_problem(site: Served) -> None:
    """With the status of the error, as of any other request."""
    with site.client() as client:
        path = path_of(client)
        kind, selector, argument, gate = (
            client.get(one)
            for one in (
                f"{path}/watch?kind=nothing",
                f"{path}/watch?select=age>>",
                f"{path}/watch?limit=1",
                "/api/v1/gates/none/watch",
            )
        )

    assert (kind.status_code, kind.json()["title"]) == (422, "BadRequest")
    assert (selector.status_code, selector.json()["title"]) == (422, "BadSelector")
    assert (argument.status_code, argument.json()["title"]) == (422, "BadArguments")
    assert gate.status_code == 404


def test_a_stream_ends_with_its_session(site: Served, until: Until) -> None:
    """Within a second, which is how often it asks."""
    with site.client() as client, ExitStack() as stack:
        events = opened(stack, client, f"{path_of(client)}/watch")
        del site.doors.sessions["own"]

        assert list(events) == [("retry", 2000)]
    until(lambda: site.site.streams.total() == 0)


def test_a_stream_ends_when_its_gate_closes_and_says_so(gate: Gate, site: Served) -> None:
    """The last event is the problem."""
    with site.client() as client, ExitStack() as stack:
        events = opened(stack, client, f"{path_of(client)}/watch?kind=token")
        gate.close()
        *_, last = events

    assert last[0] == "problem"
    assert last[1]["name"] == "Unreachable"


def test_a_stream_ends_when_its_principal_loses_the_right(tmp_path: Any) -> None:
    """The gate ends it when its file was read again; the audit log's alike."""
    file = tmp_path / "tokengate.toml"
    with gates_of(file) as open_gate, served() as site, site.client() as client, ExitStack() as stack:
        gate = open_gate(grants((f"uid:{OWN}", "admin")))
        path = path_of(client)
        feeds = [opened(stack, client, path + one) for one in ("/watch?kind=token", "/audit-records/follow")]
        file.write_text(grants((f"uid:{OWN + 1}", "admin")))
        gate.control.reload(reason="a test")
        ends = [list(one)[-1] for one in feeds]

    assert [event for event, _ in ends] == ["problem", "problem"]
    assert [data["name"] for _, data in ends] == ["Refused", "Refused"]


def test_the_audit_log_is_followed(site: Served) -> None:
    """A verb of another request is an event, when it is on disk."""
    with site.client() as client, ExitStack() as stack:
        path = path_of(client)
        assert client.get(f"{path}/whoami").status_code == 200  # on behalf of somebody, so it has a log now
        events = opened(stack, client, f"{path}/audit-records/follow?select=verb=set_flag")
        done = client.post(f"{path}/flags/set", json={"select": "*", "mode": "observe"})
        found = (event for event, data in events if event.startswith("audit") and "set_flag" in data["text"])

        assert done.status_code == 200
        assert [next(found), next(found)] == ["audit.intent", "audit.outcome"]


def test_so_many_streams_may_be_open(site: Served, until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of a principal, some in all; one that has ended leaves its place to the next."""
    monkeypatch.setattr(_streams, "STREAMS", 3)
    monkeypatch.setattr(_streams, "STREAMS_EACH", 2)
    for name in ("ann", "ben"):
        site.doors.sessions[name] = Principal(f"api:{name}", OWN, login=name)
    with site.client("ann") as ann, site.client("ben") as ben, ExitStack() as stack:
        path = f"{path_of(ann)}/watch"
        opened(stack, ann, path)
        with ExitStack() as inner:
            opened(inner, ann, path)
            third = ann.get(path)
            opened(stack, ben, path)
            fourth = ben.get(path)
        until(lambda: site.site.streams.total() == 2)
        opened(stack, ben, path)

        assert (third.status_code, third.json()["title"]) == (429, "TooManyStreams")
        assert fourth.status_code == 429
    until(lambda: site.site.streams.total() == 0)


def test_a_reader_that_does_not_read_loses_items_that_are_counted(
    gate: Gate, site: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it gets and what it has lost are together what has happened; another reader of the same has it all."""
    monkeypatch.setattr(_feeds, "_ROOM", 64 * 1024)  # the system keeps up to 4 MiB beside that
    many, got, lost = 12_000, 0, 0
    with site.client() as client, ExitStack() as stack:
        path = f"{path_of(client)}/watch?select=operation=resize&kind=token.finished&buffer=100000"
        slow = stack.enter_context(socket.socket())
        slow.settimeout(LIMIT)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", site.port))
        head = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nCookie: {site.site.cookie}=own\r\n\r\n"
        slow.sendall(head.encode())
        lines = stack.enter_context(slow.makefile("rb"))
        while not lines.readline().startswith(b"retry"):
            pass
        fast = iter(opened(stack, client, path))
        for sent in range(100, many + 1, 100):  # not all at once: the gate itself would lose some
            for size in range(100):
                resize.submit(size)
            while got + lost < sent:
                event, data = next(fast)
                got += event == "token.finished"
                lost += data["lost"] if event == "lost" else 0
        theirs = _counted(lines, many)

    assert (got, lost) == (many, 0)
    assert sum(theirs) == many
    assert theirs[1] > 0


def _counted(lines: Any, many: int) -> tuple[int, int]:
    """Read until so many events have come or were lost; return how many of each."""
    got = lost = 0
    event = b""
    while got + lost < many:
        line = lines.readline()
        assert line
        if line.startswith(b"event: "):
            event = line[7:].strip()
        elif line.startswith(b"data: "):
            got += event == b"token.finished"
            lost += json.loads(line[6:])["lost"] if event == b"lost" else 0
    return got, lost


def test_a_quiet_stream_has_comments(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what stands between knows that it lives."""
    monkeypatch.setattr(_streams, "_COMMENT_SECONDS", 0.01)
    with site.client() as client, ExitStack() as stack:
        found = iter(opened(stack, client, f"{path_of(client)}/watch?kind=gate.opened"))

        assert [next(found) for _ in range(3)] == [("retry", 2000), ("comment", None), ("comment", None)]
