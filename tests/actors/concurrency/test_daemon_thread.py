"""Daemon threads start at most once, however often and wherever their start is called or interrupted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from actors.lowlevel import DaemonThread

LONG = 30.0  # seconds; no test waits so long


def in_thread(fn: Callable[[], object]) -> None:
    """Call a function on a thread other than the main one, and wait for it."""
    thread = threading.Thread(target=fn)
    thread.start()
    thread.join()


def both(fn: Callable[[], object]) -> None:
    fn()
    in_thread(fn)


def test_it_starts_once_however_often_it_is_told_to() -> None:
    """From the main thread, where another one makes the call, and from others."""
    ran = []
    thread = DaemonThread(lambda: ran.append(threading.current_thread()), "once")
    both(thread.begin)
    both(thread.begin)

    assert thread.gone(time.monotonic() + LONG)
    assert ran == [thread]
    assert thread.daemon


def test_a_withdrawn_one_never_starts() -> None:
    """It is gone, and says whether it had been started."""
    ran: list[None] = []
    thread = DaemonThread(lambda: ran.append(None), "never")

    assert thread.waits_for_begin
    assert thread.withdraw()
    assert not thread.withdraw()
    thread.begin()
    assert thread.gone(time.monotonic())
    assert not thread.waits_for_begin
    assert ran == []


def test_one_that_is_at_work_is_not_gone() -> None:
    """The wait for it ends at its deadline."""
    go = threading.Event()
    thread = DaemonThread(go.wait, "busy")
    thread.begin()

    assert not thread.gone(time.monotonic() + 0.01)
    go.set()
    assert thread.gone(time.monotonic() + LONG)


@pytest.mark.parametrize("tell", [lambda fn: fn(), in_thread])
def test_a_start_that_fails_is_told_and_may_be_tried_again(
    tell: Callable[[Callable[[], object]], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error reaches the caller on both ways, and the thread still waits for its start."""
    ran = []
    raised = []
    thread = DaemonThread(lambda: ran.append(True), "later")

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def begin() -> None:
        with pytest.raises(RuntimeError, match="can't start") as caught:
            thread.begin()
        raised.append(caught.value)

    with monkeypatch.context() as patched:
        patched.setattr(DaemonThread, "start", refuse)
        tell(begin)
    assert len(raised) == 1
    assert thread.waits_for_begin
    tell(thread.begin)
    assert thread.gone(time.monotonic() + LONG)
    assert ran == [True]


def test_the_main_thread_makes_no_call_of_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler that raises within `threading.Thread.start` would leave the thread in doubt."""
    callers = []
    start = DaemonThread.start

    def note(self: Any) -> None:
        callers.append(threading.get_ident())
        start(self)

    monkeypatch.setattr(DaemonThread, "start", note)
    thread = DaemonThread(bool, "apart")
    thread.begin()

    assert thread.gone(time.monotonic() + LONG)
    assert callers
    assert threading.main_thread().ident not in callers
