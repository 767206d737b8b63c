"""Each verb of control once: the message that it asks, and what it makes of the answer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    Self,
    TypeAlias,
    TypeVar,
    cast,
    overload,
)

import attrs

from actors import Token, UnknownActor
from tokengate.control import messages as m
from tokengate.control._exceptions import BadRequest, NotSteerable
from tokengate.control.api._handles import ActorHandle, ActorList, Outcomes, TokenHandle, TokenList
from tokengate.control.inspection._actor_state import (
    public_attributes,
    received,
    received_after,
    replace_attributes,
    replace_attributes_and_send,
    sent_attributes,
)
from tokengate.control.messages import (
    KEEP,
    NO_LIMIT,
    ActorOutcome,
    ActorRow,
    ChildCountsRow,
    ChildRow,
    GateInfo,
    Keep,
    Message,
    Mode,
    OnTokens,
    ThrottleRow,
    TokenDescription,
    TokenRow,
    TokenStack,
    TreeRow,
)

if TYPE_CHECKING:
    from tokengate.control.api._control import AsyncControl, Control

A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)
P = ParamSpec("P")

OneToken: TypeAlias = int | Token[Any] | TokenHandle | TokenRow
"""A token: its id, itself, or what a list has of it."""

Target: TypeAlias = OneToken | str | Iterable[OneToken]
"""Tokens: one, or several; or a selector (`*` for all). A string of digits is an id."""


def whom(target: Target) -> tuple[str, tuple[int, ...]]:
    """Return the selector that a target is, or else the ids.

    Raises:
        BadRequest: it names no token.
    """
    if isinstance(target, str):
        if not target.strip():
            raise BadRequest("an empty selector would name every token; write '*' if you mean all of them")
        return ("", (int(target),)) if target.strip().isdecimal() else (target, ())
    if isinstance(target, Iterable) and not isinstance(target, Token):  # a token can be iterated over, as in pykka
        return "", tuple(_id(one) for one in target)
    return "", (_id(target),)


def _id(token: OneToken | str) -> int:
    if isinstance(token, (Token, TokenHandle, TokenRow)):
        return token.id
    if isinstance(token, str) and token.strip().isdecimal():
        return int(token)
    if not isinstance(token, int) or isinstance(token, bool):
        raise BadRequest(f"{token!r} is no token; give its id, a Token, or one of those that tokens() lists")
    return token


@attrs.frozen
class Question(Generic[A]):
    """What a verb asks, and what it makes of the answer.

    Attributes:
        message: what is asked; None when there is nothing to ask.
        read: makes the verb's result of the answer.
    """

    message: Message | None
    read: Callable[[Any], A] = attrs.field(default=lambda answer: answer)


class _Verb(Protocol[P, A_co]):
    """How a type checker sees a verb: its result at once from a `Control`, to be awaited from an `AsyncControl`."""

    @overload
    def __get__(self, owner: None, kind: type[object], /) -> Self: ...
    @overload
    def __get__(self, owner: Control, kind: type[object], /) -> Callable[P, A_co]: ...
    @overload
    def __get__(self, owner: AsyncControl, kind: type[object], /) -> Callable[P, Coroutine[Any, Any, A_co]]: ...
    def __get__(self, owner: object, kind: type[object], /) -> Any: ...


def _verb(build: Callable[Concatenate[Verbs, P], Question[A]]) -> _Verb[P, A]:
    """Make a method that asks the question which `build` returns, in the way of the class that it is called on."""
    # What help() shows is what the caller gets, not the question.
    build.__annotations__["return"] = build.__annotations__["return"].removeprefix("Question[").removesuffix("]")

    @functools.wraps(build)
    def verb(self: Verbs, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        return self._put(build(self, *args, **kwargs))

    return cast("_Verb[P, A]", verb)


class Verbs:
    """Each verb once: what it asks, and what it makes of the answer."""

    _blocking: Control  # what the verbs of handles go through
    _local: bool  # whether the gate is in this process
    _wait: float  # seconds for which `pause`, `step` and `terminate` wait when they are not told

    def _put(self, question: Question[Any]) -> Any:
        raise NotImplementedError

    # --- The gate ---

    @_verb
    def info(self) -> Question[GateInfo]:
        """Tell how the gate is: its process, its tokens by state, its threads."""
        return Question(m.Info())

    # --- Tokens ---

    @_verb
    def tokens(self, selector: str = "", *, sort: str = "id", limit: int = 100, offset: int = 0) -> Question[TokenList]:
        """List live tokens.

        Args:
            selector: which, such as `operation=resize,tenant=acme,state!=running`; empty for all.
            sort: one of `messages.COLUMNS` (`id`, `age`, `running`, ...); a `-` before it turns the order around.
            limit: rows at most, up to 10,000.
            offset: rows to skip.

        Returns:
            A sequence of handles; its own verbs are for exactly the tokens in it.

        Raises:
            BadSelector: the selector cannot be read.
            BadRequest: there is no such column, or a number is out of its range.
        """
        return Question(m.Tokens(selector, sort, limit, offset), lambda page: TokenList(self._blocking, page))

    @_verb
    def token(self, token: OneToken | str) -> Question[TokenHandle]:
        """Return a handle of one live token.

        Raises:
            UnknownToken: it has ended, or there never was one.
            BadRequest: this names no token.
        """
        return Question(m.Describe(_id(token)), lambda described: TokenHandle(self._blocking, described.row))

    @_verb
    def describe(self, token: OneToken | str) -> Question[TokenDescription]:
        """Tell all of one token: arguments (as types and sizes), times, what it waits for, children, process, limits.

        Raises:
            UnknownToken: it has ended, or there never was one.
            BadRequest: this names no token.
        """
        return Question(m.Describe(_id(token)))

    @_verb
    def stack(self, token: OneToken | str) -> Question[TokenStack]:
        """Tell where the code of a token is, line by line.

        Raises:
            UnknownToken: it has ended, or there never was one.
            BadRequest: this names no token.
        """
        return Question(m.Stack(_id(token)))

    @_verb
    def pause(
        self,
        target: Target,
        *,
        force: bool = False,
        stop_clock: bool = False,
        wait: float | None = None,
        dry_run: bool = False,
    ) -> Question[Outcomes]:
        """Hold tokens, queued or running.

        Args:
            target: which: ids, tokens, handles, or a selector (`*` for all).
            force: do it to protected ones, too.
            stop_clock: let the time not count for their time limits.
            wait: seconds to wait for running ones to be paused before answering `pause_requested`;
                they are paused after that all the same. None is 0.02, or what the `Control` was made with.
            dry_run: only tell which they are.

        Returns:
            One outcome for each token; `OUTCOMES` says what its word means.

        Raises:
            BadSelector: the selector cannot be read.
            BadRequest: the target names no token, or a number is out of its range.
        """
        return self._on(target, m.Pause(stop_clock=stop_clock, wait=self._seconds(wait), force=force, dry_run=dry_run))

    @_verb
    def resume(self, target: Target, *, force: bool = False, dry_run: bool = False) -> Question[Outcomes]:
        """Let tokens that are held go on; arguments, result and errors are those of `pause`."""
        return self._on(target, m.Resume(force=force, dry_run=dry_run))

    @_verb
    def step(
        self, target: Target, n: int = 1, *, force: bool = False, wait: float | None = None, dry_run: bool = False
    ) -> Question[Outcomes]:
        """Let paused tokens run some steps and hold them again; one that runs is paused first.

        The other arguments, result and errors are those of `pause`.

        Args:
            target: which.
            n: how many steps; at least 1.
            force: do it to protected ones, too.
            wait: seconds to wait for that before answering `step_requested`; it goes on after that. None is 0.02, or
                what the `Control` was made with.
            dry_run: only tell which they are.
        """
        return self._on(target, m.Step(n=n, wait=self._seconds(wait), force=force, dry_run=dry_run))

    @_verb
    def terminate(
        self,
        target: Target,
        mode: Mode = "interrupt",
        *,
        force: bool = False,
        wait: float | None = None,
        reason: str = "an operator ended it",
        grace: float = 1.0,
        dry_run: bool = False,
    ) -> Question[Outcomes]:
        """End tokens; result and errors are those of `pause`.

        Args:
            target: which.
            mode: how far to go: ask (`cancel`), also raise in Python code that runs (`interrupt`), also leave behind
                what cannot be ended (`kill`). A token in a child process is ended by killing that, at once, in both.
            force: do it to protected ones, too.
            wait: seconds to wait for the end before telling what was asked for, which goes on after that. None is
                0.02, or what the `Control` was made with.
            reason: what the token's error says.
            grace: seconds that code gets to end after `kill` has asked, before it is left behind. With this mode the
                answer comes after the longer one of `wait` and `grace`, or at the end of the last token. Processes get
                none.
            dry_run: only tell which they are.
        """
        wait = self._seconds(wait)
        message = m.Terminate(mode=mode, wait=wait, reason=reason, grace=grace, force=force, dry_run=dry_run)
        return self._on(target, message)

    @_verb
    def renice(
        self, target: Target, priority: int, *, force: bool = False, dry_run: bool = False
    ) -> Question[Outcomes]:
        """Give tokens another priority; higher goes first. A queued one moves at once, to the end of its new lane.

        The other arguments, result and errors are those of `pause`.
        """
        return self._on(target, m.Renice(priority=priority, force=force, dry_run=dry_run))

    @_verb
    def retag(
        self,
        target: Target,
        set: Mapping[str, str] | None = None,
        remove: Iterable[str] = (),
        *,
        force: bool = False,
        dry_run: bool = False,
    ) -> Question[Outcomes]:
        """Change tags of tokens; result and errors are those of `pause`.

        Args:
            target: which.
            set: {tag: its new value}.
            remove: tags to take away; one, or several.
            force: do it to protected ones, too.
            dry_run: only tell which they are.
        """
        removed = (remove,) if isinstance(remove, str) else tuple(remove)
        return self._on(target, m.Retag(set=dict(set or {}), remove=removed, force=force, dry_run=dry_run))

    @_verb
    def reroute(
        self, target: Target, *, affinity: str = "", actor: str = "", force: bool = False, dry_run: bool = False
    ) -> Question[Outcomes]:
        """Send queued tokens elsewhere, at once; running ones when they are tried again.

        Result and errors are those of `pause`.

        Args:
            target: which.
            affinity: `io`, `cpu` or `process`, for tokens of operations. Either this or `actor`.
            actor: the path of an actor that has what the token calls.
            force: do it to protected ones, too.
            dry_run: only tell which they are.

        Raises:
            UnknownActor: no actor has this name, or several have.
        """
        return self._on(target, m.Reroute(affinity=affinity, actor=actor, force=force, dry_run=dry_run))

    @_verb
    def limit(
        self,
        target: Target,
        *,
        memory: float | str | Keep | None = KEEP,
        address_space: float | str | Keep | None = KEEP,
        cpu_time: float | str | Keep | None = KEEP,
        wall_time: float | str | Keep | None = KEEP,
        force: bool = False,
        dry_run: bool = False,
    ) -> Question[Outcomes]:
        """Set what tokens may use of their child processes, queued or running.

        What uses more than that already is ended for it. Each limit is a number, or text such as `2GiB`, `500MB`, `30s`
        or `5m`; None lifts it, `KEEP` leaves it as it is. Result and errors are those of `pause`.

        Args:
            target: which.
            memory: bytes of resident memory.
            address_space: bytes of address space.
            cpu_time: seconds of processor time, from the token's beginning.
            wall_time: seconds from the token's beginning.
            force: lower those of protected ones, too; that may end them.
            dry_run: only tell which they are.

        Raises:
            BadRequest: no limit is given, or one has a value that cannot work.
        """
        given = {"memory": memory, "address_space": address_space, "cpu_time": cpu_time, "wall_time": wall_time}
        limits: dict[str, Any] = {
            name: NO_LIMIT if value is None else value for name, value in given.items() if value is not KEEP
        }
        return self._on(target, m.Limit(**limits, force=force, dry_run=dry_run))

    def _on(self, target: Target, message: OnTokens) -> Question[Outcomes]:
        selector, ids = whom(target)
        if not selector and not ids:
            return Question(None, lambda _: Outcomes(()))
        return Question(attrs.evolve(message, selector=selector, ids=ids), lambda answer: Outcomes(tuple(answer)))

    def _seconds(self, wait: float | None) -> float:
        return self._wait if wait is None else wait

    # --- Throttles ---

    @_verb
    def throttle(
        self, selector: str, *, rate: float | None = None, concurrency: int | None = None
    ) -> Question[ThrottleRow]:
        """Let tokens begin only so fast, or only so many at once, until `lift`.

        A second throttle for a selector replaces the first.

        Args:
            selector: whose tokens; `*` for all.
            rate: tokens that may begin in a second; above 0.
            concurrency: tokens that may run at once; at least 1.

        Raises:
            BadSelector: the selector cannot be read.
            BadRequest: no limit is given, or it is out of its range.
        """
        return Question(m.Throttle(selector, rate, concurrency))

    @_verb
    def lift(self, selector: str) -> Question[tuple[ThrottleRow, ...]]:
        """End throttles, of this selector or all of them (`*`), and return those that were ended.

        Raises:
            BadSelector: the selector cannot be read.
        """
        return Question(m.Lift(selector))

    @_verb
    def throttles(self) -> Question[tuple[ThrottleRow, ...]]:
        """List the throttles that hold."""
        return Question(m.Throttles())

    # --- Actors ---

    @_verb
    def actors(self, name: str = "", *, sample: float = 0.0) -> Question[ActorList]:
        """List actors and operations.

        Args:
            name: a path, the last part of one, or a pattern with `*`; empty for all.
            sample: seconds to watch them for, to learn how busy they are; 0 does not.

        Raises:
            UnknownActor: no actor has this name.
            BadRequest: a number is out of its range.
        """
        return Question(m.Actors(name, sample), self._actor_list)

    @_verb
    def actor(self, name: str) -> Question[ActorHandle]:
        """Return a handle of one actor, or operation.

        Raises:
            UnknownActor: no actor has this name, or several have.
        """

        def only(rows: Sequence[ActorRow]) -> ActorHandle:
            if not rows:
                raise UnknownActor(f"no actor is called '{name}'; actors() lists them")
            if len(rows) > 1:
                some = ", ".join(row.path for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
                raise UnknownActor(f"{len(rows)} actors are called '{name}' ({some}); give the path of one")
            return ActorHandle(self._blocking, rows[0])

        return Question(m.Actors(name), only)

    @_verb
    def tree(self, root: str = "/", *, system: bool = False) -> Question[tuple[TreeRow, ...]]:
        """Show the supervision tree, each node below its supervisor.

        Args:
            root: the path to show it from.
            system: whether to show the runtime's own part, too.

        Raises:
            UnknownActor: nothing has this path.
        """
        return Question(m.Tree(root, system))

    @_verb
    def statistics(self, name: str, switch: Literal["on", "off", "show"] = "show") -> Question[ActorList]:
        """Count what actors do, or stop that.

        Args:
            name: a path, the last part of one, or a pattern with `*`.
            switch: `on` (counts from nothing), `off`, or `show`.

        Raises:
            UnknownActor: no actor has this name.
            BadRequest: there is no such switch.
        """
        return Question(m.Statistics(name, switch), self._actor_list)

    def _actor_list(self, rows: Iterable[ActorRow]) -> ActorList:
        return ActorList(self._blocking, tuple(rows))

    @_verb
    def suspend(self, name: str) -> Question[ActorOutcome]:
        """Let an actor, or an operation, begin no more tokens; control still reaches it.

        Raises:
            UnknownActor: no actor has this name, or several have.
            NotSteerable: it is the runtime's own.
        """
        return Question(m.Suspend(name))

    @_verb
    def unsuspend(self, name: str) -> Question[ActorOutcome]:
        """Undo `suspend`; raises as it does."""
        return Question(m.Unsuspend(name))

    @_verb
    def drain(self, name: str, wait: float = 5.0, *, reopen: bool = False) -> Question[ActorOutcome]:
        """Close the intake of an actor, or an operation, and let it handle the rest; it is not stopped.

        Args:
            name: the actor's.
            wait: seconds to wait until the rest has been handled before answering `pending`.
            reopen: undo it instead.

        Raises:
            UnknownActor: no actor has this name, or several have.
            NotSteerable: it is the runtime's own.
        """
        return Question(m.Drain(name, wait, reopen))

    @_verb
    def restart(self, name: str) -> Question[ActorOutcome]:
        """Have an actor's supervisor end its instance in order and start another.

        Its queue stays, and it counts for no intensity.

        Raises:
            UnknownActor: no actor has this name, or several have.
            NotSteerable: it is the runtime's own, or an operation.
        """
        return Question(m.Restart(name))

    @_verb
    def stop(self, name: str, *, drain: bool = True, wait: float = 5.0) -> Question[ActorOutcome]:
        """Stop an actor for good, in order.

        Args:
            name: the actor's.
            drain: whether it handles all that it has accepted first.
            wait: seconds to wait for its end before answering `pending`.

        Raises:
            UnknownActor: no actor has this name, or several have.
            NotSteerable: it is the runtime's own, or an operation.
        """
        return Question(m.Stop(name, drain, wait))

    # --- The state of actors ---

    @_verb
    def get_state(self, name: str, wait: float = 5.0) -> Question[dict[str, Any] | Any]:
        """Look at the attributes of an actor's instance, between two of its steps.

        Args:
            name: the actor's.
            wait: seconds after which a busy actor is given up on.

        Returns:
            Within the process {attribute: value}, of the instance's own attributes (its `vars`) but for those whose
            name starts with `_`. The dict is new, the values are the actor's own objects: look, and don't touch. Those
            of an actor in a child process are copies, and a `NotSent` stands for what cannot be pickled.
            Through a socket an `ActorState`: types, sizes, and built-in values in words.

        Raises:
            UnknownActor: no actor has this name, or several have.
            Busy: it was at work for all that time.
            NotSteerable: it is the runtime's own, or an operation.
        """
        if not self._local:
            return Question(m.GetState(name, wait))
        return Question(m.Visit(name, public_attributes, wait, in_process=sent_attributes), received)

    @_verb
    def set_state(self, name: str, /, **values: Any) -> Question[ActorOutcome]:
        """Set attributes of an actor's instance, between two of its steps.

        Args:
            name: the actor's.
            values: {attribute: value}, of JSON's types.

        Raises:
            UnknownActor: no actor has this name, or several have.
            BadRequest: no attribute is given, or one that cannot be set.
            Busy: the actor was at work for all of five seconds.
            NotSteerable: it is the runtime's own, or an operation.
        """
        return Question(m.SetState(name, values))

    @_verb
    def replace_state(
        self, name: str, function: Callable[[dict[str, Any]], Mapping[str, Any]], wait: float = 5.0
    ) -> Question[dict[str, Any]]:
        """Compute the attributes of an actor's instance from those it has, between two of its steps.

        Args:
            name: the actor's.
            function: gets what `get_state` returns, and returns what there shall be instead; attributes that are
                missing from it are deleted. It runs on the actor's thread or loop, or in its process, where it goes
                pickled. Attributes whose name starts with `_` are neither shown to it nor changed. If it raises, none
                is.
            wait: seconds after which a busy actor is given up on.

        Returns:
            The new attributes, as `get_state` has them.

        Raises:
            UnknownActor: no actor has this name, or several have.
            BadRequest: the function returned something else.
            Busy: the actor was at work for all that time.
            NotSteerable: it is the runtime's own, or an operation; or the gate is in another process.
            Exception: whatever the function raised.
        """
        self._check_local("replace_state", name)
        replace = functools.partial(replace_attributes, function=function)
        replace_and_send = functools.partial(replace_attributes_and_send, function=function)
        return Question(m.Visit(name, replace, wait, in_process=replace_and_send), received_after)

    @_verb
    def visit(self, name: str, function: Callable[[Any], A], wait: float = 5.0) -> Question[A]:
        """Call a function with an actor's instance, on its own thread or loop, between two of its steps.

        Args:
            name: the actor's.
            function: gets the instance. To a process actor it goes pickled, and what it returns comes back so.
            wait: seconds after which a busy actor is given up on.

        Returns:
            What the function returned.

        Raises:
            UnknownActor: no actor has this name, or several have.
            Busy: the actor was at work for all that time.
            NotSteerable: it is the runtime's own, or an operation; or the gate is in another process.
            Exception: whatever the function raised.
        """
        self._check_local("visit", name)
        return Question(m.Visit(name, function, wait))

    def _check_local(self, verb: str, name: str) -> None:
        if not self._local:
            raise NotSteerable(
                f"{verb}('{name}', ...) takes a function, and none can go to another process; "
                f"use set_state('{name}', attribute=value) there, or get_state('{name}')"
            )

    # --- Supervisors ---

    @_verb
    def which_children(self, name: str) -> Question[tuple[ChildRow, ...]]:
        """List the children of a supervisor, the newest first.

        Raises:
            UnknownActor: no actor has this name, or several have.
            NotSteerable: it is no supervisor.
        """
        return Question(m.WhichChildren(name))

    @_verb
    def count_children(self, name: str) -> Question[ChildCountsRow]:
        """Count the children of a supervisor; raises as `which_children` does."""
        return Question(m.CountChildren(name))

    @_verb
    def terminate_child(self, name: str, id: str) -> Question[ActorOutcome]:
        """Stop a child of a supervisor, by its id; it stays stopped.

        Raises:
            UnknownActor: no actor has this name, or several have.
            NotSteerable: it is no supervisor, or the runtime's own.
            NoSuchChild: it has no child with this id.
        """
        return Question(m.TerminateChild(name, id))

    @_verb
    def restart_child(self, name: str, id: str) -> Question[ActorOutcome]:
        """Start a child of a supervisor that has no instance; raises as `terminate_child` does.

        Raises:
            ChildIsRunning: it has an instance.
        """
        return Question(m.RestartChild(name, id))

    @_verb
    def delete_child(self, name: str, id: str) -> Question[ActorOutcome]:
        """Forget a child of a supervisor that has no instance; raises as `restart_child` does."""
        return Question(m.DeleteChild(name, id))
