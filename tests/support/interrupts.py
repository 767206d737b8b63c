"""Raise exceptions at a chosen line of the runtime, as a signal handler would, and check what must hold afterwards.

A `Strike` runs a function and raises at the k-th line (or bytecode) that the calling thread executes in the runtime's
files. A `Bench` is an open gate with operations and actors of every kind. It keeps a ledger of what ran, and reports
faults: tokens that do not end, calls that are not served, counters that do not go back.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dis
import inspect
import linecache
import logging
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Literal, Self, TypeAlias

import attrs
import trio

import actors
import supervisors
import tokengate
from tokengate import (
    AsyncioActor,
    Batch,
    CpuActor,
    Gate,
    IoActor,
    Policy,
    ProcessActor,
    Token,
    TokenState,
    checkpoint,
    current_token,
    token,
)
from tokengate.operations import _current

HOMES = tuple(os.path.dirname(str(package.__file__)) + os.sep for package in (actors, supervisors, tokengate))
TERMINAL = frozenset({TokenState.COMPLETED, TokenState.FAILED, TokenState.TERMINATED, TokenState.REJECTED})

# ----------------------------------------------------------------------------------------------------------------------
# Raising
# ----------------------------------------------------------------------------------------------------------------------


@attrs.frozen(order=True)
class Place:
    """A line of the runtime.

    Attributes:
        file: its path below the directory of the packages.
        line: its number.
        function: the qualified name of the function.
    """

    file: str
    line: int
    function: str

    @classmethod
    def of(cls, code: CodeType, line: int) -> Self:
        """Return the place of a line of some code."""
        parts = code.co_filename.split(os.sep)
        start = max((i for i, part in enumerate(parts) if part in ("actors", "supervisors", "tokengate")), default=-2)
        return cls("/".join(parts[start:]), line, code.co_qualname)

    @property
    def text(self) -> str:
        """The line itself."""
        root = Path(HOMES[0]).parent
        path = root / self.file if (root / self.file).exists() else Path(self.file)
        return linecache.getline(str(path), self.line).strip()

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.function}: {self.text}"


Grain: TypeAlias = Literal["signal", "line", "opcode"]

# CPython 3.11 to 3.13 checks for signals after calls and at RESUME and JUMP_BACKWARD. After a call of a Python function
# it does not: that goes on within the same loop of the interpreter, which checks when the function begins. At a jump
# back, 3.13 raises where the jump is, which may have other handlers than its target, where 3.11 and 3.12 raise.
_CALLS = frozenset(
    code
    for name, code in dis.opmap.items()
    if name.startswith(("CALL", "INSTRUMENTED_CALL")) and "INTRINSIC" not in name
)
_LOOKING_BEFORE = frozenset([dis.opmap["JUMP_BACKWARD"]] if sys.version_info >= (3, 13) else [])
_LOOKING = frozenset(dis.opmap[name] for name in ("RESUME", "JUMP_BACKWARD")) - _LOOKING_BEFORE

# Calls of these may wait; a signal handler may run meanwhile, and its exception is raised by the call.
_WAITING = frozenset(
    {"acquire", "sleep", "wait", "select", "poll", "recv", "recv_into", "send", "sendmsg", "join", "start"}
)


@attrs.frozen
class _Points:
    """The points of a code object at which a strike may come.

    Attributes:
        leaving: offsets of the instructions that leave a `with` block. CPython does not check for signals there, and no
            code could be safe: the lock of `with lock:` would stay locked.
        waiting: offsets of the calls that may wait.
        code: the instructions.
        handlers: exception handlers: (start, end, target), in offsets.
    """

    leaving: frozenset[int]
    waiting: frozenset[int]
    code: bytes
    handlers: tuple[tuple[int, int, int], ...]

    def handler(self, offset: int) -> int:
        """Return the offset of the handler of an instruction's exceptions; -1 for none."""
        return next((target for start, end, target in self.handlers if start <= offset < end), -1)

    @classmethod
    def of(cls, code: CodeType) -> Self:
        """Return the points of a code object, cached."""
        if known := _points.get(code):
            return known  # type: ignore[return-value]
        steps = [step for step in dis.get_instructions(code) if step.opname != "CACHE"]
        leaving: set[int] = set()
        waiting: set[int] = set()
        waits = False
        for index, step in enumerate(steps):
            names = [one.opname for one in steps[index : index + 5]]
            calls = "CALL" in names[3:4] or names[3:5] == ["PRECALL", "CALL"]
            if (
                names[:3] == ["LOAD_CONST"] * 3
                and all(one.argval is None for one in steps[index : index + 3])
                and calls
            ):
                first = index - (steps[index - 1].opname == "SWAP")  # with the value of a `return`
                leaving.update(one.offset for one in steps[first : index + 4 + ("PRECALL" in names)])
            if names[:2] == ["PUSH_EXC_INFO", "WITH_EXCEPT_START"]:
                leaving.update(one.offset for one in steps[index : index + 2])
            if step.opname in ("LOAD_ATTR", "LOAD_METHOD") and step.argval in _WAITING:
                waits = True
            elif step.opname == "BEFORE_WITH" or (waits and step.opcode in _CALLS):
                waiting.add(step.offset)
                waits = False
        table = dis._parse_exception_table(code)  # type: ignore[attr-defined]
        handlers = tuple((entry.start, entry.end, entry.target) for entry in table)
        points = cls(frozenset(leaving), frozenset(waiting), code.co_code, handlers)
        _points[code] = points
        return points


