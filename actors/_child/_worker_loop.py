"""The worker loop of a child: it handles what the gate sends, one call after the other.

When the gate stops or kills the process, it relies on the order in which the loop writes to the shared page: a call has
not run unless BEGUN has reached its number, and its outcome is in the outbox before the next call begins.
"""

from __future__ import annotations

import contextvars
import importlib
import logging
import os
import pickle
import sys
from collections.abc import Callable, Iterable
from threading import get_ident
from time import perf_counter_ns, process_time_ns
from types import CoroutineType, GeneratorType
from typing import Any, Final

from . import _shared_page, _wire
from ._connection import FLUSH_AFTER, Connection, load
from ._current_worker import current_worker
from ._exceptions import NotPicklable, TokenInterrupt
from ._failures import failure_of, text_of, without_runtime_frames
from ._headers import Variable, with_headers
from ._instance import ActorInstance
from ._log import GateHandler
from ._payload import INLINE
from ._pickling import Packer
from ._wire import Frame
from ._yield_points import YieldPoints

_BEGUN: Final = _shared_page.BEGUN
_ENDED: Final = _shared_page.ENDED
_STEPS: Final = _shared_page.STEPS
_CPU_BEFORE: Final = _shared_page.CPU_BEFORE
_CPU_OF: Final = _shared_page.CPU_OF
_CPU_USED: Final = _shared_page.CPU_USED
_REVOKED: Final = _shared_page.REVOKED
_KEPT: Final = _shared_page.KEPT

# Nanoseconds between two reads of the processor time: one takes as long as all the rest of a short call.
_CPU_EVERY: Final = 100_000

# Greatest length of a result that is pickled without a `Packer`.
_MOST_PLAIN: Final = 4096

_PROTOCOL: Final = pickle.HIGHEST_PROTOCOL

_NO_KWARGS: Final[dict[str, Any]] = {}

_sized_types: Final = _wire.PLAIN_TYPES.get
_new_context = contextvars.copy_context
_loads = pickle.loads
_dumps = pickle.dumps


class Function:
    """A function that the gate has sent.

    Args:
        name: of the operation.
        call: the function itself.
        steps: whether it returns a generator that is to run, step by step.
    """

    __slots__ = ("call", "name", "steps")

    def __init__(self, name: str, call: Callable[..., Any], steps: bool) -> None:
        self.name = name
        self.call = call
        self.steps = steps


