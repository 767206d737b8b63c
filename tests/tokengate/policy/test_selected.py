"""Throttles of operators, for all tokens of a selector, by ledgers of their own."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from gated_code import Door

from tokengate import CpuActor, Gate, Policy, Throttle, Token, TokenState, token
from tokengate.control import BadRequest
from tokengate.control.inspection._selector import parse
from tokengate.control.steering._throttles import selection_of
from tokengate.errors import TokenRejected
from tokengate.policy._policies import Policies, policies_in
from tokengate.policy._selected import SelectedThrottle, Test

LIMIT = 60.0  # seconds; only reached when something is broken
Until = Callable[[Callable[[], bool]], None]


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("selected", threads=8, control_socket=False) as opened:
        yield opened


def policies(gate: Gate) -> Policies:
    return policies_in(gate._system)


def hold(gate: Gate, select: str, source: str = "operator", **limits: Any) -> SelectedThrottle:
    """Set a throttle of any source."""
    selection = selection_of(parse(select), gate._system.clock)
    return policies(gate).selected.set(selection, Throttle(**limits), source)


class Ledger:
    """Counts what runs at once, for each key."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.lock = threading.Lock()

    def enter(self, key: str) -> None:
        with self.lock:
            self.now[key] += 1
            self.most[key] = max(self.most[key], self.now[key])

    def leave(self, key: str) -> None:
        with self.lock:
            self.now[key] -= 1


@token(concurrency=8)
def plain(value: int = 0, *, tenant: str = "") -> int:
    return value


# Which tokens it is for


