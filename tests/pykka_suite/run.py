"""Run pykka's own test suite on our actors: `python tests/pykka_suite/run.py`, with pytest's options if wanted.

It fetches the source of the pykka release that is installed, unpacks it into a temporary directory, makes our actor
classes the suite's runtimes there, and runs it. The exit code is pytest's: 0 when every test passes, but for those
of the table in `runtimes.py`, which must fail.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent


def fetch(release: str, into: Path) -> Path:
    """Download and unpack the source of a release of pykka; return the directory that holds its `tests`."""
    # Its source only, but a wheel of what builds it.
    download = [sys.executable, "-m", "pip", "--quiet", "download", "--no-deps", "--no-binary", "pykka"]
    subprocess.run([*download, "--dest", str(into), f"pykka=={release}"], check=True)
    (archive,) = into.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(into, filter="data")
    return archive.with_name(archive.name.removesuffix(".tar.gz"))


def main(options: list[str]) -> int:
    with tempfile.TemporaryDirectory() as temporary:
        suite = fetch(version("pykka"), Path(temporary))
        with (suite / "tests" / "conftest.py").open("a") as conftest:
            conftest.write("\nfrom runtimes import *  # noqa\n")
        # From its own directory, where `tests` is pykka's; without its configuration, which asks for more plugins.
        run = [sys.executable, "-m", "pytest", "-c", os.devnull, f"--rootdir={suite}", *options, "tests"]
        return subprocess.run(run, cwd=suite, env={**os.environ, "PYTHONPATH": str(HERE)}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
