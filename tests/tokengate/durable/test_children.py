"""Durable tokens that the code of a durable token makes: its second run finds those that the first one has made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import durable_operations as operations
import journals
import pytest
from durable_operations import noted
from tiers import in_ci

from tokengate import Gate
from tokengate.durable import Journal

pytestmark = pytest.mark.usefixtures("programs")

FIRST = """
import os, sys
import durable_operations as operations
from tokengate import Gate
from tokengate.durable import Journal
operations.note(f"{sys.argv[3]}.pid", str(os.getpid()))
with Gate("shop", plugins=[Journal(sys.argv[1])], processes=1, control_socket=False) as gate:
    if sys.argv[2] == "actor":
        gate.spawn(operations.Parent, name="parent").proxy().run(sys.argv[3]).result()
    else:
        getattr(operations, f"parent_in_{sys.argv[2]}").submit(sys.argv[3]).result()
"""

CHILDREN = [1, 1, 1, 3, 5, 7]


@in_ci
@pytest.mark.parametrize(
    "kind", ["cpu", "actor", *(pytest.param(kind, marks=in_ci) for kind in ("trio", "asyncio", "process"))]
)
def test_a_second_run_finds_the_children_of_the_first(
    tmp_path: Path, kind: str, until: Callable[[Callable[[], bool]], None]
) -> None:
    """Case 17: by their calls, and the count of equal ones, in whatever order a set has them; none runs twice."""
    directory, ledger = tmp_path / "journal", str(tmp_path / "ledger")
    with journals.start(FIRST, directory, kind, ledger) as program:
        assert program.wait() == -9
    assert sorted(int(line[6:]) for line in noted(ledger)) == CHILDREN

    with Gate("shop", plugins=[Journal(directory)], processes=1, control_socket=False) as gate:
        if kind == "actor":
            gate.spawn(operations.Parent, name="parent")
        until(lambda: journals.all_have_ended(directory))

    assert sorted(int(line[6:]) for line in noted(ledger)) == [*CHILDREN, 9]
    parent, *children = journals.rows(directory)
    assert json.loads(parent["result"]) == [[1, 1, 3, 5, 7], 9, 1]
    uid = f"{parent['uid'] >> 40}.{parent['uid'] & (1 << 40) - 1}"
    assert all(row["key"].startswith(f"child/{uid}/") for row in children)
    assert len(children) == 7


def test_a_key_of_its_own_stays(tmp_path: Path) -> None:
    """And a token that no other one has made has none."""
    with Gate("shop", plugins=[Journal(tmp_path / "journal")], control_socket=False):
        operations.keyed_parent.submit(str(tmp_path / "ledger")).result(60)
    assert [row["key"] for row in journals.rows(tmp_path / "journal")] == [None, "mine"]
