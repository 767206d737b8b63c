"""The protocol between a gate and its child processes: frames on a stream; and records for the fork server.

Both sides use this module. A frame is a header and a payload. A large payload is in a file without a name instead;
the file's descriptor is sent on a second socket (`_payload.py`).
"""

from __future__ import annotations

import pickle
import signal
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

# kind, flags, 2 unused bytes, length of the payload in bytes, number of the call or request, `extra` (see each kind)
HEADER: Final = struct.Struct("<BBxxIqq")

_SIZE: Final = HEADER.size
_unpack_from = HEADER.unpack_from
_new_tuple = tuple.__new__

# --- From the gate ----------------------------------------------------------------------------------------------------

SETUP: Final = 1  # a pickled dict: `path` (sys.path), `argv`, `cwd`, `gate` (its name), `level` (of logging's root)
FUNCTION: Final = 2  # extra: its key; a pickled (name, function, whether its generator is its steps, context variables)
# number; extra: the function's key; a pickled (args, kwargs, pairs of context variable and value, level of logging)
CALL: Final = 3  # with the flag `PLAIN`, several calls
ACTOR: Final = 4  # number; extra: what to do, one of those below; a pickled tuple
REPLY: Final = 5  # number of the request that it answers; extra: 0 for a value, 1 for an error

# What to do with the instance of an actor: the `extra` of `ACTOR`, and the payload.
MAKE: Final = 1  # (class, args, kwargs, path, attributes that the gate has set): make the instance, and call `on_start`
HANDLE: Final = 2  # (attribute path or (), then as in `CALL`): call that attribute; () is `on_receive`
GET: Final = 3  # (attribute path,)
SET: Final = 4  # (attribute path, value)
END: Final = 5  # (): call `on_stop`
FAIL: Final = 6  # (error,): call `on_failure` with the error of the latest call, or with this one
VISIT: Final = 7  # (function,): call it with the instance

# --- From the child ---------------------------------------------------------------------------------------------------

READY: Final = 32  # number 0; the child is set up, and waits for calls
RESULT: Final = 33  # number; extra: duration of the call in nanoseconds; the pickled value
ERROR: Final = 34  # the same; a pickled `Failure`
CANCELLED: Final = 35  # the same; no payload: the call ended at a yield point, as it was asked to
REQUEST: Final = 36  # number of the request, from 1; a pickled tuple: name of the request, and its arguments
LOG: Final = 37  # a pickled dict: the attributes of a log record
RESULTS: Final = 38  # number 0; a run of plain results, see below

FROM_CHILD: Final = frozenset((READY, RESULT, ERROR, CANCELLED, REQUEST, LOG, RESULTS))

# --- Flags ------------------------------------------------------------------------------------------------------------

LARGE: Final = 1  # the payload is in a file; in the frame is the file's table, see `_payload.py`
NO_REPLY: Final = 2  # of a request: the answer is not waited for
# Of a call: the payload is a pickled list of tuples, the positional arguments of this call and of those that follow it,
# which have no other arguments. Their numbers follow one another.
PLAIN: Final = 4

# --- Runs of plain results --------------------------------------------------------------------------------------------

PLAIN_TYPES: Final = {int: False, float: False, bool: False, type(None): False, str: True, bytes: True}
"""{type of a plain value: whether its objects have a length}. Pickling these calls no user code."""

# A run is the pickle of a tuple that has three items for each call: number, duration in nanoseconds, result. It is
# written call by call, and without its end while it is in the outbox, where a result is as a whole or not at all.
RUN_HEAD: Final = HEADER.pack(RESULTS, 0, 0, 0, 0) + pickle.MARK
_RUN_END: Final = pickle.TUPLE + pickle.STOP

# Protocol 3 is the latest one whose pickles can be joined: later ones count what is pickled, and have frames. In it the
# pickle of a tuple of three is PROTO and the protocol, the items, TUPLE3, BINPUT and an index, STOP.
RUN_PROTOCOL: Final = 3
RUN_ITEMS: Final = slice(2, -4)


def complete(outbox: bytes) -> bytes:
    """Return what is in an outbox as frames: the frames that it consists of, or its run, ended."""
    if not outbox.startswith(RUN_HEAD):
        return outbox
    run = outbox[_SIZE:] + _RUN_END
    return HEADER.pack(RESULTS, 0, len(run), 0, 0) + run


Failure = tuple[bytes | None, str, str, str, bool]
"""An error: pickled, if it can be unpickled again, else None; the qualified name of its type; its text; its traceback
as text; whether the class of its actor expects it."""


class Frame(NamedTuple):
    """A frame as it was read."""

    kind: int
    flags: int
    number: int
    extra: int
    payload: memoryview


def pack(kind: int, number: int, extra: int, payload: bytes, flags: int = 0) -> bytes:
    """Return a frame as bytes."""
    return HEADER.pack(kind, flags, len(payload), number, extra) + payload


class Frames:
    """Cuts a stream of bytes into frames."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    @property
    def is_empty(self) -> bool:
        """Whether no part of a further frame has come."""
        return not self._rest

    @property
    def is_foreign(self) -> bool:
        """Whether the part of the next frame that has come is not the beginning of a frame from a child."""
        rest = self._rest
        if not rest:
            return False
        if len(rest) < _SIZE:
            return rest[0] not in FROM_CHILD
        kind, flags, _, number, _ = _unpack_from(rest)
        return kind not in FROM_CHILD or bool(flags & ~(LARGE | NO_REPLY)) or number < 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Add data, and return the frames that are complete."""
        if self._rest:
            data = self._rest + data
        view = memoryview(data)
        at, end = 0, len(data)
        frames: list[Frame] = []
        while end - at >= _SIZE:
            kind, flags, length, number, extra = _unpack_from(view, at)
            start = at + _SIZE
            after = start + length
            if after > end:
                break
            # Not by the named tuple's own constructor, which takes twice as long as the rest of this loop.
            frames.append(_new_tuple(Frame, (kind, flags, number, extra, view[start:after])))
            at = after
        self._rest = data[at:]
        return iter(frames)


# --- Between the gate and the fork server -----------------------------------------------------------------------------

RECORD: Final = struct.Struct("<Bxxxxxxxqq")  # kind, two numbers

SPAWN: Final = 1  # to the server: a number for the new child; with its four descriptors, see `DESCRIPTORS`
REAP: Final = 2  # to the server: pid of a child that was reported as exited; afterwards its pid may be reused
SPAWNED: Final = 3  # from the server: the number, and the pid of the child, or -errno if it could not be forked
EXITED: Final = 4  # from the server: pid, and its exit code as in `subprocess`: below 0, a signal

DESCRIPTORS: Final = ("stream", "files", "page", "stack")
"""The descriptors that a child inherits: the stream of frames, the socket for descriptors of files, the shared
page, and the pipe for its stack."""

ASK_SIGNAL: Final = signal.SIGRTMAX - 2 if hasattr(signal, "SIGRTMAX") else signal.SIGUSR1
"""Signal: a child writes the stack of its main thread as soon as that runs Python code."""

STACK_SIGNAL: Final = signal.SIGRTMAX - 1 if hasattr(signal, "SIGRTMAX") else signal.SIGUSR2
"""Signal: a child writes the stack of its main thread at once, even in C code."""
