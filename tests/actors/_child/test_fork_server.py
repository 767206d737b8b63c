"""The fork server and real child processes: how they come, what they inherit, and that none is ever left."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import pickle
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import cloudpickle
import psutil
import pytest
from child_processes import Real, Server
from gated_code import LIMIT

import actors._child
from actors._child import _wire

Until = Callable[[Callable[[], bool]], None]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")


def gone(pid: int) -> bool:
    """Tell whether a process has ended; it may be a zombie."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not kill a group when a pipe is closed")
def test_nothing_that_a_child_has_started_outlives_the_server(server: Server, child: Real, until: Until) -> None:
    """Even with the gate too busy, or dead as well, to kill it."""

    def start() -> int:
        import subprocess
        import sys

        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid

    started = child.result(start)
    begin_endless_code(child)
    server.process.kill()
    server.process.wait(LIMIT)

    until(lambda: gone(child.pid) and gone(started))


def state(pid: int) -> str:
    return str(psutil.Process(pid).status())


def begin_endless_code(end: Real) -> None:
    """Have a child be in C code that keeps the interpreter lock, for longer than any test."""

    def backtrack(descriptor: int) -> None:
        pattern, text = re.compile(r"(a+)+$"), "a" * 60 + "b"
        os.write(descriptor, b"here")
        pattern.match(text)

    reached, there = os.pipe()
    try:
        end.call(end.function(backtrack), OpenFile(os.getpid(), there))
        assert os.read(reached, 4) == b"here"
    finally:
        os.close(reached)
        os.close(there)


class OpenFile:
    """A descriptor of this process that a child opens for itself."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.path = f"/proc/{pid}/fd/{descriptor}"

    def __reduce__(self) -> Any:
        return os.open, (self.path, os.O_WRONLY)


@pytest.fixture
def child(server: Server) -> Real:
    return server.spawn()


# Coming


def test_a_child_serves_calls_in_a_session_of_its_own(server: Server, child: Real) -> None:
    """It is in neither the gate's nor the server's group, and the server reports its pid."""
    pid, session, group, parent = child.result(
        lambda: (os.getpid(), os.getsid(0), os.getpgrp(), os.getppid()),
    )

    assert pid == session == group == child.pid
    assert parent == server.process.pid
    assert os.getsid(server.process.pid) == server.process.pid


def test_a_child_imports_nothing_of_the_gate(child: Real) -> None:
    """It has the standard library, cloudpickle and its own package; so it starts soon."""

    def imported() -> list[str]:
        import sys

        return sorted({name.partition(".")[0] for name in sys.modules})

    names = child.result(imported)

    assert not {"actors", "supervisors", "tokengate", "trio", "pykka", "attrs", "attr", "psutil"} & set(names)
    assert {"tokengate_worker", "cloudpickle"} <= set(names)


def test_cloudpickle_may_be_somewhere_that_only_the_gate_knows() -> None:
    """It is looked for in the folders that are named on the command line, after all others."""
    server = Server(["-S"], [os.path.dirname(os.path.dirname(cloudpickle.__file__))])
    try:
        child = server.spawn()

        assert child.result(os.getpid) == child.pid
    finally:
        server.close()


def test_nothing_of_the_program_is_in_the_childs_main_module(child: Real) -> None:
    """What is pickled by a name of `__main__` never finds anything of the runtime's there."""

    def look() -> list[str]:
        import sys

        return [name for name in vars(sys.modules["__main__"]) if not name.startswith("__")]

    assert child.result(look) == []


def test_a_child_sees_paths_and_arguments_of_its_gate(child: Real) -> None:
    """They come with `SETUP`; then the child says that it is ready."""

    def look() -> tuple[list[str], list[str]]:
        import sys

        return sys.path, sys.argv

    child.set_up()
    (ready,) = child.read()

    assert ready.kind == _wire.READY
    assert child.result(look) == (["somewhere", *sys.path], ["program", "-x"])


def test_a_child_has_no_descriptor_but_its_own(server: Server) -> None:
    """Nothing of the server, and nothing of the children before it: else the end of one would not be seen."""
    for _ in range(3):
        last = server.spawn()

    def descriptors() -> list[str]:
        import os

        own = []
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                own.append(os.readlink(f"/proc/self/fd/{name}"))
        return own

    kinds = sorted(name.partition(":")[0].partition(" ")[0] for name in last.result(descriptors))
    page = ["/memfd"] if sys.version_info < (3, 13) else []  # the map's own

    standard = [os.readlink(f"/proc/{server.process.pid}/fd/{number}") for number in range(3)]
    expected = [
        *page,
        "pipe",
        "pipe",
        "socket",
        "socket",
        *(name.partition(":")[0].partition(" ")[0] for name in standard),
    ]

    assert kinds == sorted(expected)


