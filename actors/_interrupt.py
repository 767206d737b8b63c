"""Pause, step and end Python code that runs in a thread, without any change to it and at no cost before somebody asks.

Python 3.12 and later: `sys.monitoring`, armed on the code objects of the frames that the thread runs just now. The callback
runs in that thread, where it can wait (a pause), count (steps) and raise (an interrupt); it is armed no longer than that
takes, since meanwhile everyone in that code is slower. Python 3.11 has no such thing: there an interrupt is an asynchronous
exception, and a pause waits for the next `checkpoint()`.

A thread is never stopped, and never interrupted, in code that may hold a lock which others need: the runtime's own, and the
modules of the standard library that lock (`_BARRIERS`), nor in anything that these call. Nor is a trio loop ever stopped.
Where a thread runs is looked at in the thread itself, at the very place, so what is meant for one token cannot hit the next.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Final

import trio

from actors._exceptions import TokenInterrupt
from actors._frames import find_step, is_step, step_frames

if TYPE_CHECKING:
    from actors._hold import Hold

# Top-level modules, and some below one, whose code may hold a lock while it calls others.
_BARRIERS: Final = frozenset(
    (
        "_frozen_importlib",
        "_frozen_importlib_external",
        "_threading_local",
        "_weakrefset",
        "actors",
        "asyncio",
        "concurrent",
        "coverage",
        "functools",  # cached_property, in Python 3.11
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
        "tempfile",
        "threading",
        "trio",
        "weakref",
        "zipimport",
    )
)


def _is_barrier(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__")
    if type(name) is not str:
        return False
    return name.partition(".")[0] in _BARRIERS and not is_step(frame)


def _reachable(frames: list[FrameType]) -> list[FrameType]:
    """Return those frames of a step, the outermost first, in which it may be stopped."""
    for number, frame in enumerate(frames):
        if _is_barrier(frame):
            return frames[:number]
    return frames


class _Target:
    """A hold that wants code to stop, and where it is armed."""

    __slots__ = ("codes", "hold", "ident")

    def __init__(self, hold: Hold, ident: int) -> None:
        self.hold = hold
        self.ident = ident
        self.codes: set[CodeType] = set()


class Monitor:
    """What stops running code on Python 3.12 and later; there is one for the process, since its tool id is the process's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tool: int | None = None
        self._targets: dict[int, list[_Target]] = {}  # {ident of a thread: whom its code is to stop for}
        self._armed: dict[CodeType, int] = {}  # {code: how many targets have it armed}

    @property
    def armed(self) -> int:
        """How many code objects are armed just now."""
        return len(self._armed)

    def arm(self, hold: Hold) -> bool:
        """Have the code that a token runs just now stop at its next event; called again, also that which it runs by then.

        Returns:
            whether there is any code of it to stop: it runs on a thread, outside of what may hold locks.
        """
        found = find_step(hold.token)
        if found is None:
            return False
        ident, frames = found
        return self._arm(hold, ident, [frame.f_code for frame in _reachable(frames)])

    def arm_call(self, hold: Hold, code: CodeType) -> bool:
        """Have code stop that the calling thread is about to run, or runs, for a token."""
        return self._arm(hold, threading.get_ident(), [code])

    def disarm(self, hold: Hold) -> None:
        """Let the code of a token run as if nothing had been asked."""
        with self._lock:
            for ident, targets in list(self._targets.items()):
                for target in [one for one in targets if one.hold is hold]:
                    targets.remove(target)
                    self._release(target)
                if not targets:
                    del self._targets[ident]

    def _arm(self, hold: Hold, ident: int, codes: list[CodeType]) -> bool:
        if not codes:
            return False
        with self._lock:
            if not self._take_tool():
                return False
            targets = self._targets.setdefault(ident, [])
            target = next((one for one in targets if one.hold is hold), None)
            if target is None:
                target = _Target(hold, ident)
                targets.append(target)
            for code in set(codes) - target.codes:
                target.codes.add(code)
                count = self._armed.get(code, 0)
                self._armed[code] = count + 1
                if not count:
                    sys.monitoring.set_local_events(self._tool, code, self._events)  # type: ignore[arg-type]
        return True

    def _release(self, target: _Target) -> None:
        """Take back what a target has armed; under the lock."""
        for code in target.codes:
            self._armed[code] -= 1
            if not self._armed[code]:
                del self._armed[code]
                sys.monitoring.set_local_events(self._tool, code, 0)  # type: ignore[arg-type]
        target.codes.clear()

    def _take_tool(self) -> bool:
        """Take a tool id, first of those that no tool has by convention; under the lock."""
        if self._tool is not None:
            return True
        monitoring = sys.monitoring
        for tool in (4, 3, 2, 5, 1, 0):
            try:
                monitoring.use_tool_id(tool, "tokengate")
            except ValueError:
                continue
            self._tool = tool
            events = monitoring.events
            self._events = events.LINE | events.JUMP | events.PY_RETURN
            monitoring.register_callback(tool, events.LINE, self._on_line)
            monitoring.register_callback(tool, events.JUMP, self._on_jump)
            monitoring.register_callback(tool, events.PY_RETURN, self._on_return)
            return True
        return False

    # Called by the interpreter, in whichever thread runs code that is armed

    def _on_line(self, _code: CodeType, _line: int) -> None:
        targets = self._targets.get(threading.get_ident())
        if targets:
            self._stop(targets, sys._getframe(1), counted=True)

    def _on_jump(self, code: CodeType, source: int, target: int) -> None:
        targets = self._targets.get(threading.get_ident())
        if targets:
            # A jump to another line is followed by that line's own event; one within a line begins it again.
            self._stop(targets, sys._getframe(1), counted=_line_of(code, source) == _line_of(code, target))

    def _on_return(self, _code: CodeType, _offset: int, _value: object) -> None:
        targets = self._targets.get(threading.get_ident())
        if targets:
            self._stop(targets, sys._getframe(1), counted=False)

    def _stop(self, targets: list[_Target], frame: FrameType, *, counted: bool) -> None:
        for target in tuple(targets):
            hold = target.hold
            frames = step_frames(hold.token, frame)
            if frames is None or len(_reachable(frames)) < len(frames):
                continue
            if hold.interrupt_wanted:
                hold.interrupt_wanted = False
                self.disarm(hold)
                raise TokenInterrupt(hold.token._cancel_requested)
            if trio.lowlevel.in_trio_run():
                continue
            token = hold.token
            if not counted and hold.stepping:
                continue
            if hold.may_step(counted=counted):
                if hold.stepping:
                    token.steps += 1
                elif not hold.word:
                    self.disarm(hold)  # nobody wants anything any more
                continue
            self.disarm(hold)
            hold.wait_in_thread()
            if hold.ending:
                hold.interrupt_wanted = False
                raise TokenInterrupt(token._cancel_requested)
            if hold.word:
                token.steps += 1
                self._arm(hold, threading.get_ident(), [one.f_code for one in frames])


