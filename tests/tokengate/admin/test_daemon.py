"""The daemon: one for a user, on the loopback interface, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import programs
import psutil
import pytest
from daemons import COMMAND, Daemon, files_below, own_place, running
from tiers import in_ci

from tokengate import Gate
from tokengate.admin import _client as local
from tokengate.admin import _daemon
from tokengate.audit import verify

pytestmark = pytest.mark.usefixtures("programs")

Until = Callable[[Callable[[], bool]], None]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    with own_place(monkeypatch, tmp_path / "state") as found:
        yield found


def listening(pid: int) -> set[tuple[str, int]]:
    """Return the addresses at which a process listens."""
    found = psutil.Process(pid).net_connections("inet")
    return {(one.laddr.ip, one.laddr.port) for one in found if one.status == psutil.CONN_LISTEN}


def test_it_serves_on_the_loopback_interface_and_leaves_nothing(place: Path) -> None:
    """It listens at 127.0.0.1 and ::1, with a host name of its own; Ctrl-C ends it in order, with exit code 0."""
    with Daemon() as daemon, daemon.client() as client:
        status, told = daemon.status, running()
        addresses = listening(status["pid"])
        answer = client.get("/api/v1/gates")
        modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in place.iterdir()}
        code, said = daemon.stop(signal.SIGINT)

    assert re.fullmatch(r"tokengate-[0-9a-f]{8}\.localhost", status["host"])
    assert status == told
    assert addresses in ({("127.0.0.1", status["port"])}, {("127.0.0.1", status["port"]), ("::1", status["port"])})
    assert (answer.status_code, "server" in answer.headers) == (401, False)
    assert modes == {"admin.lock": 0o600, "admin.sock": 0o600}
    assert (code, said) == (0, "")
    assert list(place.iterdir()) == []


@in_ci
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order(place: Path, number: int) -> None:
    """Also while a client has sent half a request."""
    with Daemon() as daemon, socket.create_connection(("127.0.0.1", daemon.status["port"])) as client:
        client.sendall(b"GET / HTT")
        code, said = daemon.stop(number)

    assert (code, said, list(place.iterdir())) == (0, "", [])


@in_ci
def test_a_second_ctrl_c_ends_it_at_once(place: Path) -> None:
    """Any number of them is an orderly end: no traceback, exit code 0, nothing left."""
    with Daemon() as daemon:
        for _ in range(5):
            daemon.program.send_signal(signal.SIGINT)
        code, said = daemon.stop(signal.SIGINT)

    assert (code, said, list(place.iterdir())) == (0, "", [])


@in_ci
def test_a_signal_while_it_starts_is_an_end_like_any_other(place: Path, until: Until) -> None:
    """It comes as soon as the lock is there, before it serves; nothing is left."""
    program = programs.Program(*COMMAND, "--port", "0", joined=True)
    with program:
        until(lambda: (place / "admin.lock").exists() or program.poll() is not None)
        program.send_signal(signal.SIGINT)
        said, _ = program.communicate()
        code = program.wait()

    assert (code, "Traceback" in said, list(place.iterdir())) == (0, False, [])


@in_ci
def test_a_second_one_says_where_the_first_one_is(place: Path) -> None:
    """Its exit code is 1, and the first one goes on."""
    with Daemon() as daemon:
        second = programs.run(*COMMAND)
        assert running()["pid"] == daemon.status["pid"]

    text = f"Error: the admin daemon runs already: {daemon.status['url']}, pid {daemon.status['pid']}\n"
    assert (second.returncode, second.stdout, second.stderr) == (1, "", text)


@in_ci
def test_of_several_that_start_at_once_one_serves(place: Path) -> None:
    """The others say that there is one."""
    started = [programs.Program(*COMMAND, "--port", "0", "--json") for _ in range(5)]
    lines = [one.stdout.readline() for one in started]
    serving = [one for one, line in zip(started, lines, strict=True) if line]
    others = [one for one in started if one not in serving]
    errors = [one.communicate()[1] for one in others]
    for one in serving:
        one.send_signal(signal.SIGTERM)
        one.communicate()

    assert len(serving) == 1
    assert [one.wait() for one in started if one in others] == [1] * 4
    assert all("admin daemon" in text and text.count("\n") == 1 for text in errors)


@in_ci
def test_what_a_killed_one_has_left_hinders_no_other(place: Path) -> None:
    """Its lock is given back by the kernel; its socket, and one that was being made, are replaced."""
    with Daemon() as first:
        first.program.kill()
        first.program.communicate()
    left = {path.name for path in place.iterdir()}
    with socket.socket(socket.AF_UNIX) as half_made:
        half_made.bind(str(place / "admin.new"))
    with Daemon() as second:
        assert running()["pid"] == second.status["pid"]
        second.stop()

    assert left == {"admin.lock", "admin.sock"}
    assert list(place.iterdir()) == []


@in_ci
def test_a_port_that_is_taken_is_passed_over_unless_it_was_given(place: Path, tmp_path: Path) -> None:
    """That of the file is where the search begins; `--port` means that port and no other."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        file = tmp_path / "tokengate.toml"
        file.write_text(f"[admin]\nport = {port}\n")
        refused = programs.run(*COMMAND, "--port", str(port))
        with Daemon("--config", str(file), port=None) as daemon:
            daemon.stop()

    text = f"Error: cannot use port {port}: Address already in use; name another with --port\n"
    assert (refused.returncode, refused.stderr) == (1, text)
    assert port < daemon.status["port"] < port + 100


