"""Children of every kind that a supervisor takes, which write down what happens to them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pykka
import trio
from shared_lists import SharedList

from actors import AsyncioActor, CpuActor, IoActor, ProcessActor
from supervisors import ChildSpec

KINDS = ("io", "asyncio", "cpu", "task", "foreign", "process")
MESSAGED = ("io", "asyncio", "cpu", "foreign", "process")  # those that take messages

Hook = Callable[[], object]

_serials = count(1)


def do_nothing() -> None:
    pass


class _Child:
    stop: Callable[[], None]

    def __init__(self, id: str, diary: Any, starting: Hook | None) -> None:
        super().__init__()
        self.serial = next(_serials)
        self.id, self.diary, self.starting = id, diary, starting or do_nothing

    def on_start(self) -> None:
        self.diary.append(("start", self.id))
        self.starting()
        self.diary.append(("started", self.id))

    def on_stop(self) -> None:
        self.diary.append(("stop", self.id))

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, BaseException):
            raise message
        if message == "finish":
            self.stop()
            return None
        if callable(message):
            return message()
        self.diary.append((self.id, message))
        return self.serial


class IoChild(_Child, IoActor):
    pass


class AsyncioChild(_Child, AsyncioActor):
    pass


class CpuChild(_Child, CpuActor):
    pass


class ForeignChild(_Child, pykka.ThreadingActor):
    """Knows nothing of us."""


class ProcessChild(ProcessActor):
    """Does as the others do, whose module no child process is to import."""

    def __init__(self, id: str, diary: Any, starting: Hook | None) -> None:
        super().__init__()
        self.id, self.diary, self.starting = id, diary, starting

    def on_start(self) -> None:
        self.diary.append(("start", self.id))
        if self.starting is not None:
            self.starting()
        self.diary.append(("started", self.id))

    def on_stop(self) -> None:
        self.diary.append(("stop", self.id))

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, BaseException):
            raise message
        if message == "finish":
            self.stop()
            return None
        if callable(message):
            return message()
        self.diary.append((self.id, message))
        return None


async def task_child(id: str, diary: Any, starting: Hook | None, *, task_status: Any) -> None:
    diary.append(("start", id))
    (starting or do_nothing)()
    diary.append(("started", id))
    task_status.started()
    try:
        await trio.sleep_forever()
    finally:
        diary.append(("stop", id))


STARTS: dict[str, Any] = {
    "io": IoChild,
    "asyncio": AsyncioChild,
    "cpu": CpuChild,
    "task": task_child,
    "foreign": ForeignChild,
    "process": ProcessChild,
}


def diary_for(kind: str) -> Any:
    """Return an empty list that children of a kind can write to."""
    return SharedList() if kind == "process" else []


def child(kind: str, id: str, diary: Any = None, starting: Hook | None = None, **options: Any) -> ChildSpec:
    """Return the spec of a child of a kind; `options` are those of `ChildSpec`.

    A stop may take longer than usual: the machine may be busy.
    """
    options.setdefault("shutdown", 30.0)
    return ChildSpec(id, STARTS[kind], args=(id, diary_for(kind) if diary is None else diary, starting), **options)


def failing(times: float, error: Callable[[], BaseException] = lambda: ValueError("no"), after: int = 0) -> Hook:
    """Return a hook that raises so often, after it has let some starts pass."""
    calls = SharedList()

    def starting() -> None:
        calls.append("call")
        if after < len(calls) <= after + times:
            raise error()

    return starting
