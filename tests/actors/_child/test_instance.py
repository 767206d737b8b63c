"""The instance of an actor in its child: made, called and ended by frames of the gate."""

from __future__ import annotations

import contextvars
import logging
import pickle
from collections.abc import Generator
from types import TracebackType
from typing import Any, ClassVar

import attrs
import pytest
from child_processes import Child

import actors._child
from actors._child import ProcessActor, Ref, _shared_page, _wire, checkpoint
from actors._child._wire import Frame

seen: list[Any] = []
tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


class Part:
    def __init__(self) -> None:
        self.value = 7

    def twice(self) -> int:
        return 2 * self.value


class Counter(ProcessActor):
    expected: ClassVar[tuple[type[BaseException], ...]] = (KeyError,)

    def __init__(self, count: int, *, by: int = 1) -> None:
        self.path_in_init = self.actor_ref.path
        self.urn_in_init = self.actor_urn
        self.count = count
        self.by = by
        self.part = Part()

    def on_start(self) -> None:
        seen.append("on_start")

    def on_stop(self) -> None:
        seen.append("on_stop")

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        names = []
        while traceback is not None:
            names.append(traceback.tb_frame.f_code.co_name)
            traceback = traceback.tb_next
        seen.append(("on_failure", exception_type, exception_value, names))

    def on_receive(self, message: Any) -> Any:
        return ("received", message)

    def add(self, value: int = 0, *, more: int = 0) -> int:
        self.count += value + more
        return self.count

    def fail(self, error: BaseException) -> None:
        raise error

    def in_steps(self) -> Generator[None, None, int]:
        for _ in range(3):
            yield
            self.count += 1
        return self.count

    def other_generator(self) -> Any:
        return (n for n in range(3))

    def tenant_of(self) -> str:
        before = tenant.get()
        tenant.set("left behind")
        return before

    async def later(self) -> None:
        """Never begun."""

    @property
    def double(self) -> int:
        checkpoint()
        return 2 * self.count


def make(child: Child, cls: type[Any] = Counter, *args: Any, **kwargs: Any) -> int:
    return child.act(_wire.MAKE, cls, args or (3,), kwargs, "shop/counter", {"_urn": "urn:x"})


def handle(child: Child, path: tuple[str, ...], *args: Any, **kwargs: Any) -> int:
    return child.act(_wire.HANDLE, path, args, kwargs, None, None)


def failure(child: Child, frame: Frame) -> _wire.Failure:
    assert frame.kind == _wire.ERROR
    failed: _wire.Failure = child.load(frame)
    return failed


def test_an_instance_is_made_started_called_and_ended(child: Child) -> None:
    """In the order of the frames, with all of its state here."""
    make(child)
    handle(child, (), "hello")
    handle(child, ("add",), 4, more=2)
    handle(child, ("part", "twice"))
    child.act(_wire.END)
    results = child.run_results()

    assert results == {1: None, 2: ("received", "hello"), 3: 9, 4: 14, 5: None}
    assert seen == ["on_start", "on_stop"]


def test_attributes_are_read_and_written_by_their_path(child: Child) -> None:
    """Properties run."""
    make(child)
    child.act(_wire.SET, ("count",), 10)
    child.act(_wire.SET, ("part", "value"), 1)
    child.act(_wire.GET, ("count",))
    child.act(_wire.GET, ("part", "value"))
    child.act(_wire.GET, ("double",))
    child.act(_wire.GET, ("nothing",))
    *_, last = frames = child.run()

    assert child.results(frames) == {1: None, 2: None, 3: None, 4: 10, 5: 1, 6: 20, 7: "error"}
    assert failure(child, last)[1] == "AttributeError"


def test_keyword_arguments_get_to_the_constructor(child: Child) -> None:
    """As do positional ones."""
    make(child, Counter, 5, by=3)
    child.act(_wire.GET, ("by",))

    assert child.run_results() == {1: None, 2: 3}


def test_an_instance_knows_its_ref_before_its_init_runs(child: Child) -> None:
    """As users take `self.actor_ref.proxy()` there; a visitor can ask the instance for it."""
    make(child)
    child.act(_wire.VISIT, path_and_urn)

    assert child.run_results()[2] == ("shop/counter", "urn:x", "shop/counter")


def path_and_urn(instance: Counter) -> tuple[str, str, str]:
    return instance.path_in_init, instance.urn_in_init, instance.actor_ref.path


def test_a_generator_method_is_taken_in_steps(child: Child) -> None:
    """One that is only returned is not."""
    make(child)
    handle(child, ("in_steps",))
    handle(child, ("other_generator",))
    *_, second, third = child.run()

    assert child.load(second) == 6
    assert child.page.word[_shared_page.STEPS] == 1
    assert failure(child, third)[1] == "NotPicklable"


