"""`tokengate doctor` says, check by check, what hinders an installation, and what to do."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from other_users import needs_root

import tokengate
from actors.lowlevel import Share
from tokengate import Gate
from tokengate.cli import main
from tokengate.cli.doctor import _doctor, _gates, _installation, _system
from tokengate.cli.doctor._child import check_child_process
from tokengate.cli.doctor._gates import check_control_directory, check_gates
from tokengate.cli.doctor._installation import check_dependencies, check_packages, check_python, fits
from tokengate.cli.doctor._result import Result
from tokengate.cli.doctor._system import (
    check_encoding,
    check_limits,
    check_platform,
    check_resources,
    check_switch_interval,
)
from tokengate.control.transport._discovery import FoundGate


@pytest.fixture
def sockets(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of control sockets, for this test alone."""
    directory = tmp_path_factory.mktemp("s")
    monkeypatch.setenv("TOKENGATE_RUNTIME_DIR", str(directory))
    return directory


# --- The command ------------------------------------------------------------------------------------------------------


def found(*results: Result) -> Any:
    def check_something() -> Iterator[Result]:
        yield from results

    return check_something


def raises() -> Iterator[Result]:
    raise OSError("odd")
    yield


def test_a_good_installation_passes_every_check(sockets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is 0, and each check has a line."""
    monkeypatch.setattr(_system, "_FILES", 1)
    result = CliRunner().invoke(main, ["doctor"])

    assert result.exit_code == 0, result.stdout
    assert result.stdout.splitlines()[-1].startswith("14 checks: ")
    assert "failed" not in result.stdout
    assert "ok       child process         process" in result.stdout


def test_a_check_that_fails_or_raises_makes_the_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy stands below what was found; the other checks are made all the same."""
    checks = (found(Result("disk", "failed", "it is full", "make room")), raises, found(Result("sun", "ok", "shines")))
    monkeypatch.setattr(_doctor, "CHECKS", checks)
    result = CliRunner().invoke(main, ["doctor"])

    assert result.exit_code == 1
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["failed", "disk", "it", "is", "full"],
        ["make", "room"],
        ["failed", "raises", "the", "check", "itself", "raised", "OSError:", "odd"],
        ["report", "this"],
        ["ok", "sun", "shines"],
        ["3", "checks:", "2", "failed,", "1", "ok"],
    ]


def test_warnings_leave_the_exit_code_at_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """TokenGate works, with a restriction."""
    monkeypatch.setattr(_doctor, "CHECKS", (found(Result("a", "warning", "b", "c")),))

    assert CliRunner().invoke(main, ["doctor"]).exit_code == 0


def test_json_is_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all checks, and whether none has failed."""
    monkeypatch.setattr(_doctor, "CHECKS", (found(Result("a", "failed", "b", "c")),))
    result = CliRunner().invoke(main, ["doctor", "--json"])

    assert result.exit_code == 1
    assert msgspec.json.decode(result.stdout) == {
        "ok": False,
        "checks": [{"name": "a", "status": "failed", "text": "b", "remedy": "c"}],
    }


# --- Python, dependencies, packages -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "status"), [((3, 10), "failed"), ((3, 11), "ok"), ((3, 13), "ok"), ((3, 14), "warning")]
)
def test_python_must_be_a_tested_version(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int], status: str
) -> None:
    """An older one cannot work, a newer one may."""
    monkeypatch.setattr(_installation.sys, "version_info", (*version, 0, "final", 0))
    monkeypatch.setattr(_installation.sys, "_is_gil_enabled", lambda: True, raising=False)
    [result] = check_python()

    assert result.status == status
    assert bool(result.remedy) == (status != "ok")


def test_python_without_the_gil_is_not_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a warning."""
    monkeypatch.setattr(_installation.sys, "version_info", (3, 13, 0, "final", 0))
    monkeypatch.setattr(_installation.sys, "_is_gil_enabled", lambda: False, raising=False)
    [result] = check_python()

    assert result.status == "warning"
    assert "runs without the GIL" in result.text


@pytest.mark.parametrize(
    ("found", "bounds", "within"),
    [
        ("24.2", ">=24.2", True),
        ("24.2.0", ">=24.2", True),
        ("24.1", ">=24.2", False),
        ("4.4.1", ">=4.4,<5", True),
        ("5.0", "<5,>=4.4", False),
        ("10.0", ">=9.0", True),
        ("2.0rc1", ">=1.9", True),
        ("1.2.3", "~=1.2", True),
        ("2.0", "~=1.2", False),
        ("1.0", "!=1.0.0", False),
        ("1.0", "", True),
    ],
)
def test_bounds_are_compared_number_by_number(found: str, bounds: str, within: bool) -> None:
    """As those of the distribution's metadata are meant."""
    assert fits(found, bounds) == within


