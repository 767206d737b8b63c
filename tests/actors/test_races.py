"""Races between two or three threads of the runtime, under schedules that a seed draws, against the test's own ledger.

Each race is run 30 times with each grain, 10,000 times with TOKENGATE_TORTURE=1; TOKENGATE_SEED brings one back.
"""

from __future__ import annotations

import os
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from interleave import Stage

from actors import ActorDead, ActorSystem, CpuActor, ExitReason, Token, TokenState, TokenTerminated
from actors.lowlevel import Mailbox, Put, Signal
from actors.mailboxes import _lanes
from actors.mailboxes._mailbox import Drainer

ROUNDS = range(10_000 if os.environ.get("TOKENGATE_TORTURE") == "1" else 30)


@attrs.frozen(eq=False)
class Note(Signal):
    number: int


@attrs.define
class Hands:
    """The threads of a dispatcher, played by the test: what is runnable runs when the test says so."""

    stage: Stage
    runnable: deque[Any] = attrs.field(factory=deque)
    work: Any = None

    def __attrs_post_init__(self) -> None:
        self.work = self.stage.lock()
        self.work.acquire()

    def submit(self, runnable: Any) -> None:
        self.runnable.append(runnable)
        if self.work.locked():
            self.work.release()

    def run_all(self) -> None:
        """Run what is runnable until nothing is."""
        while self.runnable:
            one = self.runnable.popleft()
            if one.run(threading.current_thread()):
                self.runnable.append(one)

    def serve(self) -> None:
        """Be a thread of the dispatcher."""
        while True:
            self.run_all()
            self.work.acquire()


@pytest.fixture
def desk(stage: Stage, desk: Any) -> Any:
    """A desk whose locks were made on the stage."""
    return desk


@pytest.fixture
def hands(stage: Stage, desk: Any) -> Hands:
    """The threads of the desk's system."""
    made = Hands(stage)
    desk.system.dispatcher.submit = made.submit
    return made


@attrs.define
class Ledger:
    """What the threads of a race know of a mailbox by their own account.

    Attributes:
        accepted: tokens that a put accepted, in order for each sender.
        refused: tokens that it refused for good, because of a close or its overflow policy.
        handed: tokens that came out, by whatever way.
        signals: what came out of the control lane.
    """

    desk: Any
    mailbox: Mailbox
    accepted: list[Token[Any]] = attrs.field(factory=list)
    refused: list[Token[Any]] = attrs.field(factory=list)
    handed: list[Token[Any]] = attrs.field(factory=list)
    signals: list[Signal] = attrs.field(factory=list)

    def put(self, priority: int = 0, room: Callable[[], None] | None = None) -> Put | None:
        token = self.desk.token(priority)
        try:
            put = self.mailbox.put(token, room)
        except ActorDead:
            self.refused.append(token)
            return None
        if put is not Put.FULL:
            (self.accepted if put is Put.ACCEPTED else self.refused).append(token)
        return put

    def drain(self, drainer: Drainer) -> None:
        """Be a drainer that was woken, until there is nothing to take."""
        while (item := self.mailbox.take(drainer)) is not None:
            assert self.mailbox.statistics().active <= self.mailbox.concurrency
            if isinstance(item, Signal):
                self.signals.append(item)
            else:
                item._begin(0.0)
                self.handed.append(item)

    def answer_wakes(self) -> None:
        """Send the drainers that were asked for."""
        while self.desk.woken:
            self.drain(self.desk.woken.pop())

    def check(self) -> None:
        """Each accepted token came out once, no other did, and nothing is left."""
        assert sorted(token.id for token in self.handed) == sorted(token.id for token in self.accepted)
        statistics = self.mailbox.statistics()
        assert (statistics.depth, statistics.control, statistics.active) == (0, 0, 0)
        for token in self.refused:
            assert not self.mailbox.withdraw(token)


@pytest.fixture
def ledger(desk: Any) -> Callable[..., Ledger]:
    def make(**options: Any) -> Ledger:
        del desk.woken[:]
        return Ledger(desk, desk.mailbox(**options))

    return make


