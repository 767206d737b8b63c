"""The fields of a policy, by source; and what a change of them leaves as it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from tokengate import Gate, token
from tokengate._exceptions import BadPolicy
from tokengate.policy._events import OverloadChanged
from tokengate.policy._governor import PlaceGovernor
from tokengate.policy._policies import Policies, policies_of
from tokengate.policy._policy import Breaker, Budget, Policy, Retry, Throttle
from tokengate.policy._sources import applied, live_fields, over, own_limits, values_of

LIMIT = 60.0  # seconds; only reached when something is broken
Until = Callable[[Callable[[], bool]], None]

CODE = Policy(deadline=30, retry=Retry(OSError, attempts=3), throttle=Throttle(concurrency=5, key="tenant"))


def held_to(*layers: tuple[str, dict[str, Any]], code: Policy = CODE) -> tuple[Policy, dict[str, str]]:
    """Return the policy by so many layers of (source, values), and {field: source}."""
    settings: Any = {}
    for source, values in layers:
        settings = over(settings, live_fields("here", values), source)
    policy, errors = applied(code, settings)
    assert not errors
    return policy, {name: source for name, _, source in values_of(policy, settings)}


def test_a_later_source_wins_field_by_field() -> None:
    """Case 60: code, file, live."""
    policy, sources = held_to(
        ("file", {"deadline": "20s", "retry.attempts": 5, "throttle.concurrency": 10}), ("live", {"retry.attempts": 7})
    )

    assert (policy.deadline, policy.throttle[0].concurrency, policy.throttle[0].key) == (20, 10, "tenant")
    assert policy.retry == Retry(OSError, attempts=7)
    assert (sources["deadline"], sources["retry.attempts"], sources["retry.on"]) == ("file", "live", "code")


def test_none_takes_a_part_away_with_all_its_fields() -> None:
    """Case 60: what is set of it later makes a new part."""
    policy, sources = held_to(("file", {"retry.attempts": 5, "throttle": "none"}), ("live", {"retry": "none"}))
    assert (policy.retry, policy.throttle) == (None, ())
    assert sources == {"deadline": "code", "throttle": "file", "retry": "live"}

    policy, _ = held_to(("file", {"retry": "none"}), ("live", {"retry.on": "ValueError"}))
    assert policy.retry == Retry(ValueError)
    policy, _ = held_to(("file", {"fallback": "none"}), code=attrs.evolve(CODE, fallback=print))
    assert policy.fallback is None


def test_several_throttles_have_numbers() -> None:
    """The first has none."""
    code = Policy(throttle=[Throttle(rate=1), Throttle(concurrency=2)])
    policy, sources = held_to(("live", {"throttle[1].concurrency": 3, "throttle[2].rate": "5/m"}), code=code)

    assert [one.concurrency for one in policy.throttle] == [None, 3, None]
    assert policy.throttle[2].rate == 5 / 60
    assert sources["throttle.rate"] == "code"
    assert sources["throttle[2].rate"] == "live"


def test_a_throttle_gets_the_next_number() -> None:
    """In whatever order they are set; a number beyond that is named, and the throttles stay as they were."""
    policy, _ = held_to(("file", {"throttle[1].rate": 2}), ("live", {"throttle.rate": 1}), code=Policy())
    assert [one.rate for one in policy.throttle] == [1, 2]

    policy, errors = applied(CODE, over({}, live_fields("", {"throttle[2].rate": 5}), "live"))
    assert policy == CODE
    (error,) = errors
    assert str(error) == "throttle[2] of Policy is {'rate': 5.0}; there are 1 throttles: use the next number"


def test_keys_have_limits_of_their_own_and_each_is_set_by_itself() -> None:
    """Those of the file stay beside a live edit."""
    settings = over({}, live_fields("", {"throttle.keys": {"acme": {"concurrency": 50}}}), "file")
    settings = over(settings, live_fields("", {"throttle.keys.7.concurrency": 1}), "live")
    throttle = applied(CODE, settings)[0].throttle[0]

    found = [own_limits(throttle, "throttle", settings, key).concurrency for key in ("acme", 7, "7", "other", None)]
    assert found == [50, 1, 1, 5, 5]


@pytest.mark.parametrize(
    ("values", "field", "remedy"),
    [
        ({"retry.attempts": 0}, "retry.attempts", "use a whole number of at least 1"),
        ({"retries": 3}, "retries", "there is no such key; use one of queue_timeout"),
        ({"retry.on": "httpx"}, "retry.on", "name a built-in error"),
        ({"fallback": "print"}, "fallback", "write it in the code"),
        ({"throttle": "x"}, "throttle", "use a table, or 'none'"),
        ({"retry": "none", "retry.attempts": 3}, "retry.attempts", "'retry' has a value already"),
        ({"throttle[x].rate": 3}, "throttle[x]", "there is no such key"),
        ({"timeout": "soon"}, "timeout", "use seconds, or a text such as '30s'"),
    ],
)
def test_a_bad_value_is_named_with_its_place_and_remedy(values: dict[str, Any], field: str, remedy: str) -> None:
    """Case 59."""
    with pytest.raises(BadPolicy, match="operation 'charge'") as caught:
        live_fields("operation 'charge'", values)

    assert caught.value.field == field
    assert remedy in caught.value.remedy


def test_a_part_that_does_not_fit_the_code_is_left_out_and_named() -> None:
    """The other parts hold."""
    settings = over({}, live_fields("", {"retry.attempts": 5, "deadline": 3, "throttle.keys.a.burst": 3}), "file")
    policy, errors = applied(Policy(throttle=Throttle(concurrency=1, key="tenant")), settings)

    assert (policy.deadline, policy.retry) == (3, None)
    assert [(error.place, error.field) for error in errors] == [("Retry", "on"), ("Throttle", "burst")]


# In a gate


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("sources", threads=4, shutdown=5.0, control_socket=False) as opened:
        yield opened


def parts_of(gate: Gate, operation: Any) -> tuple[Policies, PlaceGovernor, Any]:
    place = gate._operations[operation._spec]
    policies = policies_of(place)
    return policies, policies.governor_of(place), place


def set_live(gate: Gate, operation: Any, **values: Any) -> None:
    policies, _, place = parts_of(gate, operation)
    policies.edit(place, live_fields("here", {name.replace("__", "."): value for name, value in values.items()}))
    policies.update(place)


def test_a_change_keeps_levels_windows_and_states(gate: Gate) -> None:
    """Case 61."""

    def fail(tenant: str) -> None:
        raise OSError

    policy = Policy(
        breaker=Breaker(minimum=2, key="tenant"), throttle=Throttle(rate="1/h", burst=5), budget=Budget("usd", 100)
    )
    operation = token(policy=policy)(fail)
    for _ in range(2):
        operation.submit("a").exception(LIMIT)
    _, governor, _ = parts_of(gate, operation)
    now = gate._system.clock()
    breaker = governor.breaker_of({"tenant": "a"}, now)
    throttle, budget = governor.rules_of({}, now)
    assert breaker is not None
    set_live(gate, operation, breaker__open_for=99, throttle__burst=9, budget__limit=50, deadline=1)

    assert governor.breaker_of({"tenant": "a"}, now) is breaker
    assert governor.rules_of({}, now) == (throttle, budget)
    assert (breaker.state, breaker.policy.open_for, breaker.policy.key) == ("open", 99, "tenant")
    state = throttle.state  # type: ignore[attr-defined]
    for _ in range(3):
        assert state.due_at(now) <= now
        state.grant()
        state.begin(now)
    assert state.due_at(now) > now + 60  # three were left, however large the burst is
    assert budget.state.budget.limit == 50  # type: ignore[attr-defined]
    assert governor.shedding.shed == 0.05


def test_an_edit_that_does_not_fit_changes_nothing(gate: Gate) -> None:
    """Case 59: it needs what the code does not have."""
    operation = token(policy=Policy(deadline=5))(print)
    _, governor, _ = parts_of(gate, operation)

    with pytest.raises(BadPolicy, match="on of Retry is None; set it: the code has no such part"):
        set_live(gate, operation, retry__attempts=5)
    assert governor.policy == Policy(deadline=5)


def test_a_reset_gives_back_what_the_code_says(gate: Gate) -> None:
    """One field, or all."""
    operation = token(policy=CODE)(print)
    policies, governor, place = parts_of(gate, operation)
    set_live(gate, operation, retry__attempts=5, retry__wait=1, deadline=9)

    assert policies.reset(place, "retry.wait")
    assert not policies.reset(place, "timeout")
    policies.update(place)
    assert governor.policy == attrs.evolve(CODE, deadline=9, retry=Retry(OSError, attempts=5))
    assert policies.reset(place, "")
    policies.update(place)
    assert governor.policy == CODE


def test_tokens_that_wait_already_are_held_to_a_new_throttle(gate: Gate, until: Until) -> None:
    """Case 35: also of an operation that had no policy; and they go on when it is lifted."""
    release, started = threading.Event(), threading.Semaphore(0)
    running, most, lock = [0], [0], threading.Lock()

    def work(tenant: str) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        started.release()
        assert release.wait(LIMIT)
        with lock:
            running[0] -= 1

    operation = token(concurrency=1)(work)
    first = operation.submit("a")
    assert started.acquire(timeout=LIMIT)
    tokens = [operation.submit("a") for _ in range(5)]
    place = gate._operations[operation._spec]
    policies_of(place).edit(place, live_fields("", {"throttle.rate": "1/h", "throttle.key": "tenant"}))
    policies_of(place).update(place, work)
    release.set()
    first.result(LIMIT)
    tokens[0].result(LIMIT)  # the burst is 1
    until(lambda: all(place.mailbox.is_kept_back(one) for one in tokens[1:]))
    policies_of(place).reset(place, "")
    policies_of(place).update(place)

    for one in tokens:
        one.result(LIMIT)
    assert most == [1]


def test_tokens_that_wait_already_are_counted_for_their_own_keys(gate: Gate) -> None:
    """Case 35: whatever the keys of the tokens of another operation are, which waited as that one got its throttle."""
    release = threading.Event()

    def operation(tenant: str) -> tuple[Any, Any]:
        def work(tenant: str) -> None:
            assert release.wait(LIMIT)

        made = token(concurrency=1)(work)
        waiting = [made.submit(tenant) for _ in range(2)]
        place = gate._operations[made._spec]
        policies_of(place).edit(place, live_fields("", {"throttle.concurrency": 1, "throttle.key": "tenant"}))
        policies_of(place).update(place, work)
        return waiting, place.governor

    operations = [operation(tenant) for tenant in ("acme", "free")]
    release.set()
    for waiting, _ in operations:
        for one in waiting:
            one.result(LIMIT)

    assert [[key for key, _ in governor.states("throttle")] for _, governor in operations] == [["acme"], ["free"]]


def test_a_budget_keeps_what_is_spent_when_its_limit_changes(gate: Gate) -> None:
    """All operations that share it have the new limit."""
    one = token(policy=Policy(budget=Budget("usd", 10)))(lambda: None)
    other = token(policy=Policy(budget=Budget("usd", 10)))(lambda: None)
    rules = [parts_of(gate, operation)[1].rules_of({}, 0.0)[0] for operation in (one, other)]
    assert rules[0] is rules[1]
    rules[0].state.spent = 5.0  # type: ignore[attr-defined]
    set_live(gate, one, budget__limit=20)

    assert parts_of(gate, one)[1].rules_of({}, 0.0)[0] is rules[0]
    assert (rules[0].state.budget.limit, rules[0].state.spent) == (20, 5.0)  # type: ignore[attr-defined]


def test_overload_is_told_of_when_it_begins_and_when_it_ends(gate: Gate) -> None:
    """By priority; no lock is held while it is told."""
    operation = token(policy=Policy(deadline=20))(print)  # it sheds what waits for a second
    _, governor, _ = parts_of(gate, operation)
    told: list[object] = []
    gate.subscribe(lambda event: told.append((event, governor.lock.locked())))

    def taken(queued_at: float, now: float) -> bool:
        one: Any = SimpleNamespace(
            queued_at=queued_at, priority=3, _extras=SimpleNamespace(policy=None), _describe=lambda: "token 1"
        )
        with governor.lock:
            shed = governor.sheds(one, now) is not None
        governor.publish()
        return shed

    found = [taken(5, 10), taken(5, 11), taken(5, 12.5), taken(5, 13), taken(13, 13.5)]
    assert found == [False, False, True, True, False]
    assert told == [(OverloadChanged("print", 3, True), False), (OverloadChanged("print", 3, False), False)]
