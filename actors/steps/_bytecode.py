"""Compiled code: where an exception may be raised in it, and what it does behind a call.

It does not mark `finally` blocks, but contains each of them twice, once as the handler of an exception, so the lines of
the handler are those of the block.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator, Mapping
from dis import opname
from functools import lru_cache
from types import CodeType
from typing import Final

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
        return offset + 2 in _jumps_back(code) and not is_try(code, offset)
    if offset in _jumps_back(code).values():
        return True  # or a loop of nothing else would not be left
    if line in cleanup(code)[1]:
        return False
    ends = straight_ends(code, offset)
    return _is_first(code, offset) or not all(returns(code, end) for end in ends)


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


def behind_call(code: CodeType, offset: int) -> int:
    """Return the offset behind an instruction.

    In code that has run often, Python 3.11 calls from the `PRECALL` in front of a `CALL`, which is passed over then.
    """
    while offset not in _instructions(code):  # the caller of a function is seen in the cache of its call
        offset -= 2
    name, _, behind = _instructions(code)[offset]
    return _instructions(code)[behind][2] if name == "PRECALL" else behind


def straight_ends(code: CodeType, offset: int) -> Iterator[int]:
    """Yield the offsets of what ends the straight code from an offset on: calls, returns, loops, and each `try`."""
    instructions, left, seen = _instructions(code), [offset], set[int]()
    while left:
        offset = left.pop()
        if offset in seen or offset not in instructions:
            continue
        seen.add(offset)
        name, target, behind = instructions[offset]
        if not name.startswith(_STRAIGHT) or is_try(code, offset):
            yield offset
            continue
        if target > offset:
            left.append(target)
        if name != "JUMP_FORWARD":
            left.append(behind)


def is_try(code: CodeType, offset: int) -> bool:
    """Tell whether the instruction at an offset is a `try`."""
    return opname[code.co_code[offset]] == "NOP" and _handler_of(code, offset) != _handler_of(code, offset + 2)


def returns(code: CodeType, offset: int) -> bool:
    """Tell whether the instruction at an offset gives a value to the caller."""
    return opname[code.co_code[offset]].startswith(_RETURNS)


def enters_with(code: CodeType, offset: int) -> bool:
    """Tell whether the instruction at an offset calls `__enter__` or `__aenter__` for a `with`."""
    return opname[code.co_code[offset]].startswith("BEFORE_")


def begins_with_behind(code: CodeType, offset: int, before: int) -> bool:
    """Tell whether an instruction belongs to a `with` that begins behind another instruction."""
    line = line_of(code, offset)
    return line is not None and cleanup(code)[1].get(line, -1) > before


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
    return {
        offset: target for offset, (name, target, _) in _instructions(code).items() if name.startswith("JUMP_BACKWARD")
    }


@lru_cache(maxsize=1024)
def cleanup(code: CodeType) -> tuple[frozenset[int], Mapping[int, int]]:
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
