"""Messages of `tokengate top`, sent in a thread, so that its keys work while the gate does not answer."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import Any, Self

import attrs

from tokengate.cli._connection import Connection
from tokengate.control.messages import Message


@attrs.frozen
class Answer:
    """The answers to some messages that were sent together.

    Attributes:
        questions: the messages.
        answers: one for each message, if there is no error.
        error: the error, or None.
    """

    questions: tuple[Message[Any], ...]
    answers: tuple[Any, ...] = ()
    error: Exception | None = None


class Asker:
    """Sends messages to a gate in a thread, during a block; the end of the block ends the connection.

    `select` takes it: it is readable when there is an answer.

    Args:
        connection: of the gate; it must not be used elsewhere meanwhile.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._questions: SimpleQueue[tuple[Message[Any], ...]] = SimpleQueue()  # an empty tuple ends the thread
        self._answers: deque[Answer] = deque()
        self._asked: deque[float] = deque()  # the monotonic time of each message without a taken answer
        self._thread = threading.Thread(target=self._work, name="tokengate-top", daemon=True)
        self._wakes, self._woken = socket.socketpair()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._questions.put(())
        self._connection.close()
        self._thread.join()
        self._wakes.close()
        self._woken.close()

    def fileno(self) -> int:
        return self._woken.fileno()

    @property
    def silence(self) -> float | None:
        """Seconds since the oldest message without an answer was sent; None if there is none."""
        return time.monotonic() - self._asked[0] if self._asked else None

    def ask(self, *questions: Message[Any]) -> None:
        """Send messages, one after the other, after all earlier ones."""
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
            except Exception as error:  # it is in the answer
                answer = Answer(questions, error=error)
            self._answers.append(answer)
            self._wakes.send(b"!")
