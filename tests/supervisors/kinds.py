"""Children of every kind that a supervisor takes, which write down what happens to them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pykka
import trio

from actors import CpuActor, IoActor
from supervisors import ChildSpec

KINDS = ("io", "cpu", "task", "foreign")
MESSAGED = ("io", "cpu", "foreign")  # those that take messages

Hook = Callable[[], object]

_serials = count(1)


def do_nothing() -> None:
    pass


class _Child:
    stop: Callable[[], None]

    def __init__(self, id: str, diary: list[Any], starting: Hook = do_nothing) -> None:
        super().__init__()
        self.serial = next(_serials)
        self.id, self.diary, self.starting = id, diary, starting

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


class CpuChild(_Child, CpuActor):
    pass


class ForeignChild(_Child, pykka.ThreadingActor):
    """Knows nothing of us."""


async def task_child(id: str, diary: list[Any], starting: Hook = do_nothing, *, task_status: Any) -> None:
    diary.append(("start", id))
    starting()
    diary.append(("started", id))
    task_status.started()
    try:
        await trio.sleep_forever()
    finally:
        diary.append(("stop", id))


STARTS: dict[str, Any] = {"io": IoChild, "cpu": CpuChild, "task": task_child, "foreign": ForeignChild}


def child(kind: str, id: str, diary: list[Any] | None = None, starting: Hook = do_nothing, **options: Any) -> ChildSpec:
    """Return the spec of a child of a kind; `options` are those of `ChildSpec`."""
    return ChildSpec(id, STARTS[kind], args=(id, [] if diary is None else diary, starting), **options)


def failing(times: float, error: Callable[[], BaseException] = lambda: ValueError("no"), after: int = 0) -> Hook:
    """Return a hook that raises so often, after it has let some starts pass."""
    calls = count(1)

    def starting() -> None:
        if after < next(calls) <= after + times:
            raise error()

    return starting
