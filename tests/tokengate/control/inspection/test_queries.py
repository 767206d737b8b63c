"""What operators see of tokens, actors and the tree is what is there."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest
import trio
from gated_code import LIMIT, Door
from running_tokens import Turner, cpu_operation, io_operation
from tiers import in_ci

from actors import Token, UnknownActor
from supervisors import Backoff, ChildSpec, Supervisor
from tokengate import CpuActor, Gate, token
from tokengate.control import _version
from tokengate.control import messages as m
from tokengate.control._admission import Admission, Caller
from tokengate.control._exceptions import BadRequest, UnknownToken
from tokengate.control.inspection import _queries
from tokengate.control.inspection._counters import Counts
from tokengate.control.inspection._selector import parse
from tokengate.control.inspection._views import page_of
from tokengate.control.steering._tokens import TokenVerbs

Doors = Callable[[], Door]
Until = Callable[[Callable[[], bool]], None]


@token
def nothing() -> str:
    return "done"


def row_of(gate: Gate, name: str) -> m.ActorRow:
    [handle] = gate.control.actors(name)
    return handle.row


# --- Describe --------------------------------------------------------------------------------------------------------


def test_arguments_are_types_and_sizes_unless_the_operation_shows_them(gate: Gate, door: Door) -> None:
    """Values of built-in types only, and only of those that are named."""

    @token
    def closed(door: Door, data: bytes, *, key: str) -> None:
        door.pass_through()

    @token(show=("door", "data"))
    def shown(door: Door, data: bytes, *, key: str) -> None:
        door.pass_through()

    hidden, seen = closed.submit(door, b"abc", key="k"), shown.submit(door, b"abc", key="k")

    assert gate.control.describe(hidden).arguments == (
        m.Argument("door", "Door"),
        m.Argument("data", "bytes", 3),
        m.Argument("key", "str", 1),
    )
    assert gate.control.describe(seen).arguments == (
        m.Argument("door", "Door"),
        m.Argument("data", "bytes", 3, "b'abc'"),
        m.Argument("key", "str", 1),
    )


def test_a_token_is_described_with_what_it_made_and_what_it_waits_for(gate: Gate, door: Door, until: Until) -> None:
    """Children by their ids, waits in words; a child knows its parent."""

    @token
    def parent(door: Door) -> str:
        return cpu_operation.submit(door).result()

    made = parent.submit(door)
    door.wait_reached()
    [child] = gate.control.tokens("operation=turn")
    until(lambda: bool(gate.control.describe(made).waits_for))

    described = gate.control.describe(made)
    assert described.children == (child.id,)
    assert described.waits_for == (f"token {child.id} (turn of 'operations/turn')",)
    assert described.row.parent is None
    assert gate.control.describe(child.id).row.parent == made.id
    door.open()
    assert made.result(LIMIT) == "through"


def test_a_token_is_described_where_it_is(gate: Gate, door: Door) -> None:
    """Its times, its thread and how much that computes; a task has no thread of its own."""
    sent = cpu_operation.submit(door)
    door.wait_reached()

    described = gate.control.describe(sent)
    assert described.row.state == "running"
    assert described.created_at <= (described.queued_at or 0) <= (described.started_at or 0)
    assert described.thread in {"control-cpu-0", "control-cpu-1"}
    assert described.cpu_share is not None
    assert 0 <= described.cpu_share <= 1
    assert (described.guard, described.idempotent, described.memory) == ("none", False, None)
    waiting = io_operation.submit(door)
    assert gate.control.describe(waiting).cpu_share is None


def test_what_is_not_live_is_told_with_its_end(gate: Gate) -> None:
    """`describe` and `stack` are for live tokens."""
    ended = nothing.submit()
    ended.result(LIMIT)

    with pytest.raises(UnknownToken, match="completed"):
        gate.control.describe(ended)
    with pytest.raises(UnknownToken, match="no token"):
        gate.control.stack(10**6)
    for id in (0, -1, 10**30):
        with pytest.raises(UnknownToken):
            gate.control.describe(id)


# --- Lists -----------------------------------------------------------------------------------------------------------


def turns_during(ask: Callable[[], Awaitable[Any]]) -> int:
    """Return how often another task of a loop gets its turn while one answers."""
    turns = [0]

    async def heart() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            turns[0] += 1

    async def main() -> int:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(heart)
            await trio.lowlevel.checkpoint()
            before = turns[0]
            with Admission(m.Info(), Caller("process", os.geteuid())).at_work():
                await ask()
            during = turns[0] - before
            nursery.cancel_scope.cancel()
        return during

    return trio.run(main)


@in_ci
def test_twenty_thousand_tokens_are_listed_in_pages_and_steered_and_the_loop_is_never_held_up(gate: Gate) -> None:
    """Whatever is done to so many, others get their turn after every thousand looks, and every hundred changes.

    To look whether one is a child takes a fifth of another look, so five thousand of these are made in a turn.
    """
    nothing.submit().result(LIMIT)
    gate.control.suspend("nothing")
    place: Any = gate._system.find("operations/nothing")
    place.mailbox.capacity = place.mailbox._limit = 30_000
    narrow = nothing.with_options(tags={"tenant": "acme"})
    sent: list[Token[str]] = [narrow.submit() for _ in range(20_000)]
    system, verbs = gate._system, TokenVerbs(gate)

    async def page() -> None:
        tokens = lambda: list(system.live.values())  # noqa: E731
        found = await page_of(tokens, parse("tenant=acme"), "-age", 5_000, 10_000, system.clock())
        assert len(found.rows) == 5_000

    async def describe() -> None:
        for _ in range(10):
            await _queries.describe(system, sent[0])

    assert turns_during(page) >= 18
    assert turns_during(describe) >= 39  # of 40, since trio draws which of two tasks is next
    for ask in (
        lambda: verbs.renice(m.Renice("tenant=acme", priority=3)),
        lambda: verbs.pause(m.Pause("tenant=acme")),
        lambda: verbs.resume(m.Resume(tuple(one.id for one in sent))),
        lambda: verbs.terminate(m.Terminate("tenant=acme")),
    ):
        assert turns_during(ask) >= 390
    assert all(one.done() for one in sent)

    seen: set[int] = set()
    for offset in range(0, 20_000, 5_000):
        seen.update(row.id for row in gate.control.tokens("tenant=acme", limit=5_000, offset=offset))
    assert seen == set()


def test_pages_have_each_of_many_tokens_once(gate: Gate) -> None:
    """Page after page, in the order that was asked for."""
    nothing.submit().result(LIMIT)
    gate.control.suspend("nothing")
    sent = [nothing.submit() for _ in range(5_000)]
    rows = [row for offset in range(0, 5_000, 700) for row in gate.control.tokens(sort="-id", limit=700, offset=offset)]

    assert [row.id for row in rows] == [one.id for one in reversed(sent)]


def test_actors_are_found_by_path_by_name_and_by_pattern(gate: Gate) -> None:
    """The runtime's own only when they are asked for."""
    for name in ("left", "right"):
        gate.spawn(Turner, name=name)
    nothing.submit().result(LIMIT)

    def paths(name: str = "") -> list[str]:
        return [row.path for row in gate.control.actors(name)]

    assert paths() == ["/", "spawned", "spawned/left", "spawned/right", "operations/nothing"]
    assert paths("left") == paths("spawned/left") == ["spawned/left"]
    assert paths("*t") == ["spawned/left", "spawned/right"]
    assert paths("$system*") == ["$system", "$system/control"]
    for name in ("nobody", "no*body"):
        with pytest.raises(UnknownActor):
            gate.control.actors(name)


