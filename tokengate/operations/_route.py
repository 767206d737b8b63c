"""`Route`: calls that are tried at one of several operations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import (
    Any,
    Final,
    Generic,
    Literal,
    ParamSpec,
    Self,
    TypeAlias,
    TypeVar,
    cast,
    get_args,
    overload,
)

from actors import Token, TokenFailed
from actors.lowlevel import OperationPlace, place_of, submits_to_gate
from tokengate._exceptions import BadOperation
from tokengate.operations._current import current_gate, open_gates
from tokengate.operations._operation import AsyncOperation, Operation, _Operation, _result_of
from tokengate.operations._options import check_key
from tokengate.policy._failover import by_load
from tokengate.policy._policy import Policy

P = ParamSpec("P")
T = TypeVar("T")

Strategy: TypeAlias = Literal["failover", "least_busy"]
"""How an alternative is chosen: the first that does not fail, or the one with the fewest tokens per slot."""

TAG: Final = "route"
"""The tag with the name of the route that its tokens have."""


class Route(Generic[P, T]):
    """Several operations that do the same work: each call is one token, which is tried at one or more of them.

    The token keeps its id, its tags and its priority; its place, affinity and policy are those of the alternative that
    it is at, the deadline is that of the first one. Its tag `route` is the name of the route.

    Args:
        name: of the route.
        alternatives: operations of one signature: plain functions, or coroutine functions.
        strategy: with `failover` a token is tried at them in their order: at the next one when it is refused (by a
            breaker, a throttle, shedding or a full mailbox), and when its retries are used up; the last one's outcome
            is its outcome. With `least_busy` it goes to the one with the fewest tokens per slot of those that do not
            refuse it at the door, and stays there.

    Attributes:
        name: of the route.
        alternatives: the operations.
        strategy: how one is chosen.

    Raises:
        BadOperation: there is no alternative, something else among them, or functions and coroutine functions.
        ValueError: there is no such strategy, or the name is no text.
    """

    name: str
    alternatives: tuple[_Operation[P, T], ...]
    strategy: Strategy
    _key: str | int | None  # what its tokens share one run by

    @overload
    def __new__(
        cls, name: str, alternatives: Iterable[AsyncOperation[P, T]], strategy: Strategy = "failover"
    ) -> AsyncRoute[P, T]: ...
    @overload
    def __new__(
        cls, name: str, alternatives: Iterable[Operation[P, T]], strategy: Strategy = "failover"
    ) -> Route[P, T]: ...
    def __new__(cls, name: str, alternatives: Iterable[Any], strategy: Strategy = "failover") -> Any:
        if not isinstance(name, str) or not name:
            raise ValueError(f"name of a Route is {name!r}; it must be a text")
        if strategy not in get_args(Strategy):
            raise ValueError(f"strategy of Route {name!r} is {strategy!r}; choose one of {get_args(Strategy)}")
        operations = _checked(name, alternatives)
        route: Route[P, T] = object.__new__(AsyncRoute if operations[0]._spec.coroutine else Route)
        route.name, route.strategy, route._key = name, strategy, None
        route.alternatives = tuple(
            operation if TAG in operation.tags else operation.with_options(tags={TAG: name}) for operation in operations
        )
        return route

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Token[T]:
        """Do as `Operation.submit` does."""
        token = self._token(args, kwargs)
        return place_of(token).send(token)

    async def asubmit(self, *args: P.args, **kwargs: P.kwargs) -> Token[T]:
        """Do as `Operation.asubmit` does."""
        gate = current_gate()
        if gate is not None:
            await gate._await_first_use()
        token = self._token(args, kwargs)
        return await place_of(token).send_async(token)

    def map(self, items: Iterable[Any]) -> list[Token[T]]:
        """Submit one call for each item, as its only argument, and return the tokens in that order."""
        return [self.submit(item) for item in items]  # type: ignore[call-arg]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it like the plain function. The first attempt runs on this thread if it may begin at once.

        With no gate open the first function is called and nothing else happens.
        """
        if not open_gates:
            return cast("Operation[P, T]", self.alternatives[0])(*args, **kwargs)
        token = self._token(args, kwargs)
        place = cast("OperationPlace", place_of(token))
        turn = place.turn_here(token)
        try:
            return _result_of(place.send(token)) if turn is None else cast("T", turn.run())
        finally:
            del token, turn  # an error references this frame, which must not reference the error's owner

    def with_options(
        self,
        *,
        priority: int | None = None,
        tags: Mapping[str, str] | None = None,
        policy: Policy | None = None,
        key: str | int | None = None,
    ) -> Self:
        """Return the same route with other options for its tokens; see `Operation.with_options`.

        Raises:
            BadPolicy: the policy has parts whose states belong to an operation.
            ValueError: an option has a value that cannot work; or a key is for `least_busy`.
        """
        alternatives = [one.with_options(priority=priority, tags=tags, policy=policy) for one in self.alternatives]
        route = cast("Self", Route(self.name, cast("list[Operation[P, T]]", alternatives), self.strategy))
        route._key = self._key if key is None else check_key(self.name, key)
        if route._key is not None and self.strategy != "failover":
            raise ValueError(
                f"key of Route {self.name!r} is {key!r}, but its strategy is {self.strategy!r}, "
                "which would spread the calls with that key; use 'failover'"
            )
        return route

    def _token(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Token[T]:
        """Return a new token at the first alternative where it is to be tried, unsent."""
        if not open_gates and submits_to_gate():
            raise BadOperation(f"Route {self.name!r} was called in a child process; call it where the gate is")
        from tokengate.policy._policies import policies_of  # here, so that `import tokengate` takes less time

        places = [operation._place() for operation in self.alternatives]
        policies = policies_of(places[0])
        alternatives = [
            policies.alternative(place, operation._name, operation._function, operation._policy)
            for place, operation in zip(places, self.alternatives, strict=True)
        ]
        order = range(len(places)) if self.strategy == "failover" else by_load([_load(place) for place in places])
        first, *others = order
        token = self.alternatives[first]._held_token(places[first], args, kwargs)
        if self._key is not None:
            policies.identify(token, self._key)
        policies.route(
            token,
            [alternatives[other] for other in others],
            alternatives[0].policy.deadline,
            at_door_only=self.strategy == "least_busy",
        )
        return token

    def __reduce__(self) -> tuple[Any, ...]:
        return _route_of, (self.name, self.alternatives, self.strategy, self._key)

    def __repr__(self) -> str:
        return f"<Route {self.name!r}, {self.strategy} of {', '.join(one._name for one in self.alternatives)}>"


class AsyncRoute(Route[P, T]):
    """Several operations that are coroutine functions, and do the same work."""

    # Like `AsyncOperation` it is awaited; only code that takes it for a route of plain functions would see T here.
    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:  # type: ignore[override]
        """Await it like the plain coroutine function; cancelling that cancels the token.

        With no gate open the first function is awaited and nothing else happens.
        """
        if current_gate() is None:
            return await cast("AsyncOperation[P, T]", self.alternatives[0])(*args, **kwargs)
        token = await self.asubmit(*args, **kwargs)
        try:
            return await token
        except TokenFailed as error:
            raise error.__cause__ or error from None
        finally:
            token.cancel()  # only if the wait was cancelled: it does nothing to a token that has ended
            del token  # as in `Route.__call__`


def _route_of(
    name: str, alternatives: Iterable[Operation[..., Any]], strategy: Strategy, key: str | int | None
) -> Route[..., Any]:
    """Return a route; called when one is unpickled.

    Raises:
        BadOperation: this is a child process, whose operations are those of the gate.
    """
    if not all(issubclass(type(one), _Operation) for one in alternatives):
        remedy = "submit one of its operations, or have code of another affinity submit the route"
        raise BadOperation(
            f"Route {name!r} cannot be used in a child process, since the gate tries its calls; {remedy}"
        )
    return Route(name, alternatives, strategy).with_options(key=key)


def _checked(name: str, alternatives: Iterable[Any]) -> list[Any]:
    """Return the alternatives of a route, or raise `BadOperation`."""
    operations = list(alternatives) if isinstance(alternatives, Iterable) else [alternatives]
    if not operations:
        raise BadOperation(f"Route {name!r} has no alternatives; give it a list of operations")
    for one in operations:
        if not issubclass(type(one), _Operation):
            remedy = "put @token on a function, and take that (a bound method or another Route is none)"
            raise BadOperation(f"Route {name!r} has {one!r} among its alternatives, which is no operation; {remedy}")
        if one._key is not None:
            raise BadOperation(f"'{one._name}' of Route {name!r} has a key; give it to with_options of the route")
        if one._spec.batch is not None:
            raise BadOperation(
                f"'{one._name}' of Route {name!r} has a batch, which several tokens share; take one without"
            )
        if one._spec.consent:
            raise BadOperation(
                f"'{one._name}' of Route {name!r} needs consent to its calls, which is given to one operation only; "
                "take one without, and give consent to an operation that calls the route"
            )
        if one._spec.coroutine is not operations[0]._spec.coroutine:
            kinds = f"'{operations[0]._name}' and '{one._name}', of which one is a coroutine function"
            raise BadOperation(f"Route {name!r} has {kinds}, and one is not; take functions of one kind")
    return operations


def _load(place: OperationPlace) -> tuple[int, int]:
    figures = place.mailbox.statistics()
    return figures.depth + figures.active, place.mailbox.concurrency
