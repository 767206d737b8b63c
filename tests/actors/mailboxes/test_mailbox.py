"""The mailbox: stable priority, a bound with four policies, a control lane ahead, and a close that strands nothing."""

from __future__ import annotations

import random
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import attrs
import pytest
from interrupts import Strike, in_thread
from tiers import in_ci

from actors import ActorDead, Token, TokenState
from actors.lowlevel import Mailbox, Put, Signal
from actors.mailboxes import _lanes, _mailbox
from actors.mailboxes._mailbox import Drainer

LIMIT = 30.0

Yielding = Callable[[random.Random], AbstractContextManager[None]]


@attrs.frozen(eq=False)
class Note(Signal):
    text: str


def take_all(mailbox: Mailbox) -> list[Any]:
    taken = []
    drainer = next(iter(mailbox.recover()), Drainer())  # one that was called, if there is one
    while (item := mailbox.take(drainer)) is not None:
        taken.append(item)
    return taken


def test_tokens_of_one_priority_come_out_in_the_order_they_went_in(desk: Any) -> None:
    """First in, first out within a priority."""
    mailbox = desk.mailbox()
    tokens = [desk.token() for _ in range(50)]
    for token in tokens:
        assert mailbox.put(token) is Put.ACCEPTED

    assert take_all(mailbox) == tokens


def test_higher_priorities_come_first_whatever_the_int(desk: Any) -> None:
    """Priority is any int: beyond a machine word, negative, zero."""
    mailbox = desk.mailbox()
    priorities = [0, -1, 10**30, 7, 0, -(10**30), 7, 1]
    tokens = [desk.token(priority) for priority in priorities]
    for token in tokens:
        mailbox.put(token)
    expected = sorted(tokens, key=lambda token: -token.priority)  # sorted is stable

    assert take_all(mailbox) == expected


def test_an_accepted_token_is_queued_and_knows_since_when(desk: Any) -> None:
    """Acceptance is the transition from created to queued."""
    mailbox = desk.mailbox()
    token = desk.token()
    assert token.state is TokenState.CREATED
    mailbox.put(token)

    assert token.state is TokenState.QUEUED
    assert token.queued_at is not None
    assert token.queued_at >= token.created_at


def test_a_token_that_is_taken_is_its_drainers(desk: Any) -> None:
    """Whoever wants to withdraw it comes too late, even before the drainer has begun with it."""
    mailbox = desk.mailbox()
    token = desk.token()
    mailbox.put(token)
    mailbox.take(Drainer())

    assert not mailbox.withdraw(token)
    assert not token.cancel()
    assert token.state is TokenState.QUEUED


def test_control_messages_are_ahead_of_every_token(desk: Any) -> None:
    """Case 30. Two user messages, then a control message: control is handled first, in the order in which it came."""
    mailbox = desk.mailbox()
    first, urgent = desk.token(), desk.token(10**9)
    mailbox.put(first)
    mailbox.put(urgent)
    notes = [Note("one"), Note("two")]
    for note in notes:
        mailbox.put_control(note)

    assert take_all(mailbox) == [*notes, urgent, first]


def test_the_control_lane_is_not_bounded_and_not_suspended_and_not_closed(desk: Any) -> None:
    """A control message is never refused."""
    mailbox = desk.mailbox(capacity=1)
    token = desk.token()
    mailbox.put(token)
    mailbox.suspend()
    mailbox.close(keep=True)
    notes = [Note(str(number)) for number in range(100)]
    for note in notes:
        mailbox.put_control(note)

    assert mailbox.signals() == notes
    dismissed = Drainer()
    dismissed.at_work = False
    assert mailbox.take_control(dismissed) is None  # what comes now is for others
    assert mailbox.take_control(Drainer()) is notes[0]
    assert take_all(mailbox) == notes[1:]
    mailbox.resume()
    assert take_all(mailbox) == [token]


