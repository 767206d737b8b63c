"""What tests of prediction share: a state directory of their own, and gates with fixed predictions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from predictions import Foreseeing, foreseeing

from tokengate.predict import Rule


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A freeze of one test is none of another."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def open_gate(
    monkeypatch: pytest.MonkeyPatch, opened: threading.Event
) -> Callable[..., AbstractContextManager[Foreseeing]]:
    """Open a gate with rules and fixed predictions, see `foreseeing`; `opened` is set before it closes."""

    @contextmanager
    def open(*rules: Rule, **options: Any) -> Iterator[Foreseeing]:
        with foreseeing(monkeypatch, *rules, **options) as seen:
            try:
                yield seen
            finally:
                opened.set()

    return open


@pytest.fixture
def opened() -> Iterator[threading.Event]:
    """An event for which code of tokens waits; it is set at the end."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture(autouse=True)
def _all_act(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No token is left alone for comparison, but in tests of that."""
    if "leaves_some_alone" not in request.fixturenames:
        never: Any = lambda _rule, _uid: False  # noqa: E731
        monkeypatch.setattr("tokengate.predict._decision.is_held_back", never)


@pytest.fixture
def leaves_some_alone() -> None:
    """Some tokens are left alone for comparison, as in programs."""