def test_what_a_child_has_is_not_inherited_by_what_it_starts(child: Real) -> None:
    """The stream would stay open after the child's end."""

    def descriptors_of_another() -> int:
        import subprocess
        import sys

        code = "import os; print(len(os.listdir('/proc/self/fd')))"
        return int(subprocess.check_output([sys.executable, "-c", code], close_fds=False))

    assert child.result(descriptors_of_another) == 4  # the standard ones, and the one that looks


def test_a_child_handles_signals_as_any_process_does(child: Real) -> None:
    """Except for the terminal's interrupt, which is its gate's."""

    def handlers() -> list[Any]:
        import signal

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
        return [signal.getsignal(number) for number in numbers] + [signal.set_wakeup_fd(-1)]

    assert child.result(handlers) == [signal.SIG_IGN, signal.SIG_DFL, signal.SIG_DFL, signal.SIG_DFL, -1]


def test_garbage_is_collected_in_a_child(child: Real) -> None:
    """What it shares with the server is left alone."""

    def look() -> tuple[bool, bool]:
        import gc

        return gc.isenabled(), gc.get_freeze_count() > 1_000

    assert child.result(look) == (True, True)


def test_several_children_can_be_asked_for_at_once(server: Server) -> None:
    """Each gets the descriptors that were sent for it, although all have come in one piece."""
    ends = [server.ask_to_spawn() for _ in range(5)]
    for end in ends:
        server.take(end)

    assert [end.result(os.getpid) for end in ends] == [end.pid for end in ends]


def test_a_record_may_come_in_two_pieces(server: Server) -> None:
    """The socket may have had room for the first only."""
    end = Real()
    record = _wire.RECORD.pack(_wire.SPAWN, 1, 0)
    socket.send_fds(server.socket, [record[:10]], end.theirs)
    server.socket.sendall(record[10:])
    server.take(end)

    assert end.result(os.getpid) == end.pid


def test_a_child_that_cannot_be_made_is_reported(server: Server) -> None:
    """With the number of the error, and the server goes on."""
    end = Real()
    record = _wire.RECORD.pack(_wire.SPAWN, 33, 0)
    socket.send_fds(server.socket, [record], end.theirs[:2])
    answer = server.read()
    end.close()

    assert answer == (_wire.SPAWNED, 33, -errno.EMFILE)
    assert server.spawn().result(os.getpid)


def test_a_fork_that_fails_is_reported(server: Server) -> None:
    """There may be too many processes."""
    psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE, (8, 8))
    end = Real()
    socket.send_fds(server.socket, [_wire.RECORD.pack(_wire.SPAWN, 33, 0)], end.theirs)
    kind, name, number = server.read()
    end.close()

    assert (kind, name, number) == (_wire.SPAWNED, 33, -errno.EMFILE)


def test_errors_of_classes_that_cannot_be_imported_are_sent(child: Real) -> None:
    """The class travels by value, and its base is the gate's again."""

    def fail() -> None:
        import tokengate_worker  # type: ignore[import-not-found]

        class Own(tokengate_worker.TokenGateError):  # type: ignore[misc]
            pass

        raise Own("text")

    child.call(child.function(fail))
    (frame,) = child.read()
    pickled = child.load(frame)[0]
    error = pickle.loads(pickled)

    assert isinstance(error, actors.TokenGateError)
    assert (type(error).__name__, str(error)) == ("Own", "text")


# Going


@pytest.mark.parametrize(
    ("end_it", "code"),
    [
        (lambda: os._exit(3), 3),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), -signal.SIGKILL),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), -signal.SIGTERM),
        (lambda: ctypes.string_at(0), -signal.SIGSEGV),
    ],
    ids=["exit", "SIGKILL", "SIGTERM", "segfault"],
)
def test_the_server_reports_how_a_child_has_ended(server: Server, child: Real, end_it: Any, code: int) -> None:
    """Its pid is not reused until the gate has it reaped."""
    child.call(child.function(end_it))
    told = server.read()
    before = state(child.pid)
    server.reap(child.pid)
    other = server.spawn()  # the server has come to the record before by now

    assert told == (_wire.EXITED, child.pid, code)
    assert before == psutil.STATUS_ZOMBIE
    assert not psutil.pid_exists(child.pid)
    assert other.result(os.getpid) == other.pid


