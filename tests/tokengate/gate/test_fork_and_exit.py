"""Signals, forks and the interpreter's exit, each in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable

import programs
import pytest
from tiers import in_ci

from tokengate import Gate

pytestmark = pytest.mark.usefixtures("programs")

WAIT = 60.0  # seconds; only reached when something is broken

PREAMBLE = """
import multiprocessing, os, signal, sys, threading, time, warnings
import trio
from tokengate import *
from tokengate.types import current_gate

warnings.filterwarnings("ignore", category=DeprecationWarning)  # Python 3.12 warns of any fork with threads

@token
def double(n): return 2 * n

@token(concurrency=1)
def spin():
    while True: checkpoint()

@token(concurrency=1)
def block(started=None):
    if started: started.set()
    threading.Event().wait()

class Counter(CpuActor):
    def __init__(self): self.value = 0
    def on_stop(self): sys.stdout.write("stopped\\n"); sys.stdout.flush()  # one write: two actors may stop at once
    def add(self, n=1): self.value += n; return self.value

class Io(IoActor):
    async def forever(self): await trio.sleep_forever()

def error_of(fn, *args):
    try: fn(*args)
    except BaseException as error: return type(error).__name__
    return "no error"
"""


# Threads get a minute to end as their gate closes, not a second: on a busy machine they may get no processor that long.
PATIENT = """
from tokengate.gate import _gate
_gate._THREADS_SECONDS = 60.0
"""


def run(code: str, *, torn_down: bool = False) -> tuple[int, str, str]:
    """Run a program; return its exit code and what it printed. One that hangs fails the test."""
    done = programs.run("-c", PREAMBLE + textwrap.dedent(code), torn_down=torn_down)
    return done.returncode, done.stdout, done.stderr


# Signals


def test_a_signal_handler_may_ask_for_the_stop_whatever_the_main_thread_holds() -> None:
    """It waits for no lock, so it cannot deadlock with the code that it has interrupted."""
    before = signal.signal(signal.SIGUSR1, lambda *_: gate.request_stop())
    try:
        with Gate("test") as gate:
            system = gate._system
            locks = (gate._lock, system._lock, system._places_lock, system._counts_lock, system.dispatcher._lock)
            for lock in locks:
                lock.acquire()
            try:
                signal.raise_signal(signal.SIGUSR1)
            finally:
                for lock in locks:
                    lock.release()

            assert gate.wait(WAIT)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_signals_at_any_moment_end_a_busy_program() -> None:
    """One after the other, into whatever the main thread does just then."""
    code = """
        gate = Gate("test")
        signal.signal(signal.SIGUSR1, lambda *_: (gate.request_stop(), gate.hurry()))
        def shoot():
            for _ in range(300): os.kill(os.getpid(), signal.SIGUSR1)
        with gate:
            shooter = threading.Thread(target=shoot)
            shooter.start()
            tokens = []
            while shooter.is_alive(): tokens += double.map(range(3))
            for t in tokens: assert t.exception(60) is None
            print(gate.wait(60), gate.stopping)
        """
    assert run(code) == (0, "True True\n", "")


def test_a_signal_that_comes_while_the_main_thread_waits_ends_the_wait() -> None:
    """`gate.wait()` in the main thread, the handler in it, too."""
    code = """
        with Gate("test") as gate:
            signal.signal(signal.SIGTERM, lambda *_: gate.request_stop())
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
            print(gate.wait())
        """
    assert run(code) == (0, "True\n", "")


# Fork

FORK = """
    def in_child(fn):
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            code = 70
            try: fn(); code = 0
            finally: sys.stdout.flush(); os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def forking(code: str) -> str:
    return textwrap.dedent(FORK) + textwrap.dedent(code)


