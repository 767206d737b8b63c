"""Handles: tokens and actors as objects with their verbs."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import overload

import attrs

from tokengate.control import messages as m
from tokengate.control._ports import Source
from tokengate.control.api._actors import ActorVerbs
from tokengate.control.api._answers import Outcomes, Shown
from tokengate.control.api._following import Following
from tokengate.control.api._tokens import TokenVerbs
from tokengate.control.inspection._selector import quoted
from tokengate.control.messages import ActorRow, Called, Identified, Stream, Target, TokenPage, TokenRow
from tokengate.control.registry._verbs import Asker, Blocking, asks, bound


class HandleControl(Blocking):
    """The control that sends the verbs of handles; `Control` is one."""

    _follow: Callable[[Stream], Source]


class HasHandles(Asker):
    """Base of what makes handles."""

    @property
    def _blocking(self) -> HandleControl:
        """The control that sends the verbs of the handles."""
        raise NotImplementedError


class _Steerable(Shown, Blocking):
    """The verbs of one token or several: they act on these ids, even if a selector matches others by now."""

    __slots__ = ()

    _control: HandleControl

    @property
    @abc.abstractmethod
    def ids(self) -> tuple[int, ...]:
        """The ids of the tokens."""

    @property
    def _subject(self) -> Target:
        return self.ids

    pause = bound(TokenVerbs.pause)
    resume = bound(TokenVerbs.resume)
    step = bound(TokenVerbs.step)
    terminate = bound(TokenVerbs.terminate)
    renice = bound(TokenVerbs.renice)
    retag = bound(TokenVerbs.retag)
    reroute = bound(TokenVerbs.reroute)
    preempt = bound(TokenVerbs.preempt)
    limit = bound(TokenVerbs.limit)
    estimate = bound(TokenVerbs.estimate)
    retry = bound(TokenVerbs.retry)
    extend = bound(TokenVerbs.extend)
    compensate = bound(TokenVerbs.compensate)

    def kill(
        self,
        *,
        force: bool = False,
        wait: float | None = None,
        reason: str = "",
        grace: float = 1.0,
        dry_run: bool = False,
        break_glass: str = "",
    ) -> Outcomes:
        """End it, and leave its code behind if that does not end within `grace` seconds; see `terminate`."""
        return self.terminate(
            "kill", force=force, wait=wait, reason=reason, grace=grace, dry_run=dry_run, break_glass=break_glass
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

    @property
    def _subject(self) -> Target:
        return self.row

    describe = bound(TokenVerbs.describe)
    stack = bound(TokenVerbs.stack)


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


def actor_list(owner: HasHandles, rows: Iterable[ActorRow]) -> ActorList:
    """Return actors as a list of handles."""
    return ActorList(owner._blocking, tuple(rows))


@attrs.frozen(repr=False)
class ActorHandle(Shown, Blocking):
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

    @property
    def _subject(self) -> str:
        return self.row.path

    describe = bound(ActorVerbs.describe_actor)
    state = bound(ActorVerbs.get_state)
    set_state = bound(ActorVerbs.set_state)
    replace_state = bound(ActorVerbs.replace_state)
    suspend = bound(ActorVerbs.suspend)
    unsuspend = bound(ActorVerbs.unsuspend)
    drain = bound(ActorVerbs.drain)
    restart = bound(ActorVerbs.restart)
    recycle = bound(ActorVerbs.recycle)
    stop = bound(ActorVerbs.stop)
    children = bound(ActorVerbs.which_children)
    statistics = bound(asks(m.Statistics, actor_list))

    @property
    def call(self) -> Commands:
        """Its commands as methods: `actor("inventory").call.restock("tea", 5)`."""
        return Commands(self._control, self.row.path)

    def watch(self, kinds: Iterable[str] = ("token",), buffer: int = 1_000) -> Following:
        """Follow what happens to its tokens; see `Control.watch`."""
        select = f"actor={quoted('/' + self.path)}"
        return Following(self._control._follow(m.Watch(select, kinds=tuple(kinds), buffer=buffer)))


@attrs.frozen
class Commands:
    """The commands of an actor, each a method that returns a `Called`; see `Control.call`."""

    _control: HandleControl = attrs.field(eq=id, repr=False)
    _actor: str

    def __getattr__(self, name: str) -> Callable[..., Called]:
        call = ActorVerbs.call.__get__(self._control, type(self._control))
        return partial(call, self._actor, name)


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
