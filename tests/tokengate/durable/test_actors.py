"""Durable messages of actors of each kind, and the states that actors save."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import journals
import pytest
from durable_operations import COUNTERS, Counter, Refused, noted
from tiers import IN_CI, in_ci

from actors import ActorRef, CpuActor, NotDurable, StartFailed
from tokengate import ChildSpec, Gate
from tokengate.control._uids import text_of
from tokengate.durable import Journal

pytestmark = pytest.mark.usefixtures("programs")

KINDS = pytest.mark.parametrize("kind", ["cpu", *(pytest.param(k, marks=in_ci) for k in ("io", "asyncio", "process"))])

COUNTING = """
import sys
from durable_operations import COUNTERS, note
from tokengate import ChildSpec, Gate
from tokengate.durable import Journal
directory, ledger, kind = sys.argv[1:]
spec = ChildSpec("counter", COUNTERS[kind])
with Gate("shop", children=[spec], plugins=[Journal(directory)], control_socket=False) as gate:
    counter = gate.find("counter")
    while True:
        token = counter.do(COUNTERS[kind].add, 1)
        print("accepted", flush=True)
        token.add_done_callback(lambda one: note(ledger, str(one.result())))
"""

LEFT = """
import os, signal, sys
from durable_operations import COUNTERS
from tokengate import ChildSpec, Gate
from tokengate.durable import Journal
directory, kind, method = sys.argv[1:]
spec = ChildSpec("counter", COUNTERS[kind], args=("", os.getpid()))
with Gate("shop", children=[spec], plugins=[Journal(directory)], control_socket=False) as gate:
    counter = gate.find("counter").proxy()
    counter.add(1).get()
    gate.control.suspend("counter")
    getattr(counter, method)()
    counter.add(2)
    counter.add(3)
    gate.control.unsuspend("counter")
    signal.pause()
