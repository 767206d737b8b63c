"""Stacks of tokens, on a thread, in a task, between two steps, or in a child process."""

from __future__ import annotations

import gc
import linecache
import os
import stat
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any, Final

import attrs
import trio

import actors
import supervisors
from actors import Token
from actors.lowlevel import (
    CpuDrain,
    IoDrain,
    ProcessDrain,
    find_step,
    frame_of,
    in_context,
    process_drain,
    variables_of,
)
from tokengate.control._safe_text import plain
from tokengate.control.inspection._off_loop import OffLoop
from tokengate.control.inspection._selector import held_of
from tokengate.control.messages import Frame, TokenStack

_MAX_FRAMES: Final = 200  # of a stack, the innermost
_MAX_LINKS: Final = 10_000  # of a chain of awaitables, which may change meanwhile and so never end
_MAX_SOURCE: Final = 4_000_000  # bytes of a source file that is read
_READ_SECONDS: Final = 1.0  # for reading the lines of a stack: files may be on a network
_MAX_LINE: Final = 200  # characters
_TRIES: Final = 3

_FOLDERS: Final = (Path(str(actors.__file__)).parent, Path(str(supervisors.__file__)).parent, Path(__file__).parents[2])
_OURS: Final = tuple(f"{folder}{os.sep}" for folder in _FOLDERS)
_DEMO: Final = f"{_OURS[-1]}demo{os.sep}"  # which is user code

_IN_CONTEXT: Final[CodeType] = in_context.__code__
_WRAPPERS: Final = frozenset(
    ("coroutine_wrapper", "async_generator_asend", "async_generator_athrow", "anext_awaitable")
)

_readers = OffLoop("reading of source files", 2)


async def stack_of(token: Token[Any]) -> TokenStack:
    """Return the stack of a token, without running or stopping its code.

    The code runs on during the look. So the look is repeated, up to three times, if the token took a step meanwhile;
    the frames of fast code may come from several moments. The source lines are read in a thread, within a second; they
    are empty after that time, or if the file cannot be read.
    """
    drain = process_drain(token)
    if drain is not None:
        return await _stack_in_process(token, drain)
    stack = _nowhere(token)
    for _ in range(_TRIES):
        steps = token.steps
        stack = spot_of(token)
        if token.started_at is None or (stack.where != "nowhere" and token.steps == steps):
            break
        await trio.lowlevel.checkpoint()
    return attrs.evolve(stack, frames=await with_source(stack.frames))


async def _stack_in_process(token: Token[Any], drain: ProcessDrain) -> TokenStack:
    frames: tuple[Frame, ...] = ()
    for _ in range(_TRIES):
        worker = drain.worker_of(token)
        if worker is None:
            break
        found = await drain.stack(token) or []
        frames = tuple(Frame(file, line, function) for file, line, function in found[-_MAX_FRAMES:])
        if drain.worker_of(token) is worker:  # else the stack may be another token's
            frames = await with_source(frames)
            return attrs.evolve(_nowhere(token), where="process", frames=frames, pid=worker.pid)
    return _nowhere(token)


def _nowhere(token: Token[Any]) -> TokenStack:
    return TokenStack(token.id, plain(token.operation), "nowhere", None, (), held_of(token))


def spot_of(token: Token[Any]) -> TokenStack:
    """Return the stack of a token at this moment, without source lines."""
    code = None if token.started_at is None else _code_of(token)
    if code is not None and not _runs(code):
        frames = frames_of(code)
        if frames:
            steps = type(code) is GeneratorType
            return attrs.evolve(_nowhere(token), where="generator" if steps else "task", frames=frames)
    elif token.started_at is not None and (step := find_step(token)) is not None:
        ident, above = step
        frames = _shown((frame, frame.f_lineno or 0) for frame in above)
        if frames:
            return attrs.evolve(_nowhere(token), where="thread", thread=thread_of(ident)[1], frames=frames)
    return _nowhere(token)


def frames_of(code: object) -> tuple[Frame, ...]:
    """Return the frames of a suspended coroutine or generator and of what it awaits, without source lines."""
    return _shown(_chain(code))