def test_dependencies_that_are_missing_or_too_old_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy installs them; what an extra needs is left out."""
    monkeypatch.setattr(
        _installation,
        "requires",
        lambda _: ["attrs>=999", "click>=8", "no-such-thing (<5,>=4)", 'other>=1; extra == "test"'],
    )
    [result] = check_dependencies()

    assert result.status == "failed"
    assert "attrs is " in result.text
    assert result.text.endswith(", not >=999; no-such-thing is not installed")
    assert result.remedy == "run: pip install 'attrs>=999' 'no-such-thing<5,>=4'"


def test_a_distribution_that_is_not_installed_is_named() -> None:
    """As when the sources are only on `sys.path`."""
    [result] = check_dependencies("no-such-thing")

    assert (result.status, result.text) == ("failed", "'no-such-thing' is not installed")


@pytest.mark.parametrize("name", ["actors.py", "actors/__init__.py"])
@pytest.mark.parametrize("where", ["current directory", "PYTHONPATH"])
def test_a_file_that_would_hide_a_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, where: str
) -> None:
    """A program that starts there would import it instead of ours."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    if where == "PYTHONPATH":
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    else:
        monkeypatch.chdir(tmp_path)
    ours, others = check_packages()

    assert (ours.name, ours.status) == ("actors", "failed")
    assert str(tmp_path / name) in ours.text
    assert "Rename that file" in ours.remedy
    assert (others.name, others.status) == ("supervisors", "ok")


def test_a_folder_without_python_files_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python takes a package that comes later before a folder that is none."""
    (tmp_path / "actors").mkdir()
    monkeypatch.chdir(tmp_path)

    assert [result.status for result in check_packages()] == ["ok", "ok"]


def test_the_command_finds_a_foreign_file_in_the_current_directory(tmp_path: Path) -> None:
    """It is not imported, as the command has its own `sys.path`; the exit code is 1."""
    (tmp_path / "supervisors.py").write_text("raise SystemExit('imported')\n")
    command = [sys.executable, "-P", "-m", "tokengate", "doctor"]
    environment = {**os.environ, "PYTHONPATH": str(Path(tokengate.__file__).parents[1])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert f"finds {tmp_path / 'supervisors.py'}" in done.stdout


# --- The system -------------------------------------------------------------------------------------------------------


def test_a_platform_without_fork_or_unix_sockets_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them is named with what needs it."""
    monkeypatch.delattr(os, "fork")
    monkeypatch.delattr(socket, "AF_UNIX")
    [result] = check_platform()

    assert result.status == "failed"
    assert "no fork, which affinity 'process' needs and no unix sockets" in result.text


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /proc")
def test_linux_without_proc_is_a_warning(tmp_path: Path) -> None:
    """As in some containers."""
    [missing], [present] = check_platform(tmp_path), check_platform()

    assert missing.status == "warning"
    assert f"{tmp_path} is not mounted" in missing.text
    assert present.status == "ok"


@pytest.mark.parametrize(
    ("limit", "statuses"),
    [(resource.RLIM_INFINITY, ["ok", "ok"]), (4096, ["ok", "ok"]), (500, ["warning", "ok"]), (9, ["warning"] * 2)],
)
def test_low_limits_are_warnings(monkeypatch: pytest.MonkeyPatch, limit: int, statuses: list[str]) -> None:
    """The remedy is the shell's command."""
    monkeypatch.setattr(_system.resource, "getrlimit", lambda _: (limit, limit))
    results = list(check_limits())

    assert [result.status for result in results] == statuses
    assert [result.remedy for result in results] == [
        f"run: ulimit -{option} {least}" if result.status == "warning" else ""
        for result, option, least in zip(results, "nu", (1024, 256), strict=True)
    ]


