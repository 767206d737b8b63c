"""Starting actors under a gate's own dynamic supervisor, one or many."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import trio

from actors import (
    ActorDead,
    ActorRef,
    ActorSystem,
    BaseActor,
    Reply,
    StartFailed,
    Token,
    TokenGateError,
    UnknownActor,
    WouldBlock,
)
from actors.lowlevel import NO_KWARGS, loop_here
from supervisors import ChildSpec, Restart, start_at_once
from tokengate._exceptions import AmbiguousGate
from tokengate.gate._spawn_many import arguments_of_each, in_groups, refs_of, started
from tokengate.operations import _current

A = TypeVar("A", bound=BaseActor)

SPAWNED = "spawned"  # id of the supervisor of actors that `spawn` starts


class Spawning:
    """The part of a gate that starts actors."""

    name: str
    _system: ActorSystem

    def find(self, name: str) -> ActorRef[Any]:
        """Return the ref of an actor; see `Gate.find`."""
        raise NotImplementedError

    async def _await_first_use(self) -> None:
        """Open a gate that opens lazily."""
        raise NotImplementedError

    def spawn(
        self,
        actor_class: type[A],
        *args: Any,
        name: str | None = None,
        restart: Restart = "transient",
        replace: bool = False,
        **kwargs: Any,
    ) -> ActorRef[A]:
        """Start an actor under the gate's own dynamic supervisor, and return its ref after `on_start`.

        The instance of a cpu actor without an `on_start` is made on this thread.

        Args:
            actor_class: a `CpuActor`, `IoActor`, `AsyncioActor` or `ProcessActor`.
            args: positional arguments of the class.
            name: its name; None makes one up from the class and a number.
            restart: `permanent`, `transient` or `temporary`.
            replace: whether to stop the spawned actor that has this name, if there is one; its refs are dead then.
            kwargs: keyword arguments of the class.

        Raises:
            ValueError: it is to replace one, and has no name.
            StartFailed: `__init__` or `on_start` raised, `Ignore` included, or was interrupted by the end of the gate.
            ChildError: the name is taken.
            NameTaken: another thread is starting an actor of this name.
            ActorDead: the gate is closing, or the supervisor of spawned actors has just given up.
            GateState: the gate is not open.
            WouldBlock: called on the thread of a loop; use `await gate.aspawn(...)`.
        """
        if loop := loop_here():
            raise WouldBlock(f"gate.spawn would block the {loop} loop of this thread; use 'await gate.aspawn(...)'")
        spec = self._spec(actor_class, args, kwargs, name, restart)
        if replace:
            self._stop(spec, name).exception()
        return started(spec, self._start(spec, here=True).result())

    async def aspawn(
        self,
        actor_class: type[A],
        *args: Any,
        name: str | None = None,
        restart: Restart = "transient",
        replace: bool = False,
        **kwargs: Any,
    ) -> ActorRef[A]:
        """Do as `spawn` does, awaiting the start (trio and asyncio)."""
        await self._await_first_use()
        spec = self._spec(actor_class, args, kwargs, name, restart)
        if replace:
            await self._stop(spec, name).wait()
        start = self._start(spec, here=False)
        if start.done():  # made on this thread; other tasks may go on before the next one is
            await _yield()
        return started(spec, await start)

    def spawn_many(
        self,
        actor_class: type[A],
        each: int | Iterable[Mapping[str, Any]],
        *args: Any,
        names: Iterable[str] | None = None,
        restart: Restart = "transient",
        **kwargs: Any,
    ) -> list[ActorRef[A]]:
        """Start many actors of a class as `spawn` does, up to 64 at once, and return their refs in order.

        Args:
            actor_class: as for `spawn`.
            each: the number of actors, or the keyword arguments of each one, which override `kwargs`.
            args: positional arguments of all of them.
            names: one for each; None makes them up from the class and numbers.
            restart: as for `spawn`.
            kwargs: keyword arguments of all of them.

        Raises:
            TokenGateError: an actor did not start, for one of the reasons of `spawn`; a note says how many have
                started, and run on. No further group of 64 is begun.
            TypeError: `each` is neither a number nor an iterable, or contains something that is no mapping.
            ValueError: the number is below 0, or there are more names than actors, or fewer.
            WouldBlock: called on the thread of a loop; use `await gate.aspawn_many(...)`.
        """
        if loop := loop_here():
            why = f"gate.spawn_many would block the {loop} loop of this thread"
            raise WouldBlock(f"{why}; use 'await gate.aspawn_many()'")
        specs = self._specs(actor_class, each, args, names, restart, kwargs)
        refs: list[ActorRef[A]] = []
        for group in in_groups(specs):
            starts = self._start_group(group, here=True)
            for _, start in starts:
                start.exception()
            refs += refs_of(starts, len(refs), len(specs))
        return refs

    async def aspawn_many(
        self,
        actor_class: type[A],
        each: int | Iterable[Mapping[str, Any]],
        *args: Any,
        names: Iterable[str] | None = None,
        restart: Restart = "transient",
        **kwargs: Any,
    ) -> list[ActorRef[A]]:
        """Do as `spawn_many` does, awaiting the starts (trio and asyncio)."""
        await self._await_first_use()
        specs = self._specs(actor_class, each, args, names, restart, kwargs)
        refs: list[ActorRef[A]] = []
        for group in in_groups(specs):
            starts = self._start_group(group, here=False)
            await _yield()
            for _, start in starts:
                await start.wait()
            refs += refs_of(starts, len(refs), len(specs))
        return refs

    def _start_actor(self, actor_class: type[A], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ActorRef[A]:
        """Start an actor for `Cls.start()`: a temporary child, which is in pykka's registry until it ends."""
        if loop := loop_here():
            name = actor_class.__name__
            why = f"{name}.start would block the {loop} loop of this thread"
            raise WouldBlock(f"{why}; use 'await gate.aspawn({name})'")
        spec = self._spec(actor_class, args, kwargs, None, "temporary")
        ref = started(spec, self._start(spec, here=True).result())
        self._system.enter_pykka_registry(ref)
        return ref

    def _spec(
        self, actor_class: type[A], args: tuple[Any, ...], kwargs: Mapping[str, Any], name: str | None, restart: Restart
    ) -> ChildSpec:
        if name is None:
            name = f"{getattr(actor_class, '__name__', 'actor')}-{self._system.next_name()}"
        return ChildSpec(name, actor_class, args=args, kwargs=kwargs or NO_KWARGS, restart=restart)

    def _specs(
        self,
        actor_class: type[A],
        each: int | Iterable[Mapping[str, Any]],
        args: tuple[Any, ...],
        names: Iterable[str] | None,
        restart: Restart,
        kwargs: Mapping[str, Any],
    ) -> list[ChildSpec]:
        return [
            self._spec(actor_class, args, {**kwargs, **own}, name, restart)
            for own, name in arguments_of_each(each, names)
        ]

    def _start_group(self, specs: Iterable[ChildSpec], *, here: bool) -> list[tuple[ChildSpec, Reply[Any]]]:
        """Begin to start actors, up to the first that is refused."""
        starts: list[tuple[ChildSpec, Reply[Any]]] = []
        for spec in specs:
            try:
                starts.append((spec, self._start(spec, here=here)))
            except TokenGateError as error:
                refused: Reply[Any] = Reply()
                refused._set(error=error)
                starts.append((spec, refused))
                break
        return starts

    def _stop(self, spec: ChildSpec, name: str | None) -> Token[Any]:
        """Stop the spawned actor that another one replaces; the token fails if there is none.

        Args:
            spec: of the other one.
            name: as the caller has given it.

        Raises:
            ValueError: there is no name.
            StartFailed: the class cannot be called with its arguments; nothing was stopped.
        """
        if name is None:
            raise ValueError(f"spawn of gate '{self.name}' with replace=True needs the name of the actor: name=...")
        try:
            inspect.signature(spec.start).bind(*spec.args, **spec.kwargs)
        except ValueError:
            pass  # a class without a signature
        except TypeError as error:
            raise StartFailed(f"actor '{name}' was not started, and none was stopped for it: {error}") from error
        stopped: Token[Any] = self._supervisor(name).proxy().terminate_child(name)
        return stopped

    def _start(self, spec: ChildSpec, *, here: bool) -> Reply[Any]:
        """Have a child of the gate's own dynamic supervisor started; the reply is its ref, or None if it declines.

        Args:
            spec: of the child.
            here: whether its instance may be made on the calling thread.

        Raises:
            ActorDead: the supervisor has ended.
        """
        supervisor = self._supervisor(spec.id)
        start = start_at_once(supervisor, spec, here=here) if self._is_current() else None
        return supervisor.proxy().start_child(spec) if start is None else start

    def _supervisor(self, name: str) -> ActorRef[Any]:
        """Return the supervisor of spawned actors, in order to start one of a name."""
        try:
            return self.find(SPAWNED)
        except UnknownActor as error:
            raise ActorDead(
                f"actor '{name}' was not started: the supervisor of spawned actors of gate '{self.name}' has ended"
            ) from error

    def _is_current(self) -> bool:
        """Return whether this is the current gate of the calling code, and so of an `__init__` that runs here."""
        try:
            current: object = _current.current_gate()
        except AmbiguousGate:
            return False
        return current is self


async def _yield() -> None:
    """Let other tasks of the loop go on (trio and asyncio)."""
    if trio.lowlevel.in_trio_task():
        await trio.lowlevel.cancel_shielded_checkpoint()
    else:
        await asyncio.sleep(0)
