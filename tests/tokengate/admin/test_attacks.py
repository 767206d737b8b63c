"""What was tried against the daemon with success once: each is refused, and harms no other client."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from admin_pages import Page
from admin_site import Served
from callers import ANN, OWN, gates_of, grants
from tiers import in_ci

from tokengate import Gate
from tokengate.admin import _streams
from tokengate.admin._doors import Doors
from tokengate.admin._principal import Principal
from tokengate.control._version import own_version
from tokengate.control.transport._discovery import runtime_directory
from tokengate.control.transport._protocol import PROTOCOL, ServerHello, encode_server_hello

pytestmark = in_ci

Until = Callable[[Callable[[], bool]], None]

LONG = "9" * 5_000  # more digits than Python makes an int of


@pytest.fixture
def client(site: Served) -> Iterator[httpx.Client]:
    with site.client() as opened:
        yield opened


def gate_of(client: httpx.Client) -> str:
    name: str = client.get("/api/v1/gates").json()["rows"][0]["name"]
    return name


def test_ticks_are_streams_that_count(site: Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A principal cannot take all connections by them."""
    monkeypatch.setattr(_streams, "STREAMS_EACH", 2)
    with ExitStack() as stack:
        opened = [stack.enter_context(client.stream("GET", "/ui/ticks")) for _ in range(3)]

        assert [one.status_code for one in opened] == [200, 200, 429]
        assert site.site.streams.total() == 2


def test_the_last_tick_has_the_page_look_whether_its_session_lives(site: Served, client: httpx.Client) -> None:
    """Then the stream ends."""
    with client.stream("GET", "/ui/ticks") as answer:
        lines = answer.iter_lines()
        assert "data: 1" in lines
        del site.doors.sessions["own"]

        assert [one for one in lines if one.startswith("data:")][-1] == "data: over"


@pytest.mark.parametrize("path", ["/ui/ticks", "/api/v1/gates/{gate}/watch"])
def test_head_of_a_stream_ends_and_the_connection_takes_the_next_request(
    site: Served, client: httpx.Client, path: str, until: Until
) -> None:
    """It has no events."""
    for _ in range(20):
        assert client.head(path.format(gate=gate_of(client))).status_code == 200
    until(lambda: site.site.streams.total() == 0)


@pytest.mark.parametrize("screen", ["tokens", "actors", "throttles", "proposals", "overview"])
@pytest.mark.parametrize("value", [LONG, "x", "-1", "nan", "\u00b2", "\x00"])
def test_no_query_is_a_bug(client: httpx.Client, screen: str, value: str) -> None:
    """Numbers that are none, or too long, and a part of a screen that it does not have."""
    gate = gate_of(client)
    for path in ("screen", "rows", "drawer"):
        for name in ("offset", "open", "only", "at", "limit"):
            query = {"only": "1", "gate": gate, "screen": screen, name: value}
            assert client.get(f"/ui/{path}", params=query).status_code < 500, (path, name)
    for path, query in (("proposal", {"number": value}), ("form", {"verb": "pause", "select": value})):
        assert client.get(f"/ui/{path}", params={"gate": gate, **query}).status_code < 500, path


