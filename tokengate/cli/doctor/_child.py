"""A check that starts the fork server and runs a token in a child process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Final

from tokengate import Gate, token
from tokengate.cli.doctor._result import Result

_SECONDS: Final = 30.0  # for a child process to start and to run a token

_NAME: Final = "child process"


@token(affinity="process")
def _own_pid() -> int:
    return os.getpid()


def check_child_process(ask: Callable[[], int] = lambda: _own_pid.submit().result(_SECONDS)) -> Iterator[Result]:
    """Run a token in a child process of a new gate.

    Args:
        ask: returns the pid of the process that runs the token.
    """
    began = time.monotonic()
    try:
        with Gate("doctor", processes=1, control_socket=False, shutdown=5.0):
            pid = ask()
    except Exception as error:  # whatever it is: the report says it
        text = f"no token runs in a child process: {type(error).__name__}: {error}"
        remedy = "see whether limits, a seccomp profile or security software forbid new processes; -v logs more"
        yield Result(_NAME, "failed", text, remedy)
        return
    yield Result(_NAME, "ok", f"process {pid} was started and ran a token, in {time.monotonic() - began:.1f} s")
