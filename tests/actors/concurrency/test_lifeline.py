"""The thread that keeps the process alive while there are members."""

from __future__ import annotations

import threading

from gated_code import LIMIT

from actors.concurrency._lifeline import Lifeline


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "line"]


def test_one_thread_that_is_no_daemon_runs_while_there_are_members() -> None:
    """The interpreter waits for it, however often members come and go."""
    line = Lifeline("line")
    for member in ("a", "b", "a"):
        line.add(member)
    (thread,) = threads()
    line.discard("a")
    assert (thread.daemon, threads()) == (False, [thread])

    line.discard("b")
    thread.join(LIMIT)
    assert threads() == []


def test_a_member_that_comes_after_the_last_one_has_left_is_kept() -> None:
    """Whether the thread has noticed that it had none or not."""
    line = Lifeline("line")
    for _ in range(200):
        line.add("a")
        line.discard("a")
        line.discard("a")
    line.add("b")
    assert [thread.is_alive() for thread in threads()] == [True]

    line.discard("b")
    for thread in threads():
        thread.join(LIMIT)
    assert threads() == []
