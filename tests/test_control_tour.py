"""The sessions of docs/control.md against real programs: every command, in the order of the page, and what it prints.

There are two: one with the shop of the examples, and one with the program that stands on the page, whose tokens run in
child processes.

The rule. What a command prints is compared with what stands below it on the page in normal form: numbers, durations,
times and percentages are `#`, digests are one text, several spaces are one, paths are their last part, and the lines
of a table of tokens stand in any order. Beyond that, what races in a live shop is left out of both: which error an
event tells of, which tokens the nodes of the tree run just now, in which states how many tokens have ended, and at
which line of its loop the runaway is (but from one look to the next it must have moved by as many lines as on the
page). So a word, a column, a row or a line that is different, missing or new is an error, and so is another outcome
of a verb.

What only looks is asked again until it says so, or the time is over. What does something is done once. The ids of the
page are replaced by those of the tokens that stand in the same rows of `ps`. `events` goes along with the next
command. Verbs that wait are given the time of a busy machine, unless the page says that what they do is not done yet.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import attrs
import programs
import pytest
from click.testing import CliRunner
from tiers import in_ci

from tokengate.cli import main
from tokengate.control.inspection._selector import FIELDS
from tokengate.control.messages import OUTCOMES
from tokengate.control.messages._tokens import MAX_ROWS
from tokengate.control.transport import _protocol, _server

pytestmark = pytest.mark.usefixtures("programs")

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "control.md").read_text()

# For what is to become true; a whole run takes a few seconds.
PATIENCE = 60.0

LOOKS = {"ls", "ps", "describe", "stack", "tree", "actors", "state", "info"}

# On Python 3.11 a plain function cannot be paused while it runs, so these print something else than on the page.
_NOT_HERE = "this Python stops it at its next checkpoint() or yield only"
ON_3_11: Mapping[str, str] = (
    {}
    if sys.version_info >= (3, 12)
    else {
        "tokengate pause 35": "ID OPERATION OUTCOME NOTE\n"
        f"35 check_fraud pause requested {_NOT_HERE}; its clock runs on",
        "tokengate step 35": "ID OPERATION OUTCOME NOTE\n"
        f"35 check_fraud pause requested it runs, and will be paused first; {_NOT_HERE}",
        "tokengate step 35 -n 3": "ID OPERATION OUTCOME NOTE\n"
        f"35 check_fraud pause requested it runs, and will be paused first; {_NOT_HERE}",
    }
)


@attrs.frozen
class Step:
    """A command of the page, and what it prints there."""

    command: str
    expected: str


def steps_of(page: str) -> list[Step]:
    """Return the commands of a page; below one with a screen, that stands in a block of text of its own."""
    steps = []
    for block, _, screen in re.findall(r"```console\n(.*?)```\n(\n```text\n(.*?)```)?", page, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            steps.append(Step(command, expected or screen))
    return steps


_LAB_SECTION = "\n## Code in a process of its own\n"
LAB = PAGE.partition(_LAB_SECTION)[2].partition("\n# Reference\n")[0]
STEPS = steps_of(PAGE.replace(LAB, ""))
LAB_STEPS = steps_of(LAB)


# --- The normal form ------------------------------------------------------------------------------------------------


def normal(text: str) -> str:
    """Return what of a text has to be as it is on the page."""
    lines = [_normal_line(line) for line in text.splitlines() if line.strip()]
    tokens = [number for number, line in enumerate(lines) if line.startswith("# ")]  # rows of a table of tokens
    for number, line in zip(tokens, sorted(lines[number] for number in tokens), strict=True):
        lines[number] = line
    return "\n".join(lines)


def _normal_line(line: str) -> str:
    line = re.sub(r"error\(.*\)", "error(...)", line)  # of an event
    line = re.sub(r"(?<=[\w ])  (running #|queued=)\S+", "", line) if "──" in line else line
    line = re.sub(r"^(tokens +)\d.*", r"\1...", line)  # of info and top
    line = re.sub(r"\S*/(?=[^/\s]+\.(?:py:|sock$))", "", line)
    line = re.sub(r"\b(?:[0-9a-f]{8}|[0-9a-f]{64})\b", "(digest)", line)
    line = re.sub(r"\d+(?:[.,:]\d+)*(?:ms|s|m\d+s|m|h)?\b%?", "#", line)
    return re.sub(r" +", " ", line).strip()


# What the runaways do over and over; a look finds them at one of these.
LOOP = ("while checked < 1_000 or runaway:", "checked += 1", "score = (31 * score + order * checked) % 9_973")
LAB_LOOP = ("while True:", "sum(range(10_000_000)) # C code, for most of the time")


def place_in(stack: str, loop: tuple[str, ...]) -> int | None:
    """Return at which line of its loop the runaway is, or None if this is no stack of it."""
    return next((number for number, line in enumerate(loop) if normal(line) in normal(stack)), None)


def test_each_part_of_the_output_counts() -> None:
    """Numbers may differ; words, columns and rows may not."""
    step = next(step for step in STEPS if step.command == "tokengate ps")
    rows = step.expected.splitlines()

    assert normal(step.expected) == normal(step.expected.replace("9.4s", "1m03s").replace("35", "1234"))
    assert normal("\n".join([rows[0], rows[2], rows[1], *rows[3:]])) == normal(step.expected)
    for different in (
        step.expected.replace("queued", "paused", 1),
        step.expected.replace("  TAGS", "", 1),
        step.expected.replace("tenant=", "client=", 1),
        "\n".join(rows[:-1]),
        step.expected + rows[-1],
    ):
        assert normal(different) != normal(step.expected)


# --- Where it runs --------------------------------------------------------------------------------------------------


@attrs.define
class Shop:
    """A shop of its own process, with what it has printed so far."""

    process: programs.Program
    printed: list[str]
    reader: threading.Thread


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """The shop, as the first command of the page starts it, with a runtime directory that nobody else has."""
    with _started(STEPS[0].command, ROOT, tmp_path, monkeypatch) as shop:
        yield shop


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """The program that stands on the page, as the first command below it starts it."""
    (program,) = re.findall(r"```python\n(.*?)```", LAB, re.DOTALL)
    (tmp_path / "lab.py").write_text(program)
    with _started(LAB_STEPS[0].command, tmp_path, tmp_path, monkeypatch) as lab:
        yield lab


@contextmanager
def _started(command: str, cwd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("TOKENGATE_RUNTIME_DIR", str(tmp_path / "tokengate"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    monkeypatch.delenv("TOKENGATE_GATE", raising=False)
    printed: list[str] = []
    with programs.Program("-m", *shlex.split(command), cwd=cwd, joined=True) as process:
        reader = threading.Thread(target=printed.extend, args=(process.stdout,))
        reader.start()
        try:
            yield Shop(process, printed, reader)
        finally:
            process.kill()
            reader.join()


def eventually(done: Callable[[], bool]) -> bool:
    """Ask again and again until it is so, or the time is over; tell which."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