@pytest.fixture(autouse=True)
def _forget(desk: Any) -> Iterator[None]:
    yield
    desk.system.live.clear()


@pytest.mark.parametrize("overflow", ["wait", "drop_oldest"])
def test_put_racing_close_strands_nothing(
    stage: Stage, ledger: Callable[..., Ledger], chance: random.Random, desk: Any, overflow: Any
) -> None:
    """A token is refused, and its sender knows, or it is handed to whoever closed, or to a drainer; senders that wait
    for room find out."""
    for _ in ROUNDS:
        book = ledger(capacity=chance.choice([1, 2, 8]), overflow=overflow)
        priorities = [chance.choice([0, 0, 0, 1, -1]) for _ in range(4)]

        def send(book: Ledger = book, priorities: Any = priorities) -> None:
            room = stage.lock()
            room.acquire()
            for priority in priorities:
                while book.put(priority, room.release) is Put.FULL:
                    room.acquire()

        def close(book: Ledger = book) -> None:
            book.handed.extend(book.mailbox.close())

        del desk.dropped[:]
        functions = [send, close, book.answer_wakes]
        stage.run(*functions if chance.random() < 0.5 else functions[:2])
        book.handed.extend(desk.dropped)
        book.answer_wakes()

        book.check()
        assert len(book.accepted) + len(book.refused) == 4
        assert book.mailbox.closed


def test_close_that_keeps_the_queue_loses_none_of_it(
    stage: Stage, ledger: Callable[..., Ledger], chance: random.Random
) -> None:
    """What was accepted before the intake closed is still handled, and a drainer comes for it."""
    for _ in ROUNDS:
        book = ledger()

        def send(book: Ledger = book) -> None:
            for _ in range(3):
                book.put(chance.choice([0, 0, 1]))

        stage.run(send, lambda book=book: book.mailbox.close(keep=True), book.answer_wakes)
        book.answer_wakes()

        book.check()
        assert len(book.accepted) + len(book.refused) == 3


@pytest.mark.parametrize("senders", [1, 2])
def test_put_racing_take_to_empty_loses_no_wake_up(
    stage: Stage, ledger: Callable[..., Ledger], chance: random.Random, desk: Any, senders: int
) -> None:
    """Either the drainer that is about to leave takes the token, or another one is woken; and each sender's tokens
    of one priority come out in order."""
    for _ in ROUNDS:
        concurrency = chance.choice([1, 1, 2])
        book = ledger(concurrency=concurrency)
        book.put()

        def send(book: Ledger = book) -> list[Token[Any]]:
            before = len(book.accepted)
            for _ in range(3):
                book.put(chance.choice([0, 0, 0, 2]))
                assert book.mailbox.statistics().active <= book.mailbox.concurrency
            return book.accepted[before:]

        stage.run(*[send] * senders, book.answer_wakes)
        book.answer_wakes()

        book.check()
        if senders == concurrency == 1:
            for priority in (0, 2):
                sent = [token for token in book.accepted if token.priority == priority]
                assert [token for token in book.handed if token.priority == priority] == sent
        book.put()
        assert len(desk.woken) == 1  # after all that, the mailbox still asks for a drainer


def test_signals_racing_take_to_empty_lose_no_wake_up(stage: Stage, ledger: Callable[..., Ledger]) -> None:
    """The control lane wakes a drainer as the user lane does, also while that one is held."""
    for _ in ROUNDS:
        book = ledger()
        book.put()
        notes = [Note(number) for number in range(3)]

        def signal(notes: list[Note], book: Ledger = book) -> None:
            for note in notes:
                book.mailbox.put_control(note)

        def suspend(book: Ledger = book) -> None:
            book.mailbox.suspend()
            book.put()
            book.mailbox.resume()

        stage.run(
            lambda signal=signal, notes=notes: signal(notes[:2]),
            lambda signal=signal, notes=notes: signal(notes[2:]),
            suspend,
            book.answer_wakes,
        )
        book.answer_wakes()

        book.check()
        assert sorted(note.number for note in book.signals) == [0, 1, 2]
        assert book.signals.index(notes[0]) < book.signals.index(notes[1])


