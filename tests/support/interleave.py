"""Seeded schedules for races: exactly one thread runs at a time, and a generator draws where they switch.

A `Stage` runs functions in threads of their own and passes one baton around between them. At each point where the
thread with the baton could lose the GIL, a seeded generator decides whether to pass it on. So a schedule is drawn, not
awaited: it is as wild as a test wants, and the same seed gives the same schedule.

A thread that waits for a lock passes the baton on, too. The locks of the code under test are replaced for that: a lock
that it makes inside the `with` block, or that is stored in one of its modules, is a `StageLock`. A wait with a timeout
runs out only when no other thread can go on. When no thread can go on, a `Deadlock` is raised at once.
"""

from __future__ import annotations

import _thread
import dis
import os
import random
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from types import FrameType, ModuleType, TracebackType
from typing import Any, Literal, Self, TypeAlias

import attrs

from actors.concurrency._thread_frames import frames_from, thread_frames

Grain: TypeAlias = Literal["line", "call"]

# Seconds until a thread that neither ends nor passes the baton on is reported; reached only when a test fails.
_LIMIT = 30.0

# Maximum number of points in one run; a run with more is an endless loop of threads that wait for each other.
_MOST_POINTS = 200_000

# Probabilities of a switch at one point: for long stretches, for short ones, and for a switch nearly every time.
_RESTLESS = (0.03, 0.15, 0.5)

# After these instructions CPython 3.11 to 3.13 checks whether another thread wants the GIL, or waits without it.
_YIELDING = {
    code
    for name, code in dis.opmap.items()
    if name.startswith(("CALL", "INSTRUMENTED_CALL")) or name in {"RESUME", "JUMP_BACKWARD", "BEFORE_WITH"}
}


class Deadlock(AssertionError):
    """No thread on the stage can go on: a wake-up was lost, or locks are taken in different orders."""


class _GiveUp(BaseException):
    """Ends a thread after its run is over."""


@attrs.define(eq=False)
class _Player:
    number: int
    function: Callable[[], Any]
    servant: bool
    baton: Any = attrs.field(factory=_thread.allocate_lock)  # None while it is passed on
    ident: int = 0
    waits_for: StageLock | None = None
    timed: bool = False
    timed_out: bool = False
    done: bool = False
    result: Any = None
    error: BaseException | None = None


class StageLock:
    """Replaces `threading.Lock`: a thread that has to wait for it passes the baton on."""

    __slots__ = ("_stage", "held")

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.held = False

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        while self.held:
            if not blocking or timeout == 0:
                return False
            if not self._stage._wait_for(self, timed=timeout > 0):
                return False
        self.held = True
        return True

    def release(self) -> None:
        if not self.held:
            raise RuntimeError("release unlocked lock")
        self.held = False

    def locked(self) -> bool:
        return self.held

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_exc: object) -> None:
        self.release()


class StageRLock(StageLock):
    """Replaces `threading.RLock`."""

    __slots__ = ("_depth", "_owner")

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._owner = self._depth = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if not self._is_owned() and not super().acquire(blocking, timeout):
            return False
        self._owner = threading.get_ident()
        self._depth += 1
        return True

    def release(self) -> None:
        if not self._is_owned():
            raise RuntimeError("cannot release un-acquired lock")
        self._depth -= 1
        if not self._depth:
            self._owner = 0
            super().release()

    def _is_owned(self) -> bool:
        return self.held and self._owner == threading.get_ident()


class _Threading(ModuleType):
    """`threading` with replaced locks."""

    def __init__(self, lock: Callable[[], StageLock], reentrant_lock: Callable[[], StageRLock]) -> None:
        super().__init__("threading")
        self.Lock = lock
        self.RLock = reentrant_lock

    def __getattr__(self, name: str) -> Any:
        return getattr(threading, name)


