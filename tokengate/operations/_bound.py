"""Operations that are methods, bound to an instance."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from copy import deepcopy
from datetime import datetime
from operator import methodcaller
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, Self, TypeVar

from actors import Prediction, Token
from tokengate.policy._policy import Policy

P = ParamSpec("P")
T = TypeVar("T")


class _Unbound(Protocol):
    """The operation of a method, whose first argument is the instance."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    def submit(self, *args: Any, **kwargs: Any) -> Token[Any]: ...
    async def asubmit(self, *args: Any, **kwargs: Any) -> Token[Any]: ...
    def submit_after(self, seconds: float, /, *args: Any, **kwargs: Any) -> Token[Any]: ...
    def submit_at(self, moment: datetime, /, *args: Any, **kwargs: Any) -> Token[Any]: ...
    async def asubmit_after(self, seconds: float, /, *args: Any, **kwargs: Any) -> Token[Any]: ...
    async def asubmit_at(self, moment: datetime, /, *args: Any, **kwargs: Any) -> Token[Any]: ...
    def predict(self, *args: Any, **kwargs: Any) -> Prediction | None: ...
    def with_options(
        self,
        *,
        priority: int | None = None,
        tags: Mapping[str, str] | None = None,
        policy: Policy | None = None,
        key: str | int | None = None,
    ) -> _Unbound: ...


class _Bound(Generic[P, T]):
    """Base of bound operations: each call has the instance as its first argument.

    To code that inspects it, it is a bound method.
    """

    def __init__(self, operation: _Unbound, instance: object) -> None:
        self.__func__ = operation
        self.__self__ = instance
        self.__doc__, self.__module__ = operation.__doc__, operation.__module__  # the class has these, too

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Token[T]:
        """Do as `Operation.submit` does."""
        return self.__func__.submit(self.__self__, *args, **kwargs)

    async def asubmit(self, *args: P.args, **kwargs: P.kwargs) -> Token[T]:
        """Do as `Operation.asubmit` does."""
        return await self.__func__.asubmit(self.__self__, *args, **kwargs)

    def submit_after(self, seconds: float, /, *args: P.args, **kwargs: P.kwargs) -> Token[T]:
        """Do as `Operation.submit_after` does."""
        return self.__func__.submit_after(seconds, self.__self__, *args, **kwargs)

    def submit_at(self, moment: datetime, /, *args: P.args, **kwargs: P.kwargs) -> Token[T]:
        """Do as `Operation.submit_at` does."""
        return self.__func__.submit_at(moment, self.__self__, *args, **kwargs)

    async def asubmit_after(self, seconds: float, /, *args: P.args, **kwargs: P.kwargs) -> Token[T]:
        """Do as `Operation.asubmit_after` does."""
        return await self.__func__.asubmit_after(seconds, self.__self__, *args, **kwargs)

    async def asubmit_at(self, moment: datetime, /, *args: P.args, **kwargs: P.kwargs) -> Token[T]:
        """Do as `Operation.asubmit_at` does."""
        return await self.__func__.asubmit_at(moment, self.__self__, *args, **kwargs)

    def predict(self, *args: P.args, **kwargs: P.kwargs) -> Prediction | None:
        """Do as `Operation.predict` does."""
        return self.__func__.predict(self.__self__, *args, **kwargs)

    def map(self, items: Iterable[Any]) -> list[Token[T]]:
        """Submit one call for each item, as the argument after the instance, and return the tokens in that order."""
        return [self.__func__.submit(self.__self__, item) for item in items]

    def with_options(
        self,
        *,
        priority: int | None = None,
        tags: Mapping[str, str] | None = None,
        policy: Policy | None = None,
        key: str | int | None = None,
    ) -> Self:
        """Do as `Operation.with_options` does."""
        operation = self.__func__.with_options(priority=priority, tags=tags, policy=policy, key=key)
        return type(self)(operation, self.__self__)

    if not TYPE_CHECKING:  # checkers are to know the names above only

        @property
        def __class__(self) -> type:
            return MethodType

        def __getattr__(self, name: str) -> Any:
            return getattr(self.__func__, name)  # as a bound method does

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the operation bound to a copy of the instance, as a copy of a bound method is."""
        return type(self)(self.__func__, deepcopy(self.__self__, memo))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bound) and self.__self__ is other.__self__ and bool(self.__func__ == other.__func__)

    def __hash__(self) -> int:
        return hash((id(self.__self__), self.__func__))

    def __reduce__(self) -> tuple[Callable[[Any], Any], tuple[Any]]:
        return methodcaller("__get__", self.__self__), (self.__func__,)

    def __repr__(self) -> str:
        return f"<bound {repr(self.__func__)[1:-1]} of {self.__self__!r}>"


class BoundOperation(_Bound[P, T]):
    """An operation that is a method, bound to an instance."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it like the plain method."""
        return self.__func__(self.__self__, *args, **kwargs)  # type: ignore[no-any-return]


class BoundAsyncOperation(_Bound[P, T]):
    """An operation that is a coroutine method, bound to an instance."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """Await it like the plain coroutine method."""
        return self.__func__(self.__self__, *args, **kwargs)  # type: ignore[no-any-return]