def test_a_child_that_crashes_leaves_its_stack(server: Server, child: Real) -> None:
    """It can be read when the exit is reported."""
    child.call(child.function(lambda: ctypes.string_at(0)))
    server.read()
    stack = child.read_stack()

    assert "Fatal Python error: Segmentation fault" in stack
    assert "in string_at" in stack


def test_a_child_that_is_not_needed_any_more_ends_by_itself(server: Server, child: Real) -> None:
    """With what was printed written, and code 0."""
    reached, there = os.pipe()

    def divert(path: int) -> None:
        import os
        import sys

        os.dup2(path, 1)
        sys.stdout = os.fdopen(1, "w")  # buffered, since it is no terminal
        print("last words")

    child.result(divert, OpenFile(os.getpid(), there))
    os.close(there)
    child.end()
    told = server.read()
    words = os.read(reached, 100)
    os.close(reached)

    assert told == (_wire.EXITED, child.pid, 0)
    assert words == b"last words\n"


def test_what_a_child_has_started_ends_with_it(server: Server, child: Real, until: Until) -> None:
    """Whatever is in its group is killed."""

    def start() -> int:
        import subprocess

        return subprocess.Popen(["sleep", "1000"]).pid

    pid = child.result(start)
    child.call(child.function(lambda: os._exit(0)))
    server.read()

    until(lambda: gone(pid))


@pytest.mark.parametrize("how", ["stopped", "in C code", "idle"])
def test_no_child_outlives_its_gate(server: Server, child: Real, until: Until, how: str) -> None:
    """Whatever it does: it may be stopped, or in C code that keeps the interpreter lock."""
    if how == "in C code":
        begin_endless_code(child)
    elif how == "stopped":
        os.kill(child.pid, signal.SIGSTOP)
        until(lambda: state(child.pid) == psutil.STATUS_STOPPED)
    server.socket.close()
    server.process.wait(LIMIT)

    until(lambda: gone(child.pid))


def test_what_a_child_has_started_ends_with_the_gate(server: Server, child: Real, until: Until) -> None:
    """The system kills the child with its server; the server kills the rest of its group."""

    def start() -> int:
        import subprocess

        return subprocess.Popen(["sleep", "1000"]).pid

    pid = child.result(start)
    server.socket.close()
    server.process.wait(LIMIT)

    until(lambda: gone(pid))


@pytest.mark.parametrize("serving", [True, False], ids=["serving", "still starting"])
def test_no_server_outlives_a_gate_whose_socket_another_process_has_inherited(until: Until, serving: bool) -> None:
    """A process that the gate has forked may hold it open; the gate's own end counts as well."""
    main = os.path.join(os.path.dirname(actors._child.__file__), "_main.py")
    program = f"""
import os, socket, subprocess, sys
mine, theirs = socket.socketpair()
server = subprocess.Popen([sys.executable, "-P", {main!r}, str(theirs.fileno())], pass_fds=[theirs.fileno()],
                          stdin=subprocess.DEVNULL, start_new_session=True)
theirs.close()
holder = os.fork()
if holder == 0:
    import signal
    os.close(1)
    signal.pause()
if {serving}:
    mine.send({_wire.RECORD.pack(_wire.SPAWN, 1, 0)!r})
    mine.recv({_wire.RECORD.size})
print(server.pid, holder, flush=True)
mine.recv(1)
"""
    gate = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert gate.stdout is not None
    server, holder = map(int, gate.stdout.readline().split())
    try:
        if serving:
            until(lambda: state(server) == psutil.STATUS_SLEEPING)
        gate.kill()
        gate.wait(LIMIT)

        until(lambda: gone(server))
    finally:
        os.kill(holder, signal.SIGKILL)
        gate.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell a process of its parent's end")
def test_no_child_outlives_its_server(server: Server, child: Real, until: Until) -> None:
    """It dies with it, whatever it does."""
    begin_endless_code(child)
    server.process.kill()
    server.process.wait(LIMIT)

    until(lambda: gone(child.pid))


