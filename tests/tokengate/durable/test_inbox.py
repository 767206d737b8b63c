"""Other processes of the user submit by files: what `submit` has returned for runs, once, whoever dies between."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import journals
import pytest
from durable_operations import noted
from tiers import TORTURE, in_ci

from tokengate import Gate
from tokengate.durable import InboxRefused, Journal, Submitter, submit_to
from tokengate.errors import BadStateDirectory, NotDurable

pytestmark = pytest.mark.usefixtures("programs")

Until = Callable[[Callable[[], bool]], None]

ADD = "durable_operations:add"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return the directory of a journal that was open."""
    with opened(tmp_path / "journal"):
        return tmp_path / "journal"


def opened(directory: Path) -> Gate:
    return Gate("shop", plugins=[Journal(directory)], control_socket=False)


def ended(box: Submitter, key: str) -> Callable[[], bool]:
    def look() -> bool:
        found = box.look(key)
        return found is not None and found.ended is not None

    return look


def test_calls_from_outside_run_once_the_gate_is_open(directory: Path, until: Until) -> None:
    """With the gate open or not; with their own keys, or the user's."""
    box = submit_to(directory)
    before = box.submit(ADD, 1, b=2, tags={"from": "web"}, priority=3)

    assert box.look(before) is None
    with opened(directory):
        during = box.submit(ADD, 3, 4, key="order-17")
        until(ended(box, before))
        until(ended(box, during))
    first, second = box.look(before), box.look(during)
    assert first is not None
    assert second is not None
    assert (first.state, first.result, second.key, second.result) == ("completed", 3, "order-17", 7)
    assert [(row["tags"], row["priority"]) for row in journals.rows(directory)] == [('{"from":"web"}', 3), ("{}", 0)]
    assert os.listdir(directory / "inbox" / "new") == os.listdir(directory / "inbox" / "tmp") == []


def test_a_file_that_comes_again_finds_its_key_taken(directory: Path, until: Until) -> None:
    """Case 29: the gate was killed between the commit and the removal of the file."""
    box = submit_to(directory)
    key = box.submit(ADD, 1, 2)
    shutil.copytree(directory / "inbox", directory / "copy")
    with opened(directory):
        until(ended(box, key))
        shutil.copy(directory / "copy" / "new" / key, directory / "inbox" / "new" / key)
        until(lambda: not os.listdir(directory / "inbox" / "new"))

    assert len(journals.rows(directory)) == 1