_points: dict[CodeType, _Points] = {}


class Strike:
    """Raises an exception in the calling thread's runtime code, as a signal handler would.

    Args:
        at: number of the point, from 1.
        again: number of the point after the first exception at which another one is raised; 0 for none. Points are
            counted again from the first call that follows the exception; with Python 3.12, at once, but for `signal`.
        grain: which points are counted: lines, bytecodes, or the instructions at which CPython checks for signals, so
            that a handler can really raise. The exit of a `with` block is no point: CPython does not check for signals
            there.
        error: the class to raise.
        skip: places that are not counted.
        homes: folders and files whose code is struck: the runtime's.

    Attributes:
        places: where it has struck, one for each exception.
    """

    def __init__(
        self,
        at: int,
        *,
        again: int = 0,
        grain: Grain = "line",
        error: type[BaseException] = KeyboardInterrupt,
        skip: Container[Place] = (),
        homes: tuple[str, ...] = HOMES,
    ) -> None:
        self.places: list[Place] = []
        self._left = [at, again] if again else [at]
        self._grain = grain
        self._error = error
        self._skip = skip
        self._homes = homes
        self._thread = threading.get_ident()
        self._callees: dict[int, CodeType] = {}  # {id of a frame: what it has called in Python since its latest point}

    def run(self, act: Callable[[], Any]) -> tuple[Any, BaseException | None]:
        """Call a function under the strike; return its value and what it raised."""
        if len(self._left) > 1 and self._grain != "signal" and sys.version_info >= (3, 12):
            return self._run_monitored(act)
        return self._run_traced(act)

    @property
    def left(self) -> int:
        """Number of points until it strikes."""
        return self._left[0] if self._left else 0

    def _point(self, code: CodeType, line: int) -> None:
        """Count a point, and raise if it is the one."""
        if not self._left or (self._skip and Place.of(code, line) in self._skip):
            return
        self._left[0] -= 1
        if self._left[0] <= 0:
            del self._left[0]
            self.places.append(Place.of(code, line))
            raise self._error

    # With the interpreter's trace function, which is unset when it raises

    def _run_traced(self, act: Callable[[], Any]) -> tuple[Any, BaseException | None]:
        before = sys.gettrace()
        sys._getframe().f_trace_opcodes = self._grain != "line"  # Python 3.12 looks when the trace function is set
        sys.settrace(self._called)
        try:
            return act(), None
        except BaseException as error:
            return None, error
        finally:
            sys.settrace(before)
            sys.setprofile(None)

    def _called(self, frame: FrameType, _event: str, _arg: object) -> Any:
        self._callees.setdefault(id(frame.f_back), frame.f_code)
        if not frame.f_code.co_filename.startswith(self._homes):
            return None
        return self._trace(frame)

    def _trace(self, frame: FrameType) -> Callable[[FrameType, str, Any], Any]:
        """Set the trace function of a frame, and return it."""
        wanted = "line" if self._grain == "line" else "opcode"
        points = _Points.of(frame.f_code)
        latest = next(iter(_LOOKING))  # as if after the beginning of the function
        latest_offset = 0

        def reached(frame: FrameType, event: str, _arg: object) -> Any:
            nonlocal latest, latest_offset
            if event == wanted:
                offset = frame.f_lasti
                if self._grain == "signal":
                    called = _looks_after(latest, self._callees.pop(id(frame), None))
                    # The call raises, so its handler must be the handler at this point.
                    called &= latest not in _CALLS or points.handler(latest_offset) == points.handler(offset)
                    is_point = called or offset in points.waiting or points.code[offset] in _LOOKING_BEFORE
                    latest, latest_offset = points.code[offset], offset
                else:
                    is_point = offset not in points.leaving
                if is_point:
                    try:
                        self._point(frame.f_code, frame.f_lineno)
                    except BaseException:
                        if self._left:
                            sys.setprofile(self._resume)
                        raise
            return reached

        frame.f_trace = reached
        frame.f_trace_opcodes = self._grain != "line"  # Python 3.13 ignores it in a frame without a trace function
        return reached

    def _resume(self, frame: FrameType, _event: str, _arg: object) -> None:
        """Trace again after an exception, from the next call or return on."""
        sys.setprofile(None)
        sys.settrace(self._called)
        outer: FrameType | None = frame
        while outer is not None:
            if outer.f_code.co_filename.startswith(self._homes):
                self._trace(outer)
            outer = outer.f_back

    # With `sys.monitoring`, which goes on after it has raised

    def _run_monitored(self, act: Callable[[], Any]) -> tuple[Any, BaseException | None]:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
        tool = next(number for number in range(6) if monitoring.get_tool(number) is None)
        opcodes = self._grain == "opcode"
        event = monitoring.events.INSTRUCTION if opcodes else monitoring.events.LINE

        def reached(code: CodeType, where: int) -> Any:
            if not code.co_filename.startswith(self._homes):
                return monitoring.DISABLE
            if threading.get_ident() == self._thread:
                offset = where if opcodes else sys._getframe(1).f_lasti
                if offset not in _Points.of(code).leaving:
                    self._point(code, _line_of(code, where) if opcodes else where)
            return None

        monitoring.use_tool_id(tool, "strike")
        monitoring.register_callback(tool, event, reached)
        monitoring.set_events(tool, event)
        try:
            return act(), None
        except BaseException as error:
            return None, error
        finally:
            monitoring.set_events(tool, 0)
            monitoring.register_callback(tool, event, None)
            monitoring.free_tool_id(tool)


