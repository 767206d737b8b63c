"""`@token`: like the plain function, and a token."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import trio

from tokengate import Gate, TokenState, checkpoint, current_token, token
from tokengate.errors import AmbiguousGate, BadOperation, NeedsGate, TokenFailed, TokenInterrupt, TokenTerminated

WAIT = 60.0  # seconds; only reached when something is broken


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate("test", shutdown=5.0) as gate:
        yield gate


@token
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@token
async def double(n: int) -> int:
    await trio.lowlevel.checkpoint()
    return 2 * n


@token
def count(n: int) -> Generator[None, None, int]:
    for _ in range(n):
        yield
    return n


@token
def fail(error: BaseException) -> None:
    raise error


def in_trio(make: Callable[[], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        with trio.fail_after(WAIT):
            return await make()

    return trio.run(main)


def in_asyncio(make: Callable[[], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        return await asyncio.wait_for(make(), WAIT)

    return asyncio.run(main())


def test_with_no_gate_a_call_is_the_plain_function() -> None:
    """Off means off: the function runs, on this thread, as no token."""

    @token
    def look() -> tuple[threading.Thread, object]:
        return threading.current_thread(), current_token()

    assert look() == (threading.current_thread(), None)
    assert in_trio(lambda: double(4)) == 8
    assert count(3) == 3


def test_with_no_gate_a_submit_says_what_is_missing() -> None:
    """A token cannot exist outside of a gate."""
    with pytest.raises(NeedsGate, match="no gate is open to submit 'add' to"):
        add.submit(1)


def test_with_no_gate_what_is_declared_as_trio_code_cannot_be_awaited_in_asyncio() -> None:
    """Asyncio needs the gate's loop for it; a coroutine function without an affinity may be either loop's code."""
    declared = token(affinity="io")(double.__wrapped__)

    with pytest.raises(NeedsGate, match="'double' is trio code"):
        in_asyncio(lambda: declared(4))


def test_an_operation_keeps_name_docstring_and_signature() -> None:
    """Tools that look at the function see the function."""
    assert add.__name__ == "add"
    assert add.__doc__ == "Add two numbers."
    assert list(inspect.signature(add).parameters) == ["a", "b"]


def test_a_submitted_call_is_a_token_with_its_data(gate: Gate) -> None:
    """What is known of a token can be read off it while it is there."""
    started, go = threading.Event(), threading.Event()

    @token(priority=3, tags={"tenant": "acme"})
    def work(name: str) -> str:
        started.set()
        go.wait(WAIT)
        return name

    t = work.submit("a.png")
    started.wait(WAIT)

    assert (t.operation, t.args, t.priority, dict(t.tags)) == ("work", ("a.png",), 3, {"tenant": "acme"})
    assert (t.affinity, t.actor, t.state, t.parent, t.attempt) == (
        "cpu",
        "operations/work",
        TokenState.RUNNING,
        None,
        1,
    )
    assert t.created_at <= (t.queued_at or 0) <= (t.started_at or 0)
    assert t.finished_at is None
    go.set()
    assert t.result(WAIT) == "a.png"
    assert t.state is TokenState.COMPLETED
    assert t.finished_at is not None


@pytest.mark.parametrize("run", [in_trio, in_asyncio])
def test_a_token_and_a_coroutine_operation_can_be_awaited(gate: Gate, run: Callable[..., Any]) -> None:
    """From trio and from asyncio alike."""

    async def main() -> list[int]:
        return [await double(2), await double.submit(3), await (await add.asubmit(4)), await count.submit(5)]

    assert run(main) == [4, 6, 5, 5]


def test_map_submits_one_call_for_each_item_in_order(gate: Gate) -> None:
    """The tokens come in the order of the items."""
    assert [t.result(WAIT) for t in add.map(range(5))] == [1, 2, 3, 4, 5]


def test_a_direct_call_of_an_idle_cpu_operation_runs_on_the_callers_thread(gate: Gate) -> None:
    """So locks, Ctrl-C and thread identity are those of the plain function; it is a token all the same."""

    @token
    def look() -> tuple[threading.Thread, str | None]:
        inside = current_token()
        return threading.current_thread(), inside and inside.state

    assert look() == (threading.current_thread(), TokenState.RUNNING)
    assert gate.statistics().tokens[TokenState.COMPLETED] == 1


def test_a_direct_call_waits_its_turn_when_the_operation_is_busy(gate: Gate) -> None:
    """At its concurrency, an operation queues a direct call like any other."""
    started, go = threading.Event(), threading.Event()

    @token(concurrency=1)
    def work(first: bool) -> threading.Thread:
        if first:
            started.set()
            go.wait(WAIT)
        return threading.current_thread()

    first = work.submit(True)
    started.wait(WAIT)
    caller: list[threading.Thread] = []
    waiting = threading.Thread(target=lambda: caller.append(work(False)))
    waiting.start()
    while not gate._system.find("operations/work").mailbox.size:
        pass
    go.set()
    waiting.join(WAIT)

    assert caller[0] is not waiting
    assert first.result(WAIT) is not None


def test_a_direct_call_raises_what_the_function_raises(gate: Gate) -> None:
    """Even what is no `Exception`, as the plain function would; a result wraps that."""
    with pytest.raises(SystemExit):
        fail(SystemExit(3))
    t = fail.submit(SystemExit(3))
    with pytest.raises(TokenFailed) as caught:
        t.result(WAIT)

    assert isinstance(caught.value.__cause__, SystemExit)
    assert t.state is TokenState.FAILED


def test_an_error_of_an_operation_is_the_tokens_and_its_worker_lives_on(gate: Gate) -> None:
    """A failed token harms no other."""
    t = fail.submit(ValueError("no"))

    assert repr(t.exception(WAIT)) == "ValueError('no')"
    assert fail.submit(KeyError("k")).exception(WAIT).args == ("k",)  # type: ignore[union-attr]


def test_a_generator_function_runs_step_by_step_and_returns_its_value(gate: Gate) -> None:
    """One step between two yields, however it is called."""
    t = count.submit(10)

    assert t.result(WAIT) == 10
    assert t.steps == 11
    assert count(4) == 4


@pytest.mark.parametrize("affinity", [None, "cpu", "io", "process"])
@pytest.mark.parametrize("submitted", [False, True])
def test_a_generator_that_yields_a_value_fails_there(affinity: Any, submitted: bool) -> None:
    """Nothing would receive it; the error names it and says what to write. (`None` stands for no gate.)"""

    @token(affinity=affinity)
    def numbers(swallow: bool) -> Generator[int | None, None, int]:
        yield
        try:
            yield 7
        except TypeError:
            if not swallow:
                raise
        yield
        return 3

    def call(swallow: bool) -> int:
        return numbers.submit(swallow).result(WAIT) if submitted and affinity is not None else numbers(swallow)

    with nullcontext() if affinity is None else Gate("test", processes=1, shutdown=5.0):
        for swallow in (False, True):
            with pytest.raises(TypeError, match=r"'numbers' yielded 7, .* Write 'yield' alone there, and return"):
                call(swallow)


def test_a_generator_that_yields_a_value_is_cleaned_up_in_its_context(gate: Gate) -> None:
    """Its `finally` blocks run, and what they raise is the token's error."""
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

    @token
    def numbers() -> Generator[int, None, None]:
        try:
            yield 7
        finally:
            raise KeyError(user.get())

    user.set("alice")
    error = numbers.submit().exception(WAIT)

    assert repr(error) == "KeyError('alice')"
    assert isinstance(error, KeyError)
    assert "yielded 7" in str(error.__context__)


