"""Nouns of plugins: what their declaration must say, and what each way to a gate makes of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar, Literal

import attrs
import pytest
import trio
from msgspec import Meta
from tallies import FreezeTally, ResetTally, Tallies, Tally, TallyRow

from tokengate import Gate, token
from tokengate.control import ControlClient, find_gate
from tokengate.control.messages import Listing, Message, OnOne
from tokengate.control.registry import Kind, register
from tokengate.control.registry._kinds import answers_of, kinds
from tokengate.control.registry._verbs import unchecked_in
from tokengate.errors import BadRequest, StartFailed, UnknownVerb

MISSING = "this gate runs without Tally, which 'tallies' needs; open it with plugins=[Tally()]"


@token
def resize(size: int) -> float:
    return 1 / size


Until = Callable[[Callable[[], bool]], None]


@pytest.fixture
def gate(until: Until) -> Iterator[Gate]:
    """A gate whose plugin has counted one call that completed, and one that failed."""
    with Gate("tallied", plugins=[Tally()]) as opened:
        resize.submit(1).result(60)
        resize.submit(0).exception(60)
        until(lambda: len(opened.plugin(Tally)._ended) == 2)
        yield opened


def test_verbs_of_a_plugin_are_typed_methods_of_the_plugin_object(gate: Gate) -> None:
    tally = gate.plugin(Tally)

    assert tally.verbs.all() == (TallyRow("resize", completed=1, failed=1),)
    assert tally.verbs.reset("resize", at=4) == TallyRow("resize", completed=4)
    assert tally.verbs.freeze("resize").frozen
    assert tally.verbs.all("other*") == ()


def test_the_text_and_the_signature_of_a_method_are_those_of_its_message(gate: Gate) -> None:
    reset = gate.plugin(Tally).verbs.reset

    assert (reset.__doc__ or "").startswith(
        "Count an operation from zero again.\n\n"
        "Args:\n    name: its name, as the list has it.\n    at: where to begin.\n    reason: "
    )


def test_an_actor_of_a_plugin_that_crashes_answers_again(gate: Gate, until: Until) -> None:
    """Its ref, and what answers its verbs, outlive the instance."""
    assert len(gate.plugin(Tally).verbs.all()) == 1
    with pytest.raises(TypeError, match="'nonsense' is no message"):
        gate.find("$system/plugins/tallies").ask("nonsense")

    assert gate.plugin(Tally).verbs.all() == ()
    resize.submit(2).result(60)
    until(lambda: gate.plugin(Tally).verbs.all() == (TallyRow("resize", completed=1),))


def test_verbs_of_a_plugin_go_through_the_socket(gate: Gate) -> None:
    """They are checked by their declaration, and their errors come back as what they are."""
    with ControlClient(find_gate("tallied").path) as client:
        assert client.ask(Tallies()) == (TallyRow("resize", completed=1, failed=1),)
        assert client.ask(ResetTally("resize", at=2)) == TallyRow("resize", completed=2)
        with pytest.raises(BadRequest, match="no operation is called 'fetch'"):
            client.ask(FreezeTally("fetch"))
        with pytest.raises(BadRequest, match="at is -1; it must be an int of at least 0"):
            client.ask(ResetTally("resize", at=-1))


def test_messages_of_a_plugin_can_be_asked_and_awaited(gate: Gate) -> None:
    async def awaited() -> tuple[TallyRow, ...]:
        return await gate.control.aio.ask(Tallies())

    assert gate.control.ask(ResetTally("resize")) == TallyRow("resize")
    assert trio.run(awaited) == (TallyRow("resize"),)


def test_a_gate_without_the_plugin_says_which_one_it_needs() -> None:
    """In the same words on every way to it."""
    with Gate("bare") as gate:
        with pytest.raises(UnknownVerb) as in_process:
            gate.control.ask(Tallies())
        with pytest.raises(UnknownVerb) as awaited:
            trio.run(gate.control.aio.ask, Tallies())
        with ControlClient(find_gate("bare").path) as client, pytest.raises(UnknownVerb) as by_socket:
            client.ask(Tallies())

    assert {str(one.value) for one in (in_process, awaited, by_socket)} == {MISSING}


# --- Declarations -----------------------------------------------------------------------------------------------------


@attrs.frozen
class LampRow:
    name: str


@attrs.frozen
class Lamps(Listing[LampRow]):
    """List the lamps."""


@attrs.frozen
class LightLamp(OnOne[LampRow]):
    """Light a lamp."""


@attrs.frozen
class Light(OnOne[LampRow]):
    """Light a lamp."""


@attrs.frozen
class DimLamp(OnOne[LampRow]):
    """Dim a lamp."""

    to: int = 0


@attrs.frozen
class Lamp(Listing[LampRow]):
    """List the lamps."""


@attrs.frozen
class SwapLamp(OnOne[LampRow]):
    pass


@attrs.frozen
class PauseLamp(OnOne[LampRow]):
    """Pause a lamp."""

    verb_name: ClassVar = "pause"


class FadeLamp(OnOne[LampRow]):
    """Fade a lamp."""

    by: Annotated[int, Meta(description="How much.")] = 1


def moving(hint: Any) -> type[Message[Any]]:
    """Return a message with a field of some type."""

    made: type[Message[Any]] = attrs.make_class(
        "MoveLamp",
        {"to": attrs.field(type=hint)},
        bases=(OnOne[LampRow],),
        class_body={"__doc__": "Move a lamp.", "__module__": __name__},
        frozen=True,
    )
    return made


@attrs.frozen
class AllLamps(Message[tuple[LampRow, ...]]):
    """List the lamps."""

    right: ClassVar = "view"


def declared(noun: str = "lamp", row: Any = LampRow, rows: Any = Lamps, verbs: Any = ()) -> Kind:
    return Kind(noun, row, rows, verbs, plugin="Lighting()")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (declared("Lamp"), "noun 'Lamp': it must be of small letters, digits and single dashes"),
        (declared(row=str), "noun 'lamp': row is <class 'str'>; it must be an attrs class with the name as"),
        (declared(rows=AllLamps), "noun 'lamp': AllLamps must derive from Listing[LampRow]"),
        (declared(rows=Tallies), "noun 'lamp': Tallies must derive from Listing[LampRow]"),
        (declared(rows=Lamp), "noun 'lamp': Lamp lists several; name it by the plural"),
        (declared(verbs=(Light,)), "noun 'lamp': the name of Light must be a verb and the noun, such as PauseLamp"),
        (declared(verbs=(DimLamp,)), "field 'to' of DimLamp needs Annotated[..., Meta(description=...)]"),
        (declared(verbs=(FadeLamp,)), "FadeLamp has no @attrs.frozen, which makes fields of its annotations"),
        (
            declared(verbs=(moving(Annotated[list[int], Meta(description="Where.")]),)),
            "field 'to' of MoveLamp has the type list[int]; write one of str, int, float, bool, None, Any",
        ),
        (
            declared(verbs=(moving(Annotated[int, Meta(lt=5, description="Where.")]),)),
            "field 'to' of MoveLamp has the bound lt of int; write ge, gt or le, of int or float itself",
        ),
        (
            declared(verbs=(moving(Annotated[int | None, Meta(ge=5, description="Where.")]),)),
            "field 'to' of MoveLamp has the bound ge of int | None; write ge, gt or le, of int or float itself",
        ),
        (declared(verbs=(SwapLamp,)), "SwapLamp has no docstring, which is the help of its verb"),
        (
            declared(verbs=(PauseLamp,)),
            "'pause' is the verb of tokengate.control.messages._tokens.Pause; give PauseLamp",
        ),
        (declared("tally"), "noun 'tally': tallies.Tallies lists another noun of this name; choose a different one"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_declaration_from_which_something_cannot_follow_is_refused(kind: Kind, text: str) -> None:
    """The error names the noun, the class and the remedy; nothing is registered."""
    with pytest.raises(ValueError, match="noun") as raised:
        register(kind)

    assert text in str(raised.value)
    assert "lamp" not in [one.noun for one in kinds()]


def test_each_type_that_the_checks_know_can_be_declared() -> None:
    """Those of the messages that every gate answers, too (see `test_verbs`)."""
    assert not any(map(unchecked_in, (float, Literal["a", "b"], tuple[int, ...], dict[str, Any])))


def test_a_noun_can_be_registered_again_when_its_module_is_loaded_again(gate: Gate) -> None:
    """A gate that is open answers what it answered."""
    (kind,) = (one for one in kinds() if one.noun == "tally")
    register(kind)

    assert [one.noun for one in kinds()].count("tally") == 1
    assert len(gate.control.ask(Tallies())) == 1


def test_words_of_a_noun_with_a_dash() -> None:
    """On the command line and in paths they have dashes, where the verb has underscores."""

    @attrs.frozen
    class RetryDeadLetter(OnOne[LampRow]):
        """Retry it."""

    @attrs.frozen
    class DeadLetters(Listing[LampRow]):
        """List them."""

    kind = Kind("dead-letter", LampRow, DeadLetters, (RetryDeadLetter,), plugin="Journal()")

    assert kind.plural == "dead-letters"
    assert kind.action(RetryDeadLetter) == "retry"


class TallyAlone(Tally):
    """A `Tally` that answers nothing."""

    def answers(self, gate: Gate, /) -> object:
        return None


class TallyAtOnce(Tally):
    """A `Tally` with a method that is not async."""

    def answers(self, gate: Gate, /) -> object:
        answers = super().answers(gate)
        answers.tallies = lambda _message: ()  # type: ignore[attr-defined]
        return answers


@pytest.mark.parametrize(
    ("plugin", "why"), [(TallyAlone, "there is no method"), (TallyAtOnce, "its method is not async")]
)
def test_a_plugin_that_does_not_answer_a_verb_of_its_own_makes_opening_fail(plugin: type[Tally], why: str) -> None:
    """The error says what to write, and where."""
    text = f"no answer for 'tallies', since {why}: write `async def tallies(self, message: Tallies)` in the object of "
    with pytest.raises(StartFailed, match=re.escape(f"{text}answers() of plugin Tally")):
        Gate("shop", plugins=[plugin()]).open()


def test_a_verb_of_every_gate_that_nothing_answers_makes_the_start_of_control_fail() -> None:
    with pytest.raises(TypeError, match=r"write `async def \w+\(self, message: \w+\)` in a class in steering/, or "):
        answers_of((), ())
