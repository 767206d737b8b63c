"""Names of the runtime in a child: they are the gate's in all that a user sees, and are exchanged when they cross."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

import actors
from actors import ActorSystem, _child
from actors import _exceptions as gates
from actors._child import (
    Down,
    ExitReason,
    Limits,
    Operation,
    ProcessActor,
    Proxy,
    ReceiveTimeout,
    Ref,
    RemoteToken,
    checkpoint,
    context_variable,
    current_token,
)
from actors._child import _exceptions as childs
from actors._child._counterparts import CurrentToken
from actors._child._current_worker import current_worker
from actors._child._pickling import dumps, rebuild
from actors.processes.pickling import _carrier

Answers = dict[tuple[Any, ...], Any]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """What the gate answers: {question: value, or an error to raise}."""
    known: Answers = {}

    class Gate:
        def ask(self, item: Any) -> Any:
            answer = known.pop(tuple(item))
            if isinstance(answer, BaseException):
                raise answer
            return answer

    monkeypatch.setattr(current_worker, "connection", Gate())
    return known


# Errors


@pytest.mark.parametrize("name", childs.__all__)
def test_each_error_is_there_under_the_gates_name_and_bases(name: str) -> None:
    """Of the bases, those that are pykka's are missing: no child imports that."""
    gate, child = getattr(gates, name), getattr(childs, name)
    bases = [base.__name__ for base in gate.__mro__ if not base.__module__.startswith("pykka")]

    assert [base.__name__ for base in child.__mro__] == bases


def test_no_error_of_the_gate_is_missing() -> None:
    """One that is added there is added here."""
    ours = {name for name, one in vars(gates).items() if isinstance(one, type) and one.__module__ == gates.__name__}

    assert ours == set(childs.__all__)


def test_errors_with_attributes_keep_them() -> None:
    """They are made as in the gate."""
    died = childs.WorkerDied("died", 7, -9)
    remote = childs.WorkerError("Odd: no", "Odd", True)
    limit = childs.LimitExceeded("too much", "memory", 5.0)

    assert (died.pid, died.exit_code, str(died)) == (7, -9, "died")
    assert (remote.type_name, remote.expected) == ("Odd", True)
    assert (limit.limit, limit.value) == ("memory", 5.0)


# From the child to the gate


def to_gate(item: Any) -> Any:
    return pickle.loads(dumps(item))


@pytest.mark.parametrize("name", [*childs.__all__, "ProcessActor", "Down", "ReceiveTimeout", "ExitReason"])
def test_classes_become_the_gates(name: str) -> None:
    """Whatever refers to one refers to the gate's there."""
    if not hasattr(actors, name):
        pytest.skip(f"{name} is not public in this gate")

    assert to_gate([getattr(_child, name)]) == [getattr(actors, name)]


def test_functions_become_the_gates() -> None:
    """`checkpoint` in a function that a child returns is the gate's there."""
    assert to_gate((checkpoint, current_token)) == (actors.checkpoint, actors.current_token)


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (ReceiveTimeout(2.5), actors.ReceiveTimeout(2.5)),
        (ExitReason("killed"), actors.KILLED),
        (ExitReason("error", None), actors.ExitReason("error", None)),
    ],
    ids=repr,
)
def test_objects_become_the_gates(mine: Any, theirs: Any) -> None:
    """Equal to those that are made there."""
    assert to_gate(mine) == theirs


def test_an_error_becomes_the_gates() -> None:
    """With its attributes."""
    error = to_gate(childs.WorkerDied("died", 7, -9))

    assert type(error) is gates.WorkerDied
    assert (str(error), error.pid, error.exit_code) == ("died", 7, -9)


@pytest.fixture
def loading(system: ActorSystem) -> Iterator[ActorSystem]:
    """A system in which what comes from children is found."""
    _carrier.loading_for(system)
    yield system
    _carrier._loading.__dict__.clear()