def test_a_generator_method_can_be_ended_between_two_steps(child: Child) -> None:
    """The instance is as it was left."""
    make(child)
    child.page.word[_shared_page.CANCEL] = 2
    handle(child, ("in_steps",))
    child.act(_wire.GET, ("count",))

    assert child.run_results() == {1: None, 2: "cancelled", 3: 3}


def test_a_failure_tells_whether_the_class_expects_it(child: Child) -> None:
    """The owner need not have the class to know whether that is a crash."""
    make(child)
    handle(child, ("fail",), KeyError("asked for"))
    handle(child, ("fail",), ValueError("crash"))
    _, expected, crash = child.run()

    assert failure(child, expected)[4] is True
    assert failure(child, crash)[4] is False


def test_the_hook_of_a_crash_gets_the_real_error(child: Child) -> None:
    """With the traceback that it has in the child, and none of the runtime's frames."""
    make(child)
    handle(child, ("fail",), ValueError("crash"))
    child.act(_wire.FAIL, RuntimeError("as it was rebuilt"))
    child.run()
    name, kind, error, frames = seen[-1]

    assert (name, kind, error.args, frames) == ("on_failure", ValueError, ("crash",), ["fail"])


@pytest.mark.parametrize(
    "before", [("add", ()), ("fail", (KeyError("expected"),))], ids=["no error", "an expected one"]
)
def test_the_hook_gets_the_gates_error_when_the_latest_call_did_not_crash(
    child: Child, before: tuple[str, tuple[Any, ...]]
) -> None:
    """An earlier error is not reported again."""
    make(child)
    handle(child, ("fail",), ValueError("long ago"))
    handle(child, before[:1], *before[1])
    child.act(_wire.FAIL, RuntimeError("now"))
    child.run()
    _, kind, error, frames = seen[-1]

    assert (kind, error.args, frames) == (RuntimeError, ("now",), [])


def test_the_hook_may_be_called_without_an_error(child: Child) -> None:
    """Then there is nothing to tell."""
    make(child)
    child.act(_wire.FAIL, None)
    results = child.run_results()

    assert results[2] is None
    assert seen[-1] == ("on_failure", None, None, [])


class Broken(Counter):
    def on_start(self) -> None:
        raise OSError("no")


def test_an_error_of_a_hook_is_reported(child: Child) -> None:
    """Here, that the actor did not start."""
    make(child, Broken)
    pickled, *_ = failure(child, *child.run())

    assert pickled is not None
    assert isinstance(pickle.loads(pickled), OSError)


class Async(Counter):
    async def on_start(self) -> None:  # type: ignore[override]
        """Never begun."""


def test_what_is_async_is_a_type_error(child: Child) -> None:
    """A child process has no loop to await it on."""
    make(child, Async)
    handle(child, ("later",))
    hook, method = child.run()

    assert failure(child, hook)[1:3] == ("TypeError", "on_start of Async is async; a process actor cannot await it")
    assert failure(child, method)[1:3] == (
        "TypeError",
        "Async.later is a coroutine function; a child process cannot await it",
    )


@attrs.define
class Named:
    """A context variable of this module, as the gate pickles one."""

    name: str

    def __reduce__(self) -> Any:
        return actors._child.context_variable, (__name__, self.name, self.name)


def test_each_message_has_a_context_of_its_own(child: Child) -> None:
    """With the values that have come with it."""
    make(child)
    handle(child, ("tenant_of",))
    child.act(_wire.HANDLE, ("tenant_of",), (), {}, ((Named("tenant"), "acme"),), None)
    handle(child, ("tenant_of",))

    assert child.run_results() == {1: None, 2: "none", 3: "acme", 4: "none"}


def test_a_message_brings_the_level_of_log_records(child: Child) -> None:
    """None leaves it."""
    make(child)
    child.act(_wire.HANDLE, ("add",), (), {}, None, logging.DEBUG)
    handle(child, ("add",))
    child.run()

    assert logging.root.level == logging.DEBUG


def test_an_actor_made_without_a_call_of_its_base_init_works(child: Child) -> None:
    """It is no error to leave that out, and none to pass it anything."""
    ProcessActor("anything", goes=1)
    make(child, ProcessActor, 1, two=2)
    handle(child, (), "message")

    assert child.run_results() == {1: None, 2: None}


def test_an_instance_does_not_leave_its_process(child: Child) -> None:
    """Its ref does."""
    make(child)
    child.act(_wire.VISIT, itself)
    _, frame = child.run()
    _, name, text, *_ = failure(child, frame)

    assert name == "NotPicklable"
    assert "cannot be sent to another process: send its actor_ref" in text


def itself(instance: Counter) -> Counter:
    return instance


def test_the_names_of_an_instance() -> None:
    """As the gate's actors have them."""
    actor = Counter.__new__(Counter)
    actor._path = "a/b"

    assert str(actor) == "Counter (a/b)"
    assert actor.actor_ref == Ref("a/b")
