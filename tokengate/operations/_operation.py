"""`@token`: a plain function whose calls are tokens."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Coroutine, Generator, Iterable, Mapping
from contextvars import ContextVar
from datetime import datetime
from functools import partial
from types import FunctionType, MappingProxyType, MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, Protocol, Self, TypeVar, cast, overload

import attrs
import trio

from actors import ActorSystem, BaseActor, Guard, Limits, Overflow, Prediction, Token, TokenFailed
from actors.lowlevel import (
    DEFAULT_CAPACITY,
    NO_LIMITS,
    NO_TAGS,
    OperationPlace,
    ProcessSystem,
    accepted_together,
    carried_as,
    counterpart_object,
    operation_finders,
    refuse_yield,
    submits_to_gate,
)
from tokengate._exceptions import BadOperation, NeedsGate
from tokengate.operations._bound import BoundAsyncOperation, BoundOperation
from tokengate.operations._current import current_gate, needs_gate, open_gates
from tokengate.operations._functions import (
    binds,
    copy_metadata,
    found_at,
    is_coroutine_function,
    is_generator_function,
    loaded_at,
    name_of,
    qualified_name_of,
)
from tokengate.operations._in_child import PlaceInParent
from tokengate.operations._options import (
    Affinity,
    FeatureSource,
    check_affinity,
    check_call_policy,
    check_consent,
    check_durable,
    check_features,
    check_function,
    check_key,
    check_moment,
    check_no_others,
    check_options,
    check_policy,
    check_priority,
    check_process_options,
    check_properties,
    check_queue,
    check_seconds,
    check_tags,
)
from tokengate.operations._ports import OpenGate
from tokengate.operations._spec import OperationSpec
from tokengate.policy._batch import await_alone, call_alone
from tokengate.policy._batch import check_function as check_batch
from tokengate.policy._policy import BatchPolicy, Policy, with_parts

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
C = TypeVar("C", bound=Callable[..., Any])
R = ParamSpec("R")
S = TypeVar("S")


def _of_code(name: str) -> property:
    """Return an attribute of operations that is read from their function; a callable without code does not have it."""
    return property(lambda operation: getattr(operation._plainly(), name))


class _Operation(Generic[P, T]):
    """Base of operations: makes and sends tokens.

    To code that inspects it, it is the function: it has its name, signature and attributes, binds as a method, and is
    pickled by its name.

    Attributes:
        priority: of its tokens; higher goes first.
        tags: of its tokens.
    """

    __wrapped__: Callable[..., Any]
    __name__: str
    __qualname__: str

    def __init__(self, spec: OperationSpec, priority: int, tags: Mapping[str, str]) -> None:
        copy_metadata(self, spec.function)  # first, since it copies the function's attributes, which may have any name
        self._spec = spec
        self._name, self._function = spec.name, spec.function
        # What a call is with no gate open; None: it needs one, or that of the parent of this process.
        self._plain: Callable[..., T] | None = spec.function
        self.priority = priority
        self.tags = tags
        # What the tokens of these options are held to, beside what the operation's are; what they share one run by.
        self._policy: Policy | None = None
        self._key: str | int | None = None
        self._is_held = False  # whether there is one of these

    @property
    def affinity(self) -> Affinity:
        """Where its tokens run."""
        return self._spec.affinity

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Token[T]:
        """Send a call to the current gate and return its token at once.

        It waits only while the operation's mailbox is full. A call that is refused returns a rejected token.

        Raises:
            NeedsGate: no gate is open.
            AmbiguousGate: several are open, and the call is within none of them.
        """
        place = self._place()
        if self._is_held:
            return place.send(self._held_token(place, args, kwargs))
        return place.send(place.token(self._name, self._function, args, kwargs, self.priority, self.tags))

    async def asubmit(self, *args: P.args, **kwargs: P.kwargs) -> Token[T]:
        """Do as `submit` does, awaiting room in the mailbox (trio and asyncio)."""
        gate = current_gate()
        place = self._place() if gate is None else gate._operations.get(self._spec) or await self._place_in(gate)
        if self._is_held:
            return await place.send_async(self._held_token(place, args, kwargs))
        token: Token[T] = place.token(self._name, self._function, args, kwargs, self.priority, self.tags)
        return await place.send_async(token)

    def submit_after(self, seconds: float, /, *args: P.args, **kwargs: P.kwargs) -> Token[T]:
        """Send a call that begins after so many seconds, and return its token at once.

        Its limits of time count from then on, and it inherits no deadline. A token that is not durable waits in the
        operation's mailbox, where it takes a place, until the process ends.

        Args:
            seconds: at least 0.
            args: positional arguments of the call.
            kwargs: keyword arguments of the call.

        Raises:
            BadOperation: its calls are put together in batches.
            ValueError: the seconds are no such number.
        """
        return self._submit_later(check_seconds(self._name, seconds), args, kwargs)

    def submit_at(self, moment: datetime, /, *args: P.args, **kwargs: P.kwargs) -> Token[T]:
        """Do as `submit_after` does, for a call that begins at a moment, by the wall clock; one that is past is now.

        Args:
            moment: with a timezone.
            args: positional arguments of the call.
            kwargs: keyword arguments of the call.

        Raises:
            BadOperation: its calls are put together in batches.
            ValueError: the moment has no timezone.
        """
        return self._submit_later(check_moment(self._name, moment), args, kwargs)

    async def asubmit_after(self, seconds: float, /, *args: P.args, **kwargs: P.kwargs) -> Token[T]:
        """Do as `submit_after` does, awaiting the disk, or room in the mailbox (trio and asyncio)."""
        return await self._asubmit_later(check_seconds(self._name, seconds), args, kwargs)

    async def asubmit_at(self, moment: datetime, /, *args: P.args, **kwargs: P.kwargs) -> Token[T]:
        """Do as `submit_at` does, awaiting the disk, or room in the mailbox (trio and asyncio)."""
        return await self._asubmit_later(check_moment(self._name, moment), args, kwargs)

    def _submit_later(self, when: float | datetime, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Token[T]:
        place = self._place()
        return place.send(self._held_token(place, args, kwargs, when))

    async def _asubmit_later(
        self, when: float | datetime, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Token[T]:
        gate = current_gate()
        place = self._place() if gate is None else gate._operations.get(self._spec) or await self._place_in(gate)
        return await place.send_async(self._held_token(place, args, kwargs, when))

    def _held_token(
        self,
        place: OperationPlace,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        when: float | datetime | None = None,
    ) -> Token[T]:
        """Return a token that is held to the policy of these options, and to their key, and is put off."""
        if isinstance(place, PlaceInParent):
            if self._policy is not None:
                raise BadOperation(f"'{self._name}' was given a policy in a child process; set it where the gate is")
            place.identity, place.when = self._key, when
            call = place.token(self._name, self._function, args, kwargs, self.priority, self.tags)
            return cast("Token[T]", call)
        token: Token[T] = place.token(self._name, self._function, args, kwargs, self.priority, self.tags)
        if self._is_held or when is not None:
            from tokengate.policy._policies import policies_of  # here, so that `import tokengate` takes less time

            policies = policies_of(place)
            if self._policy is not None:
                policies.hold(token, self._policy)
            if self._key is not None:
                policies.identify(token, self._key)
            if when is not None:
                policies.put_off(token, when)
        return token

    def map(self, items: Iterable[Any]) -> list[Token[T]]:
        """Submit one call for each item, as its only argument, and return the tokens in that order.

        Durable ones are accepted together, with one wait. An error of that has those that are on disk as `accepted`.
        """
        submit = cast("Callable[[Any], Token[T]]", self.submit)
        if not self._spec.properties.durable:
            return [submit(item) for item in items]
        items = list(items)  # before: its code may submit others
        with accepted_together():
            return [submit(item) for item in items]

    def predict(self, *args: P.args, **kwargs: P.kwargs) -> Prediction | None:
        """Return what would be expected of a call, without submitting it.

        Returns:
            None if that is not known: no gate is open, the current one has no `Predict`, or too few calls have ended.
        """
        gate = current_gate()
        place = None if gate is None else gate._operations[self._spec]
        predictor = None if place is None else place.system.predictor
        if predictor is None:
            return None
        return predictor.predict(place, self._name, args, kwargs, self.priority, self.tags)

    def with_options(
        self,
        *,
        priority: int | None = None,
        tags: Mapping[str, str] | None = None,
        policy: Policy | None = None,
        key: str | int | None = None,
    ) -> Self:
        """Return the same operation with other options for its tokens.

        Args:
            priority: in the place of the one it has.
            tags: in addition to those it has.
            policy: its times, retry and fallback, where they are set, in the place of those that it has.
            key: what names the work: while a call with this key has not ended, all others with it share its run and
                its outcome. Their arguments must be equal.

        Raises:
            BadPolicy: the policy has other parts, whose states belong to the operation.
            ValueError: an option has a value that cannot work.
        """
        return self._with(
            self.priority if priority is None else check_priority(self._spec.name, priority),
            self.tags if tags is None else MappingProxyType({**self.tags, **check_tags(self._spec.name, tags)}),
            self._policy if policy is None else with_parts(self._policy, check_call_policy(self._spec.name, policy)),
            self._key if key is None else check_key(self._spec.name, key),
        )

    def _with_key(self, key: str | int | None) -> Self:
        """Return the same operation with this key, or without one."""
        return self._with(self.priority, self.tags, self._policy, key)

    def _with(self, priority: int, tags: Mapping[str, str], policy: Policy | None, key: str | int | None) -> Self:
        """Return the same operation with these options."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)  # a tenth of the time that it takes to make one: each key needs its own
        other.priority, other.tags, other._policy, other._key = priority, tags, policy, key
        other._is_held = policy is not None or key is not None
        return other

    @overload
    def compensate(self, function: C, /) -> C: ...
    @overload
    def compensate(self, /, *, on: Literal["any"] | None = None, policy: Policy | None = None) -> Callable[[C], C]: ...
    def compensate(self, function: Any = None, /, *, on: str | None = None, policy: Policy | None = None) -> Any:
        """Declare how its tokens are undone if the transaction is rolled back that they are members of.

        ```python
        @charge.compensate
        def refund(done):
            bank.refund(done.result)
        ```

        Args:
            function: is called with a `Done`: the arguments, result and state of the call; itself an operation, or made
                one. A later one takes the place of an earlier one.
            on: `"any"` has it called after an error, too; else after a call that has completed, or of which it is
                unknown whether it has.
            policy: what its own tokens are held to.

        Returns:
            the same function.

        Raises:
            BadOperation: it cannot be an operation, or is one and is given a policy here.
            ValueError: `on` has a value that cannot work.
        """
        if on not in (None, "any"):
            raise ValueError(f"on of the compensation of '{self._name}' is {on!r}; it must be 'any' or None")

        def declare(function: Any) -> Any:
            operation = operation_in(function)
            if operation is None:
                operation = token(policy=policy)(function)
            elif policy is not None:
                raise BadOperation(f"'{operation._name}' is an operation already; give the policy to its @token")
            elif operation._spec.consent:
                raise BadOperation(
                    f"'{operation._name}' needs consent to its arguments, and a compensation is called with a Done, "
                    "which has no form in JSON; have it call an operation that needs consent"
                )
            self._spec.undo.operation, self._spec.undo.on_any = operation, on == "any"
            return function

        check_policy(policy)
        return declare if function is None else declare(function)

    def _token_for(
        self,
        system: ActorSystem,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        priority: int | None,
        tags: Mapping[str, str] | None,
        key: str | int | None = None,
        when: float | datetime | None = None,
    ) -> tuple[OperationPlace, Token[T]]:
        """Return a token of a call that comes from a child process of a system, unsent, and its place."""
        gate = next((gate for gate in list(open_gates) if gate._owns_system(system)), None)
        if gate is None:
            raise NeedsGate(f"the gate is closed to which '{self._spec.name}' was to be submitted")
        place = gate._operations[self._spec]
        if when is not None:
            (check_moment if isinstance(when, datetime) else check_seconds)(self._name, when)
        own = self.with_options(priority=priority, tags=tags)._with_key(key)
        return place, own._held_token(place, args, kwargs, when)

    def _place(self) -> OperationPlace:
        """Return the place that serves the operation in the current gate."""
        gate = current_gate()
        if gate is not None:
            return gate._operations[self._spec]
        if not submits_to_gate():
            raise needs_gate(f"to submit '{self._spec.name}' to")
        return cast("OperationPlace", PlaceInParent(f"{self.__module__}:{self.__qualname__}"))

    async def _place_in(self, gate: OpenGate) -> OperationPlace:
        """Return the place that serves the operation in a gate, which is opened first if it opens lazily."""
        await gate._await_first_use()
        return gate._operations[self._spec]

    # As a function

    if not TYPE_CHECKING:  # checkers are to know the names of this class only

        @property
        def __class__(self) -> type:
            # Frameworks check `isinstance(f, FunctionType)` before they call, inspect or bind something as a function.
            return FunctionType if type(self._spec.function) is FunctionType else type(self)

        # No `__getattr__` for these: it would slow down each call.
        __code__ = _of_code("__code__")
        __closure__ = _of_code("__closure__")
        __globals__ = _of_code("__globals__")
        __defaults__ = _of_code("__defaults__")
        __kwdefaults__ = _of_code("__kwdefaults__")

    def _plainly(self) -> object:
        """Return a function with the result of a call; code that inspects the operation sees the code of this one."""
        raise NotImplementedError

    def __set_name__(self, owner: type, name: str) -> None:
        if type.__subclasscheck__(BaseActor, owner):
            raise BadOperation(
                f"'{owner.__name__}.{name}' is an operation in an actor class, and would not wait for its turn at the "
                "actor: a method's calls through a proxy are tokens without @token; "
                "for an operation that is no method, write staticmethod(...) around it"
            )

    def __copy__(self) -> Self:
        """Return this very operation, as a copy of a function is that function."""
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        module, name = self.__module__, self.__qualname__
        found = found_at(module, name)
        if not self._is_at(found):
            raise pickle.PicklingError(
                f"operation '{self._name}' cannot be pickled by its name: '{module}.{name}' is "
                f"{'not there' if found is None else 'something else'}; define it at the top of a module, by this name"
            )
        return _operation_at, (module, name, self.priority, dict(self.tags), self._policy, self._key)

    def _is_at(self, found: object) -> bool:
        """Tell whether an object is this operation, with any options, or has it inside."""
        operation = operation_in(found)
        return operation is not None and operation._spec is self._spec

    def __repr__(self) -> str:
        return f"<{self.affinity} operation {self._spec.qualified_name}>"


