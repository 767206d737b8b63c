"""How calls get into a child process, and what comes back: pickled once, with the runtime's own names exchanged.

A child never imports this package. So the names of it that a user's code holds are carried as their twins, which
`_child/_counterparts.py` has for the child: `checkpoint` is the child's, a ref sends its messages through the gate,
and a class of process actors has the child's base class. On the way back they are exchanged again.
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
from actors._child._payload import INLINE, Payload, open_payload
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

# What a child has a twin of, by the same name.
_COUNTERPARTS: Final[dict[int, str]] = {
    id(one): one.__name__
    for one in (
        checkpoint,
        current_token,
        Down,
        ReceiveTimeout,
        ExitReason,
        Limits,
        *(one for one in vars(_exceptions).values() if getattr(one, "__module__", "") == _exceptions.__name__),
    )
}

_COUNTERPARTS.update(counterparts_of(_COUNTERPARTS))

# {class: what an object of it is carried as}; those of higher floors add theirs.
carried_as: Final[dict[type, Callable[[Any, ProcessSystem], tuple[Any, ...]]]] = {}

# {base class: the name of its twin}: its subclasses travel by value, since the base is another one there.
bases: Final[dict[type, str]] = {}

_PLAIN: Final = frozenset((int, str, float, bool, type(None)))

_NO_FILE: Final = "<dynamic-code>"

_logger = logging.getLogger("tokengate.actors")

_LEVEL: Final = "level for child processes"  # a key in a logger's cache, whose other keys are levels

_loading = threading.local()  # `system`: whose objects are loaded on this thread


class _Module:
    """A module, to a pickle."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self._name,)


_child = _Module(CHILD)


def counterpart(name: str) -> tuple[Any, ...]:
    """Return the reduction of something that the child has by this name."""
    return getattr, (_child, name)


def counterpart_object(name: str, *args: Any) -> tuple[Any, ...]:
    """Return the reduction of an object of a class that the child has by this name."""
    return _Counterpart(name), args


class _Counterpart:
    """A class of the child's, to a pickle."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self) -> None:
        """Only for pickle, which wants to see something that can be called."""

    def __reduce__(self) -> tuple[Any, ...]:
        return counterpart(self._name)


class Carrier(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles one object after the other for a child; for one thread at a time.

    Args:
        system: whose tokens and operations may be among them.
        in_band: whether all is to be in the pickle itself, large buffers as well.
    """

    def __init__(self, system: ProcessSystem, *, in_band: bool = False) -> None:
        self.system = system
        self.payload = Payload()
        self.keep: Callable[[int, Token[Any]], object] | None = None  # who keeps the tokens that are among them
        self._by_value: set[int] = set()  # ids of the functions of a class that is carried by value
        take_buffer = None if in_band else self.payload.take_buffer
        super().__init__(self.payload, protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=take_buffer)

    def pack(self, item: Any) -> Payload:
        """Pickle an object into the payload, which holds it until the next one is packed.

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
            if any(issubclass(obj, base) for base in bases):
                self._by_value.update(map(id, _functions_of(obj)))
                return _internals._dynamic_class_reduce(obj)
            return super().reducer_override(obj)
        if kind is CodeType:  # cloudpickle takes the file's name away, which tracebacks and operators need
            make, parts = _internals._code_reduce(obj)
            return make, tuple(obj.co_filename if part == _NO_FILE else part for part in parts)
        if kind is FunctionType:
            package = (obj.__module__ or "").partition(".")[0]
            if package in _OURS and _imported_from(package, obj):
                return getattr, (_Module(package), obj.__name__)  # one of those that users import
            if id(obj) in self._by_value or package in _OURS:
                return self._dynamic_function_reduce(obj)
            carry_by_value(obj.__module__)
            return super().reducer_override(obj)
        if isinstance(obj, ActorRef):
            return counterpart_object("Ref", path_of(obj._place, self.system), obj.actor_class.__name__)
        if isinstance(obj, ActorProxy):
            return counterpart_object("Proxy", obj.actor_ref, obj._attr_path)
        if kind is Token:
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
    """Tell whether a function is one of those that a package has for its users."""
    return getattr(sys.modules.get(package), function.__name__, None) is function


def _functions_of(cls: type) -> Iterator[FunctionType]:
    """Return the functions that a class has in its body, those of its properties and class methods included."""
    for value in vars(cls).values():
        for part in (value, *(getattr(value, name, None) for name in ("__func__", "fget", "fset", "fdel", "func"))):
            if type(part) is FunctionType:
                yield part


def carry_by_value(module: str | None) -> None:
    """See that what a module has travels by value, if a child could not import the module."""
    if module is None or module in _seen:
        return
    _seen.add(module)
    known = sys.modules.get(module)
    if known is None or module == "__main__" or _importable(known):
        return
    cloudpickle.register_pickle_by_value(known)


_seen: Final[set[str]] = set()  # modules that were looked at


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
    """Return how a child finds a context variable, or makes one that is like it.

    Returns:
        the module and the name there, or nothing; its own name; and its default, if it has one.
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


