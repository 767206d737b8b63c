"""The places of a gate's operations: one for each, made at its first call."""

from __future__ import annotations

import threading
from collections.abc import Callable

from actors import ActorSystem
from actors.lowlevel import OperationPlace
from tokengate._exceptions import BadOperation
from tokengate.operations._options import Affinity
from tokengate.operations._spec import OperationSpec

_FOLDER = "operations"  # first part of the paths of operations


class OperationTable(dict[OperationSpec, OperationPlace]):
    """{spec of an operation: its place in the gate}; looking up one that is not there yet makes it.

    It is a dict since each call of an operation looks its place up.

    Args:
        open_system: returns the system of the gate, or raises `GateState` if the gate is not open.
        coroutines: the affinity of coroutine functions that were given none.
    """

    def __init__(self, open_system: Callable[[], ActorSystem], coroutines: Affinity) -> None:
        super().__init__()
        self._open_system = open_system
        self._coroutines: Affinity = coroutines
        # {variant with another affinity: the operation as it was decorated}
        self._variants: dict[OperationSpec, OperationSpec] = {}
        self._lock = threading.Lock()

    def renew(self) -> None:
        """Be empty, with a lock that no thread holds."""
        self.clear()
        self._variants.clear()
        self._lock = threading.Lock()

    def __missing__(self, spec: OperationSpec) -> OperationPlace:
        system = self._open_system()  # before the lock: it may open the gate, whose actors use the table
        with self._lock:
            place = self.get(spec)
            if place is None:  # else another thread has made it in the meantime
                taken = {known.path for known in self.values()}
                path = f"{_FOLDER}/{spec.name}"
                if path in taken:
                    path = f"{_FOLDER}/{spec.qualified_name}"
                if path in taken:
                    path = f"{path}-{len(taken)}"
                unused = system.place_at(path)
                if unused is not None:
                    system.forget(unused)  # left by a call that was interrupted before it could enter its place here
                place = self[spec] = spec.in_gate(self._coroutines).make_place(system, path)
        return place

    def with_affinity(self, place: OperationPlace, affinity: str) -> OperationPlace:
        """Return the place of the same operation with another affinity, made at its first use.

        Raises:
            BadOperation: the operation cannot have it, or the place is not one of `@token`.
        """
        spec = next((spec for spec, known in list(self.items()) if known is place), None)
        if spec is None:
            raise BadOperation(f"'{place.path}' has one affinity only, '{place.affinity}'")
        base = self._variants.get(spec, spec)
        if self[base].affinity == affinity:
            return self[base]
        variant = next((v for v, known in self._variants.items() if known is base and v.affinity == affinity), None)
        if variant is None:
            variant = base.with_affinity(affinity)
            self._variants[variant] = base
        return self[variant]