def _looks_after(latest: int, callee: CodeType | None) -> bool:
    """Tell whether CPython checks for signals after an instruction; `callee` is the Python code that it called."""
    if latest not in _CALLS:
        return latest in _LOOKING
    return callee is None or callee.co_name == "__init__" or bool(callee.co_flags & inspect.CO_GENERATOR)


def _line_of(code: CodeType, offset: int) -> int:
    return next((line or 0 for start, end, line in code.co_lines() if start <= offset < end), 0)


# ----------------------------------------------------------------------------------------------------------------------
# What runs
# ----------------------------------------------------------------------------------------------------------------------


class Door:
    """A door at which a token waits until a test opens it.

    Attributes:
        reached: set when a token waits.
        opened: set when it may go on.
    """

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def pass_through(self) -> None:
        self.reached.set()
        while not self.opened.wait(0.002):
            checkpoint()

    async def apass_through(self) -> None:
        self.reached.set()
        while not self.opened.is_set():
            await (trio.sleep if trio.lowlevel.in_trio_task() else asyncio.sleep)(0.001)


ran: list[int] = []  # numbers of the calls whose code has begun, in this order; but for processes


def note(number: int, door: Door | None = None) -> int:
    ran.append(number)
    if door is not None:
        door.pass_through()
    return number


async def anote(number: int, door: Door | None = None) -> int:
    ran.append(number)
    if door is not None:
        await door.apass_through()
    return number


def note_in_steps(number: int, door: Door | None = None) -> Any:
    ran.append(number)
    if door is not None:
        door.reached.set()
        while not door.opened.is_set():
            yield
    yield
    return number


