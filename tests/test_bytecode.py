"""An exception of a signal handler leaves no function past the `with`, `except` and `finally` around a loop.

CPython checks for signals where it jumps back to the head of a loop. CPython 3.13 raises at the jump, and compiles one
behind a condition (`for ...: if ...`, `while condition`, a comprehension with `if`) without the handlers of the code
around it. So the exception leaves the function at once, and the lock of `with lock:` stays locked. CPython 3.11 and
3.12 raise at the instruction before the head of the loop, which is inside of the `with` in all but rare cases.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType

import pytest

ROOT = Path(__file__).parent.parent

FOLDERS = ("actors", "supervisors", "tokengate")

# Jumps at which CPython checks for signals.
LOOKING = {name for name in dis.opmap if "JUMP_BACKWARD" in name and "NO_INTERRUPT" not in name}

CONTROL = "coroutine of the control actor, on the control loop's thread"
STREAM = "only the thread of the stream runs it, or that of a reader"
HOST = "only the thread of the child processes runs it"

JOURNAL = "only a thread of the journal runs it"

# {function: why no signal handler raises in it, or why that does no harm}
ALLOWED = {
    "Dispatcher._main": "only CPU threads run it",
    "PinnedDispatcher._main": "only pinned threads run it",
    "Timers._pop_due": "only the system loop's thread runs it",
    "LimitWatch._work": "coroutine of the system loop's thread",
    "ProcessHost._work": HOST,
    "WorkerLifecycle.read_server": HOST,
    "WorkerStream.send_rest": HOST,
    "WorkerPool.next_assignment": HOST,
    "WorkerPool.superfluous": HOST,
    "send_interrupt": "only the control loop's thread runs it",
    "Monitor._stop": "its `except` is for a recursion limit that was reached",
    "Shell.run_script": "its `except` is for errors of the script's syntax",
    "measure_steps": "its `except` is for errors of the source",
    "Turns._give": CONTROL,
    "ActorVerbs.drain": CONTROL,
    "settle": CONTROL,
    "_reconcile": "coroutine of the system loop's thread",
    "_Connection._write": CONTROL,
    "AuthorityVerbs.wait_approval": CONTROL,
    "Writer._run": "only the thread that writes the audit log runs it",
    "Writer._write": "only the thread that writes the audit log runs it",
    "DurableMailbox.begin_reading": JOURNAL,
    "DurableMailbox.come": JOURNAL,
    "DurableMailbox.end_reading": JOURNAL,
    "Backlog.waiting": "only threads that close the gate or answer operators run it",
    "Backlog.look": "only threads of the journal and that of the gate's opening run it",
    "Backlog.find": "only threads that answer operators run it",
    "Backlog._read": JOURNAL,
    "Backlog._waiting": JOURNAL,
    "begin_run": "only the thread of the gate's opening runs it",
    "Schedules._running": JOURNAL,
    "Ticker._due": JOURNAL,
    "Writer._next": JOURNAL,
    "Writer._commit": JOURNAL,
    "HealthVerb._look_at_plugin": CONTROL,
    "Queued._run": STREAM,
    "Writer._put": STREAM,
    "Figures.take": STREAM,
    "_Spans._flush": "only a thread of its own runs it",
    "Watching._memory": STREAM,
    "Watching.look": STREAM,
    "Watching._slow": STREAM,
    "Watching._sample": STREAM,
}


def codes(code: CodeType) -> Iterator[CodeType]:
    """Yield some code and all that it contains."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def gaps(code: CodeType) -> Iterator[int]:
    """Yield the lines of jumps back that lack a handler of their loop's head."""
    if not code.co_exceptiontable:
        return
    table = dis._parse_exception_table(code)  # type: ignore[attr-defined]
    steps = {step.offset: step for step in dis.get_instructions(code)}

    def handlers(offset: int) -> set[int]:
        found: list[int] = []
        while (entry := next((one for one in table if one.start <= offset < one.end), None)) is not None:
            if entry.target in found:
                break
            found.append(offset := entry.target)
        return {target for target in found if steps[target].opname == "PUSH_EXC_INFO"}  # code of the function

    for offset, step in steps.items():
        if step.opname not in LOOKING:
            continue
        raised_at = offset if sys.version_info >= (3, 13) else step.argval - 2
        if handlers(step.argval) - handlers(raised_at):
            yield step.positions.lineno if step.positions and step.positions.lineno else code.co_firstlineno


@cache
def all_gaps() -> dict[str, list[str]]:
    """Return where all gaps of the rooms are, by function."""
    found: dict[str, list[str]] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT)
            if name.parts[:2] == ("actors", "_child"):
                continue  # in child processes no signal handler of the program is set
            for code in codes(compile(path.read_text(), str(path), "exec")):
                for line in gaps(code):
                    found.setdefault(code.co_qualname, []).append(f"{name}:{line}")
    return found


compiled_so = pytest.mark.skipif(sys.version_info < (3, 13), reason="CPython compiles so since 3.13")


def test_no_loop_lets_a_signal_past_the_handlers_around_it() -> None:
    """Whatever the program's main thread may run; other threads run no signal handlers."""
    found = {function: lines for function, lines in all_gaps().items() if function not in ALLOWED}

    assert not found, "\n".join(
        f"{', '.join(lines)}: a signal handler that raises at the jump back of a loop in {function} skips the `with`, "
        "`except` or `finally` around the loop: move the loop into a function of its own, or out of the block"
        for function, lines in found.items()
    )


@compiled_so
def test_each_exception_from_the_rule_is_one() -> None:
    """An entry whose function has no such loop any more is to be removed."""
    assert set(ALLOWED) - set(all_gaps()) == set()


@compiled_so
def test_a_gap_is_found() -> None:
    """With the line of the condition behind which the loop begins again."""
    source = "def f(lock, numbers):\n with lock:\n  for number in numbers:\n   if number:\n    print(number)\n"
    whole = compile(source, "f", "exec")

    assert [line for code in codes(whole) for line in gaps(code)] == [4]
