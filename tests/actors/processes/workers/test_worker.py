"""A child process as the gate sees it, without the process."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator

import pytest

from actors import ActorSystem
from actors._child import _shared_page, _wire
from actors.lowlevel import Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker without a process."""
    made = Worker(ActorSystem("unopened", threads=2), 1)
    yield made
    made.close()


def test_only_calls_that_a_dead_process_has_not_started_are_taken_back(worker: Worker) -> None:
    """One that has begun may be why it is dead, and must not run again; what handles the death ends it."""
    waiting = [object(), object(), object()]
    numbers = [worker.next_number(one) for one in waiting]
    worker.page.word[_shared_page.BEGUN] = numbers[1]
    worker.died(1)

    assert worker.missed(numbers) == waiting[2:]
    assert worker.inflight == dict(zip(numbers[:2], waiting[:2], strict=True))


@pytest.mark.skipif(sys.platform != "linux", reason="only there a file can be sealed")
def test_the_size_of_the_page_cannot_be_changed(worker: Worker) -> None:
    """To read behind the end of a file that has become shorter kills a process, and that would be the gate's."""
    for size in (0, _shared_page.SIZE + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(worker.descriptors[2], size)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        (_shared_page.MARK, 0),
        (_shared_page.BEGUN, 3),
        (_shared_page.BEGUN, -1),
        (_shared_page.ENDED, 2),
        (_shared_page.REVOKED, 1),
        (_shared_page.KEPT, 1),
        (_shared_page.OUTBOX, _shared_page.OUTBOX_SIZE + 1),
        (_shared_page.CANCEL, 3),
        (_shared_page.STOP_CALL, -1),
    ],
)
def test_a_page_that_other_code_has_written_to_is_not_believed(worker: Worker, word: int, value: int) -> None:
    """Each word has values that the runtime never writes."""
    worker.reserve(), worker.reserve()
    worker.page.word[_shared_page.BEGUN] = worker.page.word[_shared_page.ENDED] = 1
    sound = worker.page_is_sound()
    worker.page.word[word] = value

    assert sound
    assert not worker.page_is_sound()


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        b"\x63" * 30,
        _wire.pack(_wire.CALL, 1, 0, b"")[:10],
        _wire.pack(_wire.RESULT, -1, 0, b"abc")[:26],
        _wire.pack(_wire.RESULT, 1, 0, b"abc", 64)[:26],
    ],
)
def test_what_does_not_begin_as_a_frame_is_a_protocol_error(worker: Worker, data: bytes) -> None:
    """Nothing more is read then."""
    with socket.socket(fileno=os.dup(worker.descriptors[0])) as child:
        whole = _wire.pack(_wire.LOG, 1, 0, b"whole")
        child.sendall(whole + data)
        frames, ended = worker.read()
        child.sendall(whole)

        assert ([frame.kind for frame in frames], ended) == ([_wire.LOG], False)
        assert worker.protocol_error
        assert worker.read() == ([], False)


def test_a_file_that_was_not_sent_is_not_waited_for(worker: Worker) -> None:
    """It comes before the frame that it belongs to."""
    with pytest.raises(EOFError, match="no file"):
        worker.receive_file()

    assert worker.protocol_error