BAD = (b"", b"{", b"[1]", b'{"operation": 5}', b"x" * 300_000, b'{"operation":"a:b","arguments":[{},[]],"key":"k"}')


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_a_bad_file_is_put_aside_with_an_event(
    directory: Path, until: Until, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Case 29; the others go on."""
    events: list[Any] = []
    with opened(directory) as gate:
        gate.subscribe(lambda event: events.append(event) if isinstance(event, InboxRefused) else None)
        (directory / "inbox" / "new").mkdir(parents=True)
        (directory / "inbox" / "new" / "0").write_bytes(text)
        box = submit_to(directory)
        until(ended(box, box.submit(ADD, 1, 2)))
        until(lambda: bool(events))

    assert [event.file for event in events] == ["0"]
    assert (directory / "inbox" / "bad" / "0").read_bytes() == text
    assert "is no call" in caplog.text


def test_what_json_does_not_hold_is_refused_at_the_sender(directory: Path) -> None:
    """Nothing is written; nor where no journal has been."""
    box = submit_to(directory)
    for value in (object(), {1, object()}, "x" * 300_000):
        with pytest.raises(NotDurable, match="arguments of 'durable_operations:add'"):
            box.submit(ADD, value, 2)
    for operation in ("work.pay", "", ":add", "work:"):
        with pytest.raises(NotDurable, match="it must be 'module:qualified name'"):
            box.submit(operation, 1)
    with pytest.raises(BadStateDirectory, match="it has no journal"):
        submit_to(directory / "elsewhere")

    assert not (directory / "inbox" / "new").exists() or not os.listdir(directory / "inbox" / "new")


def test_a_call_whose_arguments_do_not_fit_waits(directory: Path, until: Until) -> None:
    """It is parked, and harms no others."""
    box = submit_to(directory)
    misfit = box.submit(ADD, "one")
    with opened(directory):
        until(ended(box, box.submit(ADD, 1, 2)))
        found = box.look(misfit)

        assert found is not None
        assert found.ended is None


SUBMITTER = """
import sys
from tokengate.durable import submit_to
box = submit_to(sys.argv[1])
for number in range(10_000):
    print(box.submit("durable_operations:again", sys.argv[2], number), number, flush=True)
"""

TAKER = """
import sys
import durable_operations
from tokengate import Gate
from tokengate.durable import Journal
with Gate("shop", plugins=[Journal(sys.argv[1])], control_socket=False) as gate:
    print("open", flush=True)
    gate.wait()
"""


@in_ci
@pytest.mark.parametrize("part", range(2))
def test_nothing_is_lost_or_doubled_when_either_side_is_killed(
    directory: Path, tmp_path: Path, seed: int, part: int, until: Until
) -> None:
    """Case 29: kill -9 at random moments; the ledger of the submitter is what it has printed."""
    chance = random.Random(seed + part)
    submitted: dict[str, int] = {}
    for _ in range(50 if TORTURE else 2):
        with (
            journals.start(TAKER, directory) as taker,
            journals.start(SUBMITTER, directory, tmp_path / "ledger") as submitter,
        ):
            assert submitter.stdout is not None
            for _ in range(chance.randrange(1, 200)):
                key, number = submitter.stdout.readline().split()
                submitted[key] = int(number)
            (taker if chance.random() < 0.5 else submitter).kill()
            for _ in range(chance.randrange(1, 50)):
                line = submitter.stdout.readline().split()
                if len(line) == 2:
                    submitted[line[0]] = int(line[1])
            taker.kill()
            submitter.kill()
            for text in submitter.stdout:
                if text.endswith("\n"):
                    submitted[text.split()[0]] = int(text.split()[1])
    box = submit_to(directory)
    with journals.start(TAKER, directory) as taker:
        for key in submitted:
            until(ended(box, key))
        taker.kill()

    rows = [row["key"] for row in journals.rows(directory)]
    assert len(rows) == len(set(rows))
    assert set(submitted) <= set(rows)
    assert len(noted(tmp_path / "ledger")) >= len(submitted)


PREFORK = """
import os, socket, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from tokengate.durable import submit_to
box = submit_to(sys.argv[1])
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        what, _, rest = self.path[1:].partition("/")
        text = box.submit("durable_operations:add", int(rest), 1) if what == "add" else repr(box.look(rest))
        self.send_response(200); self.end_headers(); self.wfile.write(text.encode())
    def log_message(self, *args): pass
server = HTTPServer(("127.0.0.1", 0), Handler)
for _ in range(3):
    if not os.fork():
        break
else:
    print(server.server_port, flush=True)
server.serve_forever()
"""


@in_ci
def test_workers_of_a_prefork_server_submit_and_look(directory: Path, until: Until) -> None:
    """The submitter was made before the fork."""
    program = [sys.executable, "-c", PREFORK, str(directory)]
    with (
        opened(directory),
        subprocess.Popen(program, stdout=subprocess.PIPE, text=True, start_new_session=True) as server,
    ):
        assert server.stdout is not None
        address = f"http://127.0.0.1:{int(server.stdout.readline())}"

        def get(path: str) -> str:
            with urllib.request.urlopen(f"{address}/{path}") as answer:
                return str(answer.read().decode())

        try:
            keys = [get(f"add/{number}") for number in range(20)]
            for number, key in enumerate(keys):
                until(lambda key=key: "completed" in get(f"look/{key}"))
                assert f"result={number + 1}," in get(f"look/{key}")
        finally:
            os.killpg(server.pid, signal.SIGKILL)  # its workers, too

    assert len({row["key"] for row in journals.rows(directory)}) == 20


def test_a_key_that_another_call_has_is_refused_with_an_event(directory: Path, until: Until) -> None:
    """The sender has gone; the file is kept, and the first call is as it was."""
    events: list[Any] = []
    with opened(directory) as gate:
        gate.subscribe(lambda event: events.append(event) if isinstance(event, InboxRefused) else None)
        box = submit_to(directory)
        for arguments in ((1, 2), (1, 2), (1, 3)):
            key = box.submit(ADD, *arguments, key="order-17")
            until(ended(box, key))
        until(lambda: bool(events))

    assert ["has its key, 'order-17', and other arguments" in event.why for event in events] == [True]
    assert os.listdir(directory / "inbox" / "bad") == [events[0].file]
    assert [row["result"] for row in journals.rows(directory)] == [b"3"]