@pytest.mark.parametrize("policy", [None, Policy(timeout=LIMIT)], ids=["nothing else", "a policy"])
def test_never_more_of_a_key_run_than_it_says(gate: Gate, policy: Policy | None) -> None:
    """Case 28. By their own count, while three threads submit, and some are cancelled."""
    ledger = Ledger()

    @token(concurrency=8, policy=policy)
    def work(tenant: str) -> None:
        ledger.enter(tenant)
        threading.Event().wait(0.0002)
        ledger.leave(tenant)

    gate.control.throttle("operation=*work", concurrency=2, key="tenant")
    tokens: list[Token[None]] = []

    def submit() -> None:
        for number in range(60):
            tokens.append(work.submit("abc"[number % 3]))
            if number % 7 == 0:
                tokens[-1].cancel()

    threads = [threading.Thread(target=submit) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    for one in tokens:
        one.exception(LIMIT)

    assert set(ledger.most.values()) <= {1, 2}
    assert {one.state for one in tokens} <= {TokenState.COMPLETED, TokenState.TERMINATED}
    (row, *of_keys) = gate.control.throttles()
    assert (row.running, row.waiting, row.by) == (0, 0, "tenant")
    assert {one.key for one in of_keys} <= {"a", "b", "c"}


def test_nesting_under_one_key_does_not_lock_up(gate: Gate) -> None:
    """Case 29. A token that waits for another one does not count; it does again when it goes on."""
    gate.control.throttle("tenant=acme", concurrency=1)

    @token
    def work(depth: int) -> int:
        return depth and 1 + work.with_options(tags={"tenant": "acme"}).submit(depth - 1).result(LIMIT)

    assert work.with_options(tags={"tenant": "acme"}).submit(4).result(LIMIT) == 4
    assert gate.control.throttles()[0].running == 0


def test_a_token_that_cannot_begin_holds_up_no_other(gate: Gate, until: Until) -> None:
    """Case 30. Neither one of another key, nor one without it."""
    door = Door()

    @token(concurrency=8)
    def work(tenant: str | None) -> str | None:
        if tenant == "busy":
            door.pass_through()
        return tenant

    gate.control.throttle("operation=work", concurrency=1, key="tenant")
    busy = [work.submit("busy") for _ in range(3)]
    door.wait_reached()
    assert [work.submit(tenant).result(LIMIT) for tenant in ("other", None, None)] == ["other", None, None]
    until(lambda: gate.control.throttles()[0].waiting == 2)
    throttle = policies(gate).selected.all()[0]
    assert throttle.states.no_key >= 2  # case 36
    door.open()

    assert [one.result(LIMIT) for one in busy] == ["busy"] * 3


def test_a_live_edit_keeps_what_runs_and_lets_more_go(gate: Gate, until: Until) -> None:
    """Case 35. So does a lower limit: what runs goes on, and nothing more begins."""
    doors = [Door() for _ in range(4)]

    @token(concurrency=8)
    def work(number: int) -> None:
        doors[number].pass_through()

    gate.control.throttle("operation=work", concurrency=1)
    tokens = [work.submit(number) for number in range(4)]
    until(lambda: gate.control.throttles()[0].waiting == 3)
    gate.control.throttle("operation=work", concurrency=3)
    for door in doors[:3]:
        door.wait_reached()
    row = gate.control.throttle("operation=work", concurrency=2)
    assert (row.running, row.waiting) == (3, 1)
    doors[0].open()
    tokens[0].result(LIMIT)
    until(lambda: gate.control.throttles()[0].running == 2)
    assert not doors[3].reached.is_set()
    doors[1].open()
    doors[3].wait_reached()
    for door in doors:
        door.open()
    for one in tokens:
        one.result(LIMIT)


def test_throttles_of_code_file_and_operator_grant_all_or_nothing(gate: Gate, until: Until) -> None:
    """Case 38. A token that one keeps back uses up none of the others; the operator's wins over that of the file."""
    door = Door()

    @token(concurrency=8, policy=Policy(throttle=Throttle(concurrency=3)))
    def work(tenant: str) -> None:
        door.pass_through()

    hold(gate, "operation=work", "tokengate.toml", concurrency=2)
    gate.control.throttle("operation=work", concurrency=1, key="tenant")
    hold(gate, "affinity=cpu", "tokengate.toml", concurrency=2)
    tokens = [work.submit(tenant) for tenant in "aaabbbccc"]
    until(lambda: _used(gate) == {"code": (2, 7), "operator": (2, 7), "tokengate.toml": (2, 7)})
    door.open()

    for one in tokens:
        one.result(LIMIT)
    until(lambda: _used(gate) == {"code": (0, 0), "operator": (0, 0), "tokengate.toml": (0, 0)})


def _used(gate: Gate) -> dict[str, tuple[int, int]]:
    return {row.source: (row.running, row.waiting) for row in gate.control.throttles() if row.key is None}


def test_an_operator_wins_over_the_file_until_the_throttle_is_lifted(gate: Gate) -> None:
    """Of one selector; the file's goes on then, and the operator cannot lift it."""
    hold(gate, "operation=plain", "tokengate.toml", concurrency=7)
    gate.control.throttle("operation=plain", concurrency=2)
    assert [(row.concurrency, row.source) for row in gate.control.throttles()] == [(2, "operator")]
    assert [row.concurrency for row in gate.control.lift("*")] == [2]
    assert [(row.concurrency, row.source) for row in gate.control.throttles()] == [(7, "tokengate.toml")]
    assert gate.control.lift("operation=plain") == ()
    assert policies(gate).selected.lift("operation=plain", "tokengate.toml") is not None
    assert tuple(gate.control.throttles()) == ()


class Worker(CpuActor):
    def work(self, value: int) -> int:
        return value

    def other(self, value: int) -> int:
        return value


@pytest.mark.parametrize(
    ("select", "held"),
    [
        ("operation=Worker.work", "work"),
        ("operation=Worker.*", "work other"),
        ("operation=W*", "work other"),
        ("operation=plain", "plain"),
        ("operation!=plain", "work other"),
        ("actor=the-worker", "work other"),
        ("affinity=process", ""),
        ("operation=Work", ""),
        ("tenant=acme", "plain"),
        ("tenant=acme,region=eu", "plain"),
        ("tenant=acme,region=us", ""),
        ("tenant=acme,tenant=other", ""),
        ("tenant=acme,operation=Worker.work", ""),
        ("tenant=a*", "plain"),
        ("priority>1", "plain"),
        ("priority<2,tenant=acme", ""),
        ("*", "plain work other"),
    ],
)
def test_a_throttle_is_for_the_tokens_of_its_selector_and_no_others(gate: Gate, select: str, held: str) -> None:
    """As the selector matches them, whatever it is found by; other places have no governor for it."""
    ref = gate.spawn(Worker, name="the-worker")
    plain.submit(0).result(LIMIT)
    gate.control.throttle(select, rate="1/d", burst=1, over="reject")
    proxy = ref.proxy()
    tagged = plain.with_options(priority=2, tags={"tenant": "acme", "region": "eu"})
    calls: dict[str, Callable[[int], Any]] = {"plain": tagged.submit, "work": proxy.work, "other": proxy.other}
    found = []
    for name, call in calls.items():
        gate.control.reset_throttle(select)
        first, second = call(1), call(1)
        assert first.result(LIMIT) == 1
        if second.exception(LIMIT) is not None:
            found.append(name)

    assert found == held.split()


def test_only_places_that_a_throttle_can_concern_leave_the_lock_free_lane(gate: Gate) -> None:
    """Case 63. The last lift gives it back: no governor is left, and no mailbox asks."""
    ref = gate.spawn(Worker, name="the-worker")
    plain.submit(0).result(LIMIT)
    places = {place.path: place for place in gate._system.places()}
    operation = next(place for path, place in places.items() if path.endswith("plain"))
    gate.control.throttle("operation=plain", concurrency=1)
    assert [place for place in places.values() if place.governor is not None] == [operation]
    assert not operation.mailbox._plain
    assert plain.submit(3).result(LIMIT) == 3
    gate.control.throttle("tenant=acme", rate=1)
    assert all(place.governor is not None for place in places.values() if place.properties.guard != "never")
    new = gate.spawn(Worker, name="another")
    gate.control.lift("tenant=acme")
    assert [place for place in gate._system.places() if place.governor is not None] == [operation]
    gate.control.lift("*")

    assert all(place.governor is None for place in gate._system.places())
    assert all(place.mailbox._throttles is None and place.mailbox._plain for place in gate._system.places())
    assert ref.proxy().work(1).result(LIMIT) == new.proxy().work(1).result(LIMIT) == plain.submit(1).result(LIMIT) == 1


def test_no_throttle_is_asked_whose_tag_a_token_does_not_have(gate: Gate) -> None:
    """A thousand for other tenants are found by none of their tests."""
    asked: list[str] = []
    for number in range(1_000):
        selection = selection_of(parse(f"tenant=t{number},priority>0"), gate._system.clock)

        def ask(one: Token[Any], test: Test = selection.tests[0]) -> bool:
            asked.append(one.operation)
            return test(one)

        selection = attrs.evolve(selection, tests=(ask,))
        policies(gate).selected.set(selection, Throttle(concurrency=1))
    assert plain.with_options(tags={"tenant": "other"}, priority=1).submit(1).result(LIMIT) == 1
    assert asked == []
    assert plain.with_options(tags={"tenant": "t7"}, priority=1).submit(1).result(LIMIT) == 1
    assert set(asked) == {"plain"}
    assert len(asked) < 10


def test_a_token_whose_tags_change_is_held_to_other_throttles(gate: Gate, until: Until) -> None:
    """One that is kept back goes, or is kept back by another key."""
    door = Door()

    @token(concurrency=8)
    def work() -> None:
        door.pass_through()

    gate.control.throttle("operation=work", concurrency=1, key="tenant")
    acme = work.with_options(tags={"tenant": "acme"})
    first, second = acme.submit(), acme.submit()
    until(lambda: gate.control.throttles()[0].waiting == 1)
    gate.control.retag(second.id, {"tenant": "other"})
    until(lambda: second.state is TokenState.RUNNING)
    door.open()
    first.result(LIMIT)
    second.result(LIMIT)


# What happens to them


@pytest.mark.parametrize("over", ["reject", "lower", "warn"])
def test_tokens_beyond_a_throttle_are_judged_at_the_door(gate: Gate, over: str) -> None:
    """Case 33. Those that were queued as it came count, and are not judged."""
    door = Door()

    @token(concurrency=1)
    def work() -> None:
        door.pass_through()

    running, queued = work.submit(), work.submit()
    door.wait_reached()
    row = gate.control.throttle("operation=work", concurrency=3, over=over)
    assert row.running == 2
    third, beyond = work.submit(), work.submit()
    if over == "reject":
        error = beyond.exception(LIMIT)
        assert isinstance(error, TokenRejected)
        assert (error.reason, beyond.reason, beyond.state) == ("throttle", "throttle", TokenState.REJECTED)
        assert gate.control.throttles()[0].refused == 1
    assert (third.priority, beyond.priority) == (0, -1 if over == "lower" else 0)
    door.open()
    for one in (running, queued, third):
        one.result(LIMIT)
    if over != "reject":
        beyond.result(LIMIT)
    assert gate.control.throttles()[0].running == 0
    assert work.submit().exception(LIMIT) is None


def test_what_runs_as_a_throttle_comes_counts_until_it_has_ended(gate: Gate, until: Until) -> None:
    """Also what waits for another token then: it counts when it goes on."""
    doors = [Door(), Door()]

    @token(concurrency=8)
    def inner() -> None:
        doors[0].pass_through()

    @token(concurrency=8)
    def work(waits: bool) -> None:
        if waits:
            inner.submit().result(LIMIT)
        doors[1].pass_through()

    tokens = [work.submit(False), work.submit(True)]
    for door in doors:
        door.wait_reached()
    row = gate.control.throttle("operation=work", concurrency=2)
    assert row.running == 1
    doors[0].open()
    until(lambda: gate.control.throttles()[0].running == 2)
    late = work.submit(False)
    until(lambda: gate.control.throttles()[0].waiting == 1)
    doors[1].open()
    for one in (*tokens, late):
        one.result(LIMIT)
    until(lambda: gate.control.throttles()[0].running == 0)


def test_a_grant_is_given_back_by_what_never_began(gate: Gate, until: Until) -> None:
    """Case 34. A token that leaves after it was let go, or is cancelled while it waits, uses up nothing of a rate."""
    gate.control.throttle("operation=plain", rate="1/h", burst=2)
    assert plain.submit(1).result(LIMIT) == 1
    place = next(place for place in gate._system.places() if place.path.endswith("plain"))
    place.suspend()
    leaves = plain.submit(2)
    leaves.cancel()
    place.unsuspend()
    assert plain.submit(3).result(LIMIT) == 3
    waits = plain.submit(4)
    until(lambda: gate.control.throttles()[0].waiting == 1)
    waits.cancel()
    assert gate.control.throttles()[0].waiting == 0


def test_a_reset_forgets_when_tokens_began(gate: Gate, until: Until) -> None:
    """And what an adaptive one has learned; those of policies are reset by the selector of their operation."""
    gate.control.throttle("operation=plain", rate="1/h", burst=1, over="reject")
    assert plain.submit(1).result(LIMIT) == 1
    assert plain.submit(2).state is TokenState.REJECTED
    assert [row.refused for row in gate.control.throttles()] == [1]
    assert [row.refused for row in gate.control.reset_throttle("operation=plain")] == [0]
    assert plain.submit(3).result(LIMIT) == 3
    with pytest.raises(BadRequest, match="no throttle has the name"):
        gate.control.reset_throttle("operation=nothing")


@pytest.mark.parametrize(
    ("limits", "part"),
    [
        ({}, "needs a rate"),
        ({"rate": "many/s"}, "'100/s'"),
        ({"rate": 5, "slow": 1}, "adaptive"),
        ({"concurrency": "adaptive"}, "slow"),
        ({"concurrency": 1, "burst": 3}, "rate"),
    ],
)
def test_limits_that_cannot_be_meant_are_refused(gate: Gate, limits: dict[str, Any], part: str) -> None:
    """The error names the remedy, and nothing changes."""
    with pytest.raises(BadRequest, match=part):
        gate.control.throttle("*", **limits)
    assert tuple(gate.control.throttles()) == ()


def test_a_place_of_which_nothing_may_change_is_held_to_no_throttle(gate: Gate) -> None:
    """`guard="never"`."""

    @token(guard="never")
    def work() -> int:
        return 1

    gate.control.throttle("*", rate="1/h", burst=1, over="reject")
    assert [work.submit().result(LIMIT) for _ in range(5)] == [1] * 5
    assert [plain.submit().state for _ in range(3)][1:] == [TokenState.REJECTED] * 2
