"""Stack inspection: which token's step a thread runs, and whether the step may be stopped or interrupted there.

Nothing is recorded while code runs; the stack is read on demand. The runtime's frame at the bottom of each step has the
token in a local variable named `token`.

A thread is never stopped where it may hold a lock that others need: in the runtime, in the modules of the standard
library that lock (`_BARRIERS`), and in all that these call. And it is not interrupted in cleanup code: in a `finally`
block, however it was entered, where a `with` block is left, in `__exit__` and `__del__`. Compiled code does not mark
`finally` blocks, but contains each of them twice, once as the handler of an exception, so the lines of the handler are
those of the block.
"""

from __future__ import annotations

import dis
import sys
import threading
from collections.abc import Iterator, Mapping
from dis import opmap, opname
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any, Final

from actors.concurrency._blocking import loop_here
from actors.concurrency._thread_frames import frame_of, frames_from, thread_frames, variables_of
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

# Modules in whose own frames nothing is stopped: between two of their lines they hold what others have acquired.
_UNSTOPPED: Final = _PASSAGES | {"contextlib"}

# Names, or beginnings of them, of the instructions of straight code: they neither call nor go back.
_STRAIGHT: Final = (
    "COMPARE_OP",
    "COPY",
    "EXTENDED_ARG",
    "IS_OP",
    "JUMP_FORWARD",
    "LOAD_CONST",
    "LOAD_DEREF",
    "LOAD_FAST",
    "LOAD_GLOBAL",
    "LOAD_NAME",
    "NOP",
    "POP_JUMP_",
    "POP_TOP",
    "STORE_",
    "SWAP",
    "TO_BOOL",
    "UNARY_NOT",
    "UNPACK_",
)
_RETURNS: Final = ("RETURN_", "YIELD_VALUE")
_JUMPS: Final = frozenset(dis.hasjrel)
_PROLOGUE: Final = ("COPY_FREE_VARS", "MAKE_CELL", "POP_TOP", "RESUME", "RETURN_GENERATOR")

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
        frame.f_code.co_name in _CLEANUP_FUNCTIONS or frame.f_lineno in _cleanup(frame.f_code)[0]
        for frame in frames
        if _module_of(frame) not in _PASSAGES
    )


def may_raise_at(code: CodeType, offset: int, line: int) -> bool:
    """Tell whether an exception may be raised where a line begins at this offset.

    Not at the line of a `with`, before which something may have been acquired that it releases; it is also that of the
    exit, which lies behind the block and outside of its protected range. Not where a function only returns what it may
    have acquired in the line before. Not where a value is stored or dropped: a call on another line has just returned
    it, and may have acquired it. Not at a NOP: it may be a `try`, before which a lock may have been taken, or a
    `continue` on its way out through a `finally`. Not at a jump, which is sometimes outside of the protected range of
    the code around it. It may be raised at the `pass` of a loop that does nothing else.
    """
    name = opname[code.co_code[offset]]
    if "JUMP" in name or name == "POP_TOP" or name.startswith("STORE_"):
        return False
    if name == "NOP":
        behind = offset + 2
        return behind in _jumps_back(code) and _handler_of(code, offset) == _handler_of(code, behind)
    if offset in _jumps_back(code).values():
        return True  # or a loop of nothing else would not be left
    if line in _cleanup(code)[1]:
        return False
    ends = _straight_ends(code, offset)
    return _is_first(code, offset) or not all(opname[code.co_code[end]].startswith(_RETURNS) for end in ends)


def _is_first(code: CodeType, offset: int) -> bool:
    """Tell whether nothing of a function has run before the instruction at an offset."""
    instructions = _instructions(code)
    return all(instructions[before][0].startswith(_PROLOGUE) for before in instructions if before < offset)


def leaps_handlers(code: CodeType, offset: int) -> bool:
    """Tell whether an exception raised at a jump back would pass by a handler around its loop.

    CPython 3.13 compiles a jump back behind a condition so; see `tests/test_bytecode.py`.
    """
    target = _jumps_back(code).get(offset)
    return target is not None and _covered(code, offset) != _covered(code, target)


def takes_for_try(frames: list[FrameType]) -> bool:
    """Tell whether a step is in a call which may acquire what a `try` or a `with` right behind it releases.

    Args:
        frames: of the step, the outermost first; a function that only returns what it has acquired counts as its call.
    """
    for frame in reversed(frames):
        code, offset = frame.f_code, frame.f_lasti
        if _module_of(frame) == "contextlib":
            return True
        if opname[code.co_code[offset]].startswith("BEFORE_"):  # of `with`, and of `async with`
            return frame is not frames[-1]
        ends = list(_straight_ends(code, _behind_call(code, offset)))
        if any(_is_try(code, end) or _begins_with_behind(code, end, offset) for end in ends):
            return True
        if not any(opname[code.co_code[end]].startswith(_RETURNS) for end in ends):
            break
    return False


def _behind_call(code: CodeType, offset: int) -> int:
    """Return the offset behind an instruction.

    In code that has run often, Python 3.11 calls from the `PRECALL` in front of a `CALL`, which is passed over then.
    """
    while offset not in _instructions(code):  # the caller of a function is seen in the cache of its call
        offset -= 2
    name, _, behind = _instructions(code)[offset]
    return _instructions(code)[behind][2] if name == "PRECALL" else behind


