"""Verbs of plugins in the console: functions, tables, help and completion, as for the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tallies import Tally

from tokengate import Gate, token
from tokengate.control import ControlClient, find_gate
from tokengate.control.console._completer import DELIMITERS, Live, completions, names_of
from tokengate.control.console._repl import Session, Shell


@token
def resize(size: int) -> float:
    return 1 / size


def session_of(gate: str) -> Session:
    return Session(lambda wanted: ControlClient(find_gate(wanted).path), gate)


@pytest.fixture
def session(until: Callable[[Callable[[], bool]], None]) -> Iterator[Session]:
    """A session with a gate whose plugin has counted one call."""
    with Gate("tallied", plugins=[Tally()]) as gate:
        resize.submit(1).result(60)
        until(lambda: len(gate.plugin(Tally)._ended) == 1)
        found = session_of("tallied")
        yield found
        found.close()


def test_verbs_of_a_plugin_are_functions(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    """Answers are tables, and the name alone shows the arguments and what it does."""
    assert Shell(session).run_script("tallies()\nreset_tally('resize', at=3)\nreset_tally")
    assert capsys.readouterr().out.splitlines() == [
        "OPERATION  COMPLETED  FAILED  FROZEN",
        "resize             1       0  no",
        "OPERATION  COMPLETED  FAILED  FROZEN",
        "resize             3       0  no",
        "reset_tally(name, *, at=0, reason='', force=False, dry_run=False, break_glass=''): "
        "Count an operation from zero again.",
    ]


def test_help_of_such_a_function_has_its_arguments(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert Shell(session).run_script("help(reset_tally)")

    assert "at: where to begin." in capsys.readouterr().out


def test_a_gate_without_the_plugin_says_which_one_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    with Gate("bare"):
        session = session_of("bare")
        done = Shell(session).run_script("tallies()")
        session.close()

    assert not done
    assert capsys.readouterr().err == (
        "UnknownVerb: this gate runs without Tally, which 'tallies' needs; open it with plugins=[Tally()]\n"
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("reset_ta", ["reset_tally("]),
        ("reset_tally(", ['"resize"']),
        ('reset_tally("re', ['"resize']),
        ('reset_tally("resize", at="', []),
        ("tallies('re", ["'resize"]),
    ],
)
def test_tab_offers_the_names_of_the_noun(session: Session, line: str, expected: list[str]) -> None:
    shell, text = Shell(session), line[max(line.rfind(char) for char in DELIMITERS) + 1 :]

    assert completions(line, text, shell.locals, Live, lambda kind: names_of(kind, session.ask)) == expected


def test_a_gate_that_does_not_answer_offers_no_names(session: Session) -> None:
    with Gate("bare"):
        other = session_of("bare")
        shell = Shell(other)
        found = completions("reset_tally(", "", shell.locals, Live, lambda kind: names_of(kind, other.ask))
        other.close()

    assert found == []
