"""A program may have an `actors.py` of its own: then importing TokenGate says so, in one message."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tokengate import _installation

ROOT = Path(__file__).parents[2]

USES = "from tokengate import Gate\nprint('works')\n"


def python(*args: str, cwd: Path) -> tuple[str, str]:
    """Run Python in a folder; return what it printed, and the last line of what it said of an error."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, timeout=120, check=False, cwd=cwd, env=environment
    )
    return done.stdout, done.stderr.strip().rpartition("\n")[2]


def message(package: str, file: Path) -> str:
    return f"ImportError: {_installation.explain(package, str(file))}"


@pytest.mark.parametrize("package", _installation.PACKAGES)
@pytest.mark.parametrize("form", ["{}.py", "{}/__init__.py"])
def test_a_foreign_file_is_named(tmp_path: Path, package: str, form: str) -> None:
    """The message has its path, the package of TokenGate that it hides, and the remedy."""
    foreign = tmp_path / form.format(package)
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("raise RuntimeError('it is not run')")
    (tmp_path / "main.py").write_text(USES)

    out, error = python("main.py", cwd=tmp_path)

    assert (out, error) == ("", message(package, foreign))
    assert all(part in error for part in (str(foreign), f"'import {package}'", "Rename that file"))


@pytest.mark.parametrize("package", _installation.PACKAGES)
def test_a_foreign_file_that_imports_tokengate_is_named(tmp_path: Path, package: str) -> None:
    """As the program, and as a module of it, which is half imported at that moment."""
    foreign = tmp_path / f"{package}.py"
    foreign.write_text(USES)
    (tmp_path / "main.py").write_text(f"import {package}")

    assert python(foreign.name, cwd=tmp_path) == ("", message(package, foreign))
    assert python("main.py", cwd=tmp_path) == ("", message(package, foreign))
    assert python("-m", "main", cwd=tmp_path) == ("", message(package, foreign))
    assert python("-m", "tokengate", "--help", cwd=tmp_path) == ("", message(package, foreign))


def test_a_foreign_file_that_was_imported_before_is_named(tmp_path: Path) -> None:
    """Even if it cannot be found on `sys.path` any more."""
    foreign = tmp_path / "actors.py"
    foreign.write_text("")
    (tmp_path / "main.py").write_text(f"import sys, actors\nsys.path.remove({str(tmp_path)!r})\n{USES}")

    assert python("main.py", cwd=tmp_path) == ("", message("actors", foreign))


def test_what_hides_nothing_does_no_harm(tmp_path: Path) -> None:
    """A folder without `__init__.py` comes after every package, and a package's own `actors.py` has another name."""
    (tmp_path / "actors").mkdir()
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("")
    (tmp_path / "shop" / "actors.py").write_text(USES)
    (tmp_path / "main.py").write_text("from shop import actors")

    assert python("main.py", cwd=tmp_path) == ("works\n", "")


def test_a_folder_can_be_examined_before_a_program_is_run_there(tmp_path: Path) -> None:
    """As `tokengate doctor` does."""
    (tmp_path / "actors.py").write_text("")

    assert _installation.foreign_file("actors", [str(tmp_path), *sys.path]) == str(tmp_path / "actors.py")
    assert _installation.foreign_file("supervisors", [str(tmp_path), *sys.path]) is None
    assert _installation.foreign_file("actors") is None


def test_a_link_to_the_installation_is_the_installation(tmp_path: Path) -> None:
    """A folder is known by what it is, not by its name."""
    (tmp_path / "link").symlink_to(ROOT)

    assert _installation.foreign_file("actors", [str(tmp_path / "link")]) is None


@pytest.mark.parametrize("started", [["-m", "tokengate"], ["tokengate"]], ids=["as a module", "as a script"])
def test_ctrl_c_while_the_command_is_loaded_ends_it_without_a_traceback(tmp_path: Path, started: list[str]) -> None:
    """By the signal, so a shell has the exit code 130."""
    (tmp_path / "tokengate").write_text("from tokengate.cli import main\nmain()\n")
    (tmp_path / "slow" / "trio").mkdir(parents=True)
    (tmp_path / "slow" / "trio" / "__init__.py").write_text(
        "import signal\nprint('loads', flush=True)\nsignal.pause()\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path / 'slow'}:{ROOT}"}
    with subprocess.Popen(
        [sys.executable, *started, "ls"], stdout=-1, stderr=-1, text=True, cwd=tmp_path, env=environment
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "loads\n"
        program.send_signal(signal.SIGINT)
        said = program.communicate(timeout=30)

    assert (program.returncode, *said) == (-signal.SIGINT, "", "")


def test_ctrl_c_in_a_program_that_imports_tokengate_is_left_as_it_is(tmp_path: Path) -> None:
    """Only the command is loaded for nothing else."""
    (tmp_path / "main.py").write_text("import signal, tokengate\nprint(signal.getsignal(signal.SIGINT))\n")

    out, _ = python("main.py", cwd=tmp_path)

    assert "default_int_handler" in out
