"""The thread that writes: one transaction for what has come, and each caller is told what is his own."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from durable_operations import add
from tiers import in_ci

from tokengate import Gate
from tokengate.durable import Journal


@in_ci
def test_a_function_is_called_within_the_transaction(tmp_path: Path) -> None:
    """Its result is there after the commit; what one has written that raises is undone, and no other's."""

    def fails(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO schedules(name) VALUES('undone')")
        raise LookupError("no such row")

    def names(db: sqlite3.Connection) -> list[str]:
        return [name for (name,) in db.execute("SELECT name FROM schedules ORDER BY name")]

    plugin = Journal(tmp_path / "journal")
    with Gate("shop", plugins=[plugin], control_socket=False):
        journal = plugin._journal
        assert journal is not None
        first, second = (
            journal.call(fails),
            journal.call(lambda db: db.execute("INSERT INTO schedules(name) VALUES('a')")),
        )

        with pytest.raises(LookupError, match="no such row"):
            first.result(10)
        second.result(10)
        assert journal.call(names).result(10) == ["a"]
        assert add.submit(1, 2).result(10) == 3
