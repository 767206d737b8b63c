"""Refs and proxies: pykka's way of talking to an actor."""

from __future__ import annotations

import pickle
from typing import Any

import pykka
import pykka.messages
import pytest
import trio

from actors import NORMAL, ActorDead, ActorProxy, ActorSystem, BaseActor, Token, WaitTimeout

LIMIT = 30.0


def make(base: type[BaseActor]) -> type[BaseActor]:
    class Inner:
        pykka_traversable = True

        def __init__(self) -> None:
            self.depth = 2

        def shout(self, word: str) -> str:
            return word.upper()

    class Account(base):  # type: ignore[misc, valid-type]
        """An account."""

        kind = "current"
        inner: Any = pykka.traversable(Inner())
        expected = (LookupError,)

        def __init__(self, balance: int = 0) -> None:
            super().__init__()
            self.balance = balance
            self.messages: list[Any] = []

        def on_receive(self, message: Any) -> Any:
            self.messages.append(message)
            if message == "raise":
                raise LookupError("asked to")
            return ("got", message)

        def deposit(self, amount: int, *, note: str = "") -> tuple[int, str]:
            self.balance += amount
            return self.balance, note

        @property
        def doubled(self) -> int:
            return 2 * self.balance

        @staticmethod
        def plain(x: int) -> int:
            return x + 1

        @classmethod
        def named(cls) -> str:
            return cls.kind

        def seen(self) -> list[Any]:
            return self.messages

    return Account


def test_ask_returns_what_on_receive_returns(base: Any, start: Any) -> None:
    """Any object is a message."""
    ref = start(make(base))

    assert ref.ask({"any": "thing"}, timeout=LIMIT) == ("got", {"any": "thing"})


def test_a_method_of_the_class_is_called_as_a_token(base: Any, start: Any) -> None:
    """Static and class methods, too; arguments are those of the method."""
    cls: Any = make(base)
    ref = start(cls, 5)
    t = ref.do(cls.deposit, 2, note="x")

    assert isinstance(t, Token)
    assert (t.result(LIMIT), t.operation) == ((7, "x"), "Account.deposit")
    assert [ref.do(cls.plain, 1).result(LIMIT), ref.do(cls.named).result(LIMIT)] == [2, "current"]


def test_a_method_is_called_by_its_name(base: Any, start: Any) -> None:
    """So a subclass has its own called."""
    cls: Any = make(base)

    class Generous(cls):  # type: ignore[misc]
        def deposit(self, amount: int, *, note: str = "") -> Any:
            return super().deposit(2 * amount, note=note)

        other = cls.seen

    ref = start(Generous)

    assert ref.do(cls.deposit, 2).result(LIMIT) == (4, "")
    assert ref.do(cls.seen).result(LIMIT) == []


def test_what_is_no_method_of_the_class_is_refused(base: Any, start: Any) -> None:
    """Nothing is sent; a message that can be called is a message like any other."""
    ref = start(make(base))
    said = r"is no method of Account; write ref.do\(Account.method, ...\)"

    with pytest.raises(TypeError, match=said):
        ref.do(len, 2)
    with pytest.raises(TypeError, match=said):
        trio.run(ref.call, "any", 3)
    with pytest.raises(TypeError, match=said):
        ref.do(property(len))  # type: ignore[arg-type]
    assert trio.run(ref.call, len) == ("got", len)


def test_a_method_of_the_class_is_awaited(base: Any, start: Any) -> None:
    """Beside messages."""
    cls: Any = make(base)
    ref = start(cls)

    async def main() -> list[Any]:
        return [await ref.call(cls.deposit, 2), await ref.call(cls.deposit, amount=2, note="n"), await ref.call("m")]

    assert trio.run(main) == [(2, ""), (4, "n"), ("got", "m")]


def test_ask_without_blocking_returns_the_token(base: Any, start: Any) -> None:
    """The token is the future."""
    token = start(make(base)).ask(1, block=False)
    assert isinstance(token, Token)

    assert token.get(timeout=LIMIT) == ("got", 1)


