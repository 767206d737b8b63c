"""Commands: methods of actors that operators may call, and no others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Annotated, Any

import attrs
import msgspec
import pykka
import pytest
import trio
from gated_code import LIMIT, Door

from actors import DeadlockError, Token, UnknownActor
from tokengate import AsyncioActor, CpuActor, Gate, IoActor, ProcessActor, Secret, current_token
from tokengate.control import messages as m
from tokengate.control._exceptions import BadRequest, NotSteerable
from tokengate.control.transport._client import ControlClient
from tokengate.types import command

Doors = Callable[[], Door]
Until = Callable[[Callable[[], bool]], None]


class OfCpu(CpuActor):
    @command
    def restock(self, item: str, count: int = 1) -> dict[str, int]:
        return {item: count}


class Pinned(OfCpu):
    dispatcher = "pinned"


class InSteps(CpuActor):
    @command
    def restock(self, item: str, count: int = 1) -> Any:
        yield
        return {item: count}


class OfIo(IoActor):
    @command
    async def restock(self, item: str, count: int = 1) -> dict[str, int]:
        await trio.lowlevel.checkpoint()
        return {item: count}


class OfAsyncio(AsyncioActor):
    @command
    async def restock(self, item: str, count: int = 1) -> dict[str, int]:
        await asyncio.sleep(0)
        return {item: count}


class OfProcess(ProcessActor):
    @command
    def restock(self, item: str, count: int = 1) -> dict[str, int]:
        return {item: count}


class InStepsOfProcess(ProcessActor):
    @command
    def restock(self, item: str, count: int = 1) -> Any:
        yield
        return {item: count}


class OfPykka(pykka.ThreadingActor):
    @command
    def restock(self, item: str, count: int = 1) -> dict[str, int]:
        return {item: count}


KINDS = [OfCpu, Pinned, InSteps, OfIo, OfAsyncio, OfProcess, InStepsOfProcess, OfPykka]


@pytest.mark.parametrize("cls", KINDS)
def test_a_command_of_every_kind_of_actor_is_a_token_with_an_answer(cls: type[Any], gate: Gate) -> None:
    """Arguments by position and by name, checked by the annotations; the answer has the result."""
    ref = gate.spawn(cls, name="inventory")
    called = gate.control.call("inventory", "restock", "tea", count=5)

    assert called.state == "completed", called
    assert (called.actor, called.type, called.size, called.value) == (ref.path, "dict", 1, {"tea": 5})
    assert called.error == ""


@pytest.mark.parametrize("cls", KINDS)
def test_what_is_no_command_is_not_reached_in_any_kind_of_actor(cls: type[Any], gate: Gate) -> None:
    """Neither its hooks nor what its base class has."""
    gate.spawn(cls, name="inventory")
    for name in ("on_receive", "on_start", "stop", "actor_ref", "__init__", "__class__", "restock.__call__", "", "x"):
        with pytest.raises(NotSteerable, match=r"its commands are: restock$"):
            gate.control.call("inventory", name)


class Base(CpuActor):
    @command
    def inherited(self) -> str:
        return "inherited"

    @command
    def overridden(self) -> str:
        return "overridden"

    @command
    def marked_again(self) -> str:
        return "of the base"

    @command
    def hidden(self) -> str:
        return "of the class"

    def unmarked(self) -> str:
        raise AssertionError

    @property
    def readable(self) -> str:
        raise AssertionError

    @staticmethod
    @command
    def static() -> str:
        raise AssertionError

    @classmethod
    @command
    def of_class(cls) -> str:
        raise AssertionError


class Derived(Base):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = self.unmarked  # type: ignore[method-assign]
        self.added = command(lambda: "added")
        self.restock = print

    def overridden(self) -> str:
        raise AssertionError

    @command
    def marked_again(self) -> str:
        return "of the derived class"

    marked_by_hand = "no function"


class DerivedInProcess(ProcessActor):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = self.unmarked  # type: ignore[method-assign]

    @command
    def hidden(self) -> str:
        return "of the class"

    def unmarked(self) -> str:
        raise AssertionError


def test_a_mark_is_inherited_with_its_method_only(gate: Gate) -> None:
    """A method that overrides a command needs its own."""
    gate.spawn(Derived, name="derived")
    call = gate.control.call

    assert call("derived", "inherited").value == "inherited"
    assert call("derived", "marked_again").value == "of the derived class"
    for name in ("overridden", "unmarked", "readable", "static", "of_class", "added", "restock", "marked_by_hand"):
        with pytest.raises(NotSteerable, match=f"has no command '{name}'; its commands are: hidden, inherited, marked"):
            call("derived", name)


@pytest.mark.parametrize("cls", [Derived, DerivedInProcess])
def test_an_attribute_of_the_instance_does_not_stand_in_for_a_command(cls: type[Any], gate: Gate) -> None:
    """The method of the class runs, on any side of a process boundary."""
    gate.spawn(cls, name="derived")

    assert gate.control.call("derived", "hidden").value == "of the class"


def test_a_command_that_is_taken_from_the_class_is_not_found_when_its_turn_comes(gate: Gate, door: Door) -> None:
    """It is looked up again, by its mark, when the token runs."""

    class Changing(CpuActor):
        def wait(self) -> None:
            door.pass_through()

        @command
        def late(self) -> str:
            raise AssertionError

    ref = gate.spawn(Changing, name="changing")
    busy = ref.proxy().wait()
    door.wait_reached()
    called = gate.control.ask(m.Call("changing", "late", wait=0.0))
    sent = gate._system.live[called.token]
    Changing.late = lambda self: "unmarked"  # type: ignore[method-assign]
    door.open()
    busy.result(LIMIT)

    assert called.state == "queued"
    with pytest.raises(AttributeError, match="Changing has no command 'late'"):
        sent.result(LIMIT)


# --- Arguments --------------------------------------------------------------------------------------------------------


@attrs.frozen
class Order:
    item: str
    count: int = 1


class Checked(CpuActor):
    seen: Any = None

    @command
    def take(
        self,
        number: int = 0,
        /,
        few: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1,
        *rest: float,
        order: Order | None = None,
        flag: bool = False,
        names: list[str] | None = None,
        code: str = "",
        untyped=None,
        key: Secret[str] = Secret(""),  # noqa: B008
        **options: int,
    ) -> None:
        type(self).seen = {name: value for name, value in locals().items() if name != "self"}

    @command
    def nothing(self) -> None: ...

    @command
    def unreadable(self, value: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    @command
    def unknown(self, value: threading.Event) -> None: ...


@pytest.fixture
def take(gate: Gate) -> Callable[..., Any]:
    """Call it with arguments, and return what came."""
    gate.spawn(Checked, name="checked")

    def call(*args: Any, text: bool = False, **kwargs: Any) -> Any:
        called = gate.control.ask(m.Call("checked", "take", args, kwargs, text=text))
        assert called.state == "completed", called
        return Checked.seen

    return call


def test_arguments_are_what_the_annotations_say(take: Callable[..., Any]) -> None:
    """Of every kind of parameter."""
    seen = take(7, 2, 1, 2.5, order={"item": "tea"}, flag=True, names=["a"], untyped={"a": [1]}, key="k", more=3)

    assert seen["number"] == 7
    assert (seen["few"], seen["rest"]) == (2, (1.0, 2.5))
    assert (seen["order"], seen["flag"], seen["names"]) == (Order("tea"), True, ["a"])
    assert (seen["untyped"], seen["key"], seen["options"]) == ({"a": [1]}, Secret("k"), {"more": 3})


def test_arguments_of_a_command_line_are_read_as_the_annotations_want(take: Callable[..., Any]) -> None:
    """As text if text is wanted, however it looks; else as a plain value, or as JSON."""
    seen = take("-7", "2", "1.5", order='{"item": "tea"}', flag="true", names='["a"]', code="5", untyped="5", text=True)

    assert (seen["number"], seen["few"], seen["rest"]) == (-7, 2, (1.5,))
    assert (seen["order"], seen["flag"], seen["names"]) == (Order("tea"), True, ["a"])
    assert (seen["code"], seen["untyped"]) == ("5", "5")


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        (("5",), {}, "'number' of 'take' of 'checked': Expected `int`, got `str`"),
        ((1, 9), {}, "'few' of 'take' of 'checked': Expected `int` <= 5"),
        ((1, 1, "x"), {}, "'rest' of 'take' of 'checked': Expected `float`, got `str`"),
        ((), {"order": {}}, "'order' .*missing required field `item`"),
        ((), {"more": "x"}, "'options' .*Expected `int`, got `str`"),
        ((), {"key": 5}, "'key' of 'take' of 'checked': Expected `str`, got `int`"),
        ((), {"untyped": object()}, "not of JSON's types"),
        ((), {"untyped": Secret("canary")}, "not of JSON's types: Encoding objects of type Secret is unsupported"),
        ((), {"untyped": "\ud800"}, "not of JSON's types"),
    ],
)
def test_arguments_that_do_not_fit_are_an_error_that_names_them(
    args: tuple[Any, ...], kwargs: dict[str, Any], words: str, gate: Gate
) -> None:
    """Nothing runs, and no value is in the error."""
    Checked.seen = None
    gate.spawn(Checked, name="checked")
    with pytest.raises(BadRequest, match=words) as caught:
        gate.control.call("checked", "take", *args, **kwargs)

    assert Checked.seen is None
    assert "canary" not in str(caught.value)


def test_the_number_of_arguments_must_fit(gate: Gate) -> None:
    """The error names the parameters."""
    gate.spawn(Checked, name="checked")
    with pytest.raises(BadRequest, match=r"do not fit: too many positional arguments; its parameters are: none"):
        gate.control.call("checked", "nothing", 1)
    with pytest.raises(BadRequest, match=r"do not fit: missing a required argument: 'value'; its param.* are: value"):
        gate.control.call("checked", "unknown")


def test_annotations_that_cannot_check_are_an_error_of_the_class(gate: Gate) -> None:
    """Its operator can do nothing about it."""
    gate.spawn(Checked, name="checked")
    with pytest.raises(NotSteerable, match="the annotations of 'unreadable' of 'checked' cannot be read: NameError"):
        gate.control.call("checked", "unreadable", 1)
    with pytest.raises(BadRequest, match="'value' of 'unknown' of 'checked': Expected `Event`, got `int`"):
        gate.control.call("checked", "unknown", 1)


# --- Answers ----------------------------------------------------------------------------------------------------------


class Widget: ...


class Answering(CpuActor):
    expected = (LookupError,)

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    @command
    def get(self) -> Any:
        return self.value

    @command
    def fail(self) -> None:
        raise LookupError("no tea")

    @command
    def who(self) -> Any:
        running = current_token()
        assert running is not None
        return [running.id, running.parent, running.operation]

    @command
    def ask_itself(self, gate: Any) -> None: ...

    def ask(self, gate: Gate) -> str:
        try:
            gate.control.call("answering", "get")
        except DeadlockError as error:
            return str(error)
        raise AssertionError

    def wait(self, door: Door) -> None:
        door.pass_through()

    @command(consent="approval")
    def burn(self) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("value", "kind", "size", "said"),
    [
        (None, "NoneType", None, None),
        ([1, "a", {"b": None}], "list", 3, [1, "a", {"b": None}]),
        ((1, 2), "tuple", 2, [1, 2]),
        (Order("tea"), "Order", None, {"item": "tea", "count": 1}),
        (Widget(), "Widget", None, None),
        (Secret("canary"), "Secret", None, None),
        ([Widget()], "list", 1, None),
        ("x" * 2**20, "str", 2**20, None),
        (1 << 90, "int", None, 1 << 90),
    ],
)
def test_the_answer_is_the_result_as_json_or_its_type_and_size(
    value: Any, kind: str, size: int | None, said: Any, gate: Gate
) -> None:
    """One without a form in JSON, or a very long one, has no value."""
    gate.spawn(Answering, value, name="answering")
    called = gate.control.call("answering", "get")

    assert (called.type, called.size, called.value) == (kind, size, said)


def test_the_error_of_a_command_is_in_the_answer(gate: Gate) -> None:
    """Its class and text; the actor handles it as any error of its code."""
    gate.spawn(Answering, None, name="answering")
    called = gate.control.call("answering", "fail")

    assert (called.state, called.type, called.error) == ("failed", "", "LookupError: no tea")


def test_a_command_that_has_not_ended_is_answered_by_its_token(gate: Gate, door: Door) -> None:
    """It goes on, and can be steered as any other."""
    ref = gate.spawn(Answering, 5, name="answering")
    ref.proxy().wait(door)
    door.wait_reached()
    called = gate.control.ask(m.Call("answering", "get", wait=0.0))
    sent: Token[Any] = gate._system.live[called.token]
    described = gate.control.describe(called.token)
    door.open()

    assert (called.state, called.type, called.error) == ("queued", "", "")
    assert described.row.operation == "Answering.get"
    assert sent.result(LIMIT) == 5


def test_a_command_belongs_to_no_other_token(gate: Gate) -> None:
    """It is that of an operator, though code of the process may have asked for it."""
    gate.spawn(Answering, None, name="answering")
    called = gate.control.call("answering", "who")

    assert called.value == [called.token, None, "Answering.who"]


def test_an_actor_that_calls_its_own_command_and_waits_is_told_so(gate: Gate) -> None:
    """It would wait for itself."""
    ref = gate.spawn(Answering, None, name="answering")

    assert "asks for it to be called" in ref.proxy().ask(gate).result(LIMIT)


def test_a_command_that_needs_consent_is_answered_before_it_runs(gate: Gate) -> None:
    """It waits for another person; tests/tokengate/authority has the rest."""
    gate.spawn(Answering, None, name="answering")
    called = gate.control.actor("answering").call.burn()
    assert (called.state, called.proposal) == ("queued", 1)


def test_commands_of_what_may_not_be_changed_are_refused(gate: Gate) -> None:
    """Of actors with the guard `never`, of the runtime's own, and of what is no actor."""
    gate.spawn(type("Kept", (Answering,), {"guard": "never"}), None, name="kept")
    for name, error in (("kept", NotSteerable), ("$system/control", NotSteerable), ("nobody", UnknownActor)):
        with pytest.raises(error):
            gate.control.call(name, "get")