@in_ci
@pytest.mark.parametrize("what", ["open", "file", "link"])
def test_a_directory_that_is_not_this_users_alone_is_refused(
    what: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line with the remedy; nothing is made there."""
    bad = place / "bad"
    if what == "open":
        bad.mkdir()
        bad.chmod(0o777)
    elif what == "file":
        bad.touch()
    else:
        (place / "other").mkdir(0o700)
        bad.symlink_to(place / "other")
    monkeypatch.setenv("TOKENGATE_RUNTIME_DIR", str(bad))
    ended = programs.run(*COMMAND, "--port", "0")

    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "set TOKENGATE_RUNTIME_DIR" in ended.stderr
    assert list(place.rglob("admin*")) == []


@in_ci
def test_the_code_of_a_login_is_nowhere_else(place: Path, tmp_path: Path) -> None:
    """Not in its arguments, the log, or a record; nor are the cookie and the API token. The records are whole."""
    with Daemon() as daemon:
        url = local.ask(local.Login())["url"]
        wrong = daemon.login("#wrong-code-of-a-stranger")
        cookie = daemon.login(url)
        token = local.ask(local.CreateToken("ci", "viewer"))["token"]
        arguments = psutil.Process(daemon.status["pid"]).cmdline()
        code, said = daemon.stop()

    secrets = [url.partition("#")[2], cookie, token, "wrong-code-of-a-stranger"]
    audit = tmp_path / "state" / "tokengate" / "admin" / "audit"
    lines = [json.loads(line) for line in (audit / "audit-000001.jsonl").read_bytes().splitlines()]
    texts = [*files_below(place, tmp_path), said.encode(), " ".join(arguments).encode()]
    assert (bool(cookie), wrong, code) == (True, "", 0)
    assert [secret for secret in secrets for text in texts if secret.encode() in text] == []
    assert [line["kind"] for line in lines] == ["opened", "login_failed", "login", "token_created", "closed"]
    assert not verify(audit).problems


@in_ci
def test_it_stops_on_demand_and_the_command_waits_for_that(place: Path) -> None:
    """`tokengate admin stop` returns when nothing is left of it; sessions have ended, API tokens are kept."""
    with Daemon() as daemon:
        local.ask(local.CreateToken("ci"))
        stopped = programs.run(*COMMAND, "stop")
        left = list(place.iterdir())
        assert daemon.program.wait() == 0
    with Daemon():
        kept = local.ask(local.Tokens())

    assert (stopped.returncode, stopped.stdout, left) == (0, "the admin daemon has ended\n", [])
    assert [row["name"] for row in kept] == ["ci"]


@in_ci
def test_one_that_was_not_started_by_hand_ends_without_gates(place: Path, tmp_path: Path, until: Until) -> None:
    """Its log says so; it is this user's alone, and so is all that it makes."""
    log = place / "admin.log"
    code = """
import sys
from tokengate.admin._daemon import run_detached
from tokengate.admin._start import taken
run_detached(taken(sys.argv[1]), *sys.argv[2:])
"""
    with programs.Program("-c", code, str(place / "admin.lock"), str(log), "0.5", "", joined=True) as program:
        with Gate("shop"):
            until(lambda: bool(running()))
        program.communicate()
        assert program.wait() == 0

    text = log.read_text()
    assert re.search("serves http://.*no gate has been open for 0.5 s.*has ended", text, re.DOTALL)
    assert [path.name for path in place.iterdir()] == ["admin.log"]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


@in_ci
def test_its_log_is_bounded(tmp_path: Path) -> None:
    """There are two files at most; what is written to stderr goes to the newer one."""
    code = """
import logging, os, sys
from tokengate.admin import _daemon
handler = _daemon._Log(sys.argv[1], maxBytes=1000, backupCount=1)
log = logging.getLogger("test")
log.addHandler(handler)
for number in range(100):
    log.error("line %d of many", number)
os.write(2, b"a traceback")
"""
    ended = programs.run("-c", code, str(tmp_path / "admin.log"))
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}

    assert ended.returncode == 0
    assert set(sizes) == {"admin.log", "admin.log.1"}
    assert max(sizes.values()) <= 1_100
    assert (tmp_path / "admin.log").read_text().endswith("line 99 of many\na traceback")


