"""When child processes cannot be made, or say what no child process says: every token ends, and it recovers."""

from __future__ import annotations

import logging
import os
import random
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import child_functions
import pytest
from gated_code import LIMIT

from actors.processes import _process_host, _results, _worker_lifecycle
from actors.processes.workers._worker import Worker
from actors.system import _recovery
from tokengate import Gate, ProcessActor, Token, TokenState, token
from tokengate.errors import NotPicklable, StartFailed, WorkerDied, WorkerError
from tokengate.types import ProcessPool

Until = Callable[[Callable[[], bool]], None]


@pytest.fixture
def gate() -> Iterator[Gate]:
    """An open gate whose pool has one process."""
    pool = ProcessPool(size=1, spares=0)
    with Gate("failing", threads=2, processes=pool, control_socket=False, shutdown=LIMIT) as opened:
        yield opened


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up after as many failures as usual, in less time."""
    monkeypatch.setattr(_process_host, "_RETRY_SECONDS", 0.02)
    monkeypatch.setattr(_worker_lifecycle, "_RETRY_SECONDS", 0.02)
    monkeypatch.setattr(_worker_lifecycle, "_FAILING_SECONDS", 0.05)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "tokengate.actors")


apply = token(affinity="process")(child_functions.apply)
note = token(affinity="process")(child_functions.note)


class Counter(ProcessActor):
    def add(self, number: int) -> int:
        return number + 1


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Leave this process no descriptor."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, before[1]))
    held: list[int] = []
    try:
        while True:
            try:
                held.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for one in held:
            os.close(one)


# --- None can be made ------------------------------------------------------------------------------------------------


def test_a_token_that_is_accepted_without_descriptors_runs_once_when_there_are_some(gate: Gate, tmp_path: Path) -> None:
    """The sender hears of nothing that the runtime may mend, and so has no reason to send it twice."""
    file = tmp_path / "runs"
    with no_descriptors():
        sent = note.submit(str(file))

        assert sent.state is TokenState.QUEUED
    assert sent.result(LIMIT) != os.getpid()
    assert note.submit(str(file)).result(LIMIT)
    assert file.read_text() == "xx"


def test_a_token_that_is_accepted_without_threads_runs_when_there_are_some(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that hears the processes is started later, then."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "failing-processes":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(_process_host, "_RETRY_SECONDS", 0.02)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        sent = note.submit(str(tmp_path / "runs"))
        started = threading.Thread(target=gate.spawn, args=(Counter,))
        started.start()
    started.join(LIMIT)

    assert sent.result(LIMIT) != os.getpid()
    assert gate.spawn(Counter).proxy().add(1).result(LIMIT) == 2


@pytest.mark.usefixtures("soon")
def test_without_threads_what_waits_fails_with_the_reason(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens and starts of actors do not wait for ever."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "failing-processes":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        error = apply.submit(abs, -1).exception(LIMIT)
        with pytest.raises(StartFailed, match="can't start new thread"):
            gate.spawn(Counter)

    assert isinstance(error, WorkerDied)
    assert "can't start new thread" in str(error)
    assert apply.submit(abs, -1).result(LIMIT) == 1


def gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    return "No such file"


def forbidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    (tmp_path / "python").write_text("#!/bin/sh\n")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    return "Permission denied"


def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    (tmp_path / "python").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    return "exited with code 3"


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("spoil", [gone, forbidden, broken])
def test_if_none_can_be_made_what_waits_fails_with_the_reason_and_what_comes_later_is_tried(
    gate: Gate, spoil: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is queued does, and the start of an actor; each time that something is wanted it is tried anew."""
    with monkeypatch.context() as patched:
        why = spoil(patched, tmp_path)
        sent = apply.map([abs] * 5)
        for one in sent:
            error = one.exception(LIMIT)
            assert isinstance(error, WorkerDied)
            assert why in str(error)
            assert f"token {one.id}" in str(error)
            assert one.state is TokenState.FAILED
        for _ in range(2):
            with pytest.raises(StartFailed, match=why):
                gate.spawn(Counter)

    assert apply.submit(abs, -1).result(LIMIT) == 1
    assert gate.spawn(Counter).proxy().add(1).result(LIMIT) == 2


