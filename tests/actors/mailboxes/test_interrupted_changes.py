"""Finalizers and signal handlers that send to the very mailbox that their thread is changing."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from actors import ActorSystem, CpuActor, Token, TokenTerminated, WouldBlock
from actors.kinds._operation_place import OperationPlace
from actors.mailboxes import _held_tokens, _lanes, _mailbox
from actors.places._notice import Notice

pytestmark = pytest.mark.usefixtures("frequent_looks")

LIMIT = 10.0

FILES = {str(module.__file__) for module in (_mailbox, _lanes, _held_tokens)}

Until = Callable[[Callable[[], bool]], None]


class Interruption:
    """Calls a function at one line of a mailbox's code that its thread runs while it holds the mailbox's lock.

    Args:
        place: with the mailbox.
        line: number of such lines that are run before it.
        act: the function.
    """

    def __init__(self, place: OperationPlace, line: int, act: Callable[[], object]) -> None:
        self._mailbox = place.mailbox
        self.left = line
        self._act = act

    def trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in FILES:
            return None
        if event == "line" and self._mailbox.changes_here:
            self.left -= 1
            if self.left == -1:
                self._act()  # it is not traced
        return self.trace


def of(place: OperationPlace, *args: Any, priority: int = 0) -> Token[Any]:
    return place.token("op", _answer, args, priority=priority)


def _answer(*args: Any) -> Any:
    return args


def change_all(place: OperationPlace) -> None:
    """Do what changes a mailbox, from outside of it."""
    place.suspend()
    plain, other, held = (place.send(of(place, number, priority=number // 2)) for number in range(3))
    place.mailbox.renice(plain, 3)
    place.mailbox.hold(held)
    place.mailbox.release(held)
    other.cancel()
    place.unsuspend()
    turn = place.turn_here(of(place))
    if turn is not None:
        turn.run()
    plain.result(LIMIT)
    held.result(LIMIT)


def drain(place: OperationPlace) -> None:
    """Have a drainer take several tokens, the way with the lock; it is traced in its thread."""
    trace = sys.gettrace()
    place.suspend()
    tokens = [place.send(place.token("trace", sys.settrace, (trace,), priority=1)), place.send(of(place, priority=1))]
    place.unsuspend()
    for token in tokens:
        token.result(LIMIT)
    place.send(place.token("end", sys.settrace, (None,))).result(LIMIT)


def send(place: OperationPlace) -> list[Token[Any]]:
    return [place.send(of(place, "sent"))]


def send_with_priority(place: OperationPlace) -> list[Token[Any]]:
    return [place.send(of(place, "sent", priority=5))]


def send_and_cancel(place: OperationPlace) -> list[Token[Any]]:
    token = place.send(of(place, "sent"))
    token.cancel()
    return [token]


def call(place: OperationPlace) -> list[Token[Any]]:
    """Try to call in place, and send instead."""
    token = of(place, "sent")
    turn = place.turn_here(token)
    if turn is not None:
        turn.run()
    else:
        place.send(token)
    return [token]


@pytest.mark.parametrize("changes", [change_all, drain])
@pytest.mark.parametrize("act", [send, send_with_priority, send_and_cancel, call])
def test_what_is_sent_in_the_middle_of_a_change_is_handled(
    system: ActorSystem, changes: Callable[[OperationPlace], None], act: Callable[[OperationPlace], list[Token[Any]]]
) -> None:
    """At every line that runs while the lock is held: each token ends, and so do those of the interrupted code."""
    line = 0
    while True:
        place = system.operation_place(f"op-{line}", "cpu", generator=False, concurrency=1)
        sent: list[Token[Any]] = []
        interruption = Interruption(place, line, lambda place=place, sent=sent: sent.extend(act(place)))  # type: ignore[misc]
        sys.settrace(interruption.trace)
        try:
            changes(place)
        finally:
            sys.settrace(None)
        if not sent:
            break
        for token in sent:
            error = token.exception(LIMIT)
            assert error is None or (act is send_and_cancel and isinstance(error, TokenTerminated)), error
        assert place.send(of(place)).result(LIMIT) == ()
        line += 1

    assert line > 10


@pytest.fixture
def interrupted(system: ActorSystem) -> Iterator[Callable[[Callable[[OperationPlace], Any]], Any]]:
    """Return a function that sends a token, and calls another one as a signal handler while the mailbox changes."""
    place = system.operation_place("op", "cpu", generator=False, concurrency=1)
    outcome: list[Any] = []
    before = signal.getsignal(signal.SIGUSR1)
    new_drainer = place.mailbox._new_drainer

    def interrupt(act: Callable[[OperationPlace], Any]) -> Any:
        def handle(*_: object) -> None:
            assert place.mailbox.changes_here
            try:
                outcome.append(act(place))
            except Exception as error:
                outcome.append(error)

        def interrupted_drainer() -> Any:
            place.mailbox._new_drainer = new_drainer
            signal.raise_signal(signal.SIGUSR1)
            return new_drainer()

        signal.signal(signal.SIGUSR1, handle)
        place.mailbox._new_drainer = interrupted_drainer
        assert place.send(of(place, "first")).result(LIMIT) == ("first",)
        return outcome[0]

    yield interrupt
    signal.signal(signal.SIGUSR1, before)


def test_a_signal_handler_sends_to_the_mailbox_that_it_has_interrupted(interrupted: Any) -> None:
    """Its token is handled as any other."""
    token = interrupted(lambda place: place.send(of(place, "second")))

    assert token.result(LIMIT) == ("second",)


def test_a_signal_handler_cannot_wait_there(interrupted: Any) -> None:
    """What it waits for may need the mailbox; the error says what to do instead, and the token is handled."""
    tokens: list[Token[Any]] = []

    def ask(place: OperationPlace) -> Any:
        tokens.append(place.send(of(place, "second", priority=1)))
        return tokens[0].result(LIMIT)

    error = interrupted(ask)

    assert isinstance(error, WouldBlock)
    assert "has interrupted a change" in str(error)
    assert tokens[0].result(LIMIT) == ("second",)


def test_a_finalizer_tells_and_stops_the_actor_whose_mailbox_its_thread_changes(start: Any, until: Until) -> None:
    """The collector runs whenever something is allocated, so also there."""
    got: list[Any] = []

    class Receiver(CpuActor):
        def on_receive(self, message: Any) -> None:
            got.append(message)

    ref = start(Receiver)
    ref.ask("first", timeout=LIMIT)
    mailbox = ref._place.mailbox

    class Garbage:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            assert mailbox.changes_here
            ref.tell("from a finalizer")
            ref.stop(block=False)

    new_drainer = mailbox._new_drainer

    def collecting() -> Any:
        mailbox._new_drainer = new_drainer
        Garbage()
        gc.collect()
        return new_drainer()

    until(lambda: not mailbox.drainers())
    mailbox._new_drainer = collecting
    ref.tell("second")
    ref._place.stopped.wait(LIMIT)

    assert got == ["first", "second", "from a finalizer"]


def test_a_patient_notice_arrives_at_a_full_mailbox_that_its_thread_changes(start: Any, until: Until) -> None:
    """It is offered again when the change is over, and then waits for room."""
    got: list[Any] = []
    notices: list[Any] = []

    class Receiver(CpuActor):
        def on_receive(self, message: Any) -> None:
            got.append(message)

    ref = start(Receiver)
    ref.ask("first", timeout=LIMIT)
    place = ref._place
    mailbox, new_drainer = place.mailbox, place.mailbox._new_drainer

    def noticing() -> Any:
        mailbox._new_drainer = new_drainer
        notices.append(Notice(place, place.instance).send("notice", patient=True))
        return new_drainer()

    until(lambda: not mailbox.drainers())
    mailbox.capacity = mailbox._limit = 1
    mailbox._new_drainer = noticing
    ref.tell("second")

    assert notices[0].exception(LIMIT) is None
    assert got == ["first", "second", "notice"]
