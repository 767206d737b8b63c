"""Whether another attempt follows, after which delay, and how many of all attempts are retries at most."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from actors import LimitExceeded, TokenExpired, WorkerDied
from tokengate.policy._attempt import End
from tokengate.policy._policy import Retry
from tokengate.policy._retry import RetryShare, next_attempt, why_final


class Refused(ConnectionError):
    """An error of a server that says when to come back."""

    def __init__(self, retry_after: object) -> None:
        super().__init__()
        self.retry_after = retry_after


def decide(
    retry: Retry,
    attempt: int = 1,
    end: End = End.FAILED,
    error: BaseException | None = None,
    *,
    idempotent: bool = False,
    now: float = 100.0,
    deadline: float = math.inf,
    draw: float = 0.5,
) -> float | str:
    """Decide with the usual arguments."""
    given = ConnectionError() if error is None else error
    return next_attempt(retry, attempt, end, given, idempotent=idempotent, now=now, deadline=deadline, draw=draw)


RETRY = Retry(on=(ConnectionError, ValueError), attempts=5, wait=0.1, max_wait=30)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionError(), None),
        (ConnectionResetError(), None),
        (ValueError(), None),
        (TypeError(), "Retry.on does not name its error"),
        (SystemExit(), "Retry.on does not name its error"),
        (WorkerDied("raised by what the code called"), "Retry.on does not name its error"),
    ],
)
@pytest.mark.parametrize("idempotent", [False, True])
def test_an_error_of_the_code_is_retried_if_it_is_named(
    error: BaseException, reason: str | None, idempotent: bool
) -> None:
    """Case 11. The classes in `on` and those below them; idempotence neither adds any nor takes any away."""
    assert reason == why_final(RETRY, End.FAILED, error, idempotent)


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (End.LOST, WorkerDied("killed", 7, -9)),
        (End.LOST, LimitExceeded("memory")),
        (End.TIMED_OUT, TokenExpired("5 s")),
    ],
)
def test_an_unknown_outcome_is_retried_if_and_only_if_that_does_no_harm(end: End, error: Exception) -> None:
    """Case 12. With `idempotent`, whether or not `on` names the error; without, not even if it does."""
    retry = Retry(on=(type(error),))
    reason = decide(retry, end=end, error=error)

    assert decide(RETRY, end=end, error=error, idempotent=True) == 0.05
    assert isinstance(reason, str)
    assert "not idempotent" in reason


@pytest.mark.parametrize("end", [End.COMPLETED, End.CRASHED, End.EXPIRED, End.LEFT_BEHIND, End.STOPPED])
def test_no_other_end_is_retried(end: End) -> None:
    """Cases 11, 12 and 18. Left behind, cancelled, terminated, crashed, past the deadline: whatever the error."""
    assert end.value == decide(RETRY, end=end, idempotent=True)


def test_there_are_as_many_attempts_as_said() -> None:
    """Case 10. The first attempt is one of them."""
    decided = [isinstance(decide(RETRY, attempt), float) for attempt in range(1, 7)]

    assert decided == [True, True, True, True, False, False]
    assert decide(Retry(on=(ConnectionError,), attempts=1)) == "it was the last attempt"


def test_delays_are_drawn_evenly_up_to_a_bound_that_doubles(seed: int) -> None:
    """Case 13. After attempt n: from 0 to `wait * 2 ** (n - 1)`, and never above `max_wait`."""
    retry, random = Retry(on=(ConnectionError,), attempts=2_000, wait=0.1, max_wait=3), Random(seed)
    bound = 0.1
    for attempt in range(1, 1_500):
        drawn = random.random()
        delays = [decide(retry, attempt, draw=draw) for draw in (0, 0.5, drawn)]

        assert delays == pytest.approx([0, bound / 2, bound * drawn])
        bound = min(3, bound * 2)


@pytest.mark.parametrize(
    ("asked", "delay"),
    [
        (60, 60), (1.5, 1.5), (0.01, 0.05), (None, 0.05), ("60", 0.05), (math.nan, 0.05), (-5, 0.05), (10**400, 0.05),
        (lambda: 60, 0.05),
    ],
)  # fmt: skip
def test_a_delay_is_as_long_as_the_other_side_asks_for_at_least(asked: object, delay: float) -> None:
    """Case 13. Longer than `max_wait`, too. What is no number of seconds asks for nothing."""
    assert delay == decide(Retry(on=(ConnectionError,), max_wait=1), error=Refused(asked))


def test_an_error_whose_attribute_raises_asks_for_nothing() -> None:
    """Errors are classes of others."""

    class Hostile(ConnectionError):
        @property
        def retry_after(self) -> float:
            raise RuntimeError

    assert decide(RETRY, error=Hostile()) == 0.05


def test_no_retry_is_due_after_the_deadline() -> None:
    """One that is due just then follows; an endless delay does not, even without a deadline."""
    error = Refused(10)
    decided = [isinstance(decide(RETRY, error=error, now=5, deadline=end), float) for end in (14.9, 15, math.inf)]
    endless = [
        decide(RETRY, error=Refused(math.inf)),
        decide(Retry(on=(ConnectionError,), wait=math.inf, max_wait=math.inf), draw=0),
        decide(Retry(on=(ConnectionError,), wait=math.inf, max_wait=math.inf), draw=1),
    ]

    assert decided == [False, True, True]
    assert endless == ["the deadline comes before the next attempt"] * 3


def test_a_function_decides_by_the_error() -> None:
    """Its seconds are the delay, undrawn, up to `max_wait` and from what the other side asks for; None: no retry."""
    waits = {"short": 0.25, "long": 1_000, "never": None}
    retry = Retry(on=(ConnectionError,), max_wait=20, wait=lambda error: waits[str(error)])
    decided = [decide(retry, error=ConnectionError(wait)) for wait in waits]
    asked = Refused(3)
    asked.args = ("short",)

    assert decided == [0.25, 20, "Retry.wait returned None"]
    assert decide(retry, error=asked) == 3


class Unprintable:
    """A value that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError


