"""Queries: tokens, actors, the tree. Nothing here runs user code, or waits for it."""

from __future__ import annotations

import functools
import gc
import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from types import FunctionType
from typing import Any, TypeAlias, cast

import trio

from actors import ActorSystem, Token, UnknownActor
from actors.lowlevel import (
    ROOT,
    SYSTEM,
    ActorPlace,
    CpuThread,
    OperationPlace,
    Place,
    find_step,
    memory,
    monitor,
    place_of,
    process_drain,
)
from supervisors import ChildEnd, ChildInfo, DynamicSupervisor, Supervisor, ends_at
from tokengate.control._admission import Admission, admission, restricted
from tokengate.control._exceptions import NotSteerable, UnknownToken
from tokengate.control._safe_text import class_name, plain
from tokengate.control._version import own_version
from tokengate.control.inspection._commands import commands_shown
from tokengate.control.inspection._counters import Counts
from tokengate.control.inspection._past_tokens import ended_lately, not_live, on_disk
from tokengate.control.inspection._policies import attempts_of, held_to
from tokengate.control.inspection._processes import cpu_share, limits_of, own_pid, process_of
from tokengate.control.inspection._selector import state_of
from tokengate.control.inspection._stacks import thread_of
from tokengate.control.inspection._turns import in_turns, next_turn
from tokengate.control.inspection._views import arguments_of, chunks, prediction_of, row_of
from tokengate.control.messages import (
    ActorDescription,
    ActorRow,
    EndRow,
    GateInfo,
    TokenDescription,
    TreeRow,
    WindowRow,
)

# Observations in a sample.
_LOOKS = 20
# Tokens of which the children of one are found in one turn.
_SCANNED = 5_000
# Rows of actors that are made in one turn.
_ROWS = 100


def find_token(system: ActorSystem, id: int) -> Token[Any]:
    """Return a live token.

    Raises:
        UnknownToken: it has ended, or there never was one.
    """
    token = system.live.get(id)
    if token is None or not admission().sees(token):
        raise _not_seen(system, id)
    return token


async def find_any_token(system: ActorSystem, id: int) -> Token[Any]:
    """Return a live token, or one that waits on disk only, by its id or the number of its uid.

    Raises:
        UnknownToken: there is none.
    """
    token = (await on_disk(system, (id,))).get(id)
    return token if token is not None and admission().sees(token) else find_token(system, id)


def _not_seen(system: ActorSystem, id: int) -> UnknownToken:
    answer = ended_lately(system).get(id) or not_live(system, id)
    return UnknownToken(f"token {id} is not live: {answer.note}")


def place_called(system: ActorSystem, name: str) -> Place:
    """Return the place of an actor or operation that the caller may see.

    Raises:
        UnknownActor: there is none, or there are several.
    """
    return system.find(name, admission().sees_place)


def places_called(system: ActorSystem, name: str) -> list[Place]:
    """Return the places with a name or pattern; if it is empty, all but the runtime's own.

    Raises:
        UnknownActor: there is no such place.
    """
    own: list[Place] = []
    others: list[Place] = []
    for place in filter(admission().sees_place, system.places()):
        (own if place.path.startswith(SYSTEM) else others).append(place)
    if not name:
        return others
    if "*" not in name:
        return [place_called(system, name)]
    found = [
        place
        for place in (own if name.startswith(SYSTEM) else others)
        if fnmatchcase(place.path, name) or fnmatchcase(place.path.rpartition("/")[2], name)
    ]
    if not found:
        raise UnknownActor(f"no actor of '{system.name}' matches '{name}'")
    return found


def actor_called(system: ActorSystem, name: str) -> ActorPlace:
    """Return the place of one actor.

    Raises:
        UnknownActor: there is no such actor, or several.
        NotSteerable: it is an operation.
    """
    place = place_called(system, name)
    if not isinstance(place, ActorPlace):
        raise NotSteerable(f"'{place.path}' is an operation, which has no instance; this verb is for actors")
    return place


