"""Public types, as code that type checkers read; nothing here is run."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import assert_type

from tokengate import (
    ActorRef,
    Batch,
    ChildSpec,
    CpuActor,
    Gate,
    IoActor,
    Policy,
    Retry,
    Route,
    Token,
    as_completed,
    token,
    wait,
)
from tokengate.types import AsyncOperation, AsyncRoute, BoundAsyncOperation, BoundOperation, Operation


@token
def resize(path: str, scale: float = 1.0) -> bytes:
    return path.encode() * int(scale)


@token(priority=5, tags={"tenant": "acme"})
async def fetch(url: str) -> str:
    return url


@token(guard="force", show=("order",), idempotent=True)
def charge(order: int) -> str:
    return str(order)


@token
def parse(text: str) -> Generator[None, None, int]:
    yield
    return len(text)


@token(policy=Policy(batch=Batch(size=64, wait=0.005), timeout=3))
def embed(texts: list[str]) -> list[float]:
    return [len(text) / 2 for text in texts]


@token(policy=Policy(batch=Batch(size=8)), affinity="asyncio")
async def look_up(names: Sequence[str]) -> list[int | Exception]:
    return [len(name) or ValueError(name) for name in names]


@token(policy=Policy(timeout=3, retry=Retry(ConnectionError)))
def join(texts: list[str]) -> str:
    return "".join(texts)


class Shop:
    @token
    def total(self, number: int, price: int = 1) -> int:
        return number * price

    @token(priority=2)
    async def order(self, name: str) -> bytes:
        return name.encode()


shop = Shop()
assert_type(shop.total(2, price=3), int)
assert_type(shop.total.submit(2), Token[int])
assert_type(shop.total.map([1, 2]), list[Token[int]])
assert_type(shop.total.with_options(priority=1).submit(2), Token[int])
assert_type(shop.order.submit("a"), Token[bytes])
assert_type(Shop.total.submit(shop, 2), Token[int])
bound: BoundOperation[[str], Token[bytes]] | BoundAsyncOperation[[str], bytes] = shop.order

shop.total.submit("a")  # type: ignore[arg-type]
shop.total()  # type: ignore[call-arg]
shop.total.sumbit(2)  # type: ignore[attr-defined]
resize.sumbit("a.png")  # type: ignore[attr-defined]

assert_type(resize("a.png", scale=2.0), bytes)
assert_type(resize.submit("a.png"), Token[bytes])
assert_type(resize.submit("a.png").result(1.0), bytes)
assert_type(resize.map(["a.png"]), list[Token[bytes]])
assert_type(resize.with_options(priority=1).submit("a.png"), Token[bytes])
assert_type(fetch.submit("here"), Token[str])
assert_type(charge.submit(7), Token[str])
assert_type(parse.submit("x"), Token[int])
assert_type(parse("x"), int)
plain: Operation[[str], int] = parse
waiting: AsyncOperation[[str], str] = fetch

resizing = Route("resize", [resize, resize.with_options(priority=1)], strategy="failover")
assert_type(resizing("a.png", scale=2.0), bytes)
assert_type(resizing.submit("a.png"), Token[bytes])
assert_type(resizing.map(["a.png"]), list[Token[bytes]])
assert_type(resizing.with_options(priority=1).submit("a.png"), Token[bytes])
fetching: AsyncRoute[[str], str] = Route("fetch", [fetch], "least_busy")

resizing(3)  # type: ignore[arg-type]
resizing.submit()  # type: ignore[call-arg]
Route("resize", [resize, charge])  # type: ignore[arg-type]
Route("resize", [resize], "random")  # type: ignore[call-overload]
resize(3)  # type: ignore[arg-type]
resize.submit()  # type: ignore[call-arg]
fetch.submit(url=3)  # type: ignore[arg-type]
# An operation with a batch is called with one, and run with a list.
assert_type(embed("a"), float)
assert_type(embed.submit("a"), Token[float])
assert_type(embed.map(["a", "b"]), list[Token[float]])
assert_type(embed.with_options(key="a", policy=Policy(deadline=3)).submit("a"), Token[float])
assert_type(look_up.submit("a"), Token[int])
assert_type(join.with_options(key=7).submit(["a", "b"]), Token[str])
one_by_one: Operation[[str], float] = embed
some_policy: Policy = Policy(batch=Batch(size=2))
embed(["a"])  # type: ignore[arg-type]
embed.submit(3)  # type: ignore[arg-type]
look_up.submit(["a"])  # type: ignore[arg-type]
Policy(batch=3)  # type: ignore[call-overload]
join.with_options(key=1.5)  # type: ignore[arg-type]
token(policy=Policy(batch=Batch(size=2)))(charge)  # type: ignore[arg-type]
token(guard="forced")  # type: ignore[call-overload]
token(protected=True)  # type: ignore[call-overload]


async def awaiting() -> None:
    assert_type(await shop.order("a"), bytes)
    assert_type(await shop.total.asubmit(2), Token[int])
    assert_type(await fetch("here"), str)
    assert_type(await fetching("here"), str)
    assert_type(await fetching.asubmit("here"), Token[str])
    assert_type(await look_up("here"), int)
    assert_type(await resize.submit("a.png"), bytes)
    assert_type(await resize.asubmit("a.png"), Token[bytes])


class Counter(CpuActor):
    guard = "approval"
    show = ("value",)
    idempotent = True

    def __init__(self, start: int = 0) -> None:
        super().__init__()
        self.value = start

    def add(self, number: int, *, times: int = 1) -> int:
        self.value += number * times
        return self.value

    def walk(self) -> Generator[None, None, str]:
        yield
        return ""


class Loud(Counter):
    pass


class Asker(IoActor):
    async def ask(self, name: str) -> bytes:
        return name.encode()


class Mistaken(CpuActor):
    guard = "forced"  # type: ignore[assignment]
    show = 5  # type: ignore[assignment]


with Gate("shop", children=[ChildSpec("counter", Counter, args=(1,))]) as gate:
    assert_type(gate, Gate)
    counter = gate.spawn(Counter, 1, name="c")
    assert_type(counter, ActorRef[Counter])
    assert_type(gate.spawn_many(Counter, 3, 1), list[ActorRef[Counter]])
    assert_type(counter.do(Counter.add, 2, times=3), Token[int])
    assert_type(counter.do(Counter.walk), Token[str])
    assert_type(gate.spawn(Loud).do(Counter.add, 2), Token[int])
    asker = gate.spawn(Asker)
    assert_type(asker.do(Asker.ask, "a"), Token[bytes])
    counter.do(Counter.add, "a")  # type: ignore[call-overload]
    counter.do(Counter.add)  # type: ignore[call-overload]
    counter.do(Asker.ask, "a")  # type: ignore[call-overload]


finished, rest = wait(resize.map(["a.png"]), timeout=1.0)
assert_type(finished, set[Token[bytes]])
assert_type([t.result() for t in as_completed(resize.map(["a.png"]))], list[bytes])
wait([3])  # type: ignore[type-var]


async def waiting_for_several() -> None:
    _, rest = await wait([resize.submit("a.png")], return_when="FIRST_COMPLETED")
    assert_type(rest, set[Token[bytes]])
    async for t in as_completed([fetch.submit("here")]):
        assert_type(t, Token[str])


async def calling() -> None:
    assert_type(await counter.call(Counter.add, 2), int)
    assert_type(await asker.call(Asker.ask, "a"), bytes)
    assert_type(await counter.call(Counter.walk), str)
    await counter.call("any message")
    await counter.call(Counter.add, "a")  # type: ignore[call-overload]
