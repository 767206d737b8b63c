"""Pickles what a child sends: counterparts of the runtime's names are pickled as the names in the gate."""

from __future__ import annotations

import importlib
import io
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final, TypeVar, cast

import cloudpickle

from ._payload import Payload

T = TypeVar("T")

_GATE: Final = "actors"  # the module in the gate that has the counterparts, under the same names
_CARRIER: Final = "actors.processes.pickling._carrier"  # the one with `found_ref`, `found_token`, `found_operation`
_HERE: Final = __name__.rpartition(".")[0]

# Bytes of a pickle from which its pickler is not used again: clearing the memo of a large pickle takes long.
_USED_UP: Final = 2048

_raw_dump = pickle.Pickler.dump


class _Module:
    """Pickles as a module of the gate."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self._name,)


_gate: Final = _Module(_GATE)


class _Finder:
    """Pickles as a function of the gate that looks up an object."""

    def __init__(self, name: str) -> None:
        self._reduced = getattr, (_Module(_CARRIER), name)

    def __call__(self) -> None:
        """Exist for pickle, which checks that a constructor can be called."""

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced


_same: Final[dict[int, str]] = {}  # {id of a class or function: its name here and in the gate}
_found: Final[
    dict[type, tuple[_Finder, Callable[[Any], Any]]]
] = {}  # {class: function that looks up its objects, and what returns their key}
_rebuilt: Final[dict[str, Callable[[Any], Any]]] = {}  # {name of such a function: what makes an object here}


def exchange(item: T) -> T:
    """Have a class or function pickled as the one with the same name in the gate."""
    _same[id(item)] = cast("Any", item).__name__
    return item


def exchange_found(cls: type, finder: str, key: Callable[[Any], Any], rebuild: Callable[[Any], Any]) -> None:
    """Have objects of a class pickled as a call of a function in the gate, which looks up the object.

    Args:
        cls: the class; not its subclasses.
        finder: name of the function, in `_carrier`.
        key: returns the function's argument for an object.
        rebuild: makes an object of the key here.
    """
    _found[cls] = (_Finder(finder), key)
    _rebuilt[finder] = rebuild


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles objects into a payload, one after the other; for one thread."""

    def __init__(self, *, in_band: bool = False) -> None:
        self.payload = payload = Payload()
        take_buffer = None if in_band else payload.take_buffer
        super().__init__(
            payload,
            protocol=pickle.HIGHEST_PROTOCOL,
            buffer_callback=take_buffer,  # pyright: ignore[reportCallIssue]
        )

    def reducer_override(self, item: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        name = _same.get(id(item))
        if name is not None:
            return getattr, (_gate, name)
        kind = type(item)
        found = _found.get(kind)
        if found is not None:
            finder, key = found
            return finder, (key(item),)
        if kind.__module__.startswith(_HERE) and cast("Any", kind).__reduce__ is object.__reduce__:
            raise pickle.PicklingError(f"a {kind.__name__} cannot leave its process")
        return super().reducer_override(item)


class Packer:
    """Pickles results; each must be sent before the next one is pickled."""

    __slots__ = ("_pickler",)

    def __init__(self) -> None:
        self._pickler = Pickler()

    def pack(self, item: Any) -> Payload:
        """Pickle an object.

        Raises:
            BaseException: whatever pickling it raised.
        """
        pickler = self._pickler
        payload = pickler.payload
        try:
            _raw_dump(pickler, item)
        except BaseException:
            self._pickler = Pickler()
            raise
        if len(payload.pieces) > 1 or len(payload.pieces[0]) > _USED_UP:
            self._pickler = Pickler()
        else:
            pickler.clear_memo()
            if pickler.globals_ref:
                pickler.globals_ref.clear()
        return payload


def dumps(item: Any) -> bytes:
    """Pickle an object into one piece."""
    pickler = Pickler(in_band=True)
    pickler.dump(item)
    return b"".join(pickler.payload.pieces)


def rebuild(data: bytes) -> Any:
    """Unpickle here what was pickled for the gate, to check that this is possible."""
    return _Rebuilder(io.BytesIO(data)).load()


class _Rebuilder(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("importlib", "import_module"):
            return _module_here
        return super().find_class(module, name)


def _module_here(name: str) -> Any:
    """Return a module, or what replaces it here if it is one of the gate."""
    if name == _CARRIER:
        return SimpleNamespace(**_rebuilt)
    return importlib.import_module(_HERE if name == _GATE else name)
