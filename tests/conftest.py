"""What every test gets: a check that it leaves no thread, child process or file behind; and what many share."""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from programs import forking

LIMIT = 30.0  # seconds; reached only when a test fails

# trio keeps idle worker threads of `trio.to_thread` for ten seconds; they are its own, and daemons.
_TRIO_CACHE = "Trio thread"

# CPU threads of the default system, which lives as long as the process: a spare may take the place of one that ends.
_DEFAULT = "default-cpu-"


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of processes that share the tests: one a core, but none beside this one for single files."""
    if any(".py" in path for path in config.args):
        return 0
    return min(len(os.sched_getaffinity(0)), 8) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pytest_configure(config: pytest.Config) -> None:
    """Undo what a shell does to a program in the background: SIGINT is ignored there, and in the programs it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.dont_write_bytecode:
        _keep_bytecode(config.rootpath / ".pytest_cache" / "bytecode")


def _keep_bytecode(folder: Path) -> None:
    """Have no process of a run compile what one has compiled, also where Python is told to write no bytecode.

    It is kept in a directory of its own then, and not beside the sources.
    """
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(folder)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder)


def pytest_collection() -> None:
    """Look for no garbage while tests are collected: what is made then stays."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Pass over it in later collections, too."""
    gc.freeze()
    gc.enable()


def _own_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if not thread.name.startswith(_TRIO_CACHE)}


def _replacements(before: set[threading.Thread]) -> set[threading.Thread]:
    """Return the CPU threads of the default system, if there are no more of them than there were before."""
    default = {thread for thread in threading.enumerate() if thread.name.startswith(_DEFAULT)}
    return default if len(default) <= sum(thread.name.startswith(_DEFAULT) for thread in before) else set()


@pytest.fixture(scope="session", autouse=True)
def _runtime_directory() -> Iterator[None]:
    """Control sockets of tests are in a directory of this process: other runs have gates of the same names."""
    with tempfile.TemporaryDirectory(prefix="tg-") as directory, pytest.MonkeyPatch.context() as patched:
        patched.setenv("TOKENGATE_RUNTIME_DIR", directory)
        yield


@pytest.fixture(scope="session", autouse=True)
def _patient_clients() -> Iterator[None]:
    """Clients of this process give gates the time of a busy machine to say hello."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tokengate.control.transport._discovery._HELLO_SECONDS", LIMIT)
        yield


@pytest.fixture(scope="module")
def frequent_looks() -> Iterator[None]:
    """Recovery looks a hundred times a second, for tests of what it completes after its second look."""
    with pytest.MonkeyPatch.context() as patched:
        for name in ("_LOOK", "_IDLE_LOOK"):
            patched.setattr(f"actors.system._recovery.{name}", 0.01)
        yield


@pytest.fixture(scope="session")
def programs() -> Iterator[None]:
    """Programs of `programs` can be run."""
    with forking():
        yield


def _without_garbage() -> str:
    gc.collect()
    return f"after a collection there are {len(_open_files())}"


def _has_children() -> bool:
    """Tell whether there is any child process, alive or not waited for; psutil would look at all processes for that."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _open_files() -> dict[str, str]:
    """Return {file descriptor: what it refers to}; elsewhere than on Linux only how many there are is known."""
    files: dict[str, str] = {}
    if not os.path.isdir("/proc/self/fd"):
        return dict.fromkeys(map(str, range(psutil.Process().num_fds())), "")
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            files[descriptor] = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:  # it was closed meanwhile, as the one of the listing
            files[descriptor] = ""
    return files


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    """A leak of a thread, a child or a file descriptor fails the test."""
    process = psutil.Process()
    threads, files = _own_threads(), _open_files()
    yield
    deadline = time.monotonic() + LIMIT
    while True:
        left = {thread for thread in _own_threads() - threads if thread.is_alive()} - _replacements(threads)
        if not left and process.num_fds() <= len(files) and not _has_children():
            return
        if time.monotonic() > deadline:
            break
        for thread in left:
            thread.join(0.05)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            time.sleep(0.01)
    assert not left
    now = _open_files()
    assert len(now) <= len(files), (sorted(now.items() - files.items()), _without_garbage())
    assert not _has_children(), process.children()


@pytest.fixture
def seed() -> int:
    """The seed of a test that plays with chance: TOKENGATE_SEED, or a new one, which is printed."""
    chosen = int(os.environ.get("TOKENGATE_SEED") or random.SystemRandom().randrange(2**32))
    print(f"TOKENGATE_SEED={chosen}")
    return chosen


@pytest.fixture
def rounds() -> Callable[[int], int]:
    """How often to repeat a race: as often as said, fifty times that with TOKENGATE_TORTURE=1."""
    factor = 50 if os.environ.get("TOKENGATE_TORTURE") == "1" else 1
    return lambda usual: usual * factor


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Wait for a condition that nobody announces."""

    def wait(condition: Callable[[], bool]) -> None:
        pause, ends, looks = threading.Event(), time.monotonic() + LIMIT, 0
        while not condition():
            looks += 1
            if looks > 1_000 and time.monotonic() > ends:  # one that was stopped meanwhile goes on looking
                pytest.fail("the condition never came true")
            pause.wait(0.001)

    return wait