def test_an_actor_is_shown_with_what_it_has_in_hand(gate: Gate, door: Door, until: Until) -> None:
    """Depth, tokens in hand, and how busy it was while it was looked at."""
    proxy = gate.spawn(Turner, name="turner").proxy()
    busy = proxy.turn(door)
    door.wait_reached()
    proxy.turn(door)

    row = row_of(gate, "turner")
    assert (row.kind, row.affinity, row.status, row.depth, row.running) == ("Turner", "cpu", "running", 1, (busy.id,))
    assert (row.capacity, row.starts, row.handled, row.busy_share) == (10_000, 1, 1, None)
    [sampled] = gate.control.actors("turner", sample=0.02)
    assert sampled.row.busy_share == 1.0
    nothing.submit().result(LIMIT)
    until(lambda: not gate._system.find("operations/nothing").drain.running())
    [idle] = gate.control.actors("nothing", sample=0.02)
    assert idle.row.busy_share == 0.0
    assert idle.row.kind == "operation"
    with pytest.raises(BadRequest):
        gate.control.actors(sample=-1)


# --- The tree --------------------------------------------------------------------------------------------------------


class Moody(CpuActor):
    def crash(self) -> None:
        raise RuntimeError("as told")


def test_the_tree_is_what_supervisors_know(until: Until) -> None:
    """Each node below its supervisor, in the order of the start; one that waits for its restart is there, too."""
    backoff = Backoff(min=10 * LIMIT, max=10 * LIMIT)
    shop = Supervisor.child_spec("shop", (ChildSpec("one", Turner), ChildSpec("two", Moody)), backoff=backoff)
    with Gate("tree", control_socket=False, children=[shop]) as gate:
        gate.spawn(Turner, name="spawn")

        def shown(root: str = "/", *, system: bool = False) -> list[tuple[int, str, str]]:
            return [(row.depth, row.path, row.status) for row in gate.control.tree(root, system=system)]

        assert shown() == [
            (0, "/", "running"),
            (1, "spawned", "running"),
            (2, "spawned/spawn", "running"),
            (1, "shop", "running"),
            (2, "shop/one", "running"),
            (2, "shop/two", "running"),
        ]
        gate.find("shop/two").proxy().crash().exception(LIMIT)
        until(lambda: shown("shop")[2] == (1, "shop/two", "restarting"))
        assert shown("shop/one") == [(0, "shop/one", "running")]
        assert shown(system=True)[-2:] == [(0, "$system", "running"), (1, "$system/control", "running")]
        rows = {row.path: row for row in gate.control.tree()}
        assert (rows["shop"].kind, rows["shop"].strategy, rows["shop"].restart) == (
            "Supervisor",
            "one_for_one",
            "permanent",
        )
        assert (rows["shop/one"].kind, rows["shop/one"].strategy, rows["shop/one"].restarts) == ("Turner", "", 0)
        with pytest.raises(UnknownActor):
            gate.control.tree("nobody")
        gate.control.stop("shop/two")
        assert shown("shop")[2] == (1, "shop/two", "stopped")
        gate.control.restart("shop/one")
        assert [row.restarts for row in gate.control.tree("shop") if row.id == "one"] == [1]