class Worker:
    """Runs calls until the gate closes the connection.

    Args:
        connection: to the gate.
        stop: stops this process.
    """

    def __init__(self, connection: Connection, stop: Callable[[], object]) -> None:
        self._connection = connection
        self._word = connection.page.word
        self._yield_points = YieldPoints(connection, stop)
        self._log = GateHandler(connection, self._yield_points)
        self._actor = ActorInstance(self._yield_points, self._log)
        self._packer = Packer()
        self._functions: dict[int, Function] = {}
        self._cpu_at = 0  # when the processor time was read, in nanoseconds of time.perf_counter_ns

    def run(self) -> None:
        """Handle what the gate sends, until the stream ends."""
        connection, pending = self._connection, self._connection.pending
        before = current_worker.connection, current_worker.yield_points
        current_worker.connection, current_worker.yield_points, current_worker.last_token = (
            connection,
            self._yield_points,
            (0, None),
        )
        connection.owner = self._yield_points.thread = get_ident()
        logging.root.addHandler(self._log)
        try:
            while True:
                if not pending:
                    connection.flush()
                    if not connection.wait_pending():
                        return
                frame = pending.popleft()
                kind = frame.kind
                if kind == _wire.CALL:
                    if frame.flags & _wire.PLAIN:
                        self._call_all(frame)
                    else:
                        self._handle(frame.number, self._reply, self._call, frame)
                elif kind == _wire.ACTOR:
                    self._handle(frame.number, self._reply, self._actor.handle, frame)
                elif kind == _wire.FUNCTION:
                    self._take_function(frame)
                elif kind == _wire.SETUP:
                    self._set_up(load(frame))
        except (BrokenPipeError, ConnectionError):
            return  # the gate has ended
        finally:
            logging.root.removeHandler(self._log)
            current_worker.connection, current_worker.yield_points = before

    def _call_all(self, frame: Frame) -> None:
        """Run all calls of a frame that have positional arguments only, one after the other."""
        function, handle, run, reply = self._functions[frame.extra], self._handle, self._run, self._reply_in_run
        for number, args in enumerate(_loads(frame.payload), frame.number):
            handle(number, reply, run, function, args)

    def _handle(
        self, number: int, reply: Callable[[int, int, Any], object], work: Callable[..., Any], *args: Any
    ) -> None:
        """Run one call, and send its outcome.

        Args:
            number: of the call.
            reply: sends a result: called with the number, the nanoseconds that the call took, and the value.
            work: returns the result.
            *args: what it is called with.
        """
        word, points = self._word, self._yield_points
        started = perf_counter_ns()
        if started - self._cpu_at > _CPU_EVERY:
            self._cpu_at = started
            word[_CPU_BEFORE] = process_time_ns()
        word[_STEPS] = 1
        word[_BEGUN] = number
        if number <= word[_REVOKED] and number != word[_KEPT]:
            return
        points.number = number
        points.plain = True
        try:
            value = work(*args)
            points.number = 0
            word[_ENDED] = number
            ended = perf_counter_ns()
            if ended - started > _CPU_EVERY:
                self._note_cpu(number)
        except BaseException as error:
            cancelled = isinstance(error, TokenInterrupt) and points.cancelled()
            points.number = 0
            word[_ENDED] = number
            ended = perf_counter_ns()
            self._note_cpu(number)
            if cancelled:
                self._connection.put(_wire.CANCELLED, number, ended - started, b"")
            else:
                self._fail(number, ended - started, error, expected=self._actor.expects(error))
        else:
            reply(number, ended - started, value)
        connection = self._connection
        if ended - connection.due_since > FLUSH_AFTER:
            connection.flush()

    def _note_cpu(self, number: int) -> None:
        """Write how much processor time a call has used."""
        word = self._word
        word[_CPU_OF] = 0  # so that the gate reads both words of one call
        word[_CPU_USED] = process_time_ns() - word[_CPU_BEFORE]
        word[_CPU_OF] = number

    def _call(self, frame: Frame) -> Any:
        """Call a function that the gate has sent before."""
        args, kwargs, values, level, *headers = load(frame)
        if level is not None and level != self._log.root_level:
            self._log.set_root_level(level)
        return self._run(self._functions[frame.extra], args, kwargs, with_headers(values or (), headers))

    def _run(
        self,
        function: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] = _NO_KWARGS,
        values: Iterable[tuple[Variable, Any]] = (),
    ) -> Any:
        """Run a function in a context of its own, in which variables have these values."""
        context = _new_context()
        for variable, value in values:
            context.run(variable.set, value)
        value = context.run(function.call, *args, **kwargs)
        kind = type(value)
        if kind is GeneratorType:
            if function.steps:
                return self._yield_points.take_all(value, context)
        elif kind is CoroutineType:
            value.close()
            raise TypeError(f"{function.name} is a coroutine function; a child process cannot await it")
        return value

    # Outcomes

    def _reply_in_run(self, number: int, nanoseconds: int, value: Any) -> None:
        """Put a result into the run in the outbox, if it is plain and small; else into a frame of its own."""
        if not (_is_plain(value) and self._connection.put_result(number, nanoseconds, value)):
            self._reply(number, nanoseconds, value)

    def _reply(self, number: int, nanoseconds: int, value: Any) -> None:
        if _is_plain(value):
            plain = _dumps(value, _PROTOCOL)
            if len(plain) <= INLINE:  # an int may be of any size
                self._connection.put(_wire.RESULT, number, nanoseconds, plain)
                return
        try:
            packed = self._packed(value)
        except BaseException as error:
            self._fail(number, nanoseconds, _cannot_return(value, error), expected=True)
        else:
            self._put(_wire.RESULT, number, nanoseconds, packed)

    def _fail(self, number: int, nanoseconds: int, error: BaseException, *, expected: bool = False) -> None:
        try:
            packed = self._packed(failure_of(without_runtime_frames(error), expected=expected))
        except BaseException as problem:  # such as no memory
            text = f"<its text raised {type(problem).__name__}>"
            packed = _dumps((None, type(error).__qualname__, text, "", expected))
        self._put(_wire.ERROR, number, nanoseconds, packed)

    def _packed(self, value: Any) -> bytes | tuple[int, bytes]:
        """Pickle an object; return it as bytes, or as a file's descriptor and table."""
        payload = self._packer.pack(value)
        try:
            data = payload.inline()
            return payload.to_file() if data is None else data
        finally:
            payload.clear()

    def _put(self, kind: int, number: int, nanoseconds: int, packed: bytes | tuple[int, bytes]) -> None:
        put: Callable[..., None] = self._connection.put if isinstance(packed, bytes) else self._connection.put_file
        put(kind, number, nanoseconds, packed)

    # Other frames

    def _set_up(self, setup: dict[str, Any]) -> None:
        sys.path[:] = setup["path"]
        sys.argv[:] = setup["argv"]
        importlib.invalidate_caches()
        try:
            os.chdir(setup["cwd"])
        except OSError:
            pass  # it was removed
        self._log.set_root_level(setup["level"])
        self._connection.put(_wire.READY, 0, 0, b"")

    def _take_function(self, frame: Frame) -> None:
        name = f"function {frame.extra}"
        try:
            name, call, steps, _ = load(frame)
            function = Function(name, call, steps)
        except BaseException as error:
            error.add_note(f"It was raised when {name} was unpickled in the child process.")
            function = Function(name, _raising(without_runtime_frames(error)), False)
        self._functions[frame.extra] = function


def _is_plain(value: Any) -> bool:
    """Tell whether a result may be pickled without a `Packer`."""
    sized = _sized_types(type(value))
    return sized is not None and (not sized or len(value) <= _MOST_PLAIN)


def _raising(problem: BaseException) -> Callable[..., Any]:
    """Return a replacement for a function that could not be unpickled: it raises the error."""
    frames = problem.__traceback__

    def fail(*_args: Any, **_kwargs: Any) -> Any:
        raise problem.with_traceback(frames)

    return fail


def _cannot_return(value: Any, cause: BaseException) -> NotPicklable:
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    error = NotPicklable(f"the result, a {name}, cannot be sent to the gate: {type(cause).__name__}: {text_of(cause)}")
    error.__cause__ = without_runtime_frames(cause)
    return error
