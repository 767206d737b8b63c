"""Actors of `Cls.start()` outside of any gate."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from gated_code import LIMIT

ACTORS = """
import sys, threading, pykka
from actors import CpuActor, IoActor

class Teller(CpuActor):
    def on_receive(self, message):
        print(message, flush=True)
        if message == "last":
            self.stop()
    def on_stop(self):
        print("stopped", flush=True)

class IoTeller(IoActor):
    on_receive, on_stop = Teller.on_receive, Teller.on_stop

class Starter(CpuActor):
    def on_receive(self, message):
        Teller.start().tell("last")
        self.stop()
"""

TOLD = "0\n1\n2\nlast\nstopped\n"


def run(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", ACTORS + textwrap.dedent(program)]
    return subprocess.run(command, capture_output=True, text=True, timeout=2 * LIMIT, check=False)


# How a program ends does not depend on the kind of its actors.
@pytest.mark.parametrize(("kind", "end", "code"), [("Teller", "sys.exit(3)", 3), ("IoTeller", "", 0)])
def test_a_program_ends_when_its_actors_have_ended(kind: str, end: str, code: int) -> None:
    """As with pykka's threads: all their messages are handled, and their last hook runs."""
    done = run(
        f"""
        ref = {kind}.start()
        for message in (*range(3), "last"):
            ref.tell(message)
        {end}
        """
    )

    assert (done.stdout, done.stderr, done.returncode) == (TOLD, "", code)


def test_an_actor_that_another_one_starts_after_the_main_program_is_waited_for() -> None:
    """Although its starter was the last one, and ends."""
    done = run("Starter.start().tell('go')")

    assert (done.stdout, done.stderr, done.returncode) == ("last\nstopped\n", "", 0)


def test_a_program_waits_no_longer_for_an_actor_that_crashed_or_did_not_start() -> None:
    """Neither is left in pykka's registry."""
    done = run(
        """
        class Crashing(CpuActor):
            def __init__(self, start=True):
                if not start:
                    raise ValueError
            def on_receive(self, message):
                raise ValueError
        Crashing.start().tell("go")
        try:
            Crashing.start(start=False)
        except Exception as error:
            print(type(error).__name__)
        """
    )

    assert (done.stdout, done.returncode) == ("StartFailed\n", 0)


def test_a_forked_child_waits_for_none_of_its_parents_actors() -> None:
    """It ends, and so does the parent once its actors have."""
    done = run(
        """
        import os
        ref = Teller.start()
        pid = os.fork()
        if pid == 0:
            sys.exit(5)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        ref.tell("last")
        """
    )

    assert (done.stdout, done.returncode) == ("5\nlast\nstopped\n", 0)
