"""Commands that look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner
from fake_gate import loaded, row, run

from tokengate.cli import main
from tokengate.cli.commands import _inspect
from tokengate.control._exceptions import (
    AmbiguousName,
    BadSelector,
    Busy,
    RemoteError,
    UnknownToken,
    Unreachable,
)
from tokengate.control.messages import (
    ActorDescription,
    ActorRow,
    Actors,
    ActorStatistics,
    ChildCountsRow,
    CountChildren,
    Describe,
    DescribeActor,
    GateInfo,
    GateOverview,
    Info,
    Overview,
    Stack,
    Statistics,
    TokenPage,
    Tokens,
    TokenStack,
    Tree,
    TreeRow,
    WhichChildren,
)
from tokengate.control.transport._discovery import FoundGate

PAGE = TokenPage((row(7), row(8, state="queued", running=None)), 2, 2, 0)
NONE = TokenPage((), 0, 5, 0)
INFO = GateInfo("shop", 4711, "0.1", "3.13", "open", 4000.0, {"running": 3}, 7, 2, 8, 1, (), True)
ACTOR = ActorRow("/a", "A", "io", "running", 0, 10, (), 1, 0, False, False)


def test_a_list_of_tokens_is_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pipe: all rows that one answer may have, by id, without colours."""
    gate, result = run(monkeypatch, ["ps"], {Tokens: PAGE})

    assert result.exit_code == 0
    assert gate.asked == [Tokens(limit=10_000)]
    assert [line.split()[:3] for line in result.stdout.splitlines()] == [
        ["ID", "STATE", "OPERATION"], ["7", "running", "resize"], ["8", "queued", "resize"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "question"),
    [
        (["tenant=acme"], Tokens("tenant=acme", limit=10_000)),
        (["-l", "tenant=acme"], Tokens("tenant=acme", limit=10_000)),
        (["tenant=acme", "-l", "state=queued"], Tokens("tenant=acme,state=queued", limit=10_000)),
        (["*"], Tokens(limit=10_000)),
        (["42"], Tokens("id=42", limit=10_000)),
        (["--sort", "-age", "--limit", "5"], Tokens(sort="-age", limit=5)),
    ],
)
def test_options_of_a_list_become_its_question(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], question: Tokens
) -> None:
    """A selector is an argument or an option; with both, both must match; a number is an id."""
    gate, result = run(monkeypatch, ["ps", *arguments], {Tokens: PAGE})

    assert result.exit_code == 0
    assert gate.asked == [question]