def test_a_forked_child_has_no_gate_and_says_so() -> None:
    """A bare call is the plain function; all else is an error at once; the parent goes on."""
    code = """
        with Gate("test", threads=4) as gate:
            ref = gate.spawn(Counter)
            executor = gate.executor()
            stuck = gate.spawn(Io).proxy().forever()
            queued = [spin.submit() for _ in range(3)]
            released = threading.Event()
            future = executor.submit(released.wait)
            def child():
                assert current_gate() is None and double(4) == 8
                print(error_of(double.submit, 1), error_of(gate.find, "x"), error_of(ref.tell, 1), ref.is_alive())
                print(*[error_of(t.result) for t in (stuck, *queued)], error_of(executor.submit, double, 1))
                print(error_of(future.result), ref.stop(), gate.close().clean, gate.request_stop(), gate.hurry())
                print(sys.getswitchinterval())
            print(in_child(child))
            print(ref.proxy().add(5).result(60), double.submit(4).result(60), *[t.done() for t in (stuck, *queued)])
            released.set()
            for t in (stuck, *queued): t.cancel()
            gate.close()  # in its own time: with none, an actor may be left without its `on_stop`
        """
    returncode, out, _ = run(forking(code))

    assert out.splitlines() == [
        "NeedsGate GateState ActorDead False",
        "TokenTerminated TokenTerminated TokenTerminated TokenTerminated GateState",
        "TokenTerminated False False None None",
        "0.005",
        "0",
        "5 8 False False False False",
        "stopped",
    ]
    assert returncode == 0


def test_the_error_in_a_forked_child_names_the_gate_the_process_that_opened_it_and_the_remedy() -> None:
    """For a call that needs a gate, for each use of the gate itself, and of an actor."""
    code = """
        def text(fn):
            try: fn()
            except Exception as error: return str(error).replace(str(parent), "PARENT")
        parent = os.getpid()
        gate = Gate("test").open()
        ref = gate.spawn(Counter)
        def child():
            for fn in (lambda: double.submit(1), lambda: gate.find("x"), gate.open): print(text(fn))
            for fn in (lambda: ref.tell(1), ref.proxy): print(text(fn).partition("not found: ")[2])
        print(in_child(child))
        gate.close()
        """
    problem = "gate 'test' was opened by process PARENT, from which this one was forked, without its threads; "
    problem += 'open a gate here, after the fork, or make that one with Gate(open="lazily")'

    left = "it is in process PARENT, from which this one was forked; start it here, after the fork"

    returncode, out, _ = run(forking(code))

    lines = [f"no gate is open to submit 'double' to; {problem}", problem, problem, left, left, "0", "stopped"]
    assert out.splitlines() == lines
    assert returncode == 0


def test_a_gate_that_opens_lazily_is_anew_in_each_process() -> None:
    """Whether the parent has used it or not; its children, files and observers are of the process that uses it."""
    code = """
        from tokengate.control.registry import Plugin
        from tokengate.types import Observer

        class Journal(Plugin, Observer):
            def __init__(self): self.ended = []
            def observer(self, gate): return self
            def child(self, gate): return ChildSpec("journal", Counter)
            def token_finished(self, t): self.ended.append((os.getpid(), t.operation))

        journal = Journal()
        gate = Gate("lazy", open="lazily", children=[ChildSpec("counter", Counter)], plugins=[journal])
        seen = []
        gate.subscribe(lambda event: seen.append(os.getpid()))

        def use():
            assert gate.state == "new", gate
            del journal.ended[:], seen[:]
            print(double(2), gate.find("counter").proxy().add(3).result(10))
            assert gate.find("$system/plugins/journal").is_alive()
            held = {os.getpid()}
            assert {pid for pid, _ in journal.ended} == held and "double" in {name for _, name in journal.ended}
            assert set(seen) in (held, set())  # what was subscribed once the gate was open belongs to the parent
            assert gate.close().clean and gate.state == "closed"

        print(in_child(use), gate.state)
        gate.open()
        parents = spin.submit()
        print(in_child(use), gate.state, parents.done(), {pid for pid, _ in journal.ended} <= {os.getpid()})
        parents.cancel()
        parents.exception(60)
        gate.close()
        """
    returncode, out, err = run(forking(code))

    lines = [line for line in out.splitlines() if line != "stopped"]
    assert lines == ["4 3", "0 new", "4 3", "0 open False True"], err
    assert returncode == 0


