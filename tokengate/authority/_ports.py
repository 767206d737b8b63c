"""What the parts of this room ask of the door."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from actors import ActorSystem
from tokengate.authority._freeze import Freeze
from tokengate.authority._grants import Rights
from tokengate.authority._proposals import Needs, Proposal, Proposals, State
from tokengate.authority._recorder import Recorder
from tokengate.control._admission import Admission, Caller, Closable
from tokengate.control._exceptions import Refused
from tokengate.control.messages import Change, Message


class Door(Protocol):
    """The door of a gate; `Authority` is it, and says what its methods do."""

    system: ActorSystem
    rights: Rights
    proposals: Proposals
    freeze: Freeze
    recorder: Recorder

    @property
    def clock(self) -> Callable[[], float]: ...
    async def admit_for(self, message: Message[Any], caller: Caller, proposal: Proposal | None = None) -> Admission: ...
    def right_of(self, message: Message[Any]) -> str: ...
    def is_bulk(self, message: Change[Any], tokens: int) -> bool: ...
    def propose(
        self,
        message: Change[Any],
        caller: Caller,
        ids: tuple[int, ...],
        *,
        path: str = "",
        selector: str = "",
        needs: Needs = "nothing",
        consent: Callable[[State], object] | None = None,
    ) -> Proposal: ...
    def refused(self, caller: Caller, message: Message[Any], why: str) -> Refused: ...
    async def intend(self, admission: Admission, ids: Sequence[int]) -> int | None: ...
    def conclude(self, admission: Any, intent: int, answer: object, error: BaseException | None) -> None: ...
    def watch(self, stream: Closable, admission: Any) -> None: ...
