"""The drills of docs/security.md: every command for the person who types it, and what it prints.

There are two, each with a gate of its own that runs the program on the page, with the file on the page. A command goes
through the socket; as which user it comes in is what the kernel says elsewhere, and is said by the test here.

What is compared has one space for several; durations, digests, directories, and how many records a log has, are left
out.
"""

from __future__ import annotations

import os
import re
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tokengate import Gate
from tokengate.cli import main
from tokengate.control._admission import Caller
from tokengate.control.transport import _server

PAGE = (Path(__file__).parent.parent / "docs" / "security.md").read_text()
SHARED, _, REST = PAGE.partition("\n## Two people, step by step\n")[2].partition("\n## A break-glass drill\n")
GLASS = REST.partition("\n## ")[0]
USERS = {"ledger": 2000, "ada": 2001, "ben": 2002}
GROUP = 2100

PATIENCE = 60.0  # seconds, for what is to become true
LOOKS = {"audit", "ps", "proposals", "whoami"}


def steps_of(section: str) -> list[tuple[str, str, str]]:
    """Return (person, command, what it prints) of each command."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", section, re.DOTALL):
        parts = re.split(r"^(\w+)\$ ", block, flags=re.MULTILINE)[1:]
        for person, part in zip(parts[::2], parts[1::2], strict=True):
            command, _, printed = part.partition("\n")
            found.append((person, command, printed))
    return found


def normal(text: str) -> str:
    """Return what of a text has to be as it is on the page."""
    text = re.sub(r"\b([0-9a-f]{64}|(?=[0-9a-f]*\d)[0-9a-f]{8})\b", "DIGEST", text)
    text = re.sub(r"^ *\d+  \d{4}-\d\d-\d\d [\d:]+ ", "SEQ AT ", text, flags=re.MULTILINE)
    text = re.sub(r"terminated +\d+  -", "terminated OF -", text)
    text = re.sub(r"\b\d+(\.\d+)?(ms|s|m\d+s)(?!\w)", "TIME", text)
    text = re.sub(r"\d+ (records of) \S*?([^/\s]+) are", r"N \1 \2 are", text)
    text = re.sub(r"(heads of) \S*?([^/\s]+) that were compared: \d+, up to record \d+", r"N \1 \2 compared", text)
    text = re.sub(r"(audit log) +\S*/", r"\1 ", text)
    return "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())


class Drill:
    """Runs the commands of a section."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.user = 0

    def caller(self, _socket: object) -> Caller:
        """Return who the test says that it is, as the kernel would."""
        return Caller(f"uid:{self.user}", self.user, frozenset({self.user, GROUP}), "socket", os.getpid())

    def run(self, person: str, command: str, expected: str) -> None:
        self.user = USERS[person]
        words = shlex.split(command)[1:]
        if "--digest" in words:
            words[words.index("--digest") + 1] = self._digest(int(words[1]))
        if "--heads" in words:
            words[words.index("--heads") + 1] = str(self._log)
        if words[0] != "audit" and "  terminated" in expected:
            words += ["--wait", str(PATIENCE)]
        result = self._asked(words)
        if words[0] in LOOKS:
            deadline = time.monotonic() + PATIENCE
            while normal(result.output) != normal(expected) and time.monotonic() < deadline:
                time.sleep(0.02)
                result = self._asked(words)

        assert f"{person}$ {command}\n{normal(result.output)}" == f"{person}$ {command}\n{normal(expected)}"
        awaits, fails = "awaiting" in expected, "Error: " in expected
        wrong = "needs a reason" in expected or "characters or more" in expected
        assert result.exit_code == (4 if awaits else 2 if wrong else int(fails))

    def _asked(self, words: list[str]) -> Result:
        return CliRunner().invoke(main, words, env={"COLUMNS": "200"})

    def _digest(self, number: int) -> str:
        printed = self._asked(["proposal", "show", str(number)]).output
        (digest,) = re.findall(r"[0-9a-f]{64}", printed)
        return digest


@pytest.fixture
def drill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Callable[[], str]) -> Iterator[Drill]:
    """The gate of the page, as another user than the people."""
    (toml,) = re.findall(r"```toml\n(.*?)```", SHARED, re.DOTALL)
    toml = toml.replace('"ops"', str(os.getgid()))
    for name, user in USERS.items():
        toml = toml.replace(f"user:{name}", f"uid:{user}")
    file = tmp_path / "tokengate.toml"
    file.write_text(toml)
    file.chmod(0o644)
    monkeypatch.setenv("TOKENGATE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("TOKENGATE_GATE", raising=False)
    drill = Drill(tmp_path / "ledger.log")
    monkeypatch.setattr(_server, "caller_of", drill.caller)

    (program,) = re.findall(r"```python\n(.*?)```", SHARED, re.DOTALL)
    session: dict[str, Any] = {"__name__": "ledger"}
    exec(program, session)
    with Gate("ledger", config=file) as gate:
        running = threading.Thread(target=session["ledger"], args=(gate,))
        running.start()
        try:
            yield drill
        finally:
            gate.request_stop()
            running.join()
            gate.close(timeout=0)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Callable[[], str]]:
    """The log of the process, as `tokengate run` shows it, in a file."""
    import logging

    file = tmp_path / "ledger.log"
    handler = logging.FileHandler(file)
    loggers = [logging.getLogger(name) for name in ("tokengate.audit", "tokengate.authority")]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.INFO)
        one.addHandler(handler)
    yield file.read_text
    for one, level in zip(loggers, before, strict=True):
        one.setLevel(level)
        one.removeHandler(handler)
    handler.close()


def test_two_people_share_a_gate_as_on_the_page(drill: Drill) -> None:
    """A proposal, its approval, its apply; a verb on more tokens than one person may end; the log."""
    steps = steps_of(SHARED)
    assert len(steps) > 12
    for step in steps:
        drill.run(*step)


def test_the_glass_is_broken_as_on_the_page(drill: Drill, log: Callable[[], str]) -> None:
    """Alone, with a warning in the log, on record; and the freeze."""
    steps = steps_of(GLASS)
    assert len(steps) > 5
    for step in steps:
        drill.run(*step)

    (warning,) = re.findall(r"tokengate\.authority: (.*breaks the glass.*)", GLASS)
    assert warning in log()


def test_two_texts_that_differ_by_a_word_are_not_the_same() -> None:
    """What counts is compared: people, words, numbers of proposals, columns."""
    text = "proposal 1 needs approval, uid:2001, d50e3f74, 14m56s, 20 records of /a/b/audit are whole"

    assert normal(text) == normal(text.replace("d50e3f74", "00e1f001").replace("14m56s", "1.2s").replace("20", "7", 0))
    for one, other in (("uid:2001", "uid:2002"), ("proposal 1", "proposal 2"), ("needs", "has"), ("whole", "damaged")):
        assert normal(text) != normal(text.replace(one, other))
