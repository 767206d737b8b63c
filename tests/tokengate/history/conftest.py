"""Gates with history, and the operations of its tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tokengate import Gate
from tokengate.history import History
from tokengate.history import _writer as writer


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., tuple[Gate, History]]]:
    """Return a function that opens a gate with history in a directory of the test; they are closed at the end."""
    with ExitStack() as closing:

        def open_(name: str = "shop", *plugins: Any, **options: Any) -> tuple[Gate, History]:
            history = History(tmp_path, **options)
            gate = closing.enter_context(Gate(name, plugins=[history, *plugins], shutdown=30.0))
            return gate, history

        yield open_


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is looked at, and the disk is tried again, each tenth of a second."""
    monkeypatch.setattr(writer, "_CHECK", 0.1)