def test_many_long_generators_progress_together_on_two_threads() -> None:
    """A generator makes room after its quantum, so none has to wait for another to end."""
    arrived: list[int] = []

    @token
    def long(number: int) -> Generator[None, None, None]:
        arrived.append(number)
        while len(arrived) < 20:
            yield

    with Gate("wide", threads=2, shutdown=5.0):
        tokens = long.map(range(20))
        for t in tokens:
            t.result(WAIT)

    assert sorted(arrived) == list(range(20))


def test_operations_that_wait_for_tokens_of_their_own_do_not_deadlock(gate: Gate) -> None:
    """A token that waits for another one gives its turn and its thread to others."""

    @token
    def fib(n: int) -> int:
        return n if n < 2 else sum(t.result(WAIT) for t in (fib.submit(n - 1), fib.submit(n - 2)))

    assert fib.submit(9).result(WAIT) == 34


def test_a_token_knows_its_parent(gate: Gate) -> None:
    """The id of the token in whose step it was made."""

    @token
    def child() -> int | None:
        inside = current_token()
        return inside and inside.parent

    @token
    def parent() -> tuple[int, int | None]:
        inside = current_token()
        assert inside is not None
        return inside.id, child.submit().result(WAIT)

    mine, seen = parent.submit().result(WAIT)

    assert mine == seen


