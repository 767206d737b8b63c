"""The commands for policies: of a gate in a child process, from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import programs
import pytest
from click.testing import CliRunner, Result

from tokengate.cli import main

pytestmark = pytest.mark.usefixtures("programs")

SERVICE = """
import sys
from tokengate import Breaker, Gate, Policy, Retry, Throttle, token
from tokengate.policy import Budget

@token(policy=Policy(
    deadline=7200, retry=Retry(ConnectionError, attempts=5, wait=lambda _: 3600.0, max_wait=3600.0),
    breaker=Breaker(key="tenant"), throttle=Throttle(rate="1/h", key="tenant"), budget=Budget("usd", 100),
))
def charge(tenant):
    raise ConnectionError

with Gate("till", config=sys.argv[1]):
    tokens = [charge.submit("acme"), charge.submit("acme")]
    print("open", flush=True)
    input()
    for one in tokens:
        one.cancel()
"""

FILE = """
[[policy]]
select = "operation=charge"
retry.attempts = 7

[[flag]]
select = "tenant=free"
mode = "observe"
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("till") / "tokengate.toml"
    found.write_text(FILE)
    return found


@pytest.fixture(autouse=True)
def till(file: Path) -> Iterator[None]:
    """A gate with a token that waits for its next attempt, and one that a throttle keeps back."""
    with programs.Program("-c", SERVICE, str(file), piped=True) as gate:
        assert gate.stdout.readline() == "open\n"
        yield
        gate.communicate("\n")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "-g", "till"], prog_name="tokengate")


def told(*arguments: str) -> list[str]:
    """Return the lines that a command prints."""
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def rows(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def test_policies_are_shown_and_changed(till: None) -> None:
    """Each value with its source; what cannot work has an error in one line."""
    assert "charge retry.attempts 7 tokengate.toml:2" in told("policies")
    assert "charge deadline 7200s code" in told("policies", "operation=ch*,affinity!=process")
    assert "charge retry.attempts 9 live" in told("policy", "set", "charge", "retry.attempts=9", "timeout=1h")
    assert "charge timeout 3600s live" in told("policies", "charge")
    assert "charge retry.attempts 7 tokengate.toml:2" in told("policy", "reset", "charge", "retry.attempts")
    assert not any("live" in line for line in told("policy", "reset", "charge"))
    bad = run("policy", "set", "charge", "retry.attempts=0")
    assert bad.exit_code != 0
    assert "retry.attempts of 'operations/charge' is 0; use a whole number of at least 1" in bad.stderr
    assert (
        "'retry.attempts' is not FIELD=VALUE; write FIELD=VALUE" in run("policy", "set", "x", "retry.attempts").stderr
    )


def test_states_are_shown_and_steered(till: None) -> None:
    """Breakers and budgets, by key."""
    assert told("breakers") == [
        "OPERATION KEY STATE HELD COUNTED BAD RUNNING PROBES IN NO KEY", "charge acme closed no 1 1 0 - 0"
    ]  # fmt: skip
    assert rows("breaker", "open", "charge", "--key", "acme")[0]["state"] == "open"
    assert rows("breaker", "auto", "charge")[0]["state"] == "half open"
    assert told("breaker", "close", "charge")[1] == "charge acme closed yes 0 0 0 - 0"
    assert told("breaker", "reset", "charge")[1] == "charge acme closed no 0 0 0 - 0"
    assert rows("budgets", "charge")[0]["budget"] == "usd"
    assert rows("budget", "reset", "charge")[0]["spent"] == 0
    assert "has no breaker of 'x'" in run("breaker", "open", "charge", "--key", "x").stderr


def test_flags_are_shown_and_set(till: None) -> None:
    """The selector is the name of a flag."""
    assert told("flags")[1] == "tenant=free observe 100 tokengate.toml:6"
    assert rows("flag", "set", "operation=charge", "off", "--percent", "10", "--by", "tenant")["source"] == "live"
    assert len(rows("flags")) == 2
    assert rows("flag", "reset", "operation=charge")["selector"] == "operation=charge"
    assert "no operator has set a flag for '*'" in run("flag", "reset", "*").stderr


def test_tokens_say_what_holds_them_and_are_steered(till: None, until: Callable[[Callable[[], bool]], None]) -> None:
    """Until when, and by which rule."""
    until(lambda: [row["held"] for row in rows("ps")["rows"]] == ["delayed", "throttled"])
    waits, kept = rows("ps")["rows"]

    assert (waits["held_by"], kept["held_by"]) == (
        "attempt 2 of 7",
        "operation charge: rate 1/h of tenant 'acme'",
    )
    assert "queued (delayed, " in run("ps", "held=delayed").stdout
    described = told("describe", str(waits["id"]))
    assert [line for line in described if line.startswith("held delayed for ") and line.endswith(": attempt 2 of 7")]
    assert "policy retry.attempts 7 (tokengate.toml:2)" in described
    assert [line for line in described if line.startswith("attempt before 1: ConnectionError")]
    assert told("extend", str(waits["id"]), "30s")[1].endswith("extended by 30 s")
    assert "retried" in told("retry", str(waits["id"]))[1]
    until(lambda: bool(rows("ps", "held=throttled,attempt=2")["rows"]))
    assert rows("retry", "held=throttled,attempt=2", "--stop")[0]["outcome"] == "not_retried"


def test_the_file_is_read_again(till: None, file: Path) -> None:
    """By a command in a process of its own; a bad one changes nothing."""
    file.write_text(FILE.replace("7", "0"))
    done = programs.run("-m", "tokengate", "reload", "-g", "till")
    assert done.returncode != 0
    assert f"{file}:4: policy[0].retry.attempts is 0; use a whole number of at least 1" in done.stderr
    assert "charge retry.attempts 7 tokengate.toml:2" in told("policies")
    file.write_text(FILE.replace("7", "8"))
    done = programs.run("-m", "tokengate", "reload", "-g", "till")
    assert done.returncode == 0
    assert "operations/charge: retry.attempts=8" in done.stdout
    file.write_text(FILE)
