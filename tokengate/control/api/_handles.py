"""Handles: tokens and actors as objects with their verbs."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, overload

import attrs

from tokengate.control import messages as m
from tokengate.control.api._actors import ActorVerbs
from tokengate.control.api._answers import Outcomes, Shown
from tokengate.control.api._following import Following, Source
from tokengate.control.api._question import Blocking, Question
from tokengate.control.api._supervisors import SupervisorVerbs
from tokengate.control.api._tokens import TokenVerbs
from tokengate.control.messages import (
    KEEP,
    ActorOutcome,
    ActorRow,
    ChildRow,
    Identified,
    Mode,
    Stream,
    TokenDescription,
    TokenPage,
    TokenRow,
    TokenStack,
)


class HandleControl(TokenVerbs, ActorVerbs, SupervisorVerbs, Blocking):
    """The control that sends the verbs of handles; `Control` is one."""

    _follow: Callable[[Stream], Source]


class _Steerable(Shown):
    """The verbs of one token or several: they act on these ids, even if a selector matches others by now."""

    __slots__ = ()

    _control: HandleControl

    @property
    @abc.abstractmethod
    def ids(self) -> tuple[int, ...]:
        """The ids of the tokens."""

    def pause(
        self, *, force: bool = False, stop_clock: bool = False, wait: float | None = None, dry_run: bool = False
    ) -> Outcomes:
        """Pause it; see `Control.pause`."""
        return self._control.pause(self.ids, force=force, stop_clock=stop_clock, wait=wait, dry_run=dry_run)

    def resume(self, *, force: bool = False, dry_run: bool = False) -> Outcomes:
        """Let it run on; see `Control.resume`."""
        return self._control.resume(self.ids, force=force, dry_run=dry_run)

    def step(self, n: int = 1, *, force: bool = False, wait: float | None = None, dry_run: bool = False) -> Outcomes:
        """Let it run `n` steps and pause it again; see `Control.step`."""
        return self._control.step(self.ids, n, force=force, wait=wait, dry_run=dry_run)

    def terminate(
        self,
        mode: Mode = "interrupt",
        *,
        force: bool = False,
        wait: float | None = None,
        reason: str = "an operator ended it",
        grace: float = 1.0,
        dry_run: bool = False,
    ) -> Outcomes:
        """End it; see `Control.terminate`."""
        return self._control.terminate(
            self.ids, mode, force=force, wait=wait, reason=reason, grace=grace, dry_run=dry_run
        )

    def kill(
        self,
        *,
        force: bool = False,
        wait: float | None = None,
        reason: str = "an operator ended it",
        grace: float = 1.0,
        dry_run: bool = False,
    ) -> Outcomes:
        """End it, and leave its code behind if that does not end within `grace` seconds; see `Control.terminate`."""
        return self.terminate("kill", force=force, wait=wait, reason=reason, grace=grace, dry_run=dry_run)

    def renice(self, priority: int, *, force: bool = False, dry_run: bool = False) -> Outcomes:
        """Change its priority; see `Control.renice`."""
        return self._control.renice(self.ids, priority, force=force, dry_run=dry_run)

    def retag(
        self,
        set: Mapping[str, str] | None = None,
        remove: Sequence[str] = (),
        *,
        force: bool = False,
        dry_run: bool = False,
    ) -> Outcomes:
        """Change its tags; see `Control.retag`."""
        return self._control.retag(self.ids, set, remove, force=force, dry_run=dry_run)

    def reroute(self, *, affinity: str = "", actor: str = "", force: bool = False, dry_run: bool = False) -> Outcomes:
        """Move it to another place; see `Control.reroute`."""
        return self._control.reroute(self.ids, affinity=affinity, actor=actor, force=force, dry_run=dry_run)

    def limit(
        self,
        *,
        memory: float | str | None = KEEP,
        address_space: float | str | None = KEEP,
        cpu_time: float | str | None = KEEP,
        wall_time: float | str | None = KEEP,
        force: bool = False,
        dry_run: bool = False,
    ) -> Outcomes:
        """Limit what it may use in its child process; see `Control.limit`."""
        return self._control.limit(
            self.ids,
            memory=memory,
            address_space=address_space,
            cpu_time=cpu_time,
            wall_time=wall_time,
            force=force,
            dry_run=dry_run,
        )


@attrs.frozen(repr=False)
class TokenHandle(_Steerable, Identified):
    """A token of the gate, here or in another process. Two are equal when they have the same id in the same gate.

    Attributes:
        row: its row in a list, when the handle was made.
    """

    _control: HandleControl = attrs.field(eq=id)
    row: TokenRow = attrs.field(eq=lambda row: row.id)

    @property
    def answer(self) -> tuple[TokenRow, ...]:
        """A list with this token alone, as it was when the handle was made."""
        return (self.row,)

    @property
    def id(self) -> int:
        """The token's number."""
        return self.row.id

    @property
    def ids(self) -> tuple[int, ...]:
        return (self.row.id,)

    @property
    def state(self) -> str:
        """Its state now; the gate is asked.

        Raises:
            UnknownToken: it has ended.
        """
        return self.describe().row.state

    def describe(self) -> TokenDescription:
        """Describe it; see `Control.describe`."""
        return self._control.describe(self.row.id)

    def stack(self) -> TokenStack:
        """Return its stack; see `Control.stack`."""
        return self._control.stack(self.row.id)


