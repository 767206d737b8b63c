"""An operation can stand wherever other code expects its function."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
import typing
from collections.abc import Generator, Iterator
from functools import lru_cache, partial, singledispatch, wraps
from types import FunctionType, MethodType
from typing import Annotated, Any

import cloudpickle
import pytest

from tokengate import CpuActor, Gate, TokenState, token
from tokengate.errors import BadOperation, GateState
from tokengate.operations._bound import BoundAsyncOperation, BoundOperation

WAIT = 60.0  # seconds; only reached when something is broken


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("test", processes=1, shutdown=5.0) as gate:
        yield gate


@token(priority=1, tags={"a": "1"})
def add(a: Annotated[int, "the first"], b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@token
async def double(n: int) -> int:
    """Double a number."""
    return 2 * n


@token
def count(n: int) -> Generator[None, None, int]:
    for _ in range(n):
        yield
    return n


class Shop:
    """Business code: its methods are operations."""

    def __init__(self, price: int) -> None:
        self.price = price

    @token
    def total(self, number: int) -> int:
        """Return what so many cost."""
        return self.price * number

    @token
    async def later(self, number: int) -> int:
        return self.price * number

    @token
    @staticmethod
    def tax(amount: int) -> int:
        return amount // 5

    @token  # type: ignore[arg-type]
    @classmethod
    def named(cls, name: str) -> str:
        return f"{cls.__name__} {name}"

    @token(affinity="process")
    def crunch(self, number: int) -> int:
        return self.total(number)


@lru_cache
@token
def cached_above(n: int) -> int:
    return n


@token
@lru_cache
def cached_below(n: int) -> int:
    return n


class Adder:
    def __init__(self, by: int) -> None:
        self.by = by

    def __call__(self, n: int) -> int:
        return n + self.by


class AsyncAdder(Adder):
    async def __call__(self, n: int) -> int:  # type: ignore[override]
        return n + self.by


@token(affinity="process")
def called_in_child(operation: Any, *args: Any) -> tuple[str, Any, Any]:
    return str(getattr(operation, "key", "")), operation(*args), operation.submit(*args).result()


@token(affinity="process")
def returned(anything: Any) -> Any:
    return anything


# Pickling and copying


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_operation_is_pickled_by_its_name(protocol: int) -> None:
    """It is found again in its module, in a class, below decorators above it."""
    for operation in (add, double, count, Shop.total, Shop.later, Shop.tax, cached_below, cached_above.__wrapped__):
        assert pickle.loads(pickle.dumps(operation, protocol)) is operation
    assert pickle.loads(cloudpickle.dumps(add, protocol)) is add
    assert b"Add two" not in pickle.dumps(add, protocol)


def test_cloudpickle_takes_what_has_no_name_as_a_plain_function() -> None:
    """As it takes local functions, and those of a script: by value."""

    @token
    def local(n: int) -> Generator[None, None, int]:
        yield
        return n

    assert pickle.loads(cloudpickle.dumps(local))(3) == 3
    assert pickle.loads(cloudpickle.dumps(add.with_options(priority=3)))(3) == 4


def test_the_options_of_an_operation_are_pickled_with_it() -> None:
    """Those that `with_options` has changed."""
    other = add.with_options(priority=5, tags={"b": "2"})
    loaded = pickle.loads(pickle.dumps(other))

    assert (loaded.priority, dict(loaded.tags), loaded._spec) == (5, {"a": "1", "b": "2"}, add._spec)
    assert pickle.loads(pickle.dumps(add)).tags == {"a": "1"}


def test_a_bound_operation_is_pickled_with_its_instance() -> None:
    """As a bound method is."""
    shop, other = pickle.loads(pickle.dumps((Shop(3).total, Shop.named)))

    assert (shop.__self__.price, shop(2)) == (3, 6)
    assert other("a") == "Shop a"


def test_an_operation_that_is_not_found_by_its_name_says_so() -> None:
    """A local one, one that something else has replaced, and one without a name of its own."""

    @token
    def local() -> None: ...

    for operation, said in ((local, "local"), (token(partial(add, 1)), "add"), (token(len), "len")):
        with pytest.raises(pickle.PicklingError, match=rf"operation '{said}' cannot be pickled by its name"):
            pickle.dumps(operation)


def test_an_operation_that_is_gone_where_it_is_unpickled_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process has another version of the module."""
    data = pickle.dumps(add)
    monkeypatch.delitem(globals(), "add")

    with pytest.raises(pickle.UnpicklingError, match=r"no operation '.*test_functions.add' in this process"):
        pickle.loads(data)