def plain_arguments(args: tuple[Any, ...]) -> bytes | None:
    """Return arguments by position, pickled, if they are all of kinds that hold nothing else, and are small."""
    for value in args:
        if type(value) not in _PLAIN:
            return None
    payload = pickle.dumps(args, pickle.HIGHEST_PROTOCOL)
    return payload if len(payload) <= INLINE else None


def function_for(
    system: ProcessSystem, name: str, function: Any, *, generator: bool, context: Iterable[ContextVar[Any]]
) -> bytes:
    """Return a function as a child gets it.

    Raises:
        NotPicklable: it cannot be pickled, or something that it refers to.
    """
    try:
        payload = Carrier(system, in_band=True).pack((name, function, generator, tuple(context)))
    except Exception as error:
        raise NotPicklable(f"'{name}' cannot go to a child process: {cause(error)}") from error
    return b"".join(payload.pieces)


def not_picklable(
    system: ProcessSystem, operation: str, args: Iterable[Any], kwargs: Mapping[str, Any], error: BaseException
) -> NotPicklable:
    """Say which argument of a call cannot be pickled."""
    named = [(f"argument {number}", value) for number, value in enumerate(args)]
    named.extend((f"argument '{name}'", value) for name, value in kwargs.items())
    for name, value in named:
        try:
            Carrier(system).pack(value)
        except BaseException as own:
            kind = type(value).__qualname__
            return NotPicklable(f"{name} of {operation}, a {kind}, cannot go to a child process: {cause(own)}")
    return NotPicklable(f"the arguments of {operation} cannot go to a child process: {cause(error)}")


def cause(error: BaseException) -> str:
    """Return the type and the text of an error, whatever its class does."""
    return f"{type(error).__name__}: {safe_text(error)}"


# What comes back


def loading_for(system: ProcessSystem) -> None:
    """Have what is loaded on this thread resolved in a system."""
    _loading.system = system


def load(payload: Any, descriptor: int | None = None) -> Any:
    """Unpickle what a child has sent.

    Args:
        payload: the pickle, or the table of the file that has it.
        descriptor: of that file.
    """
    if descriptor is None:
        return pickle.loads(payload)
    stream, buffers = open_payload(descriptor, payload)
    return pickle.loads(stream, buffers=buffers)


def load_failure(failure: _wire.Failure, pid: int) -> BaseException:
    """Return the error that a child tells of; its traceback there is a note of it."""
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
    """Tell whether a child can have objects of a class: of the runtime's, only those that it has a twin of."""
    return id(cls) in _COUNTERPARTS or cls.__module__.partition(".")[0] not in _OURS


def reraise_ctrl_c(problem: BaseException) -> None:
    """Raise what was raised in the main thread by Ctrl-C, which is the program's; all else was the user's objects'."""
    if isinstance(problem, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise problem


def safe_text(error: BaseException) -> str:
    """Return the text of an error, whatever its class does."""
    try:
        return str(error)
    except BaseException:
        return safe_repr(error)


def found_ref(path: str) -> ActorRef[Any]:
    """Return the ref of an actor that comes back from a child."""
    return place_of(path, _loading.system).ref


def found_token(id: int) -> Token[Any]:
    """Return a token that comes back from a child."""
    token = token_of(id, _loading.system)
    if token is None:
        raise LookupError(f"token {id} is not known any more")
    return token


def found_operation(key: int) -> Any:
    """Return an operation that comes back from a child."""
    system: ProcessSystem = _loading.system
    return system.carried_operations[key]


def log_level() -> int:
    """Return the level from which log records of children are wanted: the lowest that a logger here has."""
    # `logging` empties the cache of every logger when a level changes anywhere.
    level: int | None = _logger._cache.get(_LEVEL)  # type: ignore[attr-defined]
    if level is None:
        loggers = [one for one in list(logging.root.manager.loggerDict.values()) if isinstance(one, logging.Logger)]
        level = min([logging.root.level, *(one.level for one in loggers if one.level)])
        level = max(level, logging.root.manager.disable + 1)
        _logger._cache[_LEVEL] = level  # type: ignore[attr-defined]
    return level
