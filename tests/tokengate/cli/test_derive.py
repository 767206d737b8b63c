"""The command of a verb follows from its message: arguments, options, help and errors."""

from __future__ import annotations

import shlex
from typing import Annotated, Any, ClassVar, Literal

import attrs
import click
import pytest
from click.testing import CliRunner, Result
from fake_gate import FakeGate
from msgspec import Meta

from tokengate.cli import _gate_option
from tokengate.cli._derive import command_of, show_answer
from tokengate.control.messages import Message, OnActor, OnOne, Seconds, Waiting


@attrs.frozen
class MoveToken(Waiting):
    """Move tokens to a shelf.

    A token on the `top` shelf is moved first.

    Returns:
        An outcome for each token.
    """

    command: ClassVar = "move"
    examples: ClassVar = ("move 3 42", "move -1 'tenant=acme' -c red")

    shelf: Annotated[int, Meta(description="The shelf.")]
    color: Annotated[Literal["red", "green"], Meta(description="Of the `label`.", extra={"flag": "-c"})] = "green"
    weight: Annotated[Annotated[float, Meta(gt=0)] | None, Meta(description="In kg.", extra={"metavar": "KG"})] = None
    n: Annotated[int, Meta(description="Number of labels.", ge=1, le=9, extra={"metavar": "N"})] = 1
    labels: Annotated[tuple[str, ...], Meta(description="Texts.", extra={"metavar": "TEXT"})] = ()
    tags: Annotated[dict[str, str], Meta(description="Tags.", extra={"metavar": "TAG=VALUE"})] = attrs.field(
        factory=dict
    )
    memory: Annotated[float | str, Meta(description="Maximum.", extra={"metavar": "SIZE"})] = "keep"
    in_order: Annotated[bool, Meta(description="One after the other.")] = False
    quiet: Annotated[bool, Meta(description="Without noise.")] = True


@attrs.frozen
class Paint(OnActor):
    """Paint an actor."""

    examples: ClassVar = ("paint mailer red blue",)
    colors: Annotated[tuple[str, ...], Meta(description="Of the paint.")]
    wait: Annotated[Seconds, Meta(description="Seconds to wait until it is dry.")] = 5.0


@attrs.frozen
class AddShelf(OnOne[str]):
    """Add a shelf."""

    name: Annotated[str, Meta(description="Name of the new shelf.")]
    color: Annotated[str, Meta(description="Its color.")]


HELP = """\
Usage: move [OPTIONS] SHELF TARGET...

  Move tokens to a shelf.

  A token on the 'top' shelf is moved first.

  SHELF: The shelf.

  tokengate move 3 42
  tokengate move -1 'tenant=acme' -c red

Options:
  -c, --color [red|green]         Of the 'label'.  [default: green]
  --weight KG                     In kg.  [x>0]
  -n N                            Number of labels.  [default: 1; 1<=x<=9]
  --labels TEXT                   Texts. May be given several times.
  --tags TAG=VALUE                Tags. May be given several times.
  --memory SIZE                   Maximum.
  --in-order                      One after the other.
  --quiet / --no-quiet            Without noise.  [default: quiet]
"""


MOVE = command_of(MoveToken, show_answer)
PAINT = command_of(Paint, show_answer)


def run(monkeypatch: pytest.MonkeyPatch, command: click.Command, line: str) -> tuple[list[Message[Any]], Result]:
    """Run a command against a gate that answers with a text; return what the gate was asked, and the result."""
    gate = FakeGate(dict.fromkeys((MoveToken, Paint), "moved"))
    monkeypatch.setattr(_gate_option, "connect", gate.connect)
    result = CliRunner().invoke(command, shlex.split(line), prog_name=command.name, terminal_width=80)
    return gate.asked, result


