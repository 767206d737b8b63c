"""Cases of what a program's main thread does with the runtime; tests interrupt them at any line."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import attrs
import interrupts as it
from interrupts import Bench, Door

from tokengate import Gate, Token, TokenState
from tokengate.errors import StartFailed
from tokengate.operations import _current


@attrs.frozen
class Case:
    """An operation under test.

    Attributes:
        name: of the case.
        around: a context manager that prepares a bench and yields the function to interrupt; its exit cleans up.
        process: whether it needs child processes.
        strict: whether each call must have run exactly once if the caller got its token.
    """

    name: str
    around: Callable[[Bench], Any]
    process: bool = False


CASES: list[Case] = []


def case(name: str, *, process: bool = False) -> Callable[[Callable[[Bench], Iterator[Callable[[], Any]]]], Any]:
    def register(prepare: Callable[[Bench], Iterator[Callable[[], Any]]]) -> Any:
        CASES.append(Case(name, contextmanager(prepare), process))
        return prepare

    return register


def simple(name: str, act: Callable[[Bench], Any], *, process: bool = False) -> None:
    """Register a case that needs no preparation."""

    def around(bench: Bench) -> Iterator[Callable[[], Any]]:
        yield lambda: act(bench)

    CASES.append(Case(name, contextmanager(around), process))


@contextmanager
def later(act: Callable[[], Any], seconds: float = 0.003) -> Iterator[None]:
    """Call a function some milliseconds from now, in another thread."""
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.join()


@contextmanager
def occupied(bench: Bench, send: Callable[[int, Door], Token[Any]]) -> Iterator[Door]:
    """Keep a token running behind a door, which is opened at the end of the block at the latest."""
    door = Door()
    send(bench.number(), door)
    door.reached.wait(bench.limit)
    try:
        yield door
    finally:
        door.opened.set()


def insist(bench: Bench, undo: Callable[[], Any], undone: Callable[[], bool]) -> None:
    """Undo an effect that an interrupted verb may still be about to have, until it is undone.

    Concurrent messages are answered in any order, so the interrupted one is awaited first.
    """
    live = bench.gate._system.live
    it.eventually(lambda: not any(one.serves_operators for one in list(live.values())), bench.limit)
    for _ in range(int(bench.limit / 0.05)):
        it.in_thread(undo, bench.limit)
        if it.eventually(undone, 0.05):
            return


def resume_all(bench: Bench) -> None:
    """Resume all paused tokens."""
    tokens = bench.gate._system.live
    insist(
        bench,
        lambda: bench.gate.control.resume("*"),
        lambda: all(one.state is not TokenState.PAUSED for one in list(tokens.values())),
    )


# Submit ---------------------------------------------------------------------------------------------------------------

simple("submit io", lambda b: it.io.submit(b.number()))
simple("submit asyncio", lambda b: it.asyncio_operation.submit(b.number()))
simple("submit cpu", lambda b: it.cpu.submit(b.number()))
simple("submit generator", lambda b: it.generator.submit(b.number()))
simple("submit process", lambda b: it.process.submit(b.ledger, b.number()), process=True)
simple("submit with a priority", lambda b: it.cpu.with_options(priority=5, tags={"a": "b"}).submit(b.number()))
simple("submit io with a priority", lambda b: it.io.with_options(priority=5).submit(b.number()))
simple("map io", lambda b: it.io.map([b.number(), b.number(), b.number()]))
simple("map cpu", lambda b: it.cpu.map([b.number(), b.number(), b.number()]))


def busy(name: str, operation: Any, *, priority: int = 0) -> None:
    """Register cases in which an operation already runs a token."""

    @case(f"submit {name} while it is busy")
    def submit(bench: Bench) -> Iterator[Callable[[], Any]]:
        with occupied(bench, operation.submit):
            yield lambda: operation.submit(bench.number())

    @case(f"submit and result of {name} while it gets free")
    def result(bench: Bench) -> Iterator[Callable[[], Any]]:
        with occupied(bench, operation.submit) as door, later(door.opened.set):
            yield lambda: operation.submit(bench.number()).result(60)

    @case(f"cancel a queued token of {name}")
    def cancel(bench: Bench) -> Iterator[Callable[[], Any]]:
        with occupied(bench, operation.submit):
            queued = operation.submit(bench.number())
            yield queued.cancel

    @case(f"cancel a queued token of {name} that another follows")
    def cancel_first(bench: Bench) -> Iterator[Callable[[], Any]]:
        with occupied(bench, operation.submit):
            queued = operation.submit(bench.number())
            operation.submit(bench.number())
            yield queued.cancel

    @case(f"cancel a running token of {name}")
    def cancel_running(bench: Bench) -> Iterator[Callable[[], Any]]:
        door = Door()
        running = operation.submit(bench.number(), door)
        door.reached.wait(bench.limit)
        try:
            yield running.cancel
        finally:
            door.opened.set()


busy("io", it.io)
busy("asyncio", it.asyncio_operation)
busy("cpu", it.cpu)
busy("generator", it.generator)


@case("submit process while it is busy", process=True)
def _submit_busy_process(bench: Bench) -> Iterator[Callable[[], Any]]:
    it.process.submit(bench.ledger, bench.number(), 0.01)
    yield lambda: it.process.submit(bench.ledger, bench.number())


@case("cancel a queued token of process", process=True)
def _cancel_queued_process(bench: Bench) -> Iterator[Callable[[], Any]]:
    it.process.submit(bench.ledger, bench.number(), 0.01)
    queued = it.process.submit(bench.ledger, bench.number())
    yield queued.cancel


def full(name: str, operation: Any) -> None:
    """Register a case in which the sender waits for room."""

    @case(f"submit {name} when its mailbox is full, until there is room")
    def wait(bench: Bench) -> Iterator[Callable[[], Any]]:
        with occupied(bench, operation.submit) as door, later(door.opened.set):
            operation.submit(bench.number())
            yield lambda: operation.submit(bench.number())

    @case(f"submit {name} with a priority when its mailbox is full, until there is room")
    def wait_with_priority(bench: Bench) -> Iterator[Callable[[], Any]]:
        with occupied(bench, operation.submit) as door, later(door.opened.set):
            operation.submit(bench.number())
            yield lambda: operation.with_options(priority=3).submit(bench.number())


full("io", it.io_narrow)
full("cpu", it.cpu_narrow)


@case("submit to a full mailbox that drops the oldest")
def _drop_oldest(bench: Bench) -> Iterator[Callable[[], Any]]:
    with occupied(bench, it.dropping.submit):
        it.dropping.submit(bench.number())
        yield lambda: it.dropping.submit(bench.number())


@case("submit to a full mailbox that refuses")
def _refuse(bench: Bench) -> Iterator[Callable[[], Any]]:
    with occupied(bench, it.refusing.submit):
        it.refusing.submit(bench.number())
        yield lambda: it.refusing.submit(bench.number())


# Tokens that another token runs for -----------------------------------------------------------------------------------


def keyed(bench: Bench, operation: Any) -> tuple[Any, int]:
    """Return an operation with a new key, and the argument of its calls."""
    number = bench.number()
    return operation.with_options(key=number), number


@case("submit with a new key")
def _submit_with_new_key(bench: Bench) -> Iterator[Callable[[], Any]]:
    operation, number = keyed(bench, it.cpu)
    yield lambda: operation.submit(number)


@case("direct call with a new key")
def _call_with_new_key(bench: Bench) -> Iterator[Callable[[], Any]]:
    operation, number = keyed(bench, it.here)
    yield lambda: operation(number)


def with_live_key(name: str, operation: Any) -> None:
    """Register cases in which a token with the key runs, and two are joined to it."""

    def around(bench: Bench, act: Callable[[Any, int, Door, list[Any]], Any]) -> Iterator[Callable[[], Any]]:
        door = Door()
        same, number = keyed(bench, operation)
        joined = [same.submit(number, door) for _ in range(2)]
        door.reached.wait(bench.limit)
        try:
            yield lambda: act(same, number, door, joined)
        finally:
            door.opened.set()

    @case(f"submit {name} with a live key")
    def submit(bench: Bench) -> Iterator[Callable[[], Any]]:
        yield from around(bench, lambda same, number, door, _joined: same.submit(number, door))

    @case(f"submit {name} with a live key and other arguments")
    def reuse(bench: Bench) -> Iterator[Callable[[], Any]]:
        yield from around(bench, lambda same, number, _door, _joined: same.submit(number))

    @case(f"cancel a joined token of {name}")
    def cancel(bench: Bench) -> Iterator[Callable[[], Any]]:
        yield from around(bench, lambda _same, _number, _door, joined: joined[0].cancel())

    @case(f"cancel all joined tokens of {name}")
    def cancel_all(bench: Bench) -> Iterator[Callable[[], Any]]:
        yield from around(bench, lambda _same, _number, _door, joined: [one.cancel() for one in joined])


with_live_key("io", it.io)
with_live_key("cpu", it.cpu)
simple("submit one of a batch", lambda b: it.batched.submit(b.number()))
simple("direct call that is one of a batch", lambda b: it.batched(b.number()))


@case("submit the one that fills a batch")
def _fill_batch(bench: Bench) -> Iterator[Callable[[], Any]]:
    door = Door()
    it.batched.submit((bench.number(), door))
    it.batched.submit(bench.number())
    it.batched.submit(bench.number())
    try:
        yield lambda: it.batched.submit(bench.number())
    finally:
        door.opened.set()


@case("cancel the last one of a batch")
def _cancel_batch(bench: Bench) -> Iterator[Callable[[], Any]]:
    door = Door()
    it.batched.submit((bench.number(), door))
    it.batched.submit(bench.number())
    queued = it.batched.submit(bench.number())
    try:
        yield queued.cancel
    finally:
        door.opened.set()


# Direct calls ---------------------------------------------------------------------------------------------------------

simple("direct call", lambda b: it.here(b.number()))
simple("direct call of a generator", lambda b: it.generator(b.number()))
simple("nested direct calls", lambda b: it.outer(b.number(), b.number()))
simple("direct call of process", lambda b: it.process(b.ledger, b.number()), process=True)


@case("direct call while it is busy")
def _direct_busy(bench: Bench) -> Iterator[Callable[[], Any]]:
    with occupied(bench, it.here.submit) as door, later(door.opened.set):
        yield lambda: it.here(bench.number())


@case("nested direct call while the inner one is busy")
def _nested_busy(bench: Bench) -> Iterator[Callable[[], Any]]:
    with occupied(bench, it.here.submit) as door, later(door.opened.set):
        yield lambda: it.outer(bench.number(), bench.number())


# Actors ---------------------------------------------------------------------------------------------------------------


def actor(name: str, ref: Callable[[Bench], Any], *, receives: bool = True) -> None:
    """Register the cases of one kind of actor."""
    simple(f"proxy call of a {name} actor", lambda b: ref(b).proxy().note(b.number()))
    simple(f"proxy call of a {name} actor and result", lambda b: ref(b).proxy().note(b.number()).result(60))
    if receives:
        simple(f"tell a {name} actor", lambda b: ref(b).tell(b.number()))
        simple(f"ask a {name} actor", lambda b: ref(b).ask(b.number()))
    simple(f"spawn and stop a {name} actor", lambda b: b.gate.spawn(ref(b).actor_class).stop())

    @case(f"cancel a queued token of a {name} actor")
    def cancel(bench: Bench) -> Iterator[Callable[[], Any]]:
        proxy = ref(bench).proxy()
        with occupied(bench, proxy.note):
            queued = proxy.note(bench.number())
            yield queued.cancel

    @case(f"stop a {name} actor that has work")
    def stop(bench: Bench) -> Iterator[Callable[[], Any]]:
        fresh = bench.gate.spawn(ref(bench).actor_class)
        proxy = fresh.proxy()
        with occupied(bench, proxy.note) as door, later(door.opened.set):
            proxy.note(bench.number())
            yield fresh.stop


actor("cpu", lambda b: b.notes)
actor("pinned", lambda b: b.pinned)
actor("io", lambda b: b.io_notes)
actor("asyncio", lambda b: b.asyncio_notes)
simple("proxy call of a process actor", lambda b: b.process_notes.proxy().note(b.ledger, b.number()), process=True)
simple(
    "proxy call of a process actor and result",
    lambda b: b.process_notes.proxy().note(b.ledger, b.number()).result(60),
    process=True,
)
simple("spawn and stop a process actor", lambda b: b.gate.spawn(it.ProcessNotes).stop(), process=True)
simple("read an attribute of an actor", lambda b: b.notes.proxy().latest.result(60))
simple("write an attribute of an actor", lambda b: setattr(b.notes.proxy(), "latest", 3))


@case("proxy call when the actor's mailbox is full, until there is room")
def _narrow_actor(bench: Bench) -> Iterator[Callable[[], Any]]:
    proxy = bench.narrow.proxy()
    with occupied(bench, proxy.note) as door, later(door.opened.set):
        proxy.note(bench.number())
        yield lambda: proxy.note(bench.number())


@case("proxy call to a full mailbox that drops the oldest")
def _dropping_actor(bench: Bench) -> Iterator[Callable[[], Any]]:
    proxy = bench.dropping.proxy()
    with occupied(bench, proxy.note):
        proxy.note(bench.number())
        yield lambda: proxy.note(bench.number())


@case("ask with a timeout that runs out")
def _ask_timeout(bench: Bench) -> Iterator[Callable[[], Any]]:
    proxy = bench.notes.proxy()
    with occupied(bench, proxy.note):
        yield lambda: bench.notes.ask(bench.number(), timeout=0.002)


class _Failing(it.Notes):
    def __init__(self) -> None:
        raise ValueError("no")


@case("spawn an actor that does not start")
def _spawn_failing(bench: Bench) -> Iterator[Callable[[], Any]]:
    def spawn() -> None:
        with suppress(StartFailed):
            bench.gate.spawn(_Failing)

    yield spawn


@case("watch an actor that ends")
def _watch(bench: Bench) -> Iterator[Callable[[], Any]]:
    ref = bench.gate.spawn(it.Notes)
    with later(lambda: ref.stop(block=False)):
        yield lambda: ref.watch().result(60)


# Waiting --------------------------------------------------------------------------------------------------------------


def waiting(name: str, operation: Any) -> None:
    """Register the cases of waiting for tokens that run."""

    @case(f"result of a running token of {name}")
    def result(bench: Bench) -> Iterator[Callable[[], Any]]:
        door = Door()
        running = operation.submit(bench.number(), door)
        door.reached.wait(bench.limit)
        with later(door.opened.set):
            yield lambda: running.result(60)

    @case(f"result of {name} with a timeout that runs out")
    def timeout(bench: Bench) -> Iterator[Callable[[], Any]]:
        door = Door()
        running = operation.submit(bench.number(), door)
        try:
            yield lambda: running.result(0.002)
        finally:
            door.opened.set()

    @case(f"add_done_callback to a running token of {name}")
    def callback(bench: Bench) -> Iterator[Callable[[], Any]]:
        told: list[Any] = []
        door = Door()
        running = operation.submit(bench.number(), door)
        running.add_done_callback(told.append)
        try:
            yield lambda: running.add_done_callback(told.append)
        finally:
            door.opened.set()
        if not it.eventually(lambda: told, bench.limit):
            raise AssertionError("the first callback was not called")


waiting("io", it.io)
waiting("asyncio", it.asyncio_operation)
waiting("cpu", it.cpu)


@case("result of a running token of process", process=True)
def _result_process(bench: Bench) -> Iterator[Callable[[], Any]]:
    running = it.process.submit(bench.ledger, bench.number(), 0.003)
    yield lambda: running.result(60)


@case("result of process with a timeout that runs out", process=True)
def _timeout_process(bench: Bench) -> Iterator[Callable[[], Any]]:
    running = it.process.submit(bench.ledger, bench.number(), 0.005)
    yield lambda: running.result(0.001)


@case("add_done_callback to a token that has ended")
def _callback_done(bench: Bench) -> Iterator[Callable[[], Any]]:
    done = it.cpu.submit(bench.number())
    done.result(bench.limit)
    yield lambda: done.add_done_callback(lambda _done: None)


# The executor ---------------------------------------------------------------------------------------------------------

simple("executor submit", lambda b: b.executor.submit(it.note, b.number()))
simple("executor submit and result", lambda b: b.executor.submit(it.note, b.number()).result(60))
simple("executor map", lambda b: list(b.executor.map(it.note, [b.number(), b.number()])))


@case("cancel a future of the executor")
def _cancel_future(bench: Bench) -> Iterator[Callable[[], Any]]:
    with occupied(bench, lambda number, door: bench.executor.submit(it.note, number, door).token):  # type: ignore[attr-defined]
        queued = bench.executor.submit(it.note, bench.number())
        yield queued.cancel


def _use_executor(bench: Bench) -> None:
    with bench.gate.executor(concurrency=1) as executor:
        executor.submit(it.note, bench.number())


simple("an executor of its own", _use_executor)

# Control --------------------------------------------------------------------------------------------------------------

simple("control.actors", lambda b: b.gate.control.actors())
simple("control.tokens", lambda b: b.gate.control.tokens())
simple("control.tree", lambda b: b.gate.control.tree())
simple("statistics", lambda b: b.gate.statistics())
simple("find", lambda b: b.gate.find("spawned/cpu").is_alive())
simple("control.restart", lambda b: b.gate.control.restart("spawned/narrow"))
simple("control.get_state", lambda b: b.gate.control.get_state("spawned/cpu"))


def on_queued(
    name: str, verb: Callable[[Bench, Token[Any]], Any], undo: Callable[[Bench], Any] = lambda b: None
) -> None:
    """Register a case of a verb on a queued token."""

    @case(f"control.{name} on a queued token")
    def act(bench: Bench) -> Iterator[Callable[[], Any]]:
        with occupied(bench, it.cpu.submit):
            queued = it.cpu.submit(bench.number())
            yield lambda: verb(bench, queued)
            undo(bench)


on_queued(
    "pause and resume",
    lambda b, t: (b.gate.control.pause(t), b.gate.control.resume(t)),
    resume_all,
)
on_queued("terminate", lambda b, t: b.gate.control.terminate(t))
on_queued("renice", lambda b, t: b.gate.control.renice(t, 4))


@case("control.pause and resume on a running token")
def _pause_running(bench: Bench) -> Iterator[Callable[[], Any]]:
    door = Door()
    running = it.cpu.submit(bench.number(), door)
    door.reached.wait(bench.limit)
    try:
        yield lambda: (bench.gate.control.pause(running), bench.gate.control.resume(running))
        resume_all(bench)
    finally:
        door.opened.set()


@case("control.suspend and unsuspend")
def _suspend(bench: Bench) -> Iterator[Callable[[], Any]]:
    control = bench.gate.control
    yield lambda: (control.suspend("spawned/cpu"), control.unsuspend("spawned/cpu"))
    mailbox = bench.notes.actor_inbox
    insist(bench, lambda: control.unsuspend("spawned/cpu"), lambda: not mailbox.statistics().suspended)


# Opening and closing --------------------------------------------------------------------------------------------------

OWN_SHUTDOWN = 0.4  # seconds

_own_gates = itertools.count(1)


@contextmanager
def own_gate(bench: Bench, *, opened: bool) -> Iterator[Gate]:
    """Open an extra gate, and check at the end that it is closed, or open and usable, and leaves nothing behind."""
    name = f"own{next(_own_gates)}"
    gate = Gate(name, threads=2, shutdown=OWN_SHUTDOWN, processes=1, control_socket=False)
    interval = sys.getswitchinterval()
    if opened:
        it.in_thread(gate.open, bench.limit)
    yield gate
    wrong: list[str] = []
    seconds = OWN_SHUTDOWN + bench.limit
    it.eventually(lambda: gate.state in ("new", "open", "closed"), seconds)
    if gate.state == "open":  # it was interrupted before it had begun to close
        if raised := it.in_thread(gate.control.actors, seconds)[1]:
            wrong.append(f"the gate is open, and control {raised}")
        if raised := it.in_thread(gate.close, seconds)[1]:
            wrong.append(f"the gate is open, and close {raised}")
    if gate.state not in ("new", "closed"):
        wrong.append(f"the gate stays {gate.state}")
    if gate.state != "new":
        report, raised = it.in_thread(gate.close, seconds)
        if raised or report is None:
            wrong.append(f"a second close {raised or 'returned no report'}")
        elif report.abandoned:
            wrong.append(f"the gate is closed, and has abandoned {report.abandoned}")

    def left() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith(f"{name}-")]

    if not it.eventually(lambda: not left(), bench.limit):
        wrong.append(f"threads are left: {left()}")
    if gate in _current.open_gates:
        wrong.append("the gate is still among the open ones")
        _current.open_gates.remove(gate)
    if sys.getswitchinterval() != interval:
        wrong.append(f"the switch interval is {sys.getswitchinterval()} instead of {interval}")
        sys.setswitchinterval(interval)
    if wrong:
        raise AssertionError("; ".join(wrong))


def busy_gate(bench: Bench, gate: Gate) -> list[Token[Any]]:
    """Make tokens of several kinds run and wait in a gate."""
    with gate.entered():
        sent = [it.io.submit(bench.number(), Door()) for _ in range(3)]
        sent += [it.cpu.submit(bench.number(), Door()) for _ in range(2)]
        sent += [gate.spawn(it.Notes).proxy().note(bench.number()) for _ in range(2)]
    return sent


def see_done(bench: Bench, sent: list[Token[Any]]) -> None:
    if not it.all_done(sent, OWN_SHUTDOWN + bench.limit):
        raise AssertionError(f"tokens of a closed gate are left: {sent}")


@case("open a gate")
def _open(bench: Bench) -> Iterator[Callable[[], Any]]:
    with own_gate(bench, opened=False) as gate:
        yield gate.open


@case("close a gate that is idle")
def _close_idle(bench: Bench) -> Iterator[Callable[[], Any]]:
    with own_gate(bench, opened=True) as gate:
        yield gate.close


@case("close a gate that has work")
def _close_busy(bench: Bench) -> Iterator[Callable[[], Any]]:
    with own_gate(bench, opened=True) as gate:
        sent = busy_gate(bench, gate)
        yield lambda: gate.close(drain=False)
    see_done(bench, sent)


@case("a block of a gate")
def _block(bench: Bench) -> Iterator[Callable[[], Any]]:
    sent: list[Token[Any]] = []

    def block() -> None:
        with gate:
            sent.append(it.io.submit(bench.number()))
            sent.append(it.cpu.submit(bench.number()))

    with own_gate(bench, opened=False) as gate:
        yield block
    see_done(bench, sent)


@case("leave a block of a gate with an exception")
def _block_with_error(bench: Bench) -> Iterator[Callable[[], Any]]:
    sent: list[Token[Any]] = []

    def leave() -> None:
        gate.__exit__(KeyError, KeyError(), None)

    with own_gate(bench, opened=True) as gate:
        sent += busy_gate(bench, gate)
        yield leave
    see_done(bench, sent)