def test_ask_raises_what_the_actor_raises(base: Any, start: Any) -> None:
    """An expected exception is an answer; the actor lives on."""
    ref = start(make(base))
    with pytest.raises(LookupError, match="asked to"):
        ref.ask("raise", timeout=LIMIT)

    assert ref.ask(1, timeout=LIMIT) == ("got", 1)


def test_tell_expects_no_answer_and_keeps_the_order(base: Any, start: Any) -> None:
    """Tells come before what the same sender asks later."""
    ref = start(make(base))
    for number in range(20):
        assert ref.tell(number) is None

    assert ref.proxy().seen().get(timeout=LIMIT) == list(range(20))


def test_an_ask_that_times_out_names_the_target_and_the_time(base: Any, start: Any, door: Any) -> None:
    """The error says who did not answer; the token goes on and its result can still be had."""

    class Slow(base):  # type: ignore[misc, valid-type]
        def on_receive(self, message: Any) -> Any:
            door.pass_through()
            return message

    ref = start(Slow)
    with pytest.raises(WaitTimeout, match=rf"'{ref.path}'.*Slow.on_receive.*0\.001 s"):
        ref.ask("x", timeout=0.001)
    door.open()

    assert ref.ask("y", timeout=LIMIT) == "y"


def test_a_timeout_that_the_actor_raised_is_not_mistaken_for_ones_own(base: Any, start: Any) -> None:
    """A WaitTimeout of the handler comes through as it is."""

    class Impatient(base):  # type: ignore[misc, valid-type]
        expected = (WaitTimeout,)

        def on_receive(self, message: Any) -> Any:
            raise WaitTimeout("inner")

    with pytest.raises(WaitTimeout) as caught:
        start(Impatient).ask("x", timeout=LIMIT)

    assert caught.value.args == ("inner",)


def test_call_awaits_the_answer_from_trio(base: Any, start: Any) -> None:
    """The awaiting form of `ask`."""
    ref = start(make(base))

    async def main() -> Any:
        with trio.fail_after(LIMIT):
            with pytest.raises(LookupError):
                await ref.call("raise")
            return await ref.call("x")

    assert trio.run(main) == ("got", "x")


def test_a_proxy_calls_methods_with_arguments(base: Any, start: Any) -> None:
    """Each call is a token with its own operation name."""
    proxy = start(make(base), 5).proxy()
    token = proxy.deposit(3, note="hi")
    assert isinstance(token, Token)
    assert token.operation == "Account.deposit"
    assert token.get(timeout=LIMIT) == (8, "hi")
    assert proxy.plain(1).get(timeout=LIMIT) == 2

    assert proxy.named().get(timeout=LIMIT) == "current"


def test_a_proxy_defers_calls(base: Any, start: Any) -> None:
    """`defer` expects no answer."""
    proxy = start(make(base)).proxy()
    assert proxy.deposit.defer(4) is None

    assert proxy.balance.get(timeout=LIMIT) == 4


def test_a_proxy_reads_and_writes_attributes(base: Any, start: Any) -> None:
    """Instance attributes, class attributes and properties; a write has happened when it returns."""
    proxy = start(make(base), 5).proxy()
    assert (proxy.balance.get(timeout=LIMIT), proxy.kind.get(timeout=LIMIT)) == (5, "current")
    proxy.balance = 21

    assert proxy.doubled.get(timeout=LIMIT) == 42


def test_a_proxy_goes_through_traversable_attributes(base: Any, start: Any) -> None:
    """pykka's traversable attributes are proxies themselves."""
    proxy = start(make(base)).proxy()
    assert isinstance(proxy.inner, ActorProxy)
    token = proxy.inner.shout("x")
    assert token.operation == "Account.inner.shout"
    assert token.get(timeout=LIMIT) == "X"

    assert proxy.inner.depth.get(timeout=LIMIT) == 2


def test_a_proxy_hands_out_nothing_private(base: Any, start: Any) -> None:
    """Names with an underscore are no part of the interface."""
    proxy = start(make(base)).proxy()
    with pytest.raises(AttributeError, match="_secret"):
        _ = proxy._secret

    assert {"deposit", "balance", "doubled"} - set(dir(proxy)) <= {"balance"}


