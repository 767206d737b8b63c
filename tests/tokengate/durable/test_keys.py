"""Keys and uids of durable tokens: what is on disk is one piece of work, however often it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from durable_operations import add

from tokengate import Gate
from tokengate.durable import Journal
from tokengate.durable._writer import Write

pytestmark = pytest.mark.usefixtures("programs")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal")
    with Gate("shop", plugins=[journal], control_socket=False):
        yield journal


def test_attach_by_uid_returns_the_outcome(journal: Journal) -> None:
    """Case 21: ended, gone."""
    token = add.submit(1, 2)
    assert token.result(10) == 3

    again = journal.attach(token.uid)

    assert (again.uid, again.state, again.result(10)) == (token.uid, token.state, 3)
    with pytest.raises(LookupError, match=r"token 1\.999999 is not in the journal"):
        journal.attach("1.999999")


def test_a_row_is_submitted_once_by_its_key(journal: Journal) -> None:
    """Within a transaction of the writer; attached, it is the same one."""
    opened: Any = journal._journal
    made: list[Any] = []

    def write(db: Any) -> None:
        made.extend(
            opened.submit_row(db, "durable_operations:add", b"[[1, 2], {}]", key="one", due=2e9) for _ in range(2)
        )

    opened.writer.put(Write(write))
    add.submit(0, 0).result(10)

    (uid, is_new), (same, is_again) = made
    assert (uid, is_new, is_again) == (same, True, False)
    assert journal.attach(add, key="one").uid == journal.attach("durable_operations:add", key="one").uid