def _shown(frames: Iterable[tuple[FrameType, int]]) -> tuple[Frame, ...]:
    shown: deque[tuple[str, int, CodeType]] = deque(maxlen=_MAX_FRAMES)
    for frame, line in frames:
        file = plain(frame.f_code.co_filename)
        if not file.startswith(_OURS) or file.startswith(_DEMO):
            shown.append((file, line, frame.f_code))
    return tuple(Frame(file, line, plain(code.co_qualname)) for file, line, code in shown)


# --- Code that is suspended ------------------------------------------------------------------------------------------


def _runs(code: object) -> bool:
    """Tell whether a coroutine or generator runs now, on some thread."""
    return code.gi_running if type(code) is GeneratorType else type(code) is CoroutineType and code.cr_running


def _code_of(token: Token[Any]) -> object:
    """Return the coroutine or generator of a token that its drain drives, or None."""
    drain = token._place.drain
    if isinstance(drain, CpuDrain):
        for slot in drain.slots():
            if slot.token is token:
                return slot.steps
    elif isinstance(drain, IoDrain):
        return _driven(drain.rest_of(token))
    return None


def _driven(rest: object) -> object:
    """Return the user code in what an io worker awaits: a coroutine, or a generator that is run step by step."""
    if type(rest) is GeneratorType and rest.gi_code is _IN_CONTEXT:
        frame = frame_of(rest, "gi_frame")
        return rest if frame is None else variables_of(frame).get("code")
    if type(rest) is CoroutineType and (frame := frame_of(rest, "cr_frame")) is not None:
        steps = variables_of(frame).get("steps")
        if type(steps) is GeneratorType:
            return steps
    return rest


def _chain(code: Any) -> Iterator[tuple[FrameType, int]]:
    """Follow a suspended coroutine or generator to what it awaits, as far as objects have built-in classes.

    `trio.lowlevel.Task.iter_await_frames` does so, too, but reads attributes of objects of any class.
    """
    for _ in range(_MAX_LINKS):
        kind = type(code)
        frame: FrameType | None = None
        if kind is CoroutineType:
            frame, after = frame_of(code, "cr_frame"), code.cr_await
        elif kind is GeneratorType:
            frame, after = frame_of(code, "gi_frame"), code.gi_yieldfrom
            if frame is not None and frame.f_code is _IN_CONTEXT:
                after = variables_of(frame).get("code")  # it sends into the coroutine, and does not await it
        elif kind is AsyncGeneratorType:
            frame, after = frame_of(code, "ag_frame"), code.ag_await
        elif _is_wrapper(kind):
            after = _wrapped(code)
        else:
            return
        if frame is not None:
            yield frame, frame.f_lineno or 0
        code = after


def _is_wrapper(kind: type) -> bool:
    return plain(type.__dict__["__name__"].__get__(kind)) in _WRAPPERS


def _wrapped(wrapper: object) -> object:
    """Return the object inside a built-in awaitable, which has no attribute for it."""
    for inner in gc.get_referents(wrapper):
        kind = type(inner)
        if kind is CoroutineType or kind is GeneratorType or kind is AsyncGeneratorType or _is_wrapper(kind):
            return inner
    return None


def thread_of(ident: int) -> tuple[threading.Thread | None, str | None]:
    """Return a thread and its name; None where they are unknown."""
    for thread in threading.enumerate():
        known = object.__getattribute__(thread, "__dict__")  # a subclass may override them with properties
        if known.get("_ident") == ident:
            name = known.get("_name")
            return thread, name if type(name) is str else None
    return None, None


# --- Lines of source -------------------------------------------------------------------------------------------------


async def with_source(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """Return frames with source lines, which are read in a thread; without them if that takes too long."""
    read = await _readers.run(_READ_SECONDS, lambda: _read(frames))
    return frames if read is None else read


def _read(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    return tuple(attrs.evolve(frame, source=_line(frame.file, frame.line)) for frame in frames)


def _line(file: str, line: int) -> str:
    try:
        found = os.stat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_SOURCE:
            return ""
        return linecache.getline(file, line).strip()[:_MAX_LINE]
    except Exception:  # any error of the file: its name and the line's number are shown without the text
        return ""