def test_a_full_mailbox_makes_the_sender_wait(desk: Any) -> None:
    """`wait`: nothing changes, and the sender's waker is called once when there is room again."""
    mailbox = desk.mailbox(capacity=2)
    inside = [desk.token(), desk.token()]
    for token in inside:
        mailbox.put(token)
    outside = desk.token()
    calls: list[str] = []
    assert mailbox.put(outside, lambda: calls.append("room")) is Put.FULL
    assert outside.state is TokenState.CREATED
    assert mailbox.statistics().senders_waiting == 1
    assert not calls

    drainer = Drainer()
    assert mailbox.take(drainer) is inside[0]
    assert calls == ["room"]
    assert mailbox.put(outside) is Put.ACCEPTED
    assert take_all(mailbox) == [inside[1], outside]
    assert calls == ["room"]


def test_waiting_senders_are_told_of_room_in_the_order_they_came(desk: Any) -> None:
    """Each token that comes out tells one sender."""
    mailbox = desk.mailbox(capacity=3)
    for _ in range(3):
        mailbox.put(desk.token())
    calls: list[int] = []
    for number in range(3):
        mailbox.put(desk.token(), lambda number=number: calls.append(number))
    drainer = Drainer()
    steps = []
    for _ in range(3):
        mailbox.take(drainer)
        steps.append(list(calls))

    assert steps == [[0], [0, 1], [0, 1, 2]]


def test_a_sender_that_gives_up_passes_its_room_on(desk: Any) -> None:
    """A sender that was told of room and does not use it must not swallow it."""
    mailbox = desk.mailbox(capacity=1)
    mailbox.put(desk.token())
    calls: list[str] = []

    def first() -> None:
        calls.append("first")

    def second() -> None:
        calls.append("second")

    def third() -> None:
        calls.append("third")

    for room in (first, second, third):
        mailbox.put(desk.token(), room)
    mailbox.forget_sender(second)  # still waits: it just leaves the line
    assert not calls
    mailbox.take(Drainer())
    assert calls == ["first"]
    mailbox.forget_sender(first)  # was told: the next one is told in its stead

    assert calls == ["first", "third"]
    assert mailbox.statistics().senders_waiting == 0


def test_reject_refuses_the_newcomer(desk: Any) -> None:
    """`reject`: what is queued stays, the newcomer is refused unchanged."""
    mailbox = desk.mailbox(capacity=1, overflow="reject")
    inside, outside = desk.token(), desk.token(99)
    mailbox.put(inside)
    assert mailbox.put(outside) is Put.DROPPED
    assert outside.state is TokenState.CREATED

    assert take_all(mailbox) == [inside]


def test_drop_newest_refuses_the_newcomer(desk: Any) -> None:
    """`drop_newest`: bounded at 10, the 11th is dropped, the size stays 10, the first comes out first."""
    mailbox = desk.mailbox(capacity=10, overflow="drop_newest")
    tokens = [desk.token() for _ in range(11)]
    puts = [mailbox.put(token) for token in tokens]
    assert puts == [Put.ACCEPTED] * 10 + [Put.DROPPED]
    assert mailbox.size == 10

    assert take_all(mailbox) == tokens[:10]


def test_drop_oldest_pushes_out_the_oldest_of_the_lowest_priority(desk: Any) -> None:
    """`drop_oldest`: the oldest of the lowest priority makes room; a newcomer that is lower still is refused."""
    mailbox = desk.mailbox(capacity=4, overflow="drop_oldest")
    low1, low2, zero, high = (desk.token(p) for p in (-5, -5, 0, 5))
    for token in (high, low1, zero, low2):
        mailbox.put(token)
    equal = desk.token(-5)
    assert mailbox.put(equal) is Put.ACCEPTED
    assert desk.dropped == [low1]
    lower = desk.token(-6)
    assert mailbox.put(lower) is Put.DROPPED
    assert desk.dropped == [low1]
    for _ in range(2):
        mailbox.put(desk.token(1))
    assert desk.dropped == [low1, low2, equal]
    mailbox.put(desk.token(1))
    assert desk.dropped[-1] is zero
    assert mailbox.put(desk.token(0)) is Put.DROPPED

    assert [token.priority for token in take_all(mailbox)] == [5, 1, 1, 1]


