"""Log records say which token and which actor they come from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from actors import ActorSystem, BaseActor, ExitReason, LogContext
from actors.lowlevel import ActorPlace
from actors.tokens._log_context import install, uninstall

LIMIT = 30.0

Start = Callable[..., Any]
Records = list[logging.LogRecord]

_logger = logging.getLogger("somebody.else")


class Handler(logging.Handler):
    """Keeps the records of all loggers."""

    def __init__(self) -> None:
        super().__init__()
        self.records: Records = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def has(self, text: str) -> bool:
        return any(text in record.getMessage() for record in list(self.records))

    def fields(self, text: str) -> tuple[Any, Any]:
        """The fields of the record with this text."""
        (record,) = (record for record in self.records if text in record.getMessage())
        return record.token, record.actor  # type: ignore[attr-defined]


@pytest.fixture
def handler() -> Iterator[Handler]:
    handler = Handler()
    root = logging.getLogger()
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)


def make(base: type[BaseActor]) -> type[BaseActor]:
    class Writer(base):  # type: ignore[misc, valid-type]
        def on_start(self) -> None:
            _logger.warning("starting")

        def on_stop(self) -> None:
            _logger.warning("stopping")

        def on_failure(self, *_error: object) -> None:
            _logger.warning("failing")

        def on_receive(self, message: Any) -> Any:
            if isinstance(message, str):
                _logger.warning(message)
                return None
            return message()

    return Writer


def test_a_record_within_a_step_names_token_and_actor(
    base: type[BaseActor], start: Start, handler: Handler, until: Any
) -> None:
    """Whoever's logger it is."""
    ref = start(make(base))
    token = ref.ask("within", block=False)
    token.result(LIMIT)
    until(lambda: handler.has("within"))  # those of a process come on a thread of their own

    assert handler.fields("within") == (token.id, ref.path)


def test_a_record_outside_has_the_fields_too(system: ActorSystem, handler: Handler) -> None:
    """They are None, so that a format that names them works."""
    _logger.warning("outside")

    assert handler.fields("outside") == (None, None)


def test_hooks_and_the_runtime_name_the_actor(
    base: type[BaseActor], system: ActorSystem, handler: Handler, until: Any
) -> None:
    """A start in somebody else's step is the started actor's code all the same."""

    def owner(_place: ActorPlace, _reason: ExitReason, _administrative: bool) -> None:
        pass

    place = system.place("writer", make(base), owner=owner)
    place.start().result(LIMIT)
    place.ref.ask([].pop, block=False).exception(LIMIT)
    place.stop(drain=False, administrative=True).result(LIMIT)

    texts = ("starting", "failing", f"Unhandled exception in {place.ref}:")
    until(lambda: all(handler.has(text) for text in texts))
    assert [handler.fields(text)[1] for text in texts] == ["writer"] * 3


def test_a_direct_call_names_its_operation(system: ActorSystem, handler: Handler) -> None:
    """On the caller's own thread."""
    place = system.operation_place("operation", "cpu", generator=False, concurrency=1)
    token = place.token("operation", lambda: _logger.warning("direct"), (), {})
    turn = place.turn_here(token)
    assert turn is not None
    turn.run()

    assert handler.fields("direct") == (token.id, "operation")


def test_a_task_and_a_thread_of_a_step_are_its_own(system: ActorSystem, start: Start, handler: Handler) -> None:
    """What carries the step's context carries its names."""

    async def spread() -> None:
        async def child() -> None:
            _logger.warning("in a task")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
        await trio.to_thread.run_sync(lambda: _logger.warning("in a thread"))

    place = system.operation_place("operation", "io", generator=False, concurrency=1)
    token = place.send(place.token("operation", spread, (), {}))
    token.result(LIMIT)

    assert handler.fields("in a task") == handler.fields("in a thread") == (token.id, "operation")


def test_what_a_user_gives_as_extra_wins(base: type[BaseActor], start: Start, handler: Handler, until: Any) -> None:
    """`logging` would raise for a name that the record has."""
    ref = start(make(base))
    ref.ask(lambda: _logger.warning("extra", extra={"token": "secret"}), timeout=LIMIT)
    until(lambda: handler.has("extra"))

    assert handler.fields("extra") == ("secret", ref.path)


def test_the_filter_adds_the_fields_where_no_system_is_open() -> None:
    """And leaves alone what is there."""
    record = logging.LogRecord("name", logging.INFO, "path", 1, "text", None, None)
    other = logging.LogRecord("name", logging.INFO, "path", 1, "text", None, None)
    other.token = "there"
    passed = [LogContext().filter(record), LogContext().filter(other)]
    text = logging.Formatter("%(token)s %(actor)s %(message)s").format(record)

    assert passed == [True, True]
    assert text == "None None text"
    assert other.token == "there"


def test_the_factory_of_before_is_put_back_when_the_last_system_closes() -> None:
    """Opening twice installs once; closing twice changes nothing."""
    before = logging.getLogRecordFactory()
    first, second = object(), object()
    install(first)
    during = logging.getLogRecordFactory()
    install(second)
    again = logging.getLogRecordFactory()
    uninstall(first)
    uninstall(first)
    still = logging.getLogRecordFactory()
    uninstall(second)

    assert during is again is still
    assert logging.getLogRecordFactory() is before


def test_a_factory_that_somebody_else_installed_stays() -> None:
    """One below makes the records; one on top is left where it is, and ours only passes on from then on."""
    before = logging.getLogRecordFactory()
    owner = object()

    def below(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = before(*args, **kwargs)
        record.below = True
        return record

    logging.setLogRecordFactory(below)
    try:
        install(owner)
        ours = logging.getLogRecordFactory()

        def on_top(*args: Any, **kwargs: Any) -> logging.LogRecord:
            return ours(*args, **kwargs)

        logging.setLogRecordFactory(on_top)
        uninstall(owner)
        record: Any = on_top("name", logging.INFO, "path", 1, "text", None, None)

        assert logging.getLogRecordFactory() is on_top
        assert record.below
    finally:
        logging.setLogRecordFactory(before)
