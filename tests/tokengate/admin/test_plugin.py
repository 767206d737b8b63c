"""The plugin: it starts the daemon, and harms its gate in no case."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import programs
import psutil
import pytest
from daemons import Daemon, own_place, running
from tiers import in_ci

from tokengate import Gate
from tokengate.admin import Admin, _plugin
from tokengate.audit import verify
from tokengate.errors import StartFailed
from tokengate.telemetry import Telemetry

pytestmark = pytest.mark.usefixtures("programs")

Until = Callable[[Callable[[], bool]], None]

GATE = """
import sys
from tokengate import Gate
from tokengate.admin import Admin

with Gate("shop", plugins=[Admin()], config=sys.argv[1] if sys.argv[1:] else None) as gate:
    print("open", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    with own_place(monkeypatch, tmp_path / "state") as found:
        yield found


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, place: Path) -> list[tuple[object, ...]]:
    """The arguments of each daemon that would have been started; none is."""
    found: list[tuple[object, ...]] = []
    monkeypatch.setattr(_plugin, "_start", lambda *arguments: found.append(arguments))
    return found


def test_to_import_it_loads_nothing_of_the_daemon() -> None:
    """A gate that has it pays for a module, and for no package of the extra."""
    code = """
import sys
from tokengate.admin import Admin
print([name for name in ("starlette", "uvicorn", "httptools", "jinja2") if name in sys.modules])
"""
    ended = programs.run("-c", code)

    assert (ended.stdout, ended.stderr) == ("[]\n", "")


def test_the_gate_has_telemetry_and_an_audit_log(
    started: list[tuple[object, ...]], place: Path, tmp_path: Path
) -> None:
    """The daemon is started with the file of the gate; what is done to the gate is on record."""
    file = tmp_path / "tokengate.toml"
    file.write_text("[admin]\nceiling = ['viewer']\n")
    with Gate("shop", plugins=[Admin()], config=file) as gate:
        assert gate.plugin(Telemetry).operations() == ()
        gate.control.freeze(reason="a test")

    log = tmp_path / "state" / "tokengate" / "shop" / "audit"
    kinds = [json.loads(line)["kind"] for line in (log / "audit-000001.jsonl").read_bytes().splitlines()]
    assert started == [(file, None)]
    assert kinds == ["opened", "intent", "outcome", "closed"]
    assert not verify(log).problems


