"""The gate: opens a system with its tree of supervisors, and closes it in order."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeVar, cast

import trio

from actors import (
    ActorRef,
    ActorSystem,
    BaseActor,
    ExitReason,
    NotDurable,
    ProcessPool,
    Token,
    TokenState,
    UnknownActor,
    WaitTimeout,
    WouldBlock,
    current_token,
)
from actors.lowlevel import (
    DEFAULT_CAPACITY,
    LOOP_AFFINITIES,
    ROOT,
    SYSTEM,
    ActorPlace,
    OperationPlace,
    Starter,
    at_home,
    current_turn,
    homes,
    is_cancellation,
    listed,
    loop_here,
    run_in,
)
from supervisors import ChildSpec, DynamicSupervisor, Supervisor
from tokengate._exceptions import BadOperation, GateState, PatchedProgram, UnknownPlugin
from tokengate._installation import patches
from tokengate.gate import _collector, _switch_interval
from tokengate.gate._first_use import FirstUse, LazyOpening
from tokengate.gate._fork_and_exit import close_at_exit
from tokengate.gate._mark import Mark
from tokengate.gate._operation_table import OperationTable
from tokengate.gate._shutdown import Shutdown, Undoing
from tokengate.gate._shutdown_report import Outcome, ShutdownReport
from tokengate.gate._spawning import SPAWNED, Spawning
from tokengate.gate._statistics import GateStatistics
from tokengate.gate._uninterrupted_call import UninterruptedCall
from tokengate.operations import _current
from tokengate.operations._executor import GateExecutor
from tokengate.operations._operation import AsyncOperation, Operation, operation_in
from tokengate.operations._options import Affinity

if TYPE_CHECKING:
    from tokengate.authority._authority import Authority
    from tokengate.control._ports import SocketServer
    from tokengate.control.api._control import Control
    from tokengate.control.registry._plugin import Plugin
    from tokengate.control.stream._stream import Stream
    from tokengate.gate._transaction import TransactionBlock
    from tokengate.policy._ports import TransactionLog
    from tokengate.policy._transaction import Transaction, Transactions

_logger = logging.getLogger("tokengate")

A = TypeVar("A", bound=BaseActor)
F = TypeVar("F", bound=Callable[..., Any])
P = TypeVar("P", bound="Plugin")

PARENTS = "the parent's"  # the state of a gate that was open when this process was forked

CONFIG_VARIABLE = "TOKENGATE_CONFIG"  # names the file of a gate that was given none

CONTROL = f"{SYSTEM}/control"  # path of the control actor

# Seconds that threads and loops get to end after everything on them has been ended.
_THREADS_SECONDS = 1.0

# Seconds for which the readers of the stream may flush as the gate closes.
_FLUSH_SECONDS = 1.0

# Seconds after the deadline of the stages after which a system loop that has not reported their end counts as hung.
_ANSWER_SECONDS = 1.0


def _govern_actor(place: ActorPlace) -> None:
    from tokengate.policy._policies import govern_actor  # here, so that `import tokengate` takes less time

    govern_actor(place)


class Gate(LazyOpening, Spawning):
    """The runtime: `with Gate() as gate:` opens it, and closes it in order at the end of the block.

    A gate owns its threads, its loops and its tree of supervisors; two gates share nothing. It opens once; with
    `open="lazily"`, once in each process.

    Args:
        name: its name in logs, thread names and commands.
        children: specs of the actors that run as long as the gate is open, in the order of their start.
        intensity: restarts of these that are allowed within `period`; one more, and the gate stops.
        period: seconds.
        shutdown: seconds that closing may take. Up to half of it goes into waiting for accepted tokens to end.
        threads: CPU threads that run steps at once; None takes the number of cores, at least 2.
        processes: how many child processes it keeps for affinity `process`; they are made when the first is needed.
        switch_interval: seconds; `sys.setswitchinterval` while the gate is open. None leaves the interpreter's alone.
        gc: `"tuned"` makes garbage collections rarer, and limits them to objects made after the opening, in the whole
            process; see docs/semantics.md. None leaves the collector alone.
        control_socket: whether operators reach it from other processes (`tokengate ls`); see
            docs/control.md. The environment variable `TOKENGATE_CONTROL=0` opens none in any case.
        plugins: its optional parts, each an object of a class of its own; those that they need are added, with their
            defaults. An object serves one gate. See docs/plugins.md.
        config: path of a `tokengate.toml`: policies, throttles, flags, see docs/policies.md; and who may do what, see
            docs/security.md. None takes the one that the environment variable `TOKENGATE_CONFIG` names, if it names
            one. It is read when the gate opens.
        coroutines: the affinity of operations that are coroutine functions and were given none: `io` (they are trio
            code) or `asyncio`.
        loop_factory: makes the asyncio loop of its own, in which asyncio tokens run that come from no such loop, and
            asyncio actors; for `uvloop.new_event_loop`. None makes one of asyncio's. It is made when it is needed.
        open: `"lazily"` opens the gate at its first use, in each process that uses it; for a gate of a module that
            servers import before they fork their workers. See docs/semantics.md.

    Raises:
        ValueError: an argument has a value that cannot work (`BadSpec`, for a child).
    """

    def __init__(
        self,
        name: str = "gate",
        *,
        children: Iterable[ChildSpec] = (),
        intensity: int = 3,
        period: float = 5.0,
        shutdown: float = 10.0,
        threads: int | None = None,
        processes: ProcessPool | int | None = None,
        switch_interval: float | None = 0.0005,
        gc: Literal["tuned"] | None = None,
        control_socket: bool = True,
        plugins: Iterable[Plugin] = (),
        config: str | os.PathLike[str] | None = None,
        coroutines: Literal["io", "asyncio"] = "io",
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
        open: Literal["lazily"] | None = None,
    ) -> None:
        for argument, value in (
            ("shutdown", shutdown),
            ("switch_interval", 0.0 if switch_interval is None else switch_interval),
        ):
            if not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ValueError(f"{argument} of gate '{name}' is {value!r}; it must be a number of seconds")
        if gc not in (None, "tuned"):
            raise ValueError(f"gc of gate '{name}' is {gc!r}; it must be 'tuned', or None to leave the collector alone")
        if not isinstance(name, str) or not name or "/" in name:
            raise ValueError(f"name of gate is {name!r}; it must be a string without '/', and not empty")
        if coroutines not in LOOP_AFFINITIES:
            raise ValueError(f"coroutines of gate '{name}' is {coroutines!r}; choose one of {LOOP_AFFINITIES}")
        if loop_factory is not None and not callable(loop_factory):
            raise ValueError(
                f"loop_factory of gate '{name}' is {loop_factory!r}; give a function: uvloop.new_event_loop, or None"
            )
        if open not in (None, "lazily"):
            raise ValueError(f"open of gate '{name}' is {open!r}; it must be 'lazily', or None")
        self.name = name
        self.shutdown = float(shutdown)
        self._coroutines: Affinity = coroutines
        spawned = DynamicSupervisor.child_spec(SPAWNED, intensity=intensity, period=period)
        self._root_spec = Supervisor.child_spec(name, (spawned, *children), intensity=intensity, period=period)
        self._own_spec: ChildSpec  # made when the gate opens
        self._control_socket = control_socket and os.environ.get("TOKENGATE_CONTROL") != "0"
        self._switch_interval = switch_interval
        self._tunes_collector = gc is not None
        self._config = config
        self._config_file: Path | None = None  # the one that it was opened with
        self._socket_group: int | None = None  # the users of this group may connect
        pool = ProcessPool(processes) if isinstance(processes, int) else processes
        if pool is not None and not isinstance(pool, ProcessPool):
            raise ValueError(f"processes of gate '{name}' is {processes!r}; it must be a ProcessPool, or their number")
        self._new_system = functools.partial(
            ActorSystem, name, threads=threads, processes=pool, loop_factory=loop_factory
        )
        self._first_use = None if open is None else FirstUse(name, self._open_if_new)
        self._operations = OperationTable(lambda: self._open_system, self._coroutines)
        self._lock = threading.Lock()
        self._renew()
        if self._first_use is not None:
            self._offer()
            # A fork while a thread imports this would leave its lock held in the child, whose first use would hang.
            import tokengate.authority._authority
            import tokengate.control._actor
            import tokengate.control.stream._stream  # noqa: F401
        self._plugins: tuple[Plugin, ...] = ()
        if plugins:
            self._attach(plugins)

    def _attach(self, plugins: Iterable[Plugin]) -> None:
        """Take these plugins, and what they need, in the place of those before; until it opens."""
        from tokengate.gate._plugins import attached  # here, so that `import tokengate` takes less time

        self._plugins = attached(self, self.name, plugins)

    def _renew(self) -> None:
        """Make what an opening needs."""
        self._made_by = os.getpid()  # in a fork of this process, Python cannot start the threads that are made here
        self._system = self._new_system()
        self._system.govern = _govern_actor
        self._root: ActorPlace | None = None
        self._own: ActorPlace | None = None  # root of the runtime's own tree
        self._control_server: SocketServer | None = None
        self._authority: Authority | None = None  # None until it is opened
        self._stream: Stream | None = None  # the same
        self._operations.renew()
        self._transactions: Transactions | None = None
        self._opened_at = 0.0
        self._state = "new"  # -> "opening" -> "open" -> "closing" -> "closed"
        self._gave_up = False
        self._stop_request = Mark(self._system.system_host.call_soon)
        self._shutdown = Shutdown(self._system)
        self._opening = UninterruptedCall(f"{self.name}-opening")
        self._resuming = UninterruptedCall(f"{self.name}-resuming")
        self._closing = UninterruptedCall(f"{self.name}-closing")
        self._report: ShutdownReport | None = None
        self._terminated_before = 0  # tokens that were terminated before closing began

    # Opening and closing

    def open(self, *, replace: bool = False) -> Self:
        """Start the threads, the loops and the tree; `with` does this for you.

        A gate that opens lazily is opened now, unless it is open.

        Args:
            replace: whether to close other gates of this name in this process first, without a drain; for a cell of a
                notebook that runs twice.

        Raises:
            StartFailed: a child did not start; those before it were stopped, and nothing is left open.
            BadConfig: its file has errors; nothing was opened.
            GateState: it has been opened before.
            WouldBlock: this is the thread of a trio loop, or of an asyncio loop of another gate; use `async with`.
        """
        if replace and self._state == "new":
            for other in [gate for gate in _current.open_gates if gate.name == self.name and gate is not self]:
                other.close(drain=False)
        if self._first_use is not None and self._state in ("new", "opening", "open"):
            self._first_use.here()
        else:
            self._open()
        return self

    def _open(self) -> None:
        if loop := loop_here():
            remedy = "use 'async with'" if self._first_use is None else "await its first use, 'await op.asubmit(...)'"
            raise WouldBlock(f"opening gate '{self.name}' would block this {loop} loop; {remedy}")
        claimed = False
        try:
            self._claim_opening()
            claimed = True
            self._opening.wait(bool, self._load_and_open)
            self._make_own_root().start().result()
            self._make_root().start().result()
            if self._plugins:
                self._resuming.wait(bool, self._tell_plugins)
            self._note_open()
        except BaseException as error:
            # There is no call before the loops: a signal handler runs after one, and may raise.
            if not claimed and error.__class__ in (GateState, PatchedProgram):
                raise
            over = self._closing.over
            # A signal handler may raise before the wait has begun: hence the inner loop. It may raise between two
            # turns of that loop: hence the outer one. What was raised first is raised again at the end.
            # The loops stand here and not in a function: an exception raised at its entry would escape them.
            while not over.made:
                try:
                    while not over.made:
                        try:
                            self._closing.wait(self.hurry, self._undo_opening)
                        except BaseException:
                            pass
                except BaseException:
                    pass
            raise

    def close(self, timeout: float | None = None, *, drain: bool = True) -> ShutdownReport:
        """Drain, stop the intake, stop the tree in reverse, end the threads; return a report.

        Closing again returns the same report. Ctrl-C while it waits hurries it, and is raised afterwards.

        Args:
            timeout: seconds for all stages; None takes the gate's `shutdown`.
            drain: whether to wait for accepted tokens to end by themselves.
        """
        if loop := loop_here():
            raise WouldBlock(f"closing gate '{self.name}' would block this {loop} loop; use 'await gate.aclose()'")
        self._check_closable()
        self._closing.wait(self.hurry, lambda: self._close(timeout, drain))
        assert self._report is not None
        return self._report

    @trio.lowlevel.enable_ki_protection  # Ctrl-C is raised where this waits, and nowhere else
    async def aclose(self, timeout: float | None = None, *, drain: bool = True) -> ShutdownReport:
        """Do as `close` does, awaiting it (trio and asyncio).

        Closing has its own deadline. In trio, cancelling the wait changes nothing. In asyncio it hurries the closing,
        as Ctrl-C does there, which cancels the main task; the cancellation is raised when the gate has closed.
        """
        self._check_closable()
        await self._closed(self.hurry, lambda: self._close(timeout, drain))
        assert self._report is not None
        return self._report

    async def _closed(self, interrupted: Callable[[], object], fn: Callable[[], object]) -> None:
        """Await the closing of the gate by a function; then raise what interrupted the wait last."""
        error: BaseException | None = None
        with trio.CancelScope(shield=True) if trio.lowlevel.in_trio_task() else nullcontext():
            while not self._closing.over.made:
                try:
                    if error is not None:
                        interrupted()
                    await self._closing.wait_async(fn)
                except (KeyboardInterrupt, asyncio.CancelledError) as raised:
                    error = raised
        if error is not None:
            raise error

    def hurry(self) -> None:
        """Cut a running shutdown short: end now what has not stopped. Safe in a signal handler."""
        self._shutdown.hurry()

    def request_stop(self) -> None:
        """Ask for the gate to be closed: `wait` returns, and its caller closes the gate.

        Safe in a signal handler, whatever locks the main thread holds: this waits for none.
        """
        self._stop_request.make()

    @property
    def stopping(self) -> bool:
        """Whether `request_stop` was called."""
        return self._stop_request.made

    def wait(self, timeout: float | None = None) -> bool:
        """Block until `request_stop` is called, or for `timeout` seconds; return whether it was called."""
        if loop := loop_here():
            raise WouldBlock(f"gate.wait would block the {loop} loop of this thread; use 'await gate.wait_stopping()'")
        return self._stop_request.wait_in_thread(timeout)

    async def wait_stopping(self) -> None:
        """Wait until `request_stop` is called (trio and asyncio)."""
        await self._stop_request.wait()

    def __enter__(self) -> Self:
        if self._first_use is None:
            self._open()
        else:
            self._check_usable()
        _current.enter(self)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A signal handler may raise at any point here, or within `close`. The outer loop is for what is raised between
        # two turns of the inner one. As in `open`, the loops stand here since a call of a function can be interrupted.
        interrupted: BaseException | None = None
        over = self._closing.over
        while not over.made:
            try:
                while not over.made:
                    try:
                        _current.leave(self)
                        self.close(drain=exc_type is None)
                    except (GateState, WouldBlock):
                        raise
                    except BaseException as error:
                        interrupted = error
            except (GateState, WouldBlock):
                raise
            except BaseException as error:
                interrupted = error
        if interrupted is not None:
            raise interrupted

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> Self:
        """Open it in a trio or asyncio program; io or asyncio actors and operations run in the caller's loop.

        A gate that opens lazily has loops of its own.
        """
        if self._first_use is not None:
            self._check_usable()
            _current.enter(self)
            return self
        claimed = False
        try:
            self._claim_opening()
            claimed = True
            system = self._system
            if trio.lowlevel.in_trio_task():
                await system.io_host.attach()
            else:
                system.asyncio_hosts.own.on_loss = self._lose_loop
                await system.asyncio_hosts.own.attach()
            await self._opening.wait_async(self._load_and_open)
            await self._make_own_root().start()
            await self._make_root().start()
            if self._plugins:
                await self._resuming.wait_async(self._tell_plugins)
            self._note_open()
        except BaseException as error:
            if not claimed and error.__class__ in (GateState, PatchedProgram):  # as in `_open`
                raise
            try:
                await self._closed(self.hurry, self._stop_and_end)
            except (KeyboardInterrupt, asyncio.CancelledError):
                pass  # the first error is raised
            raise
        _current.enter(self)
        return self

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # As in `__exit__`, since asyncio does not keep signal handlers from raising here.
        interrupted: BaseException | None = None
        over = self._closing.over
        while not over.made:
            try:
                while not over.made:
                    try:
                        _current.leave(self)
                        if GeneratorExit in (exc_type, type(interrupted)):
                            # The loop was interrupted and has ended: nothing can be awaited any more.
                            self.hurry()
                            self.__exit__(exc_type, exc, traceback)
                        else:
                            await self.aclose(drain=exc is None or is_cancellation(exc))
                    except (GateState, WouldBlock):
                        raise
                    except BaseException as error:
                        interrupted = error
            except (GateState, WouldBlock):
                raise
            except BaseException as error:
                interrupted = error
        if interrupted is not None:
            raise interrupted

    @contextmanager
    def entered(self) -> Generator[Self]:
        """Make this open gate the current one of a block of code."""
        _current.enter(self)
        try:
            yield self
        finally:
            _current.leave(self)

    def _disown(self) -> None:
        """Leave the gate to the parent process, in a forked child: closing it here does nothing.

        One that opens lazily is new there, and opens at its first use.
        """
        self._lock = threading.Lock()
        if self._first_use is not None:
            self._first_use = FirstUse(self.name, self._open_if_new)
            self._offer()
            if self._state == "new":
                return
        if self._control_server is not None:
            self._control_server.disown()
        if self._authority is not None:
            self._authority.recorder.disown()
        if self._stream is not None:
            self._stream.disown()
        self._system.disown()
        if self._first_use is not None:
            self._renew()
            return
        self._operations.renew()
        self._state = PARENTS
        _current.parents.append(str(self._not("is not open")))
        self._report = ShutdownReport({}, 0, (), self._gave_up, 0.0)
        self._closing.disown()

    def _check_usable(self) -> None:
        if self._state in ("closing", "closed"):
            raise self._not(f"is {self._state}")

    def _not(self, problem: str) -> GateState:
        """Return the error of an attempt that needs another state."""
        if self._state == PARENTS:
            problem = f"was opened by process {self._made_by}, from which this one was forked, without its threads"
            remedy = 'open a gate here, after the fork, or make that one with Gate(open="lazily")'
        else:
            remedy = "use 'with gate:'" if self._state == "new" else "a gate opens once, make a new one"
        return GateState(f"gate '{self.name}' {problem}; {remedy}")

    def _claim_opening(self) -> None:
        if problem := patches():
            raise PatchedProgram(f"gate '{self.name}' cannot open: {problem}")
        with self._lock:
            if self._state != "new":
                raise self._not(f"is {self._state}")
            if self._made_by != os.getpid():
                made = self._system
                self._renew()
                self._system.take_observers(made)
            self._state = "opening"
        if self._switch_interval is not None:
            _switch_interval.want(self, self._switch_interval)

    def _load_and_open(self) -> None:
        """Load control and open the system; on the thread of opening, where an import holds up no loop.

        No signal handler can interrupt it there: the import system loses some exceptions that one raises.
        """
        from tokengate.authority._authority import Authority  # here, so that `import tokengate` takes less time
        from tokengate.control._actor import ControlActor
        from tokengate.control.stream._stream import Stream

        self._authority = authority = Authority(self._system, self.name)
        self._stream = Stream(self._system, self.name)
        if self._config is not None or os.environ.get(CONFIG_VARIABLE):
            from tokengate.config._file import socket_group
            from tokengate.gate._config import take_config

            if (config := take_config(self._system, authority, self._config, self._plugins)) is not None:
                self._config_file, self._socket_group = config.path, socket_group(config)
        if any(plugin.recorded for plugin in self._plugins):
            authority.recorder.record_to(None, None, strict=False)
        self._system.open()
        close_at_exit()
        # Asked for once: when control restarts, the actor of a plugin may have been given up, and `answers` would fail.
        answering = functools.cache(lambda: [plugin.answers(self) for plugin in self._plugins])
        args = (self, self._control_socket, authority, self._plugins, answering)
        control = ChildSpec("control", ControlActor, args=args)
        parts: list[ChildSpec] = []
        if self._plugins:
            from tokengate.gate._plugins import add_observers, set_journal, supervisor_of

            add_observers(self, self._system, self._plugins)
            set_journal(self, self._system, self._plugins)
            parts = supervisor_of(self, self._plugins)
        self._own_spec = Supervisor.child_spec(SYSTEM, (*parts, control))
        if self._tunes_collector:
            _collector.tune(self)

    def _make_own_root(self) -> ActorPlace:
        self._opened_at = self._system.clock()
        actor_class, args, kwargs = self._own_spec.actor
        self._own = self._system.place(SYSTEM, actor_class, args, kwargs, owner=self._own_root_ended)
        return self._own

    def _make_root(self) -> ActorPlace:
        actor_class, args, kwargs = self._root_spec.actor
        self._root = self._system.place(ROOT, actor_class, args, kwargs, owner=self._root_ended)
        if self not in _current.open_gates:
            _current.open_gates.append(self)
        return self._root

    def _tell_plugins(self) -> None:
        """Tell the plugins that all actors have started; on a thread of its own."""
        for plugin in self._plugins:
            plugin.opened(self)

    def _tell_plugins_of_end(self) -> None:
        for plugin in self._plugins:
            try:
                plugin.closing(self)
            except Exception:
                _logger.exception("plugin %s failed as gate '%s' began to close", type(plugin).__name__, self.name)

    def _note_open(self) -> None:
        self._state = "open"
        if self._stream is not None:
            self._stream.collector.put("gate.opened", f"gate '{self.name}' is open")

    def _trees(self) -> list[ActorPlace]:
        """Return the roots of the trees, in the order in which they are stopped."""
        return list(filter(None, (self._root, self._own)))

    def _undo_opening(self) -> None:
        """Stop the actors of plugins in order, after all others, and end what is left; on the thread that closes."""
        if self._plugins:
            self._stop_and_end()
        else:
            self._end(0.0)

    def _stop_and_end(self) -> None:
        """Stop the trees in order, after an opening that was cancelled or failed, and end what is left."""
        try:
            if trees := self._trees():
                self._stop_trees(trees, self.shutdown, drain=False)
        finally:
            self._end(0.0)

    def _lose_loop(self) -> None:
        """Close the gate, since the asyncio loop of its block was closed: the block's task is never resumed."""
        self._closing.begin(self._close_without_loop)
        self.hurry()

    def _close_without_loop(self) -> None:
        _logger.warning("gate '%s' closes, since the asyncio loop of its block was closed within the block", self.name)
        if self._state == "open":
            self._close(None, drain=False)
        else:
            self._stop_and_end()

    def _stop_trees(
        self, trees: list[ActorPlace], seconds: float, drain: bool, undo: Callable[[], Sequence[Undoing]] | None = None
    ) -> None:
        try:
            self._shutdown.begin(trees, seconds, drain, undo).exception(seconds + _ANSWER_SECONDS)
        except WaitTimeout:
            pass  # the system loop is hung

    def _check_closable(self) -> None:
        """Raise `GateState` if the gate cannot be closed, or not from here; wait for the end of a first use."""
        inside = current_token()
        if self._state in ("open", "closing") and inside is not None and self._owns(inside):
            raise GateState(f"{inside!r} cannot close gate '{self.name}', which waits for it; use gate.request_stop()")
        place = current_turn()
        if isinstance(place, ActorPlace) and place.system is self._system and place.in_hook:
            raise GateState(f"actor '{place.path}' cannot close gate '{self.name}', which waits for its hook to return")
        if self._first_use is not None:
            self._first_use.exclude(self._close_if_new)
        if self._state in ("new", "opening"):
            raise GateState(f"gate '{self.name}' is not open ({self._state})")

    def _close(self, timeout: float | None, drain: bool) -> None:
        """Run the stages of the shutdown, then end what is left; on the thread that closes the gate."""
        assert self._root is not None
        began_at = time.monotonic()
        self._state = "closing"
        if self._stream is not None:
            self._stream.collector.put("gate.closing", f"gate '{self.name}' begins to close")
        try:
            self.request_stop()
            self._tell_plugins_of_end()
            self._terminated_before = self._system.statistics().tokens[TokenState.TERMINATED]
            seconds = self.shutdown if timeout is None else timeout
            if self._authority is not None:  # before the drain, which would wait for them
                self._system.later(self._authority.consents.close)
            ledger = self._transactions
            self._stop_trees(self._trees(), seconds, drain, None if ledger is None else ledger.close)
        finally:
            self._end(_THREADS_SECONDS, began_at)

    def _end(self, seconds: float, began_at: float | None = None) -> None:
        """Close the system with all that is left in it, and write the report."""
        abandoned: tuple[str, ...] = ()
        uncompensated: tuple[str, ...] = ()
        threads: Outcome = "failed"
        try:
            self._opening.settle(_THREADS_SECONDS)
            if self._authority is not None:  # or threads would wait in these
                self._authority.recorder.end_streams()
            abandoned = self._system.close(seconds, self._closing.waiters)
            if self._stream is not None and (left := self._stream.close(_FLUSH_SECONDS)):
                _logger.warning("gate '%s' has closed, and this was not delivered: %s", self.name, listed(left))
            threads = "cut short" if abandoned else "done"
            if self._transactions is not None:
                uncompensated = self._transactions.left(seconds)
        finally:
            if self._authority is not None:
                self._authority.recorder.close()
            _switch_interval.release(self)
            _collector.release(self)
            self._withdraw()
            now = time.monotonic()
            terminated = self._system.statistics().tokens[TokenState.TERMINATED] - self._terminated_before
            stages: dict[str, Outcome] = {**self._shutdown.stages, "threads": threads}
            self._report = ShutdownReport(
                stages, terminated, abandoned, self._gave_up, now - (began_at or now), uncompensated
            )
            self._state = "closed"
        if abandoned:
            _logger.warning("gate '%s' left behind %s", self.name, listed(abandoned))
        if uncompensated:
            _logger.error("gate '%s' has closed, and this is not undone: %s", self.name, listed(uncompensated))

    # Actors

    def find(self, name: str) -> ActorRef[Any]:
        """Return the ref of the actor with this path, or with this name if only one has it.

        Raises:
            UnknownActor: there is none, or there are several.
        """
        return self._actor_place(name).ref

    def _actor_place(self, name: str) -> ActorPlace:
        place = self._open_system.find(name)
        if not isinstance(place, ActorPlace):
            raise UnknownActor(f"'{name}' is an operation in gate '{self.name}', not an actor")
        return place

    def executor(self, *, concurrency: int | None = None, capacity: int = DEFAULT_CAPACITY) -> GateExecutor:
        """Return a `concurrent.futures.ThreadPoolExecutor` whose calls are tokens on the gate's CPU threads.

        Args:
            concurrency: calls that run at once, at most; None takes the number of CPU threads.
            capacity: calls that may be queued before `submit` waits.
        """
        return GateExecutor(self, concurrency, capacity)

    def register(self, operation: F) -> F:
        """Make an operation known to operators before its first call: they can list, suspend and drain it.

        Args:
            operation: an operation, also bound to an instance, or below other decorators.

        Returns:
            the same object.

        Raises:
            BadOperation: it is no operation.
            GateState: the gate is not open.
        """
        found = operation_in(operation)
        if found is None:
            raise BadOperation(f"{operation!r} is no operation, so gate '{self.name}' cannot register it; use @token")
        self._operations[found._spec]  # made there if it is missing
        return operation

    def plugin(self, plugin_class: type[P]) -> P:
        """Return the plugin of this class.

        Raises:
            UnknownPlugin: the gate has none.
        """
        for plugin in self._plugins:
            if isinstance(plugin, plugin_class):
                return plugin
        raise UnknownPlugin(
            f"gate '{self.name}' has no {plugin_class.__name__}; open it with plugins=[{plugin_class.__name__}(...)]"
        )

    def transaction(self, name: str, *, durable: bool = False) -> TransactionBlock:
        """Return a block whose tokens are undone together, by the compensations of their operations.

        `with gate.transaction("order 7") as tx:`, and `async with` on a loop. An error that leaves the block, and
        `tx.roll_back()`, undo it. See docs/policies.md.

        Args:
            name: for operators.
            durable: whether it is kept on disk, in a gate with a `Journal`: if the process dies within it, the next
                opening undoes it, before other tokens run; or the durable token whose code has begun it goes on with
                it. Its tokens, and their compensations, must be durable: others raise `NotDurable`.

        Raises:
            ValueError: the name is no text, or empty.
        """
        from tokengate.gate._transaction import TransactionBlock  # here, so that `import tokengate` takes less time

        if not isinstance(name, str) or not name:
            raise ValueError(f"name of a transaction is {name!r}; it must be a text, such as 'order 7'")
        return TransactionBlock(self._ledger, name, self._transaction_log if durable else None)

    def _transaction_log(self) -> TransactionLog:
        journal: Any = self._open_system.journal
        if journal is None:
            raise NotDurable(
                f"a transaction is durable, and gate '{self.name}' has no journal; give it one: "
                "Gate(plugins=[Journal(directory)])"
            )
        log: TransactionLog = journal.transactions
        return log

    def _ledger(self) -> Transactions:
        """Return the transactions of the open gate; made for the first one."""
        from tokengate.policy._transaction import Transactions

        system = self._open_system
        with self._lock:
            if self._transactions is None:
                self._transactions = Transactions(system, self._submit_compensation, UninterruptedCall)
        return self._transactions

    def _submit_compensation(
        self,
        transaction: Transaction,
        operation: Operation[..., Any] | AsyncOperation[..., Any],
        done: object,
        tags: Mapping[str, str],
    ) -> Token[Any]:
        place = self._operations[operation._spec]
        token: Token[Any] = run_in(
            transaction.context, place.token, operation._name, operation._function, (done,), {}, operation.priority,
            MappingProxyType({**operation.tags, **tags}),
        )  # fmt: skip
        if transaction.home is not None and place.affinity == "asyncio":
            token._call = at_home(token._call, transaction.home)
        admitted = self._system.admitted
        admitted.add(token.id)
        try:
            return place.send(token)
        finally:
            admitted.discard(token.id)

    # Looking

    @property
    def _open_system(self) -> ActorSystem:
        """The runtime of an open gate; one that opens lazily is opened here.

        Raises:
            GateState: it is not open.
        """
        if self._first_use is not None and self._waits_for_first_use():
            self._first_use.here()
        if self._state not in ("opening", "open", "closing"):
            raise self._not(f"is not open ({self._state})")
        return self._system

    @property
    def control(self) -> Control:
        """Look at tokens and actors and steer them; the verbs block, those of `control.aio` are awaited.

        Raises:
            GateState: it is not open.
        """
        from tokengate.control._local import control_of

        return control_of(self._actor_place(CONTROL).ref, self.name)

    @property
    def state(self) -> str:
        """Its state: `new`, `opening`, `open`, `closing` or `closed`."""
        return self._state

    @property
    def uptime(self) -> float:
        """Seconds since it was opened."""
        return self._system.clock() - self._opened_at if self._opened_at else 0.0

    @property
    def restarts(self) -> int:
        """Restarts of actors since it was opened."""
        return self._system.restarts

    def _owns(self, token: Token[Any]) -> bool:
        """Return whether a token belongs to this gate."""
        # In a child process it may be a token of the gate that has made the process.
        return isinstance(token, Token) and token._place.system is self._system

    def _owns_system(self, system: ActorSystem) -> bool:
        """Return whether this gate runs on a system."""
        return system is self._system

    def statistics(self) -> GateStatistics:
        """Return the figures of this moment; they stay readable after the gate has closed."""
        system = self._system.statistics()
        return GateStatistics(system.tokens, self.restarts, system)

    def subscribe(self, listener: Callable[[object], None]) -> Callable[[], None]:
        """Call `listener` with every event (supervisors' reports, dead letters); the return value ends that.

        It is called on the thread where the event happens, often the system loop's, so it must be quick.
        """
        return self._system.subscribe(listener)

    def _place_with(self, place: OperationPlace, affinity: str) -> OperationPlace:
        """Return the place of the same operation with another affinity; see `OperationTable.with_affinity`."""
        return self._operations.with_affinity(place, affinity)

    def _own_root_ended(self, place: ActorPlace, reason: ExitReason, _administrative: bool) -> None:
        place.close(reason)
        if self._state == "open":
            _logger.critical(
                "gate '%s': its control actor was given up (%s); the gate goes on without control", self.name, reason
            )

    def _root_ended(self, place: ActorPlace, reason: ExitReason, _administrative: bool) -> None:
        if self._state == "open":
            self._gave_up = True
            _logger.critical("gate '%s': its root supervisor has ended (%s); stopping", self.name, reason)
            place.close(reason)
            self.request_stop()

    def __repr__(self) -> str:
        return f"<Gate '{self.name}' {self._state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"gate '{self.name}' cannot be pickled, since its threads and loops are in this process; send what the "
            "other process needs of it, or call operations there, which find this gate"
        )


def current_gate() -> Gate | None:
    """Return the gate of the running token; else the innermost one entered here; else the only open one; else None.

    Raises:
        AmbiguousGate: several are open and none of these rules chooses one.
    """
    return cast("Gate | None", _current.current_gate())


def _current_starter() -> Starter | None:
    gate = current_gate()
    return None if gate is None else gate._start_actor


homes.append(_current_starter)
