"""The instance of an actor in its child process: it handles the frames that are for the instance."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from types import CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

from . import _wire
from ._command import COMMAND, command_of
from ._connection import load
from ._headers import with_headers
from ._process_actor import ProcessActor

if TYPE_CHECKING:
    from ._log import GateHandler
    from ._wire import Frame
    from ._yield_points import YieldPoints


class ActorInstance:
    """Makes the instance of an actor, calls its methods and hooks; one for each child.

    Args:
        yield_points: of the running call.
        log: sends log records to the gate.
    """

    def __init__(self, yield_points: YieldPoints, log: GateHandler) -> None:
        self._yield_points = yield_points
        self._log = log
        self._instance: Any = None
        self._class: type[ProcessActor] | None = None
        self._crash: BaseException | None = None  # the error of the latest call, if the class does not expect it
        self._handlers: dict[int, Callable[..., Any]] = {
            _wire.MAKE: self._make,
            _wire.HANDLE: self._call,
            _wire.GET: self._get,
            _wire.SET: self._set,
            _wire.END: self._end,
            _wire.FAIL: self._fail,
            _wire.VISIT: self._visit,
        }

    def handle(self, frame: Frame) -> Any:
        """Handle a frame; return the result."""
        return self._handlers[frame.extra](*load(frame))

    def expects(self, error: BaseException) -> bool:
        """Tell whether the actor's class expects an error."""
        return self._class is not None and isinstance(error, self._class.expected)

    def _make(
        self, cls: type[Any], args: tuple[Any, ...], kwargs: dict[str, Any], path: str, attributes: dict[str, Any]
    ) -> None:
        self._class = cls
        context = contextvars.copy_context()
        self._instance = context.run(_build, cls, args, kwargs, path, attributes)
        self._run_hook("on_start")

    def _call(
        self,
        path: tuple[str, ...],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        values: Any,
        level: int | None,
        *headers: dict[str, str],
    ) -> Any:
        self._crash = None
        if level is not None and level != self._log.root_level:
            self._log.set_root_level(level)
        context = contextvars.copy_context()
        for variable, value in with_headers(values or (), headers):
            context.run(variable.set, value)
        try:
            call = self._look_up(path) if path else self._instance.on_receive
            value = context.run(call, *args, **kwargs)
            kind = type(value)
            if kind is GeneratorType:
                if value.gi_code is getattr(call, "__code__", None):
                    return self._yield_points.take_all(value, context)
            elif kind is CoroutineType:
                value.close()
                name = ".".join(path) or "on_receive"
                raise TypeError(
                    f"{type(self._instance).__name__}.{name} is a coroutine function; a child process cannot await it"
                )
        except BaseException as error:
            if not self.expects(error):
                self._crash = error  # frames of the runtime are removed when it is sent
            raise
        return value

    def _get(self, path: tuple[str, ...]) -> Any:
        return contextvars.copy_context().run(self._look_up, path)

    def _set(self, path: tuple[str, ...], value: Any) -> None:
        *parents, name = path
        contextvars.copy_context().run(lambda: setattr(self._look_up(tuple(parents)), name, value))

    def _end(self) -> None:
        self._run_hook("on_stop")

    def _fail(self, error: BaseException | None = None) -> None:
        crash, self._crash = self._crash, None
        error = crash or error
        facts = (None, None, None) if error is None else (type(error), error, error.__traceback__)
        self._run_hook("on_failure", *facts)

    def _visit(self, function: Callable[[Any], Any]) -> Any:
        return contextvars.copy_context().run(function, self._instance)

    def _look_up(self, path: tuple[str, ...]) -> Any:
        if path[:1] == (COMMAND,):
            return command_of(self._instance, path[1])
        found = self._instance
        for name in path:
            found = getattr(found, name)
        return found

    def _run_hook(self, name: str, *args: Any) -> None:
        def hook() -> Any:
            return getattr(self._instance, name)(*args)

        value = contextvars.copy_context().run(hook)
        if type(value) is CoroutineType:
            value.close()
            raise TypeError(f"{name} of {type(self._instance).__name__} is async; a process actor cannot await it")


def initialize(instance: Any, args: Any, kwargs: Any) -> None:
    """Call `__init__`; refuse what it returns, as Python does for an instance that is made by a call of its class."""
    result = instance.__init__(*args, **kwargs)
    if result is not None:
        remedy = ""
        if type(result) is CoroutineType:
            result.close()
            remedy = ": await in on_start"
        name, kind = type(instance).__name__, type(result).__name__
        raise TypeError(f"__init__() of {name} should return None, not '{kind}'{remedy}")


def _build(cls: type[Any], args: tuple[Any, ...], kwargs: dict[str, Any], path: str, attributes: dict[str, Any]) -> Any:
    instance = cls.__new__(cls, *args, **kwargs)
    instance._path = path
    for name, value in attributes.items():
        setattr(instance, name, value)
    initialize(instance, args, kwargs)
    return instance