def test_an_operation_of_a_module_travels_to_a_child_by_its_name(gate: Gate) -> None:
    """Its calls there are tokens of the gate; what comes back is the operation itself."""
    key, direct, submitted = called_in_child.submit(add, 4).result(WAIT)

    assert (key, direct, submitted) == (f"{__name__}:add", 5, 5)
    assert returned.submit(add).result(WAIT) is add
    assert returned.submit(Shop.total).result(WAIT) is Shop.total

    @token
    def local(n: int) -> int:
        return -n

    assert called_in_child.submit(local, 4).result(WAIT)[1:] == (-4, -4)
    assert returned.submit(local).result(WAIT) is local


def test_a_bound_operation_travels_to_a_child_and_back(gate: Gate) -> None:
    """With its instance."""
    back = returned.submit(Shop(4).total).result(WAIT)

    assert called_in_child.submit(Shop(4).total, 3).result(WAIT)[1:] == (12, 12)
    assert (back.__func__, back.__self__.price) == (Shop.total, 4)
    assert called_in_child.submit(Shop.named, "a").result(WAIT)[1:] == ("Shop a", "Shop a")


def test_a_copy_of_an_operation_is_that_operation() -> None:
    """As a copy of a function is; a job store that keeps one finds its place again."""
    assert copy.copy(add) is add
    assert copy.deepcopy([double])[0] is double


def test_a_copy_of_a_bound_operation_is_bound_to_a_copy_of_its_instance() -> None:
    """As a copy of a bound method is; a class, of which a copy is that class, stays the same."""
    shop = Shop(3)
    total, same_shop = copy.deepcopy([shop.total, shop])

    assert (total.__func__, total.__self__) == (Shop.total, same_shop)
    assert (same_shop.price, same_shop is shop) == (3, False)
    assert copy.copy(shop.total) == shop.total
    assert copy.deepcopy(Shop.named) == Shop.named


# Methods


def test_an_operation_is_a_method_of_its_class(gate: Gate) -> None:
    """Bound to the instance, it has what the operation has."""
    shop = Shop(3)
    t = shop.total.submit(2)

    assert shop.total(4) == 12
    assert t.result(WAIT) == 6
    assert (t.operation, t.actor) == ("total", "operations/total")
    assert [t.result(WAIT) for t in shop.total.map([1, 2])] == [3, 6]
    assert shop.total.with_options(priority=4).submit(1).priority == 4
    assert shop.later.submit(2).result(WAIT) == 6
    assert Shop.total.submit(shop, 5).result(WAIT) == 15

    async def main() -> tuple[int, int]:
        return await shop.later(3), await (await shop.later.asubmit(4))

    assert asyncio.run(main()) == (9, 12)


def test_a_method_is_a_method_without_a_gate() -> None:
    """It is the plain method."""
    assert Shop(3).total(4) == 12


def test_a_method_may_run_in_a_child_process(gate: Gate) -> None:
    """With its instance."""
    assert Shop(2).crunch.submit(5).result(WAIT) == 10


def test_static_and_class_methods_are_operations(gate: Gate) -> None:
    """Of the class and of an instance; `@token` stands above."""

    class Stall(Shop): ...

    static, named = typing.cast("Any", Stall(1)).tax, typing.cast("Any", Stall).named

    assert (static(10), static.submit(20).result(WAIT)) == (2, 4)
    assert (named("a"), named.submit("b").result(WAIT)) == ("Stall a", "Stall b")
    assert typing.cast("Any", Stall(1)).named("c") == "Stall c"


def test_two_bound_operations_are_equal_if_operation_and_instance_are_the_same() -> None:
    """As bound methods are."""
    shop = Shop(3)

    assert shop.total == shop.total
    assert len({shop.total, shop.total}) == 1
    assert shop.total != Shop(3).total
    assert repr(shop.total).startswith("<bound cpu operation ")


