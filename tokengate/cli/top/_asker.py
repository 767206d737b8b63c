"""Questions of `tokengate top`, asked in a thread, so that its keys work while the gate does not answer."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import attrs

from tokengate.cli._connection import Connection
from tokengate.control.messages import Message


@attrs.frozen
class Answer:
    """What came of some questions that were asked together.

    Attributes:
        questions: these.
        answers: one for each, if there is no error.
        error: why there are none.
    """

    questions: tuple[Message, ...]
    answers: tuple[Any, ...] = ()
    error: Exception | None = None


class Asker:
    """Asks a gate in a thread, for the length of a block, whose end ends the connection, too.

    It can be waited for with `select`: it can be read when there is an answer to take.

    Args:
        connection: which nobody else may use meanwhile.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._questions: SimpleQueue[tuple[Message, ...]] = SimpleQueue()  # none are the end
        self._answers: deque[Answer] = deque()
        self._asked: deque[float] = deque()  # when, by the monotonic clock, for each that is not taken
        self._thread = threading.Thread(target=self._work, name="tokengate-top", daemon=True)
        self._wakes, self._woken = socket.socketpair()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._questions.put(())
        self._connection.close()
        self._thread.join()
        self._wakes.close()
        self._woken.close()

    def fileno(self) -> int:
        return self._woken.fileno()

    @property
    def silence(self) -> float | None:
        """The seconds for which the oldest question has had no answer; None without a question."""
        return time.monotonic() - self._asked[0] if self._asked else None

    def ask(self, *questions: Message) -> None:
        """Ask these, one after the other, after all that was asked before."""
        self._asked.append(time.monotonic())
        self._questions.put(questions)

    def take(self) -> Answer | None:
        """Return the next answer, if there is one."""
        if not self._answers:
            return None
        self._woken.recv(1)
        self._asked.popleft()
        return self._answers.popleft()

    def _work(self) -> None:
        while questions := self._questions.get():
            try:
                answer = Answer(questions, tuple(map(self._connection.ask, questions)))
            except Exception as error:  # told to whoever takes the answer
                answer = Answer(questions, error=error)
            self._answers.append(answer)
            self._wakes.send(b"!")