def test_what_cannot_be_recorded_is_done_after_one_warning(
    started: list[tuple[object, ...]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a file that asks for it, the log is best effort."""
    (tmp_path / "state").touch()
    with Gate("shop", plugins=[Admin()]) as gate:
        gate.control.throttle("tenant=acme", rate=1)
        gate.control.lift("tenant=acme")
        gate.control.throttle("tenant=acme", rate=2)
        assert [row.rate for row in gate.control.throttles()] == [2]

    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.name for record in warnings] == ["tokengate.audit"]


def test_without_the_extra_the_gate_does_not_open(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """One line says what is missing, and how it is installed."""
    monkeypatch.setattr(sys, "meta_path", [Without("uvicorn"), *sys.meta_path])
    for name in [name for name in sys.modules if name.partition(".")[0] == "uvicorn"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(StartFailed) as raised, Gate("shop", plugins=[Admin()]):
        pass

    remedy = "pip install 'tokengate-runtime[admin]'"
    assert str(raised.value) == f"plugin Admin: the admin daemon needs the package 'uvicorn'; {remedy}"


class Without:
    """Has a package be missing."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


def test_a_gate_that_no_one_can_reach_starts_no_daemon(started: list[tuple[object, ...]], place: Path) -> None:
    with Gate("shop", plugins=[Admin()], control_socket=False):
        pass

    assert started == []


def test_a_daemon_that_cannot_be_started_is_logged_and_the_gate_works(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As with the control socket, which has the same directory."""
    monkeypatch.setenv("TOKENGATE_RUNTIME_DIR", str(place / "open"))
    (place / "open").mkdir()
    (place / "open").chmod(0o777)
    with Gate("shop", plugins=[Admin()]) as gate:
        assert gate.control.info().name == "shop"

    (line,) = [record.getMessage() for record in caplog.records if record.name == "tokengate.admin"]
    assert "is open to others (mode 777); set TOKENGATE_RUNTIME_DIR" in line
    assert line.endswith("run 'tokengate admin'")


@in_ci
def test_the_daemon_is_a_process_of_its_own_and_outlives_its_gate(place: Path, tmp_path: Path, until: Until) -> None:
    """It is no child of the gate, nor in its session, and has nothing that the gate has open."""
    with programs.Program("-c", GATE, piped=True) as gate:
        assert gate.stdout.readline() == "open\n"
        until(lambda: bool(running()))
        daemon = psutil.Process(running()["pid"])
        children = psutil.Process(gate.pid).children()
        session, files = os.getsid(daemon.pid), {file.path for file in daemon.open_files()}
        _, errors = gate.communicate("\n")
    after = running()

    assert (children, errors) == ([], "")
    assert daemon.ppid() != gate.pid
    assert session not in (os.getsid(0), gate.pid, daemon.pid)
    assert {Path(path).name for path in files} <= {"admin.log", "admin.lock", "null"}
    assert daemon.cwd() == "/"
    assert after["pid"] == daemon.pid


@in_ci
def test_gates_that_open_at_once_have_one_daemon(place: Path, until: Until) -> None:
    """Those that were started in vain end by themselves."""
    gates = [programs.Program("-c", GATE, piped=True) for _ in range(4)]
    for gate in gates:
        assert gate.stdout.readline() == "open\n"
    until(lambda: bool(running()) and len(daemons_of(place)) == 1)
    for gate in gates:
        gate.communicate("\n")

    assert daemons_of(place) == [running()["pid"]]
    assert "Traceback" not in (place / "admin.log").read_text()


def daemons_of(place: Path) -> list[int]:
    """Return the processes that plugins have started with a log in a directory."""
    return [
        one.pid for one in psutil.process_iter(["cmdline"]) if str(place / "admin.log") in (one.info["cmdline"] or ())
    ]


@in_ci
def test_a_daemon_that_is_killed_harms_no_gate_and_the_next_one_starts_it_again(place: Path, until: Until) -> None:
    """Also one that is stopped (SIGSTOP): gates open beside it, and start no second one."""
    with Gate("one", plugins=[Admin()]) as one:
        until(lambda: bool(running()))
        first = running()["pid"]
        os.kill(first, signal.SIGSTOP)
        with Gate("two", plugins=[Admin()]) as two:
            assert (one.control.info().name, two.control.info().name) == ("one", "two")
            assert daemons_of(place) == [first]
        os.kill(first, signal.SIGKILL)
        until(lambda: not psutil.pid_exists(first))
        assert one.control.info().name == "one"
        with Gate("three", plugins=[Admin()]):
            until(lambda: bool(running()))
            second = running()["pid"]

    assert second != first


@in_ci
def test_a_daemon_that_was_started_by_hand_serves_gates_with_the_plugin(place: Path) -> None:
    """No other one is started."""
    with Daemon() as daemon, Gate("shop", plugins=[Admin()]):
        assert daemons_of(place) == []
        assert running() == daemon.status
        daemon.stop()


@in_ci
def test_a_fork_of_a_process_with_such_a_gate_is_as_any_other(place: Path, started: object) -> None:
    """The child ends in order, and can open a gate of its own."""
    code = GATE.replace(
        "    sys.stdin.readline()",
        """
    import os
    child = os.fork()
    if not child:
        with Gate("child", plugins=[Admin()]) as own:
            print(own.control.info().name, flush=True)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
""",
    )
    ended = programs.run("-c", f"import tokengate.admin._plugin as p\np._start = print\n{code}")

    assert [line for line in ended.stdout.splitlines() if not line.startswith("None")] == ["open", "child", "0"]
    assert ended.returncode == 0