def test_a_gate_that_was_made_before_a_fork_opens_after_it() -> None:
    """A server's hook opens it in each worker; what was subscribed to it holds there."""
    code = """
        gate = Gate("test")
        seen = []
        gate.subscribe(seen.append)
        def child():
            with gate: print(double.submit(2).result(10), gate.spawn(Counter).is_alive())
            assert seen
        print(in_child(child), in_child(child), gate.state)
        """
    assert run(forking(code)) == (0, "4 True\nstopped\n4 True\nstopped\n0 0 new\n", "")


def test_the_observers_of_a_gate_are_not_told_of_the_parents_tokens_in_a_forked_child() -> None:
    """They are terminated there, but their records are the parent's to write."""
    code = """
        from tokengate.types import Observer
        class Watch(Observer):
            def token_finished(self, t):
                if t.operation == "spin": print("ended in", os.getpid() - parent)
        parent = os.getpid()
        with Gate("test") as gate:
            gate._system.add_observer(Watch())
            t = spin.submit()
            print(in_child(lambda: print(error_of(t.result))))
            t.cancel()
            t.exception(60)
        """
    assert run(forking(code)) == (0, "TokenTerminated\n0\nended in 0\n", "")


def test_a_child_of_multiprocessing_closes_its_gates_as_it_exits() -> None:
    """Python does not call there what `atexit` has."""
    code = """
        gate = Gate("lazy", open="lazily", children=[ChildSpec("counter", Counter)])
        context = multiprocessing.get_context("fork")
        worker = context.Process(target=lambda: print(double(2), flush=True))
        worker.start()
        worker.join()
        print(worker.exitcode, gate.state)
        """
    assert run(code) == (0, "4\nstopped\n0 new\n", "")


def test_a_forked_child_may_open_a_gate_of_its_own() -> None:
    """And closes that one; not its parent's, whose block it leaves."""
    code = """
        with Gate("parent") as parent:
            ref = parent.spawn(Counter)
            sys.stdout.flush()
            pid = os.fork()
            if not pid:
                with Gate("child") as gate:
                    print("child", gate.spawn(Counter).proxy().add(3).result(60), double.submit(3).result(60))
                    print("started", Counter.start().proxy().add(4).result(60))
            else:
                status = os.waitpid(pid, 0)[1]
                print("parent", status, ref.proxy().add(1).result(60))
        sys.exit(0)
        """
    assert run(code) == (0, "child 3 6\nstarted 4\nstopped\nstopped\nparent 0 1\nstopped\n", "")


AUDIT_PREAMBLE = """
import pathlib, tempfile
from tokengate.audit import read, verify
home = pathlib.Path(tempfile.mkdtemp())
os.environ["XDG_STATE_HOME"] = str(home)
file = home / "tokengate.toml"
file.write_text("[audit]\\n")
file.chmod(0o600)
def kinds(name):
    directory = home / "tokengate" / name / "audit"
    assert not verify(directory).problems
    return [one.get("verb") or one["kind"] for one in read(directory)]
"""


def test_a_forked_child_neither_writes_to_the_audit_log_nor_keeps_its_lock() -> None:
    """The next gate of this name has the directory, while the child goes on; what the child does is not recorded."""
    code = """
        reader, writer = os.pipe()
        gate = Gate("test", config=file, control_socket=False)
        with gate:
            gate.control.freeze(reason="parent")
            sys.stdout.flush()
            pid = os.fork()
            if not pid:
                print(error_of(lambda: gate.control.freeze(reason="child")))
                os.read(reader, 1)
                sys.exit(0)
        with Gate("test", config=file, control_socket=False) as second:
            second.control.unfreeze()
        os.write(writer, b"x")
        print(os.waitpid(pid, 0)[1], kinds("test"))
        """
    printed = "['opened', 'freeze', 'freeze', 'closed', 'opened', 'unfreeze', 'unfreeze', 'closed']"
    assert run(AUDIT_PREAMBLE + textwrap.dedent(code)) == (0, f"GateState\n0 {printed}\n", "")


