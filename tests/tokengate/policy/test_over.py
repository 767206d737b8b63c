"""What becomes of tokens beyond a throttle that does not keep them back, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from gated_code import Door

from actors import ActorSystem
from tokengate import Gate, Policy, Retry, Throttle, Token, TokenState, token
from tokengate.errors import TokenRejected
from tokengate.policy._over import ThrottleExceeded

LIMIT = 30.0


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    monkeypatch.setitem(cast("dict[str, Any]", ActorSystem.__init__.__kwdefaults__), "clock", clock)
    with Gate("over", threads=4, control_socket=False) as gate:
        yield gate


@pytest.fixture
def events(gate: Gate) -> list[ThrottleExceeded]:
    found: list[ThrottleExceeded] = []
    gate.subscribe(lambda event: found.append(event) if isinstance(event, ThrottleExceeded) else None)
    return found


LIMITS = pytest.mark.parametrize("limit", [{"concurrency": 1}, {"rate": 1, "burst": 1}], ids=["concurrency", "rate"])


def held_to(**policy: Any) -> tuple[Any, Door]:
    """Return an operation that waits at a door, with that door."""
    door = Door()

    @token(policy=Policy(**policy), concurrency=2)
    def work(tenant: str = "") -> str:
        door.pass_through()
        return tenant

    return work, door


def refused(token: Token[Any]) -> TokenRejected:
    """Return why a token was refused."""
    error = token.exception(LIMIT)
    assert isinstance(error, TokenRejected)
    assert (token.state, error.reason, token.reason) == (TokenState.REJECTED, "throttle", "throttle")
    assert token.started_at is None
    return error


@LIMITS
def test_a_token_is_refused_that_could_not_begin_now(gate: Gate, clock: Clock, limit: dict[str, Any]) -> None:
    """Case 33, `reject`. Its grant is taken at once, so that of two tokens at one moment one is refused."""
    work, door = held_to(throttle=Throttle(**limit, key="tenant", over="reject"))
    first, second, other, free = work.submit("a"), work.submit("a"), work.submit("b"), work.submit(tenant="")
    error = refused(second)
    assert error.retry_after == (pytest.approx(1.0) if "rate" in limit else None)
    door.open()

    assert [one.result(LIMIT) for one in (first, other, free)] == ["a", "b", ""]
    clock.now += 1.0
    assert work.submit("a").result(LIMIT) == "a"


def test_a_queued_token_has_its_grant_and_gives_it_back_when_it_leaves(gate: Gate) -> None:
    """Cases 33 and 34. Paused and reniced ones keep it."""
    work, door = held_to(throttle=Throttle(concurrency=4, over="reject"))
    running = [work.submit() for _ in range(2)]
    door.wait_reached()
    queued = [work.submit() for _ in range(2)]
    refused(work.submit())
    gate.control.pause(queued[0].id)
    gate.control.renice(queued[1].id, 3)
    refused(work.submit())
    queued[0].cancel()
    last = work.submit()
    refused(work.submit())
    door.open()

    for one in (*running, queued[1], last):
        assert one.result(LIMIT) == ""
    assert [work.submit().result(LIMIT) for _ in range(5)] == [""] * 5


def test_all_grants_are_taken_at_the_door_or_none(gate: Gate) -> None:
    """Cases 33 and 38. What one throttle refuses uses up no other."""
    tight, wide = Throttle(concurrency=1, key="tenant", over="reject"), Throttle(concurrency=2, over="reject")
    work, door = held_to(throttle=(wide, tight))
    first = work.submit("a")
    for _ in range(3):
        refused(work.submit("a"))
    second = work.submit("b")
    refused(work.submit("c"))
    door.open()

    assert (first.result(LIMIT), second.result(LIMIT)) == ("a", "b")


@LIMITS
def test_a_token_that_could_not_begin_has_a_lower_priority(gate: Gate, limit: dict[str, Any]) -> None:
    """Case 33, `lower`. It begins all the same, and counts."""
    work, door = held_to(throttle=Throttle(**limit, over="lower"))
    tokens = [work.submit() for _ in range(3)]
    assert [one.priority for one in tokens] == [0, -1, -1]
    door.open()

    assert [one.result(LIMIT) for one in tokens] == [""] * 3


@LIMITS
def test_an_event_says_once_a_second_and_key_that_a_throttle_is_exceeded(
    gate: Gate, clock: Clock, events: list[ThrottleExceeded], limit: dict[str, Any], until: Callable[..., Any]
) -> None:
    """Case 33, `warn`. The token begins all the same, and counts."""
    work, door = held_to(throttle=Throttle(**limit, key="tenant", over="warn"))
    tokens = [work.submit(tenant) for tenant in "aaabab"]
    clock.now += 0.9
    tokens.append(work.submit("a"))
    until(lambda: len(events) == 2)
    clock.now += 0.2
    tokens.append(work.submit("a"))
    tokens.append(work.submit("a"))
    until(lambda: len(events) == 3)
    door.open()

    assert [one.result(LIMIT) for one in tokens] == [*"aaababaaa"]
    assert [event.key for event in events] == ["a", "b", "a"]
    assert "'a' is exceeded by tokens of" in events[0].text
    assert events[0].running == 2


def test_a_later_attempt_that_could_not_begin_ends_its_token_with_the_error_before() -> None:
    """Case 33. The note says why no attempt followed."""
    door, others = Door(), list[Token[str]]()

    def take_the_grant(_error: BaseException) -> float:
        others.append(work.submit("other"))
        return 0.0

    retry = Retry(OSError, wait=take_the_grant)

    @token(policy=Policy(throttle=Throttle(concurrency=1, over="reject"), retry=retry), concurrency=3)
    def work(what: str) -> str:
        if what == "fails":
            raise OSError("it is down")
        door.pass_through()
        return what

    with Gate("over", threads=4, control_socket=False):
        fails = work.submit("fails")
        error = fails.exception(LIMIT)
        assert isinstance(error, OSError)
        assert fails.state is TokenState.FAILED
        assert fails.reason == "throttle"
        assert "was refused" in error.__notes__[0]
        door.open()
        assert others[0].result(LIMIT) == "other"
