"""What a journal promises: accepted means on disk, the end is on disk before it is seen, and nothing runs after it."""

from __future__ import annotations

from pathlib import Path

import journals
import pytest
from durable_operations import add

from tokengate import Gate
from tokengate.durable import Journal
from tokengate.errors import NotDurable

pytestmark = pytest.mark.usefixtures("programs")

LEFT = """
import os, sys
from durable_operations import add, again
from tokengate import Gate
from tokengate.durable import Journal
with Gate("shop", plugins=[Journal(sys.argv[1])]) as gate:
    gate.control.suspend("operations/again")
    for number in range(3):
        print(again.submit(sys.argv[2], number).id, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_a_result_is_on_disk(tmp_path: Path) -> None:
    """With the state, before it is seen."""
    with Gate("shop", plugins=[Journal(tmp_path / "journal")], control_socket=False):
        token = add.submit(1, 2)

        assert token.result(10) == 3
        assert [(row["state"], row["result"]) for row in journals.rows(tmp_path / "journal")] == [(4, b"3")]


def test_a_durable_operation_needs_a_journal() -> None:
    """In a gate; without a gate it is the plain function."""
    assert add(1, 2) == 3
    with Gate("shop", control_socket=False), pytest.raises(NotDurable, match="no journal"):
        add.submit(1, 2)
