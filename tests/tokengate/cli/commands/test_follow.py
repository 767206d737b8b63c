"""Commands that go on until Ctrl-C."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_gate import row, run
from made_events import made_event

from tokengate.control._exceptions import Unreachable
from tokengate.control.messages import Event, Message, TokenPage, Tokens, Tree, TreeRow, Watch


def items(end: BaseException | None = None) -> Callable[[Message], Iterator[Event]]:
    def stream(_question: Message) -> Iterator[Event]:
        for id in range(3):
            yield made_event(0.0, "token.started", "/a", id, f"token {id} on /a")
        if end is not None:
            raise end

    return stream


@pytest.mark.parametrize(
    ("arguments", "question"),
    [
        (["watch"], Watch()),
        (["watch", "*"], Watch("*")),
        (["watch", "tenant=acme"], Watch("tenant=acme")),
        (["watch", "--kind", "token", "--kind", "loop.blocked"], Watch(kinds=("token", "loop.blocked"))),
    ],
)
def test_a_stream_has_a_line_for_each_item(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], question: Message
) -> None:
    """In the order in which things happened; the end of the stream is the end of the command."""
    gate, result = run(monkeypatch, arguments, {type(question): items()})

    assert result.exit_code == 0
    assert gate.asked == [question]
    assert [line[-13:] for line in result.stdout.splitlines()] == [f"token {id} on /a" for id in range(3)]


def test_json_has_one_object_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what reads it needs not wait for the end."""
    _, result = run(monkeypatch, ["watch", "--json"], {Watch: items()})

    assert [json.loads(line)["token"] for line in result.stdout.splitlines()] == [0, 1, 2]


def test_a_count_ends_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many items; what comes then is not waited for."""
    _, result = run(monkeypatch, ["watch", "-n", "2"], {Watch: items(AssertionError("one too many"))})

    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 2


@pytest.mark.parametrize(("end", "code"), [(KeyboardInterrupt(), 130), (Unreachable("gate 'shop' went away"), 3)])
def test_what_ends_a_stream_is_its_exit_code(monkeypatch: pytest.MonkeyPatch, end: BaseException, code: int) -> None:
    """Ctrl-C says nothing; a gate that goes away is an error in one line. What came before was printed."""
    _, result = run(monkeypatch, ["watch"], {Watch: items(end)})

    assert result.exit_code == code
    assert len(result.stdout.splitlines()) == 3
    assert result.stderr == ("" if code == 130 else "Error: gate 'shop' went away\n")


@pytest.mark.parametrize("command", ["ps", "tree"])
def test_watching_asks_again_until_it_is_interrupted(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Each answer is printed below the last one when that is no terminal; in JSON, on a line."""
    tree = (TreeRow(0, "/", "shop", "S", "running", "", 0, "", 0, (), False),)
    answers: dict[str, Any] = {"ps": TokenPage((row(7),), 1, 1, 0), "tree": tree}

    def thrice() -> Callable[[Message], Any]:
        left = iter(range(3))

        def answer(_question: Message) -> Any:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return answers[command]

        return answer

    question = {"ps": Tokens, "tree": Tree}[command]
    _, table = run(monkeypatch, [command, "-w", "--every", "0"], {question: thrice()})
    _, lines = run(monkeypatch, [command, "-w", "--every", "0", "--json"], {question: thrice()})

    assert (table.exit_code, lines.exit_code) == (130, 130)
    assert table.stdout.count("resize" if command == "ps" else "shop") >= 3
    assert len([json.loads(line) for line in lines.stdout.splitlines()]) == 3