def supervisor_at(place: Place) -> Supervisor | DynamicSupervisor | None:
    """Return the supervisor that runs at a place, if one does."""
    if not isinstance(place, ActorPlace) or not is_of_supervisor(place):
        return None
    return cast("Supervisor | DynamicSupervisor | None", place.instance)


def is_of_supervisor(place: ActorPlace) -> bool:
    """Tell whether the actor of a place is a supervisor, running or not."""
    # `issubclass` could run code of the class.
    cls = place.actor_class
    return type.__subclasscheck__(Supervisor, cls) or type.__subclasscheck__(DynamicSupervisor, cls)


def kind_of(start: object) -> str:
    """Return the name of a class or function."""
    while type(start) is functools.partial:
        start = start.func  # pyright: ignore[reportFunctionMemberAccess]
    if issubclass(type(start), type):
        return class_name(cast("type", start))
    return plain(start.__name__) if type(start) is FunctionType else class_name(type(start))


def actor_row(place: Place, counts: Counts, busy_share: float | None = None) -> ActorRow:
    """Return the row of a place in a list."""
    box = place.mailbox.statistics()
    operation = isinstance(place, OperationPlace)
    running = place.drain.running()
    return ActorRow(
        path=place.path,
        kind="operation" if operation else kind_of(place.actor_class) if isinstance(place, ActorPlace) else "",
        affinity=place.affinity,
        status=str(place.status) if isinstance(place, ActorPlace) else "running",
        depth=box.depth,
        capacity=box.capacity,
        running=tuple(token.id for token in running),
        starts=place.starts if isinstance(place, ActorPlace) else 0,
        handled=max(0, box.accepted - box.depth),
        suspended=place.suspended,
        draining=place.drained,
        busy_share=busy_share,
        statistics=counts.of(place),
        pid=own_pid(place),
    )


async def actor_rows(places: list[Place], counts: Counts, sample: float) -> tuple[ActorRow, ...]:
    """Return the rows of places, after a sample of so many seconds, if that is not 0."""
    busy: dict[Place, int] = dict.fromkeys(places, 0)
    if sample > 0:
        for _ in range(_LOOKS):
            for place in places:
                busy[place] += bool(place.drain.running())
            await trio.sleep(sample / _LOOKS)
    shares = {place: count / _LOOKS if sample > 0 else None for place, count in busy.items()}
    return tuple([actor_row(place, counts, shares[place]) async for place in in_turns(places, _ROWS)])


async def describe_actor(system: ActorSystem, name: str, counts: Counts) -> ActorDescription:
    """Return everything that is known of an actor or operation, and that the caller may see.

    Raises:
        UnknownActor: there is none, or there are several.
    """
    place = place_called(system, name)
    commands = await commands_shown(place.actor_class) if isinstance(place, ActorPlace) else ()
    place = place_called(system, name)  # which may have gone meanwhile, or out of sight
    above = system.above(place) if isinstance(place, ActorPlace) else None
    ends, own_window = restarts_at(place)
    return ActorDescription(
        row=actor_row(place, counts),
        supervisor="" if above is None else above.path,
        ends=ends,
        window=None if above is None else restarts_at(above)[1],
        own_window=own_window,
        commands=commands,
    )


def restarts_at(place: Place) -> tuple[tuple[EndRow, ...], WindowRow | None]:
    """Return why the actor of a place was restarted; on the system loop.

    Returns:
        its latest eight ends, the oldest first; and, if it is a supervisor that runs, what is left of its restarts, for
        a caller that may see everything.
    """
    here, supervisor = restricted(), supervisor_at(place)
    window = None if supervisor is None or here is not None else supervisor.restart_window()
    return (
        end_rows(ends_at(place), place, here) if isinstance(place, ActorPlace) else (),
        None if window is None else WindowRow(window.used, window.allowed, window.period, window.frees_in),
    )


