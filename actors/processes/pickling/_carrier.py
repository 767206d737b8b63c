"""Pickles calls for child processes, and unpickles what comes back.

A child never imports this package. So names of the runtime that a user's code refers to are pickled as their
counterparts in the child, which are in `_child/_counterparts.py` and `_child/_proxies.py`: `checkpoint` is the child's,
a ref sends its messages through the gate, and a class of process actors has the child's base class. What comes back is
pickled the other way round.
"""

from __future__ import annotations

import importlib
import logging
import pickle
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import Context, ContextVar
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

import cloudpickle
from cloudpickle import cloudpickle as _internals

from actors import _exceptions
from actors._child import _wire
from actors._child._payload import Payload, open_payload
from actors._child._secret import Secret
from actors._exceptions import NotPicklable, WorkerError
from actors._exit_reason import ExitReason, safe_repr
from actors._in_child import CHILD, counterparts_of
from actors.places._proxy import ActorProxy
from actors.places._ref import ActorRef
from actors.places._timers import ReceiveTimeout
from actors.places._watch import Down
from actors.processes._limits import Limits
from actors.processes.pickling._exports import id_of, path_of, place_of, token_of
from actors.steps._checkpoint import checkpoint
from actors.tokens._token import Token, current_token

if TYPE_CHECKING:
    from actors.processes.pickling._ports import ProcessSystem

_OURS: Final = ("actors", "supervisors", "tokengate")

# {id of a class or function: its name}, which is the name of its counterpart in a child, too.
_COUNTERPARTS: Final[dict[int, str]] = {
    id(one): one.__name__
    for one in (
        checkpoint,
        current_token,
        Down,
        ReceiveTimeout,
        ExitReason,
        Limits,
        Secret,
        *(one for one in vars(_exceptions).values() if getattr(one, "__module__", "") == _exceptions.__name__),
    )
}

_COUNTERPARTS.update(counterparts_of(_COUNTERPARTS))

# {class: how its objects are reduced}; higher floors add theirs.
carried_as: Final[dict[type, Callable[[Any, ProcessSystem], tuple[Any, ...]]]] = {}

# Functions that return the operation with a name, `module:qualified name`, or None; higher floors add theirs.
operation_finders: Final[list[Callable[[str], Any]]] = []

# {base class: the name of its counterpart}; its subclasses are pickled by value, since they get another base there.
bases: Final[dict[type, str]] = {}

_sized_types: Final = _wire.PLAIN_TYPES.get

_NO_FILE: Final = "<dynamic-code>"

_logger = logging.getLogger("tokengate.actors")

_LEVEL: Final = "level for child processes"  # a key in a logger's cache, whose other keys are levels

_loading = threading.local()  # `system`: where refs and tokens are looked up that this thread unpickles


class _Module:
    """Pickles as a module."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self._name,)


_child = _Module(CHILD)


def counterpart(name: str) -> tuple[Any, ...]:
    """Return the reduction of a class or function of the child."""
    return getattr, (_child, name)


def counterpart_object(name: str, *args: Any) -> tuple[Any, ...]:
    """Return the reduction of an object of a class of the child."""
    return _Counterpart(name), args


class _Counterpart:
    """Pickles as a class of the child."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self) -> None:
        """Exist for pickle, which checks that a constructor can be called."""

    def __reduce__(self) -> tuple[Any, ...]:
        return counterpart(self._name)