NONSENSE = [-1, math.nan, "5", True, [], 10**400, -(10**5_000), object(), Unprintable()]


@pytest.mark.parametrize("nonsense", NONSENSE, ids=range(len(NONSENSE)))
def test_a_function_that_returns_nonsense_is_named(nonsense: object) -> None:
    """No retry follows, and the error has a note with the value and the remedy."""
    retry = Retry(on=(ConnectionError,), wait=lambda error: nonsense)  # type: ignore[arg-type, return-value]
    error = ConnectionError()

    decided = decide(retry, error=error)
    assert re.fullmatch(r"wait\(error\) of Retry is .*; use a number of at least 0", str(decided))
    assert error.__notes__ == [f"It was not tried again: {decided}"]


@pytest.mark.parametrize("raised", [KeyError, SystemExit])
def test_a_function_that_raises_is_named(raised: type[BaseException]) -> None:
    """So is what it raised, and its error has a note, whatever methods it has."""

    class Closed(ConnectionError):
        def add_note(self, _: str) -> None:
            raise RuntimeError

    def wait(error: BaseException) -> float:
        raise raised

    error = Closed()
    decided = decide(Retry(on=(ConnectionError,), wait=wait), error=error)
    assert re.fullmatch(rf"wait of Retry is .*wait.*; it raised {raised.__name__}; .*return seconds.*", str(decided))
    assert error.__notes__ == [f"It was not tried again: {decided}"]


def test_the_function_is_asked_only_if_a_retry_may_follow() -> None:
    """It may look at headers of its errors: it sees no others, and not that of the last attempt."""
    seen: list[Any] = []
    retry = Retry(on=(ConnectionError,), attempts=2, wait=seen.append)
    expected = ConnectionError()
    decide(retry, 1, error=TypeError())
    decide(retry, 1, error=expected)
    decide(retry, 2)

    assert [expected] == seen


