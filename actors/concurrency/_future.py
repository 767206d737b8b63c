"""A future that a program sets by hand, or that is made of other futures: pykka's, which trio can await as well."""

from __future__ import annotations

import functools
import queue
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self, TypeVar

import attrs
import pykka

from actors.concurrency._reply import Reply

if TYPE_CHECKING:
    from pykka._types import OptExcInfo

T = TypeVar("T")


@attrs.define(slots=True, eq=False, repr=False)
class Future(Reply[T], pykka.Future[T]):
    """A reply with `pykka.Future`'s ways of setting it: by hand, or by a hook that is called when somebody asks.

    `_create_future` of every actor class makes one, and so do `map`, `filter`, `join` and `reduce`.
    """

    _get_hook: Callable[[float | None], Any] | None = attrs.field(default=None, init=False)
    _sources: tuple[Any, ...] = attrs.field(default=(), init=False)  # what the hook reads; awaited before it is called

    @classmethod
    def made_of(cls, sources: tuple[Any, ...], hook: Callable[[float | None], T]) -> Self:
        """Return a future whose value `hook(timeout)` makes from the outcomes of other futures."""
        future = cls()
        future._get_hook, future._sources = hook, sources
        return future

    def set(self, value: T | None = None) -> None:
        """Set the value.

        Raises:
            queue.Full: the future has an outcome, or a hook to get it from.
        """
        if self._get_hook is not None or not self._set(value):
            raise queue.Full(f"{self._describe()} has its outcome already; set it once")

    def set_exception(self, exc_info: OptExcInfo | None = None) -> None:
        """Set an exception: that of `exc_info`, or the one that is being handled.

        Raises:
            queue.Full: the future has an outcome, or a hook to get it from.
            ValueError: there is no exception.
        """
        kind, error, traceback = sys.exc_info() if exc_info is None else exc_info
        if kind is None:
            raise ValueError(f"{self._describe()} got no exception: call set_exception in an except block, or pass one")
        error = kind() if error is None else error
        if self._get_hook is not None or not self._set(error=error.with_traceback(traceback)):
            raise queue.Full(f"{self._describe()} has its outcome already; set it once")

    def set_get_hook(self, func: Callable[[float | None], T]) -> None:
        """Have the value made by `func(timeout)` when it is first asked for; what it raises is not kept.

        Threads that ask at the same moment may each call it; the first value is everyone's.

        Raises:
            queue.Full: the future has an outcome.
        """
        if self._done:
            raise queue.Full(f"{self._describe()} has its outcome already; set a hook instead of it, not after it")
        self._get_hook = func

    def result(self, timeout: float | None = None) -> T:
        if self._get_hook is not None and not self._done:
            self._set(self._get_hook(timeout))
        return Reply.result(self, timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        if self._get_hook is None or self._done:
            return Reply.exception(self, timeout)
        try:
            self.result(timeout)
        except Exception as error:
            return error
        return None

    async def wait(self) -> None:
        if self._get_hook is None:
            await Reply.wait(self)
            return
        for source in self._sources:
            if isinstance(source, Reply):
                await source.wait()

    def map(self, func: Callable[[Any], Any]) -> pykka.Future[Any]:
        return Future.made_of((self,), lambda timeout: func(self.result(timeout)))

    def filter(self: Future[Any], func: Callable[[Any], bool]) -> pykka.Future[Iterable[Any]]:
        return Future.made_of((self,), lambda timeout: list(filter(func, self.get(timeout=timeout))))

    def join(self, *futures: Any) -> pykka.Future[Iterable[Any]]:
        every = (self, *futures)
        return Future.made_of(every, lambda timeout: [future.get(timeout=timeout) for future in every])

    def reduce(self: Future[Any], func: Callable[[Any, Any], Any], *args: Any) -> pykka.Future[Any]:
        return Future.made_of((self,), lambda timeout: functools.reduce(func, self.get(timeout=timeout), *args))

    def _describe(self) -> str:
        return "a future"