@pytest.mark.parametrize("affinity", ["cpu", "io", "asyncio"])
def test_context_variables_travel_with_the_token(gate: Gate, affinity: Any) -> None:
    """Captured at submit, seen in the step, and what the step sets stays there."""
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

    @token(affinity=affinity)
    def who() -> str:
        name = user.get()
        user.set("changed")
        return name

    user.set("alice")

    assert who.submit().result(WAIT) == "alice"
    assert user.get() == "alice"


def test_cancelling_a_queued_token_ends_it_at_once(gate: Gate) -> None:
    """It never runs, and says so."""
    started, go = threading.Event(), threading.Event()
    ran: list[int] = []

    @token(concurrency=1)
    def work(number: int) -> None:
        ran.append(number)
        started.set()
        go.wait(WAIT)

    first, second = work.submit(1), work.submit(2)
    started.wait(WAIT)

    assert second.cancel() is True
    assert second.state is TokenState.TERMINATED
    go.set()
    first.result(WAIT)
    with pytest.raises(TokenTerminated, match="never ran"):
        second.result(WAIT)
    assert ran == [1]


@pytest.mark.parametrize("kind", ["checkpoint", "generator", "coroutine"])
def test_cancelling_a_running_token_ends_it_at_its_next_yield_point(gate: Gate, kind: str) -> None:
    """`checkpoint()`, a generator's yield or a trio checkpoint; `finally` blocks run."""
    started, cleaned = threading.Event(), threading.Event()

    @token
    def plain() -> None:
        try:
            while True:
                started.set()
                checkpoint()
        finally:
            cleaned.set()

    @token
    def steps() -> Generator[None, None, None]:
        try:
            while True:
                started.set()
                yield
        finally:
            cleaned.set()

    @token
    async def task() -> None:
        try:
            started.set()
            await trio.sleep_forever()
        finally:
            cleaned.set()

    t = {"checkpoint": plain, "generator": steps, "coroutine": task}[kind].submit()  # type: ignore[attr-defined]
    started.wait(WAIT)

    assert t.cancel() is False
    with pytest.raises(TokenTerminated):
        t.result(WAIT)
    assert cleaned.wait(WAIT)
    assert t.state is TokenState.TERMINATED


def test_cancelling_a_direct_await_cancels_the_token(gate: Gate) -> None:
    """Like the plain coroutine function, whose await is its run."""
    ended = threading.Event()

    @token
    async def task() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await task()

    trio.run(main)

    assert gate.statistics().tokens[TokenState.COMPLETED] == 0
    # It never began, or it was ended: no token is left behind in either case.
    while sum(gate.statistics().tokens[state] for state in (TokenState.QUEUED, TokenState.RUNNING)):
        pass


def test_higher_priorities_go_first_and_equal_ones_in_order(gate: Gate) -> None:
    """Stable priority: any int, first-in first-out within one."""
    started, go = threading.Event(), threading.Event()
    order: list[str] = []

    @token(concurrency=1)
    def work(name: str) -> None:
        started.set()
        go.wait(WAIT)
        order.append(name)

    tokens = [work.submit("first")]
    started.wait(WAIT)
    for name, priority in (("a", 0), ("b", 5), ("c", 5), ("d", -2), ("e", 0)):
        tokens.append(work.with_options(priority=priority).submit(name))
    go.set()
    for t in tokens:
        t.result(WAIT)

    assert order == ["first", "b", "c", "a", "e", "d"]