def test_forked_workers_of_a_gate_that_opens_lazily_have_audit_logs_of_their_own() -> None:
    """Each is a live gate of the same name, so it takes the next free directory, and no record is lost or mixed."""
    code = """
        gate = Gate("test", open="lazily", config=file, control_socket=False)
        double.submit(1).result(60)
        gate.control.freeze(reason="parent")
        (done, wake), (held, release) = os.pipe(), os.pipe()
        def worker(last):
            sys.stdout.flush()
            pid = os.fork()
            if pid: return pid
            double.submit(2).result(60)
            gate.control.unfreeze()
            print(pathlib.Path(gate.control.whoami().audit).parent.name)
            sys.stdout.flush()
            if not last:
                os.write(wake, b"x")
                os.read(held, 1)
            gate.close()
            os._exit(0)
        first = worker(False)
        os.read(done, 1)
        print(os.waitpid(worker(True), 0)[1])
        os.write(release, b"x")
        print(os.waitpid(first, 0)[1])
        gate.close()
        for name in ("test", "test~2", "test~3"): print(kinds(name))
        """
    status, out, errors = run(AUDIT_PREAMBLE + textwrap.dedent(code))
    of_worker = "['opened', 'unfreeze', 'unfreeze', 'closed']"

    assert (status, errors) == (0, "")
    assert out.splitlines() == [
        "test~2", "test~3", "0", "0", "['opened', 'freeze', 'freeze', 'closed']", of_worker, of_worker,
    ]  # fmt: skip


def test_a_step_that_forks_ends_with_its_child() -> None:
    """On a CPU thread as in a direct call: nothing that was queued runs twice."""
    code = """
        @token(concurrency=1)
        def fork(log):
            pid = os.fork()
            if pid: return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        @token(concurrency=1)
        def write(log): os.write(log, b"x")

        reader, writer = os.pipe()
        with Gate("test", threads=1) as gate:
            tokens = [fork.submit(writer)]
            tokens += [write.submit(writer) for _ in range(5)]
            print([t.result(60) for t in tokens][0], len(os.read(reader, 100)))
            if (code := fork(writer)) is not None: print(code)
        """
    assert run(code) == (0, "0 5\n0\n", "")


def test_children_of_multiprocessing_are_forks_like_any_other() -> None:
    """With the start method `fork`."""
    code = """
        with Gate("test") as gate:
            child = multiprocessing.get_context("fork").Process(target=double, args=(2,))
            child.start()
            child.join()
            print(child.exitcode, double.submit(3).result(60))
        """
    assert run(code) == (0, "0 6\n", "")


@in_ci
def test_forks_while_tokens_fly_never_hang() -> None:
    """Whatever locks are held by other threads at that moment."""
    code = """
        with Gate("test") as gate:
            stop = threading.Event()
            counter = gate.spawn(Counter).proxy()
            def send():
                while not stop.is_set():
                    for t in [*double.map(range(20)), counter.add()]: t.result()
            senders = [threading.Thread(target=send) for _ in range(3)]
            for sender in senders: sender.start()
            codes = set()
            for _ in range(40):
                def child():
                    with Gate("child") as gate: assert double.submit(2).result(60) == 4
                codes.add(in_child(child))
            stop.set()
            for sender in senders: sender.join()
            print(codes)
        """
    assert run(forking(code)) == (0, "{0}\nstopped\n", "")


# Process 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt")
def test_a_closed_gate_leaves_no_child_to_a_process_that_adopts_them() -> None:
    """As process 1 does in a container: neither workers, killed ones included, nor what their tokens have started."""
    code = """
        import ctypes, subprocess
        from tokengate.errors import WorkerDied

        @token(affinity="process")
        def leave_behind(end):
            subprocess.run(["sh", "-c", "sleep 100 >&- 2>&- &"], check=True)
            subprocess.Popen(["sleep", "100"])
            if end: os.kill(os.getpid(), signal.SIGKILL)

        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
        with Gate("test"):
            for end in (True, False): print(error_of(leave_behind, end))
        print(error_of(os.waitpid, -1, os.WNOHANG))
        """
    assert run(code) == (0, "WorkerDied\nno error\nChildProcessError\n", "")


