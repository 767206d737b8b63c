"""Questions of a child to its gate, and frames that are sent beside results."""

from __future__ import annotations

import gc
import logging
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from child_processes import Child
from gated_code import LIMIT

from actors._child import _wire, current_token
from actors._child._counterparts import CurrentToken
from actors._child._current_worker import current_worker
from actors._child._exceptions import ActorDead, NotPicklable, WorkerError
from actors._child._worker_loop import Function


class Asked:
    """A child whose loop runs in another thread, so that the test can answer what it asks."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.thread = threading.Thread(target=child.worker.run)
        self._keys = 100
        self.thread.start()

    def call(self, function: Callable[..., Any]) -> int:
        """Have it call a function of the test itself; return the number of the call."""
        self._keys += 1
        self.child.worker._functions[self._keys] = Function(function.__name__, function, False)
        return self.child.call(self._keys)

    def request(self) -> tuple[int, Any]:
        """Wait for a question; return its number, and what is asked."""
        (frame,) = self.child.read()
        assert frame.kind == _wire.REQUEST, self.child.load(frame)
        return frame.number, self.child.load(frame)

    def result(self) -> Any:
        """Wait for the result of a call."""
        (frame,) = self.child.read()
        assert frame.kind == _wire.RESULT, self.child.load(frame)
        return self.child.load(frame)


@pytest.fixture
def asked(child: Child) -> Iterator[Asked]:
    asked = Asked(child)
    yield asked
    child.end()
    asked.thread.join(LIMIT)
    assert not asked.thread.is_alive()


def test_a_question_is_answered_with_a_value(child: Child, asked: Asked) -> None:
    """Questions are numbered from 1."""
    asked.call(lambda: [current_worker.ask("alive", "a"), current_worker.ask("alive", "b")])
    for expected in ((1, ("alive", "a")), (2, ("alive", "b"))):
        number, question = asked.request()
        assert (number, question) == expected
        child.reply(number, f"answer {number}")

    assert asked.result() == ["answer 1", "answer 2"]


def test_large_questions_and_answers_go_through_files(child: Child, asked: Asked) -> None:
    """As results do."""
    size = 300_000
    asked.call(lambda: len(current_worker.ask("tell", b"q" * size)))
    number, question = asked.request()
    assert question == ("tell", b"q" * size)
    child.reply(number, b"a" * (size + 1))

    assert asked.result() == size + 1


def test_a_question_may_be_answered_with_an_error(child: Child, asked: Asked) -> None:
    """It is raised as it is, or as its text where it cannot be rebuilt."""

    def ask() -> list[BaseException]:
        errors: list[BaseException] = []
        for _ in range(2):
            try:
                current_worker.ask("ask")
            except Exception as error:
                errors.append(error)
        return [errors[0], errors[1].args[0], errors[1].type_name]  # type: ignore[list-item, attr-defined]

    asked.call(ask)
    number, _ = asked.request()
    child.reply(number, (pickle.dumps(KeyError("k")), "KeyError", "'k'", "In the gate: ...", False), error=True)
    number, _ = asked.request()
    child.reply(number, (None, "OddError", "odd", "", False), error=True)
    first, *rest = asked.result()

    assert type(first) is KeyError
    assert first.__notes__ == ["In the gate: ..."]
    assert rest == ["OddError: odd", "OddError"]


def test_an_error_that_cannot_be_rebuilt_says_why() -> None:
    """And has its text, type and traceback."""
    from actors._child._failures import error_of

    error = error_of((b"broken", "OddError", "odd", "", True))

    assert isinstance(error, WorkerError)
    assert error.expected
    assert "OddError: odd (it could not be rebuilt here: UnpicklingError" in str(error)


def test_calls_that_come_while_an_answer_is_waited_for_are_run_later(child: Child, asked: Asked) -> None:
    """In their order, and none is lost."""
    asked.call(lambda: current_worker.ask("current"))
    number, _ = asked.request()
    for value in (1, 2):
        child.call(child.function(abs), -value)
    child.reply(number, "there")
    frames = child.read(3)

    assert child.results(frames) == {1: "there", 2: 1, 3: 2}
    assert [frame.number for frame in frames] == [1, 2, 3]


def test_results_are_sent_before_a_question(child: Child, asked: Asked) -> None:
    """They do not wait for its answer."""
    key = child.function(abs)
    child.worker._functions[50] = Function("ask", lambda: current_worker.ask("current"), False)
    calls = b"".join(
        _wire.pack(_wire.CALL, number, use, pickle.dumps((args, {}, None, None)))
        for number, use, args in ((1, key, (-5,)), (2, 50, ()))
    )
    child.stream.sendall(calls)
    first, second = child.read(2)

    assert child.results([first]) == {1: 5}
    assert second.kind == _wire.REQUEST
    child.reply(second.number, "there")
    assert asked.result() == "there"


def test_the_current_token_is_asked_for_once_in_each_call(child: Child, asked: Asked) -> None:
    """On the thread of the call, and only while that runs."""
    facts: dict[str, Any] = {"operation": "o", "actor": "a", "priority": 2, "tags": {"k": "v"}, "parent": 1}
    facts |= {"attempt": 1, "seconds_left": None}

    def look() -> list[Any]:
        first, again = current_token(), current_token()
        elsewhere: list[Any] = []
        thread = threading.Thread(target=lambda: elsewhere.append(current_token()))
        thread.start()
        thread.join(LIMIT)
        assert isinstance(first, CurrentToken)
        return [first is again, elsewhere, first.id, first.operation, first.priority, first.tags, first.affinity]

    for id in (7, 8):
        asked.call(look)
        number, question = asked.request()
        assert question == ("current",)
        child.reply(number, {"id": id, "affinity": "process", **facts})

        assert asked.result() == [True, [None], id, "o", 2, {"k": "v"}, "process"]


def test_any_thread_of_the_users_can_ask(child: Child, asked: Asked) -> None:
    """A thread that waits reads, and passes on the answers for others."""

    def ask_in_threads() -> list[Any]:
        answers: list[Any] = [None] * 4

        def ask(index: int) -> None:
            answers[index] = current_worker.ask("number", index)

        threads = [threading.Thread(target=ask, args=(index,)) for index in range(1, 4)]
        for thread in threads:
            thread.start()
        ask(0)
        for thread in threads:
            thread.join(LIMIT)
        return answers

    asked.call(ask_in_threads)
    questions = dict(asked.request() for _ in range(4))
    for number, (_, index) in sorted(questions.items(), reverse=True):
        child.reply(number, f"answer {index}")

    assert asked.result() == [f"answer {index}" for index in range(4)]


def test_a_thread_that_waits_outlives_its_call(child: Child, asked: Asked) -> None:
    """It reads for the loop meanwhile, and gets its answer afterwards."""
    answers: list[Any] = []
    threads: list[threading.Thread] = []

    def begin() -> None:
        threads.append(threading.Thread(target=lambda: answers.append(current_worker.ask("later"))))
        threads[0].start()

    asked.call(begin)
    frames = child.read(2)  # its question and the result, in either order
    (number,) = [frame.number for frame in frames if frame.kind == _wire.REQUEST]
    asked.call(lambda: "served")
    assert asked.result() == "served"
    child.reply(number, "there")
    threads[0].join(LIMIT)

    assert answers == ["there"]


def test_when_the_gate_ends_every_waiting_request_raises(child: Child, asked: Asked) -> None:
    """No thread hangs."""
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            current_worker.ask("current")
        except ActorDead as error:
            errors.append(error)

    asked.call(ask)
    asked.request()
    child.stream.close()
    asked.thread.join(LIMIT)

    assert [str(error) for error in errors] == ["the gate of this process has ended"]


def test_what_cannot_be_pickled_is_not_asked(asked: Asked) -> None:
    """The error says what it was sent with, and nothing waits."""

    def ask() -> str:
        try:
            current_worker.ask("tell", "path", threading.Lock())
        except NotPicklable as error:
            return str(error)
        return "it was sent"

    asked.call(ask)

    assert asked.result().startswith("the arguments of request 'tell' cannot be sent to the gate: TypeError: cannot")


def test_outside_of_a_child_a_request_is_an_error() -> None:
    """It is raised at once."""
    with pytest.raises(RuntimeError, match="no child process"):
        current_worker.ask("current")


def test_an_answer_that_is_not_waited_for_any_more_is_dropped(child: Child, asked: Asked) -> None:
    """The code that asked may have been interrupted."""
    child.reply(77, "late")
    asked.call(lambda: "served")

    assert asked.result() == "served"
    assert child.connection._replies == {}


def test_what_interrupts_a_message_is_sent_after_it(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalizer may log wherever it is called; frames are never mixed up."""
    logger = logging.getLogger("tests.child")

    class Interrupted:
        def __init__(self, real: Any) -> None:
            self.real = real
            self.again = True

        def sendall(self, data: Any) -> None:
            half = len(data) // 2
            self.real.sendall(data[:half])
            if self.again:
                self.again = False
                logger.error("in between")
            self.real.sendall(data[half:])

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    real = child.connection._stream
    monkeypatch.setattr(child.connection, "_stream", Interrupted(real))
    child.call(child.function(abs), -4)
    frames = child.run()

    assert [frame.kind for frame in frames] == [_wire.RESULT, _wire.LOG]
    assert child.results(frames) == {1: 4}