def test_drop_oldest_does_not_count_withdrawn_tokens(desk: Any) -> None:
    """A token that was withdrawn is no victim."""
    mailbox = desk.mailbox(capacity=2, overflow="drop_oldest")
    gone, stays, third, fourth = (desk.token() for _ in range(4))
    mailbox.put(gone)
    mailbox.put(stays)
    assert mailbox.withdraw(gone)
    mailbox.put(third)
    assert not desk.dropped
    mailbox.put(fourth)
    assert desk.dropped == [stays]

    assert take_all(mailbox) == [third, fourth]


def test_a_dropped_token_may_be_looked_at_in_the_callback(desk: Any) -> None:
    """`on_drop` and `wake` are called without the lock: they may use the mailbox."""
    seen: list[int] = []
    mailbox: Mailbox

    def look(*_: object) -> None:
        seen.append(mailbox.statistics().depth)

    mailbox = Mailbox("desk", wake=look, on_drop=look, capacity=1, overflow="drop_oldest")
    mailbox.put(desk.token())
    mailbox.put(desk.token())

    assert seen == [1, 1]


def test_suspends_count(desk: Any) -> None:
    """Held twice, it needs two resumes; tokens queue meanwhile and come out in order."""
    mailbox = desk.mailbox()
    tokens = [desk.token() for _ in range(3)]
    mailbox.suspend()
    mailbox.suspend()
    for token in tokens:
        mailbox.put(token)
    assert desk.woken == []
    mailbox.put_control(Note("come"))
    assert [item.text for item in take_all(mailbox)] == ["come"]
    del desk.woken[:]
    mailbox.resume()
    assert mailbox.statistics().suspended
    assert desk.woken == []
    mailbox.resume()
    assert not mailbox.statistics().suspended
    assert len(desk.woken) == 1

    assert take_all(mailbox) == tokens


def test_resuming_what_is_not_suspended_raises(desk: Any) -> None:
    """One resume too many is the caller's bug, and changes nothing."""
    mailbox = desk.mailbox()
    with pytest.raises(RuntimeError, match="not suspended"):
        mailbox.resume()
    mailbox.put(desk.token())

    assert len(take_all(mailbox)) == 1


def test_a_withdrawn_token_is_not_taken(desk: Any) -> None:
    """Whoever withdraws a token has it for himself; it can't be withdrawn twice, nor after it was taken."""
    mailbox = desk.mailbox()
    tokens = [desk.token(priority) for priority in (0, 3, 0, -2, 3)]
    for token in tokens:
        mailbox.put(token)
    assert mailbox.withdraw(tokens[0])
    assert mailbox.withdraw(tokens[1])
    assert not mailbox.withdraw(tokens[0])
    assert mailbox.size == 3
    assert take_all(mailbox) == [tokens[4], tokens[2], tokens[3]]

    assert not mailbox.withdraw(tokens[2])


def test_withdrawing_makes_room_for_a_waiting_sender(desk: Any) -> None:
    """A token that leaves by the side door makes room as well."""
    mailbox = desk.mailbox(capacity=1)
    token = desk.token()
    mailbox.put(token)
    calls: list[str] = []
    mailbox.put(desk.token(), lambda: calls.append("room"))
    mailbox.withdraw(token)

    assert calls == ["room"]