def named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a new function with a name, so that it is a separate operation."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    call.__name__ = call.__qualname__ = name
    return call


def _async_named(name: str) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await anote(*args, **kwargs)

    call.__name__ = call.__qualname__ = name
    return call


# One token at a time, so that a turn that is not given back is noticed at once.
io = token(concurrency=1)(_async_named("io"))
asyncio_operation = token(affinity="asyncio", concurrency=1)(_async_named("asyncio_operation"))
cpu = token(concurrency=1)(named("cpu", note))
generator = token(concurrency=1)(note_in_steps)
here = token(concurrency=1)(named("here", note))  # for direct calls
io_narrow = token(concurrency=1, capacity=1)(_async_named("io_narrow"))
cpu_narrow = token(concurrency=1, capacity=1)(named("cpu_narrow", note))
dropping = token(concurrency=1, capacity=1, overflow="drop_oldest")(named("dropping", note))
refusing = token(concurrency=1, capacity=1, overflow="reject")(named("refusing", note))


def note_all(numbers: list[int | tuple[int, Door]]) -> list[int]:
    return [note(*one) if isinstance(one, tuple) else note(one) for one in numbers]


batched: Any = token(concurrency=1, policy=Policy(batch=Batch(size=2, wait=0.001)))(note_all)


@token(concurrency=1)
def outer(number: int, inner: int) -> int:
    ran.append(number)
    return int(here(inner))


@token(affinity="process", concurrency=1)
def process(ledger: str, number: int, seconds: float = 0.0) -> int:
    import os
    import time

    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, f"{number}\n".encode())
    os.close(descriptor)
    time.sleep(seconds)
    return number


class Notes(CpuActor):
    def __init__(self) -> None:
        self.latest = 0

    def note(self, number: int, door: Door | None = None) -> int:
        self.latest = number
        return note(number, door)

    def on_receive(self, message: Any) -> Any:
        return note(message)


class Dropping(Notes):
    capacity = 1
    overflow = "drop_oldest"


class Narrow(Notes):
    capacity = 1


class PinnedNotes(Notes):
    dispatcher = "pinned"


class IoNotes(IoActor):
    async def note(self, number: int, door: Door | None = None) -> int:
        return await anote(number, door)

    async def on_receive(self, message: Any) -> Any:
        return await anote(message)


class AsyncioNotes(AsyncioActor):
    async def note(self, number: int, door: Door | None = None) -> int:
        return await anote(number, door)

    async def on_receive(self, message: Any) -> Any:
        return await anote(message)


def _process_actor() -> type[ProcessActor]:
    class ProcessNotes(ProcessActor):
        """Defined within a function, so that it is pickled by value, and a child need not import this module."""

        def note(self, ledger: str, number: int) -> int:
            import os

            descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND)
            os.write(descriptor, f"{number}\n".encode())
            os.close(descriptor)
            return number

    return ProcessNotes


ProcessNotes = _process_actor()

# ----------------------------------------------------------------------------------------------------------------------
# What must hold
# ----------------------------------------------------------------------------------------------------------------------


def in_thread(fn: Callable[[], Any], seconds: float) -> tuple[Any, str]:
    """Call a function in a new thread; return its value, and a fault if it raised or took too long."""
    outcome: list[tuple[Any, str]] = []

    def call() -> None:
        try:
            outcome.append((fn(), ""))
        except BaseException as error:
            outcome.append((None, f"raised {type(error).__name__}: {error}"))

    thread = threading.Thread(target=call, name="helper", daemon=True)
    thread.start()
    thread.join(seconds)
    return outcome[0] if outcome else (None, f"has not returned within {seconds} s")


def eventually(condition: Callable[[], Any], seconds: float) -> bool:
    """Poll a condition; return whether it came true in time."""
    ends = time.monotonic() + seconds
    pause = 0.00005
    while not condition():
        if time.monotonic() > ends:
            return False
        time.sleep(pause)
        pause = min(pause * 2, 0.01)
    return True


