"""Rules that are asked when a token is submitted."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from gated_code import LIMIT
from people import ANN
from predictions import Foreseeing

from actors import Token, TokenState
from tokengate import token
from tokengate.predict import Rule

Open = Callable[..., AbstractContextManager[Foreseeing]]


@token(concurrency=1, features=lambda number, *_rest: {"number": number})
def parse(number: int, ledger: list[int], opened: threading.Event | None = None) -> None:
    ledger.append(number)
    if opened is not None:
        assert opened.wait(LIMIT)


def shortest_first(do: str = "renice -1", **options: Any) -> Rule:
    values: dict[str, Any] = {"name": "short", "select": "operation=parse,run.p50>2s", "mode": "act", "expires": "5m"}
    return Rule(do=do, **(values | options))


class ByNumber:
    """Expects of each token its number of seconds, by its features."""

    def __init__(self, seen: Foreseeing) -> None:
        self._outlook = seen.models.outlook
        self._seen = seen
        self._lock = threading.Lock()  # what is expected now is one for all threads
        seen.models.outlook = self  # type: ignore[assignment, method-assign]

    def __call__(self, sample: Any, *, own: bool = True) -> Any:
        with self._lock:
            self._seen.models.run["parse"] = sample.features["number"] + 0.1
            return self._outlook(sample, own=own)


def submit(seen: Foreseeing, numbers: list[int]) -> tuple[list[int], list[Token[None]]]:
    """Submit one call that is held, and then one for each number; return what begins, in that order, and the tokens."""
    ByNumber(seen)
    ledger: list[int] = []
    seen.gate.register(parse)
    seen.gate.control.suspend("parse")
    return ledger, [parse.submit(number, ledger) for number in numbers]


def go_on(seen: Foreseeing, tokens: list[Token[None]]) -> None:
    seen.gate.control.unsuspend("parse")
    for one in tokens:
        one.result(LIMIT)


def test_long_tokens_go_behind_the_short_ones_and_each_class_in_its_order(open_gate: Open) -> None:
    """The rule is asked before a token is queued: none has to be moved."""
    with open_gate(shortest_first()) as seen:
        ledger, tokens = submit(seen, [1, 1, 9, 0, 7, 1, 8, 0])
        go_on(seen, tokens)

    assert ledger == [1, 1, 0, 1, 0, 9, 7, 8]


def test_the_expiry_bounds_how_long_the_long_ones_wait(open_gate: Open) -> None:
    """After it they have the priority that they had, behind those that were queued with it before."""
    with open_gate(shortest_first(expires="10s")) as seen:
        ledger, tokens = submit(seen, [1, 1, 9, 0])
        assert [one.priority for one in tokens] == [0, 0, -1, 0]
        seen.look(11)
        assert [one.priority for one in tokens] == [0, 0, 0, 0]
        later = [parse.submit(number, ledger) for number in (1, 0)]
        go_on(seen, [*tokens, *later])

    assert ledger == [1, 1, 0, 9, 1, 0]


def test_what_an_operator_has_set_since_is_not_undone(open_gate: Open) -> None:
    """Nor what has ended."""
    with open_gate(shortest_first(expires="10s")) as seen:
        ledger, tokens = submit(seen, [1, 1, 1, 9, 8])
        seen.people[ANN].renice(tokens[3].id, 5)
        seen.look(11)

        assert [one.priority for one in tokens] == [0, 0, 0, 5, 0]
        go_on(seen, tokens)
        assert ledger == [9, 1, 1, 1, 8]


def test_what_was_done_is_undone_when_the_gate_closes_or_rules_are_frozen_for_good(open_gate: Open) -> None:
    """`freeze --revert` is one of both."""
    with open_gate(shortest_first()) as seen:
        _, tokens = submit(seen, [1, 1, 9])
        assert tokens[2].priority == -1
        seen.gate.control.freeze(reason="a test", revert=True)
        seen.look(1)

        assert tokens[2].priority == 0
        assert parse.submit(9, []).priority == 0
        go_on(seen, tokens)


def test_all_long_tokens_stand_back_however_many_wait(open_gate: Open) -> None:
    """Those that wait soon are most of what lives: with half of it as a bound, the next long one would pass them."""
    with open_gate(shortest_first()) as seen:
        _, tokens = submit(seen, [9] * 40)

        assert {one.priority for one in tokens} == {-1}
        go_on(seen, tokens)


def test_at_most_half_of_the_live_tokens_get_other_tags(open_gate: Open) -> None:
    """By the test's own count: tags place work, which is more than its order."""
    with open_gate(shortest_first("retag speed=slow")) as seen:
        _, tokens = submit(seen, [9] * 40)

        assert sum("speed" in one.tags for one in tokens) == 20
        go_on(seen, tokens)


def test_a_rule_that_is_not_calibrated_or_observes_changes_nothing(open_gate: Open) -> None:
    """What it would have done is counted."""
    with open_gate(shortest_first(), shortest_first(name="other", mode="observe")) as seen:
        seen.models.calibrated = frozenset()
        _, tokens = submit(seen, [1, 9])

        assert [one.priority for one in tokens] == [0, 0]
        [counts, _] = [one.counts for one in sorted(seen.predict._open.states, key=lambda one: -len(one.counts))]
        assert dict(counts) == {"observed": 1}
        assert tokens[1]._extras.steered_by == ""
        go_on(seen, tokens)


