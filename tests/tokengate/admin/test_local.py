"""`admin.sock`: who may ask for what, and what clients can do to it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest
from callers import ANN, BOB, OWN, grants
from daemons import Daemon, own_place
from gated_code import LIMIT
from other_users import needs_root, public_directory, run_as
from tiers import in_ci

from tokengate.admin import _client
from tokengate.admin import _local as local
from tokengate.admin._config import settings_in
from tokengate.admin._doors import Doors
from tokengate.authority._grants import Rights
from tokengate.control.transport._discovery import listen_at
from tokengate.control.transport._peer import Peer

pytestmark = pytest.mark.usefixtures("programs")

GUEST = 65_534


@attrs.define
class Desk:
    """A server of `admin.sock`, and clients that are users of a test's choice.

    Attributes:
        path: of the socket.
        doors: of the daemon.
        records: kinds and principals.
        stopped: how often the daemon was asked to stop.
    """

    path: Path
    doors: Doors
    records: list[tuple[str, str]]
    stopped: int = 0
    user: Peer = attrs.field(factory=lambda: Peer(1, OWN, frozenset()))

    async def raw(self, data: bytes) -> list[bytes]:
        """Send something, and return the lines that come until the connection ends, in order or not."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        try:
            writer.write(data)
            writer.write_eof()
            return (await reader.read()).splitlines()
        except ConnectionError:
            return []
        finally:
            writer.close()

    async def ask(self, verb: str, uid: int = OWN, *, gid: int = 0, **fields: Any) -> Any:
        """Return the answer to a request of a user; of an error, its text."""
        self.user = Peer(1, uid, frozenset((gid,)))
        line, *_ = await self.raw(json.dumps({"verb": verb, **fields}).encode() + b"\n")
        answer = json.loads(line)
        return answer.get("error", answer) if isinstance(answer, dict) else answer