def end_rows(ends: Iterable[ChildEnd], place: Place | str, here: Admission | None) -> tuple[EndRow, ...]:
    """Return the rows of ends of the actor at a place, or path.

    A caller that may see an actor may see all of its tokens; for others an end has no token, and its error no text.
    """
    seen = here is None or here.sees_place(place)
    return tuple(
        EndRow(
            at=end.at,
            reason=end.reason if seen or not end.error else f"error({end.error})",
            error=end.error,
            token=None if end.token is None or not seen else end.token[0],
            operation="" if end.token is None or not seen else end.token[1],
            restarted=end.restarted,
            delay=end.delay,
        )
        for end in ends
    )


async def describe(system: ActorSystem, token: Token[Any], *, values: bool = False) -> TokenDescription:
    """Return everything that is known of a token, and that the caller may see.

    Args:
        system: the system.
        token: the token.
        values: whether the caller may see the values of the arguments that are shown.
    """
    place, hold = token._place, token._extras.hold
    row = row_of(token, system.clock())
    properties = place.properties
    here = restricted()
    arguments = arguments_of(token, properties.show if values else ())
    found = find_step(token) if process_drain(token) is None else None
    thread, thread_name = (None, None) if found is None else thread_of(found[0])
    process, share = await process_of(token) if here is None or has_own_process(token, here) else (None, None)
    if isinstance(thread, CpuThread):  # only a dispatcher's thread has a clock that can be read safely
        share = await cpu_share(thread.cpu_seconds)
        share = None if share is None else min(1.0, share)
    children: list[int] = []
    await next_turn()
    live, id = list(system.live.values()), token.id
    async for at in in_turns(range(0, len(live), _SCANNED)):
        made = [child for child in live[at : at + _SCANNED] if child.parent == id]
        children += [one.id for one in made if not one._place.serves_operators and (here is None or here.sees(one))]
    if here is not None and not here.sees(token):
        raise _not_seen(system, token.id)  # it was moved out of sight meanwhile
    paused, stopped = (0.0, 0.0) if hold is None else hold.seconds(system.clock())
    return TokenDescription(
        row=row,
        arguments=arguments,
        children=tuple(children),
        created_at=token.created_at,
        queued_at=token.queued_at,
        started_at=token.started_at,
        paused_for=paused,
        stopped_clock=stopped,
        waits_for=tuple(waits_of(token)),
        thread=thread_name,
        cpu_share=share,
        memory=None if process is None else process.memory,
        guard=properties.guard,
        idempotent=place_of(token).is_idempotent(token._call),
        policy=dict(held_to(token)),
        process=process,
        limits=limits_of(token),
        deadline=None if token.deadline is None else token.deadline - system.clock(),
        attempts=tuple(attempts_of(token)),
        predicted=prediction_of(token, system.clock(), values=values),
    )


def has_own_process(token: Token[Any], here: Admission) -> bool:
    """Tell whether the process of a token has run only what the caller may see, so that its figures are of that."""
    drain = process_drain(token)
    return drain is not None and drain.own and here.sees_place(place_of(token))


def waits_of(token: Token[Any]) -> Iterable[str]:
    """Yield what a token waits for, as far as the caller may see that."""
    run, here = token._run, restricted()
    if run is not None and not token.done() and (here is None or here.sees(run)):
        yield f"token {run.id}, which runs for it"
    for awaited in tuple(token._extras.waits):
        if isinstance(awaited, Token):
            if here is None or here.sees(awaited):
                yield f"token {awaited.id} ({awaited.operation} of '{awaited.actor}')"
        elif isinstance(awaited, Place) and (here is None or here.sees_place(awaited)):
            yield f"room in the mailbox of '{awaited.path}'"


