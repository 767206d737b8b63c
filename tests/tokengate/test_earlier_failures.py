"""What went wrong in an earlier system of this kind, each fault once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from typing import Any

import pytest
import trio

from tokengate import ChildSpec, CpuActor, Gate, IoActor, TokenState, checkpoint, token
from tokengate.errors import ActorDead, TokenTerminated

WAIT = 60.0  # seconds; only reached when something is broken


class Escaping(BaseException):
    """No `Exception`."""


class CpuEcho(CpuActor):
    def work(self, value: Any) -> Any:
        if isinstance(value, BaseException):
            raise value
        return value


class IoEcho(IoActor):
    async def work(self, value: Any) -> Any:
        await trio.lowlevel.checkpoint()
        if isinstance(value, BaseException):
            raise value
        return value


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), GeneratorExit(), Escaping()])
@pytest.mark.parametrize("actor", [CpuEcho, IoEcho])
def test_an_escaping_exception_does_not_strand_the_mailbox(actor: type[Any], error: BaseException) -> None:
    """What is queued behind it is handled by the next instance, in order."""
    with Gate("test", children=[ChildSpec("echo", actor)]) as gate:
        proxy = gate.find("echo").proxy()
        tokens = [proxy.work(value) for value in ("a", error, "b", "c")]

        assert tokens[1].exception(WAIT) is error
        assert [tokens[n].result(WAIT) for n in (0, 2, 3)] == ["a", "b", "c"]


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), GeneratorExit(), Escaping()])
def test_an_escaping_exception_does_not_strand_an_operation(error: BaseException) -> None:
    """It is the failure of that token alone."""

    @token(concurrency=1)
    def work(value: Any) -> Any:
        if isinstance(value, BaseException):
            raise value
        return value

    with Gate("test"):
        tokens = work.map(["a", error, "b"])

        assert tokens[1].exception(WAIT) is error
        assert [tokens[0].result(WAIT), tokens[2].result(WAIT)] == ["a", "b"]


@pytest.mark.usefixtures("impatient")
def test_closing_leaves_no_caller_hanging() -> None:
    """Neither one of a token that runs nor one of a queued token, wherever it waits: thread, trio, asyncio."""
    started, release = threading.Event(), threading.Event()

    class Stuck(CpuActor):
        def work(self) -> None:
            started.set()
            release.wait(WAIT)

    async def awaiting(t: Any) -> None:
        await t

    gate = Gate("test", shutdown=0.0).open()
    proxy = gate.spawn(Stuck).proxy()
    tokens = [proxy.work() for _ in range(6)]
    assert started.wait(WAIT)
    errors: list[BaseException] = []

    def call(wait: Any, *args: Any) -> None:
        try:
            wait(*args)
        except Exception as error:
            errors.append(error)

    callers = [threading.Thread(target=call, args=(t.result,)) for t in tokens[:2]]
    callers += [threading.Thread(target=call, args=(trio.run, awaiting, t)) for t in tokens[2:4]]
    callers += [threading.Thread(target=lambda t=t: call(asyncio.run, awaiting(t))) for t in tokens[4:]]
    for caller in callers:
        caller.start()
    gate.close()
    for caller in callers:
        caller.join(WAIT)
    release.set()

    assert len(errors) == 6
    assert all(isinstance(error, TokenTerminated | ActorDead) for error in errors)
    assert {t.state for t in tokens} == {TokenState.TERMINATED}


@pytest.mark.parametrize("kind", ["generator", "checkpoint", "io"])
def test_a_token_that_is_terminated_runs_no_further(kind: str) -> None:
    """The state does not say so before the code has ended: its `finally` has run."""
    log: list[str] = []
    started = threading.Event()

    @token
    def generator() -> Generator[None, None, None]:
        try:
            while True:
                started.set()
                yield
        finally:
            log.append("ended")

    @token
    def plain() -> None:
        try:
            while True:
                started.set()
                checkpoint()
        finally:
            log.append("ended")

    @token
    async def io() -> None:
        try:
            started.set()
            await trio.sleep_forever()
        finally:
            log.append("ended")

    operations: dict[str, Any] = {"generator": generator, "checkpoint": plain, "io": io}
    with Gate("test"):
        t = operations[kind].submit()
        assert started.wait(WAIT)
        t.cancel()
        with pytest.raises(TokenTerminated):
            t.result(WAIT)

        assert (t.state, log) == (TokenState.TERMINATED, ["ended"])


@pytest.mark.usefixtures("impatient")
def test_a_token_that_cannot_be_ended_is_not_called_terminated() -> None:
    """It says that it runs for as long as it does; its gate names the thread that it had to leave behind."""
    started, release = threading.Event(), threading.Event()
    names: list[str] = []

    @token
    def stuck() -> str:
        names.append(threading.current_thread().name)
        started.set()
        release.wait(WAIT)
        return "late"

    with Gate("test") as gate:
        t = stuck.submit()
        assert started.wait(WAIT)

        assert t.cancel() is False
        assert t.state is TokenState.RUNNING
        report = gate.close(0.0)
    assert names[0] in report.abandoned
    release.set()
    assert isinstance(t.exception(), TokenTerminated)


@pytest.mark.parametrize("how", ["submit", "call", "map", "executor", "actor"])
def test_a_parent_that_waits_for_its_children_does_not_block_the_pool(how: str) -> None:
    """One thread and one turn are enough for any depth."""

    @token(concurrency=1)
    def descend(n: int) -> int:
        if n == 0:
            return 0
        if how == "submit":
            return 1 + descend.submit(n - 1).result(WAIT)
        if how == "map":
            return 1 + descend.map([n - 1])[0].result(WAIT)
        if how == "executor":
            return 1 + executor.submit(descend, n - 1).result(WAIT)
        if how == "actor":
            return 1 + gate.spawn(CpuEcho).proxy().work(descend.submit(n - 1).result(WAIT)).result(WAIT)
        return 1 + descend(n - 1)

    with Gate("test", threads=1) as gate:
        executor = gate.executor(concurrency=1)

        assert descend.submit(10).result(WAIT) == 10


@pytest.mark.parametrize("where", ["same operation", "other operation", "actor"])
def test_a_short_token_does_not_wait_behind_a_long_one_beside_an_idle_thread(where: str) -> None:
    """The long one ends only after the short one has, or never."""
    started, short_done = threading.Event(), threading.Event()

    @token
    def work(wait: bool) -> bool:
        if wait:
            started.set()
            return short_done.wait(WAIT)
        return True

    @token
    def other(_wait: bool) -> bool:
        return True

    with Gate("test", threads=2) as gate:
        long = work.submit(True)
        assert started.wait(WAIT)
        if where == "actor":
            short = gate.spawn(CpuEcho).proxy().work(True)
        else:
            short = (work if where == "same operation" else other).submit(False)

        assert short.result(WAIT)
        short_done.set()
        assert long.result(WAIT)


def test_arguments_are_not_looked_at_on_the_loop_of_the_supervisors() -> None:
    """Whatever they do when they are shown, compared or copied, the system loop does not wait for it."""
    threads: set[str] = set()

    class Curious:
        def _note(self, *_args: Any) -> Any:
            threads.add(threading.current_thread().name)
            return "shown"

        __repr__ = __str__ = _note

        def __eq__(self, other: object) -> bool:
            return bool(self._note())

        def __hash__(self) -> int:
            return len(self._note())

        def __reduce__(self) -> Any:
            self._note()
            return (object, ())

    class Crashing(CpuActor):
        def __init__(self, _argument: object) -> None:
            super().__init__()

        def work(self, argument: object) -> None:
            raise ValueError(argument)

    with Gate("test") as gate:
        proxy = gate.spawn(Crashing, Curious(), restart="permanent").proxy()
        assert isinstance(proxy.work(Curious()).exception(WAIT), ValueError)
        proxy.work(Curious()).exception(WAIT)
        gate.statistics()

    assert "test-system" not in threads
