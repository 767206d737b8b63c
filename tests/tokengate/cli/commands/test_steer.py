"""Commands that do something to tokens and actors."""

from __future__ import annotations

from typing import Any

import pytest
from fake_gate import loaded, run

from tokengate.control.messages import (
    ActorOutcome,
    ActorState,
    Call,
    Called,
    DeleteChild,
    Drain,
    Estimate,
    GetState,
    Lift,
    Limit,
    Message,
    Outcome,
    Pause,
    Preempt,
    Recycle,
    Renice,
    Reroute,
    Restart,
    RestartChild,
    Resume,
    Retag,
    SetState,
    SetThrottle,
    Step,
    Stop,
    Suspend,
    Terminate,
    TerminateChild,
    ThrottleRow,
    Throttles,
    Unsuspend,
)

DONE = (Outcome(7, "resize", "paused"),)
CALLED = Called("/a", 7, "completed", "int", None, 17)
THROTTLE = ThrottleRow("tenant=acme", 10.0, None, 0, 0)


@pytest.mark.parametrize(
    ("line", "question"),
    [
        ("pause 7 8", Pause((7, 8), wait=0.25)),
        ("pause a=b --stop-clock --force --wait 2", Pause("a=b", stop_clock=True, force=True, wait=2)),
        ("pause * --dry-run", Pause("*", dry_run=True, wait=0.25)),
        ("resume 7", Resume((7,))),
        ("step 7 -n 3", Step((7,), n=3, wait=0.25)),
        ("kill 7", Terminate((7,), wait=0.25)),
        ("kill 7 -s interrupt --reason quota --force", Terminate((7,), reason="quota", force=True, wait=0.25)),
        ("kill 7 -s kill --grace 3 --wait 0", Terminate((7,), mode="kill", wait=0.0, grace=3.0)),
        ("renice 9 7", Renice((7,), priority=9)),
        ("renice -15 7 8 --json", Renice((7, 8), priority=-15)),
        ("renice --force -- -1 7", Renice((7,), priority=-1, force=True)),
        ("retag 7 --set a=b=c --set d= --remove e", Retag((7,), set={"a": "b=c", "d": ""}, remove=("e",))),
        ("reroute 7 --to cpu", Reroute((7,), affinity="cpu")),
        ("reroute 7 --to process", Reroute((7,), affinity="process")),
        ("reroute 7 --to /shop/mailer", Reroute((7,), actor="/shop/mailer")),
        ("limit 7 --memory 2GiB --cpu-time 10", Limit(7, memory="2GiB", cpu_time="10")),
        ("limit a=b --wall-time 5m --address-space 4gb", Limit("a=b", wall_time="5m", address_space="4gb")),
        ("limit 7 --memory none --force", Limit((7,), memory="none", force=True)),
        ("estimate 7 8 run=10m memory=2GiB", Estimate((7, 8), run="10m", memory="2GiB")),
        ("estimate operation=a,run=b memory=none", Estimate("operation=a,run=b", memory="none")),
        ("estimate run=a run=5 --reason slow", Estimate("run=a", run="5", reason="slow")),
        ("preempt 7 8", Preempt((7, 8), wait=0.25)),
        ("preempt 7 to=process memory=2GiB", Preempt((7,), to="process", memory="2GiB", wait=0.25)),
        ("preempt to=a to=/shop/mailer --wait 2 --force", Preempt("to=a", to="/shop/mailer", force=True, wait=2)),
    ],
)  # fmt: skip
def test_a_verb_becomes_its_question(monkeypatch: pytest.MonkeyPatch, line: str, question: Message) -> None:
    """Numbers are ids, anything else is a selector; a priority below zero is no option."""
    gate, result = run(monkeypatch, line.split(), {type(question): DONE})

    assert result.exit_code == 0, result.output
    assert gate.asked == [question]
    assert "paused" in result.stdout