class Plain(actors.CpuActor):
    """Is only there to be referred to."""


def test_refs_become_the_gates_and_come_back(loading: ActorSystem, start: Callable[..., Any]) -> None:
    """Found by their path, those in a notice as well."""
    ref = start(Plain)
    mine = Ref(ref.path, "Plain")
    down = to_gate(Down(mine, ref.path, ExitReason("normal"), True))

    assert to_gate(mine) is ref
    assert down == actors.Down(ref, ref.path, actors.NORMAL, True)


def test_tokens_and_operations_are_found_in_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """By id and by key."""
    monkeypatch.setattr(_carrier, "found_token", lambda number: ("token", number))
    monkeypatch.setattr(_carrier, "found_operation", lambda key: ("operation", key))
    facts = {"id": 8, "operation": "o", "actor": "a", "priority": 0, "tags": {}, "parent": None, "attempt": 1}
    current = CurrentToken({**facts, "affinity": "process", "seconds_left": None})

    assert to_gate([RemoteToken(7), current, Operation(3, "resize")]) == [("token", 7), ("token", 8), ("operation", 3)]


def test_what_belongs_to_a_child_stays_there(answers: Answers) -> None:
    """A timer means nothing elsewhere; neither does a proxy, whose ref does."""
    answers["send_after", 1, "m"] = 5
    timer = ProcessActor().send_after(1, "m")

    for one in (timer, Proxy(Ref("a"))):
        with pytest.raises(pickle.PicklingError, match="cannot leave its process"):
            dumps(one)


def test_what_was_pickled_for_the_gate_can_be_looked_at_here() -> None:
    """Without importing anything of the gate's."""
    item = [childs.WorkerDied("died", 7), Ref("a/b"), RemoteToken(4), checkpoint, Operation(3, "resize")]
    error, ref, token, function, operation = rebuild(dumps(item))

    assert type(error) is childs.WorkerDied
    assert (ref, token, function) == (Ref("a/b"), RemoteToken(4), checkpoint)
    assert operation.key == 3


# From the gate to the child


