"""What every test gets: a check that it leaves no thread, child process or file behind."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator

import psutil
import pytest

# trio keeps idle worker threads of `trio.to_thread` for ten seconds; they are its own, and daemons.
_TRIO_CACHE = "Trio thread"


def _own_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if not thread.name.startswith(_TRIO_CACHE)}


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    """A leak of a thread, a child or a file descriptor fails the test."""
    process = psutil.Process()
    threads, files = _own_threads(), process.num_fds()
    yield
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        left = {thread for thread in _own_threads() - threads if thread.is_alive()}
        if not left and process.num_fds() <= files and not process.children():
            return
        for thread in left:
            thread.join(0.05)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            time.sleep(0.01)
    assert not left
    assert process.num_fds() <= files
    assert not process.children()