@in_ci
def test_a_stream_ends_with_it(place: Path) -> None:
    """In order: the client sees the end, and there is nothing to complain of."""
    with Gate("shop"), Daemon() as daemon, daemon.client(daemon.login(local.ask(local.Login())["url"])) as client:
        (gate,) = client.get("/api/v1/gates").json()["rows"]
        with client.stream("GET", f"/api/v1/gates/{gate['name']}/watch") as stream:
            parts = stream.iter_raw()
            first = next(parts)
            code, said = daemon.stop()
            with suppress(httpx.RemoteProtocolError):  # it was cut off between two items
                list(parts)

    assert (stream.status_code, code, said) == (200, 0, "")
    assert first.startswith(b"retry: 2000")


@in_ci
def test_a_login_outlives_gates(place: Path, until: Until) -> None:
    """One that has closed is said to have gone; one that opens later is there; the session stays."""
    with Daemon() as daemon, daemon.client(daemon.login(local.ask(local.Login())["url"])) as client:

        def states() -> list[tuple[str, str]]:
            rows = client.get("/api/v1/gates").json().get("rows", ())  # none, if it is asked too often
            return [(row["gate"], row["state"]) for row in rows]

        with Gate("shop"):
            assert states() == [("shop", "open")]
        until(lambda: states() == [("shop", "gone")])
        with Gate("till"):
            until(lambda: states() == [("shop", "gone"), ("till", "open")])
        daemon.stop()


@in_ci
def test_what_cannot_be_recorded_is_logged_once_and_people_are_let_in(place: Path, tmp_path: Path) -> None:
    """The log of the daemon is best effort."""
    (tmp_path / "state" / "tokengate" / "admin").mkdir(0o700, parents=True)
    (tmp_path / "state" / "tokengate" / "admin" / "audit").touch()
    with Daemon() as daemon:
        cookies = [daemon.login(local.ask(local.Login())["url"]) for _ in range(3)]
        code, said = daemon.stop()

    assert (all(cookies), code) == (True, 0)
    assert said.count("cannot be written") == 1


@in_ci
def test_it_needs_little_memory(place: Path) -> None:
    """60 MiB at most, when it has answered."""
    with Daemon() as daemon, daemon.client() as client:
        client.get("/")
        memory = psutil.Process(daemon.status["pid"]).memory_info().rss
        daemon.stop()

    assert memory < 60 * 2**20


def test_it_is_found_by_no_options_of_the_environment(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """uvicorn's variables do not reach it: a client cannot say, in a header, that it is another one."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    config: Any = _daemon.server_config(None)  # type: ignore[arg-type]

    assert (config.proxy_headers, config.access_log, config.server_header) == (False, False, False)