def test_many_withdrawn_tokens_are_not_kept(desk: Any) -> None:
    """Entries of withdrawn tokens are dropped before they outnumber those that wait."""
    mailbox = desk.mailbox(capacity=10**6)
    kept = []
    for number in range(6000):
        token = desk.token(number % 3)
        mailbox.put(token)
        if number % 100:
            assert mailbox.withdraw(token)
        else:
            kept.append(token)
        entries = len(mailbox._lanes)
        assert entries <= 2 * mailbox.size + 300
    expected = sorted(kept, key=lambda token: -token.priority)

    assert take_all(mailbox) == expected


class Searched(deque[Token[Any]]):
    """A lane that counts how many tokens are compared in a search."""

    looks = 0

    def remove(self, token: Token[Any]) -> None:
        self.looks += 1 + (self.index(token) if token in self else len(self))
        super().remove(token)


def searched(mailbox: Mailbox) -> Searched:
    lane = mailbox._zero = mailbox._lanes.zero = Searched()
    return lane


@pytest.mark.parametrize("waves", [1, 4])
@pytest.mark.parametrize("order", ["reversed", "random"])
def test_withdrawing_many_takes_a_time_that_grows_with_their_number(
    desk: Any, order: str, waves: int, chance: random.Random
) -> None:
    """How many tokens are looked at for each that is withdrawn does not depend on how many are queued."""
    mailbox = desk.mailbox(capacity=10**6)
    lane = searched(mailbox)
    for _ in range(waves):
        tokens = [desk.token() for _ in range(4000 // waves)]
        for token in tokens:
            mailbox.put(token)
        if order == "random":
            chance.shuffle(tokens)
        else:
            tokens.reverse()
        for token in tokens:
            assert mailbox.withdraw(token)

    assert lane.looks <= 10 * 4000
    assert mailbox.size == 0
    assert mailbox.statistics().accepted == 4000


def test_few_that_are_withdrawn_leave_a_long_lane_as_it_is(desk: Any) -> None:
    """Drainers go on taking from it the short way."""
    mailbox = desk.mailbox()
    tokens = [desk.token() for _ in range(200)]
    for token in tokens:
        mailbox.put(token)
    for token in tokens[3:6]:
        assert mailbox.withdraw(token)

    assert mailbox._plain
    assert list(mailbox._zero) == tokens[:3] + tokens[6:]


def indexed(desk: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Mailbox, list[Token[Any]]]:
    """Return a mailbox with an indexed lane 0, and the tokens of that lane, in order."""
    monkeypatch.setattr(_lanes, "_LONG", 0)
    monkeypatch.setattr(_lanes, "_SEARCHES", 1)
    mailbox = desk.mailbox(**options)
    tokens = [desk.token() for _ in range(9)]
    for token in tokens:
        mailbox.put(token)
    assert mailbox.withdraw(tokens.pop(4))
    assert mailbox.withdraw(tokens.pop(4))
    assert not mailbox._zero
    return mailbox, tokens


def test_an_indexed_lane_keeps_the_order(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes later stands behind it, and other priorities above and below; afterwards drainers take as before."""
    mailbox, tokens = indexed(desk, monkeypatch)
    later = [desk.token() for _ in range(3)]
    high, low = desk.token(1), desk.token(-1)
    for token in (*later, low, high):
        mailbox.put(token)
    assert mailbox.hold(tokens[0])
    assert mailbox.release(tokens[0])
    first = tokens[1]
    assert mailbox.take_out(first)
    assert mailbox.put_back(first)
    assert mailbox.statistics().depth == 12

    assert take_all(mailbox) == [high, *tokens[1:], *later, tokens[0], low]
    mailbox.put(later[0])
    assert mailbox._plain
    assert mailbox.statistics().depth == 1


def test_the_oldest_of_an_indexed_lane_is_dropped_first(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer token takes the place of the oldest one, and a closed mailbox gives all of them out in order."""
    mailbox, tokens = indexed(desk, monkeypatch, capacity=9, overflow="drop_oldest")
    newer = [desk.token() for _ in range(4)]
    for token in newer:
        assert mailbox.put(token) is Put.ACCEPTED

    assert desk.dropped == tokens[:2]
    assert mailbox.close() == [*tokens[2:], *newer]


def test_a_lane_is_not_indexed_while_a_drainer_is_about_to_take_from_it(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would get a token out of turn: one that was put after the others had gone to the index."""
    monkeypatch.setattr(_lanes, "_LONG", 0)
    monkeypatch.setattr(_lanes, "_SEARCHES", 1)
    mailbox = desk.mailbox()
    tokens = [desk.token() for _ in range(6)]
    for token in tokens:
        mailbox.put(token)
    meanwhile = [lambda: mailbox.withdraw(tokens[2]), lambda: mailbox.withdraw(tokens[3]), lambda: mailbox.put(late)]
    late = desk.token()

    class Slow(Drainer):
        """A drainer that is delayed while the mailbox reads its `at_work`."""

        armed = True

        @property  # type: ignore[override]
        def at_work(self) -> bool:
            if Slow.armed:
                Slow.armed = False
                thread = threading.Thread(target=lambda: [act() for act in meanwhile])
                thread.start()
                thread.join(LIMIT)
            return True

        @at_work.setter
        def at_work(self, value: bool) -> None: ...

    taken = mailbox.take(Slow())

    assert not Slow.armed
    assert taken is tokens[0]
    assert take_all(mailbox) == [tokens[1], tokens[4], tokens[5], late]


@in_ci
def test_a_withdrawal_that_is_interrupted_loses_no_other_token(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a signal handler raises while the lane is indexed, recovery finds all that are queued, in order."""
    monkeypatch.setattr(_lanes, "_LONG", 0)
    monkeypatch.setattr(_lanes, "_SEARCHES", 1)
    # Of one thread, so that the number of places does not depend on how many others there are, and how deep.
    monkeypatch.setattr(_mailbox, "thread_frames", lambda: {threading.get_ident(): sys._getframe()})
    for at in range(1, 2_000):
        mailbox = desk.mailbox()
        tokens = [desk.token() for _ in range(6)]
        for token in tokens:
            mailbox.put(token)
        assert mailbox.withdraw(tokens.pop(4))
        strike = Strike(at, grain="opcode")
        # In a thread of its own: struck in a handler, the interpreter keeps the handled exception for good.
        (gone, _), wrong = in_thread(
            lambda strike=strike, mailbox=mailbox, token=tokens[2]: strike.run(lambda: mailbox.withdraw(token)), LIMIT
        )
        assert not wrong
        left = take_all(mailbox)
        assert [token for token in left if token is not tokens[2]] == [*tokens[:2], *tokens[3:]]
        assert mailbox.size == 0
        if not strike.places:
            assert gone
            return
    raise AssertionError("it never comes to its end")


def test_close_returns_what_was_queued_in_order(desk: Any) -> None:
    """The tokens are then the caller's to end; a later put is refused and changes nothing."""
    mailbox = desk.mailbox()
    tokens = [desk.token(priority) for priority in (0, 1, 0, -1)]
    for token in tokens:
        mailbox.put(token)
    assert mailbox.close() == [tokens[1], tokens[0], tokens[2], tokens[3]]
    assert mailbox.closed
    late = desk.token()
    with pytest.raises(ActorDead, match="desk"):
        mailbox.put(late)
    assert late.state is TokenState.CREATED
    assert mailbox.close() == []

    assert take_all(mailbox) == []


def test_close_can_leave_the_queue_where_it_is(desk: Any) -> None:
    """`keep`: what was accepted is still handled."""
    mailbox = desk.mailbox()
    token = desk.token()
    mailbox.put(token)
    assert mailbox.close(keep=True) == []
    with pytest.raises(ActorDead):
        mailbox.put(desk.token())

    assert take_all(mailbox) == [token]


@pytest.mark.parametrize("keep", [False, True])
def test_close_wakes_every_waiting_sender(desk: Any, keep: bool) -> None:
    """Senders that wait for room find out that there will be none."""
    mailbox = desk.mailbox(capacity=1)
    mailbox.put(desk.token())
    calls: list[int] = []
    for number in range(5):
        mailbox.put(desk.token(), lambda number=number: calls.append(number))
    mailbox.close(keep=keep)

    assert calls == [0, 1, 2, 3, 4]


def test_a_reopened_mailbox_accepts_again(desk: Any) -> None:
    """The place of an actor that is started anew takes tokens again."""
    mailbox = desk.mailbox()
    mailbox.put(desk.token())
    mailbox.close()
    mailbox.reopen()
    token = desk.token()
    mailbox.put(token)

    assert take_all(mailbox) == [token]


def test_as_many_drainers_are_woken_as_there_is_work_for(desk: Any) -> None:
    """One wake for each drainer that is to come, and never more at work than `concurrency`."""
    mailbox = desk.mailbox(concurrency=3)
    counts = []
    for _ in range(5):
        mailbox.put(desk.token())
        counts.append(len(desk.woken))
    assert counts == [1, 2, 3, 3, 3]
    drainers = list(desk.woken)
    for _ in range(5):
        assert mailbox.take(drainers[0]) is not None
    for drainer in drainers:
        assert mailbox.take(drainer) is None
    assert mailbox.active == 0
    mailbox.put(desk.token())

    assert (len(desk.woken), mailbox.active) == (4, 1)


def test_a_drainer_that_was_dismissed_takes_nothing_and_is_replaced(desk: Any) -> None:
    """Whoever is sealed gets no more tokens; another drainer is asked to come for what is left."""
    mailbox = desk.mailbox()
    tokens = [desk.token(), desk.token()]
    for token in tokens:
        mailbox.put(token)
    sealed = desk.woken[0]
    assert mailbox.take(sealed) is tokens[0]
    assert mailbox.dismiss(sealed)
    assert not mailbox.dismiss(sealed)
    assert len(desk.woken) == 2
    assert mailbox.take(sealed) is None
    assert mailbox.active == 1

    assert take_all(mailbox) == [tokens[1]]


def test_a_caller_may_take_the_turn_only_when_nobody_is_ahead(desk: Any) -> None:
    """A direct call runs on its caller's thread unless it would overtake: something queued, suspended, closed, busy."""
    mailbox = desk.mailbox()
    turn = Drainer()
    assert mailbox.try_enter(turn)
    assert not mailbox.try_enter(Drainer())  # busy
    mailbox.put(desk.token())
    assert desk.woken == []
    mailbox.dismiss(turn)
    (drainer,) = desk.woken  # it comes for what was queued meanwhile
    assert not mailbox.try_enter(turn)
    assert mailbox.take(drainer) is not None
    assert mailbox.take(drainer) is None
    mailbox.suspend()
    assert not mailbox.try_enter(turn)
    mailbox.resume()
    assert mailbox.try_enter(turn)
    mailbox.dismiss(turn)
    mailbox.close()

    assert not mailbox.try_enter(turn)


def test_a_caller_takes_a_turn_with_its_own_token_only_when_nothing_is_ahead(desk: Any) -> None:
    """Else nothing has changed: busy, queued, full, suspended, a priority, closed. What has passed through counts."""
    mailbox = desk.mailbox(capacity=1)
    turn, token, held = Drainer(), desk.token(), desk.token()
    assert mailbox.enter_with(turn, token)
    assert (token.state, token.queued_at) == (TokenState.QUEUED, token.created_at)
    assert not mailbox.withdraw(token)  # it is its drainer's
    assert (mailbox.active, mailbox.statistics().accepted, mailbox.size) == (1, 1, 0)

    def refused(token: Token[Any]) -> bool:
        before = mailbox.statistics()
        entered = mailbox.enter_with(Drainer(), token)
        return not entered and token.state is TokenState.CREATED and mailbox.statistics() == before

    assert refused(desk.token())  # busy
    mailbox.put(held)
    mailbox.dismiss(turn)
    (drainer,) = desk.woken  # it comes for what was queued meanwhile
    assert refused(desk.token())
    assert mailbox.hold(held)
    assert mailbox.take(drainer) is None
    assert refused(desk.token())  # it is full
    assert mailbox.release(held)
    assert take_all(mailbox) == [held]
    mailbox.suspend()
    assert refused(desk.token())
    mailbox.resume()
    assert refused(desk.token(1))
    assert mailbox.enter_with(turn, desk.token())
    mailbox.dismiss(turn)
    mailbox.close()

    assert refused(desk.token())


def test_a_turn_that_is_lent_lets_another_drainer_come(desk: Any) -> None:
    """A step that waits does not count; when it goes on there may be one more than `concurrency` for a while."""
    mailbox = desk.mailbox()
    first, second = desk.token(), desk.token()
    mailbox.put(first)
    mailbox.put(second)
    (outer,) = desk.woken
    assert mailbox.take(outer) is first
    mailbox.lend(outer)
    mailbox.lend(outer)  # for one reason it is lent once
    assert len(desk.woken) == 2
    inner = desk.woken[1]
    assert mailbox.take(inner) is second
    mailbox.reclaim(outer)
    assert mailbox.active == 2
    assert mailbox.take(inner) is None
    assert mailbox.take(outer) is None

    assert mailbox.active == 0


def test_resuming_a_closed_mailbox_sends_a_drainer_even_when_it_is_empty(desk: Any) -> None:
    """Somebody may wait for the news that it is empty."""
    mailbox = desk.mailbox()
    mailbox.suspend()
    mailbox.close(keep=True)
    mailbox.resume()

    assert len(desk.woken) == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"capacity": 0}, "capacity of 'desk' is 0"),
        ({"capacity": 1.5}, "capacity of 'desk' is 1.5"),
        ({"concurrency": -1}, "concurrency of 'desk' is -1"),
        ({"overflow": "explode"}, "overflow of 'desk' is 'explode'"),
    ],
)
def test_a_bad_option_is_refused_by_name(desk: Any, options: dict[str, Any], named: str) -> None:
    """The error names the owner, the option, and its value."""
    with pytest.raises(ValueError, match=named):
        desk.mailbox(**options)


