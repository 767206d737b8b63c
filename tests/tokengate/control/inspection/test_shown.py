"""What operators see of arguments and attributes: values of those that are named, in every kind of place."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pykka
import pytest

from tokengate import AsyncioActor, CpuActor, Gate, IoActor, ProcessActor, token
from tokengate.control import messages as m

# {what is shown: the values of amount, card, note and pin}
SHOWN: list[tuple[Collection[str], list[str | None]]] = [
    ((), [None, None, None, None]),
    (("amount",), ["5", None, None, None]),
    (["note", "card"], [None, "'1234'", "'gift'", None]),
    ("*", ["5", "'1234'", "'gift'", "'0000'"]),
]
TYPES = [("amount", "int", None), ("card", "str", 4), ("note", "str", 4), ("pin", "str", 4)]


class Till:
    def pay(self, amount: int, card: str, *, note: str, **rest: str) -> None:
        self.amount, self.card, self.note = amount, card, note
        self.pin = rest["pin"]


class Pinned(Till, CpuActor):
    dispatcher = "pinned"


BASES = [
    (Till, CpuActor),
    (Pinned,),
    (Till, IoActor),
    (Till, AsyncioActor),
    (Till, pykka.ThreadingActor),
    (Till, ProcessActor),
]


def pay(amount: int, card: str, *, note: str, **rest: str) -> None: ...


def pay_in_steps(amount: int, card: str, *, note: str, **rest: str) -> Any:
    yield


async def pay_async(amount: int, card: str, *, note: str, **rest: str) -> None: ...


OPERATIONS: list[tuple[Any, Any]] = [
    (pay, "cpu"),
    (pay_in_steps, "cpu"),
    (pay_async, "io"),
    (pay_async, "asyncio"),
    (pay, "process"),
]


def fields(rows: Sequence[Any]) -> tuple[list[tuple[str, str, int | None]], list[str | None]]:
    return [(one.name, one.type, one.size) for one in rows], [one.value for one in rows]


@pytest.mark.parametrize("bases", BASES, ids=lambda bases: bases[-1].__name__)
def test_an_actor_shows_what_it_names(gate: Gate, bases: Any) -> None:
    """Arguments of its tokens, and attributes of its instance; of others there are type and size."""
    for number, (show, values) in enumerate(SHOWN):
        cls = type("Shown", bases, {"__module__": __name__, "show": show})
        name = f"till-{number}"
        till = gate.spawn(cls, name=name).proxy()  # type: ignore[type-var]
        gate.control.suspend(name)
        sent = till.pay(5, "1234", note="gift", pin="0000")

        assert fields(gate.control.describe(sent).arguments) == (TYPES, values)
        gate.control.unsuspend(name)
        sent.result(60)
        state = gate.find("$system/control").ask(m.GetState(name)).attributes
        assert fields(state) == (TYPES, values)
        own = gate.control.get_state(name)
        assert [own[field] for field in ("amount", "card", "note", "pin")] == [5, "1234", "gift", "0000"]


@pytest.mark.parametrize(("function", "affinity"), OPERATIONS)
def test_an_operation_shows_what_it_names(gate: Gate, function: Any, affinity: Any) -> None:
    """By position, by keyword, and in the rest of the keywords."""
    for show, values in SHOWN:
        operation = token(affinity=affinity, show=show)(function)
        first = operation.submit(1, "1", note="n", pin="p")
        first.result(60)
        gate.control.suspend(first.actor)
        sent = operation.submit(5, "1234", note="gift", pin="0000")

        assert fields(gate.control.describe(sent).arguments) == (TYPES, values)
        sent.cancel()


def test_a_plain_message_has_the_name_of_the_parameter_that_takes_it(gate: Gate) -> None:
    """That of `on_receive`."""

    class Box(CpuActor):
        show = ("message",)

        def on_receive(self, message: Any) -> None: ...

    ref = gate.spawn(Box, name="box")
    gate.control.suspend("box")
    sent = ref.ask("hello", block=False)

    assert gate.control.describe(sent).arguments == (m.Argument("message", "str", 5, "'hello'"),)
    gate.control.unsuspend("box")
    sent.result(60)