def _line_of(code: CodeType, offset: int) -> int | None:
    return next((line for start, end, line in code.co_lines() if start <= offset < end), None)


monitor: Final = Monitor() if sys.version_info >= (3, 12) else None
"""What stops running code, where Python has the means."""


# Python 3.11: asynchronous exceptions

# Held while one is sent and while one is withdrawn: a thread that has left its step has none to come.
_sending = threading.Lock()


def send_interrupt(hold: Hold) -> bool:
    """Raise `TokenInterrupt` in the thread that runs a token's step; tell whether there is one.

    The hold is there before the look at the thread's frames. So a step that is seen to run sees, at its end, that there is a
    hold, waits for the lock, and withdraws what has not come yet.
    """
    with _sending:
        found = find_step(hold.token)
        if found is None or len(_reachable(found[1])) < len(found[1]):
            return False
        hold.interrupt_wanted = False
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(found[0]), ctypes.py_object(TokenInterrupt))
        return True


def withdraw_interrupt() -> None:
    """Have nothing raised in the calling thread any more that was meant for the step that it has just left."""
    while True:
        try:
            with _sending:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(threading.get_ident()), None)
            return
        except TokenInterrupt:  # it has come after all
            pass


def interrupt(hold: Hold) -> bool:
    """Have `TokenInterrupt` raised in the code that a token runs just now; tell whether that is on its way."""
    if monitor is not None:
        return monitor.arm(hold)
    return send_interrupt(hold)