class Carrier(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles objects for a child, one after the other; for one thread at a time.

    Args:
        system: the actor system, for the ids of tokens, actors and operations.
        in_band: whether large buffers are to be in the pickle itself.
    """

    def __init__(self, system: ProcessSystem, *, in_band: bool = False) -> None:
        self.system = system
        self.payload = Payload()
        self.keep: Callable[[int, Token[Any]], object] | None = None  # called with each token, and its id
        self._by_value: set[int] = set()  # ids of the functions of classes that are pickled by value
        take_buffer = None if in_band else self.payload.take_buffer
        super().__init__(self.payload, protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=take_buffer)

    def pack(self, item: Any) -> Payload:
        """Pickle an object into the payload, which is used again for the next object.

        Raises:
            Exception: whatever pickling it raised; the payload is empty then.
        """
        payload = self.payload
        payload.clear()
        try:
            self.dump(item)
        except BaseException:
            payload.clear()
            raise
        finally:
            self.clear_memo()
            self.globals_ref.clear()
            self._by_value.clear()
        return payload

    def reducer_override(self, obj: Any) -> Any:
        name = _COUNTERPARTS.get(id(obj))
        if name is not None:
            return counterpart(name)
        kind = type(obj)
        if isinstance(obj, type):
            name = bases.get(obj)
            if name is not None:
                return counterpart(name)
            if any(type.__subclasscheck__(base, obj) for base in bases):
                self._by_value.update(map(id, _functions_of(obj)))
                return _internals._dynamic_class_reduce(obj)
            return super().reducer_override(obj)
        if kind is CodeType:  # cloudpickle removes the file name, which tracebacks and operators need
            make, parts = _internals._code_reduce(obj)
            return make, tuple(obj.co_filename if part == _NO_FILE else part for part in parts)
        if kind is FunctionType:
            package = (obj.__module__ or "").partition(".")[0]
            if package in _OURS:
                for public in (package, obj.__module__.rpartition(".")[0]):
                    if _imported_from(public, obj):
                        return getattr, (_Module(public), obj.__name__)  # a public function of the runtime, or a room
            if id(obj) in self._by_value or package in _OURS:
                return self._dynamic_function_reduce(obj)
            carry_by_value(obj.__module__)
            return super().reducer_override(obj)
        if isinstance(obj, ActorRef):
            return counterpart_object("Ref", path_of(obj._place, self.system), obj.actor_class.__name__)
        if isinstance(obj, ActorProxy):
            return counterpart_object("Proxy", obj.actor_ref, obj._attr_path)
        if isinstance(obj, Token):
            number = id_of(obj, self.system)
            if self.keep is not None:
                self.keep(number, obj)
            return counterpart_object("RemoteToken", number)
        if kind is ContextVar:
            known = self.system.carried_variables
            if obj not in known:
                known[obj] = place_of_variable(obj)
            return counterpart_object("context_variable", *known[obj])
        for cls, reduce in carried_as.items():
            if isinstance(obj, cls):
                return reduce(obj, self.system)
        return super().reducer_override(obj)


def _imported_from(package: str, function: FunctionType) -> bool:
    """Tell whether a function is a public name of a package."""
    return getattr(sys.modules.get(package), function.__name__, None) is function


def _functions_of(cls: type) -> Iterator[FunctionType]:
    """Return the functions in the body of a class, including those of properties and class methods."""
    for value in vars(cls).values():
        for part in (value, *(getattr(value, name, None) for name in ("__func__", "fget", "fset", "fdel", "func"))):
            if type(part) is FunctionType:
                yield part


def carry_by_value(module: str | None) -> None:
    """Have the contents of a module pickled by value, if a child could not import the module."""
    if module is None or module in _seen:
        return
    _seen.add(module)
    known = sys.modules.get(module)
    if known is None or module == "__main__" or _importable(known):
        return
    cloudpickle.register_pickle_by_value(known)


_seen: Final[set[str]] = set()  # modules that `carry_by_value` has looked at


def _importable(module: ModuleType) -> bool:
    """Tell whether a module would be found by its name in a new process with the same `sys.path`."""
    name = module.__name__
    if name in sys.builtin_module_names:
        return True
    file = getattr(module, "__file__", None)
    parent = name.rpartition(".")[0]
    if parent and parent in sys.modules and not _importable(sys.modules[parent]):
        return False
    search = getattr(sys.modules.get(parent), "__path__", None) if parent else None
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, search, None)
        except Exception:
            continue
        if spec is not None:
            return file is None or spec.origin == file
    return False


def place_of_variable(variable: ContextVar[Any]) -> tuple[Any, ...]:
    """Return how a child finds a context variable, or creates one like it.

    Returns:
        the module that has it and its name there, or two empty strings; its own name; and its default, if it has one.
    """
    try:
        default: tuple[Any, ...] = (Context().run(variable.get),)
    except LookupError:
        default = ()
    for name, module in list(sys.modules.items()):
        if name == "__main__" or not isinstance(module, ModuleType):
            continue
        for attribute, value in list(vars(module).items()):
            if value is variable and _importable(module):
                return name, attribute, variable.name, *default
    return "", "", f"{variable.name}-{id(variable)}", *default


def plain_size(args: Iterable[Any]) -> int | None:
    """Return the length of all strings and bytes among positional arguments; None if not all arguments are plain."""
    size = 0
    for value in args:
        sized = _sized_types(type(value))
        if sized:
            size += len(value)
        elif sized is None:
            return None
    return size


def function_for(
    system: ProcessSystem, name: str, function: Any, *, generator: bool, context: Iterable[ContextVar[Any]]
) -> bytes:
    """Return a function in the form in which a child gets it.

    Raises:
        NotPicklable: it cannot be pickled, or something that it refers to.
    """
    try:
        payload = Carrier(system, in_band=True).pack((name, function, generator, tuple(context)))
    except Exception as error:
        raise NotPicklable(f"'{name}' cannot be sent to a child process: {cause(error)}") from error
    return b"".join(payload.pieces)


def not_picklable(
    system: ProcessSystem, operation: str, args: Iterable[Any], kwargs: Mapping[str, Any], error: BaseException
) -> NotPicklable:
    """Return the error that names the argument of a call which cannot be pickled."""
    named = [(f"argument {number}", value) for number, value in enumerate(args)]
    named.extend((f"argument '{name}'", value) for name, value in kwargs.items())
    for name, value in named:
        try:
            Carrier(system).pack(value)
        except BaseException as own:
            kind = type(value).__qualname__
            return NotPicklable(f"{name} of {operation}, a {kind}, cannot be sent to a child process: {cause(own)}")
    return NotPicklable(f"the arguments of {operation} cannot be sent to a child process: {cause(error)}")


def cause(error: BaseException) -> str:
    """Return the type and the text of an error, whatever its class does."""
    return f"{type(error).__name__}: {safe_text(error)}"


# From children


def loading_for(system: ProcessSystem) -> None:
    """Look up refs, tokens and operations in a system when the current thread unpickles."""
    _loading.system = system


def load(payload: Any, descriptor: int | None = None) -> Any:
    """Unpickle what a child has sent.

    Args:
        payload: the pickle, or the table of the file that has it.
        descriptor: of that file, which is closed.
    """
    if descriptor is None:
        return pickle.loads(payload)
    stream, buffers = open_payload(descriptor, payload)
    try:
        return pickle.loads(stream, buffers=buffers)
    finally:
        del stream, buffers  # an error would keep the file open by its traceback


def load_failure(failure: _wire.Failure, pid: int) -> BaseException:
    """Return an error that a child has sent; its traceback there is added as a note."""
    pickled, type_name, text, traceback, expected = failure
    error: BaseException | None = None
    if pickled is not None:
        try:
            error = pickle.loads(pickled)
        except BaseException as problem:
            reraise_ctrl_c(problem)
            text = f"{text} (it could not be rebuilt here: {cause(problem)})"
    if not isinstance(error, BaseException):
        error = WorkerError(f"{type_name}: {text}", type_name, expected)
    elif isinstance(error, NotPicklable):
        error.expected = expected
    error.add_note(f"In process {pid}:\n{traceback.rstrip()}")
    return error


def may_travel(cls: type) -> bool:
    """Tell whether a child can have objects of a class: of the runtime's classes, those with a counterpart."""
    return id(cls) in _COUNTERPARTS or cls.__module__.partition(".")[0] not in _OURS


def reraise_ctrl_c(problem: BaseException) -> None:
    """Raise a `KeyboardInterrupt` of the main thread: that is Ctrl-C, and no error of an object that was pickled."""
    if isinstance(problem, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise problem


def safe_text(error: BaseException) -> str:
    """Return the text of an error, whatever its class does."""
    try:
        return str(error)
    except BaseException:
        return safe_repr(error)


def found_ref(path: str) -> ActorRef[Any]:
    """Return the ref of an actor; called when a ref from a child is unpickled."""
    return place_of(path, _loading.system).ref


def found_token(id: int) -> Token[Any]:
    """Return a token; called when a token from a child is unpickled."""
    token = token_of(id, _loading.system)
    if token is None:
        raise LookupError(f"token {id} has ended, and its outcome is not kept any more")
    return token


def found_operation(key: int | str) -> Any:
    """Return an operation; called when an operation from a child is unpickled."""
    return operation_with(key, _loading.system)


def operation_with(key: int | str, system: ProcessSystem) -> Any:
    """Return the operation with a key: one that was carried to a child, or one of a module that is imported here.

    Raises:
        LookupError: there is none.
    """
    known = system.carried_operations.get(key)
    if known is None and isinstance(key, str):
        known = next((found for find in operation_finders if (found := find(key)) is not None), None)
    if known is None:
        raise LookupError(f"the process of gate '{system.name}' has no operation '{key}'; import its module there")
    return known


def log_level() -> int:
    """Return the level of log records that children are to send: the lowest level of all loggers here."""
    level: int | None = _logger._cache.get(_LEVEL)  # type: ignore[attr-defined]
    if level is None:
        # `logging` empties the cache of every logger after a level has changed anywhere, under this lock.
        with logging._lock:  # type: ignore[attr-defined]
            level = _logger._cache[_LEVEL] = _lowest_level()  # type: ignore[attr-defined]
    return level


def _lowest_level() -> int:
    loggers = [one for one in list(logging.root.manager.loggerDict.values()) if isinstance(one, logging.Logger)]
    level = min([logging.root.level, *(one.level for one in loggers if one.level)])
    return max(level, logging.root.manager.disable + 1)