class Operation(_Operation[P, T]):
    """A function, or a generator function, whose calls are tokens.

    The yields of a generator function only mark its steps; its return value is the result, with a gate and
    without one.
    """

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(
        self: Operation[Concatenate[S, R], T], instance: S, owner: type | None = None
    ) -> BoundOperation[R, T]: ...
    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None or not self._spec.binds else BoundOperation(self, instance)

    def __init__(self, spec: OperationSpec, priority: int, tags: Mapping[str, str]) -> None:
        super().__init__(spec, priority, tags)
        if spec.consent:
            self._plain = None
        elif spec.batch is not None:
            self._plain = partial(call_alone, spec.name, spec.function)
        elif spec.generator:
            self._plain = lambda *args, **kwargs: _exhaust(spec.function(*args, **kwargs))

    def _plainly(self) -> object:
        return (self._plain or type(self).__call__) if self._spec.generator else self._function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it like the plain function. The token runs on this thread if it may begin at once, else it is queued.

        With no gate open the function is called and nothing else happens.
        """
        plain = self._plain
        if not open_gates:
            if plain is None or (self._key is not None and submits_to_gate()):  # in a child process
                return self.submit(*args, **kwargs).result()
            # To pass on no keywords takes a dict.
            return plain(*args, **kwargs) if kwargs else plain(*args)
        place = self._place()
        governor = place.governor
        if (
            governor is not None
            and plain is not None
            and governor.is_off(self._name, args, kwargs, self.priority, self.tags)
        ):
            return plain(*args, **kwargs)
        token: Token[T]
        if not self._is_held:
            token = place.token(self._name, self._function, args, kwargs, self.priority, self.tags)
        else:
            token = self._held_token(place, args, kwargs)
        turn = place.turn_here(token)
        try:
            if turn is None:
                place.send(token)
                return _result_of(token)
            return turn.run()  # type: ignore[no-any-return]  # a cast would cost a call
        finally:
            del token, turn  # an error references this frame, which must not reference the error's owner


class _DurableOperation(Operation[P, T]):
    """One whose tokens are durable: a call in a child process is a token of the gate, too."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it in its gate; with no gate open, like the plain function."""
        if not open_gates and submits_to_gate():
            return self.submit(*args, **kwargs).result()
        return super().__call__(*args, **kwargs)


