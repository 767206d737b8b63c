"""Help teaches, and Tab completes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from fake_gate import FakeGate, row

from tokengate.cli import _gate_option, main
from tokengate.control._exceptions import Unreachable
from tokengate.control.messages import ActorRow, Actors, TokenPage, Tokens
from tokengate.control.transport._discovery import FoundGate


def commands(group: click.Group = main, *path: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield " ".join([*path, name]), command
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_command_has_examples(name: str, command: click.Command) -> None:
    """As they are typed."""
    assert f"tokengate {name}" in (command.help or "")


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_option_says_what_it_does(name: str, command: click.Command) -> None:
    """There is no option without a word of help."""
    options = [option for option in command.params if isinstance(option, click.Option)]

    assert [option.name for option in options if not option.help] == []


def listed(*arguments: str) -> list[str]:
    """Return the commands that a help lists."""
    text = CliRunner().invoke(main, arguments, terminal_width=80).stdout
    words = [line.split() for line in text.splitlines() if line.startswith("  ") and line[2:3].isalpha()]
    return [first for first, *_ in words if first in main.commands]


def test_the_first_help_lists_the_commands_that_are_used_most() -> None:
    """The others are listed by `tokengate help`, which it names."""
    text = CliRunner().invoke(main, ["--help"], terminal_width=80).stdout

    assert " ".join(listed("--help")) == "demo run ls ps top tree describe stack pause resume kill shell"
    assert "'tokengate help' lists all commands" in text


def test_help_lists_every_command_by_kind() -> None:
    """Each of them once, in one line of at most 80 columns, and not cut."""
    text = CliRunner().invoke(main, ["help"], terminal_width=80).stdout

    assert sorted(listed("help")) == sorted(main.commands)
    assert [line for line in text.splitlines() if line.startswith("Tokens:")]
    assert "..." not in text


@pytest.mark.parametrize("names", [["pause"], ["child"], ["child", "start"], ["help"]])
def test_help_shows_the_help_of_a_command(names: list[str]) -> None:
    """It is what its `--help` shows."""
    assert CliRunner().invoke(main, ["help", *names]).stdout == CliRunner().invoke(main, [*names, "--help"]).stdout


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["paus"], "No such command 'paus'"),
        (["notes"], "No such command 'notes'. If it is one of a plugin, TOKENGATE_PLUGINS must name its module."),
        (["child", "paus"], "No such command 'paus'"),
        (["pause", "7"], "'tokengate pause' has no commands; leave '7' out"),
    ],
)
def test_help_of_no_command_is_an_error(names: list[str], message: str) -> None:
    """It exits with 2, as wrong arguments do."""
    result = CliRunner().invoke(main, ["help", *names], prog_name="tokengate")

    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize("option", ["-g", "--gate"])
def test_the_option_for_the_gate_follows_the_command(option: str) -> None:
    """The error says so, with an example."""
    result = CliRunner().invoke(main, [option, "shop", "ps"])

    assert result.exit_code == 2
    assert f"{option} follows the command: tokengate ps -g NAME" in result.stderr


def test_the_grammar_of_selectors_is_explained() -> None:
    """In one place, to which the others point."""
    text = CliRunner().invoke(main, ["ps", "--help"]).stdout
    other = " ".join(CliRunner().invoke(main, ["kill", "--help"]).stdout.split())

    assert "operation=resize,tenant=acme,state!=running" in text
    assert "'tokengate ps --help' explains SELECTOR" in other


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    """It is the one that click makes for the command's own name."""
    result = CliRunner().invoke(main, ["completion", shell])

    assert result.exit_code == 0
    assert "_TOKENGATE_COMPLETE" in result.stdout
    assert "tokengate" in result.stdout


def offered(arguments: list[str], incomplete: str) -> list[str]:
    found = ShellComplete(main, {}, "tokengate", "_TOKENGATE_COMPLETE").get_completions(arguments, incomplete)
    return [item.value for item in found]


def test_tab_offers_what_the_live_gate_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of tokens, paths of actors and names of gates; several gates of one name with their pids."""
    page = TokenPage((row(42), row(43), row(7)), 3, 3, 0)
    gate = FakeGate({Tokens: page, Actors: (ActorRow("/a", "A", "io", "running", 0, 1, (), 1, 0, False, False),)})
    monkeypatch.setattr(_gate_option, "connect", gate.connect)
    gates = [FoundGate(name, pid, Path("/x")) for name, pid in [("bank", 1), ("shop", 2), ("shop", 3)]]
    monkeypatch.setattr(_gate_option, "find_gates", lambda: gates)

    assert offered(["pause", "-g", "shop@2"], "4") == ["42", "43"]
    assert gate.wanted == "shop@2"
    assert gate.open == 0
    assert offered(["suspend"], "") == ["/a"]
    assert offered(["describe"], "") == ["42", "43", "7", "/a"]
    assert offered(["reroute", "7", "--to"], "") == ["io", "asyncio", "cpu", "process", "/a"]
    assert offered(["ps", "-g"], "") == ["bank", "shop@2", "shop@3"]


def test_tab_offers_all_commands() -> None:
    """Those that the first help leaves out as well; after `help`, too."""
    assert {*main.commands} <= {*offered([], "")}  # other tests may have declared nouns
    verbs = ["recycle", "reload", "renice", "reroute", "restart", "resume", "retag", "retry"]
    assert offered(["help"], "re") == verbs
    assert offered(["help", "child"], "") == ["forget", "start", "stop"]
    assert offered(["help", "pause"], "") == []


@pytest.mark.parametrize("error", [Unreachable("gone"), OSError("odd"), ValueError("odder")])
def test_tab_without_a_gate_offers_nothing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """And says nothing: the user is typing."""

    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(_gate_option, "connect", fail)
    monkeypatch.setattr(_gate_option, "find_gates", fail)

    assert offered(["describe"], "") == []
    assert offered(["stop"], "") == []
    assert offered(["ps", "-g"], "") == []