def test_a_handle_has_the_commands_of_its_actor(gate: Gate) -> None:
    """As methods."""
    gate.spawn(OfCpu, name="inventory")

    assert gate.control.actor("inventory").call.restock("tea", count=5).value == {"tea": 5}


def test_commands_can_be_awaited(gate: Gate) -> None:
    """From trio and asyncio."""
    gate.spawn(OfCpu, name="inventory")

    async def main() -> m.Called:
        called: m.Called = await gate.control.aio.call("inventory", "restock", "tea")
        return called

    assert trio.run(main).value == asyncio.run(main()).value == {"tea": 1}


def test_a_command_comes_through_the_socket(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With text, as the command line sends it, or with JSON values; the answer is the same."""
    monkeypatch.setenv("TOKENGATE_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    with Gate("shop", shutdown=LIMIT) as gate:
        gate.spawn(OfCpu, name="inventory")
        assert gate._control_server is not None
        assert gate._control_server.path is not None
        with ControlClient(gate._control_server.path, LIMIT) as client:
            answers = [
                client.ask(m.Call("inventory", "restock", ("tea", "5"), text=True)),
                client.ask(m.Call("inventory", "restock", ("tea",), {"count": 5})),
            ]
            with pytest.raises(BadRequest, match="'count' of 'restock' of 'inventory': Expected `int`, got `str`"):
                client.ask(m.Call("inventory", "restock", ("tea", "5")))
            with pytest.raises(NotSteerable, match=r"has no command 'on_stop'; its commands are: restock$"):
                client.ask(m.Call("inventory", "on_stop"))

    assert [called.value for called in answers] == [{"tea": 5}, {"tea": 5}]


# --- The mark ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (property(lambda self: None), "this is a property"),
        (staticmethod(len), "this is a staticmethod"),
        (len, "this is a builtin_function_or_method"),
        (Widget, "this is a type"),
    ],
)
def test_only_a_method_can_be_marked(method: Any, words: str) -> None:
    """What is no function has no annotations to go by."""
    with pytest.raises(TypeError, match=words):
        command(method)


def test_a_private_method_cannot_be_marked() -> None:
    """Operators call it by its name."""

    def _hidden() -> None: ...

    with pytest.raises(TypeError, match="is private; rename it"):
        command(_hidden)


def test_the_consent_is_one_of_two() -> None:
    """Another word is an error at once."""
    with pytest.raises(TypeError, match='must be "none" or "approval"'):
        command(consent="anybody")  # type: ignore[call-overload]