class AsyncOperation(_Operation[P, T]):
    """A coroutine function whose calls are tokens."""

    def _runs_here(self, place: OperationPlace) -> bool:
        """Tell whether the running loop is one of the kind that the function is for."""
        return (place.affinity == "io") == trio.lowlevel.in_trio_task()

    def _plainly(self) -> object:
        return self._function if hasattr(self._function, "__code__") else type(self).__call__

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(
        self: AsyncOperation[Concatenate[S, R], T], instance: S, owner: type | None = None
    ) -> BoundAsyncOperation[R, T]: ...
    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None or not self._spec.binds else BoundAsyncOperation(self, instance)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await it like the plain coroutine function; cancelling that cancels the token.

        An asyncio operation runs in the calling task if it may begin at once, else it is queued. With no gate open the
        function is awaited and nothing else happens.

        Raises:
            NeedsGate: awaited from asyncio with no gate open, and the affinity is `io`: the function is trio code.
        """
        gate = current_gate()
        if gate is None:
            goes_to_gate = self._key is not None or self._spec.properties.durable
            if self._spec.consent or (goes_to_gate and submits_to_gate()):  # the loop of a child process waits
                return self.submit(*args, **kwargs).result()
            if self._spec.affinity == "io" and not self._spec.inferred and not trio.lowlevel.in_trio_task():
                raise NeedsGate(f"'{self._spec.name}' is trio code: await it in trio, or with a gate open")
            if self._spec.batch is not None:
                return cast("T", await await_alone(self._name, self._function, *args, **kwargs))
            return cast("T", await self._function(*args, **kwargs))
        place = gate._operations.get(self._spec) or await self._place_in(gate)
        governor = place.governor
        if (
            governor is not None
            and self._runs_here(place)
            and governor.is_off(self._name, args, kwargs, self.priority, self.tags)
        ):
            return cast("T", await self._function(*args, **kwargs))
        token: Token[T]
        if not self._is_held:
            token = place.token(self._name, self._function, args, kwargs, self.priority, self.tags)
        else:
            token = self._held_token(place, args, kwargs)
        turn = place.awaited_turn(token)
        try:
            if turn is not None:
                return await turn.run()  # type: ignore[no-any-return]  # a cast would cost a call
            try:
                await place.send_async(token)
                return await token
            except TokenFailed as error:
                raise error.__cause__ or error from None
            finally:
                token.cancel()  # only if the wait was cancelled: it does nothing to a token that has ended
        finally:
            del token, turn  # as in `Operation.__call__`


def _result_of(token: Token[T]) -> T:
    """Wait for a token, and return its result as its function would, or raise what that raised."""
    try:
        return token.result()
    except TokenFailed as error:
        raise error.__cause__ or error from None
    finally:
        del token  # as in `Operation.__call__`


# The overloads go from the special to the general on purpose: a coroutine function is a plain one to the last.
@overload
def token(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    function: Callable[P, Coroutine[Any, Any, T]], /
) -> AsyncOperation[P, T]: ...
@overload
def token(function: Callable[P, Generator[Any, Any, T]], /) -> Operation[P, T]: ...
@overload
def token(function: Callable[P, T], /) -> Operation[P, T]: ...
@overload
def token(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    *,
    affinity: Affinity | None = None,
    priority: int = 0,
    tags: Mapping[str, str] | None = None,
    concurrency: int | None = None,
    capacity: int = DEFAULT_CAPACITY,
    overflow: Overflow = "wait",
    guard: Guard = "none",
    show: Collection[str] = (),
    idempotent: bool = False,
    durable: Literal[False] = False,
    policy: BatchPolicy,
    consent: None = None,
    limits: Limits = NO_LIMITS,
    context: Iterable[ContextVar[Any]] = (),
    features: FeatureSource = "auto",
) -> _BatchDecorator: ...
@overload
def token(
    *,
    affinity: Affinity | None = None,
    priority: int = 0,
    tags: Mapping[str, str] | None = None,
    concurrency: int | None = None,
    capacity: int = DEFAULT_CAPACITY,
    overflow: Overflow = "wait",
    guard: Guard = "none",
    show: Collection[str] = (),
    idempotent: bool = False,
    durable: bool = False,
    policy: Policy | None = None,
    consent: Literal["approval"] | None = None,
    limits: Limits = NO_LIMITS,
    context: Iterable[ContextVar[Any]] = (),
    features: FeatureSource = "auto",
) -> _Decorator: ...
def token(
    function: Callable[..., Any] | None = None,
    /,
    *,
    affinity: Affinity | None = None,
    priority: int = 0,
    tags: Mapping[str, str] | None = None,
    concurrency: int | None = None,
    capacity: int = DEFAULT_CAPACITY,
    overflow: Overflow = "wait",
    guard: Guard = "none",
    show: Collection[str] = (),
    idempotent: bool = False,
    durable: bool = False,
    policy: Policy | None = None,
    consent: Literal["approval"] | None = None,
    limits: Limits = NO_LIMITS,
    context: Iterable[ContextVar[Any]] = (),
    features: FeatureSource = "auto",
    **others: object,
) -> Any:
    """Turn a function into an operation, whose calls are tokens while a gate is open.

    Args:
        function: a plain function, a coroutine function (trio code, unless its affinity is `asyncio`) or a generator
            function (one step between two yields).
        affinity: `io` (a trio task; the default for coroutine functions, see `Gate(coroutines=...)`), `asyncio` (an
            asyncio task, in the loop that calls), `cpu` (a thread; for all others) or `process` (a child process, to
            which the function, arguments and result are pickled).
        priority: of its tokens; higher goes first.
        tags: labels of its tokens.
        concurrency: tokens of it that run at once. None: 1,000 for coroutine and generator functions, which
            make room between their steps, and the number of CPU threads for plain ones; with affinity `process`, the
            size of the gate's pool of processes.
        capacity: tokens that may be queued before senders wait.
        overflow: what happens to a token that finds the queue full.
        guard: what operators need in order to end or pause one of its tokens, or to lower its limits: `none` (nothing),
            `force`, `approval` of another operator (which is asked for as `force` so far); with `never` they can only
            look at it.
        show: names of parameters whose values operators see if they are of built-in types, or `*` for all; of others
            they see types and sizes.
        idempotent: whether it does no harm to run one of its tokens twice.
        durable: whether its tokens survive the process, in a gate with a `Journal`; see docs/durability.md.
        policy: what its tokens are held to: times, retries, breaker, throttles, budget.
        consent: with `approval`, each call waits until another person has agreed to it and its arguments, which must
            have a form in JSON; see docs/policies.md. It needs an open gate.
        limits: what each of its tokens may use of its process; with affinity `process`.
        context: the context variables whose values cross to the process; with affinity `process`.
        features: a function of the same arguments that returns at most 8 numbers by name, by which a gate with
            `Predict` predicts what a token needs; `auto` takes the parameters that are annotated with a `Feature`, or
            the sizes of those in `show`; None: none.
        others: none; a name that is no option is an error that says what to write instead.

    Raises:
        BadOperation: the function cannot be run like that.
        TypeError: there is no such option.
        ValueError: an option has a value that cannot work.
    """
    check_no_others(others)
    decorator = _Decorator(
        affinity,
        priority,
        tags or NO_TAGS,
        concurrency,
        capacity,
        overflow,
        guard,
        show,
        idempotent,
        durable,
        check_policy(policy),
        consent,
        limits,
        check_process_options(limits, context),
        features,
    )
    return decorator if function is None else decorator(function)


@attrs.frozen
class _Decorator:
    """`@token(...)`: the options; called with the function."""

    affinity: Affinity | None
    priority: int
    tags: Mapping[str, str]
    concurrency: int | None
    capacity: int
    overflow: Overflow
    guard: Guard
    show: Collection[str]
    idempotent: bool
    durable: bool
    policy: Policy | None
    consent: Literal["approval"] | None
    limits: Limits
    context: tuple[ContextVar[Any], ...]
    features: FeatureSource

    @overload
    def __call__(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, function: Callable[P, Coroutine[Any, Any, T]], /
    ) -> AsyncOperation[P, T]: ...
    @overload
    def __call__(self, function: Callable[P, Generator[Any, Any, T]], /) -> Operation[P, T]: ...
    @overload
    def __call__(self, function: Callable[P, T], /) -> Operation[P, T]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        if isinstance(function, staticmethod):
            return staticmethod(self(function.__func__))
        if isinstance(function, classmethod):
            return _ClassMethod(self(function.__func__))
        name = name_of(function)
        if operation_in(function, inside=False) is not None:
            raise BadOperation(f"'{name}' is an operation already; use with_options for another priority or tags")
        check_function(name, function)
        coroutine = is_coroutine_function(function)
        affinity = self.affinity or ("io" if coroutine else "cpu")
        check_affinity(name, affinity, coroutine)
        check_options(name, affinity, self.limits, self.context)
        check_queue(name, self.concurrency, self.capacity, self.overflow)
        generator = is_generator_function(function)
        if self.policy is not None and self.policy.batch is not None:
            check_batch(name, function, self.policy.batch, generator=generator)
        check_consent(name, self.consent, self.policy)
        if self.durable is True:
            check_durable(name, function, self.policy, self.consent)
        spec = OperationSpec(
            name=name,
            qualified_name=qualified_name_of(function),
            function=function,
            affinity=affinity,
            binds=binds(function),
            generator=generator,
            coroutine=coroutine,
            concurrency=self.concurrency,
            capacity=self.capacity,
            overflow=self.overflow,
            properties=check_properties(name, function, self.guard, self.show, self.idempotent, self.durable),
            policy=self.policy,
            limits=self.limits,
            context=self.context,
            consent=self.consent is not None,
            features=check_features(name, self.features),
            inferred=self.affinity is None,
        )
        kind = AsyncOperation if coroutine else _DurableOperation if self.durable else Operation
        return kind(spec, check_priority(name, self.priority), MappingProxyType(dict(check_tags(name, self.tags))))


class _BatchDecorator(Protocol):
    """What type checkers take `@token(policy=Policy(batch=...))` for: the operation is called with one."""

    @overload
    def __call__(
        self, function: Callable[[list[A]], Coroutine[Any, Any, Iterable[T | Exception]]], /
    ) -> AsyncOperation[[A], T]: ...
    @overload
    def __call__(self, function: Callable[[list[A]], Iterable[T | Exception]], /) -> Operation[[A], T]: ...


class _ClassMethod(classmethod):  # type: ignore[type-arg]
    """A class method that is an operation, as Python before 3.13 would bind it: with `submit`."""

    def __get__(self, instance: object, owner: type | None = None, /) -> Any:
        return cast("Any", self.__func__).__get__(type(instance) if owner is None else owner)

    def __reduce__(self) -> tuple[Any, ...]:
        return classmethod, (self.__func__,)  # in a child process, where the operation is a counterpart


def operation_in(found: Any, *, inside: bool = True) -> _Operation[..., Any] | None:
    """Return the operation that an object is, bound or not, or that a decorator has wrapped; None if there is none.

    Args:
        found: the object.
        inside: whether to look into what decorators have wrapped.
    """
    while found is not None:
        kind = type(found)
        if issubclass(kind, _Operation):
            return cast("_Operation[..., Any]", found)
        bound = issubclass(kind, BoundOperation | BoundAsyncOperation | MethodType)
        found = found.__func__ if bound else getattr(found, "__wrapped__", None) if inside else None
    return None


def _operation_at(
    module: str,
    name: str,
    priority: int,
    tags: Mapping[str, str],
    policy: Policy | None = None,
    key: str | int | None = None,
) -> _Operation[..., Any]:
    """Return the operation with this name and these options; called when one is unpickled."""
    found = operation_in(found_at(module, name))
    if found is None:
        raise pickle.UnpicklingError(f"there is no operation '{module}.{name}' in this process")
    if (found.priority, found.tags, found._policy, found._key) == (priority, tags, policy, key):
        return found
    return found._with(priority, MappingProxyType(tags), policy, key)


def _carry_operation(operation: _Operation[..., Any], system: ProcessSystem) -> tuple[Any, ...]:
    """Return the pickled form of an operation for a child process; its key is its name, if it is found by that."""
    known = system.carried_operations
    is_known = (key for key, one in list(known.items()) if _serves(one, operation))
    key: int | str | None = next(is_known, None)
    if key is None:
        name = f"{operation.__module__}:{operation.__qualname__}"
        at_name = operation_in(found_at(operation.__module__, operation.__qualname__))
        by_name = at_name is not None and _serves(at_name, operation) and name not in known
        key = name if by_name else system.next_name()
    known.setdefault(key, operation)  # its options cross with it
    options = operation.priority, dict(operation.tags), operation._key
    return counterpart_object("Operation", key, operation._spec.name, *options)


def _serves(one: _Operation[..., Any], operation: _Operation[..., Any]) -> bool:
    """Tell whether an operation makes the tokens of another one; priority, tags and key cross each time."""
    return one._spec is operation._spec and one._policy == operation._policy


def operation_named(name: str) -> _Operation[..., Any] | None:
    """Return the operation with a name, `module:qualified name`, or None; no module is imported, nor waited for."""
    module, _, qualified = name.partition(":")
    return operation_in(loaded_at(module, qualified))


carried_as[_Operation] = _carry_operation
operation_finders.append(operation_named)


def _exhaust(steps: Generator[Any, Any, T]) -> T:
    """Run a generator to its end and return its return value."""
    while True:
        try:
            value = next(steps)
            if value is not None:
                refuse_yield(steps, value)
        except StopIteration as stop:
            return cast("T", stop.value)