def test_statistics_show_the_moment(desk: Any) -> None:
    """Depth, capacity, control, active, accepted, suspended, closed, and who waits."""
    mailbox = desk.mailbox(capacity=2)
    for _ in range(2):
        mailbox.put(desk.token())
    mailbox.put(desk.token(), lambda: None)
    mailbox.put_control(Note("n"))
    shown = attrs.asdict(mailbox.statistics())

    assert shown == {
        "depth": 2,
        "capacity": 2,
        "held": 0,
        "control": 1,
        "active": 1,
        "accepted": 2,
        "suspended": False,
        "closed": False,
        "senders_waiting": 1,
    }


@pytest.mark.parametrize("overflow", ["wait", "reject", "drop_oldest", "drop_newest"])
def test_any_sequence_of_moves_agrees_with_a_sorted_list(
    desk: Any, seed: int, rounds: Callable[[int], int], overflow: Any
) -> None:
    """Against a model: puts of any priority, takes, withdrawals, closes and reopenings, in any order."""
    chance = random.Random(seed)
    for _ in range(rounds(25)):
        mailbox = desk.mailbox(capacity=8, overflow=overflow, concurrency=1000)
        del desk.dropped[:]
        model: list[Token[Any]] = []  # in the order in which they shall come out
        dropped: list[Token[Any]] = []
        closed = False
        for _ in range(80):
            move = chance.choice(["put"] * 6 + ["take"] * 3 + ["withdraw"] * 3 + ["close"] * chance.choice([0, 1]))
            if move == "put" and closed:
                with pytest.raises(ActorDead):
                    mailbox.put(desk.token())
                mailbox.reopen()
                closed = False
            elif move == "put":
                token = desk.token(chance.choice([-2, -1, 0, 0, 0, 1, 2]))
                put = mailbox.put(token)
                if len(model) < 8:
                    assert put is Put.ACCEPTED
                elif overflow == "drop_oldest" and model[-1].priority <= token.priority:
                    assert put is Put.ACCEPTED
                    lowest = model[-1].priority
                    victim = next(t for t in model if t.priority == lowest)
                    model.remove(victim)
                    dropped.append(victim)
                else:
                    assert put is (Put.FULL if overflow == "wait" else Put.DROPPED)
                    continue
                model.append(token)
                model.sort(key=lambda t: -t.priority)
            elif move == "take":
                drainer = desk.woken.pop() if desk.woken else Drainer()
                assert mailbox.take(drainer) is (model.pop(0) if model else None)
                mailbox.dismiss(drainer)
            elif move == "withdraw" and model:
                token = chance.choice(model)
                model.remove(token)
                assert mailbox.withdraw(token)
            elif move == "close":
                closed = True
                assert mailbox.close() == model
                model = []
            assert mailbox.size == len(model)
        assert desk.dropped == dropped