"""


@contextmanager
def opened(directory: Path, kind: str, *args: Any) -> Iterator[ActorRef[Counter]]:
    """A gate with a journal and one counter."""
    spec = ChildSpec("counter", COUNTERS[kind], args=args)
    with Gate("shop", children=[spec], plugins=[Journal(directory)], control_socket=False) as gate:
        yield gate.find("counter")


@KINDS
def test_a_state_is_saved_with_the_end_of_the_message(tmp_path: Path, kind: str) -> None:
    """Both are there at the next opening. Case 14."""
    with opened(tmp_path / "journal", kind) as counter:
        assert [counter.proxy().add(by).get() for by in (1, 2)] == [1, 3]
    with opened(tmp_path / "journal", kind) as counter:
        assert counter.proxy().count().get() == 3


@in_ci
@KINDS
def test_saved_states_are_exact_over_kills(
    tmp_path: Path, kind: str, seed: int, rounds: Callable[[int], int], until: Callable[[Callable[[], bool]], None]
) -> None:
    """Each accepted message counts once, whatever was acknowledged before the process died. Case 14."""
    draw = random.Random(seed)
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    accepted = 0
    for _ in range(rounds(4 if IN_CI else 1)):
        with journals.start(COUNTING, directory, ledger, kind) as program:
            for _ in range(draw.randint(1, 40)):
                assert program.stdout.readline() == "accepted\n"
            program.kill()
            accepted += len(program.stdout.readlines()) + 1

    with opened(directory, kind):
        until(lambda: journals.all_have_ended(directory))
    with opened(directory, kind) as counter:
        count = counter.proxy().count().get()
    rows = journals.rows(directory)
    acknowledged = noted(ledger)

    counted = [row for row in rows if not journals.is_poison(row)]
    assert len(rows) >= accepted > 0
    assert count == len(counted)
    assert {row["state"] for row in counted} == {4}
    assert len(set(acknowledged)) == len(acknowledged)
    assert {int(row["result"]) for row in counted} == set(range(1, count + 1))


@KINDS
def test_a_message_that_crashes_its_actor_saves_nothing(tmp_path: Path, kind: str) -> None:
    """It has failed, and is not delivered again; the next instance begins with what was saved before. Case 13."""
    directory, ledger = tmp_path / "journal", tmp_path / "ledger"
    with opened(directory, kind, str(ledger)) as counter:
        counter.proxy().add(1).get()
        with pytest.raises(ValueError, match="it crashes"):
            counter.proxy().crash(10).get()

        assert counter.proxy().count().get() == 1
    with opened(directory, kind, str(ledger)) as counter:
        assert counter.proxy().count().get() == 1
    assert noted(ledger) == ["crash"]
    assert [row["state"] for row in journals.rows(directory)] == [4, 5]


@KINDS
def test_an_expected_error_saves_what_its_message_has_saved(tmp_path: Path, kind: str) -> None:
    """The instance goes on with that state, and the message has ended. Case 14."""
    with opened(tmp_path / "journal", kind) as counter:
        with pytest.raises(Refused, match="no 5"):
            counter.proxy().refuse(5).get()
        assert counter.proxy().count().get() == 5
    with opened(tmp_path / "journal", kind) as counter:
        assert counter.proxy().count().get() == 5


@KINDS
def test_a_plain_message_and_a_hook_save_in_a_commit_of_their_own(tmp_path: Path, kind: str) -> None:
    """Later than that of the message before, whose end may not be on disk yet; one that crashes saves nothing."""
    with opened(tmp_path / "journal", kind) as counter:
        counter.proxy().add(7)
        counter.proxy().reset().get()
        with pytest.raises(ValueError, match="plainly"):
            counter.proxy().save_and_crash(3).get()
        assert counter.proxy().count().get() == 0
        counter.proxy().at_stop(9).get()
    with opened(tmp_path / "journal", kind) as counter:
        assert counter.proxy().count().get() == 9


@KINDS
def test_messages_that_were_left_go_on(tmp_path: Path, kind: str, until: Callable[[Callable[[], bool]], None]) -> None:
    """One that had begun runs again, since its method is idempotent; those behind it follow."""
    directory = tmp_path / "journal"
    with journals.start(LEFT, directory, kind, "die_again") as program:
        program.communicate()
    with opened(directory, kind) as counter:
        until(lambda: counter.proxy().count().get() == 6)
    assert [row["state"] for row in journals.rows(directory)] == [4, 4, 4, 4]


@in_ci
def test_messages_wait_for_the_actor(tmp_path: Path, until: Callable[[Callable[[], bool]], None]) -> None:
    """On disk, until there is a place with their path whose class has the method. Case 22."""
    directory = tmp_path / "journal"
    spawns = '    gate.spawn(COUNTERS[kind], "", os.getpid(), name="counter")'
    before, after = LEFT.replace("children=[spec], ", "").split("    counter =")
    spawned = f"{before}{spawns}\n    counter =" + after.replace('"counter"', '"spawned/counter"')
    with journals.start(spawned, directory, "cpu", "die_again") as program:
        program.communicate()
    with Gate("shop", plugins=[Journal(directory)], control_socket=False) as gate:
        other = gate.spawn(COUNTERS["cpu"], name="other")
        assert other.proxy().add(1).get() == 1
    assert [row["state"] in (1, 2) for row in journals.rows(directory)] == [False, True, True, True, False]
    with Gate("shop", plugins=[Journal(directory)], control_socket=False) as gate:
        counter = gate.spawn(COUNTERS["cpu"], name="counter")
        until(lambda: counter.proxy().count().get() == 6)


@KINDS
def test_a_durable_actor_needs_a_journal(kind: str) -> None:
    """It says so as it starts, if it reads what it has saved."""
    spec = ChildSpec("counter", COUNTERS[kind])
    with pytest.raises(StartFailed, match="no journal"), Gate("shop", children=[spec], control_socket=False):
        pass


class Plain(CpuActor):
    durable = ("add",)

    def add(self, by: int) -> int:
        return by

    def keep(self, value: object) -> None:
        self.save(value)


def test_a_durable_message_needs_a_journal() -> None:
    """Its sender is told; plain messages of the actor run."""
    spec = ChildSpec("plain", Plain)
    with Gate("shop", children=[spec], control_socket=False) as gate:
        plain = gate.find("plain").proxy()
        with pytest.raises(NotDurable, match="no journal"):
            plain.add(1)
        with pytest.raises(NotDurable, match="no journal"):
            plain.keep(1).get()


@pytest.mark.parametrize("value", [float("nan"), (1, 2), b"text", object()])
def test_a_state_that_would_not_come_back_is_refused(tmp_path: Path, value: object) -> None:
    """The error says how it is kept: by its type. Case 24."""
    spec = ChildSpec("plain", Plain)
    with (
        Gate("shop", children=[spec], plugins=[Journal(tmp_path / "journal")], control_socket=False) as gate,
        pytest.raises(NotDurable, match=r"state that actor 'plain' saves.*type="),
    ):
        gate.find("plain").proxy().keep(value).get()


@pytest.mark.parametrize("what", ["durable", "idempotent"])
def test_names_are_those_of_methods(what: str) -> None:
    """A name that no method has would leave its messages without the promise."""
    misspelt = type("Misspelt", (Plain,), {what: ("ad",)})
    no_method = pytest.raises(StartFailed, match=f"{what} of Misspelt names 'ad', which is no method")
    with Gate("shop", control_socket=False) as gate, no_method:
        gate.spawn(misspelt)


def test_a_state_whose_bits_have_changed_is_no_state(tmp_path: Path) -> None:
    """The actor does not start, and what is on disk stays as it is. Case 8."""
    directory = tmp_path / "journal"
    with opened(directory, "cpu") as counter:
        counter.proxy().add(5).get()
    with sqlite3.connect(directory / "journal.db") as db:
        db.execute("DROP TRIGGER saved_changed")
        db.execute("UPDATE saved SET value = replace(value, '5', '7')")
    db.close()

    with pytest.raises(StartFailed, match="have changed on disk"), opened(directory, "cpu"):
        pass


STEERED = """
import os, sys
from durable_operations import COUNTERS, pid
from tokengate import ChildSpec, Gate
from tokengate.durable import Journal
children = [ChildSpec(name, COUNTERS["cpu"]) for name in ("one", "other")]
with Gate("shop", children=children, plugins=[Journal(sys.argv[1])], control_socket=False) as gate:
    for place in ("one", "other"):
        gate.control.suspend(place)
    message = gate.find("one").do(COUNTERS["cpu"].add, 5)
    pid.submit().result()
    gate.control.suspend("operations/pid")
    call = pid.submit()
    for token in (message, call):
        gate.control.renice(token.id, 7)
        gate.control.retag(token.id, {"tenant": "a"})
    gate.control.reroute(message.id, actor="other")
    gate.control.reroute(call.id, affinity="process")
    gate.plugin(Journal)._journal.call(lambda db: None).result()
    os.kill(os.getpid(), 9)