def test_options_are_added_to_those_of_the_operation() -> None:
    """Tags are merged; the operation itself stays as it was."""

    @token(priority=1, tags={"a": "1", "b": "1"})
    def work() -> None: ...

    other = work.with_options(tags={"b": "2"})

    assert (other.priority, dict(other.tags)) == (1, {"a": "1", "b": "2"})
    assert dict(work.tags) == {"a": "1", "b": "1"}


def test_a_full_mailbox_that_rejects_returns_a_rejected_token(gate: Gate) -> None:
    """A refused submit does not raise: its token says why."""
    started, go = threading.Event(), threading.Event()

    @token(concurrency=1, capacity=1, overflow="reject")
    def work() -> None:
        started.set()
        go.wait(WAIT)

    tokens = [work.submit()]
    started.wait(WAIT)
    tokens += [work.submit(), work.submit()]

    assert [t.state for t in tokens] == [TokenState.RUNNING, TokenState.QUEUED, TokenState.REJECTED]
    assert "mailbox of 'operations/work' is full" in str(tokens[2].exception())
    go.set()
    tokens[1].result(WAIT)


def test_a_full_mailbox_makes_the_sender_wait(gate: Gate) -> None:
    """Back-pressure: more calls than there is room for all run, and never more are queued."""
    depths: list[int] = []

    @token(concurrency=1, capacity=2)
    def work() -> None:
        depths.append(gate._system.find("operations/work").mailbox.size)

    for t in [work.submit() for _ in range(200)]:
        t.result(WAIT)

    assert len(depths) == 200
    assert max(depths) <= 2


def test_two_open_gates_are_told_apart_by_the_block_the_call_is_in() -> None:
    """The gate of the running token, else the innermost one entered, else it is ambiguous."""

    @token
    def outer() -> str:
        return inner.submit().result(WAIT)

    @token
    def inner() -> str:
        inside = current_token()
        assert inside is not None
        return inside._place.system.name

    with Gate("one") as one, Gate("two"):
        assert inner.submit().result(WAIT) == "two"
        with one.entered():
            assert outer.submit().result(WAIT) == "one"
        caught: list[BaseException] = []

        def elsewhere() -> None:
            try:
                inner()
            except AmbiguousGate as error:
                caught.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join(WAIT)

    assert "'one', 'two'" in str(caught[0])


def test_operations_of_the_same_name_have_places_of_their_own(gate: Gate) -> None:
    """The second one is served under its full name."""

    def make(answer: int) -> Any:
        @token
        def same() -> int:
            return answer

        return same

    first, second, third = make(1), make(2), make(3)

    assert [op.submit().result(WAIT) for op in (first, second, third)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: token(3), "@token goes on functions and other callables; 3 is none"),  # type: ignore[call-overload]
        (lambda: token(int), "make the class 'int' an actor"),
        (lambda: token(affinity="cpu")(double.__wrapped__), "affinity can only be 'io'"),
        (lambda: token(affinity="gpu")(add.__wrapped__), "affinity of 'add' is 'gpu'"),  # type: ignore[call-overload]
    ],
)
def test_what_cannot_be_an_operation_is_refused_with_a_reason(make: Callable[[], Any], message: str) -> None:
    """At the decorator, not at the first call."""
    with pytest.raises(BadOperation, match=message):
        make()


def test_async_generators_are_refused() -> None:
    """A stream has no single result."""

    async def stream() -> Any:
        yield 1

    with pytest.raises(BadOperation, match="async generator"):
        token(stream)