@pytest.mark.parametrize(
    ("do", "read", "set_"),
    [
        ("retag speed=slow", lambda one: dict(one.tags), {"tenant": "acme", "speed": "slow"}),
        ("estimate run=1m", lambda one: one.predicted.run.p95, 60.0),
    ],
)
def test_tags_and_estimates_can_be_set_at_submit_and_are_undone(
    do: str, read: Callable[[Token[None]], Any], set_: Any, open_gate: Open
) -> None:
    """As a priority can."""
    with open_gate(shortest_first(do, expires="10s")) as seen:
        ByNumber(seen)
        seen.gate.register(parse)
        seen.gate.control.suspend("parse")
        tagged = parse.with_options(tags={"tenant": "acme"})
        tokens = [tagged.submit(number, []) for number in (1, 1, 100)]
        assert read(tokens[2]) == set_
        assert tokens[2]._extras.steered_by == "process:interventions"

        seen.look(11)
        assert read(tokens[2]) == {"tenant": "acme"} or read(tokens[2]) == pytest.approx(200.2)
        go_on(seen, tokens)


def test_eight_threads_submit_at_once(open_gate: Open) -> None:
    """The long ones are changed, and all are as before when the time is over."""
    with open_gate(shortest_first(expires="10s")) as seen:
        _, tokens = submit(seen, [])
        lock = threading.Lock()

        def send() -> None:
            found = [parse.submit(number, []) for number in (1, 9, 8, 0, 7, 9) * 10]
            with lock:
                tokens.extend(found)

        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
        changed = sum(one.priority == -1 for one in tokens)
        assert 0 < changed <= 8 * 40
        assert seen.predict._submit.active == changed

        seen.look(11)
        assert all(one.priority == 0 for one in tokens)
        assert seen.predict._submit.active == 0
        go_on(seen, tokens)


def test_a_direct_call_is_asked_about_too_and_runs_as_ever(open_gate: Open) -> None:
    """Its features are computed once, also where it has to be queued."""
    calls: list[int] = []

    @token(features=lambda number: calls.append(number) or {"number": number})  # type: ignore[func-returns-value]
    def direct(number: int) -> int:
        return number

    with open_gate(shortest_first(select="operation=direct,run.p50>2s"), run={"direct": 5.0}) as seen:
        assert direct(3) == 3
        assert seen.predict._submit.active == 0

    assert calls == [3]


def test_a_token_that_ends_is_no_longer_counted(open_gate: Open) -> None:
    """So that others can be changed."""
    with open_gate(shortest_first()) as seen:
        _, tokens = submit(seen, [1, 1, 9, 1, 9])
        assert seen.predict._submit.active == 2
        seen.gate.control.terminate(tokens[2].id)

        assert tokens[2].state is TokenState.TERMINATED
        assert seen.predict._submit.active == 1
        go_on(seen, [one for one in tokens if not one.done()])
        assert seen.predict._submit.active == 0


def test_rules_with_different_expiries_are_undone_each_in_its_time(open_gate: Open) -> None:
    """A long one that came first holds up no short one."""
    rules = (
        shortest_first(name="long", select="operation=parse,run.p50>2s,speed=slow", expires="24h"),
        shortest_first("renice -2", name="short", select="operation=parse,run.p50>2s,speed=fast", expires="5m"),
    )
    with open_gate(*rules) as seen:
        _, tokens = submit(seen, [1, 1, 1, 1])
        slow, fast = [parse.with_options(tags={"speed": speed}).submit(9, []) for speed in ("slow", "fast")]
        assert (slow.priority, fast.priority) == (-1, -2)
        seen.look(301)

        assert (slow.priority, fast.priority) == (-1, 0)
        go_on(seen, [*tokens, slow, fast])


def test_tokens_that_have_ended_take_no_memory_until_their_time_is_over(open_gate: Open) -> None:
    """The order of ends is made anew once most of them are over."""
    with open_gate(shortest_first(expires="24h")) as seen:
        ByNumber(seen)
        for _ in range(2_000):
            for one in [parse.submit(9, []) for _ in range(3)]:
                one.result(LIMIT)

        assert len(seen.predict._submit._steered._due) < 1_100
        assert seen.predict._submit.active == 0


def test_an_interrupt_at_submit_leaves_no_token_behind(open_gate: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is raised in the sender, and the token is over; nothing is counted for good."""
    with open_gate(shortest_first()) as seen:
        _, tokens = submit(seen, [1, 1, 1, 1])
        before = dict(seen.gate._system.live)

        def interrupt(*_args: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr("tokengate.predict._submit.SubmitRules._change", interrupt)
            with pytest.raises(KeyboardInterrupt):
                parse.submit(9, [])
            with pytest.raises(KeyboardInterrupt):
                parse(9, [])

        assert dict(seen.gate._system.live) == before
        assert seen.predict._submit._steered.touched("parse") == 0
        go_on(seen, tokens)


def test_features_that_exit_are_switched_off(open_gate: Open) -> None:
    """The program goes on, and so do the tokens."""

    @token(features=lambda: sys.exit(3))
    def leaves() -> int:
        return 1

    with open_gate(run={"leaves": 1.0}):
        assert [leaves.submit().result(LIMIT) for _ in range(5)] == [1] * 5