def test_an_operation_in_an_actor_class_is_refused() -> None:
    """Its calls would not wait for their turn at the actor. (Python before 3.12 wraps the error.)"""
    with pytest.raises((BadOperation, RuntimeError)) as caught:

        class Counter(CpuActor):
            @token
            def add(self) -> None: ...

    error = caught.value if isinstance(caught.value, BadOperation) else caught.value.__cause__
    assert "'Counter.add' is an operation in an actor class" in str(error)

    class Other(CpuActor):
        add = staticmethod(add)

    assert Other.add is add


# Callables of every kind


@pytest.mark.parametrize(
    ("callable_", "args", "name", "result"),
    [
        (len, ([1, 2],), "len", 2),
        (partial(max, 3), (1,), "max", 3),
        (lru_cache(abs), (-3,), "abs", 3),
        (Adder(2), (1,), "Adder", 3),
        (AsyncAdder(2), (1,), "AsyncAdder", 3),
        (partial(AsyncAdder(2), 1), (), "AsyncAdder", 3),
        (Adder(2).__call__, (1,), "__call__", 3),
        (str.upper, ("a",), "upper", "A"),
        (partial(count.__wrapped__, 3), (), "count", 3),
    ],
)
def test_any_callable_can_be_an_operation(gate: Gate, callable_: Any, args: Any, name: str, result: Any) -> None:
    """Under the name of the function inside, or that of its class."""
    operation: Any = token(callable_)
    t = operation.submit(*args)

    assert t.result(WAIT) == result
    assert (t.operation, operation.__name__) == (name, name)


def test_what_the_function_has_the_operation_has() -> None:
    """Its attributes, and the methods of a cache; names that neither has are errors."""
    cached_below.cache_clear()  # type: ignore[attr-defined]
    cached_below(3)

    assert cached_below.cache_info().misses == 1  # type: ignore[attr-defined]
    assert cached_below.cache_parameters()["maxsize"] == 128  # type: ignore[attr-defined]
    assert not hasattr(token(len), "__code__")
    with pytest.raises(AttributeError, match="nothing"):
        add.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_an_operation_of_an_operation_is_refused() -> None:
    """It would be two tokens for each call."""
    for operation in (add, Shop(1).total, double):
        with pytest.raises(BadOperation, match="is an operation already; use with_options"):
            token(operation)  # type: ignore[call-overload]


# Before the first call


def test_a_registered_operation_can_be_suspended_before_its_first_call(gate: Gate) -> None:
    """Operators see it, and its first token waits."""
    for operation in (add, cached_above, Shop(1).total, Shop.named):
        assert gate.register(operation) is operation
    assert gate.register(Shop.total) is Shop.total
    names = sorted(row.path for row in gate.control.actors() if row.path.startswith("operations/"))

    assert names == ["operations/add", "operations/cached_above", "operations/named", "operations/total"]
    gate.control.actor("add").suspend()
    gate.control.throttle("operation=total", concurrency=1)
    t = add.submit(1)
    assert t.state is TokenState.QUEUED
    gate.control.actor("add").unsuspend()
    assert t.result(WAIT) == 2


def test_what_cannot_be_registered_is_an_error(gate: Gate) -> None:
    """What is no operation, and what comes before the gate is open."""
    with pytest.raises(BadOperation, match=r"<built-in function len> is no operation, .*; use @token"):
        gate.register(len)
    with pytest.raises(GateState, match="not open"):
        Gate("closed").register(add)


# Code that inspects functions


def test_inspect_says_what_a_call_returns() -> None:
    """A coroutine for a coroutine operation; never a generator."""
    for is_one in (inspect.iscoroutinefunction, asyncio.iscoroutinefunction):
        for operation in (double, Shop.later, Shop(1).later, token(AsyncAdder(1)), token(partial(AsyncAdder(2), 1))):
            assert is_one(operation)
        assert not any(map(is_one, (add, count, Shop(1).total, token(len))))
    assert not any(map(inspect.isgeneratorfunction, (count, token(partial(count.__wrapped__, 3)), add)))


