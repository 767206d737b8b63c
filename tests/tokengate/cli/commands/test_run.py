"""`tokengate run`, as it is typed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import programs
import pytest
from click.testing import CliRunner

from tokengate.cli import main

pytestmark = pytest.mark.usefixtures("programs")

COMMAND = ["-m", "tokengate", "run"]

SERVICE = """
import threading
from tokengate import ChildSpec, CpuActor, Gate

class Greeter(CpuActor):
    def on_start(self): print("started", flush=True)
    def on_stop(self): print("stopped", flush=True)
    def hang(self):
        print("hanging", flush=True)
        threading.Event().wait()

gate = Gate("greeter", children=[ChildSpec("greeter", Greeter)], shutdown=5.0)

def setup(gate): gate.spawn(Greeter)

def hang(gate): gate.spawn(Greeter).proxy().hang()

def endless(gate):
    print("endless", flush=True)
    threading.Event().wait()

def broken(gate): raise RuntimeError("no config")

class Bad(CpuActor):
    def on_start(self): raise RuntimeError("no disk")

class Unlucky(CpuActor):
    def draw(self): raise RuntimeError("no\\nluck")

def unlucky(gate):
    gate.spawn(Unlucky).proxy().draw().exception()
    gate.request_stop()

def recorded(gate):
    gate.control.throttle("tenant=acme", rate=1, break_glass="the shop is down")
    gate.request_stop()

def arguments(gate):
    import sys
    print(sys.argv, at_import, flush=True)
    gate.request_stop()

import sys
at_import = sys.argv[1:]

bad = Gate("bad", children=[ChildSpec("bad", Bad)])
unheld = Gate("unheld", config="no-such.toml")
number = 5

async def coroutine(gate): ...