def test_cores_and_memory_are_told_with_the_limit_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may have set them."""
    monkeypatch.setattr(_system, "cores", lambda: Share(1, "/sys/fs/cgroup/cpu.max"))
    monkeypatch.setattr(_system, "memory", lambda: Share(5 * 10**8, "/sys/fs/cgroup/memory.max"))

    assert [(result.name, result.status, result.text) for result in check_resources()] == [
        ("cores", "ok", "1 (/sys/fs/cgroup/cpu.max)"),
        ("memory", "ok", "500.0 MB (/sys/fs/cgroup/memory.max)"),
    ]


@pytest.mark.parametrize(("seconds", "status"), [(0.0005, "ok"), (0.005, "ok"), (0.1, "warning")])
def test_a_long_switch_interval_is_a_warning(monkeypatch: pytest.MonkeyPatch, seconds: float, status: str) -> None:
    """Loops beside busy threads wake up late."""
    monkeypatch.setattr(_system.sys, "getswitchinterval", lambda: seconds)
    [result] = check_switch_interval()

    assert result.status == status
    assert result.text.startswith(f"{seconds * 1000:g} ms")


@pytest.mark.parametrize(
    ("encoding", "status"),
    [("utf-8", "ok"), ("UTF8", "ok"), ("ascii", "warning"), ("odd", "warning"), (None, "warning")],
)
def test_a_terminal_must_take_every_character(
    monkeypatch: pytest.MonkeyPatch, encoding: str | None, status: str
) -> None:
    """Else some are printed as question marks."""
    monkeypatch.setattr(_system, "sys", SimpleNamespace(stdout=SimpleNamespace(encoding=encoding)))
    [result] = check_encoding()

    assert result.status == status


# --- Gates ------------------------------------------------------------------------------------------------------------


def test_the_first_gate_makes_the_control_directory(tmp_path: Path) -> None:
    """So one that is not there is in order, if it can be made."""
    [result] = check_control_directory(tmp_path / "deep" / "er")

    assert result.status == "ok"
    assert "which the first gate makes" in result.text


@pytest.mark.parametrize("name", ["", "new"])
def test_a_control_directory_must_be_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Or the folder in which it is made: else no gate can be reached."""
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    [result] = check_control_directory(tmp_path / name)

    assert result.status == "failed"
    assert "writable" in result.text
    assert "TOKENGATE_RUNTIME_DIR" in result.remedy


def test_a_control_directory_must_be_closed_to_others(tmp_path: Path) -> None:
    """Another user could pose as a gate there."""
    tmp_path.chmod(0o755)
    [result] = check_control_directory(tmp_path)

    assert result.status == "failed"
    assert "is open to others" in result.text
    assert "mode 0700" in result.remedy


def test_a_control_directory_may_be_open_to_a_group(tmp_path: Path) -> None:
    """Gates put their sockets there only if their file names that group, so it is told of."""
    tmp_path.chmod(0o750)
    [result] = check_control_directory(tmp_path)

    assert result.status == "ok"
    assert f"open to group {tmp_path.stat().st_gid}, for gates whose file names it" in result.text


@needs_root
def test_a_control_directory_may_be_that_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the environment names it."""
    os.chown(tmp_path, 12345, -1)
    [refused] = check_control_directory(tmp_path)
    monkeypatch.setenv("TOKENGATE_RUNTIME_DIR", str(tmp_path))
    [result] = check_control_directory(tmp_path)

    assert (refused.status, result.status) == ("failed", "ok")
    assert "of user 12345, for gates of that user only" in result.text


def test_stale_sockets_are_removed_and_counted(sockets: Path) -> None:
    """A gate that was killed leaves one."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(sockets / "shop-1-0.sock"))
    [result] = check_control_directory()

    assert result.status == "ok"
    assert result.text.endswith("stale sockets removed: 1")
    assert list(sockets.iterdir()) == []


def test_gates_that_run_here_are_asked(sockets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of another version is a warning."""
    with Gate("shop"):
        [good] = check_gates()
        monkeypatch.setattr(_gates, "own_version", lambda: "99")
        [other] = check_gates()
    [none] = check_gates()

    assert (good.name, good.status) == (f"gate shop@{os.getpid()}", "ok")
    assert good.text.endswith("open")
    assert other.status == "warning"
    assert "this is TokenGate 99" in other.text
    assert none.text == "no gate runs here now"


@pytest.mark.parametrize("answers", [True, False])
def test_a_gate_that_does_not_answer_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    """Whether it says hello or not: its process may be stopped."""
    monkeypatch.setattr(_gates, "find_gates", lambda _: [FoundGate("shop", 7, tmp_path / "none", answers)])
    [result] = check_gates()

    assert (result.name, result.status) == ("gate shop@7", "warning")
    assert result.text.startswith("does not answer")
    assert "kill -CONT 7" in result.remedy


# --- A child process --------------------------------------------------------------------------------------------------


def test_a_child_process_that_cannot_work_is_told_with_its_error() -> None:
    """The remedy names what may forbid new processes."""

    def ask() -> int:
        raise OSError("Resource temporarily unavailable")

    [result] = check_child_process(ask)

    assert result.status == "failed"
    assert result.text == "no token runs in a child process: OSError: Resource temporarily unavailable"
    assert "limits" in result.remedy
