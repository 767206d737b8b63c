"""The graph of waits: a cycle is named before a step waits in it, and nothing else is called a cycle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from actors import ActorRef, ActorSystem, CpuActor, DeadlockError, IoActor, TokenState
from actors.kinds._operation_place import OperationPlace

LIMIT = 30.0


class Caller(CpuActor):
    """An actor that asks the next one, and so on, and returns the answer of the last; `first` is called before."""

    def __init__(self, first: Callable[[], object] = int) -> None:
        super().__init__()
        self.heard: list[BaseException] = []
        self._first = first

    def ask(self, *others: ActorRef[Any]) -> str:
        if not others:
            return "the end"
        self._first()
        try:
            return str(others[0].proxy().ask(*others[1:]).get(timeout=LIMIT))
        except DeadlockError as error:
            self.heard.append(error)
            return str(error)


class AsyncCaller(IoActor):
    async def ask(self, *others: ActorRef[Any]) -> str:
        if not others:
            return "the end"
        try:
            return str(await others[0].proxy().ask(*others[1:]))
        except DeadlockError as error:
            return str(error)


Placed = Callable[..., ActorRef[Any]]


@pytest.fixture
def placed(system: ActorSystem) -> Placed:
    """Start an actor of a class under a name."""

    def place(name: str, actor_class: type[Any], *args: Any) -> ActorRef[Any]:
        made = system.place(name, actor_class, args)
        made.start().result(LIMIT)
        return made.ref

    return place


@pytest.mark.parametrize("kinds", [(Caller,) * 3, (AsyncCaller,) * 3, (Caller, AsyncCaller, Caller)])
def test_a_cycle_is_named_from_its_beginning(
    system: ActorSystem, placed: Placed, until: Any, kinds: tuple[type[Any], ...]
) -> None:
    """Before a step parks on a token, the chain of who waits for whom is walked; a cycle is an error that names it."""
    *before, last = kinds
    a, b = (placed(name, kind) for name, kind in zip("ab", before, strict=True))

    def others_wait() -> None:  # the last to wait is the one that finds the cycle; on the io loop it is the last anyway
        until(lambda: sum(bool(token._extras.waits) for token in list(system.live.values())) == 2)

    c = placed("c", last, *([others_wait] if last is Caller else []))

    answer = a.proxy().ask(b, c, a).get(timeout=LIMIT)

    places = [part.split("'")[0] for part in answer.split("'")[1::2]]
    assert places == ["c", "a", "b", "c"]


@pytest.mark.parametrize("kind", [Caller, AsyncCaller])
def test_an_actor_that_waits_for_itself_is_told(placed: Placed, kind: type[Any]) -> None:
    """The shortest cycle there is."""
    a = placed("a", kind)

    assert "'a'" in a.proxy().ask(a).get(timeout=LIMIT)


@pytest.mark.parametrize("kind", [Caller, AsyncCaller])
def test_a_chain_that_ends_is_no_cycle(placed: Placed, kind: type[Any]) -> None:
    """Waiting for one that waits is fine, and so is coming by the same actor twice at different times."""
    a, b, c = (placed(name, kind) for name in "abc")

    assert a.proxy().ask(b, c).get(timeout=LIMIT) == "the end"
    assert c.proxy().ask(b, a).get(timeout=LIMIT) == "the end"


def test_a_message_that_would_close_a_cycle_is_withdrawn(system: ActorSystem, placed: Placed) -> None:
    """Nobody is there for its answer, so it does not run later either."""
    seen: list[str] = []

    class Narcissus(CpuActor):
        def on_receive(self, message: Any) -> Any:
            seen.append(message)
            if message == "look":
                with pytest.raises(DeadlockError):
                    self.actor_ref.ask("answer me")
            return message

    narcissus = placed("narcissus", Narcissus)
    narcissus.ask("look", timeout=LIMIT)
    narcissus.ask("done", timeout=LIMIT)

    assert seen == ["look", "done"]
    assert system.statistics().tokens[TokenState.TERMINATED] == 1


def test_a_direct_call_is_a_link_of_the_chain(system: ActorSystem, placed: Placed) -> None:
    """What a step calls directly runs on its thread: who waits in there holds the step up as well."""
    place = system.operation_place("operation", "cpu", generator=False, concurrency=1)

    def run(place: OperationPlace, call: Callable[[], Any]) -> Any:
        turn = place.turn_here(place.token("operation", call, (), {}))
        assert turn is not None
        return turn.run()

    class Outer(CpuActor):
        def through_operation(self, inner: ActorRef[Any]) -> Any:
            return run(place, lambda: inner.proxy().back(self.actor_ref).get(timeout=LIMIT))

        def touched(self) -> None: ...

    class Inner(CpuActor):
        def back(self, outer: ActorRef[Any]) -> str:
            with pytest.raises(DeadlockError) as raised:
                outer.proxy().touched().get(timeout=LIMIT)
            return str(raised.value)

    outer, inner = placed("outer", Outer), placed("inner", Inner)
    answer = outer.proxy().through_operation(inner).get(timeout=LIMIT)

    assert answer.split("'")[1::2] == ["inner", "outer", "operation", "inner"]


def test_room_in_a_full_mailbox_is_waited_for_too(placed: Placed) -> None:
    """An actor whose mailbox is full and who waits for the sender will never make room."""

    class Crowded(CpuActor):
        capacity = 1

        def ask_back(self, sender: ActorRef[Any]) -> Any:
            return sender.proxy().send_on(self.actor_ref).get(timeout=LIMIT)

        def on_receive(self, message: Any) -> None: ...

    class Sender(CpuActor):
        def send_on(self, crowded: ActorRef[Any]) -> str:
            crowded.tell("fills it")
            with pytest.raises(DeadlockError) as raised:
                crowded.tell("one too many")
            return str(raised.value)

    crowded, sender = placed("crowded", Crowded), placed("sender", Sender)
    answer = crowded.proxy().ask_back(sender).get(timeout=LIMIT)

    assert answer.split("'")[1::2] == ["sender", "crowded", "sender"]