def nothing(): ...
"""


@pytest.fixture
def service(tmp_path: Path) -> Path:
    path = tmp_path / "service.py"
    path.write_text(SERVICE)
    return path


class Running:
    """A child that runs a target, and what it printed so far."""

    def __init__(self, target: str, *options: str, cwd: Path | None = None) -> None:
        self.child = programs.Program(*COMMAND, *options, target, cwd=cwd)
        self.out = self.child.stdout

    def signal(self, number: int) -> None:
        self.child.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        out, err = self.child.communicate()
        return self.child.wait(), out, err


def test_a_service_finds_its_arguments_where_a_script_does(service: Path) -> None:
    """What follows `--` is in `sys.argv`, after the file, at import and later; options before it are ours."""
    done = programs.run(*COMMAND, "--shutdown", "3", f"{service}:arguments", "--", "--fail", "x", "--", "-v")

    assert (done.returncode, done.stdout) == (
        0,
        f"{[str(service), '--fail', 'x', '--', '-v']} {['--fail', 'x', '--', '-v']}\n",
    )


def test_a_module_finds_its_file_before_its_arguments(service: Path) -> None:
    """As with `python -m`."""
    done = programs.run(*COMMAND, "service:arguments", "--", "one", cwd=service.parent)

    assert (done.returncode, done.stdout) == (0, f"{[str(service), 'one']} ['one']\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("attribute", ["gate", "setup"])
def test_a_signal_stops_the_service_in_order(service: Path, attribute: str, number: signal.Signals) -> None:
    """A gate, or a function that takes one; `on_stop` runs, and the exit code is 0."""
    running = Running(f"{service}:{attribute}")
    assert running.out.readline() == "started\n"
    running.signal(number)
    code, out, err = running.end()

    assert (code, out) == (0, "stopped\n")
    assert "stopped after" in err


def test_a_module_is_found_from_the_working_directory(service: Path) -> None:
    """`module:attribute`, as with other runners."""
    running = Running("service:gate", cwd=service.parent)
    assert running.out.readline() == "started\n"
    running.signal(signal.SIGINT)

    assert running.end()[0] == 0


@pytest.mark.parametrize("option", [None, "-v"])
def test_a_crash_is_logged_in_one_line(service: Path, option: str | None) -> None:
    """It names the actor and the exception; `-v` shows the traceback."""
    done = programs.run("-m", "tokengate", *([option] if option else []), "run", f"{service}:unlucky")
    (line,) = [line for line in done.stderr.splitlines() if "Unhandled exception in Unlucky" in line]

    assert line.endswith(": RuntimeError: no luck") == (option is None)
    assert ("Traceback" in done.stderr) == (option is not None)


def test_heads_of_the_audit_log_and_broken_glass_are_logged(service: Path, tmp_path: Path) -> None:
    """Without `-v`, too: the log of the process is where they are looked for."""
    (tmp_path / "tokengate.toml").write_text(f'[audit]\npath = "{tmp_path}/audit"\n')
    environment = {**os.environ, "TOKENGATE_CONFIG": str(tmp_path / "tokengate.toml")}
    done = programs.run(*COMMAND, f"{service}:recorded", env=environment)

    assert "process breaks the glass for 'throttle'" in done.stderr
    assert "tokengate.audit: audit head: chain=" in done.stderr


def test_a_second_signal_hurries_and_what_is_left_behind_is_named(service: Path) -> None:
    """Code that cannot be ended does not hold the exit up; it is an error, not silence."""
    running = Running(f"{service}:hang", "--shutdown", "600")
    assert running.out.readline() == "started\n"
    assert running.out.readline() == "hanging\n"
    running.signal(signal.SIGINT)
    assert running.child.stderr is not None
    while "is stopping" not in running.child.stderr.readline():
        pass
    running.signal(signal.SIGINT)
    code, _, err = running.end()

    assert code == 1
    assert "left behind: hang-cpu-" in err


def test_a_function_that_does_not_return_ends_at_the_second_signal(service: Path) -> None:
    """The first one asks; the second one interrupts it."""
    running = Running(f"{service}:endless")
    assert running.out.readline() == "endless\n"
    running.signal(signal.SIGINT)
    assert running.child.stderr is not None
    while "endless() was asked to return" not in running.child.stderr.readline():
        pass
    running.signal(signal.SIGTERM)
    code, _, err = running.end()

    assert code == 0
    assert "stopped after" in err


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("service", "names no attribute"),
        ("nowhere:gate", "No module named 'nowhere'"),
        ("nowhere.py:gate", "there is no file 'nowhere.py'"),
        ("{}:missing", "has no attribute 'missing'"),
        ("{}:number", "is int; it must be a Gate, or a function"),
        ("{}:coroutine", "is a coroutine function"),
        ("{}:nothing", "must take one argument, the open Gate"),
        ("{}:Greeter", "it must be a Gate, or a function"),
        ("{}:bad", "no disk"),
        ("{}:unheld", "cannot open gate 'unheld': no-such.toml: cannot be read"),
    ],
)
def test_a_target_that_cannot_be_run_is_an_error_in_one_line(service: Path, target: str, message: str) -> None:
    """It names what is wrong; exit code 2."""
    code, out, err = Running(target.format(service)).end()

    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("words", [["shop.py:gate", "--fail", "x"], ["--shutdown", "3", "shop.py:gate", "--fail=x"]])
def test_an_option_of_the_service_without_two_dashes_gets_a_hint(words: list[str]) -> None:
    """It says where the options of a service go; nothing is imported."""
    result = CliRunner().invoke(main, ["run", *words])

    assert result.exit_code == 2
    assert "arguments of the service follow '--': tokengate run shop.py:gate -- --fail" in result.stderr


def test_a_function_that_raises_shows_its_traceback(service: Path) -> None:
    """It is the user's bug: they need to see where."""
    code, _, err = Running(f"{service}:broken").end()

    assert code == 1
    assert "RuntimeError: no config" in err
    assert "in broken" in err
