"""Properties: what an actor class declares for its tokens."""

from __future__ import annotations

from typing import Any

import pykka
import pytest

from actors import ActorSystem, AsyncioActor, BaseActor, CpuActor, IoActor, ProcessActor
from actors.lowlevel import Properties, checked_properties, cpu_actor_class
from actors.places._actor import declared_properties

KINDS = [CpuActor, IoActor, AsyncioActor, ProcessActor, pykka.ThreadingActor]


def properties_of(cls: type[Any]) -> Properties:
    return declared_properties(cls if issubclass(cls, BaseActor) else cpu_actor_class(cls))


def declared(base: type[Any], *mixins: type, **attributes: Any) -> type[Any]:
    return type("Ledger", (*mixins, base), attributes)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def base(request: pytest.FixtureRequest) -> type[Any]:
    chosen: type[Any] = request.param
    return chosen


def test_nothing_is_guarded_shown_or_run_twice_unless_it_is_declared(base: type[Any]) -> None:
    """A class without properties has the defaults."""
    found = properties_of(declared(base))

    assert (found.guard, found.show, found.idempotent) == ("none", frozenset(), False)


def test_a_class_declares_properties_and_its_subclasses_inherit_them(base: type[Any]) -> None:
    """As class attributes."""
    found = properties_of(declared(declared(base, guard="approval", show=["card"], idempotent=True)))

    assert (found.guard, found.show, found.idempotent) == ("approval", frozenset({"card"}), True)


def test_a_method_with_the_name_of_a_property_is_a_method(base: type[Any]) -> None:
    """Also one of a mixin; what a base class declares holds on."""

    class Screen:
        def show(self) -> None: ...

        @property
        def guard(self) -> str:
            return "none"

        @classmethod
        def redact(cls) -> None: ...

    assert properties_of(declared(declared(base, guard="force", show="*"), Screen)).guard == "force"
    assert properties_of(declared(base, Screen)).show == frozenset()


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"guard": "forced"}, r"guard of 'Ledger' is 'forced'; choose one of \('none', 'force', 'approval', 'never'\)"),
        ({"guard": None}, "guard of 'Ledger' is None"),
        ({"guard": ["force"]}, "guard of 'Ledger' is"),
        ({"guard": True}, "guard of 'Ledger' is True"),
        ({"show": "card"}, r"show of 'Ledger' is 'card'; it must hold names .*, or be '\*' for all"),
        ({"show": True}, "show of 'Ledger' is True"),
        ({"show": ("a", 1)}, r"show of 'Ledger' is \('a', 1\)"),
        ({"show": None}, "show of 'Ledger' is None"),
        ({"idempotent": 1}, "idempotent of 'Ledger' is 1; it must be True or False"),
        ({"protected": True}, "class Ledger has 'protected', .*guard='force'"),
        ({"protected": False}, "class Ledger has 'protected'"),
        ({"controllable": False}, "class Ledger has 'controllable', .*guard='never'"),
        ({"show_arguments": True}, r"class Ledger has 'show_arguments', .*show='\*'"),
        ({"redact": ("card",)}, "class Ledger has 'redact', .*show"),
    ],
)
def test_what_cannot_be_a_property_is_an_error_when_an_actor_is_made(
    base: type[Any], attributes: dict[str, Any], said: str
) -> None:
    """It names the class, the attribute, the value and what to write: no actor is less guarded than its class says."""
    cls = declared(base, **attributes)
    system = ActorSystem("unopened", threads=2)

    with pytest.raises(ValueError, match=said):
        system.place("ledger", cls if issubclass(cls, BaseActor) else cpu_actor_class(cls))


def test_names_are_exactly_text() -> None:
    """To compare them runs no code of a subclass of `str`."""

    class Name(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            raise AssertionError

        __hash__ = str.__hash__

    [name] = checked_properties("resize", "none", (Name("size"),), idempotent=False).show

    assert type(name) is str
