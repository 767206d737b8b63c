"""What was tried against the daemon with success once: each is refused, and harms nobody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from admin_pages import Page
from admin_site import Served, served
from callers import ANN, OWN, gates_of, grants
from tiers import in_ci

from tokengate import Gate
from tokengate.admin import _streams
from tokengate.admin._principal import Principal

Until = Callable[[Callable[[], bool]], None]

LONG = "9" * 5_000  # more digits than Python makes an int of


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("shop") as opened:
        yield opened


@pytest.fixture
def site(gate: Gate) -> Iterator[Served]:
    with served() as opened:
        yield opened


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


@in_ci
def test_the_last_tick_has_the_page_look_whether_its_session_lives(site: Served, client: httpx.Client) -> None:
    """Then the stream ends."""
    with client.stream("GET", "/ui/ticks") as answer:
        lines = answer.iter_lines()
        assert "data: 1" in lines
        del site.doors.sessions["own"]

        assert [one for one in lines if one.startswith("data:")][-1] == "data: over"


@in_ci
@pytest.mark.parametrize("path", ["/ui/ticks", "/api/v1/gates/{gate}/watch"])
def test_head_of_a_stream_ends_and_the_connection_takes_the_next_request(
    site: Served, client: httpx.Client, path: str, until: Until
) -> None:
    """It has no events."""
    for _ in range(20):
        assert client.head(path.format(gate=gate_of(client))).status_code == 200
    until(lambda: site.site.streams.total() == 0)


@in_ci
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


@in_ci
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
