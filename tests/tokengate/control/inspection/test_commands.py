"""Commands of actors as `describe_actor` shows them: for forms, and for schemas of other ways in."""

from __future__ import annotations

import gc
import threading
from typing import Annotated, Any, Literal

import attrs
import pytest
import trio
from gated_code import LIMIT
from msgspec import Meta

from tokengate import CpuActor, Gate, ProcessActor, Secret
from tokengate.control.inspection import _commands
from tokengate.control.messages import DescribeActor
from tokengate.control.transport._client import ControlClient
from tokengate.types import command


@attrs.frozen
class Place:
    """Where something stands."""

    shelf: int
    near: Literal["door", "wall"] = "wall"


class Stock(CpuActor):
    @command(consent="approval")
    def restock(self, item: str, count: Annotated[int, Meta(ge=1, le=9)] = 1, *, at: Place | None = None) -> int:
        """Put more of an item there.

        And more text.
        """
        raise NotImplementedError

    @command
    def unlock(self, key: Secret[str], /, *doors: int, **options: bool) -> None:
        raise NotImplementedError

    @command
    def mend(self, tool: threading.Thread, how: Any = None) -> None:
        """Mend it."""

    def count(self) -> int:
        """Be no command."""
        raise NotImplementedError


class Apart(ProcessActor):
    @command
    def restock(self, item: str) -> None:
        """Put it there."""


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(_commands, "_SECONDS", LIMIT)
    with Gate("shop") as opened:
        yield opened


def test_a_command_is_shown_with_the_schema_of_its_arguments(gate: Gate) -> None:
    """By its annotations; the same through the socket."""
    gate.spawn(Stock, name="stock")
    mend, restock, unlock = gate.control.describe_actor("stock").commands

    assert (restock.name, restock.summary, restock.consent) == ("restock", "Put more of an item there.", "approval")
    place = {
        "title": "Place",
        "description": "Where something stands.",
        "type": "object",
        "properties": {"shelf": {"type": "integer"}, "near": {"enum": ["door", "wall"], "default": "wall"}},
        "required": ["shelf"],
    }
    assert restock.parameters == {
        "type": "object",
        "properties": {
            "item": {"type": "string"},
            "count": {"type": "integer", "minimum": 1, "maximum": 9, "default": 1},
            "at": {"anyOf": [{"$ref": "#/$defs/Place"}, {"type": "null"}]},
        },
        "required": ["item"],
        "additionalProperties": False,
        "$defs": {"Place": place},
    }
    assert (unlock.summary, unlock.consent) == ("", "none")
    assert unlock.parameters == {
        "type": "object",
        "properties": {
            "key": {"type": "string", "format": "password", "writeOnly": True, "x-tokengate-args": "one"},
            "doors": {"type": "array", "items": {"type": "integer"}, "x-tokengate-args": "rest"},
        },
        "required": ["key"],
        "additionalProperties": {"type": "boolean"},
    }
    assert mend.parameters["properties"] == {"tool": {}, "how": {}}
    assert gate._control_server is not None
    assert gate._control_server.path is not None
    with ControlClient(gate._control_server.path) as client:
        assert client.ask(DescribeActor("stock")).commands == (mend, restock, unlock)


def test_commands_of_a_process_actor_are_shown_too(gate: Gate) -> None:
    """Its class is known here; an operation has none."""
    gate.spawn(Apart, name="apart")
    [row] = gate.control.describe_actor("apart").commands

    assert (row.name, row.parameters["required"]) == ("restock", ["item"])


def test_annotations_are_read_once_for_each_class_and_not_on_the_loop(gate: Gate) -> None:
    """They may run code of the program."""
    read: list[str] = []

    class Odd(CpuActor):
        @command
        def go(self, way: Any) -> None:
            """Go."""

    class Annotations(dict[str, Any]):
        def get(self, *_: Any) -> Any:
            raise AssertionError

        def items(self) -> Any:
            read.append(threading.current_thread().name)
            return super().items()

    Odd.go.__annotations__ = Annotations(way=int)  # type: ignore[attr-defined]
    for name in ("one", "two"):
        gate.spawn(Odd, name=name)
        [row] = gate.control.describe_actor(name).commands
    assert row.parameters["properties"] == {"way": {"type": "integer"}}
    assert len(read) <= 1
    assert not any("system" in one for one in read)


def test_what_cannot_be_read_has_no_schema(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """An annotation that is nowhere, very long, or takes too long: the command is there all the same."""

    class Broken(CpuActor):
        @command
        def nowhere(self, item: Nothing) -> None:  # type: ignore[name-defined]  # noqa: F821
            """Have an unknown type."""

        @command
        def much(self, item: Annotated[int, Meta(description="x" * 20_000)]) -> None:
            """Have a long description."""

    gate.spawn(Broken, name="broken")
    rows = gate.control.describe_actor("broken").commands
    assert [(one.name, one.parameters) for one in rows] == [
        ("much", {"type": "object"}),
        ("nowhere", {"type": "object"}),
    ]
    assert [one.summary for one in rows] == ["Have a long description.", "Have an unknown type."]

    class Late(CpuActor):
        @command
        def go(self) -> None:
            """Go."""

    over = threading.Event()
    monkeypatch.setattr(_commands, "_SECONDS", 0.01)
    monkeypatch.setattr(_commands, "_rows", lambda _functions: over.wait(LIMIT))
    gate.spawn(Late, name="late")
    [row] = gate.control.describe_actor("late").commands
    over.set()
    assert (row.name, row.summary, row.parameters) == ("go", "", {"type": "object"})


def test_a_class_that_has_gone_is_forgotten() -> None:
    """Its rows are kept no longer than itself."""

    def known() -> int:
        class Gone(CpuActor):
            @command
            def go(self) -> None:
                """Go."""

        assert [one.name for one in trio.run(_commands.commands_shown, Gone)] == ["go"]
        assert id(Gone) in _commands._known
        return id(Gone)

    gone = known()
    gc.collect()

    assert gone not in _commands._known