def test_a_selector_that_matches_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1, with a line on stderr that says which; no tokens at all are no error."""
    _, result = run(monkeypatch, ["ps", "tenant=acme"], {Tokens: NONE})
    _, empty = run(monkeypatch, ["ps"], {Tokens: NONE})

    assert (result.exit_code, empty.exit_code) == (1, 0)
    assert result.stderr == "Error: nothing matches 'tenant=acme'; 'tokengate ps' lists the live tokens\n"


@pytest.mark.parametrize("options", [["-o", "json"], ["--json"]])
def test_json_is_the_answer_and_nothing_else(monkeypatch: pytest.MonkeyPatch, options: list[str]) -> None:
    """One object, or one array."""
    _, page = run(monkeypatch, ["ps", *options], {Tokens: PAGE})
    _, actors = run(monkeypatch, ["actors", *options], {Actors: (ACTOR,)})

    assert [token["id"] for token in loaded(page)["rows"]] == [7, 8]
    assert [actor["path"] for actor in loaded(actors)] == ["/a"]


@pytest.mark.parametrize(
    ("arguments", "question", "answer"),
    [
        (["info"], Info(), INFO),
        (["overview"], Overview(), GateOverview(INFO)),
        (["describe", "7"], Describe(7), PAGE),
        (["describe", "#7"], Describe(7), PAGE),
        (["describe", "shop/a"], DescribeActor("shop/a"), ActorDescription(ACTOR)),
        (["stack", "7"], Stack(7), TokenStack(7, "resize", "nowhere", None, ())),
        (["tree"], Tree(), (TreeRow(0, "/", "shop", "S", "running", "", 0, "", 0, (), False),)),
        (["tree", "/a", "--system"], Tree("/a", system=True), ()),
        (["actors"], Actors(), (ACTOR,)),
        (["actors", "a", "--sample", "0.5"], Actors("a", sample=0.5), (ACTOR,)),
        (["stats", "a", "--on"], Statistics("a", "on"), (ACTOR,)),
        (["stats", "a", "--off"], Statistics("a", "off"), (ACTOR,)),
        (["children", "/a"], WhichChildren("/a"), ()),
        (["children", "/a", "--count"], CountChildren("/a"), ChildCountsRow(0, 0, 0, 0, 0)),
    ],
)
def test_a_command_asks_its_question(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], question: Any, answer: Any
) -> None:
    """And prints the answer."""
    gate, result = run(monkeypatch, arguments, {type(question): answer})

    assert result.exit_code == 0, result.output
    assert gate.asked == [question]
    assert result.stdout


@pytest.mark.parametrize("command", [["actors", "nobody"], ["stats", "nobody"]])
def test_a_name_that_no_actor_has_is_an_error(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    """Exit code 1, and where the names are to be found."""
    _, result = run(monkeypatch, command, {Actors: (), Statistics: ()})

    assert result.exit_code == 1
    assert "no actor is named 'nobody'; 'tokengate actors' lists them" in result.stderr


def test_statistics_that_are_off_say_how_to_switch_them_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was counted, which is no answer."""
    counted = attrs.evolve(ACTOR, statistics=ActorStatistics(1, 0, 0, 0, 0, 0, 0))
    _, off = run(monkeypatch, ["stats", "a"], {Statistics: (ACTOR,)})
    _, on = run(monkeypatch, ["stats", "a"], {Statistics: (counted,)})

    assert (off.exit_code, on.exit_code) == (1, 0)
    assert "tokengate stats --on a" in off.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnknownToken("there is no token 7"), 1),
        (Busy("it is busy"), 1),
        (RemoteError("Odd: two\nlines"), 1),
        (BadSelector("'x' is no term"), 2),
        (AmbiguousName("two gates run; choose one with -g"), 2),
        (Unreachable("no gate runs here"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_are_one_line_on_stderr_with_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    """1: not done; 2: cannot be meant; 3: no gate; 130: Ctrl-C, which says nothing."""
    _, result = run(monkeypatch, ["describe", "7"], {Describe: error})

    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr == ("" if code == 130 else f"Error: {' '.join(str(error).split())}\n")


@pytest.mark.parametrize("environment", [None, "shop"])
def test_the_gate_is_chosen_by_option_or_environment(monkeypatch: pytest.MonkeyPatch, environment: str | None) -> None:
    """The option goes first; with neither, it is the only one that runs."""
    monkeypatch.delenv("TOKENGATE_GATE", raising=False)
    if environment is not None:
        monkeypatch.setenv("TOKENGATE_GATE", environment)
    default, _ = run(monkeypatch, ["info"], {Info: INFO})
    chosen, _ = run(monkeypatch, ["info", "-g", "bank@12"], {Info: INFO})

    assert default.wanted == environment
    assert chosen.wanted == "bank@12"


def test_gates_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With their processes, and whether they answer."""
    found = [FoundGate("shop", 4711, Path("/run/x.sock"))]
    monkeypatch.setattr(_inspect, "find_gates", lambda: found)
    table = CliRunner().invoke(main, ["ls"])
    array = CliRunner().invoke(main, ["ls", "--json"])

    assert table.stdout.splitlines()[1].split() == ["shop", "4711", "yes", "/run/x.sock"]
    assert loaded(array) == [{"name": "shop", "pid": 4711, "path": "/run/x.sock", "answers": True, "refusal": ""}]


def test_no_gate_at_all_is_exit_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do about it; JSON is an empty array all the same."""
    monkeypatch.setattr(_inspect, "find_gates", list)
    table = CliRunner().invoke(main, ["ls"])
    array = CliRunner().invoke(main, ["ls", "--json"])

    assert (table.exit_code, array.exit_code) == (3, 3)
    assert table.stdout == ""
    assert "start one with 'tokengate run'" in table.stderr
    assert loaded(array) == []