class Stage:
    """Runs code of packages in threads that take turns; use it with `with`.

    Args:
        package: an imported package, or module, or several: their files are where switches are drawn, and their locks
            are replaced until the end of the block. Make the objects under test within the block.
        chance: draws the schedules.
        grain: where switches are drawn. `line`: before each line. `call`: where CPython can take the GIL away from
            a thread, which is behind each call, and in each loop, also in the middle of a line. From 3.12 on,
            a function's first call in a process has fewer such places.
    """

    def __init__(self, package: str | tuple[str, ...], chance: random.Random, grain: Grain = "line") -> None:
        self._packages = (package,) if isinstance(package, str) else package
        self._home = tuple(map(_home_of, self._packages))
        self._chance = chance
        self._trace_code = self._trace_calls if grain == "call" else self._trace_lines
        self._opcodes: dict[Any, bytes] = {}  # {code: its bytecode}
        self._replaced: list[tuple[ModuleType, str, Any]] = []
        self._players: list[_Player] = []
        self._reset(())

    def _reset(self, players: Sequence[_Player]) -> None:
        self._players = list(players)
        self._by_ident: dict[int, _Player] = {}
        self._all_done = _thread.allocate_lock()
        self._all_done.acquire()
        self._over = False  # only servants are left, or the run is broken: all shall end
        self._broken = ""
        self._points = 0
        self._restless = self._chance.choice(_RESTLESS)
        self._trail: deque[str] = deque(maxlen=60)  # the latest switches: thread and position

    def lock(self) -> StageLock:
        """Make a lock for the test's own use."""
        return StageLock(self)

    def __enter__(self) -> Self:
        for name, module in list(sys.modules.items()):
            if any(name == package or name.startswith(package + ".") for package in self._packages):
                for attribute, value in list(vars(module).items()):
                    if value is threading:
                        self._replace(module, attribute, _Threading(self.lock, lambda: StageRLock(self)))
                    elif value is threading.Lock or value is _thread.allocate_lock:
                        self._replace(module, attribute, self.lock)
                    elif isinstance(value, _thread.LockType):
                        self._replace(module, attribute, self.lock())
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._replaced:
            module, attribute, value = self._replaced.pop()
            setattr(module, attribute, value)

    def _replace(self, module: ModuleType, attribute: str, value: Any) -> None:
        self._replaced.append((module, attribute, getattr(module, attribute)))
        setattr(module, attribute, value)

    def run(self, *functions: Callable[[], Any], servants: Sequence[Callable[[], Any]] = ()) -> list[Any]:
        """Run the functions under one drawn schedule.

        Args:
            functions: each runs in a thread.
            servants: each runs in a thread, too, as long as there is work, and is ended where it waits.

        Returns:
            what the functions returned, in order.

        Raises:
            Deadlock: no thread could go on; it says where each one waits.
            BaseException: the first that a function raised, with the latest switches as a note.
        """
        made = [(function, False) for function in functions] + [(function, True) for function in servants]
        self._reset([_Player(number, function, servant) for number, (function, servant) in enumerate(made)])
        for player in self._players:
            player.baton.acquire()
        threads = [threading.Thread(target=self._play, args=(p,), daemon=True) for p in self._players]
        for thread in threads:
            thread.start()
        self._chance.choice(self._players).baton.release()
        if not self._all_done.acquire(timeout=_LIMIT):
            where = "\n".join(self._where(player) for player in self._players)
            raise RuntimeError(f"a thread waits for something that is no lock of {self._packages}:\n{where}")
        for thread in threads:
            thread.join()
        self._by_ident.clear()  # the system may give the same idents to other threads
        if self._broken:
            raise self._with_trail(Deadlock(self._broken))
        for player in self._players:
            if player.error is not None:
                raise self._with_trail(player.error)
        return [player.result for player in self._players if not player.servant]

    # On the threads of the players; only the one with the baton runs this

    def _play(self, player: _Player) -> None:
        player.baton.acquire()
        player.ident = threading.get_ident()
        self._by_ident[player.ident] = player
        sys.settrace(self._trace)
        try:
            if not self._over:
                player.result = player.function()
        except _GiveUp:
            pass
        except BaseException as error:
            player.error = error
        finally:
            sys.settrace(None)
        player.done = True
        following = self._next()
        if following is None:
            self._all_done.release()
        else:
            following.baton.release()

    def _trace(self, frame: FrameType, _event: str, _arg: object) -> Any:
        return self._trace_code(frame) if frame.f_code.co_filename.startswith(self._home) else None

    def _trace_lines(self, _frame: FrameType) -> Any:
        def trace(frame: FrameType, event: str, _arg: object) -> Any:
            if event == "line":
                self._point(frame)
            return trace

        return trace

    def _trace_calls(self, frame: FrameType) -> Any:
        frame.f_trace_opcodes = True
        code = self._opcodes.setdefault(frame.f_code, frame.f_code.co_code)
        latest = -1

        def trace(frame: FrameType, event: str, _arg: object) -> Any:
            nonlocal latest
            if event == "opcode":
                if latest in _YIELDING:
                    self._point(frame)
                latest = code[frame.f_lasti]
            return trace

        return trace

    def _point(self, frame: FrameType) -> None:
        """Mark a point where another thread may go on instead."""
        self._points += 1
        if self._points > _MOST_POINTS:
            self._break("the threads do not come to an end")
        if self._over:
            raise _GiveUp
        if self._chance.random() < self._restless:
            me = self._by_ident[threading.get_ident()]
            following = self._next()
            if following is not None and following is not me:
                where = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
                self._trail.append(f"{me.number} stays at {where}, {following.number} goes on")
                self._hand_over(me, following)

    def _wait_for(self, lock: StageLock, *, timed: bool) -> bool:
        """Let other threads go on until the lock is free (True) or the time is over (False)."""
        me = self._by_ident.get(threading.get_ident())
        if me is None:
            raise RuntimeError("outside of a run no thread can release this lock")
        me.waits_for, me.timed, me.timed_out = lock, timed, False
        following = self._next()
        if following is not None and following is not me:
            self._trail.append(f"{me.number} waits, {following.number} goes on")
            self._hand_over(me, following)
        me.waits_for = None
        if self._over:
            raise _GiveUp
        return not me.timed_out

    def _hand_over(self, me: _Player, following: _Player) -> None:
        following.baton.release()
        me.baton.acquire()
        if self._over:
            me.waits_for = None
            raise _GiveUp

    def _next(self) -> _Player | None:
        """Draw the next thread; None when all have ended."""
        left = [player for player in self._players if not player.done]
        if not left:
            return None
        if not self._over:
            ready = [player for player in left if player.waits_for is None or not player.waits_for.held]
            if ready:
                return self._chance.choice(ready)
            if all(player.servant for player in left):
                self._over = True
            elif timed := [player for player in left if player.timed]:
                late = self._chance.choice(timed)
                late.timed_out = True
                return late
            else:
                self._break("no thread can go on:\n" + "\n".join(self._where(player) for player in left))
        return left[0]

    def _break(self, why: str) -> None:
        self._broken = self._broken or why
        self._over = True

    def _where(self, player: _Player) -> str:
        here = player.ident == threading.get_ident()
        frames = frames_from(sys._getframe() if here else thread_frames().get(player.ident))
        frame = next((each for each in frames if each.f_code.co_filename.startswith(self._home)), None)
        if player.done or frame is None:
            return f"  thread {player.number}: {'has ended' if player.done else 'in code of the test'}"
        name = os.path.basename(frame.f_code.co_filename)
        return f"  thread {player.number}: {name}:{frame.f_lineno} in {frame.f_code.co_qualname}"

    def _with_trail(self, error: BaseException) -> BaseException:
        error.add_note("the latest switches:\n  " + "\n  ".join(self._trail))
        return error


def _home_of(package: str) -> str:
    """Return with what the names of the files of a package or module begin."""
    path = str(sys.modules[package].__file__)
    return os.path.dirname(path) + os.sep if os.path.basename(path) == "__init__.py" else path


def run_all(runnable: deque[Any]) -> None:
    """Be a thread of a dispatcher, which has submitted these, until nothing is runnable; others may be beside it."""
    while runnable:
        try:
            slot = runnable.popleft()
        except IndexError:
            continue
        if slot.run(threading.current_thread()):
            runnable.append(slot)
