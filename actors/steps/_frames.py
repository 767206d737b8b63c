"""Stack inspection: which token's step a thread runs, and whether the step may be stopped or interrupted there.

Nothing is recorded while code runs; the stack is read on demand. The runtime's frame at the bottom of each step has the
token in a local variable named `token`.

A thread is never stopped where it may hold a lock that others need: in the runtime, in the modules of the standard
library that lock (`_BARRIERS`), and in all that these call. And it is not interrupted in cleanup code: in a `finally`
block, however it was entered, where a `with` block is left, in `__exit__` and `__del__`.
"""

from __future__ import annotations

import sys
import threading
from functools import lru_cache
from types import FrameType
from typing import Any, Final

from actors.concurrency._blocking import loop_here
from actors.concurrency._thread_frames import frame_of, frames_from, thread_frames, variables_of
from actors.steps._bytecode import begins_with_behind, behind_call, cleanup, enters_with, is_try, returns, straight_ends
from actors.tokens._token import Token

# Modules with the frames at the bottom of a step: they call or continue user code, and hold no lock.
_STEPS = frozenset(
    ("actors.steps._step", "actors.drains._cpu_drain", "actors.drains._io_worker", "actors.kinds._operation_place")
)

# Further modules that may be below user code on the stack; a step does not stop in their own frames.
_PASSAGES = _STEPS | {"tokengate.operations._operation"}

# Modules (and their submodules) that may hold a lock while they run or call other code; and the runtime.
_BARRIERS: Final = frozenset(
    (
        "_frozen_importlib",
        "_frozen_importlib_external",
        "_pyio",
        "_strptime",
        "_threading_local",
        "_weakrefset",
        "actors",
        "asyncio",
        "concurrent",
        "coverage",
        "http",
        "importlib",
        "logging",
        "multiprocessing",
        "pykka",
        "queue",
        "sched",
        "selectors",
        "socketserver",
        "subprocess",
        "supervisors",
        "sysconfig",
        "tempfile",
        "threading",
        "tokengate",
        "trio",
        "unittest.mock",
        "weakref",
        "webbrowser",
        "zipfile",
        "zipimport",
        *(() if sys.version_info >= (3, 12) else ("functools",)),  # its cached_property locked until then
    )
)

# Modules that hold what others have acquired between two of their lines.
_HOLDERS: Final = frozenset(("contextlib",))

# Modules in whose own frames nothing is stopped.
_UNSTOPPED: Final = _PASSAGES | _HOLDERS

_EVENT_LOOPS = ("trio._core._run", "asyncio.base_events")

# The function of the runtime that closes generators which do not go on.
_CLOSING = "close_steps"

_CLEANUP_FUNCTIONS = frozenset(("__exit__", "__aexit__", "__del__"))


def is_step(frame: FrameType) -> bool:
    """Tell whether a frame is the runtime's bottom of a step."""
    return frame.f_globals.get("__name__") in _STEPS


def _token_in(frame: FrameType) -> Token[Any] | None:
    if is_step(frame) and "token" in frame.f_code.co_varnames:
        token = variables_of(frame).get("token")
        if isinstance(token, Token):
            return token
    return None


def tokens_of(frame: FrameType | None) -> list[Token[Any]]:
    """Return the tokens of the steps that a thread's frame belongs to, the innermost first."""
    found: list[Token[Any]] = []
    for each in frames_from(frame):
        token = _token_in(each)
        if token is not None and token not in found:
            found.append(token)
    return found


def step_frames(token: Token[Any], frame: FrameType | None) -> list[FrameType] | None:
    """Return the frames above the bottom of a token's step, the outermost first.

    Args:
        token: the owner of the step.
        frame: the innermost one of a thread.

    Returns:
        None when the thread runs no step of the token.
    """
    above: list[FrameType] = []
    for each in frames_from(frame):
        if _token_in(each) is token:
            return above[::-1]
        above.append(each)
    return None


def find_step(token: Token[Any]) -> tuple[int, list[FrameType]] | None:
    """Return the ident of the thread that runs a token's step now, and the frames of the step.

    The frames are a snapshot; the thread runs on. A direct call within a step is part of both steps.
    """
    frames = step_frames(token, sys._getframe(1))
    if frames is not None:
        return threading.get_ident(), frames
    for ident, frame in thread_frames().items():
        frames = step_frames(token, frame)
        if frames is not None:
            return ident, frames
    return None


def in_event_loop(frame: FrameType | None) -> bool:
    """Tell whether a frame runs within a loop of trio or asyncio, which must not be stopped."""
    return any(each.f_globals.get("__name__") in _EVENT_LOOPS for each in frames_from(frame))


def on_event_loop(token: Token[Any]) -> bool:
    """Tell whether the calling thread, which runs a token's step, runs a loop that must not be stopped."""
    return bool(loop_here()) or token.affinity == "asyncio"


# Where a step may be stopped


@lru_cache(maxsize=4096)
def _is_barrier(module: str) -> bool:
    if module in _PASSAGES or module == "tokengate.demo" or module.startswith("tokengate.demo."):
        return False
    return module in _BARRIERS or module.partition(".")[0] in _BARRIERS


def _module_of(frame: FrameType) -> str:
    name = frame.f_globals.get("__name__")
    return name if type(name) is str else ""


def _open_frames(frames: list[FrameType]) -> list[FrameType]:
    """Return the frames of a step below the first barrier: in it and above it nothing may be stopped."""
    bottom = frame_of(frames[0], "f_back") if frames else None
    if bottom is not None and bottom.f_code.co_name == _CLOSING:
        return []
    for number, frame in enumerate(frames):
        if _is_barrier(_module_of(frame)) or (frame.f_code.co_name == _CLOSING and is_step(frame)):
            return frames[:number]
    return frames


def stoppable(frames: list[FrameType]) -> list[FrameType]:
    """Return those frames of a step, the outermost first, in which it may be stopped."""
    return [frame for frame in _open_frames(frames) if _module_of(frame) not in _UNSTOPPED]


def may_stop(frames: list[FrameType]) -> bool:
    """Tell whether a step may be stopped where it is, with these frames."""
    return bool(frames) and _module_of(frames[-1]) not in _UNSTOPPED and len(_open_frames(frames)) == len(frames)


# Where a step may be interrupted


def in_cleanup(frames: list[FrameType]) -> bool:
    """Tell whether one of the frames of a step is in cleanup code, which an exception would cut short."""
    return any(
        frame.f_code.co_name in _CLEANUP_FUNCTIONS or frame.f_lineno in cleanup(frame.f_code)[0]
        for frame in frames
        if _module_of(frame) not in _PASSAGES
    )


def takes_for_try(frames: list[FrameType]) -> bool:
    """Tell whether a step is in a call which may acquire what a `try` or a `with` right behind it releases.

    Args:
        frames: of the step, the outermost first; a function that only returns what it has acquired counts as its call.
    """
    for frame in reversed(frames):
        code, offset = frame.f_code, frame.f_lasti
        if _module_of(frame) in _HOLDERS:
            return True
        if enters_with(code, offset):
            return frame is not frames[-1]
        ends = list(straight_ends(code, behind_call(code, offset)))
        if any(is_try(code, end) or begins_with_behind(code, end, offset) for end in ends):
            return True
        if not any(returns(code, end) for end in ends):
            break
    return False