# The interpreter's exit


@pytest.mark.parametrize("end", ["pass", "sys.exit(0)"])
@pytest.mark.parametrize(
    "work",
    [
        "",
        "double.map(range(10_000))",
        "spin.submit(); spin.submit()",
        "gate.spawn(Io).proxy().forever()",
        "gate.executor().submit(double, 2)",
        "threading.Thread(target=lambda: double.submit(2).result()).start()",
    ],
)
def test_a_gate_that_was_left_open_ends_with_the_interpreter(work: str, end: str) -> None:
    """Without a hang or a traceback; its actors are stopped in order."""
    code = f"""{PATIENT}
gate = Gate("test", shutdown=60).open()
gate.spawn(Counter)
{work}
{end}
"""
    assert run(code, torn_down=True) == (0, "stopped\n", "")


def test_sys_exit_in_a_block_with_queued_work_is_the_programs_end() -> None:
    """The exit code is the program's own."""
    code = """
        with Gate("test") as gate:
            gate.spawn(Counter)
            double.map(range(10_000)), spin.submit(), spin.submit()
            sys.exit(3)
        """
    assert run(PATIENT + textwrap.dedent(code), torn_down=True) == (3, "stopped\n", "")


def test_code_that_blocks_for_ever_does_not_keep_the_interpreter() -> None:
    """What cannot be ended is named in a log record, and left behind."""
    code = """
        gate = Gate("test", shutdown=0.2).open()
        started = threading.Event()
        block.submit(started)
        started.wait()
        """
    returncode, out, err = run(code, torn_down=True)

    assert (returncode, out) == (0, "")
    assert "gate 'test' left behind test-cpu" in err
    assert "Traceback" not in err


def test_ctrl_c_ends_a_program_that_its_actors_keep_alive() -> None:
    """Actors of `Cls.start()` keep it from ending until then, as with pykka, whatever is queued there."""
    code = """
        counter, io = Counter.start().proxy(), Io.start().proxy()
        io.forever()
        for _ in range(10_000): counter.add()
        main = threading.current_thread()
        def late():
            while main.is_alive(): pass
            print("end", counter.add(0).result(60), flush=True)
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=late, daemon=True).start()
        """
    exit_code, output, errors = run(code, torn_down=True)
    assert (exit_code, output) == (0, "end 10000\n")
    assert "KeyboardInterrupt" in errors


def test_an_open_gate_serves_threads_that_outlive_the_main_one() -> None:
    """It ends after the last thread that is no daemon."""
    code = """
        gate = Gate("test").open()
        main = threading.current_thread()
        def late():
            while main.is_alive(): pass
            print(double.submit(4).result(60), flush=True)
        threading.Thread(target=late).start()
        """
    assert run(code, torn_down=True) == (0, "8\n", "")


def test_the_leftovers_of_a_closed_gate_are_nobodys(until: Callable[[Callable[[], bool]], None]) -> None:
    """A closed gate is not closed again at the end."""
    with Gate("test") as gate:
        assert not gate.stopping
    from actors.system._open_systems import open_systems

    assert gate._system not in open_systems
    # The thread that has closed it ends by itself.
    until(lambda: not any(thread.name.startswith("test-") for thread in threading.enumerate()))


def test_the_first_use_of_a_gate_that_opens_lazily_imports_nothing_of_the_runtime() -> None:
    """A fork meanwhile would leave the lock of the module held in the child, whose first use would wait for ever."""
    code = """if True:
        import sys
        from tokengate import Gate, token
        rooms = ("actors", "supervisors", "tokengate")
        def loaded(): return {name for name in sys.modules if name.partition(".")[0] in rooms}
        @token(affinity="cpu")
        def double(n): return 2 * n
        gate = Gate("lazy", open="lazily", control_socket=False)
        before = loaded()
        assert double.submit(4).result(60) == 8
        print(sorted(loaded() - before))
        gate.close()
        """
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert (child.stdout, child.stderr) == ("[]\n", "")