class Bench:
    """An open gate with operations and actors of all kinds, and a ledger of what was sent and what ran.

    Args:
        limit: seconds within which tokens end and calls are served.
        processes: whether child processes are used.
    """

    def __init__(self, limit: float = 5.0, *, processes: bool = True) -> None:
        self.limit = limit
        self.processes = processes
        descriptor, self.ledger = tempfile.mkstemp(prefix="interrupts-")
        os.close(descriptor)
        self._numbers = iter(range(1, 2**62))
        self._known: set[int] = set()  # ids of tokens that are known not to end
        self._odd: set[str] = set()  # figures that are known not to go back
        self.gate = Gate("bench", threads=2, shutdown=1.0, processes=1, control_socket=False).open()
        try:
            self.notes = self.gate.spawn(Notes, name="cpu")
            self.pinned = self.gate.spawn(PinnedNotes, name="pinned")
            self.io_notes = self.gate.spawn(IoNotes, name="io")
            self.asyncio_notes = self.gate.spawn(AsyncioNotes, name="asyncio")
            self.narrow = self.gate.spawn(Narrow, name="narrow")
            self.dropping = self.gate.spawn(Dropping, name="dropping")
            self.process_notes = self.gate.spawn(ProcessNotes, name="process") if processes else None
            self.executor = self.gate.executor(concurrency=1)
            self._own = set(self.gate._system._places)  # paths of actors that no case has made
        except BaseException:
            self.close()
            raise

    def number(self) -> int:
        """Return the number of a new call."""
        return next(self._numbers)

    def executions(self) -> Counter[int]:
        """Return how often each call's code has begun."""
        counts = Counter(ran)
        if self.processes:
            counts.update(int(line) for line in Path(self.ledger).read_text().splitlines())
        return counts

    def forget(self) -> None:
        """Empty the ledger."""
        ran.clear()
        if self.processes:
            os.truncate(self.ledger, 0)

    def faults(self) -> list[str]:
        """Return the faults, when all work should be over; the first checks make no further call."""
        found = self.unended() or self.half_made() or self.immortal()
        deaf = self.deaf()
        if not found and not deaf:
            found += self.out_of_place()
        doubled = {number: times for number, times in self.executions().items() if times > 1}
        if doubled:
            found.append(f"ran more than once: {doubled}")
        if current_token() is not None:
            found.append(f"{current_token()!r} is still the current token of the caller")
        self.forget()
        return found + deaf

    def unended(self) -> list[str]:
        """Return a description of the tokens that do not end."""

        def live() -> list[Token[Any]]:
            tokens = list(self.gate._system.live.values())
            return [one for one in tokens if one.id not in self._known and not one.serves_operators]

        def all_ended() -> bool:
            return not live() and self._not_terminal() <= len(self._known)

        if eventually(all_ended, self.limit):
            return []
        left = live()
        self._known.update(one.id for one in left)
        if not left:
            return [f"the statistics count {self._not_terminal()} tokens that have not ended, and the system has none"]
        return sorted({f"{one.operation} of '{one.actor}' stays {one.state}" for one in left})

    def _not_terminal(self) -> int:
        counts = self.gate.statistics().tokens
        return sum(count for state, count in counts.items() if state not in TERMINAL)

    def half_made(self) -> list[str]:
        """Return the spawned actors that neither run nor are gone: in the tree, or at their supervisor."""
        found: list[str] = []

        def look() -> bool:
            infos, wrong = in_thread(self.gate.find("spawned").proxy().which_children().result, self.limit)
            if wrong:
                found[:] = [f"which_children {wrong}"]
                return False
            children = {info.path: str(info.status) for info in infos}
            table = {path: one for path, one in list(self.gate._system._places.items()) if path.startswith("spawned/")}
            places = list(table)
            found[:] = [f"'{path}' is {status}" for path, status in children.items() if status != "running"]
            found.extend(f"'{path}' is no child of its supervisor" for path in places if path not in children)
            found.extend(f"'{path}' is a child without a place" for path in children if path not in places)
            suspended = [path for path, one in table.items() if one.mailbox.statistics().suspended]
            found.extend(f"'{path}' is running, and suspended" for path in suspended if children.get(path) == "running")
            found.extend(f"the start of '{place.path}' is not over" for place in list(self.gate._system.starts))
            return not set(found) - self._odd

        eventually(look, self.limit)
        new = [one for one in found if one not in self._odd]
        self._odd.update(new)
        return new

    def immortal(self) -> list[str]:
        """Stop the actors that a case has left behind; return those that cannot be stopped."""
        found: list[str] = []
        for place in list(self.gate._system._places.values()):
            if place.path.startswith("spawned/") and place.path not in self._own:
                wrong = in_thread(lambda place=place: place.ref.stop(), self.limit)[1]
                if wrong:
                    self._own.add(place.path)
                    found.append(f"stop of '{place.path}', which was left behind, {wrong}")
        return found

    def out_of_place(self) -> list[str]:
        """Return the runtime's counters that have not gone back to their idle values."""
        found: list[str] = []

        def look() -> bool:
            found.clear()
            for place in list(self.gate._system._places.values()):
                figures = place.mailbox.statistics()
                for name in ("depth", "held", "active", "senders_waiting", "suspended"):
                    if value := getattr(figures, name):
                        found.append(f"'{place.path}' has {name} = {value}")
            dispatcher = self.gate._system.dispatcher.statistics()
            for name in ("blocked", "abandoned", "runnable"):
                if value := getattr(dispatcher, name):
                    found.append(f"the dispatcher has {name} = {value}")
            return not set(found) - self._odd

        eventually(look, self.limit)
        new = [one for one in found if one not in self._odd]
        self._odd.update(new)
        return new

    def deaf(self) -> list[str]:
        """Return the kinds of calls that are not served any more."""
        found: list[str] = []
        sent: dict[str, Token[Any]] = {}

        def send() -> None:
            with self.gate.entered():
                for one in (io, asyncio_operation, cpu, generator, here, io_narrow, cpu_narrow, dropping, refusing):
                    sent[f"operation {one._name}"] = one.submit(self.number())
                loops = self.io_notes, self.asyncio_notes
                for ref in (self.notes, self.pinned, *loops, self.narrow, self.dropping):
                    sent[f"actor {ref.path}"] = ref.proxy().note(self.number())
                if self.process_notes is not None:
                    sent["operation process"] = process.submit(self.ledger, self.number())
                    sent["actor process"] = self.process_notes.proxy().note(self.ledger, self.number())

        wrong = in_thread(send, self.limit)[1]
        if wrong:
            found.append(f"submit {wrong}")
        ends = time.monotonic() + self.limit
        for name, one in list(sent.items()):
            if not eventually(one.done, ends - time.monotonic()):
                found.append(f"{name} is deaf")
                self._known.add(one.id)
            elif one.state is not TokenState.COMPLETED:
                found.append(f"{name} does not work: {one.exception(0)!r}")
        future: list[concurrent.futures.Future[int]] = []

        def call() -> None:
            with self.gate.entered():
                here(self.number())
                outer(self.number(), self.number())

        for name, fn in (
            ("a direct call", call),
            ("control", self.gate.control.actors),
            ("spawn", lambda: self.gate.spawn(Notes).stop()),
            ("the executor", lambda: future.append(self.executor.submit(note, self.number())) or future[0].result()),
        ):
            wrong = in_thread(fn, self.limit)[1]
            if wrong:
                found.append(f"{name} {wrong}")
        if found:
            return found
        try:
            call()  # in this thread, since state may be left behind in it
            assert self.notes.ask(number := self.number(), timeout=self.limit) == number
            assert io.submit(number := self.number()).result(self.limit) == number
        except Exception as error:
            found.append(f"in the caller's thread a call raised {type(error).__name__}: {error}")
        return found

    def close(self) -> str:
        """Close the gate; return a fault, or an empty string."""
        wrong = in_thread(lambda: self.gate.close(1.0, drain=False), 1.0 + self.limit)[1]
        if self.gate in _current.open_gates:  # stuck; the next tests must not see it
            _current.open_gates.remove(self.gate)
        os.unlink(self.ledger)
        return f"close {wrong}" if wrong else ""


def quiet() -> None:
    """Keep the log of provoked errors out of the output."""
    logging.disable(logging.CRITICAL)


def all_done(tokens: Iterable[Token[Any]], seconds: float) -> bool:
    """Wait until tokens have ended; tell whether they have."""
    left = list(tokens)
    return eventually(lambda: all(one.done() for one in left), seconds)
