"""The connection of a command to its gate, and the output of answers."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self

import click
import msgspec
from rich.console import Console

from tokengate.cli import _gate_option
from tokengate.cli._errors import one_line_errors
from tokengate.cli._gate_option import gate_option
from tokengate.control._ports import Source
from tokengate.control.messages import Message, Stream
from tokengate.control.rendering._cells import UNBOUNDED
from tokengate.control.rendering._tables import as_text, renderable
from tokengate.control.transport._client import ControlClient

P = ParamSpec("P")


class Connection:
    """The gate of a command, which is found at the first message, and the form in which answers are printed.

    Args:
        gate: its name, pid or name@pid; None for the only one.
        output: `table`, `wide` or `json`.

    Attributes:
        wait_approval: seconds for which the command waits for another person's approval; None: not at all.
        files: a module whose `ask(directory, message)` answers, and the directory; None: the gate does.
        timeout: seconds for which it waits for the gate, to connect and for each answer.
    """

    def __init__(self, gate: str | None, output: str) -> None:
        self.output = output
        self.wait_approval: float | None = None
        self.files: tuple[str, Path] | None = None
        self.timeout = 10.0
        self._gate = gate
        self._client: ControlClient | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection, and wake a thread that waits for an answer; a second call does nothing."""
        if self._client is not None and not self._closed:
            self._closed = True
            self._client.close()

    def ask(self, message: Message[Any]) -> Any:
        """Return the gate's answer."""
        if self.files is not None:
            module, directory = self.files
            return importlib.import_module(module).ask(directory, message)
        return self._connected().ask(message)

    def follow(self, stream: Stream) -> Source:
        """Open a stream, which the caller must close."""
        return self._connected().follow(stream)

    @property
    def gate(self) -> str:
        """The name of the gate."""
        return self._connected().hello.gate

    def show(self, answer: object) -> None:
        """Print an answer: on a terminal cut to its width, unless it is wide; elsewhere whole."""
        if self.output == "json":
            click.echo(msgspec.json.format(msgspec.json.encode(answer, enc_hook=str)))
        elif sys.stdout.isatty():
            Console(highlight=False, width=UNBOUNDED if self.output == "wide" else None).print(self.drawn(answer))
        else:
            click.echo(as_text(answer, wide=self.output == "wide", encoding=sys.stdout.encoding))

    def show_line(self, answer: object) -> None:
        """Print one of several answers; in JSON, each is a line of its own."""
        if self.output == "json":
            click.echo(msgspec.json.encode(answer, enc_hook=str))
        else:
            self.show(answer)

    def drawn(self, answer: object) -> Any:
        """Return a rich renderable of an answer."""
        return renderable(answer, wide=self.output == "wide")

    def _connected(self) -> ControlClient:
        if self._client is None:
            self._client = _gate_option.connect(self._gate, self.timeout)
        return self._client


def connected(command: Callable[Concatenate[Connection, P], None]) -> Callable[..., None]:
    """Give a command the options of all commands that ask a gate, and call it with a `Connection`."""

    @gate_option
    @click.option(
        "-o", "--output", type=click.Choice(["table", "wide", "json"]), default="table", help="How to print the answer."
    )
    @click.option("--json", "json_wanted", is_flag=True, help="The same as -o json.")
    @functools.wraps(command)
    def wrapped(*args: Any, gate: str | None, output: str, json_wanted: bool, **kwargs: Any) -> None:
        with one_line_errors(), Connection(gate, "json" if json_wanted else output) as connection:
            command(connection, *args, **kwargs)

    return wrapped