# Runs a command, and makes a file once the gate has opened the stream that it asks for.
FOLLOW = """
import sys
from pathlib import Path
from tokengate.cli import main
from tokengate.control.transport._client import ControlClient

file, follow = Path(sys.argv.pop(1)), ControlClient.follow
def opened(client, stream):
    followed = follow(client, stream)
    file.touch()
    return followed
ControlClient.follow = opened
main(prog_name="tokengate")
"""


def _without_size(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the size of a terminal, which would count more than the terminal's own."""
    return {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")}


class Terminal:
    """A program in a terminal of its own, thirty lines high and wide enough for the ages of a slow run."""

    def __init__(self, command: str) -> None:
        self._outside, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
        self.text = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", *shlex.split(command)],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env={**_without_size(os.environ), "TERM": "xterm", "INPUTRC": os.devnull},
            start_new_session=True,
        )
        os.close(inside)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._outside)

    def type(self, text: str) -> None:
        os.write(self._outside, text.encode())

    def shows(self, done: Callable[[str], bool]) -> bool:
        """Read until what was printed is as it should be; tell whether it came to that."""

        def look() -> bool:
            if select.select([self._outside], [], [], 0.05)[0]:
                self.text += os.read(self._outside, 65536).decode()
            return done(self.text)

        return eventually(look)

    def ended(self) -> int:
        """Return the exit code."""

        def look() -> bool:
            try:
                if select.select([self._outside], [], [], 0.05)[0]:
                    os.read(self._outside, 65536)
            except OSError:
                pass  # nobody has the inside any more
            return self._process.poll() is not None

        assert eventually(look)
        return self._process.returncode


# --- The session ----------------------------------------------------------------------------------------------------