"""


@in_ci
def test_what_operators_change_is_written(tmp_path: Path, until: Callable[[Callable[[], bool]], None]) -> None:
    """Priority, tags and place of what is left are as they were, and it runs there."""
    directory = tmp_path / "journal"
    with journals.start(STEERED, directory) as program:
        assert program.communicate()[1] == ""
    children = [ChildSpec(name, COUNTERS["cpu"]) for name in ("one", "other")]
    (uid,) = (row["uid"] for row in journals.rows(directory, where="operation LIKE '%:pid' AND state < 4"))
    journal = Journal(directory)
    with Gate("shop", children=children, plugins=[journal], control_socket=False) as gate:
        until(lambda: gate.find("other").proxy().count().get() == 5)
        assert gate.find("one").proxy().count().get() == 0
        assert journal.attach(text_of(uid)).result(30) not in (None, os.getpid())

    rows = journals.rows(directory, where="priority = 7")
    assert [(row["state"], row["path"], row["tags"]) for row in rows] == [
        (4, "other", '{"tenant":"a"}'),
        (4, "operations/pid@process", '{"tenant":"a"}'),
    ]


def test_a_durable_token_is_not_moved_to_a_place_of_plain_ones(tmp_path: Path) -> None:
    """Its row would be at a place where it cannot run again."""
    children = [ChildSpec("plain", Plain), ChildSpec("counter", COUNTERS["cpu"])]
    with Gate("shop", children=children, plugins=[Journal(tmp_path / "journal")], control_socket=False) as gate:
        gate.control.suspend("counter")
        message = gate.find("counter").do(Counter.refuse, 5)
        (outcome,) = gate.control.reroute(message.id, actor="plain")
        assert (outcome.outcome, "durable" in outcome.note) == ("refused", True)
        gate.control.unsuspend("counter")
