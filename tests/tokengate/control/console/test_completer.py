"""What Tab offers in the console."""

from __future__ import annotations

from typing import Any

import pytest

from tokengate.control._exceptions import Unreachable
from tokengate.control.console._completer import DELIMITERS, Live, completions, look
from tokengate.control.messages import COLUMNS, ActorRow, Actors, Message, TokenPage, TokenRow, Tokens

LIVE = Live(("8", "7"), ("fetch", "resize"), ("shop/counter", "shop/till"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", ["    "]),
        ("ter", ["terminate("]),
        ("pau", ["pause("]),
        ("control.paus", ["control.pause("]),
        ("pause(", ["8", "7"]),
        ("pause([8, ", ["8", "7"]),
        ("await aio.pause(7", ["7"]),
        ("token(", ["8", "7"]),
        ('pause("st', ['"state=']),
        ('pause("operation=', ["fetch", "resize"]),
        ('pause("tenant=acme,operation!=re', ["resize"]),
        ("ps('actor=shop/t", ["shop/till"]),
        ('ps("state=pau', ["paused"]),
        ('ps("tenant=', []),
        ('pause("run.', ['"run.p50>', '"run.p95>']),
        ('pause("late>80%,le', ["leak="]),
        ('pause("leak=c', ["confirmed"]),
        ('pause("retry_loop=', ["yes", "no"]),
        ('ps(sort="ag', ['"age']),
        ("ps(sort=", [f'"{column}"' for column in COLUMNS]),
        ('terminate(7, mode="k', ['"kill']),
        ('reroute(7, affinity="pro', ['"process']),
        ("limit(", ["8", "7"]),
        ('ps("affinity=p', ["process"]),
        ("reroute(7, actor='", ["'shop/counter", "'shop/till"]),
        ("suspend(", ['"shop/counter"', '"shop/till"']),
        ('suspend("shop/c', ['"shop/counter']),
        ('actor("shop/t', ['"shop/till']),
        ('print("op', []),
        ('actor("shop/till").', []),
    ],
)
def test_completion_offers_what_can_stand_there(line: str, expected: list[str]) -> None:
    """Names of the console, attributes, and in the arguments of verbs the names of the live gate."""
    start = max(line.rfind(char) for char in DELIMITERS) + 1
    names = {"pause": print, "terminate": print, "control": type("C", (), {"pause": print})()}

    assert completions(line, line[start:], names, lambda: LIVE) == expected


def test_completion_asks_the_gate_only_for_names_of_its_own() -> None:
    """Tab is quick where no name of the gate can stand."""

    def never() -> Live:
        raise AssertionError("nothing of the gate can stand here")

    assert completions("pau", "pau", {"pause": print}, never) == ["pause("]
    assert completions('ps("state=q', "q", {}, never) == ["queued"]


def test_a_gate_that_does_not_answer_has_no_names() -> None:
    """Tab never fails; the next verb says what is wrong."""
    row = TokenRow(7, "resize", "operations/resize", "cpu", "queued", 0, {}, None, 1, 0, 1.0, None)
    actor = ActorRow("shop/counter", "Counter", "cpu", "running", 0, 10, (), 1, 0, False, False)
    answers: dict[type[Message], Any] = {Tokens: TokenPage((row,), 1, 1, 0), Actors: (actor,)}

    def gone(message: Message) -> Any:
        raise Unreachable("gate 'shop' (pid 1) went away")

    assert look(lambda message: answers[type(message)]) == Live(("7",), ("resize",), ("shop/counter",))
    assert look(gone) == Live()
