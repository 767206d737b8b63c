"""A plugin, declared as those of users are: it counts how the tokens of each operation have ended.

`docs/plugins.md` shows the code.
"""

from __future__ import annotations

from collections import deque
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar

import attrs
from msgspec import Meta

from tokengate import ActorRef, ChildSpec, CpuActor, Gate, Token
from tokengate.control.messages import Listing, OnOne
from tokengate.control.registry import Facade, Kind, Plugin, asks, register
from tokengate.errors import BadRequest
from tokengate.types import Observer


@attrs.frozen
class TallyRow:
    operation: str
    completed: int = 0
    failed: int = 0
    frozen: bool = False


@attrs.frozen
class Tallies(Listing[TallyRow]):
    """Show how the tokens of each operation have ended."""


@attrs.frozen
class ResetTally(OnOne[TallyRow]):
    """Count an operation from zero again."""

    examples: ClassVar = ("tally reset resize", "tally reset resize --at 100")
    at: Annotated[int, Meta(ge=0, description="Where to begin.")] = attrs.field(default=0, kw_only=True)


@attrs.frozen
class FreezeTally(OnOne[TallyRow]):
    """Count an operation no more until it is reset."""


register(Kind("tally", TallyRow, Tallies, (ResetTally, FreezeTally), plugin="Tally()"))


class TallyVerbs(Facade):
    reset = asks(ResetTally)
    freeze = asks(FreezeTally)
    all = asks(Tallies)


class Tally(Plugin, Observer):
    def __init__(self) -> None:
        self._ended: deque[tuple[str, str]] = deque()  # operations, and the states of their tokens

    @property
    def verbs(self) -> TallyVerbs:
        return TallyVerbs(self.gate.control)

    def observer(self, gate: Gate, /) -> Observer:
        return self

    def token_finished(self, token: Token[Any], /) -> None:
        if "." not in token.operation:  # a call of an actor is `Class.method`
            self._ended.append((token.operation, str(token.state)))

    def child(self, gate: Gate, /) -> ChildSpec:
        return ChildSpec("tallies", TallyActor, args=(self._ended,))

    def answers(self, gate: Gate, /) -> object:
        return TallyAnswers(gate.find("$system/plugins/tallies"))


class TallyAnswers:
    """Has a method for each verb; the actor does the work."""

    def __init__(self, ref: ActorRef[Any]) -> None:
        self._ref = ref

    async def tallies(self, message: Tallies) -> tuple[TallyRow, ...]:
        rows: tuple[TallyRow, ...] = await self._ref.call(message)
        return rows

    async def reset_tally(self, message: ResetTally) -> TallyRow:
        row: TallyRow = await self._ref.call(message)
        return row

    async def freeze_tally(self, message: FreezeTally) -> TallyRow:
        row: TallyRow = await self._ref.call(message)
        return row


class TallyActor(CpuActor):
    """Counts; a message that it does not know crashes it, and its restart counts from zero."""

    expected = (BadRequest,)
    guard = "never"

    def __init__(self, ended: deque[tuple[str, str]]) -> None:
        super().__init__()
        self._ended = ended
        self._rows: dict[str, TallyRow] = {}

    def on_receive(self, message: object) -> Any:
        self._count()
        match message:
            case Tallies(select):
                rows = sorted(self._rows.values(), key=lambda row: row.operation)
                return tuple(row for row in rows if fnmatchcase(row.operation, select or "*"))
            case ResetTally(name):
                self._rows[name] = TallyRow(self._known(name).operation, completed=message.at)
                return self._rows[name]
            case FreezeTally(name):
                self._rows[name] = attrs.evolve(self._known(name), frozen=True)
                return self._rows[name]
        raise TypeError(f"{message!r} is no message for tallies")

    def _count(self) -> None:
        while self._ended:
            operation, state = self._ended.popleft()
            row = self._rows.setdefault(operation, TallyRow(operation))
            if not row.frozen and hasattr(row, state):
                self._rows[operation] = attrs.evolve(row, **{state: getattr(row, state) + 1})

    def _known(self, name: str) -> TallyRow:
        if name not in self._rows:
            raise BadRequest(f"no operation is called '{name}'; 'tokengate tallies' lists them")
        return self._rows[name]