@pytest.mark.usefixtures("soon")
def test_without_descriptors_what_waits_fails_in_the_end(gate: Gate) -> None:
    """Even if it is the runtime's own that are missing; and it recovers."""
    with no_descriptors():
        error = apply.submit(abs, -1).exception(LIMIT)

    assert isinstance(error, WorkerDied)
    assert "Too many open files" in str(error)
    assert apply.submit(abs, -1).result(LIMIT) == 1


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("lacking", ["process", "thread"])
def test_a_token_that_is_sent_when_another_one_has_failed_without_a_process_does_not_fail_with_it(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    """It is tried anew, also if it is sent by what is told of the failure."""
    sent: list[Token[int]] = []
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "failing-processes":
            raise RuntimeError("can't start new thread")
        start(thread)

    def mend(_: object) -> None:
        patched.undo()
        sent.append(apply.submit(abs, -1))

    with monkeypatch.context() as patched:
        if lacking == "process":
            patched.setattr(_worker_lifecycle, "Worker", lambda *_: os.open("/none", 0))
        else:
            patched.setattr(threading.Thread, "start", refuse)
        failed = apply.submit(abs, -1)
        failed.add_done_callback(mend)

        assert isinstance(failed.exception(LIMIT), WorkerDied)
    assert sent[0].result(LIMIT) == 1


@pytest.mark.usefixtures("soon")
def test_what_a_living_process_can_still_do_does_not_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """It is only late."""
    failures: list[None] = []
    monkeypatch.setattr(_recovery, "_IDLE_LOOK", 10 * LIMIT)  # while a process starts slowly, it asks for another one
    monkeypatch.setattr(_recovery, "_LOOK", 10 * LIMIT)
    pool = ProcessPool(size=2, spares=0)
    with Gate("half", processes=pool, control_socket=False, shutdown=LIMIT) as gate:
        lifecycle = gate._system.processes.lifecycle
        count = lifecycle.count_failure
        pid = apply.submit(os.getpid).result(LIMIT)
        until(lambda: gate._system.processes.pool.statistics().busy == 0)  # else another one is made for the next token
        monkeypatch.setattr(_worker_lifecycle.Worker, "__init__", lambda *_: os.open(tmp_path / "none", 0))
        monkeypatch.setattr(lifecycle, "count_failure", lambda why: (failures.append(None), count(why)))
        release = tmp_path / "release"
        first = apply.submit(child_functions.wait_for_file, str(release))
        until(lambda: first.state is TokenState.RUNNING)
        second = apply.submit(os.getpid)
        until(lambda: len(failures) > 8)
        state = second.state
        release.touch()

        assert state is TokenState.QUEUED
        assert first.result(LIMIT)
        assert second.result(LIMIT) == pid


# --- Garbage ---------------------------------------------------------------------------------------------------------


WAYS = (
    *("random", "huge", "cut", "begin", "rubbish", "others", "no file"),
    *("odd file", "files", "stack", "page", "word", "outbox"),
)


def test_a_token_that_writes_garbage_to_what_is_the_runtimes_ends_and_harms_nobody_after_it(
    seed: int, rounds: Callable[[int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends in some way; if what its process says can be believed no more, with `WorkerDied`, and another comes."""
    monkeypatch.setattr(_results, "_PARTIAL_SECONDS", 0.05)
    chance = random.Random(seed)
    with Gate("fuzz", processes=ProcessPool(size=1), control_socket=False, shutdown=LIMIT):
        for way in WAYS * rounds(2):
            then = chance.choice(("return", "wait", "raise", "much", "exit"))
            before = [apply.submit(abs, number) for number in range(chance.randrange(5))]
            spoilt = apply.submit(child_functions.spoil, chance.randrange(2**32), way, then)
            others = [apply.submit(abs, number) for number in range(chance.randrange(5))]
            error = spoilt.exception(LIMIT)
            said = f"{way}, then {then}: {error!r}"

            assert error is None or isinstance(error, WorkerDied | WorkerError | NotPicklable | LookupError), said
            # What these came to may be sent after the garbage, or not be known; or be what the garbage says.
            told = WorkerDied | NotPicklable | None if way == "others" else WorkerDied | None
            assert all(isinstance(one.exception(LIMIT), told) for one in (*before, *others)), said
            assert [apply.submit(abs, -number).result(LIMIT) for number in range(3)] == [0, 1, 2], said


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="what files are open is read from /proc")
def test_a_large_result_that_cannot_be_rebuilt_keeps_no_file_open(gate: Gate) -> None:
    """Although its token, and so the error with its traceback, is kept."""

    def open_files() -> list[str]:
        paths = [f"/proc/self/fd/{one}" for one in os.listdir("/proc/self/fd")]
        return [os.readlink(path) for path in paths if os.path.lexists(path)]

    one = apply.submit(child_functions.OnlyThere)
    with pytest.raises(NotPicklable, match="cannot be rebuilt here: ValueError: not here"):
        one.result(LIMIT)
    assert not [name for name in open_files() if name.startswith("/memfd:tokengate (")]
    assert isinstance(one.exception(), NotPicklable)


@pytest.mark.parametrize("way", ["random", "huge", "cut", "begin", "others", "no file"])
def test_a_process_that_has_sent_garbage_is_replaced_and_its_token_says_so(
    gate: Gate, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that comes after it can be believed."""
    monkeypatch.setattr(_results, "_PARTIAL_SECONDS", 0.05)
    pid = apply.submit(os.getpid).result(LIMIT)
    error = apply.submit(child_functions.spoil, 5, way, "return").exception(LIMIT)

    assert isinstance(error, WorkerDied)
    assert f"process {pid} was killed since it had sent" in str(error)
    assert apply.submit(os.getpid).result(LIMIT) != pid


def test_a_result_that_comes_after_garbage_is_not_believed(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """Even if the process had left it on the page that it shares when it was killed."""
    kill = _results.Results._kill_for_protocol_error

    def kill_late(results: _results.Results, worker: Worker) -> None:
        until(lambda: worker.ended >= worker.begun)
        worker.stream.wait_readable(time.monotonic() + 0.2)  # if the result was not read with the garbage
        left, _ = worker.stream.peek()
        monkeypatch.setattr(Worker, "outbox", lambda _: left)
        kill(results, worker)

    monkeypatch.setattr(_results.Results, "_kill_for_protocol_error", kill_late)

    assert isinstance(apply.submit(child_functions.spoil, 5, "others", "return").exception(LIMIT), WorkerDied)


# --- The end ---------------------------------------------------------------------------------------------------------


def test_the_thread_of_the_processes_is_not_left_behind_while_it_comes_to_its_end(gate: Gate) -> None:
    """It may be late on a busy machine: it has to wait until its processes are dead."""
    apply.submit(abs, -1).result(LIMIT)
    late = gate._system.processes.close(time.monotonic())

    assert late == []


def test_the_thread_of_the_processes_is_left_behind_in_code_that_does_not_end(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named then, and its processes are killed all the same."""
    monkeypatch.setattr(_process_host, "_STILL_SECONDS", 0.05)
    reached, go_on = threading.Event(), threading.Event()
    sent = apply.submit(child_functions.wait_for_file, str(tmp_path / "go on"))
    sent.add_done_callback(lambda _: (reached.set(), go_on.wait(LIMIT)))
    (tmp_path / "go on").touch()
    assert reached.wait(LIMIT)
    try:
        late = gate._system.processes.close(time.monotonic())
    finally:
        go_on.set()

    assert late == ["failing-processes"]