def test_a_thread_sends_only_while_no_other_thread_does(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame is sent in as many pieces as the stream takes."""
    begun, go_on = threading.Event(), threading.Event()

    class Slow:
        def __init__(self, real: Any) -> None:
            self.real = real

        def sendall(self, data: Any) -> None:
            self.real.sendall(data[:7])
            begun.set()
            go_on.wait(LIMIT)
            self.real.sendall(data[7:])

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    monkeypatch.setattr(child.connection, "_stream", Slow(child.connection._stream))
    first = threading.Thread(target=child.connection.send, args=(_wire.LOG, 1, 0, b"first"))
    second = threading.Thread(target=child.connection.send, args=(_wire.LOG, 2, 0, b"second"))
    first.start()
    assert begun.wait(LIMIT)
    second.start()
    second.join(0.01)  # it would be over by now
    go_on.set()
    first.join(LIMIT)
    second.join(LIMIT)

    assert [bytes(frame.payload) for frame in child.read(2)] == [b"first", b"second"]


def test_code_that_interrupts_a_message_cannot_ask(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait for itself."""
    errors: list[str] = []

    class Interrupted:
        def __init__(self, real: Any) -> None:
            self.real = real

        def __getattr__(self, name: str) -> Any:
            if name in ("sendall", "recv"):
                try:
                    current_worker.ask("current")
                except RuntimeError as error:
                    errors.append(str(error))
            return getattr(self.real, name)

    monkeypatch.setattr(child.connection, "_stream", Interrupted(child.connection._stream))
    child.call(child.function(abs), -4)
    child.run()

    assert len(errors) >= 2
    assert set(errors) == {
        "no request can be made here: this code has interrupted code that sends to the gate, or reads from it"
    }


def test_a_large_payload_that_cannot_be_mapped_is_the_error_of_its_call(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be no room for it under the limit of a token; the child goes on."""

    def no_room(*_args: Any) -> Any:
        raise OSError(12, "Cannot allocate memory")

    key = child.function(len)
    child.call(key, b"x" * 200_000)
    child.call(key, b"x" * 200_001)
    with monkeypatch.context() as patch:
        patch.setattr("actors._child._payload.map_shared", no_room)
        child.connection.wait_pending()
    first, second = child.run()

    assert child.load(first)[1:3] == ("OSError", "[Errno 12] Cannot allocate memory")
    assert child.load(second)[1] == "OSError"


def test_nothing_is_left_open(child: Child) -> None:
    """Files of large payloads are freed when their contents are not used any more."""
    import psutil

    key = child.function(len)
    gc.collect()  # garbage of other tests may have files open
    before = psutil.Process().num_fds()
    for _ in range(5):
        child.call(key, b"x" * 100_000)
    child.run_results()
    gc.collect()

    assert psutil.Process().num_fds() == before - 2  # the connection's own, which `run` has closed


def test_signals_of_the_user_do_not_disturb_a_wait(child: Child, asked: Asked) -> None:
    """Reading goes on after a handler has run."""
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        asked.call(lambda: current_worker.ask("current"))
        number, _ = asked.request()
        signal.pthread_kill(asked.thread.ident or 0, signal.SIGUSR1)
        child.reply(number, "there")

        assert asked.result() == "there"
    finally:
        signal.signal(signal.SIGUSR1, before)