Scene = Callable[[Desk], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Have a scene played with a server, by the grants of a file."""

    def play(scene: Scene, text: str = "") -> None:
        file = tmp_path / "tokengate.toml"
        file.write_text(text)
        records: list[tuple[str, str]] = []

        def record(kind: str, principal: str, *_: object, **_fields: object) -> None:
            records.append((kind, principal))

        async def serve() -> None:
            doors = Doors(record, tmp_path / "api-tokens.json")
            desk = Desk(place / "admin.sock", doors, records)
            monkeypatch.setattr(local, "peer_of", lambda _connection: desk.user)

            def stop() -> None:
                desk.stopped += 1
                for task in asyncio.all_tasks() - {scene_task}:
                    task.cancel()

            rights = Rights(settings_in(file).grants, OWN)
            server = local.LocalServer(doors, rights, record, {"url": "http://x.localhost:1"}, stop)
            listening = await server.serve(listen_at(desk.path, None))
            scene_task = asyncio.current_task()
            assert scene_task is not None
            try:
                await scene(desk)
            finally:
                listening.close()

        asyncio.run(serve())

    with own_place(monkeypatch, tmp_path / "home") as place:
        yield play


def test_users_see_and_end_what_is_their_own(play: Callable[..., None]) -> None:
    """Of others there is nothing, not even a refusal; ids and names of others are unknown."""

    async def scene(desk: Desk) -> None:
        for uid in (ANN, BOB):
            url = (await desk.ask("login", uid))["url"]
            assert desk.doors.redeem(url.partition("#")[2], "test") is not None
            await desk.ask("createtoken", uid, name=f"of-{uid}", role="viewer", seconds=60)
        (ann,) = await desk.ask("sessions", ANN)
        tokens = await desk.ask("tokens", ANN)

        assert (ann["owner"], [one["name"] for one in tokens]) == (ANN, [f"of-{ANN}"])
        assert await desk.ask("logout", BOB, id=ann["name"]) == (
            f"there is no session '{ann['name']}' of yours; see 'tokengate admin sessions'"
        )
        assert "there is no API token" in await desk.ask("revoketoken", BOB, name=f"of-{ANN}")
        assert await desk.ask("logout", ANN, id=ann["name"]) == [ann["name"]]
        assert await desk.ask("revoketoken", ANN, name=f"of-{ANN}") == {}
        assert await desk.ask("tokens", ANN) == await desk.ask("sessions", ANN) == []
        assert len(await desk.ask("sessions", BOB)) == len(await desk.ask("tokens", BOB)) == 1

    play(scene)


@pytest.mark.parametrize(
    ("text", "may"),
    [
        ("", {OWN, 0}),
        (grants((f"uid:{ANN}", "administer")), {ANN}),
        (grants((f"gid:{BOB}", "admin")), {BOB}),
        (grants((f"uid:{ANN}", "admin", "tenant=acme"), (f"uid:{BOB}", "operator")), set[int]()),
    ],
)
def test_what_belongs_to_others_needs_the_right_to_administer(
    play: Callable[..., None], text: str, may: set[int]
) -> None:
    """Without grants, the daemon's own user and root have it; with grants, those that have it everywhere."""

    async def scene(desk: Desk) -> None:
        await desk.ask("createtoken", 20_000, name="theirs", role="viewer", seconds=60)
        for uid in (OWN, 0, ANN, BOB):
            seen = await desk.ask("tokens", uid, gid=uid)
            assert len(seen) == (uid in may)
        for uid in {OWN, 0, ANN, BOB} - may:
            assert "there is no API token" in await desk.ask("revoketoken", uid, gid=uid, name="theirs")
        for uid in may:
            assert await desk.ask("revoketoken", uid, gid=uid, name="theirs") == {}
            await desk.ask("createtoken", 20_000, name="theirs", role="viewer", seconds=60)

    play(scene, text)


def test_users_without_a_number_have_no_rights(play: Callable[..., None]) -> None:
    """65534 is what other systems' users are here; it gets no code."""

    async def scene(desk: Desk) -> None:
        assert "has no rights" in await desk.ask("login", GUEST)
        assert desk.records == []

    play(scene)


def test_only_its_own_user_and_root_stop_it(play: Callable[..., None]) -> None:
    """Whatever a file grants: the process is theirs."""

    async def scene(desk: Desk) -> None:
        assert await desk.ask("stop", ANN) == "only the daemon's own user and root may stop it"
        assert desk.stopped == 0
        assert await desk.ask("stop", OWN) == {}
        assert desk.stopped == 1

    play(scene, grants((f"uid:{ANN}", "admin")))


def test_a_code_has_a_second_line_when_it_was_used(play: Callable[..., None]) -> None:
    """So a client knows when the file that leads the browser there can go."""

    async def scene(desk: Desk) -> None:
        reader, writer = await asyncio.open_unix_connection(desk.path)
        writer.write(b'{"verb":"login"}\n')
        url = json.loads(await reader.readline())["url"]
        assert url.startswith("http://x.localhost:1/#")
        code = url.partition("#")[2]
        assert desk.doors.waits(code)
        second = asyncio.ensure_future(reader.readline())
        await asyncio.sleep(0)
        assert not second.done()
        assert desk.doors.redeem(code, "test") is not None
        assert await second == b"{}\n"
        assert await reader.read() == b""
        writer.close()

    play(scene)


def test_what_is_no_request_gets_no_answer_and_harms_no_other(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a client that is slow, or the one that is too many."""
    lines = [
        b"", b"\n", b"x\n", b"[]\n", b'{"verb":"visit"}\n', b'{"verb":"status","uid":0}\n', b"\xff\n",
        b"GET / HTTP/1.1\n", b'{"verb":"createtoken","name":7}\n', b'{"verb":"status"',
        b'{"verb":"login"' + b" " * 200_000 + b"}\n",
    ]  # fmt: skip

    async def scene(desk: Desk) -> None:
        for line in lines:
            assert await desk.raw(line) == [], line
        monkeypatch.setattr(local, "_SECONDS", 0.01)
        reader, writer = await asyncio.open_unix_connection(desk.path)
        assert await reader.read() == b""  # it has sent nothing
        writer.close()
        monkeypatch.setattr(local, "_SECONDS", 30.0)
        monkeypatch.setattr(local, "_MOST", 2)
        others = [await asyncio.open_unix_connection(desk.path) for _ in range(2)]
        assert await desk.raw(b'{"verb":"status"}\n') == []
        for _, other in others:
            other.close()
        while not await desk.raw(b'{"verb":"status"}\n'):
            pass

    play(scene)


def test_errors_of_doors_have_their_remedy(play: Callable[..., None]) -> None:
    """In one line, as all errors of the command line."""

    async def scene(desk: Desk) -> None:
        text = await desk.ask("createtoken", name="ci", role="boss")
        assert text.startswith("there is no role or right 'boss'; use viewer, operator, admin; or view,")

    play(scene)


@in_ci
@needs_root
def test_the_group_of_the_file_gets_codes_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel names the user; the socket and the directory are open to the group, and to no others."""
    code = """
connection = socket.socket(socket.AF_UNIX)
try:
    connection.connect(sys.argv[1])
    connection.sendall(b'{"verb":"login"}\\n')
    print(connection.makefile().readline(), end="")
except PermissionError:
    print("{}")
"""
    with own_place(monkeypatch, tmp_path / "state"), public_directory() as place:
        file = tmp_path / "tokengate.toml"
        file.write_text("[control]\ngroup = 7000\n")
        monkeypatch.setenv("TOKENGATE_RUNTIME_DIR", str(place / "rt"))
        with Daemon("--config", str(file)) as daemon:
            path = place / "rt" / "admin.sock"
            member = json.loads(run_as(ANN, ANN, [7_000], code, str(path)))
            stranger = json.loads(run_as(BOB, BOB, [], code, str(path)))
            mode, owner = path.stat().st_mode & 0o777, path.stat().st_gid
            assert daemon.login(member["url"])
            (session,) = _client.ask(_client.Sessions())
            daemon.stop()

    assert (stranger, mode, owner) == ({}, 0o660, 7_000)
    assert session["owner"] == ANN


@in_ci
def test_the_kernel_names_the_user_of_a_connection() -> None:
    """Without a stand-in: the peer of a socket is this process."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        caller = local.caller_of(local.peer_of(ours))

    assert (caller.principal, caller.owner, caller.peer, caller.via) == (f"uid:{OWN}", OWN, os.getpid(), "socket")


def test_a_client_waits_for_a_daemon_that_is_about_to_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has the lock; the file of one that was killed is not waited for long."""
    with own_place(monkeypatch, tmp_path) as place, ThreadPoolExecutor() as pool:
        (place / "admin.lock").touch()
        client = pool.submit(_client._connected, place)
        with listen_at(place / "admin.sock", None):
            client.result(LIMIT).close()
        monkeypatch.setattr(_client, "_STARTS", 0.0)
        with pytest.raises(ConnectionRefusedError):
            _client._connected(place)
