"""Pauses and steps tokens in child processes: the process of a token that is held is stopped (SIGSTOP)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from actors._child import _shared_page

if TYPE_CHECKING:
    from actors.processes.workers._deadlines import Deadline
    from actors.processes.workers._worker import Worker
    from actors.tokens._hold import Hold
    from actors.tokens._token import Token

_PAUSE: Final = "it is paused"  # why the turn of a token is lent

_SELF_STOP_SECONDS: Final = 0.001  # between two looks at a process that is about to stop itself


class HoldHost(Protocol):
    """The process host, for calls on its thread."""

    def call_soon(self, fn: Callable[[], object], /) -> None: ...

    def call_later(self, seconds: float, fn: Callable[[], object], /) -> Deadline: ...


class HoldDrain(Protocol):
    """The drain that runs the tokens."""

    @property
    def host(self) -> HoldHost: ...

    def find(self, token: Token[Any], /) -> tuple[Worker, int] | None: ...

    def steps_of(self, token: Token[Any], /) -> int: ...

    def note_begun(self, token: Token[Any], worker: Worker, /) -> None: ...

    def lend_turn(self, worker: Worker, why: object, /, *, paused: bool = False) -> None: ...

    def take_turn_back(self, worker: Worker, why: object, /) -> None: ...

    def take_back(self, not_started: list[Any], /) -> None: ...

    def go_on(self, worker: Worker, /) -> None: ...


class ProcessHolds:
    """Carries out the holds of tokens that child processes run; on any thread.

    Args:
        drain: the drain of these tokens.
    """

    def __init__(self, drain: HoldDrain) -> None:
        self._drain = drain

    def changed(self, token: Token[Any]) -> None:
        """Stop the process of a token, let it take steps, or let it run, as the token's hold is now."""
        hold, found = token._extras.hold, self._drain.find(token)
        if hold is None or found is None:
            return
        worker, number = found
        not_started: list[Any] = []
        with worker.lock:
            if worker.inflight.get(number) is not token:
                pass  # it was taken back meanwhile, and the child may never have seen its number
            elif not hold.word:
                self._resume(worker, number)
            elif hold.stepping:
                not_started = self._step(hold, worker, number)
            elif not worker.stopped:
                not_started = self._pause(hold, worker, number)
        if not_started:
            self._drain.take_back(not_started)
            self._drain.host.call_soon(lambda: self._drain.go_on(worker))

    def _released(self, hold: Hold, number: int) -> None:
        """Let the process of a token run, when the token is held no longer."""
        found = self._drain.find(hold.token)
        if found is None:
            return
        worker, _ = found
        with worker.lock:
            ours = worker.inflight.get(number) is hold.token
            if ours and not hold.word and not hold.token._done:  # if it was ended, its process is killed
                self._resume(worker, number)

    # All of these run under the worker's lock. What returns tokens has removed them from the worker's calls.

    def _pause(self, hold: Hold, worker: Worker, number: int) -> list[Any]:
        """Stop the process, if it is running the token; return the tokens that it has not started."""
        worker.stack_quickly()
        worker.halt()
        not_started = worker.revoke()  # these are not to wait for the one that is held
        if not worker.is_at(number) or worker.has_ended(number) or worker.dead or hold.token.done():
            worker.go_on()
        else:
            self._drain.note_begun(hold.token, worker)
            self._note_stopped(hold, worker, number)
        return not_started

    def _note_stopped(self, hold: Hold, worker: Worker, number: int) -> None:
        """Note that the process of a token is stopped."""
        worker.stopped = True
        hold.token.steps = self._drain.steps_of(hold.token)
        self._drain.lend_turn(worker, _PAUSE, paused=True)
        hold.note_step()
        hold.released.add_done_callback(lambda _: self._drain.host.call_soon(lambda: self._released(hold, number)))

    def _resume(self, worker: Worker, number: int) -> None:
        """Let the process run."""
        if worker.page.word[_shared_page.STOP_CALL] == number:
            worker.page.word[_shared_page.STOP_CALL] = 0
            self._ensure_running(worker, number)
        if worker.stopped:
            self._continue(worker)

    def _continue(self, worker: Worker) -> None:
        worker.stopped = False
        self._drain.take_turn_back(worker, _PAUSE)
        worker.go_on()

    def _step(self, hold: Hold, worker: Worker, number: int) -> list[Any]:
        """Let a token take steps; or, if it has taken them, note that, and return the tokens not started."""
        word = worker.page.word
        steps = hold.take_steps()
        if steps:
            between = word[_shared_page.STOPPED] == number
            word[_shared_page.STOP_AT] = word[_shared_page.STEPS] + steps - (not between)
            word[_shared_page.STOP_CALL] = number
            if worker.stopped:
                self._continue(worker)
            else:
                self._ensure_running(worker, number)
        elif (
            word[_shared_page.STOPPED] == number
            and word[_shared_page.STEPS] >= word[_shared_page.STOP_AT]
            and worker.is_halted()
        ):
            worker.stack_after_stop()
            self._note_stopped(hold, worker, number)
            return worker.revoke()
        return []

    def _ensure_running(self, worker: Worker, number: int) -> None:
        """Let a process run on that may be about to stop itself, as it was to until just now.

        The process is stopped here for a moment. By then it has either written to STOPPED that it is about to stop
        itself, and `look` sees that; or it will look at the page again before it does, and not stop.
        """
        if worker.stopped:
            return
        worker.halt()
        worker.go_on()

        def look() -> None:
            with worker.lock:
                word = worker.page.word
                held = word[_shared_page.STOP_CALL] == number and word[_shared_page.STEPS] >= word[_shared_page.STOP_AT]
                if word[_shared_page.STOPPED] != number or held or worker.stopped or worker.dead:
                    return
                if worker.is_halted():
                    worker.go_on()
            self._drain.host.call_later(_SELF_STOP_SECONDS, look)

        self._drain.host.call_soon(look)