@pytest.mark.parametrize(
    "options",
    [
        {"priority": "high"},
        {"tags": {"a": 1}},
        {"concurrency": 0},
        {"capacity": -1},
        {"overflow": "explode"},
        {"guard": "forced"},
        {"guard": True},
        {"show": "a"},
        {"show": True},
        {"show": (1,)},
        {"idempotent": 1},
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    """The message names the operation, the option and the value."""
    (name, value), *_ = options.items()
    with pytest.raises(ValueError, match=f"{name} of 'add' is"):
        token(**options)(add.__wrapped__)

    assert value is not None


def test_what_is_shown_are_parameters_of_the_function() -> None:
    """Another name is an error that names the parameters, unless the function takes any keyword."""

    def pay(order: int, /, *extras: int, card: str) -> None: ...

    def log(text: str, **fields: str) -> None: ...

    with pytest.raises(ValueError, match=r"show of 'pay' has 'crad', which is no .*; choose from: order, card, extras"):
        token(show=("order", "crad"))(pay)
    with pytest.raises(ValueError, match="choose from: none"):
        token(show=("order",))(lambda: None)
    for show in ((), "*", ("order", "extras", "card"), ["card"], {"card"}):
        assert token(show=show)(pay).__name__ == "pay"
    assert token(show=("text", "anything"))(log).__name__ == "log"


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("protected", "guard='force'"),
        ("controllable", "guard='never'"),
        ("show_arguments", "show='[*]'"),
        ("redact", "show, with the names of what is shown"),
        ("guards", r"one that help\(token\) lists"),
    ],
)
def test_an_option_that_there_is_not_is_refused_with_what_to_write(option: str, said: str) -> None:
    """Nothing is taken for unguarded because its guard had another name."""
    with pytest.raises(TypeError, match=f"@token has no option '{option}'; write {said}"):
        token(**{option: True})  # type: ignore[call-overload]


def test_an_interrupt_is_no_exception_that_user_code_swallows() -> None:
    """`except Exception` in the code that is to end does not keep it alive."""
    assert not issubclass(TokenInterrupt, Exception)


@pytest.mark.parametrize("submitted", [False, True])
def test_operations_that_call_each_other_directly_do_not_deadlock(gate: Gate, submitted: bool) -> None:
    """A direct call is a turn within its caller's turn: when the innermost waits, all of them do."""

    @token(concurrency=1)
    def even(n: int) -> bool:
        return True if n == 0 else odd(n - 1)

    @token(concurrency=1)
    def odd(n: int) -> bool:
        return False if n == 0 else even(n - 1)

    assert (even.submit(9).result(WAIT) if submitted else even(9)) is False


def test_coroutines_that_await_tokens_of_their_own_do_not_deadlock(gate: Gate) -> None:
    """A token that awaits another one gives its turn away, however many of its tasks do."""

    @token(concurrency=1)
    async def tree(depth: int) -> int:
        if not depth:
            return 1
        found: list[int] = []

        async def branch() -> None:
            found.append(await tree(depth - 1))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(branch)
            nursery.start_soon(branch)
        return sum(found)

    assert tree.submit(6).result(WAIT) == 64


def test_concurrency_holds_again_when_those_who_waited_are_back(gate: Gate) -> None:
    """Those who lent their turn take it back; for each one too many, one drainer leaves."""
    key, lock = threading.Event(), threading.Lock()
    inside, peak = 0, 0

    @token
    def wait() -> None:
        key.wait(WAIT)

    @token(concurrency=1)
    def work(waits: bool) -> None:
        nonlocal inside, peak
        if waits:
            gatekeeper.result(WAIT)
            return
        with lock:
            inside += 1
            peak = max(peak, inside)
        for _ in range(200):
            pass
        with lock:
            inside -= 1

    gatekeeper = wait.submit()
    waiters = [work.submit(True) for _ in range(10)]
    place = gate._system.find("operations/work")
    while gate.statistics().system.dispatcher.blocked < 10:
        pass
    key.set()
    for t in waiters:
        t.result(WAIT)
    while place.mailbox.active:
        pass
    for t in [work.submit(False) for _ in range(500)]:
        t.result(WAIT)

    assert peak == 1