async def tree_rows(system: ActorSystem, root: str, *, own: bool) -> tuple[TreeRow, ...]:
    """Return the supervision tree from a path down, as far as the caller may see it.

    Args:
        system: the system.
        root: the path of the topmost node.
        own: whether to add the runtime's own tree.

    Raises:
        UnknownActor: there is no such path.
    """
    here = restricted()
    paths = (root, SYSTEM) if own and root == ROOT else (root,)
    # A caller that may not see the root sees the topmost nodes that it may see.
    tops = [actor_called(system, path) if here is None or root != ROOT else system.place_at(path) for path in paths]
    nodes = [node for top in tops if isinstance(top, ActorPlace) for node in _branch(top, 0, None, here)]
    return tuple([_tree_row(*node) async for node in in_turns(nodes, _ROWS)])


_Node: TypeAlias = tuple[ActorPlace, int, ChildInfo | None]


def _branch(place: ActorPlace, depth: int, info: ChildInfo | None, here: Admission | None) -> Iterable[_Node]:
    """Yield a place and all below it, without those that the caller may not see.

    Supervisors run on this loop, so none changes during the call.
    """
    if here is None or here.sees_place(place):
        yield place, depth, info
        depth += 1
    supervisor = supervisor_at(place)
    if supervisor is not None:
        below = {child.path: child for child in place.system.below(place)}
        for child in reversed(supervisor.which_children()):
            if child.path in below:
                yield from _branch(below[child.path], depth, child, here)


def _tree_row(place: ActorPlace, depth: int, info: ChildInfo | None) -> TreeRow:
    supervisor = supervisor_at(place)
    ends, window = restarts_at(place)
    return TreeRow(
        depth=depth,
        path=place.path,
        id=place.path if info is None else info.id,
        kind=kind_of(place.actor_class if info is None else info.start),
        status=str(place.status if info is None else info.status),
        restart="" if info is None else info.restart,
        restarts=max(0, place.starts - 1) if info is None else info.restarts,
        strategy="" if supervisor is None else supervisor.strategy,
        queued=place.mailbox.size,
        running=tuple(token.id for token in place.drain.running()),
        suspended=place.suspended,
        last_end=ends[-1] if ends else None,
        window=window,
    )


async def gate_info(system: ActorSystem, state: str, uptime: float, restarts: Callable[[], int]) -> GateInfo:
    """Return the figures of a gate; of what the caller may see, if that is not everything."""
    here = restricted()
    if here is not None:
        return await _info_of_seen(system, state, uptime, here)
    if len(system.live) > 1_000:
        await next_turn()  # the first turn comes at once, which is too early for so many tokens
    counting = system.statistics_in_parts()
    while (figures := next(counting)) is None:
        await next_turn()
    return GateInfo(
        name=system.name,
        pid=os.getpid(),
        version=own_version(),
        python=platform.python_version(),
        state=state,
        uptime=uptime,
        tokens={str(name): number for name, number in figures.tokens.items()},
        actors=figures.actors,
        restarts=restarts(),
        threads=figures.dispatcher.threads,
        blocked=figures.dispatcher.blocked,
        abandoned=figures.abandoned,
        pauses_running_code=monitor is not None,
        processes=figures.processes,
        gc_thresholds=gc.get_threshold(),
        cores=system.cores,
        memory=memory(),
    )


async def _info_of_seen(system: ActorSystem, state: str, uptime: float, here: Admission) -> GateInfo:
    """Return what a gate says to a caller that may not see everything."""
    tokens: Counter[str] = Counter()
    await next_turn()
    async for chunk in in_turns(chunks(list(system.live.values()), max(1, 1_000 // (3 + here.terms)))):
        tokens.update(state_of(token) for token in chunk if token._end is None and here.sees(token))
    return GateInfo(
        name=system.name,
        pid=os.getpid(),
        version=own_version(),
        python=platform.python_version(),
        state=state,
        uptime=uptime,
        tokens=dict(tokens),
        actors=sum(isinstance(place, ActorPlace) for place in places_called(system, "")),
        restarts=0,
        threads=0,
        blocked=0,
        abandoned=(),
        pauses_running_code=monitor is not None,
        sight=here.sight,
    )