@pytest.mark.parametrize(
    ("line", "question", "answer"),
    [
        ("throttle tenant=acme --rate 10", SetThrottle("tenant=acme", rate=10.0), THROTTLE),
        ("throttle tenant=acme --rate 10/m", SetThrottle("tenant=acme", rate="10/m"), THROTTLE),
        ("throttle * --concurrency 2", SetThrottle("*", concurrency=2), THROTTLE),
        ("throttle --list", Throttles(), ()),
        ("throttles", Throttles(), ()),
        ("throttle tenant=acme --lift", Lift("tenant=acme"), (THROTTLE,)),
        ("suspend a", Suspend("a"), None),
        ("unsuspend a", Unsuspend("a"), None),
        ("drain a --wait 60", Drain("a", wait=60.0), None),
        ("drain a --reopen", Drain("a", reopen=True), None),
        ("restart a", Restart("a"), None),
        ("recycle a", Recycle("a"), None),
        ("recycle a --worker 4711 --wait 60", Recycle("a", worker=4711, wait=60.0), None),
        ("stop a", Stop("a"), None),
        ("stop a --now", Stop("a", drain=False), None),
        ("state a", GetState("a"), ActorState("/a", "A", ())),
        ('set a n=1 x=["b"] s="t"', SetState("a", {"n": 1, "x": ["b"], "s": "t"}), None),
        ("call a restock tea -5", Call("a", "restock", ("tea", "-5"), text=True), CALLED),
        ("call a restock tea --set count=5", Call("a", "restock", ("tea",), {"count": "5"}, text=True), CALLED),
        ("call a restock --wait 60", Call("a", "restock", wait=60.0, text=True), CALLED),
        ("child start /s a", RestartChild("/s", "a"), None),
        ("child stop /s a", TerminateChild("/s", "a"), None),
        ("child forget /s a", DeleteChild("/s", "a"), None),
    ],
)
def test_other_verbs_become_theirs(monkeypatch: pytest.MonkeyPatch, line: str, question: Message, answer: Any) -> None:
    """An actor's outcome is one line."""
    outcome = ActorOutcome("/a", "done") if answer is None else answer
    gate, result = run(monkeypatch, line.split(), {type(question): outcome})

    assert result.exit_code == 0, result.output
    assert gate.asked == [question]
    if answer is None:
        assert result.stdout == "/a: done\n"


@pytest.mark.parametrize(
    ("called", "code", "words"),
    [
        (CALLED, 0, "17\n"),
        (Called("/a", 7, "running"), 0, "token 7 of '/a' is running\n"),
        (Called("/a", 7, "failed", error="LookupError: tea"), 1, "token 7 of '/a' failed: LookupError: tea\n"),
    ],
)
def test_a_command_that_has_failed_is_an_error(
    monkeypatch: pytest.MonkeyPatch, called: Called, code: int, words: str
) -> None:
    """Exit code 1; one that has not ended yet was done as far as its sender can."""
    _, result = run(monkeypatch, ["call", "a", "restock"], {Call: called})

    assert (result.exit_code, result.stdout) == (code, words)


def test_an_argument_by_name_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how it is written."""
    _, result = run(monkeypatch, ["call", "a", "restock", "--set", "=5"], {Call: CALLED})

    assert result.exit_code == 2
    assert "--set '=5' is not NAME=VALUE" in result.stderr


@pytest.mark.parametrize("outcome", ["refused", "unknown", "ended"])
def test_a_token_for_which_it_is_not_done_is_an_error(monkeypatch: pytest.MonkeyPatch, outcome: str) -> None:
    """Exit code 1, and stderr says which; the others are done all the same."""
    answer = (*DONE, Outcome(8, "resize", outcome, "its guard is 'force'"))
    _, result = run(monkeypatch, ["pause", "7", "8"], {Pause: answer})

    assert result.exit_code == 1
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["ID", "7", "8"]
    assert result.stderr == f"Error: not done for 1 of 2: 8 {outcome} (its guard is 'force')\n"


def test_many_tokens_are_counted_in_the_error_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line stays one line."""
    answer = tuple(Outcome(n, "", "unknown") for n in range(1005))
    _, result = run(monkeypatch, ["kill", "*"], {Terminate: answer})

    assert result.stderr.startswith("Error: not done for 1,005 of 1,005: 0 unknown; 1 unknown; ")
    assert result.stderr.endswith("; and 1,000 more\n")


@pytest.mark.parametrize("options", [[], ["--dry-run"], ["--json"]])
def test_a_selector_that_matches_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch, options: list[str]) -> None:
    """A script that acts on nothing wants to know."""
    _, result = run(monkeypatch, ["kill", "tenant=acme", *options], {Terminate: ()})

    assert result.exit_code == 1
    assert result.stderr == "Error: nothing matches 'tenant=acme'; 'tokengate ps' lists the live tokens\n"
    assert result.stdout == ("[]\n" if "--json" in options else "")