def test_a_thousand_failures_are_a_tenth_more_attempts() -> None:
    """Case 14. Each of a thousand tokens fails at once and may be retried twice: ten retries and a tenth begin."""
    share, retries = RetryShare(), 0
    for _ in range(1_000):
        share.begin(0.0)
    for _ in range(1_000):
        retries += share.reserve(0.1)
    for _ in range(retries):
        assert share.begin_retry(0.2)

    assert retries == 122  # 10 and a tenth of 1,122
    assert not share.reserve(0.3)
    assert share.reserved == 0


def test_few_tokens_have_ten_retries() -> None:
    """Beside the share there are ten in ten seconds, so that an operation that is seldom called has any."""
    share = RetryShare(share=0)
    began = []
    for second in range(30):
        share.begin(second)
        began.append(share.reserve(second) and share.begin_retry(second))

    assert began == [*[True] * 10, False, *[True] * 10, False, *[True] * 8]


def test_a_reservation_counts_until_it_is_given_back() -> None:
    """Delayed retries count like those that have begun; one that is cancelled in its delay makes room."""
    share = RetryShare(share=0)
    reserved = [share.reserve(0.0) for _ in range(11)]
    share.give_back()

    assert reserved == [*[True] * 10, False]
    assert share.reserve(50.0)
    assert not share.reserve(50.0)


def test_a_retry_is_judged_again_when_its_delay_is_over() -> None:
    """Retries that were reserved beside many attempts do not begin together when these have become old."""
    share = RetryShare()
    for _ in range(1_000):
        share.begin(0.0)
    reserved = sum(share.reserve(1.0) for _ in range(1_000))
    began = sum(share.begin_retry(30.0) for _ in range(reserved))

    assert reserved == 122
    assert began == 11  # ten, and a tenth of these themselves


class Ledger:
    """The attempts of an operation that began, counted by looking at all of them."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.began: list[tuple[float, bool]] = []  # (when, whether it is a retry)

    def excess(self, now: float, more: int = 0, *, retries: float = 10, attempts: float = 10) -> float:
        """Return by how much the retries of the last seconds are over the limit by the attempts of the last seconds."""
        counted = sum(is_retry for at, is_retry in self.began if at >= now - retries) + more
        return counted - 10 - self.share * (sum(at > now - attempts for at, _ in self.began) + more)


@pytest.mark.parametrize("share", [0, 0.1, 0.5])
def test_no_retry_begins_beyond_ten_and_a_share(seed: int, rounds: Callable[[int], int], share: float) -> None:
    """Case 14. As each retry begins, it is within the limit of the ten seconds that end then.

    What is refused would be beyond the limit if retries counted for a second more, and attempts for one less.
    """
    random = Random(seed)
    for _ in range(rounds(10)):
        retries, ledger, now = RetryShare(share), Ledger(share), 0.0
        due: list[float] = []  # when the delays of reserved retries end
        for _ in range(400):
            now += random.choice([0.0, 0.0, 0.01, 0.3, random.random() * 3])
            for at in [at for at in due if at <= now]:
                due.remove(at)
                if random.random() < 0.1:
                    retries.give_back()
                elif retries.begin_retry(now):
                    ledger.began.append((now, True))
                    assert ledger.excess(now) <= 1e-9
                else:
                    assert ledger.excess(now, 1, retries=11, attempts=9) > -1e-9
            if random.random() < 0.3:
                retries.begin(now)
                ledger.began.append((now, False))
            elif retries.reserve(now):
                due.append(now + random.choice([0, 0.1, 5, 20]))
            else:
                assert ledger.excess(now, len(due) + 1, retries=11, attempts=9) > -1e-9
            assert len(due) == retries.reserved
