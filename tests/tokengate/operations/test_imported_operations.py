"""Operations of a module that a child process imports: there they are the real ones, with no gate open."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import imported_operations
import pytest

from tokengate import Gate, token
from tokengate.types import ProcessPool


@pytest.fixture
def run() -> Iterator[Callable[..., Any]]:
    """Calls a function of the module in a child process; returns the pid of that, and the result."""

    @token(affinity="process")
    def in_child(name: str, n: int) -> tuple[int, Any]:
        import os

        import imported_operations

        return os.getpid(), getattr(imported_operations, name)(n)

    with Gate("test", processes=ProcessPool(size=1, spares=0), threads=2, control_socket=False):
        yield in_child


HERE = os.getpid()


KITCHEN = {"room": "kitchen"}


def test_what_is_submitted_in_a_child_is_a_token_of_its_gate(run: Callable[..., Any]) -> None:
    """With the options of the operation and those that were chosen there; a token may be a result."""
    results = {
        name: run(name, 3)[1] for name in ("submit", "submit_with_options", "map_all", "submit_method", "asubmit")
    }

    assert results == {
        "submit": (3, HERE, KITCHEN),
        "submit_with_options": (3, HERE, KITCHEN | {"tenant": "acme"}),
        "map_all": [(n, HERE, KITCHEN) for n in range(3)],
        "submit_method": (3, HERE),
        "asubmit": (3, HERE, KITCHEN),
    }
    assert run("its_token", 3)[1].result(30) == (3, HERE, KITCHEN)


def test_a_direct_call_in_a_child_is_the_plain_function(run: Callable[..., Any]) -> None:
    """As with no gate open; a process operation that is submitted there runs in another child."""
    pid, results = run("call", 3)
    waiting, (_, other) = run("submit_elsewhere", 3)

    assert results == ((3, pid, {}), (3, pid), (3, pid))
    assert other not in (waiting, HERE)


def test_a_gate_that_opens_lazily_takes_no_calls_in_a_child_unless_it_is_opened_there(run: Callable[..., Any]) -> None:
    """A module makes it for its servers; what a child of another gate submits is for that one."""
    _, result = run("lazily", 3)

    assert result == ((True, (3, HERE, {"room": "kitchen"})), "open", True, True)


def test_an_operation_of_a_module_that_the_gate_has_not_imported_is_an_error_that_names_it(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, imported_operations.__name__)

    with pytest.raises(LookupError, match="gate 'test' has no operation 'imported_operations:where'; import its mod"):
        run("submit", 3)