def test_put_racing_suspend_is_held_and_then_handled(stage: Stage, ledger: Callable[..., Ledger]) -> None:
    """While the lane is held nothing is begun; when it is resumed, what was put meanwhile gets its drainer."""
    for _ in ROUNDS:
        book = ledger()
        book.put()
        book.mailbox.suspend()

        def send(book: Ledger = book) -> None:
            for _ in range(2):
                book.put()

        stage.run(send, book.answer_wakes)
        book.answer_wakes()
        assert book.handed == []
        stage.run(book.mailbox.resume, send, book.answer_wakes)
        book.answer_wakes()

        book.check()
        assert len(book.handed) == 5


def test_withdrawals_racing_takes_get_each_token_once(
    stage: Stage, ledger: Callable[..., Ledger], chance: random.Random
) -> None:
    """None is both withdrawn and taken, none is neither, and the one that withdrew is told so."""
    for _ in ROUNDS:
        book = ledger()
        for _ in range(4):
            book.put(chance.choice([0, 0, 1]))
        victims = chance.sample(book.accepted, 3)

        def withdraw(book: Ledger = book, victims: Any = victims) -> None:
            book.handed.extend([token for token in victims if book.mailbox.withdraw(token)])

        stage.run(withdraw, book.answer_wakes, book.put)
        book.answer_wakes()

        book.check()


