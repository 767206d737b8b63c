"""Functions that child processes run for tests; children import this module only."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import stat
import struct
import time
from collections.abc import Callable
from typing import Any


def apply(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function."""
    return function(*args)


def note(file: str) -> int:
    """Append a byte to a file; return the pid."""
    descriptor = os.open(file, os.O_APPEND | os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"x")
    os.close(descriptor)
    return os.getpid()


def wait_for_file(path: str) -> bool:
    """Spin until a file exists."""
    while not os.path.exists(path):
        os.sched_yield()
    return True


def spoil(seed: int, way: str, then: str) -> int:
    """Write what no child process says to what is the runtime's, as a seed wants it; then end in some way."""
    from tokengate_worker._current_worker import current_worker  # type: ignore[import-not-found]

    chance, connection = random.Random(seed), current_worker.connection
    number = current_worker.yield_points.number
    stream, files = connection._stream.fileno(), connection._files.fileno()
    pipes = [
        one
        for one in map(int, os.listdir("/proc/self/fd"))
        if one > 2 and os.path.exists(f"/proc/self/fd/{one}") and stat.S_ISFIFO(os.stat(one).st_mode)
        if fcntl.fcntl(one, fcntl.F_GETFL) & os.O_WRONLY
    ]
    garbage = chance.randbytes(chance.choice((1, 7, 24, 100, 5000, 70_000)))
    result, error, request, log, large, own = 33, 34, 36, 37, 1, number

    def header(kind: int, flags: int, length: int, number: int) -> bytes:
        return struct.pack("<BBxxIqq", kind, flags, length, number, chance.choice((0, 1, -1, 2**40)))

    if way == "random":
        os.write(stream, garbage)
    elif way == "huge":
        os.write(stream, header(chance.choice((result, error, request, log)), 0, 2**32 - 1, own) + garbage)
    elif way == "cut":
        os.write(stream, header(chance.choice((result, error, request, log)), 0, len(garbage) + 50, own) + garbage)
    elif way == "begin":
        os.write(stream, header(result, 0, 0, own)[: chance.randrange(1, 24)])
    elif way == "rubbish":
        os.write(stream, header(chance.choice((result, error, request, log)), 0, len(garbage), own) + garbage)
    elif way == "others":
        os.write(stream, header(result, 0, len(garbage), own + chance.choice((1, 2, -own, 2**50))) + garbage)
    elif way == "no file":
        kind = chance.choice((result, error, request, log))
        os.write(stream, header(kind, large, 32, own) + chance.randbytes(32))
    elif way == "odd file":
        descriptor = os.memfd_create("odd")
        os.write(descriptor, garbage)
        socket.send_fds(connection._files, [b"f"], [descriptor])
        os.write(stream, header(chance.choice((result, error)), large, 33, own) + chance.randbytes(33))
    elif way == "files":
        os.write(files, garbage[:100])
    elif way == "stack":
        os.write(pipes[0], b"Stack (most recent call first):\n" + garbage[:3000] + b'\n  File "x", line ' + b"9" * 5000)
    elif way == "page":
        for at in range(32):
            connection.page.word[at] = chance.choice((0, 1, -1, 2**40, chance.randrange(-(2**63), 2**63)))
    elif way == "word":
        connection.page.word[chance.randrange(32)] = chance.choice((5, -1, 2**40, chance.randrange(-(2**63), 2**63)))
    elif way == "outbox":
        size = min(len(garbage), len(connection.page.outbox))
        connection.page.outbox[:size] = garbage[:size]
        connection.page.word[3] = size
    if then == "wait":
        time.sleep(0.05)
    elif then == "raise":
        raise LookupError("spoilt")
    elif then == "much":
        return chance.randbytes(200_000)  # type: ignore[return-value]
    elif then == "exit":
        os._exit(3)
    return number


class OnlyThere:
    """An object with 200 kB that only the process that has made it can rebuild."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[bytes, int]]:
        return _rebuild, (b"x" * 200_000, os.getpid())


def _rebuild(_data: bytes, pid: int) -> OnlyThere:
    if os.getpid() != pid:
        raise ValueError("not here")
    return OnlyThere()