@pytest.mark.parametrize("traced", [False, True], ids=["plain", "traced"])
def test_a_put_that_races_close_is_never_stranded(
    desk: Any, race: Any, yielding: Yielding, seed: int, rounds: Callable[[int], int], traced: bool
) -> None:
    """Each token was either refused, and then its sender knows, or handed to whoever closed or took."""
    chance = random.Random(seed)
    refusals = 0
    for _ in range(rounds(100 if traced else 300)):
        mailbox = desk.mailbox(capacity=4)
        accepted: list[Token[Any]] = []  # by the senders' own account
        refused: list[Token[Any]] = []

        def send(mailbox: Mailbox = mailbox, accepted: Any = accepted, refused: Any = refused) -> None:
            for _ in range(3):
                token = desk.token()
                room = threading.Lock()
                room.acquire()
                try:
                    while mailbox.put(token, room.release) is Put.FULL:
                        assert room.acquire(timeout=LIMIT)
                except ActorDead:
                    refused.append(token)
                else:
                    accepted.append(token)

        def take(mailbox: Mailbox = mailbox) -> list[Any]:
            drainer = Drainer()
            return [item for item in (mailbox.take(drainer) for _ in range(2)) if item is not None]

        functions = [send, send, take, mailbox.close]
        if traced:
            with yielding(chance):
                _, _, taken, closed = race(*functions)
        else:
            _, _, taken, closed = race(*functions)

        handed = [token.id for token in (*taken, *closed)]
        assert sorted(handed) == sorted(token.id for token in accepted)
        assert len(accepted) + len(refused) == 6
        assert mailbox.size == 0
        refusals += len(refused)
    print("refused in all:", refusals)


def test_takes_and_withdrawals_that_race_get_each_token_once(
    desk: Any, race: Any, yielding: Yielding, seed: int, rounds: Callable[[int], int]
) -> None:
    """No token is both taken and withdrawn, none is taken twice, none is lost."""
    chance = random.Random(seed)
    for _ in range(rounds(60)):
        mailbox = desk.mailbox(concurrency=2)
        tokens = [desk.token(chance.choice([0, 0, 1])) for _ in range(8)]
        for token in tokens:
            mailbox.put(token)
        victims = chance.sample(tokens, 5)

        def withdraw(mailbox: Mailbox = mailbox, victims: Any = victims) -> list[Any]:
            return [token for token in victims if mailbox.withdraw(token)]

        with yielding(chance):
            parts = race(lambda m=mailbox: take_all(m), lambda m=mailbox: take_all(m), withdraw)

        assert sorted(token.id for part in parts for token in part) == [token.id for token in tokens]
        assert mailbox.size == 0
