"""A fake gate that gives preset answers, in the place of a client that is connected to a gate."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tokengate.cli import _gate_option, main
from tokengate.control.messages import Event, Message, Stream, TokenRow


def row(id: int = 1, **fields: Any) -> TokenRow:
    known = {
        "operation": "resize", "actor": "/shop/resize", "affinity": "cpu", "state": "running", "priority": 0,
        "tags": {}, "parent": None, "attempt": 1, "steps": 1, "age": 3.0, "running": 2.0,
    }  # fmt: skip
    return TokenRow(id=id, **(known | fields))


class FakeGate:
    """Answers messages by their class: with a value, or with the result of a function of the message.

    Attributes:
        asked: all messages.
        wanted: the gate that the command looked for.
        open: connections that were not closed.
    """

    def __init__(self, answers: dict[type[Message[Any]], Any]) -> None:
        self.answers = answers
        self.asked: list[Message[Any]] = []
        self.wanted: str | None = None
        self.open = 0

    def connect(self, name: str | None, timeout: float = 10.0) -> FakeGate:
        self.wanted = name
        self.open += 1
        return self

    def ask(self, message: Message[Any]) -> Any:
        self.asked.append(message)
        answer = self.answers[type(message)]
        if isinstance(answer, BaseException):
            raise answer
        return answer(message) if callable(answer) else answer

    def follow(self, stream: Stream) -> Generator[Event]:
        yield from self.ask(stream)

    def close(self) -> None:
        self.open -= 1


Run = Callable[..., tuple[FakeGate, Result]]


def run(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], answers: dict[type[Message[Any]], Any]
) -> tuple[FakeGate, Result]:
    """Run a command line against a gate that gives these answers."""
    gate = FakeGate(answers)
    monkeypatch.setattr(_gate_option, "connect", gate.connect)
    result = CliRunner().invoke(main, arguments, prog_name="tokengate")
    assert gate.open == 0, "the connection was not closed"
    return gate, result


def loaded(result: Result) -> Any:
    return json.loads(result.stdout)