def test_the_help_is_the_docstring_with_the_examples_and_descriptions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own options come before those of all verbs; code has quotes; what only a program needs is left out."""
    _, result = run(monkeypatch, MOVE, "--help")
    others = [line.split()[0] for line in result.stdout.removeprefix(HELP).splitlines() if line.startswith("  -")]

    assert result.stdout.startswith(HELP)
    assert others[:3] == ["--reason", "--force", "--dry-run"]
    assert "TARGET is ids of tokens, uids of durable ones, or one SELECTOR" in result.stdout


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3 7 8", MoveToken((7, 8), 3, wait=0.25)),
        ("-1 a=b -c red", MoveToken("a=b", -1, "red", wait=0.25)),
        ("3 7 --color red --weight 0.5 -n 2", MoveToken(7, 3, "red", 0.5, 2, wait=0.25)),
        ("3 7 --labels a --labels b", MoveToken(7, 3, labels=("a", "b"), wait=0.25)),
        ("3 7 --tags a=b=c --tags d=", MoveToken(7, 3, tags={"a": "b=c", "d": ""}, wait=0.25)),
        ("3 7 --memory 2GiB", MoveToken(7, 3, memory="2GiB", wait=0.25)),
        ("3 7 --in-order --no-quiet", MoveToken(7, 3, in_order=True, quiet=False, wait=0.25)),
        ("3 7 --force --dry-run --wait 2", MoveToken(7, 3, force=True, dry_run=True, wait=2.0)),
    ],
)  # fmt: skip
def test_each_field_is_an_argument_or_an_option(monkeypatch: pytest.MonkeyPatch, line: str, message: MoveToken) -> None:
    """One without a default is an argument; what is not given has the default of the message."""
    asked, result = run(monkeypatch, MOVE, line)

    assert result.output == "moved\n"
    assert asked == [message]


def test_the_name_of_an_actor_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other arguments follow; the help says what a name is."""
    asked, result = run(monkeypatch, PAINT, "mailer red blue --wait 0")
    _, help = run(monkeypatch, PAINT, "--help")

    assert result.output == "moved\n"
    assert asked == [Paint("mailer", ("red", "blue"), wait=0.0)]
    assert help.stdout.startswith("Usage: paint [OPTIONS] NAME COLORS...\n")
    assert "NAME: The actor's path" in help.stdout


def test_a_name_may_be_declared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a description of its own, for the verb that makes a new one; it comes first all the same."""
    _, help = run(monkeypatch, command_of(AddShelf, show_answer), "--help")

    assert help.stdout.startswith("Usage: add_shelf [OPTIONS] NAME COLOR\n")
    assert "NAME: Name of the new shelf." in help.stdout


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("3", "Missing argument 'TARGET...'"),
        ("seven 3", "'seven' is not a whole number; the shelf comes first: tokengate move 3 42"),
        ("3 seven", "'seven' is neither an id nor a selector; the shelf comes first: tokengate move 3 42"),
        ("3 'check, later'", "or the token's id; the shelf comes first: tokengate move 3 42"),
        ("3 age>soon", "; the shelf comes first: tokengate move 3 42"),
        ("3 7 --frce", "there is no option '--frce'"),
        ("3 7 a=b", "'a=b' is a selector, which must be the only TARGET"),
        ("3 7 -c blue", "'blue' is not one of 'red', 'green'"),
        ("3 7 -n 0", "0 is not in the range 1<=x<=9"),
        ("3 7 --weight 0", "0.0 is not in the range x>0"),
        ("3 7 --weight nan", "'nan' is not a finite number"),
        ("3 7 --weight much", "'much' is not a finite number, such as 1.5."),
        ("3 7 --wait long", "'long' is not a finite number of seconds, such as 1.5."),
        ("3 7 --wait 4000", "4000.0 is not in the range 0<=x<=3600"),
        ("3 7 --tags a", "--tags 'a' is not TAG=VALUE; write --tags TAG=VALUE"),
    ],
)
def test_what_cannot_be_meant_is_not_asked(monkeypatch: pytest.MonkeyPatch, line: str, error: str) -> None:
    """The error names the option or argument, the value and the remedy."""
    asked, result = run(monkeypatch, MOVE, line)

    assert result.exit_code == 2
    assert error in result.stderr
    assert asked == []


def test_a_verb_that_would_change_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which options there are."""
    command = command_of(MoveToken, show_answer, name="put", one_of=("labels", "tags", "weight"))
    asked, result = run(monkeypatch, command, "3 7 --force")

    assert result.exit_code == 2
    assert "put changes nothing; give --weight KG, --labels TEXT or --tags TAG=VALUE" in result.stderr
    assert asked == []