def test_an_attribute_that_is_missing_is_the_callers_error(base: Any, start: Any) -> None:
    """A typo on a proxy raises at once, a message that names nothing fails; neither is a crash."""
    ref = start(make(base))
    with pytest.raises(AttributeError, match="nowhere"):
        ref.proxy().nowhere.result(LIMIT)  # a process actor's fails here: only the child knows what there is
    message = pykka.messages.ProxyGetAttr(attr_path=["nowhere"])
    with pytest.raises(AttributeError, match="nowhere"):
        ref.ask(message, timeout=LIMIT)

    assert ref.proxy().balance.get(timeout=LIMIT) == 0


def test_pykkas_messages_work_through_ask_and_tell(base: Any, start: Any) -> None:
    """ProxyCall, ProxyGetAttr and ProxySetAttr are understood as messages, too."""
    ref = start(make(base))
    call = pykka.messages.ProxyCall(attr_path=["deposit"], args=(2,), kwargs={"note": "n"})
    assert ref.ask(call, timeout=LIMIT) == (2, "n")
    ref.tell(pykka.messages.ProxySetAttr(attr_path=["balance"], value=9))

    assert ref.ask(pykka.messages.ProxyGetAttr(attr_path=["balance"]), timeout=LIMIT) == 9


@pytest.mark.parametrize("send", ["tell", "ask"])
def test_pykkas_stop_message_stops(base: Any, start: Any, until: Any, send: str) -> None:
    """pykka's stop as an ordinary message: what came before is handled, and the actor ends."""
    ref = start(make(base))
    before = ref.ask("before", block=False)
    getattr(ref, send)(pykka.messages._ActorStop())
    assert before.get(timeout=LIMIT) == ("got", "before")
    until(lambda: not ref.is_alive())
    ref.stop(timeout=LIMIT)

    with pytest.raises(ActorDead):
        ref.tell("late")


def test_sends_to_a_dead_actor_fail_at_once(base: Any, start: Any) -> None:
    """`tell` raises, `ask` raises without waiting for its timeout, a proxy call fails; all are pykka.ActorDeadError."""
    ref = start(make(base))
    proxy = ref.proxy()
    assert ref.stop(timeout=LIMIT)
    assert not ref.is_alive()
    with pytest.raises(ActorDead) as caught:
        ref.tell("x")
    assert isinstance(caught.value, pykka.ActorDeadError)
    with pytest.raises(ActorDead, match=ref.path):
        ref.ask("x")
    assert isinstance(ref.ask("x", block=False).exception(), ActorDead)
    with pytest.raises(ActorDead):
        proxy.deposit(1).get()
    with pytest.raises(ActorDead):
        proxy.deposit.defer(1)
    with pytest.raises(ActorDead):
        proxy.balance = 3

    with pytest.raises(ActorDead):
        ref.proxy()


def test_a_second_stop_is_answered(base: Any, start: Any) -> None:
    """The first stop finds it alive, the second does not, and both return; futures say the same."""
    ref = start(make(base))
    assert ref.stop(timeout=LIMIT) is True
    assert ref.stop(timeout=LIMIT) is False

    assert ref.stop(block=False).get(timeout=LIMIT) is False


def test_stops_that_race_are_all_answered(base: Any, start: Any, race: Any, seed: int, rounds: Any) -> None:
    """However many stop at once, each gets its answer and at least one found it alive."""
    cls = make(base)
    for _ in range(rounds(8 if base.affinity == "process" else 40)):
        ref = start(cls)
        answers = race(*[lambda ref=ref: ref.stop(timeout=LIMIT)] * 4)

        assert any(answers)
        assert not ref.is_alive()


