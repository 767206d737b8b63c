"""Observers are told of each attempt that another one is to follow, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from actors.mailboxes._mailbox import Mailbox
from tokengate import Gate, Policy, Retry, Route, Token, token
from tokengate.types import Observer

LIMIT = 60.0
AFFINITIES = ("cpu", "io", "asyncio", "process")
TWICE = Policy(retry=Retry(LookupError, attempts=2, wait=0))
Until = Callable[[Callable[[], bool]], None]


class Attempts(Observer):
    """Records attempts that begin, are followed by others, and end."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def token_started(self, token: Token[Any], /) -> None:
        self.seen.append(("started", token.attempt))

    def token_retried(self, token: Token[Any], error: BaseException, reason: str, /) -> None:
        self.seen.append((reason, type(error).__name__, token.operation, token.attempt, token.args))

    def token_failing(self, token: Token[Any], /) -> None:
        self.seen.append(("failing", token.args))

    def token_finished(self, token: Token[Any], /) -> None:
        self.seen.append((str(token.state), token.started_at is not None))


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("attempts", threads=2, processes=1, control_socket=False) as opened:
        yield opened


@pytest.fixture
def attempts(gate: Gate) -> Attempts:
    attempts = Attempts()
    gate._system.add_observer(attempts)
    return attempts


def fails(_number: int) -> None:
    raise LookupError("mine")


async def fails_soon(_number: int) -> None:
    raise LookupError("mine")


def operation(affinity: str, **properties: Any) -> Any:
    if affinity == "process":
        return process_operation
    code: Any = fails if affinity == "cpu" else fails_soon
    return token(affinity=affinity, policy=TWICE, **properties)(code)


@token(affinity="process", policy=TWICE)
def process_operation(_number: int) -> None:
    raise LookupError("mine")


@pytest.mark.parametrize("affinity", AFFINITIES)
def test_an_attempt_that_is_retried_is_told_of_once_with_its_arguments(
    gate: Gate, attempts: Attempts, affinity: str, until: Until
) -> None:
    """In order: it has begun, is retried, begins again, fails."""
    failing = operation(affinity)
    sent = failing.submit(7)
    assert isinstance(sent.exception(LIMIT), LookupError)
    until(lambda: len(attempts.seen) == 5)

    assert attempts.seen == [
        ("started", 1),
        ("retry", "LookupError", sent.operation, 1, (7,)),
        ("started", 2),
        ("failing", (7,)),
        ("failed", True),
    ]


def test_a_retry_that_cannot_be_queued_has_been_told_of_and_then_the_token_ends(
    gate: Gate, attempts: Attempts, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """The mailbox has closed for good meanwhile, say: the attempt is told of once, and none begins after it."""
    monkeypatch.setattr(Mailbox, "put_again", lambda *_args, **_options: False)
    sent = operation("cpu").submit(7)
    assert isinstance(sent.exception(LIMIT), LookupError)
    until(lambda: len(attempts.seen) == 4)

    assert [what[0] for what in attempts.seen] == ["started", "retry", "failing", "failed"]


def test_alternatives_and_a_fallback_are_further_attempts(gate: Gate, attempts: Attempts, until: Until) -> None:
    """An attempt that fails over is told of where it was, with the reason."""

    @token(policy=Policy(retry=Retry(LookupError, attempts=1)))
    def first(number: int) -> None:
        fails(number)

    @token(policy=Policy(retry=Retry(LookupError, attempts=1), fallback=lambda _error, number: number))
    def second(number: int) -> Any:
        fails(number)

    sent = Route("either", [first, second]).submit(7)
    assert sent.result(LIMIT) == 7
    until(lambda: any(what[0] == "completed" for what in attempts.seen))
    assert [(what[0], what[2]) for what in attempts.seen if len(what) == 5] == [
        ("failover", "first"),
        ("fallback", "second"),
    ]