@attrs.frozen(repr=False)
class TokenList(_Steerable, Sequence[TokenHandle]):
    """Tokens as they were when they were listed; a sequence of `TokenHandle`, and so is a slice of it.

    Its verbs act on exactly these tokens, even if the selector matches others by then.

    Attributes:
        page: the rows, and the number of all matching tokens.
    """

    _control: HandleControl = attrs.field(eq=id)
    page: TokenPage

    @property
    def answer(self) -> TokenPage:
        return self.page

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(row.id for row in self.page.rows)

    @overload
    def __getitem__(self, index: int) -> TokenHandle: ...
    @overload
    def __getitem__(self, index: slice) -> TokenList: ...
    def __getitem__(self, index: int | slice) -> TokenHandle | TokenList:
        if isinstance(index, slice):
            rows = self.page.rows[index]
            return TokenList(self._control, attrs.evolve(self.page, rows=rows, matching=len(rows), offset=0))
        return TokenHandle(self._control, self.page.rows[index])

    def __len__(self) -> int:
        return len(self.page.rows)


@attrs.frozen(repr=False)
class ActorHandle(Shown):
    """An actor, or an operation, of the gate. Two are equal when they have the same path in the same gate.

    Attributes:
        row: its row in a list, when the handle was made.
    """

    _control: HandleControl = attrs.field(eq=id)
    row: ActorRow = attrs.field(eq=lambda row: row.path)

    @property
    def answer(self) -> tuple[ActorRow, ...]:
        """A list with this actor alone, as it was when the handle was made."""
        return (self.row,)

    @property
    def path(self) -> str:
        """Its path in the tree."""
        return self.row.path

    def state(self, wait: float = 5.0) -> dict[str, Any] | Any:
        """Read its attributes; see `Control.get_state`."""
        return self._control.get_state(self.path, wait)

    def set_state(self, /, **values: Any) -> ActorOutcome:
        """Set some of its attributes; see `Control.set_state`."""
        return self._control.set_state(self.path, **values)

    def replace_state(
        self, function: Callable[[dict[str, Any]], Mapping[str, Any]], wait: float = 5.0
    ) -> dict[str, Any]:
        """Compute its attributes from those it has; see `Control.replace_state`."""
        return self._control.replace_state(self.path, function, wait)

    def suspend(self) -> ActorOutcome:
        """Let it begin no more tokens."""
        return self._control.suspend(self.path)

    def unsuspend(self) -> ActorOutcome:
        """Undo `suspend`."""
        return self._control.unsuspend(self.path)

    def drain(self, wait: float = 5.0, *, reopen: bool = False) -> ActorOutcome:
        """Close its mailbox and let it handle what is queued; see `Control.drain`."""
        return self._control.drain(self.path, wait, reopen=reopen)

    def restart(self) -> ActorOutcome:
        """Restart it; see `Control.restart`."""
        return self._control.restart(self.path)

    def stop(self, *, drain: bool = True, wait: float = 5.0) -> ActorOutcome:
        """Stop it; see `Control.stop`."""
        return self._control.stop(self.path, drain=drain, wait=wait)

    def statistics(self, switch: Literal["on", "off", "show"] = "show") -> ActorList:
        """Switch its statistics on or off, or show them; see `Control.statistics`."""
        question = m.Statistics(self.path, switch)
        answer: ActorList = self._control._put(Question(question, lambda rows: ActorList(self._control, tuple(rows))))
        return answer

    def trace(self) -> Following:
        """Follow its tokens; see `Control.trace`."""
        return Following(self._control._follow(m.Trace(self.path)))

    def children(self) -> tuple[ChildRow, ...]:
        """List its children, if it is a supervisor."""
        return self._control.which_children(self.path)


@attrs.frozen(repr=False)
class ActorList(Shown, Sequence[ActorHandle]):
    """Actors as they were when they were listed; a sequence of `ActorHandle`, and so is a slice of it.

    Attributes:
        rows: the row of each.
    """

    _control: HandleControl = attrs.field(eq=id)
    rows: tuple[ActorRow, ...]

    @property
    def answer(self) -> tuple[ActorRow, ...]:
        return self.rows

    @overload
    def __getitem__(self, index: int) -> ActorHandle: ...
    @overload
    def __getitem__(self, index: slice) -> ActorList: ...
    def __getitem__(self, index: int | slice) -> ActorHandle | ActorList:
        if isinstance(index, slice):
            return ActorList(self._control, self.rows[index])
        return ActorHandle(self._control, self.rows[index])

    def __len__(self) -> int:
        return len(self.rows)