class Session:
    """Runs the commands of the page.

    Args:
        loop: the lines of the runaway.
        on_a_thread: whether it runs on one, where steps are lines and Python 3.11 cannot pause it.
    """

    def __init__(self, loop: tuple[str, ...] = LOOP, *, on_a_thread: bool = True) -> None:
        self._loop = loop
        self._on_a_thread = on_a_thread
        self._ids: dict[str, str] = {}  # {id on the page: the id here}
        self._paused = False
        self._at: tuple[int, int] | None = None  # where the paused runaway was on the page, and here
        self._following: tuple[programs.Program, Step] | None = None

    def close(self) -> None:
        """End what still follows."""
        if self._following is not None:
            with self._following[0]:
                pass

    def run(self, step: Step) -> None:
        """Run a command, and compare what it prints with the page."""
        words = shlex.split(step.command)
        if words[1] == "top":
            self._watch_top(step)
        elif words[1:] == ["shell"]:
            self._talk(step)
        elif words[1] == "watch":
            self._follow(step)
        else:
            self._compare(step, [self._ids.get(word, word) for word in words[1:]])
            self._finish_following()

    def _compare(self, step: Step, arguments: list[str]) -> None:
        expected, code = self._expected(step), int("Error: " in step.expected)
        printed, ended = "", 0
        if arguments[0] in {"apply", "kill", "pause", "step"} and "requested" not in expected:
            arguments += ["--wait", str(PATIENCE)]

        def done() -> bool:
            nonlocal printed, ended
            result = CliRunner().invoke(main, arguments)
            printed, ended = result.output, result.exit_code
            return ended == code and self._same(arguments[0], expected, printed)

        looks = arguments[0] in LOOKS or "--list" in arguments
        if not (eventually(done) if looks else done()):
            assert f"$ {step.command}\n{normal(printed)}\n{ended}" == f"$ {step.command}\n{expected}\n{code}"
        if arguments[0] == "ps":
            self._ids |= ids_between(step.expected, printed)
        elif arguments[0] == "pause":
            self._paused, self._at = True, None
        elif arguments[0] == "stack" and self._paused:
            page, here = place_in(step.expected, self._loop), place_in(printed, self._loop)
            assert page is not None
            assert here is not None
            self._at = page, here

    def _expected(self, step: Step) -> str:
        if not self._on_a_thread or not ON_3_11:
            return in_shell(step.expected)
        return normal(ON_3_11.get(step.command, step.expected.replace("is paused on", "runs on")))

    def _same(self, verb: str, expected: str, printed: str) -> bool:
        if verb != "stack":
            return normal(printed) == expected
        page, here = place_in(expected, self._loop), place_in(printed, self._loop)
        if page is None or here is None:
            return False
        if not ON_3_11 and self._at is not None and (page - self._at[0]) % 3 != (here - self._at[1]) % 3:
            return False
        return normal(printed).replace(normal(self._loop[here]), "") == expected.replace(normal(self._loop[page]), "")

    def _follow(self, step: Step) -> None:
        opened = Path(os.environ["XDG_STATE_HOME"]) / "opened"
        process = programs.Program("-c", FOLLOW, str(opened), *shlex.split(step.command)[1:], joined=True)
        self._following = process, step
        assert eventually(opened.exists)  # so it hears of what the next command does

    def _finish_following(self) -> None:
        if self._following is None:
            return
        (process, step), self._following = self._following, None
        printed, _ = process.communicate()

        assert sorted(normal(printed).splitlines()) == sorted(normal(step.expected).splitlines())
        assert process.returncode == 0

    def _watch_top(self, step: Step) -> None:
        with Terminal(step.command) as terminal:
            assert terminal.shows(lambda text: "h help" in text)
            terminal.type("h")
            expected = normal(step.expected)
            if not terminal.shows(lambda text: normal(last_screen(text)) == expected):
                assert normal(last_screen(terminal.text)) == expected
            terminal.type("q")

            assert terminal.ended() == 0

    def _talk(self, step: Step) -> None:
        banner, *said = re.split(r"^shop> ", step.expected, flags=re.MULTILINE)
        with Terminal(step.command) as terminal:
            for number, part in enumerate((banner, *said)):
                statement, _, expected = part.partition("\n") if number else ("", "", banner)
                terminal.text = ""
                if number:
                    terminal.type(statement + "\n")
                if statement == "exit()":
                    break

                assert terminal.shows(lambda text: without_escapes(text).endswith("shop> ")), terminal.text
                printed = without_escapes(terminal.text).removesuffix("shop> ").removeprefix(statement + "\n")
                assert f"shop> {statement}\n{normal(printed)}" == f"shop> {statement}\n{in_shell(expected)}"

            assert terminal.ended() == 0


def ids_between(page: str, here: str) -> dict[str, str]:
    """Return the ids here of tokens on the page: those that are the only ones of their kind in their table."""
    found = []
    for text in (page, here):
        kinds: dict[str, list[str]] = {}
        for line in text.splitlines()[1:]:
            id, state, operation = line.split()[:3]
            kinds.setdefault(f"{state} {operation}", []).append(id)
        found.append({kind: ids[0] for kind, ids in kinds.items() if len(ids) == 1})
    return {id: found[1][kind] for kind, id in found[0].items() if kind in found[1]}


def last_screen(text: str) -> str:
    """Return what a terminal shows after a program has drawn whole screens, each from the top left."""
    return without_escapes(text.rsplit("\x1b[H", maxsplit=1)[-1])


def without_escapes(text: str) -> str:
    """Return what can be read of what a terminal was sent."""
    return re.sub(r"\x1b\[[?0-9;]*[A-Za-z]|\r", "", text)


