"""`durable-token fork`: a new token that takes over the steps before one of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import journals
import pytest
from callers import ANN, BOB, Wire, gates_of, grants
from durable_operations import Sums, noted, summed

from tokengate import Gate
from tokengate.control import BadRequest
from tokengate.durable import Journal
from tokengate.durable import _kinds as k
from tokengate.errors import Refused

Until = Callable[[Callable[[], bool]], None]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal")
    with Gate("shop", plugins=[journal], control_socket=False):
        yield journal


@pytest.fixture
def ended(tmp_path: Path, until: Until) -> Callable[[str], tuple[int, bytes | None]]:
    """Wait for a token, and return the state and the result of its row."""

    def wait(uid: str) -> tuple[int, bytes | None]:
        run, _, id = uid.partition(".")
        where = f"uid = {int(run) << 40 | int(id)}"
        until(lambda: journals.rows(tmp_path / "journal", "state", where)[0]["state"] > 3)
        row = journals.rows(tmp_path / "journal", "state, result", where)[0]
        return row["state"], row["result"]

    return wait


def test_a_fork_takes_over_the_steps_before_one(
    tmp_path: Path, journal: Journal, ended: Callable[[str], tuple[int, bytes | None]]
) -> None:
    """It does not call these again, and calls that one and those after it; its row is the answer."""
    ledger = tmp_path / "ledger"
    token = summed.with_options(tags={"tenant": "acme"}).submit(str(ledger), 1)
    assert token.result(60) == 6
    assert noted(ledger) == ["1 + 1", "1 + 2", "2 * 3"]

    row = journal.rows.fork(token.uid, from_="part 1", reason="the second part was wrong")

    assert ended(row.uid) == (4, b"6")
    assert noted(ledger)[3:] == ["1 + 2", "2 * 3"]
    within = journal.rows.fork(token.uid, from_="whole 0 > twice 0")
    assert ended(within.uid) == (4, b"6")
    assert noted(ledger)[5:] == ["2 * 3"]
    assert (row.operation, row.key, row.tags) == (
        "durable_operations:summed", "", {"tenant": "acme", "fork": token.uid},
    )  # fmt: skip


def test_a_fork_with_another_argument_has_it_in_the_steps_that_it_calls(
    tmp_path: Path, journal: Journal, ended: Callable[[str], tuple[int, bytes | None]]
) -> None:
    """The values of the steps before are those of the first token."""
    ledger = tmp_path / "ledger"
    token = summed.submit(str(ledger), 1)
    token.result(60)

    row = journal.rows.fork(token.uid, from_="whole", set={"factor": "10"})

    assert ended(row.uid) == (4, b"60")
    assert noted(ledger)[3:] == ["2 * 3"]


def test_a_step_that_has_failed_is_where_a_fork_goes_on(
    tmp_path: Path, journal: Journal, ended: Callable[[str], tuple[int, bytes | None]]
) -> None:
    """It is not on disk, and comes after all that are; so it is with steps within it."""
    ledger = tmp_path / "ledger"
    token = summed.submit(str(ledger), 0)
    with pytest.raises(ZeroDivisionError):
        token.result(60)

    row = journal.rows.fork(token.uid, from_="whole", set={"factor": "2"})

    assert ended(row.uid) == (4, b"12")
    assert noted(ledger) == ["1 + 1", "1 + 2", "2 * 3", "2 * 3"]


def test_a_message_of_an_actor_is_forked_too(
    tmp_path: Path, journal: Journal, ended: Callable[[str], tuple[int, bytes | None]]
) -> None:
    """It goes to the actor, with another argument if that is asked for."""
    ledger = tmp_path / "ledger"
    token = journal.gate.spawn(Sums, name="sums").proxy().summed(str(ledger), 1)
    token.result(60)

    row = journal.rows.fork(token.uid, from_="part 1", set={"factor": "3"})

    assert ended(row.uid) == (4, b"18")
    assert noted(ledger)[3:] == ["1 + 2", "2 * 3"]


@pytest.mark.parametrize(
    ("name", "step", "changes", "says"),
    [
        ("1.77", "part", {}, "no durable token '1.77'"),
        ("seventeen", "part", {}, "uid is 'seventeen'"),
        ("", "", {}, "from which step"),
        ("", "part", {"factors": "3"}, "has no argument 'factors'; it has ledger, factor"),
        ("", "part", {"factor": "three"}, "argument 'factor' of 'durable_operations:summed' cannot be 'three'"),
    ],
)
def test_what_cannot_be_forked_is_said(
    tmp_path: Path, journal: Journal, name: str, step: str, changes: dict[str, str], says: str
) -> None:
    """With the value, and nothing is submitted."""
    token = summed.submit(str(tmp_path / "ledger"), 1)
    token.result(60)
    with pytest.raises(BadRequest, match=says):
        journal.rows.fork(name or token.uid, from_=step, set=changes)
    assert len(journals.rows(tmp_path / "journal")) == 1


def test_a_step_whose_bits_have_changed_is_not_taken_over(
    tmp_path: Path, journal: Journal, ended: Callable[[str], tuple[int, bytes | None]]
) -> None:
    """The error names it, and the remedy."""
    token = summed.submit(str(tmp_path / "ledger"), 1)
    token.result(60)
    fork = journal.rows.fork(token.uid, from_="whole")
    ended(fork.uid)
    journal._journal.call(flip).result()  # type: ignore[union-attr]

    with pytest.raises(BadRequest, match="step 'part' 0 have changed on disk"):
        journal.rows.fork(token.uid, from_="whole")


def flip(db: sqlite3.Connection) -> None:
    db.execute("UPDATE steps SET value = '2', crc = crc + 1 WHERE name = 'part' AND nth = 0")


def test_a_fork_needs_operate_and_the_arguments_that_it_sets(tmp_path: Path) -> None:
    """Each on all of the operation; it is on record, without the value."""
    text = grants(
        (f"uid:{ANN}", "operator", "operation=summed"), (f"uid:{BOB}", "viewer", "operation=*"), ("process", "admin"),
    )  # fmt: skip
    with gates_of(tmp_path / "tokengate.toml") as open_:
        gate = open_(text, plugins=[Journal(tmp_path / "journal")])
        token = summed.submit(str(tmp_path / "ledger"), 1)
        token.result(60)
        plain = k.ForkDurableToken(token.uid, from_="whole")
        changed = k.ForkDurableToken(token.uid, from_="whole", set={"factor": "3"})

        with Wire(gate) as wire:
            assert wire.ask(plain, f"uid:{ANN}", ANN)["tags"] == {"fork": token.uid}
            with pytest.raises(Refused, match="the right 'arguments'"):
                wire.ask(changed, f"uid:{ANN}", ANN)
            with pytest.raises(Refused, match="the right 'operate'"):
                wire.ask(plain, f"uid:{BOB}", BOB)
        gate.plugin(Journal).rows.fork(token.uid, from_="whole", set={"factor": "3"})
        acts = gate.control.audit_records("verb=fork_durable_token")
        assert {one.principal for one in acts if one.kind == "outcome"} >= {f"uid:{ANN}", "process"}
        assert not any("'3'" in str(one) for one in acts)