def _straight_ends(code: CodeType, offset: int) -> Iterator[int]:
    """Yield the offsets of what ends the straight code from an offset on: calls, returns, loops, and each `try`."""
    instructions, left, seen = _instructions(code), [offset], set[int]()
    while left:
        offset = left.pop()
        if offset in seen or offset not in instructions:
            continue
        seen.add(offset)
        name, target, behind = instructions[offset]
        if not name.startswith(_STRAIGHT) or _is_try(code, offset):
            yield offset
            continue
        if target > offset:
            left.append(target)
        if name != "JUMP_FORWARD":
            left.append(behind)


def _is_try(code: CodeType, offset: int) -> bool:
    return opname[code.co_code[offset]] == "NOP" and _handler_of(code, offset) != _handler_of(code, offset + 2)


def _begins_with_behind(code: CodeType, offset: int, before: int) -> bool:
    """Tell whether an instruction belongs to a `with` that begins behind another instruction."""
    line = line_of(code, offset)
    return line is not None and _cleanup(code)[1].get(line, -1) > before


@lru_cache(maxsize=1024)
def _instructions(code: CodeType) -> Mapping[int, tuple[str, int, int]]:
    """Return all instructions: {offset: (name, offset of the target of a jump, or 0, offset of the next one)}."""
    found = list(dis.get_instructions(code))
    nexts = [one.offset for one in found[1:]] + [len(code.co_code)]
    return {
        one.offset: (one.opname, one.argval if one.opcode in _JUMPS else 0, behind)
        for one, behind in zip(found, nexts, strict=True)
    }


def _handler_of(code: CodeType, offset: int) -> int | None:
    """Return the handler of an exception at an offset; for a jump back, the handler at its target."""
    return _covered(code, _jumps_back(code).get(offset, offset))


def _covered(code: CodeType, offset: int) -> int | None:
    return next((target for start, end, target in _exception_table(code) if start <= offset < end), None)


def line_of(code: CodeType, offset: int) -> int | None:
    """Return the line of the instruction at an offset."""
    return next((line for start, end, line in code.co_lines() if start <= offset < end), None)


@lru_cache(maxsize=1024)
def loops_in_a_line(code: CodeType) -> frozenset[int]:
    """Return the offsets at which loops on one line begin: no line event comes inside them.

    An empty loop is a jump to itself, which is in the protected range of the loop; other jumps may not be.
    """
    return frozenset(
        target
        for source, target in _jumps_back(code).items()
        if line_of(code, target) == line_of(code, source)
        and (target == source or "JUMP" not in opname[code.co_code[target]])
    )


@lru_cache(maxsize=1024)
def _jumps_back(code: CodeType) -> Mapping[int, int]:
    """Return all jumps back: {offset of the jump: offset of its target}."""
    found, argument = {}, 0
    operations = code.co_code
    for offset in range(0, len(operations), 2):
        name = opname[operations[offset]]
        argument = argument << 8 | operations[offset + 1]
        if name == "EXTENDED_ARG":
            continue
        if name.startswith("JUMP_BACKWARD"):
            behind = offset + 2
            while behind < len(operations) and operations[behind] == opmap["CACHE"]:
                behind += 2
            found[offset] = behind - 2 * argument
        argument = 0
    return found


@lru_cache(maxsize=1024)
def _cleanup(code: CodeType) -> tuple[frozenset[int], Mapping[int, int]]:
    """Return the lines of all `finally` blocks of some code, and where its `with` lines begin: {line: offset}."""
    covered = list(_exception_table(code))
    lines = [(start, end, line) for start, end, line in code.co_lines() if line is not None]
    in_finally: set[int] = set()
    withs: dict[int, int] = {}
    for handler in {target for _, _, target in covered}:
        kind = _kind_of_handler(code.co_code, handler)
        if kind == "with":
            for line in {line for start, end, line in lines if start <= handler + 2 < end}:
                withs[line] = min(start for start, _, other in lines if other == line)
        elif kind == "finally":
            # The handler for exceptions of the block itself stands right behind it.
            behind = next((target for start, end, target in covered if start <= handler < end), len(code.co_code))
            in_finally.update(line for start, end, line in lines if start < behind and end > handler + 2)
    return frozenset(in_finally), withs


def _kind_of_handler(operations: bytes, handler: int) -> str:
    if opname[operations[handler]] != "PUSH_EXC_INFO":
        return ""
    first = True
    for offset in range(handler + 2, len(operations), 2):
        name = opname[operations[offset]]
        if name == "WITH_EXCEPT_START":
            return "with"
        if name in ("CHECK_EXC_MATCH", "CHECK_EG_MATCH") or (first and name == "POP_TOP"):
            return "except"
        if name in ("PUSH_EXC_INFO", "RERAISE", "POP_EXCEPT"):
            return "finally"
        first = first and name == "NOP"
    return "finally"


def _exception_table(code: CodeType) -> Iterator[tuple[int, int, int]]:
    """Yield (start, end, handler) offsets of each protected range (CPython: Objects/exception_handling_notes.txt)."""
    table = iter(code.co_exceptiontable)

    def number() -> int:
        byte = next(table)
        value = byte & 63
        while byte & 64:
            byte = next(table)
            value = value << 6 | byte & 63
        return value

    while True:
        try:
            start = 2 * number()
        except StopIteration:
            return
        length, target, _depth = 2 * number(), 2 * number(), number()
        yield start, start + length, target