def test_what_may_be_a_slip_in_a_selector_that_matches_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag with nearly the name of a field."""
    _, result = run(monkeypatch, ["kill", "operaton=resize"], {Terminate: ()})

    assert result.stderr == (
        "Error: nothing matches 'operaton=resize'; 'operaton' is taken for a tag; write operation if that field is "
        "meant, or tag.operaton; 'tokengate ps' lists the live tokens\n"
    )


def test_json_has_an_object_for_each_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the vocabulary has them."""
    _, result = run(monkeypatch, ["pause", "7", "--json"], {Pause: DONE})

    assert loaded(result) == [{"token": 7, "operation": "resize", "outcome": "paused", "note": "", "proposal": None}]


def test_lifting_what_does_not_hold_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says where those are that hold."""
    _, result = run(monkeypatch, ["throttle", "a=b", "--lift"], {Lift: ()})

    assert result.exit_code == 1
    assert "no throttle has the selector 'a=b'; 'tokengate throttles' lists them" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["pause"], "Missing argument"),
        (["pause", "7", "tenant=acme"], "'tenant=acme' is a selector, which must be the only TARGET"),
        (["pause", "a=b", "c=d"], "join terms with commas"),
        (["pause", " "], "'*' for all tokens"),
        (["renice", "5", "--jsno", "7"], "there is no option '--jsno'"),
        (["renice", "high", "7"], "'high' is not a whole number; the priority comes first: tokengate renice 9 42"),
        (["renice", "7", "high"], "'high' is neither an id nor a selector; the priority comes first"),
        (["retag", "7"], "give --set TAG=VALUE or --remove TAG"),
        (["retag", "7", "--set", "a"], "write --set TAG=VALUE"),
        (["reroute", "7"], "--to"),
        (["estimate", "run=10m"], "estimate needs run=TIME, memory=SIZE or both after TARGET: tokengate estimate 42"),
        (["estimate", "7", "ram=5"], "memory=SIZE or both after TARGET, and 'ram=5' is neither"),
        (["estimate", "7", "run=5", "run=6"], "run is given twice, run=5 and run=6; give it once"),
        (["preempt", "7", "to=cpu", "memory=1GB", "to=io"], "to is given twice, to=cpu and to=io; give it once"),
        (["preempt", "7", "ram=5"], "'ram=5' is a selector, which must be the only TARGET"),
        (["recycle", "a", "--worker", "b"], "--worker"),
        (["limit", "7"], "limit changes nothing; give --memory SIZE, --address-space SIZE, --cpu-time TIME or --wall"),
        (["throttle", "a=b"], "give one of them"),
        (["throttle", "a=b", "--rate", "1", "--lift"], "give one of them"),
        (["throttle", "--rate", "1"], "'*' selects all tokens"),
        (["throttle", "--rate", "0", "*"], "--rate"),
        (["throttle", "a=b", "--concurrency", "all"], "'all' is neither a whole number nor 'adaptive'"),
        (["throttle", "a=b", "--list"], "leave 'a=b' out"),
        (["set", "a", "n"], "is not ATTRIBUTE=JSON, such as count=0"),
        (["set", "a", "n="], "'n=' has no value; write it as JSON, such as n=0 or 'n=\"text\"'"),
        (["set", "a", "n=text"], "strings have quotes"),
        (["step", "7", "-n", "0"], "-n"),
        (["stack", "seven"], "is not an id"),
        (["describe", "9" * 5000], "is not an id"),
        (["pause", "9" * 5000], "is too long for an id; 'tokengate ps' lists tokens"),
    ],
)
def test_what_cannot_be_meant_is_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], remedy: str
) -> None:
    """No gate is asked, and the message says what to type instead."""
    gate, result = run(monkeypatch, arguments, {})

    assert result.exit_code == 2
    assert remedy in result.stderr
    assert gate.asked == []


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999"])
@pytest.mark.parametrize(
    "line",
    [
        "pause 7 --wait", "step 7 --wait", "kill 7 --wait", "kill 7 --grace", "drain mailer --wait",
        "state mailer --wait", "actors --sample", "ps -w --every", "top --every", "throttle * --rate",
    ],
)  # fmt: skip
def test_a_number_must_be_finite(monkeypatch: pytest.MonkeyPatch, line: str, number: str) -> None:
    """The error names option and value; the gate is not even asked."""
    gate, result = run(monkeypatch, [*line.split(), number], {})
    option = line.rsplit(maxsplit=1)[-1]

    assert result.exit_code == 2, result.output
    assert f"Invalid value for '{option}'" in result.stderr
    assert number in result.stderr
    assert gate.asked == []