def test_what_is_indexed_while_it_is_taken_comes_out_once_and_in_order(
    stage: Stage, ledger: Callable[..., Ledger], chance: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lane out of which many are withdrawn changes its shape under the drainer's hands, and nothing overtakes."""
    monkeypatch.setattr(_lanes, "_LONG", 0)
    monkeypatch.setattr(_lanes, "_SEARCHES", 1)
    for _ in ROUNDS:
        book = ledger()
        for _ in range(5):
            book.put()
        victims = chance.sample(book.accepted[1:], 3)
        withdrawn: list[Token[Any]] = []

        def withdraw(book: Ledger = book, victims: Any = victims, withdrawn: Any = withdrawn) -> None:
            withdrawn.extend([token for token in victims if book.mailbox.withdraw(token)])

        def send(book: Ledger = book) -> None:
            for _ in range(2):
                book.put()

        stage.run(withdraw, book.answer_wakes, send)
        book.answer_wakes()

        assert book.handed == [token for token in book.accepted if token not in withdrawn]
        book.handed.extend(withdrawn)
        book.check()


def test_a_direct_call_racing_put_leaves_a_drainer_behind(
    stage: Stage, ledger: Callable[..., Ledger], chance: random.Random
) -> None:
    """A caller that took the turn hands it over when something was queued meanwhile; the turn is never double."""
    for _ in ROUNDS:
        book = ledger()
        inside: list[int] = []

        def call(book: Ledger = book, inside: Any = inside) -> None:
            for _ in range(chance.choice([1, 2])):
                turn = Drainer()
                if book.mailbox.try_enter(turn):
                    inside.append(1)
                    assert len(inside) == 1
                    assert book.mailbox.statistics().active == 1
                    inside.pop()
                    book.mailbox.dismiss(turn)

        def send(book: Ledger = book) -> None:
            for _ in range(chance.choice([1, 2])):
                book.put(chance.choice([0, 1]))

        stage.run(*[call, send, book.answer_wakes][: chance.choice([2, 3])])
        book.answer_wakes()

        book.check()


def test_any_moves_that_race_agree_with_the_ledger(
    stage: Stage, ledger: Callable[..., Ledger], chance: random.Random, desk: Any
) -> None:
    """Three threads that put, take, withdraw, hold, signal, enter, call and dismiss in any order."""
    for _ in ROUNDS:
        book = ledger(capacity=chance.choice([2, 100]), overflow="drop_oldest", concurrency=chance.choice([1, 2]))
        del desk.dropped[:]

        def moves(book: Ledger = book) -> Callable[[], None]:
            script = chance.choices(["put", "serve", "withdraw", "hold", "signal", "enter", "call", "dismiss"], k=4)

            def play() -> None:
                box = book.mailbox
                for move in script:
                    if move == "put":
                        book.put(chance.choice([0, 0, 0, 1, -1]))
                    elif move == "serve":
                        book.answer_wakes()
                    elif move == "withdraw" and book.accepted:
                        token = chance.choice(book.accepted)
                        if box.withdraw(token):
                            book.handed.append(token)
                    elif move == "hold":
                        box.suspend()
                        box.resume()
                    elif move == "signal":
                        box.put_control(Note(0))
                    elif move == "enter" and box.try_enter(turn := Drainer()):
                        box.dismiss(turn)
                    elif move == "call" and box.enter_with(turn := Drainer(), token := desk.token()):
                        book.accepted.append(token)
                        book.handed.append(token)
                        box.dismiss(turn)
                    elif move == "dismiss" and desk.woken:
                        drainer = desk.woken.pop()
                        item = box.take(drainer)
                        if isinstance(item, Token):
                            book.handed.append(item)
                        assert box.dismiss(drainer) == (item is not None)

            return play

        stage.run(moves(), moves(), moves())
        book.answer_wakes()
        book.handed.extend(desk.dropped)

        book.check()


@pytest.mark.skipif(not hasattr(Mailbox, "renice"), reason="Mailbox.renice(token, priority) -> bool is not there yet")
def test_renice_racing_dequeue_moves_a_queued_token_or_leaves_it_alone(
    stage: Stage, ledger: Callable[..., Ledger], chance: random.Random
) -> None:
    """Told True, it stood at the end of its new lane; told False, somebody had it already. It comes out once."""
    for _ in ROUNDS:
        book = ledger()
        for priority in (0, 0, 2, 0, 2, -1):
            book.put(priority)
        token = chance.choice(book.accepted)
        old, new = token.priority, chance.choice([0, 1, 2, 3, -1, -2])
        queued = sorted(book.accepted, key=lambda one: -one.priority)
        (moved, _) = stage.run(lambda m=book.mailbox, token=token, new=new: m.renice(token, new), book.answer_wakes)
        book.answer_wakes()

        book.check()
        assert [one for one in book.handed if one is not token] == [one for one in queued if one is not token]
        if moved:
            assert token.priority == new
            assert all(one.priority < new for one in book.handed[book.handed.index(token) + 1 :])
        else:
            assert token.priority == old
            assert book.handed == queued


@pytest.mark.parametrize("generator", [False, True], ids=["plain", "generator"])
def test_cancel_racing_start_ends_a_token_that_never_ran_or_lets_it_run(
    stage: Stage, hands: Hands, desk: Any, generator: bool
) -> None:
    """`cancel()` returned True: its code never ran. It returned False: it ran, once, and a waiter gets its outcome."""
    place = desk.system.operation_place("raced", "cpu", generator=generator, concurrency=1)
    for _ in ROUNDS:
        ran: list[int] = []

        def plain(ran: Any = ran) -> int:
            ran.append(1)
            return 5

        def steps(ran: Any = ran) -> Any:
            ran.append(1)
            yield
            return 5

        token = place.token("raced", steps if generator else plain, (), {})
        place.send(token)
        cancelled, _, error = stage.run(token.cancel, hands.run_all, token.exception)

        if cancelled:
            assert ran == []
            assert token.state is TokenState.TERMINATED
        elif generator:  # its first yield point is before its first step
            assert ran == [1] or token.state is TokenState.TERMINATED
        else:
            assert ran == [1]
            assert token.state is TokenState.COMPLETED
        if token.state is TokenState.COMPLETED:
            assert (error, token.result()) == (None, 5)
        else:
            assert isinstance(error, TokenTerminated)
        assert place.mailbox.statistics().depth == 0


def test_complete_racing_terminate_has_one_outcome(stage: Stage, hands: Hands, desk: Any) -> None:
    """The states seen, the callbacks, the result, and the counts of the system tell of the same one end."""
    system: ActorSystem = desk.system
    for number in ROUNDS:
        place = system.operation_place(f"raced-{number}", "cpu", generator=False, concurrency=1)
        seen: list[TokenState] = []
        token = place.send(place.token("raced", lambda: 5, (), {}))
        token.add_done_callback(lambda token, seen=seen: seen.append(token.state))
        before = system.statistics().tokens

        def terminate(place: Any = place) -> None:
            place.terminate_running("the test wants it")

        error, _, _, _ = stage.run(token.exception, hands.run_all, terminate, place.close)

        assert token.state in (TokenState.COMPLETED, TokenState.TERMINATED)
        assert seen == [token.state]
        assert token.done()
        if token.state is TokenState.COMPLETED:
            assert (error, token.result()) == (None, 5)
        else:
            # Ended while it ran, or before, by the close.
            assert isinstance(error, TokenTerminated | ActorDead)
            assert token.exception() is error
        after = system.statistics().tokens
        grown = [state for state in TokenState if after[state] > before[state]]
        assert grown == [token.state]
        assert (token.args, token.id in system.live) == ((), False)


def test_closing_a_system_racing_its_steps_ends_every_token(stage: Stage, chance: random.Random) -> None:
    """What is queued, what runs and what is just sent comes to one end each, and nobody who waits hangs."""
    for _ in ROUNDS:
        hands = Hands(stage)
        system = ActorSystem("raced", threads=1)
        system.dispatcher.submit = hands.submit  # type: ignore[method-assign]
        place = system.operation_place("raced", "cpu", generator=False, concurrency=1)
        ran: list[int] = []

        def send(place: Any = place, ran: Any = ran) -> list[Token[Any]]:
            tokens = [place.token("raced", ran.append, (number,), {}) for number in range(2)]
            for token in tokens:
                place.send(token)
            for token in tokens:
                token.exception()
            return tokens

        tokens, _ = stage.run(send, lambda s=system: s.close(1.0), servants=[hands.serve])

        for number, token in enumerate(tokens):
            assert token.done()
            assert (token.state is TokenState.COMPLETED) == (number in ran and token.exception() is None)
            assert ran.count(number) <= 1
        assert system.live == {}


class Answerer(CpuActor):
    def __init__(self, handled: list[Any]) -> None:
        self.handled = handled

    def on_receive(self, message: Any) -> Any:
        self.handled.append(message)
        return message


@pytest.mark.parametrize("how", ["stop", "stop without draining", "close"])
def test_ask_racing_stop_is_answered_or_refused(stage: Stage, hands: Hands, desk: Any, how: str) -> None:
    """No ask hangs: it has the answer of a message that was handled, or `ActorDead` for one that never will be."""
    system: ActorSystem = desk.system
    for number in ROUNDS:
        handled: list[Any] = []
        place = system.place(f"raced-{number}", Answerer, (handled,))
        started = place.start()
        hands.run_all()
        started.result()
        ref = place.ref

        def ask(sender: str, ref: Any = ref) -> dict[str, bool]:
            answered = {}
            for message in (sender + "1", sender + "2"):
                try:
                    assert ref.ask(message) == message
                    answered[message] = True
                except ActorDead:
                    answered[message] = False
            return answered

        def stop(place: Any = place, ref: Any = ref) -> None:
            if how == "stop":
                ref.stop()
            elif how == "close":
                place.close(ExitReason("shutdown"))
            else:
                place.stop(drain=False, administrative=True).result()

        first, second, _ = stage.run(lambda ask=ask: ask("a"), lambda ask=ask: ask("b"), stop, servants=[hands.serve])

        assert sorted(handled) == sorted(message for message, was in {**first, **second}.items() if was)
        assert not ref.is_alive()
        assert system.live == {}
