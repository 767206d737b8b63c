"""Programs in which gevent or eventlet has replaced threads, locks and sockets: a gate refuses to open there."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import trio

from tokengate import Gate, _installation, token
from tokengate.errors import PatchedProgram


@token
def double(n: int) -> int:
    return 2 * n


async def _enter(gate: Gate) -> None:
    async with gate:
        pass


OPENINGS: dict[str, Callable[[Gate], Any]] = {
    "open": Gate.open,
    "with": Gate.__enter__,
    "async with": lambda gate: trio.run(_enter, gate),
}


def patch(monkeypatch: pytest.MonkeyPatch, module: str, **attributes: Any) -> None:
    """Have a module that patches programs, with what it says it has patched."""
    monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(**attributes))  # type: ignore[arg-type]


@pytest.mark.parametrize("opening", OPENINGS.values(), ids=OPENINGS)
@pytest.mark.parametrize(
    ("library", "module", "attribute"),
    [("gevent", "gevent.monkey", "saved"), ("eventlet", "eventlet.patcher", "already_patched")],
)
def test_a_gate_does_not_open_in_a_patched_program(
    opening: Callable[[Gate], Any], library: str, module: str, attribute: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the library and the remedy; once it is gone, the same gate opens."""
    gate = Gate("web", control_socket=False)
    with monkeypatch.context() as context:
        patch(context, module, **{attribute: {"thread": True}})

        with pytest.raises(PatchedProgram, match=f"gate 'web' cannot open: {library} has patched .* worker class 'gth"):
            opening(gate)
        assert (gate.state, double(2)) == ("new", 4)
    gate.open()
    gate.close()


def test_a_library_that_is_imported_and_has_patched_nothing_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    patch(monkeypatch, "gevent.monkey", saved={})
    patch(monkeypatch, "eventlet.patcher", already_patched={})

    assert _installation.patches() is None
    _installation.check_patches()


def test_tokengate_cannot_be_imported_once_eventlet_has_patched_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """trio could not be either, with an error that says nothing."""
    patch(monkeypatch, "eventlet.patcher", already_patched={"socket": True})
    monkeypatch.delitem(sys.modules, "trio")

    with pytest.raises(ImportError, match="TokenGate cannot be imported: eventlet has patched this program"):
        _installation.check_patches()


@pytest.mark.parametrize(
    "patch", ["from gevent import monkey; monkey.patch_all()", "import eventlet.patcher as p; p.monkey_patch()"]
)
def test_the_real_libraries_are_found(patch: str) -> None:
    pytest.importorskip(patch.split()[1].partition(".")[0])
    code = f"{patch}\nfrom tokengate import Gate\nGate().open()"

    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False, capture_output=True, text=True)

    assert done.returncode == 1
    assert "has patched this program" in done.stderr.splitlines()[-1]