def test_what_ends_other_processes_does_not_end_the_server(server: Server) -> None:
    """It ends with its gate, or the children of others would be lost."""
    server.spawn()  # so it has begun to serve
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        server.process.send_signal(number)

    child = server.spawn()
    assert child.result(os.getpid) == child.pid


def test_a_process_that_user_code_forks_says_nothing_to_the_gate(server: Server, child: Real, until: Until) -> None:
    """It ends where its code does, and the child is as before."""

    def fork() -> int:
        import os

        from tokengate_worker import checkpoint

        pid = os.fork()
        checkpoint()
        return pid

    pid = child.result(fork)
    until(lambda: gone(pid))

    assert pid != 0
    assert child.result(lambda: "as before") == "as before"
    assert child.read_now() == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt")
def test_the_server_adopts_and_reaps_what_a_token_has_left_behind(server: Server, child: Real, until: Until) -> None:
    """Also a process with a session of its own; as a zombie it would still be there."""

    def leave_behind() -> list[int]:
        import subprocess

        command = "sleep 100 >&- 2>&- & echo $!; setsid sleep 100 >&- 2>&- & echo $!"
        done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, check=True)
        return [int(pid) for pid in done.stdout.split()]

    for pid in child.result(leave_behind):
        until(lambda pid=pid: psutil.Process(pid).ppid() == server.process.pid)  # type: ignore[misc]
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: not psutil.pid_exists(pid))  # type: ignore[misc]

    assert child.result(lambda: "as before") == "as before"


# Being looked at and stopped


def test_a_child_tells_its_stack_in_c_code(child: Real) -> None:
    """On the signal for that; its own program is the outermost line."""
    begin_endless_code(child)
    os.kill(child.pid, _wire.STACK_SIGNAL)
    text = ""
    while not re.search(r"_main\.py.*\n", text):
        ready, _, _ = select.select([child.stack], [], [], LIMIT)
        assert ready
        text += child.read_stack()
    lines = [line for line in text.splitlines() if line.startswith("  File")]

    assert "in backtrack" in lines[0]
    assert f'{os.sep}_main.py", line' in lines[-1]


def test_a_child_can_be_asked_for_its_stack_as_soon_as_it_is_known(server: Server) -> None:
    """The signal for that kills a child that has no handler for it yet."""
    for _ in range(5):
        child = server.spawn()
        os.kill(child.pid, _wire.STACK_SIGNAL)

        assert child.result(os.getpid) == child.pid


def test_a_stack_that_is_not_read_delays_nothing(child: Real) -> None:
    """The pipe is full some time, and the rest is lost."""
    key = child.function(len)
    for _ in range(600):
        os.kill(child.pid, _wire.STACK_SIGNAL)
        child.call(key, "abc")
        child.read()

    assert len(child.read_stack()) > 60_000


def test_a_child_stops_itself_where_the_gate_wants_it(child: Real, until: Until) -> None:
    """Between two steps, and goes on when it is let go."""
    from actors._child import _shared_page

    def steps() -> Any:
        yield
        yield
        yield
        return "over"

    child.page.word[_shared_page.STOP_AT] = 2
    child.page.word[_shared_page.STOP_CALL] = 1
    child.call(child.function(steps, steps=True))
    until(lambda: state(child.pid) == psutil.STATUS_STOPPED)
    assert child.page.word[_shared_page.STOPPED] == 1
    assert child.page.word[_shared_page.STEPS] == 2
    child.page.word[_shared_page.STOP_CALL] = 0
    os.kill(child.pid, signal.SIGCONT)
    (frame,) = child.read()

    assert child.load(frame) == "over"
    assert child.page.word[_shared_page.STOPPED] == 0


def test_the_server_does_not_grow(server: Server, until: Until) -> None:
    """Over the life of a gate it makes children without end."""
    process = psutil.Process(server.process.pid)

    def make_some(count: int) -> tuple[int, int]:
        for _ in range(count):
            child = server.spawn()
            os.kill(child.pid, signal.SIGKILL)
            server.read()
            server.reap(child.pid)
            server.ends.pop(child.pid).close()
            server._names -= 1
        return process.num_fds(), process.memory_info().rss

    files, memory = make_some(10)
    _, memory_after = make_some(50)

    until(lambda: process.num_fds() <= files)  # it may not have come to the latest yet
    assert memory_after - memory < 1_000_000
