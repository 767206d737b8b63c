"""The session of docs/admin.md: each command of the API's examples, against the shop and a daemon, and what it prints.

The shop runs as on the page, with the daemon that its plugin starts. The commands go to one shell, in their order.
Ids of gates and tokens, and the port, are replaced by those that there are; of what is printed, numbers are left out.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import daemons
import programs
import pytest
from tiers import in_ci

pytestmark = pytest.mark.usefixtures("programs")

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "admin.md").read_text()
API = PAGE.partition("\n## The API by example\n")[2].partition("\n### Prometheus\n")[0]

_END = "--- the next command"


def steps_of(section: str) -> list[tuple[str, str]]:
    """Return (command, what it prints) of each command; a block of text below one is what it prints."""
    found = []
    for block, _, text in re.findall(r"```console\n(.*?)```\n(\n```text\n(.*?)```)?", section, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            found.append((command, printed or text))
    return found


def normal(text: str) -> str:
    """Return what of a text has to be as it is on the page: no numbers, and of an event its kind and gate."""
    text = re.sub(r"\d+", "#", text)
    return re.sub(r'^(data: .*?"gate":"\w+").*', r"\1", text, flags=re.MULTILINE).strip()


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The shop of the page runs, and its fifth order for more than five seconds; what the page's names stand for."""
    if not (shutil.which("curl") and shutil.which("jq")):
        pytest.skip("the examples use curl and jq")
    command = tmp_path / "tokengate"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m tokengate "$@"\n')
    command.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with daemons.own_place(monkeypatch, tmp_path / "state") as place:
        shop = ("run", "--admin", str(ROOT / "examples" / "shop.py:gate"), "--", "--runaway", "5")
        with programs.Program("-m", "tokengate", *shop, "--telemetry", str(tmp_path / "shop")) as program:
            until = time.monotonic() + programs.LIMIT
            while not (token := _runaway()) or not daemons.running():
                assert time.monotonic() < until, program.poll()
                time.sleep(0.2)
            (gate,) = (one.stem for one in place.glob("shop-*.sock"))
            yield {"shop-18353-0": gate, "8787": str(daemons.running()["port"]), "35": token}


def _runaway() -> str:
    asked = [sys.executable, "-m", "tokengate", "ps", "operation=check_fraud,running>5s"]
    printed = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    found = re.search(r"^ *(\d+)  running", printed, re.MULTILINE)
    return found[1] if found else ""


@in_ci
def test_a_script_ends_the_runaway_as_on_the_page(shell: dict[str, str], tmp_path: Path) -> None:
    """A list, a stack, a dry run, apply; a stream."""
    steps = steps_of(API)
    assert len(steps) > 8
    names = re.compile("|".join(rf"\b{re.escape(one)}\b" for one in shell))
    lines = [names.sub(lambda found: shell[found[0]], command) for command, _ in steps]
    script = "".join(f"{line}\necho; echo '{_END}'\n" for line in lines)
    done = subprocess.run(["bash"], input=script, capture_output=True, text=True, cwd=tmp_path, check=False)

    printed = done.stdout.split(f"{_END}\n")
    for (command, expected), given in zip(steps, printed, strict=False):
        if expected.startswith("retry:"):  # a stream, of which the page shows the beginning
            assert normal(given).startswith(normal(expected))
        else:
            assert f"{command}\n{normal(given)}" == f"{command}\n{normal(expected)}", done.stderr
    assert len(printed) == len(steps) + 1
    assert oct((tmp_path / "night.header").stat().st_mode & 0o777) == "0o600"