def test_a_large_tree_holds_nothing_up(gate: Gate) -> None:
    """Rows are made a hundred at a time."""
    for number in range(500):
        gate.spawn(Turner, name=f"t{number}")
    system = gate._system
    places = [place for place in system.places() if place.path.startswith("spawned/t")]

    assert turns_during(lambda: _queries.tree_rows(system, "/", own=False)) >= 3
    assert turns_during(lambda: _queries.actor_rows(places, Counts(system), 0.0)) >= 3
    assert (len(gate.control.tree()), len(gate.control.actors("t*"))) == (502, 500)


def test_a_gate_tells_how_it_is(gate: Gate, door: Door) -> None:
    """Questions to it are no tokens of the user's."""
    for _ in range(5):
        nothing.submit().result(LIMIT)
        gate.control.tokens()
    cpu_operation.submit(door)
    door.wait_reached()

    info = gate.control.info()
    assert (info.name, info.state, info.threads >= 2, info.actors) == ("control", "open", True, 2)
    assert (info.tokens["completed"], info.tokens["running"]) == (5, 1)
    assert info.uptime > 0


# --- Information on the gate -----------------------------------------------------------------------------------------


def test_files_that_were_copied_without_metadata_have_an_unknown_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those in an archive, or on `PYTHONPATH`: information on the gate and its socket need none."""

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(_version, "version", missing)
    _version.own_version.cache_clear()
    try:
        assert _version.own_version() == "unknown"
    finally:
        _version.own_version.cache_clear()
