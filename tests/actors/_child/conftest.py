"""What the tests of the child's code share: a child whose loop runs in this process, and a real fork server."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator

import pytest
from child_processes import Child, Server

import actors._child


@pytest.fixture(autouse=True)
def _package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the child's package under the name that it has in a child."""
    monkeypatch.setitem(sys.modules, "tokengate_worker", actors._child)


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Child]]:
    """Make children that run their loop in this process; what the loop changes is undone."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "argv", sys.argv[:])
    monkeypatch.chdir(os.getcwd())
    level = logging.root.level
    made: list[Child] = []

    def make() -> Child:
        made.append(Child())
        return made[-1]

    yield make
    logging.root.setLevel(level)
    for child in made:
        child.close()


@pytest.fixture
def child(children: Callable[[], Child]) -> Child:
    return children()


@pytest.fixture
def server() -> Iterator[Server]:
    """A fork server, which has ended after the test with all that it has made."""
    started = Server()
    yield started
    started.close()