@pytest.mark.parametrize("path", ["act", "apply"])
def test_no_form_is_a_bug(client: httpx.Client, path: str) -> None:
    """Too many fields, bytes that are no text, numbers that are too long."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    for body in ("a=1&" * 3_000, "select=%ED%A0%80", f"verb=pause&select={LONG}", f"number={LONG}", "\xff"):
        answer = client.post(f"/ui/{path}?gate={gate_of(client)}", content=body.encode("latin-1"), headers=headers)
        assert answer.status_code < 500, body[:30]


def test_who_has_a_grant_with_a_selector_sees_the_overview(site: Served, tmp_path: Path) -> None:
    """Which states have no tokens of it, is not said."""
    site.doors.sessions["ann"] = Principal(f"uid:{ANN}", ANN, login="s2")
    text = grants((f"uid:{ANN}", "viewer", "tenant=acme"), (f"uid:{OWN}", "admin"))
    with gates_of(tmp_path / "tokengate.toml") as open_gate, site.client("ann") as client:
        opened = open_gate(text)
        name = Page(site, opened).name
        answer = client.get("/ui/screen", params={"gate": name, "screen": "overview"})

    assert answer.status_code == 200
    assert "Held up" in answer.text


@contextmanager
def false_gate(place: Path, name: str, answer: bytes) -> Iterator[None]:
    """Listen as a gate does, and answer each request with the same JSON, for the length of a block.

    Args:
        place: of its socket.
        name: of the socket's file, without `.sock`.
        answer: `%d` stands for the id of the request.
    """

    def converse(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines, suppress(OSError):
            connection.sendall(encode_server_hello(ServerHello(PROTOCOL, name, 1, own_version())))
            lines.readline()
            for line in lines:
                connection.sendall(answer % json.loads(line)["id"] + b"\n")

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=converse, args=(listening.accept()[0],), daemon=True).start()

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place / f"{name}.sock"))
        listening.listen()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            (place / f"{name}.sock").unlink()


@pytest.mark.parametrize("answer", [b'[1, {"a": 2}]', b"null", b'"x"', b'{"rows": 1}'])
def test_a_gate_with_answers_of_other_types_harms_no_other(
    gate: Gate, site: Served, client: httpx.Client, answer: bytes
) -> None:
    """What is asked of it is answered with 503, as of a gate that cannot be reached; no bug is in the log."""
    place, good = runtime_directory(), gate_of(client)
    with false_gate(place, "false-1-0", b'{"id": %%d, "result": %b}' % answer):
        paths = ("/ui/screen?screen=tokens&", "/ui/screen?screen=overview&", "/ui/complete?text=a&", "/ui/charts?")
        pages = [client.get(f"{path}gate=false-1-0") for path in paths]
        lists = [client.get(f"/api/v1/gates/{name}/tokens") for name in ("false-1-0", good)]
        acted = client.post("/api/v1/gates/false-1-0/tokens/pause", json={"select": [1]})
        metrics = client.get("/metrics")

    assert {one.status_code for one in pages} <= {200, 503}
    assert lists[0].status_code in (200, 503)
    assert lists[1].status_code == 200
    assert acted.status_code in (200, 503)
    assert (metrics.status_code, "tokengate_admin_gate_up" in metrics.text) == (200, True)


def test_no_item_of_a_gate_makes_events_of_its_own(site: Served, client: httpx.Client) -> None:
    """Each event is one `event` and one `data`, whatever line breaks the gate has sent."""
    item = rb'{"id": %d, "item": {"kind": "x\n\nevent: evil\r", ' + b'\r"a":\r1}}'
    said = b'{"id": %d, "result": true}\n' + item.replace(b"%d", b"1")
    with (
        false_gate(runtime_directory(), "false-1-0", said),
        client.stream("GET", "/api/v1/gates/false-1-0/watch") as answer,
    ):
        text = b""
        for part in answer.iter_raw():
            text += part
            if text.count(b"data:"):
                break

    assert text.partition(b"\n\n")[2].startswith(b'event: x event: evil\ndata: {"kind"')
    assert b"\r" not in text


def test_a_file_that_no_gate_makes_is_no_gate(site: Served, client: httpx.Client) -> None:
    """Its name might be no text, or be read as part of a metric."""
    for name in (b"fal\xffse-1-0.sock", b'a"\\g<9>-1-0.sock', b"-1-0.sock"):
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(os.fsencode(runtime_directory()) + b"/" + name)
            listening.listen()
            assert len(client.get("/api/v1/gates").json()["rows"]) == 1
            assert client.get("/metrics").status_code == 200


def test_a_token_that_is_made_anew_does_not_keep_what_the_first_one_has_open(tmp_path: Path) -> None:
    """Streams ask whether their principal lives, and may not notice the time between."""
    doors = Doors(lambda *_, **__: None, tmp_path / "tokens.json")
    user = Principal(f"uid:{OWN}", OWN)
    first = doors.bearer(doors.create_token(user, "ci", "viewer"))
    assert first is not None
    assert doors.lives(first)

    doors.revoke_token("ci")
    second = doors.bearer(doors.create_token(user, "ci", "viewer"))

    assert second is not None
    assert (doors.lives(first), doors.lives(second)) == (False, True)
