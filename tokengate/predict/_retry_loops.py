"""Retry loops: calls that fail again and again with one error, and actors that are restarted for one."""

from __future__ import annotations

from typing import Final

from tokengate.predict._table import Table

_TIMES: Final = 3
_MOST: Final = 10_000  # calls, and actors; those go that failed longest ago


class _Row:
    """The failures in a row that had one error."""

    __slots__ = ("error", "times")

    def __init__(self) -> None:
        self.error = ""
        self.times = 0

    def add(self, error: str) -> None:
        self.times = self.times + 1 if error == self.error else 1
        self.error = error


class RetryLoops:
    """Counts failures of calls and restarts of actors. Any thread may ask."""

    def __init__(self) -> None:
        self._calls: Table[tuple[str, str], _Row] = Table(_MOST, lambda _key: _Row())
        self._actors: Table[str, _Row] = Table(_MOST, lambda _key: _Row())
        self._operations: Table[str, bool] = Table(_MOST, lambda _key: True)  # those that had a loop

    def failed(self, operation: str, key: str, error: str) -> None:
        """Note that a call has failed; by the thread that learns.

        Args:
            operation: its name.
            key: of the call; calls without one are never the same.
            error: the class of its error.
        """
        if key:
            row = self._calls.use((operation, key))
            row.add(error)
            if row.times >= _TIMES:
                self._operations.use(operation)

    def succeeded(self, operation: str, key: str) -> None:
        """Note that a call has succeeded; by the thread that learns."""
        if key:
            self._calls.pop((operation, key), None)

    def restarted(self, actor: str, error: str) -> None:
        """Note that an actor is restarted after an error; by the thread of supervisors."""
        self._actors.use(actor).add(error)

    def any(self, operation: str, actor: str) -> bool:
        """Tell whether to ask for a call of an operation at an actor, since one of these has been in a loop."""
        return operation in self._operations or self._loops(self._actors.get(actor))

    def holds(self, operation: str, key: str, actor: str) -> bool:
        """Tell whether a call is in a loop, or the actor that it is for."""
        return self._loops(self._calls.get((operation, key))) or self._loops(self._actors.get(actor))

    @staticmethod
    def _loops(row: _Row | None) -> bool:
        return row is not None and row.times >= _TIMES
