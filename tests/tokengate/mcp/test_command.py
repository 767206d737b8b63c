"""`tokengate mcp`, as the program of an assistant starts it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from click.testing import CliRunner
from daemons import own_place
from gated_code import LIMIT
from programs import Program
from tiers import in_ci

from tokengate import Gate
from tokengate.cli import main

ROOT = Path(__file__).parents[3]

HELLO = {
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "a test", "version": "1"},
    },
}


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    with own_place(monkeypatch, tmp_path) as directory:
        yield directory


class Server:
    """A server that has answered the first request.

    Args:
        options: of the command.
    """

    def __init__(self, *options: str) -> None:
        self.program = Program("-m", "tokengate", "mcp", *options, cwd=ROOT, piped=True)
        assert self.ask(HELLO)["result"]["serverInfo"]["name"] == "tokengate"
        self.send({"method": "notifications/initialized"})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.program.__exit__()

    def send(self, request: dict[str, Any]) -> None:
        """Send a request, or a notification."""
        assert self.program.stdin is not None
        self.program.stdin.write(json.dumps({"jsonrpc": "2.0", **request}) + "\n")
        self.program.stdin.flush()

    def ask(self, request: dict[str, Any]) -> Any:
        """Return the answer to a request: the next line of the output."""
        self.send(request)
        line = self.program.stdout.readline()
        assert line, self.program.communicate()
        return json.loads(line)


def call(number: int, tool: str, **arguments: Any) -> dict[str, Any]:
    """Return a request for a tool."""
    return {"id": number, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, with exit code 2."""
    monkeypatch.setattr("tokengate.cli.commands._mcp.find_spec", lambda _name: None)

    done = CliRunner().invoke(main, ["mcp"])

    assert done.exit_code == 2
    assert done.output == "Error: this command needs the package 'mcp'; pip install 'tokengate-runtime[mcp]'\n"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("-g", "nosuch"), "warning: no gate 'nosuch' runs here; "),
        (("--runtime-dir", "/nonexistent"), "warning: --runtime-dir '/nonexistent' is no directory; "),
        ((), ""),
    ],
)
def test_what_the_options_name_and_is_not_there_is_told_at_the_start(
    options: tuple[str, ...], says: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On stderr; it may come later, so the server starts."""
    monkeypatch.setenv("TOKENGATE_RUNTIME_DIR", str(place))
    started: list[Any] = []
    monkeypatch.setattr("tokengate.mcp._server.serve", lambda *args: started.append(args))

    done = CliRunner().invoke(main, ["mcp", *options])

    assert (done.exit_code, done.stdout, len(started)) == (0, "", 1)
    assert done.stderr.startswith(says)
    assert bool(done.stderr) == bool(says)


@in_ci
def test_the_command_line_does_not_import_the_sdk() -> None:
    """Only a server does: other commands would wait for it."""
    code = "import sys, tokengate.cli, tokengate.mcp._bridge; print([one for one in sys.modules if one[:3] == 'mcp'])"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT, check=True, cwd=ROOT
    )

    assert done.stdout == "[]\n"


@in_ci
@pytest.mark.usefixtures("programs")
def test_the_output_has_the_protocol_only_and_the_end_of_the_input_is_its_end(place: Path) -> None:
    """Errors of tools are results; a line that is no JSON ends nothing."""
    with Gate("shop", shutdown=LIMIT), Server("--role", "viewer", "-g", "shop") as server:
        assert server.ask(call(2, "terminate"))["result"]["isError"] is True
        assert server.program.stdin is not None
        server.program.stdin.write("no JSON\n")
        answer = server.ask(call(3, "gates"))
        while answer.get("id") != 3:  # what the SDK says of the line
            answer = json.loads(server.program.stdout.readline())
        (row,) = json.loads(answer["result"]["content"][0]["text"])["gates"]
        assert row["rights"] == ["view"]

        rest, _errors = server.program.communicate()

        assert [json.loads(line) for line in rest.splitlines()] == []
        assert server.program.wait() == 0


@in_ci
@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once(place: Path, number: signal.Signals) -> None:
    """Also while it waits for a gate; nothing is printed."""
    with Gate("shop", shutdown=LIMIT), Server() as server:
        server.send(call(2, "watch", what="watch", seconds=60))

        server.program.send_signal(number)

        assert server.program.communicate() == ("", "")
        assert server.program.wait() == -number


@in_ci
@pytest.mark.usefixtures("programs")
def test_the_end_of_the_input_ends_a_call_under_way(place: Path) -> None:
    """Without waiting for its answer."""
    with Gate("shop", shutdown=LIMIT), Server() as server:
        server.send(call(2, "watch", what="watch", seconds=60))

        server.program.communicate()

        assert server.program.wait() == 0
