"""What comes from child processes: a part of a message that nothing follows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from actors.processes import _results
from actors.processes._results import Results


@attrs.define(eq=False)
class Stream:
    """The stream of a child process that has sent a part of a message."""

    received: int = 0
    may_peek: bool = False


def test_a_part_of_a_message_is_as_old_as_its_latest_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """To look again, as `reclaim` does, makes it no younger; else its process would be waited for without end."""
    now = 10.0
    monkeypatch.setattr(_results, "time", SimpleNamespace(monotonic=lambda: now))
    results: Any = Results.__new__(Results)
    results._partial, results._batched = {}, {}
    stream = Stream(received=7)
    worker = attrs.make_class("Worker", {"stream": attrs.field()}, eq=False)(stream)

    def due() -> list[float]:
        results._note_partial(worker)
        return [at - _results._PARTIAL_SECONDS for at in results.due()]

    assert due() == [10.0]
    now = 11.0
    assert due() == [10.0]
    stream.received += 1
    assert due() == [11.0]
    stream.may_peek = True
    assert due() == []
