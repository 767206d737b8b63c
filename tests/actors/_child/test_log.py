"""Log records of a child: what the gate gets of them."""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
from child_processes import Child

from actors._child import _wire
from actors._child._worker_loop import Function

logger = logging.getLogger("tests.child.records")


@pytest.fixture
def log(child: Child) -> Callable[..., list[tuple[int, dict[str, Any]]]]:
    """Have the child call a function that logs; return the records, each with the number of its call."""

    def run(call: Callable[[], object], level: int | None = None) -> list[tuple[int, dict[str, Any]]]:
        child.worker._functions[1] = Function("call", call, False)
        child.call(1, level=level)
        frames = child.run()
        assert [frame.kind for frame in frames][-1] == _wire.RESULT
        return [(frame.number, pickle.loads(frame.payload)) for frame in frames[:-1]]

    return run


Log = Callable[..., list[tuple[int, dict[str, Any]]]]


def test_a_record_is_sent_at_once_with_the_number_of_its_call(log: Log) -> None:
    """Its message is put together here, and its arguments are left out."""
    ((number, record),) = log(lambda: logger.warning("%s of %d", "one", 2))

    assert number == 1
    assert (record["msg"], record["args"], record["name"], record["levelno"]) == (
        "one of 2",
        None,
        "tests.child.records",
        logging.WARNING,
    )
    assert record["funcName"] == "<lambda>"


def test_a_traceback_is_sent_as_text(log: Log) -> None:
    """There is nothing in a record that only its process knows."""

    def fail() -> None:
        try:
            raise ValueError("no")
        except ValueError:
            logger.exception("failed")

    ((_, record),) = log(fail)

    assert record["exc_info"] is None
    assert record["exc_text"].endswith("ValueError: no")
    assert "in fail" in record["exc_text"]


class Odd:
    def __repr__(self) -> str:
        return "<odd>"


class Unwilling:
    def __repr__(self) -> str:
        raise RuntimeError


def test_extra_fields_are_sent_as_plain_values(log: Log) -> None:
    """What is no plain value becomes its text."""
    deep: list[Any] = []
    deep.append(deep)
    extra = {"a": 1, "b": [1, (2.5, None)], "c": {"k": Odd()}, "d": {True}, "e": Unwilling(), "f": deep}
    ((_, record),) = log(lambda: logger.warning("m", extra=extra))

    assert {name: record[name] for name in "abcde"} == {
        "a": 1,
        "b": [1, (2.5, None)],
        "c": {"k": "<odd>"},
        "d": {True},
        "e": "<Unwilling whose repr raised>",
    }
    assert "[[...]]" in str(record["f"])


def test_the_level_comes_with_the_call(log: Log) -> None:
    """It holds until another one comes."""
    records = log(lambda: [logger.debug("d"), logger.info("i"), logger.error("e")], level=logging.INFO)

    assert [record["msg"] for _, record in records] == ["i", "e"]


def test_a_record_whose_message_cannot_be_formatted_is_reported_in_the_child(
    child: Child, capsys: pytest.CaptureFixture[str]
) -> None:
    """As usual in `logging`, it is printed on stderr, and the code that has logged goes on."""
    child.worker._log.handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))

    assert child.run() == []
    assert "--- Logging error ---" in capsys.readouterr().err


def test_outside_of_a_call_the_number_is_0(child: Child) -> None:
    """A thread may outlive the call that has started it."""
    gone = threading.Event()
    frames: list[Any] = []

    def later() -> None:
        gone.wait(30)
        logger.warning("late")

    threads: list[threading.Thread] = []

    def begin() -> None:
        threads.append(threading.Thread(target=later))
        threads[0].start()

    child.worker._functions[1] = Function("begin", begin, False)
    child.call(1)
    loop = threading.Thread(target=child.worker.run)
    loop.start()
    frames += child.read()
    gone.set()
    threads[0].join()
    child.end()
    loop.join()
    frames += child.read_now()

    assert [(frame.kind, frame.number) for frame in frames] == [(_wire.RESULT, 1), (_wire.LOG, 0)]


def test_records_of_many_threads_are_never_mixed_up(log: Log) -> None:
    """Frames are written whole, by whichever thread."""

    def many() -> None:
        start = threading.Barrier(4)

        def work(name: str) -> None:
            start.wait()
            for number in range(20):
                logger.warning("%s %s %s", name, number, name * 500)

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    records = log(many)
    by_thread = {name: [record["msg"] for _, record in records if record["msg"][0] == name] for name in "abcd"}

    assert by_thread == {name: [f"{name} {number} {name * 500}" for number in range(20)] for name in "abcd"}


def test_records_after_the_gates_end_are_dropped(child: Child, capsys: pytest.CaptureFixture[str]) -> None:
    """They are dropped silently."""
    child.stream.close()
    child.worker._log.handle(logging.makeLogRecord({"msg": "late"}))

    assert capsys.readouterr().err == ""
