"""What the tests of the actors floor share: a system, unsent tokens, races, and tracers that provoke them."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import FrameType
from typing import Any

import attrs
import pykka
import pytest
from gated_code import LIMIT, Door, opened_at_the_end, share
from interleave import Grain, Stage
from shared_lists import SharedList

import actors
from actors import ActorSystem, AsyncioActor, BaseActor, CpuActor, IoActor, Overflow, ProcessActor, ProcessPool, Token
from actors.lowlevel import Mailbox, OperationPlace
from actors.mailboxes._mailbox import Drainer
from actors.system._outside import default_system

_HOME = os.path.dirname(actors.__file__)

Race = Callable[..., list[Any]]


@pytest.fixture(scope="session", autouse=True)
def _default_system() -> Iterator[None]:
    """Open the process's default system, its loops included, before the first look for leaks: its threads stay."""
    host = default_system().asyncio_hosts.own
    host.open()
    host.run(partial(asyncio.sleep, 0)).result(LIMIT)
    yield
    pykka.ActorRegistry.stop_all()


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    """An open system of two CPU threads; every thread of it must have ended after the test.

    It has no watchdog, whose events and warnings would be of what the machine holds up.
    """
    opened = ActorSystem("test", threads=2, blocked_after=None, processes=ProcessPool(size=1, spares=0))
    opened.open()
    yield opened
    late = opened.close(LIMIT)

    assert late == ()


class PinnedActor(CpuActor):
    """A CPU actor with a thread of its own."""

    dispatcher = "pinned"


LOCAL = {"cpu": CpuActor, "pinned": PinnedActor, "io": IoActor, "asyncio": AsyncioActor}


@pytest.fixture(params=[*LOCAL.values(), ProcessActor], ids=[*LOCAL, "process"])
def base(request: pytest.FixtureRequest) -> type[BaseActor]:
    """The base class of an actor of each kind."""
    chosen: type[BaseActor] = request.param
    return chosen


@pytest.fixture(params=LOCAL.values(), ids=LOCAL)
def local_base(request: pytest.FixtureRequest) -> type[BaseActor]:
    """The base class of an actor of each kind whose instance is in this process."""
    chosen: type[BaseActor] = request.param
    return chosen


def _in_processes(request: pytest.FixtureRequest) -> bool:
    """Tell whether the code of the test's actors runs in child processes."""
    return "base" in request.fixturenames and request.getfixturevalue("base") is ProcessActor


@pytest.fixture
def new_list(request: pytest.FixtureRequest) -> Callable[[], Any]:
    """Make lists that the code of the test's actors can write to, wherever it runs."""
    return SharedList if _in_processes(request) else list


@attrs.define
class Desk:
    """A place in a system that was never opened: nothing runs there unless the test runs it.

    Attributes:
        woken: the drainers that mailboxes of this desk asked for, which have not come.
        dropped: tokens that such a mailbox pushed out.
    """

    system: ActorSystem
    place: OperationPlace
    woken: list[Drainer] = attrs.field(factory=list)
    dropped: list[Token[Any]] = attrs.field(factory=list)

    def token(self, priority: int = 0, call: Callable[..., Any] = int) -> Token[Any]:
        return self.place.token("operation", call, (), {}, priority)

    def mailbox(self, capacity: int = 10_000, overflow: Overflow = "wait", concurrency: int = 1) -> Mailbox:
        return Mailbox(
            "desk",
            capacity=capacity,
            overflow=overflow,
            concurrency=concurrency,
            wake=self.woken.append,
            on_drop=self.dropped.append,
        )


@pytest.fixture
def desk() -> Desk:
    unopened = ActorSystem("unopened", threads=2)
    return Desk(unopened, unopened.operation_place("operation", "cpu", generator=False, concurrency=1))


@pytest.fixture
def race() -> Race:
    """Run functions at the same time, each in a thread of its own; return what they return, in order."""

    def run(*functions: Callable[[], Any]) -> list[Any]:
        start = threading.Barrier(len(functions))
        results: list[Any] = [None] * len(functions)
        errors: list[BaseException] = []

        def body(index: int) -> None:
            try:
                start.wait(LIMIT)
                results[index] = functions[index]()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=body, args=(index,), daemon=True) for index in range(len(functions))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
        if errors:
            raise errors[0]
        assert not any(thread.is_alive() for thread in threads)
        return results

    return run


@pytest.fixture
def yielding() -> Callable[[random.Random], AbstractContextManager[None]]:
    """Let new threads give up the GIL between two lines of the runtime now and then.

    The GIL hides most races of a few lines; this brings them out.
    """

    @contextmanager
    def tracing(chance: random.Random) -> Generator[None]:
        never = threading.Lock()
        never.acquire()

        def trace(frame: FrameType, event: str, _arg: object) -> Any:
            if not frame.f_code.co_filename.startswith(_HOME):
                return None
            if event == "line" and chance.random() < 0.15:
                never.acquire(timeout=1e-6)  # releases the GIL
            return trace

        def traced(thread: threading.Thread) -> None:
            sys.settrace(trace)
            try:
                run(thread)
            finally:
                sys.settrace(None)  # Python 3.13 goes on tracing if a thread ends without this

        run = threading.Thread.run
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(threading.Thread, "run", traced)
            yield

    return tracing


@pytest.fixture
def doors(system: ActorSystem, request: pytest.FixtureRequest) -> Iterator[Callable[[], Door]]:
    """Make doors that are open before the system closes, whatever failed; for the code of the test's actors."""
    with opened_at_the_end() as make:
        yield (lambda: share(make())) if _in_processes(request) else make


@pytest.fixture
def door(doors: Callable[[], Door]) -> Door:
    return doors()


@pytest.fixture
def start(system: ActorSystem) -> Callable[..., Any]:
    """Start an actor that nobody supervises, and return its ref."""

    def start_actor(cls: type[BaseActor], *args: Any, **kwargs: Any) -> Any:
        options: Mapping[str, Any] = kwargs
        return system.start_actor(cls, args, options)

    return start_actor


@pytest.fixture
def chance(seed: int) -> random.Random:
    return random.Random(seed)


@pytest.fixture(params=["line", "call"])
def stage(
    request: pytest.FixtureRequest, chance: random.Random, monkeypatch: pytest.MonkeyPatch, until: Any
) -> Iterator[Stage]:
    """Let threads of the runtime take turns as a seed says, at every line or wherever the interpreter could switch."""
    grain: Grain = request.param
    queue = default_system().dispatcher._queue
    until(lambda: len(queue._sleepers) == default_system().dispatcher.size)  # its threads make no lock on the stage
    monkeypatch.setattr(
        "actors.concurrency._run_queue._LOOKING", 0.0
    )  # one look: how many there are is up to the clock
    with Stage("actors", chance, grain) as made:
        yield made