def in_shell(expected: str) -> str:
    """Return what stands on the page, as this Python has it."""
    if ON_3_11:
        expected = expected.replace("also while it runs", "between its steps only")
    return normal(expected)


def test_the_session_on_the_page_is_what_happens(shop: Shop) -> None:
    """All commands, in their order; and at the end the shop stops in order, with its last two lines."""
    _, *steps = STEPS
    assert eventually(lambda: any("is open" in line for line in shop.printed))
    with closing(Session()) as session:
        for step in steps:
            session.run(step)
    shop.process.send_signal(signal.SIGINT)
    shop.process.wait(PATIENCE)
    shop.reader.join(PATIENCE)
    (last,) = re.findall(r"Ctrl-C in the first terminal.*?```text\n(.*?)```", PAGE, re.DOTALL)

    assert shop.process.returncode == 0
    assert normal("".join(shop.printed[-2:])) == normal(last)


def test_the_session_with_processes_is_what_happens(lab: Shop) -> None:
    """All its commands; the program prints what became of its tokens, and goes on."""
    _, *steps = LAB_STEPS
    assert eventually(lambda: any("is open" in line for line in lab.printed))
    with closing(Session(LAB_LOOP, on_a_thread=False)) as session:
        for step in steps:
            session.run(step)
    (ends,) = re.findall(r"The first terminal has shown.*?```text\n(.*?)```", LAB, re.DOTALL)

    assert eventually(lambda: "".join(lab.printed[-2:]) == ends), lab.printed
    lab.process.send_signal(signal.SIGINT)
    lab.process.wait(PATIENCE)
    assert lab.process.returncode == 0


def readme_commands() -> list[str]:
    """Return the commands of "See and steer"; the first starts the shop."""
    section = (ROOT / "README.md").read_text().partition("\n## See and steer\n")[2].partition("\n## ")[0]
    return re.findall(r"^ {4}\.venv/bin/(tokengate .*?)(?: +#.*)?$", section, re.MULTILINE)


def test_the_readme_names_commands_that_there_are() -> None:
    """The same shop as on the page, the looks of there, and the verbs that end the runaway."""
    start, *commands = readme_commands()

    assert start == STEPS[0].command
    assert {command.split()[1] for command in commands} <= set(main.commands)
    assert commands[-2:] == ["tokengate kill ID", "tokengate policy set check_fraud timeout=2s"]


@in_ci
def test_the_commands_of_the_readme_find_and_end_the_runaway(shop: Shop) -> None:
    """With the id that the first of them finds; and the shop goes on."""
    commands = readme_commands()[1:]
    found: list[str] = []

    def run(command: str) -> bool:
        result = CliRunner().invoke(main, [*shlex.split(command.replace(" ID", " ".join(["", *found])))[1:]])
        rows = re.findall(r"^ *(\d+) +running +check_fraud", result.output, re.MULTILINE)
        found[:] = found or rows
        return result.exit_code == 0 and len(found) == 1

    assert eventually(lambda: run(commands[0]))
    for command in commands[1:]:
        assert run(command), command
    assert eventually(lambda: any(re.match("order 5: .*, failed", line) for line in shop.printed))
    assert eventually(lambda: any(line.startswith("order 8: ") for line in shop.printed))


# --- The reference --------------------------------------------------------------------------------------------------


def test_the_table_of_outcomes_is_the_one_in_the_code() -> None:
    """Every word, with its meaning."""
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE.partition("## Outcomes")[2].partition("\n## ")[0], re.MULTILINE)

    assert dict(rows) == dict(OUTCOMES)


def test_the_fields_of_selectors_on_the_page_are_those_in_the_code() -> None:
    """All of them, and no others."""
    table = PAGE.partition("\n## Selectors\n")[2].partition("\n\n*")[0]
    fields = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]

    assert sorted(re.findall(r"`([\w.]+)`", "".join(fields))) == sorted(FIELDS)


def test_the_limits_on_the_page_are_those_of_the_server() -> None:
    """Connections, requests, bytes, rows and seconds."""
    limits = (
        f"{_server._MAX_CONNECTIONS} connections, {_server._MAX_IN_FLIGHT} unanswered requests in each, "
        f"{_protocol.MAX_REQUEST // 2**10} KiB for a request, {MAX_ROWS:,} rows and {_protocol.MAX_ANSWER // 2**20} "
        f"MiB for an answer. A client that does not read is dropped after {_server._PATIENCE:g} seconds"
    )

    assert limits in re.sub(r"\s+", " ", PAGE)


def test_the_page_names_commands_that_there_are() -> None:
    """Also in its prose."""
    named = set(re.findall(r"`tokengate ([a-z]+)", PAGE))

    assert named <= set(main.commands)
