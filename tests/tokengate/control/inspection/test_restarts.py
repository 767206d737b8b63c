"""Why an actor was restarted, as operators see it: the same through every way in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import attrs
import pytest
from gated_code import LIMIT, Door, opened_at_the_end

from actors import UnknownActor
from supervisors import ChildSpec, Supervisor
from tokengate import CpuActor, Gate, token
from tokengate.control import ControlClient, find_gate
from tokengate.control import messages as m
from tokengate.control.rendering._tables import as_text

Until = Callable[[Callable[[], bool]], None]


class Mailer(CpuActor):
    def send(self, to: str) -> None:
        raise LookupError(f"no route to {to}")

    def hold(self, door: Door) -> None:
        door.pass_through()


@token
def nothing() -> None: ...


@pytest.fixture
def office() -> Iterator[Gate]:
    """A gate with a supervisor that has restarted its mailer, once, and another child."""
    children = ChildSpec("mailer", Mailer), ChildSpec("spare", Mailer)
    specs = [Supervisor.child_spec("office", children, intensity=7, period=1_000.0)]
    with Gate("why", threads=2, children=specs, shutdown=LIMIT) as gate:
        yield gate


def crash(gate: Gate, until: Until, restarts: int = 1) -> int:
    """Crash the mailer in a token, wait for its restart, and return the token's id."""
    sent = gate.find("office/mailer").proxy().send("mars")
    assert sent.exception(LIMIT) is not None
    until(lambda: gate.control.actor("mailer").row.starts == restarts + 1)
    until(lambda: gate.control.describe_actor("mailer").ends[-1].restarted)
    id: int = sent.id
    return id


def test_an_actor_is_described_with_its_ends_and_the_window_of_its_supervisor(office: Gate, until: Until) -> None:
    """Each end has its reason as `events` show it, and the token; the window has what is used and allowed."""
    ids = [crash(office, until, number) for number in (1, 2)]

    found = office.control.describe_actor("mailer")
    assert (found.row.path, found.supervisor, found.own_window) == ("office/mailer", "office", None)
    assert [attrs.evolve(end, at=0.0) for end in found.ends] == [
        m.EndRow(0.0, "error(LookupError('no route to mars'))", "LookupError", id, "Mailer.send", True, 0.0)
        for id in ids
    ]
    assert found.ends[0].at <= found.ends[1].at
    assert found.window is not None
    assert (found.window.used, found.window.allowed, found.window.period) == (2, 7, 1_000.0)
    assert 0.0 <= (found.window.frees_in or -1.0) <= 1_000.0
    supervisor = office.control.describe_actor("office")
    assert (supervisor.ends, supervisor.supervisor) == ((), "/")
    assert (supervisor.own_window or found.window).used == 2
    assert supervisor.window == m.WindowRow(0, 3, 5.0)
    root = office.control.describe_actor("/")
    assert (root.supervisor, root.window, root.own_window) == ("", None, m.WindowRow(0, 3, 5.0))


def test_the_tree_has_the_latest_end_and_children_have_all(office: Gate, until: Until) -> None:
    """A child that has never ended has none."""
    crash(office, until)

    [described] = office.control.actor("mailer").describe().ends
    rows = {row.path: row for row in office.control.tree()}
    assert rows["office/mailer"].last_end == described
    assert (rows["office/spare"].last_end, rows["office/spare"].window, rows["office"].last_end) == (None, None, None)
    assert rows["office"].window is not None
    assert rows["office"].window.used == 1
    children = {row.id: row.ends for row in office.control.which_children("office")}
    assert children == {"mailer": (described,), "spare": ()}
    text = as_text(office.control.tree())
    assert "restarts=1  last end error(LookupError) " in text
    assert "mars" not in text


def test_the_socket_says_the_same(office: Gate, until: Until) -> None:
    """As rows, whose fields are those of the answers in Python."""
    crash(office, until)

    client = ControlClient(find_gate(f"why@{os.getpid()}").path)
    try:
        assert client.ask(m.DescribeActor("mailer")).ends == office.control.describe_actor("mailer").ends
        there, here = client.ask(m.Tree("office/mailer")), office.control.tree("office/mailer")
        assert there == here
        assert client.ask(m.WhichChildren("office")) == office.control.which_children("office")
    finally:
        client.close()


def test_an_actor_that_was_left_behind_with_its_token_names_it(office: Gate, until: Until) -> None:
    """To kill its token is an end of the actor, too."""
    with opened_at_the_end() as doors:
        door = doors()
        held = office.find("office/mailer").proxy().hold(door)
        door.wait_reached()
        [outcome] = office.control.terminate(held.id, "kill", grace=0)
        assert outcome.outcome == "abandoned"
        until(lambda: bool(office.control.describe_actor("mailer").ends))

        [end] = office.control.describe_actor("mailer").ends
        assert (end.reason, end.error, end.token, end.operation) == ("killed", "", held.id, "Mailer.hold")


def test_an_operation_is_described_and_never_ends(office: Gate) -> None:
    """It has no instances, and no supervisor; what has no place is unknown."""
    nothing.submit().result(LIMIT)

    found = office.control.describe_actor("operations/nothing")
    assert (found.row.kind, found.supervisor, found.ends, found.window) == ("operation", "", (), None)
    with pytest.raises(UnknownActor):
        office.control.describe_actor("nobody")