def test_a_stop_that_takes_too_long_raises_and_goes_on(base: Any, start: Any, door: Any) -> None:
    """WaitTimeout; the actor still ends."""

    class Slow(base):  # type: ignore[misc, valid-type]
        def on_stop(self) -> None:
            door.pass_through()

    ref = start(Slow)
    with pytest.raises(WaitTimeout):
        ref.stop(timeout=0.001)
    door.open()

    assert ref.stop(timeout=LIMIT) is False


def test_an_actor_can_stop_itself_through_its_ref(base: Any, start: Any, until: Any) -> None:
    """It can't wait for its own end, so the call returns at once; what was queued is handled before."""

    class Suicidal(base):  # type: ignore[misc, valid-type]
        def finish(self) -> bool:
            alive: bool = self.actor_ref.stop()
            return alive

    ref = start(Suicidal)
    assert ref.proxy().finish().get(timeout=LIMIT) is True

    assert ref.stop(timeout=LIMIT) is False


def test_there_is_one_ref_for_a_place(base: Any, start: Any, system: ActorSystem) -> None:
    """Refs are equal when they are the same; proxies when they are of the same ref and path."""
    ref, other = start(make(base)), start(make(base))
    assert ref == system.find(ref.path).ref  # type: ignore[attr-defined]
    assert ref != other
    assert len({ref, other, ref}) == 2
    assert ref.proxy() == ref.proxy()
    assert hash(ref.proxy()) == hash(ref.proxy())
    assert ref.proxy() != other.proxy()
    assert ref.proxy() != "something else"
    assert ref.actor_urn.startswith("urn:uuid:")
    assert ref.actor_urn != other.actor_urn

    assert (repr(ref), str(ref)) == (f"<ActorRef for {ref}>", f"Account ({ref.path}, {ref.actor_urn})")


def test_a_proxy_does_not_hold_the_instance(base: Any, start: Any, system: ActorSystem) -> None:
    """A proxy holds only the ref, so what is behind it may be replaced."""
    proxy = start(make(base)).proxy()

    assert set(vars(proxy)) == {"actor_ref", "_attr_path"}


def test_bound_methods_of_a_proxy_can_be_passed_on(base: Any, start: Any) -> None:
    """A callable proxy is an ordinary callable."""
    proxy = start(make(base)).proxy()
    method = proxy.deposit
    tokens = [*map(method, [1, 2, 3])]

    assert [token.get(timeout=LIMIT)[0] for token in tokens] == [1, 3, 6]


def test_exceptions_of_this_floor_can_be_pickled() -> None:
    """They cross process boundaries later on."""
    error = pickle.loads(pickle.dumps(ActorDead("gone")))

    assert (type(error), error.args) == (ActorDead, ("gone",))


def test_what_is_sent_to_a_dead_actor_is_refused_in_pykkas_words(base: Any, start: Any) -> None:
    """The error of `tell`, `ask` and a token names the ref; a note says what became of the message."""
    ref = start(make(base))
    ref.stop(timeout=LIMIT)
    errors: list[BaseException | None] = [ref.ask("x", block=False).exception()]
    for send in (ref.tell, ref.ask):
        with pytest.raises(ActorDead) as caught:
            send("x")
        errors.append(caught.value)

    for error in errors:
        assert str(error) == f"{ref} not found"
        assert [note.partition(";")[0] for note in error.__notes__] == [f"actor '{ref.path}' has stopped"]


def test_actor_stopped_is_an_event_that_can_be_waited_for(base: Any, system: ActorSystem) -> None:
    """It is set when the actor has ended, whoever asked first; a new start of the same place clears it."""
    place = system.place("account", make(base), owner=lambda place, *_: place.vacate())
    stopped = place.ref.actor_stopped
    place.start().result(LIMIT)
    assert not stopped.is_set()
    place.ref.stop(timeout=LIMIT)
    assert stopped.wait(LIMIT)
    place.start().result(LIMIT)
    assert place.instance is not None
    assert (stopped.is_set(), place.ref.actor_stopped is stopped) == (False, True)
    place.close(NORMAL)
    assert stopped.is_set()

    late = system.start_actor(make(base), (), {})
    late.stop(timeout=LIMIT)
    assert late.actor_stopped.is_set()
