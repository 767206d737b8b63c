"""The environment of the peers that the project itself does not need: made when one of them is first measured."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

# {label: the version that the workloads are written for}
PACKAGES: Final = {
    "async-pykka": "0.1.4",
    "everything-is-an-actor": "0.1.6",
    "casty": "0.30.2",
    "huey": "3.5.4",
    "litequeue": "0.9",
    "persist-queue": "1.1.0",
    "dbos": "3.4.0",
}

_VERSION = "from importlib.metadata import version; import sys; print(version(sys.argv[1]))"
_SECONDS = 120.0  # for an installation


def package_of(label: str) -> str:
    """Return the package of a side: what stands before the comma of its label, which says how it is used."""
    return label.partition(",")[0]


class Missing(Exception):
    """A side cannot be measured here; the text says why."""


def python_for(package: str, install: bool = True) -> str:
    """Return the path of a Python that has a package of `PACKAGES`, in the version there.

    Raises:
        Missing: no Python is new enough, or the package cannot be installed, or is not and `install` is False.
    """
    found = _found(package, install)
    if isinstance(found, Missing):
        raise found
    return found


def output_of(*command: str) -> str:
    """Return what a command prints; nothing if it fails: a version manager's stand-in may be there and not work."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


@functools.cache  # what could not be installed is not tried again for each sample
def _found(package: str, install: bool) -> str | Missing:
    try:
        python = _environment(install)
        version = PACKAGES[package]
        if output_of(python, "-c", _VERSION, package) != version:
            if not install:
                return Missing(f"{package} {version} is not installed, and --no-install was given")
            _call(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{package}=={version}")
    except Missing as missing:
        return missing
    return python


def _environment(install: bool) -> str:
    """Return the path of the Python of the environment; make it if it is not there."""
    base = _base_python()
    number = output_of(base, "-c", "import sys; print('.'.join(map(str, sys.version_info[:3])))")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "tokengate-benchmarks" / number
    python = folder / "bin" / "python"
    if not output_of(str(python), "-m", "pip", "--version"):
        if not install:
            raise Missing(f"no environment of peers in {folder}, and --no-install was given")
        _call(base, "-m", "venv", "--clear", str(folder))
    return str(python)


def _base_python() -> str:
    """Return this Python, if it is new enough for the peers, else a Python 3.12 of this machine."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = [sys.executable, shutil.which("python3.12"), *pyenv.glob("versions/3.12*/bin/python3.12")]
    for python in filter(None, found):
        if output_of(str(python), "-c", "import sys; print(sys.version_info >= (3, 12))") == "True":
            return str(python)
    raise Missing("the peers need Python 3.12, and there is none on the PATH or under pyenv")


def _call(*command: str) -> None:
    print(f"making the environment of the peers: {' '.join(command[1:])}", file=sys.stderr)
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or "no output").splitlines()[-1]
        raise Missing(f"'{' '.join(command[1:])}' failed: {last}") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise Missing(f"'{' '.join(command[1:])}' failed: {error}") from error