def test_isinstance_takes_it_for_a_function_or_a_method() -> None:
    """And an operation all the same."""
    assert isinstance(add, FunctionType)
    assert isinstance(add, type(Shop.total))
    assert isinstance(Shop(1).total, MethodType)
    assert isinstance(Shop(1).total, BoundOperation)
    assert isinstance(Shop(1).later, BoundAsyncOperation)
    assert not isinstance(token(len), FunctionType)
    assert inspect.isroutine(add)


def test_signature_hints_text_and_source_are_those_of_the_function() -> None:
    """`Annotated` stays readable; a bound one lacks the instance."""
    assert str(inspect.signature(add)) == str(inspect.signature(add.__wrapped__))
    assert typing.get_type_hints(add, include_extras=True)["a"] == Annotated[int, "the first"]
    assert list(inspect.signature(Shop(1).total).parameters) == ["number"]
    assert (inspect.getdoc(add), inspect.getdoc(Shop(1).total)) == ("Add two numbers.", "Return what so many cost.")
    assert inspect.getsource(add).endswith("return a + b\n")
    assert (Shop(1).total.__name__, Shop(1).total.__module__) == ("total", __name__)


def test_decorators_stand_above_and_below(gate: Gate) -> None:
    """`functools` takes an operation for a function, and an operation takes what it makes."""

    @wraps(add)
    def plus_one(*args: Any, **kwargs: Any) -> int:
        return add(*args, **kwargs) + 1

    @singledispatch
    def kind(_one: object) -> str:
        return "object"

    @kind.register
    @token
    def _(_one: int) -> str:
        return "int"

    above = typing.cast("Any", token(plus_one))
    assert (plus_one(1), plus_one.__name__) == (3, "add")
    assert (above(1), above.submit(1).result(WAIT), above.priority, above.affinity) == (3, 3, 0, "cpu")
    assert [kind(1), kind("a")] == ["int", "object"]
    assert singledispatch(add)(1) == 2
    assert functools.partial(add, 1)(2) == 3
    assert cached_above(3) == 3


def test_it_is_a_method_of_a_pydantic_model_and_a_validated_call(gate: Gate) -> None:
    """Above and below `validate_call`; arguments are converted by the annotations of the function."""
    pydantic = pytest.importorskip("pydantic")

    class Model(pydantic.BaseModel):  # type: ignore[misc,name-defined]
        price: int

        @token
        def total(self, number: int) -> int:
            return typing.cast("int", self.price) * number

    assert Model(price=2).total.submit(4).result(WAIT) == 8
    assert pydantic.validate_call(add)("3") == 4
    assert typing.cast("Any", token(pydantic.validate_call(add.__wrapped__))).submit("3").result(WAIT) == 4
    assert pydantic.validate_call(Shop(3).total)("4") == 12


def test_it_is_a_tool_of_agents(gate: Gate) -> None:
    """Of the OpenAI Agents SDK: name, text and parameters are found."""
    agents = pytest.importorskip("agents")
    for operation, parameters in ((add, {"a", "b"}), (double, {"n"}), (Shop(3).total, {"number"})):
        tool = agents.function_tool(operation)

        assert (tool.name, tool.description) == (operation.__name__, inspect.getdoc(operation))
        assert set(tool.params_json_schema["properties"]) == parameters


def test_it_is_a_tool_of_langchain(gate: Gate) -> None:
    """A plain one is called, a coroutine operation is awaited."""
    tools = pytest.importorskip("langchain_core.tools")

    assert tools.tool(add).invoke({"a": 3, "b": 4}) == 7
    assert tools.tool(Shop(3).total).invoke({"number": 4}) == 12
    assert asyncio.run(tools.tool(double).ainvoke({"n": 4})) == 8


def test_it_is_a_tool_of_pydantic_ai(gate: Gate) -> None:
    """The model calls it by its name."""
    ai = pytest.importorskip("pydantic_ai")
    test_model = pytest.importorskip("pydantic_ai.models.test").TestModel()
    agent = ai.Agent(test_model, tools=[add, double, ai.Tool(Shop(3).total)])

    assert asyncio.run(agent.run("go")).output == '{"add":1,"double":0,"total":0}'