@pytest.mark.parametrize(
    ("theirs", "mine"),
    [
        (actors.checkpoint, checkpoint),
        (actors.current_token, current_token),
        (actors.ActorDead, childs.ActorDead),
        (actors.TokenInterrupt, childs.TokenInterrupt),
        (actors.ReceiveTimeout(2.5), ReceiveTimeout(2.5)),
        (actors.KILLED, ExitReason("killed")),
    ],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
def test_what_the_gate_sends_is_the_childs_here(system: ActorSystem, theirs: Any, mine: Any) -> None:
    """As `_carry` exchanges it."""
    carried = b"".join(_carrier.Carrier(system, in_band=True).pack([theirs]).pieces)

    assert pickle.loads(carried) == [mine]


def test_refs_and_errors_of_the_gate_are_the_childs_here(system: ActorSystem, start: Callable[..., Any]) -> None:
    """As is a notice that has both."""
    ref = start(Plain)
    down = actors.Down(ref, ref.path, actors.ExitReason("error", actors.ActorDead("gone")), False)
    carried = b"".join(_carrier.Carrier(system, in_band=True).pack(down).pieces)
    mine = pickle.loads(carried)

    assert (mine.ref, mine.path, mine.closed) == (Ref(ref.path), ref.path, False)
    assert str(mine.ref) == f"Plain ({ref.path})"
    assert type(mine.reason.error) is childs.ActorDead
    assert str(mine.reason) == "error(ActorDead('gone'))"


def test_a_context_variable_that_no_module_has_is_one_here(system: ActorSystem) -> None:
    """The same for each function that refers to it."""
    variable = ContextVar[int]("mine")
    first, second = (
        pickle.loads(b"".join(_carrier.Carrier(system, in_band=True).pack(variable).pieces)) for _ in range(2)
    )

    assert first is second
    assert first is not variable


module_variable: ContextVar[int] = ContextVar("module_variable")


def test_a_context_variable_of_a_module_is_that_one() -> None:
    """Code that is imported here has it from there."""
    assert context_variable(__name__, "module_variable", "module_variable") is module_variable
    assert context_variable(__name__, "nothing", "x") is context_variable(__name__, "nothing", "x")


# What user code sees


def test_refs_ask_the_gate(answers: Answers) -> None:
    """Every method is one question."""
    ref = Ref("shop/c", "Counter")
    answers["tell", "shop/c", "m"] = None
    answers["ask", "shop/c", "m", 2.0] = "reply"
    answers["send", "shop/c", "m"] = 12
    answers["stop", "shop/c", True, None] = True
    answers["alive", "shop/c"] = False

    ref.tell("m")
    assert ref.ask("m", timeout=2.0) == "reply"
    assert ref.ask("m", block=False) == RemoteToken(12)
    assert ref.stop() is True
    assert ref.is_alive() is False
    assert repr(ref) == "<ActorRef for Counter (shop/c)>"
    assert not answers


def test_refs_are_equal_by_their_path() -> None:
    """So are proxies by ref and path, and tokens by id."""
    assert Ref("a", "X") == Ref("a", "Y") != Ref("b")
    assert len({Ref("a"), Ref("a"), Ref("b")}) == 2
    assert Ref("a").proxy() == Proxy(Ref("a")) != Ref("a").proxy().part
    assert len({Proxy(Ref("a")), Ref("a").proxy()}) == 1
    assert RemoteToken(1) == RemoteToken(1) != RemoteToken(2)
    assert len({RemoteToken(1), RemoteToken(1)}) == 1


def test_a_proxy_calls_reads_and_writes(answers: Answers) -> None:
    """An attribute is read when its value is first used; a call is sent at once."""
    proxy = Ref("c").proxy()
    answers["call", "c", ("add",), (1,), ()] = 5
    answers.clear()

    class Frozen(dict[str, Any]):
        def __hash__(self) -> int:  # type: ignore[override]
            return 0

    answers["call", "c", ("add",), (1,), Frozen(by=2)] = 5
    answers["call", "c", ("add",), (2,), Frozen()] = 7
    answers["defer", "c", ("part", "add"), (), Frozen()] = None
    answers["set", "c", ("part", "value"), 3] = None

    def look_up(item: Any) -> Any:
        return answers.pop(tuple(Frozen(one) if isinstance(one, dict) else one for one in item))

    current_worker.connection.ask = look_up  # type: ignore[union-attr, method-assign]
    assert proxy.add(1, by=2) == RemoteToken(5)
    assert Ref("c").do(set.add, 2) == RemoteToken(7)
    proxy.part.add.defer()
    proxy.part.value = 3
    value = proxy.value
    answers["get", "c", ("value",)] = 6
    answers["result", 6, None] = 42

    assert value.get() == 42
    assert value.result() == 42
    assert (value.id, value.done(), value.exception()) == (6, True, None)
    assert not answers
    with pytest.raises(AttributeError, match="private"):
        proxy._hidden  # noqa: B018


def test_tokens_wait_for_their_outcome(answers: Answers) -> None:
    """And ask for it once."""
    token = RemoteToken(9)
    answers["done", 9] = False
    answers["cancel", 9] = True
    answers["result", 9, 1.0] = "value"

    assert token.done() is False
    assert token.cancel() is True
    assert token.get(timeout=1.0) == "value"
    assert (token.result(), token.done(), token.exception()) == ("value", True, None)


def test_the_exception_of_a_token_is_returned(answers: Answers) -> None:
    """A wait that was too short raises, a token that has ended with such an error does not."""
    token = RemoteToken(9)
    answers["result", 9, None] = failed = ValueError("no")
    assert token.exception() is failed
    answers["result", 9, 0.1] = childs.WaitTimeout("late")
    answers["done", 9] = False
    with pytest.raises(childs.WaitTimeout):
        token.exception(0.1)
    answers["result", 9, 0.1] = ended = childs.WaitTimeout("its own")
    answers["done", 9] = True

    assert token.exception(0.1) is ended


def test_operations_are_called_submitted_and_mapped(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the options that they have."""
    asked: list[Any] = []

    def ask(item: Any) -> int:
        asked.append(item)
        return len(asked)

    current_worker.connection.ask = ask  # type: ignore[union-attr, method-assign]
    operation = Operation(3, "resize", 1, {"a": "b"})
    urgent = operation.with_options(priority=9, tags={"c": "d"})

    assert operation(1, by=2) == 1
    assert operation.call(1) == 2
    assert urgent.submit(5) == RemoteToken(3)
    assert operation.map([1, 2], [3, 4]) == [RemoteToken(4), RemoteToken(5)]
    assert asked == [
        ("direct", 3, (1,), {"by": 2}, 1, {"a": "b"}, None),
        ("direct", 3, (1,), {}, 1, {"a": "b"}, None),
        ("submit", 3, (5,), {}, 9, {"a": "b", "c": "d"}, None),
        ("submit", 3, (1, 3), {}, 1, {"a": "b"}, None),
        ("submit", 3, (2, 4), {}, 1, {"a": "b"}, None),
    ]
    assert Operation(3, "resize").with_options(priority=2)._options == (2, None, None)
    assert (operation.__name__, repr(operation)) == ("resize", "<Operation resize>")


def test_an_actor_has_timers_and_watches(answers: Answers) -> None:
    """The gate keeps them; each has a number here."""
    actor = ProcessActor.__new__(ProcessActor)
    actor._path = "shop/c"
    answers["self_stop",] = None
    answers["send_after", 1.5, "tick"] = 1
    answers["send_every", 2, "tock"] = 2
    answers["receive_timeout", None] = None
    answers["watch", "other"] = 3
    answers["cancel_timer", 1] = True
    answers["cancel_timer", 2] = False
    answers["unwatch", 3] = True

    actor.stop()
    assert actor.send_after(1.5, "tick").cancel() is True
    assert actor.send_every(2, "tock").cancel() is False
    actor.receive_timeout(None)
    assert actor.watch(Ref("other")).cancel() is True
    assert not answers
    with pytest.raises(TypeError, match="can watch an ActorRef, got 'other'"):
        actor.watch("other")  # type: ignore[arg-type]


def test_outside_of_any_call_there_is_no_current_token(answers: Answers) -> None:
    """The gate is not asked for it."""
    assert current_token() is None
    assert not answers


def test_limits_can_be_carried() -> None:
    """A class that has them as an attribute needs nothing of the gate's for that."""
    limits = Limits(memory=5, wall_time=1.5)

    assert limits == Limits(5, None, None, 1.5) != Limits(6)
    assert repr(limits) == "Limits(memory=5, address_space=None, cpu_time=None, wall_time=1.5)"
    assert len({limits, Limits(5, None, None, 1.5)}) == 1


def test_values_of_the_runtime_are_equal_by_what_they_say() -> None:
    """As the gate's are."""
    down = Down(Ref("a"), "a", ExitReason("normal"), True)

    assert down == Down(Ref("a"), "a", ExitReason("normal"), True) != Down(Ref("a"), "a", ExitReason("killed"), True)
    assert len({down, Down(Ref("a"), "a", ExitReason("normal"), True)}) == 1
    assert ReceiveTimeout(1) == ReceiveTimeout(1) != ReceiveTimeout(2)
    assert len({ReceiveTimeout(1), ReceiveTimeout(1)}) == 1
    assert ExitReason("normal").orderly
    assert not ExitReason("error", ValueError()).orderly
    assert "reason=<ExitReason normal>" in repr(down)
    assert repr(ReceiveTimeout(1)) == "ReceiveTimeout(seconds=1)"
